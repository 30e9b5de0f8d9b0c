"""Point metrics, from counts and from scores, for one weighting of the images or for thousands at once."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RATES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv", "f1", "mcc")
# Scores are float32: a score nearer to 0 or 1 than this cannot be told from it.
SMALLEST = float(np.finfo(np.float32).eps)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Images by truth and decision: found, missed, false alarms, cleared."""

    tp: int
    fn: int
    fp: int
    tn: int


def outcomes(labels: NDArray[np.uint8], scores: Floats, threshold: float) -> NDArray[np.bool_]:
    """Which cell of the confusion matrix each image falls into.

    Args:
        labels: shape (n,), 1 = positive.
        scores: shape (n,).
        threshold: positive if and only if score >= threshold.

    Returns:
        Shape (n, 4): one-hot over tp, fn, fp, tn.
    """
    flagged, positive = scores >= threshold, labels == 1
    return np.stack([positive & flagged, positive & ~flagged, ~positive & flagged, ~positive & ~flagged], axis=1)


def counts_at(labels: NDArray[np.uint8], scores: Floats, threshold: float) -> Counts:
    """Confusion counts at a threshold (positive if and only if score >= threshold)."""
    return Counts(*(int(count) for count in outcomes(labels, scores, threshold).sum(axis=0)))


def rates(tp: ArrayLike, fn: ArrayLike, fp: ArrayLike, tn: ArrayLike) -> dict[str, Floats]:
    """Metrics of confusion counts, elementwise.

    Args:
        tp, fn, fp, tn: counts or sums of weights, of shapes that broadcast.

    Returns:
        One array for each name in ``RATES``; NaN where a metric is not defined (no positive for sensitivity, nothing
        flagged for PPV, a class missing for balanced accuracy and MCC). MCC is 0 where both classes are there and all
        images get the same decision, as in scikit-learn.
    """
    tp, fn, fp, tn = np.broadcast_arrays(*(np.asarray(count, dtype=np.float64) for count in (tp, fn, fp, tn)))
    positives, negatives, flagged, cleared = tp + fn, fp + tn, tp + fp, fn + tn
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, specificity = tp / positives, tn / negatives
        scale = np.sqrt(positives * negatives * flagged * cleared)
        mcc = np.where((flagged == 0) | (cleared == 0), 0.0, (tp * tn - fp * fn) / scale)
        return {
            "accuracy": (tp + tn) / (positives + negatives),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "sensitivity": sensitivity,
            "specificity": specificity,
            "ppv": tp / flagged,
            "npv": tn / cleared,
            "f1": np.where(positives > 0, 2 * tp / (2 * tp + fp + fn), np.nan),
            "mcc": np.where((positives == 0) | (negatives == 0), np.nan, mcc),
        }


def rates_of(counts: Counts) -> dict[str, float]:
    """The metrics of one confusion matrix; NaN where one is not defined."""
    return {name: float(value) for name, value in rates(*astuple(counts)).items()}


def squared_errors(labels: NDArray[np.uint8], scores: Floats) -> Floats:
    """``(p - y)^2`` of each image, shape (n,); their mean is the Brier score (0 to 1, 0 is best)."""
    return np.square(scores - labels)


def log_losses(labels: NDArray[np.uint8], scores: Floats) -> Floats:
    """``-log p(true class)`` in nats of each image, shape (n,), with p kept off 0 by the precision of float32."""
    clipped = np.clip(scores, SMALLEST, 1.0 - SMALLEST)
    return -np.log(np.where(labels == 1, clipped, 1.0 - clipped))


class Ranking:
    """AUROC and average precision from one sort, for any number of weightings.

    Equal scores are handled as scikit-learn does: a tied pair counts one half in AUROC, tied images enter the
    precision-recall curve together.

    Args:
        labels: shape (n,), 1 = positive.
        scores: shape (n,), finite.
        units: shape (n,), which weight each image carries (its group); by default each image has its own.
    """

    def __init__(self, labels: NDArray[np.uint8], scores: Floats, units: NDArray[np.int64] | None = None) -> None:
        if len(scores) and not np.isfinite(scores).all():
            raise ValueError("scores hold NaN or infinity; they cannot be ranked.")
        units = np.arange(len(labels)) if units is None else units
        order = np.argsort(-scores, kind="stable")
        positives, negatives = order[labels[order] == 1], order[labels[order] != 1]
        found, alarms = -scores[positives], -scores[negatives]
        self._found_units, self._alarm_units = units[positives], units[negatives]
        # How many negatives rank above each positive, how many at least level, and how many positives at least level.
        self._above = np.searchsorted(alarms, found, side="left")
        self._level = np.searchsorted(alarms, found, side="right")
        self._reached = np.searchsorted(found, found, side="right")
        self._ties = not np.array_equal(self._above, self._level)
        self._own_ties = not np.array_equal(self._reached, np.arange(1, len(found) + 1))

    def evaluate(self, weights: NDArray[np.floating]) -> tuple[Floats, Floats]:
        """AUROC and average precision under each weighting.

        Args:
            weights: shape (b, number of units), not negative. Whole numbers in float32 are summed exactly as long as
                the weights of all images add up to less than 2^24.

        Returns:
            ``(auroc, average precision)``, each of shape (b,); NaN where a class has no weight.
        """
        found = np.take(weights, self._found_units, axis=1)
        alarms = _running(np.take(weights, self._alarm_units, axis=1))
        level = np.take(alarms, self._level, axis=1)
        total_found = found.sum(axis=1, dtype=np.float64)
        total_alarms = alarms[:, -1].astype(np.float64)
        ahead = _weighted(found, level)
        if self._ties:
            ahead = (ahead + _weighted(found, np.take(alarms, self._above, axis=1))) / 2
        running = _running(found)
        reached = np.take(running, self._reached, axis=1) if self._own_ties else running[:, 1:]
        level += reached
        # Where nothing has weight yet there is nothing to divide, and the share of the positive is zero anyway.
        np.maximum(level, np.finfo(level.dtype).tiny, out=level)
        precision = np.divide(reached, level, out=level)
        with np.errstate(divide="ignore", invalid="ignore"):
            auroc = 1.0 - ahead / (total_found * total_alarms)
            average_precision = _weighted(found, precision) / total_found
        absent = (total_found == 0) | (total_alarms == 0)
        auroc[absent] = average_precision[absent] = np.nan
        return auroc, average_precision


def auroc(labels: NDArray[np.uint8], scores: Floats, weights: Floats | None = None) -> float:
    """Probability that a positive outranks a negative (ties one half); NaN unless both classes are there."""
    return float(Ranking(labels, scores).evaluate(_one_weighting(labels, weights))[0][0])


def average_precision(labels: NDArray[np.uint8], scores: Floats, weights: Floats | None = None) -> float:
    """Mean precision over the recall steps, without interpolation; NaN unless both classes are there."""
    return float(Ranking(labels, scores).evaluate(_one_weighting(labels, weights))[1][0])


def _one_weighting(labels: NDArray[np.uint8], weights: Floats | None) -> Floats:
    return np.ones((1, len(labels))) if weights is None else np.asarray(weights, dtype=np.float64)[None, :]


def _running(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Cumulative sums along the rows with a leading zero: shape (b, n) -> (b, n + 1)."""
    sums = np.zeros((values.shape[0], values.shape[1] + 1), dtype=values.dtype)
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _weighted(weights: NDArray[np.floating], values: NDArray[np.floating]) -> Floats:
    """Sum of products along the rows, added up in double precision."""
    products: Floats = (weights * values).sum(axis=1, dtype=np.float64)
    return products

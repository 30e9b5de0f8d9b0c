"""Point metrics, from counts and from scores; those of many weightings at once are in ``ranking`` and ``bootstrap``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.ranking import Ranking

RATES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv", "f1", "f_beta", "mcc")
BETA = 2.0  # F-beta counts recall as beta times as important as precision
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


def rates(tp: ArrayLike, fn: ArrayLike, fp: ArrayLike, tn: ArrayLike, beta: float = BETA) -> dict[str, Floats]:
    """Metrics of confusion counts, elementwise.

    Args:
        tp, fn, fp, tn: counts or sums of weights, of shapes that broadcast.
        beta: above 0, of ``f_beta = (1 + beta^2) tp / ((1 + beta^2) tp + beta^2 fn + fp)``.

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
            "f_beta": np.where(positives > 0, (1 + beta**2) * tp / ((1 + beta**2) * tp + beta**2 * fn + fp), np.nan),
            "mcc": np.where((positives == 0) | (negatives == 0), np.nan, mcc),
        }


def rates_of(counts: Counts, beta: float = BETA) -> dict[str, float]:
    """The metrics of one confusion matrix; NaN where one is not defined."""
    return {name: float(value) for name, value in rates(counts.tp, counts.fn, counts.fp, counts.tn, beta).items()}


def ppv_at(sensitivity: ArrayLike, specificity: ArrayLike, prevalence: float) -> Floats:
    """Share of the flagged that are positive, where a share ``prevalence`` in (0, 1) is; NaN where nothing is flagged."""
    return _among(np.multiply(sensitivity, prevalence), np.multiply(np.subtract(1.0, specificity), 1.0 - prevalence))


def npv_at(sensitivity: ArrayLike, specificity: ArrayLike, prevalence: float) -> Floats:
    """Share of the cleared that are negative, where a share ``prevalence`` is positive; NaN where nothing is cleared."""
    return _among(np.multiply(specificity, 1.0 - prevalence), np.multiply(np.subtract(1.0, sensitivity), prevalence))


def _among(right: Floats, wrong: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        share: Floats = np.asarray(right / (right + wrong))
    return share


def squared_errors(labels: NDArray[np.uint8], scores: Floats) -> Floats:
    """``(p - y)^2`` of each image, shape (n,); their mean is the Brier score (0 to 1, 0 is best)."""
    return np.square(scores - labels)


def log_losses(labels: NDArray[np.uint8], scores: Floats) -> Floats:
    """``-log p(true class)`` in nats of each image, shape (n,), with p kept off 0 by the precision of float32."""
    clipped = np.clip(scores, SMALLEST, 1.0 - SMALLEST)
    return -np.log(np.where(labels == 1, clipped, 1.0 - clipped))


def auroc(labels: NDArray[np.uint8], scores: Floats, weights: Floats | None = None) -> float:
    """Probability that a positive outranks a negative (ties one half); NaN unless both classes are there."""
    return float(Ranking(labels, scores).evaluate(_one_weighting(labels, weights))[0][0])


def average_precision(labels: NDArray[np.uint8], scores: Floats, weights: Floats | None = None) -> float:
    """Mean precision over the recall steps, without interpolation; NaN unless both classes are there."""
    return float(Ranking(labels, scores).evaluate(_one_weighting(labels, weights))[1][0])


def _one_weighting(labels: NDArray[np.uint8], weights: Floats | None) -> Floats:
    return np.ones((1, len(labels))) if weights is None else np.asarray(weights, dtype=np.float64)[None, :]

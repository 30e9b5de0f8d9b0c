"""Everything that only depends on the order of the scores: from one sort, for any number of weightings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# The partial AUC counts sensitivity above this only (ISIC 2024), and so lies between 0 and 1 - FLOOR.
FLOOR: Final = 0.8
# Where one rate is stated at a fixed value of the other.
FIXED: Final = (0.9, 0.95)
RANKS: Final = ("auroc", "average_precision")
# 1 - 0.9 is a little less than a tenth: a share of whole numbers that is met exactly must not be missed by that.
_SLACK: Final = 1e-9
# Images times weightings that are swept at once: arrays that stay in the processor's cache are twice as fast.
_IN_CACHE: Final = 2**19

Floats = NDArray[np.float64]
# Sums of whole numbers stay whole: exact, and added up several times faster than floating point.
Weights = NDArray[np.number]


def fixed_name(figure: str, at: float) -> str:
    """What a resample calls the sensitivity at a fixed specificity, or the reverse: ``sensitivity_at_specificity/0.9``."""
    return f"{figure}/{at:g}"


FIXED_RATES: Final = ("sensitivity_at_specificity", "specificity_at_sensitivity")
# The rates among them are read off the very set they describe: no threshold fixed beforehand is sure to reach them.
FULL: Final = ("partial_auc", *(fixed_name(figure, at) for at in FIXED for figure in FIXED_RATES))


@dataclass(frozen=True)
class _Sweep:
    """Running weights down the ranks, one row a weighting.

    Attributes:
        found: weight of each positive, shape (b, P). ``reached``: of the first k positives, (b, P + 1).
        alarms: weight of the first k negatives, (b, N + 1).
        total_found, total_alarms: of all, shape (b,).
    """

    found: Weights
    reached: Weights
    alarms: Weights
    total_found: Floats
    total_alarms: Floats


class Ranking:
    """AUROC, average precision, partial AUC and rates at a fixed other rate, from one sort, for any number of weightings.

    Equal scores are handled as scikit-learn does: a tied pair counts one half in AUROC, tied images enter the
    precision-recall curve together, and the ROC curve is a straight line across them.

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
        # How many negatives rank above each positive, how many at least level; how many positives rank above it, how many
        # at least level; and how many positives rank above each negative, and above none.
        self._above = np.searchsorted(alarms, found, side="left")
        self._level = np.searchsorted(alarms, found, side="right")
        self._started = np.searchsorted(found, found, side="left")
        self._reached = np.searchsorted(found, found, side="right")
        self._outranking = np.append(np.searchsorted(found, alarms, side="left"), len(found))
        self._ties = not np.array_equal(self._above, self._level)
        self._own_ties = not np.array_equal(self._reached, np.arange(1, len(found) + 1))

    def evaluate(self, weights: Weights) -> tuple[Floats, Floats]:
        """AUROC and average precision under each weighting.

        Args:
            weights: shape (b, number of units), not negative. Whole numbers (int32) are added exactly as long as the
                weights of all images add up to less than 2^31; in float32, to less than 2^24.

        Returns:
            ``(auroc, average precision)``, each of shape (b,); NaN where a class has no weight.
        """
        found = self.figures(weights)
        return found["auroc"], found["average_precision"]

    def figures(self, weights: Weights, *, full: bool = False) -> dict[str, Floats]:
        """Figures by name under each weighting, each of shape (b,); NaN where a class has no weight.

        Args:
            weights: as in :meth:`evaluate`.
            full: beside ``auroc`` and ``average_precision`` also ``partial_auc`` (sensitivity above ``FLOOR``, 0 to
                1 - ``FLOOR``), and for each value of ``FIXED`` ``sensitivity_at_specificity/<value>`` and
                ``specificity_at_sensitivity/<value>``: the best that a threshold on this very weighting reaches.
        """
        rows = max(1, _IN_CACHE // max(1, len(self._found_units) + len(self._alarm_units)))
        if len(weights) > rows:
            parts = [self._figures(weights[start : start + rows], full) for start in range(0, len(weights), rows)]
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return self._figures(weights, full)

    def _figures(self, weights: Weights, full: bool) -> dict[str, Floats]:
        if not len(self._found_units) or not len(self._alarm_units) or not len(weights):
            names = (*RANKS, *FULL) if full else RANKS
            return {name: np.full(len(weights), np.nan) for name in names}
        sweep = self._sweep(weights)
        level = np.take(sweep.alarms, self._level, axis=1)
        absent = (sweep.total_found == 0) | (sweep.total_alarms == 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = {"auroc": self._auroc(sweep, level), "average_precision": self._average_precision(sweep, level)}
            if full:
                values["partial_auc"] = self._partial_auc(sweep, level)
                for at in FIXED:
                    values[fixed_name(FIXED_RATES[0], at)] = self._sensitivity_at(sweep, at)
                    values[fixed_name(FIXED_RATES[1], at)] = self._specificity_at(sweep, at)
        for value in values.values():
            value[absent] = np.nan
        return values

    def _sweep(self, weights: Weights) -> _Sweep:
        reached, alarms = _running(weights, self._found_units), _running(weights, self._alarm_units)
        found = np.take(weights, self._found_units, axis=1)
        return _Sweep(found, reached, alarms, reached[:, -1].astype(np.float64), alarms[:, -1].astype(np.float64))

    def _auroc(self, sweep: _Sweep, level: Weights) -> Floats:
        ahead = _weighted(sweep.found, level)
        if self._ties:
            ahead = (ahead + _weighted(sweep.found, np.take(sweep.alarms, self._above, axis=1))) / 2
        area: Floats = 1.0 - ahead / (sweep.total_found * sweep.total_alarms)
        return area

    def _average_precision(self, sweep: _Sweep, level: Weights) -> Floats:
        reached = np.take(sweep.reached, self._reached, axis=1) if self._own_ties else sweep.reached[:, 1:]
        flagged = level + reached
        # Where nothing has weight yet there is nothing to divide, and the share of the positive is zero anyway.
        flagged[flagged == 0] = 1
        precision: Floats = _weighted(sweep.found, reached / flagged) / sweep.total_found
        return precision

    def _partial_auc(self, sweep: _Sweep, level: Weights) -> Floats:
        """Area between the ROC curve and ``FLOOR``, added up along sensitivity: what each positive above it leaves clear."""
        cut = FLOOR * sweep.total_found
        crossing = np.minimum(_places(sweep.reached, cut, "right") - 1, len(self._found_units) - 1)
        first = int(crossing.min())
        beyond = np.clip(sweep.reached[:, first + 1 :] - cut[:, None], 0.0, sweep.found[:, first:])
        ahead = _weighted(beyond, level[:, first:])
        if self._ties:
            ahead = (ahead + _weighted(beyond, np.take(sweep.alarms, self._above[first:], axis=1))) / 2
            ahead += self._across_the_cut(sweep, cut, crossing)
        area = (sweep.total_found - cut) * sweep.total_alarms - ahead
        partial: Floats = area / (sweep.total_found * sweep.total_alarms)
        return partial

    def _across_the_cut(self, sweep: _Sweep, cut: Floats, crossing: NDArray[np.int64]) -> Floats:
        """What half of a tied run's negatives is off by, where the run lies across the cut: the line rises through it."""
        rows = np.arange(len(cut))
        low, high = (sweep.alarms[rows, places[crossing]] for places in (self._above, self._level))
        start, end = (sweep.reached[rows, places[crossing]] for places in (self._started, self._reached))
        middle = ((cut + end) / 2 - start) / (end - start)
        off: Floats = (end - cut) * (high - low) * (middle - 0.5)
        return np.where(end > start, off, 0.0)

    def _sensitivity_at(self, sweep: _Sweep, specificity: float) -> Floats:
        """Highest sensitivity of a threshold with at least this specificity."""
        allowed = (1.0 - specificity + _SLACK) * sweep.total_alarms
        positives = self._outranking[_places(sweep.alarms, allowed, "right") - 1]
        share: Floats = sweep.reached[np.arange(len(allowed)), positives] / sweep.total_found
        return share

    def _specificity_at(self, sweep: _Sweep, sensitivity: float) -> Floats:
        """Highest specificity of a threshold with at least this sensitivity."""
        needed = (sensitivity - _SLACK) * sweep.total_found
        last = np.clip(_places(sweep.reached, needed, "left") - 1, 0, len(self._level) - 1)
        share: Floats = 1.0 - sweep.alarms[np.arange(len(needed)), self._level[last]] / sweep.total_alarms
        return share


def _places(running: Weights, wanted: Floats, side: str) -> NDArray[np.int64]:
    """Where each row's value would go among its running weights."""
    found = [row.searchsorted(value, side) for row, value in zip(running, wanted, strict=True)]
    return np.array(found, dtype=np.int64)


def _running(weights: Weights, units: NDArray[np.int64]) -> Weights:
    """Cumulative weights of the images with these units, with a leading zero: shape (b, units) -> (b, n + 1).

    Row by row through one short array, which stays in the processor's cache.
    """
    sums: Weights = np.empty((len(weights), len(units) + 1), dtype=weights.dtype)
    row: Weights = np.empty(len(units), dtype=weights.dtype)
    sums[:, 0] = 0
    for number, weight in enumerate(weights):
        np.take(weight, units, out=row, mode="clip")  # every unit is there; any other mode copies
        np.cumsum(row, dtype=row.dtype, out=sums[number, 1:])
    return sums


def _weighted(weights: Weights, values: Weights) -> Floats:
    """Sum of products along the rows, added up in double precision."""
    products: Floats = np.einsum("bp,bp->b", weights, values, dtype=np.float64)
    return products

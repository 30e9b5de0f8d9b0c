"""Whether scores can be read as risks: slope, intercept, calibration errors and reliability of one split, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import Resampling, group_draws
from evaluation.calibration_bins import (
    Bins,
    brier_parts,
    calibration_error,
    class_wise_error,
    debiased_error,
    equal_mass,
    equal_width,
    error_by_chance,
    top_label_error,
)
from evaluation.calibration_words import sentence_of, unknown_of, worry_of
from evaluation.intervals import Interval, percentile_interval, share_interval, with_width
from evaluation.logistic import Cells
from evaluation.metrics import log_losses, squared_errors
from evaluation.predictions import Predictions
from evaluation.rate_intervals import groups_of
from evaluation.recalibration import Calibrator, fit_calibrator, logit

BINS: Final = 10
CENTRED: Final = "group bootstrap, centred"
_HISTOGRAM: Final = 20
_LINES: Final = ("intercept", "slope", "in_the_large")

Floats = NDArray[np.float64]


def calibration_of(
    split: Predictions, how: Resampling, *, calibrator: Calibrator | None = None, bins: int = BINS
) -> dict[str, Any]:
    """CAL: calibration of the score of the positive classes on one split, as plain values for JSON.

    Args:
        split: predictions.
        how: resamples of groups, confidence, seed.
        calibrator: fitted on validation; the scores are recalibrated by it first.
        bins: wanted number of bins.

    Returns:
        - ``n``, ``n_positive``, ``n_groups``, ``mean_score`` and ``rate`` (share of positives).
        - ``brier``, ``log_loss`` (nats), ``brier_skill`` (1 - Brier / Brier of the split's own rate; 1 is perfect, 0 is no
          better than the rate): intervals.
        - ``slope`` and ``intercept`` of ``logit P(y = 1) = intercept + slope * logit p`` (ideal 1 and 0), ``in_the_large``
          (the intercept with the slope fixed to 1; above 0: scores are too low): intervals, None where the classes are
          separable or one is absent.
        - ``ece``: expected calibration error, ``n_bins``, ``equal_mass`` (an interval), ``by_chance`` (``mean`` and
          ``high``, the 95 % quantile: what perfectly calibrated scores would show in these bins), ``equal_width``,
          ``debiased_l2`` (equal-mass bins), and for three or more classes, of all class probabilities in equal-mass bins,
          ``class_wise`` and ``top_label``, else None.
        - ``brier_parts``: see :func:`evaluation.calibration_bins.brier_parts`; equal-mass bins.
        - ``bins``: for each equal-mass bin ``low``, ``high``, ``n``, ``n_groups``, ``mean``, ``rate``, ``rate_low``,
          ``rate_high``. ``histogram``: ``positive`` and ``negative`` images in 20 bins of equal width.
    """
    return _calibrations(split, how, [calibrator], bins)[0]


def _calibrations(
    split: Predictions, how: Resampling, calibrators: Sequence[Calibrator | None], bins: int = BINS
) -> list[dict[str, Any]]:
    """:func:`calibration_of` for several calibrators, from one set of resamples."""
    measures = [_Measure(split, calibrator, bins) for calibrator in calibrators]
    blocks: list[list[dict[str, Floats]]] = [[] for _ in measures]
    for weights in group_draws(split.groups, split.labels, how.resamples, how.seed):
        held = weights.astype(np.float64)
        for measure, found in zip(measures, blocks, strict=True):
            found.append(measure.evaluate(held))
    rows = []
    for measure, found in zip(measures, blocks, strict=True):
        draws = {name: np.concatenate([block[name] for block in found]) for name in found[0]}
        rows.append(_summary(split, measure, draws, how.confidence, bins))
    return rows


def _summary(
    split: Predictions, measure: _Measure, draws: Mapping[str, Floats], confidence: float, bins: int
) -> dict[str, Any]:
    """The dictionary of :func:`calibration_of`."""
    labels, scores, mass = split.labels, measure.scores, measure.bins
    fewest = min(groups_of(split).values())

    def ends(name: str) -> dict[str, Any]:
        found = percentile_interval(measure.values[name], draws[name], confidence)
        return with_width(found, fewest).to_dict()

    mean, high = error_by_chance(scores, mass)
    several: dict[str, Any] = {"class_wise": None, "top_label": None}
    if len(split.classes) > 2:
        several = _several(split, measure.calibrator, bins)
    return {
        "n": len(split),
        "n_positive": int(labels.sum()),
        "n_groups": len(split.group_names),
        "mean_score": float(scores.mean()),
        "rate": float(labels.mean()),
        **{name: ends(name) for name in ("brier", "log_loss", "brier_skill", "slope", "intercept", "in_the_large")},
        "ece": {
            "n_bins": len(mass.n),
            "equal_mass": _centred(measure.values["ece"], draws["ece"], confidence, fewest),
            "by_chance": {"mean": mean, "high": high},
            "equal_width": calibration_error(equal_width(labels, scores, bins)),
            "debiased_l2": debiased_error(mass),
            **several,
        },
        "brier_parts": brier_parts(labels, scores, mass),
        "bins": _bin_rows(split.groups, mass, draws, confidence),
        "histogram": {
            name: np.bincount(_width_bins(scores[chosen]), minlength=_HISTOGRAM).tolist()
            for name, chosen in (("positive", labels == 1), ("negative", labels != 1))
        },
    }


def calibration_section(
    val: Predictions | None,
    test: Predictions,
    how: Resampling | Mapping[str, Resampling],
    *,
    calibrator: Calibrator | None = None,
) -> dict[str, Any]:
    """The ``calibration`` part of metrics.json.

    Args:
        val: predictions on validation; None where there are none.
        test: on test. ``how``: of the resamples, one for all or by split (``val``, ``test``).
        calibrator: fitted before; by default it is fitted on ``val``, and without ``val`` there is none.

    Returns:
        ``calibrator`` (fields of :class:`evaluation.recalibration.Calibrator`, or None), ``splits``: for ``test`` and,
        where given, ``val`` the CAL ``raw`` and ``recalibrated`` (None where the method is ``none``), ``sentence``,
        ``worry`` (None or level, title, text), and ``unknown`` (None, or why test cannot tell whether scores are risks).
    """
    if calibrator is None and val is not None:
        calibrator = fit_calibrator(val)
    acting = calibrator if calibrator is not None and calibrator.acts else None
    splits: dict[str, Any] = {}
    for name, split in (("val", val), ("test", test)):
        if split is not None:
            mine = how if isinstance(how, Resampling) else how[name]
            rows = _calibrations(split, mine, [None] if acting is None else [None, acting])
            splits[name] = {"raw": rows[0], "recalibrated": None if acting is None else rows[1]}
    found: dict[str, Any] = {"calibrator": None if calibrator is None else calibrator.to_dict(), "splits": splits}
    return {
        **found,
        "sentence": sentence_of(found, test.positive_class),
        "worry": worry_of(found),
        "unknown": unknown_of(found),
    }


class _Measure:
    """Every figure that has an interval, on the data (``values``) and under any weighting of the groups."""

    def __init__(self, split: Predictions, calibrator: Calibrator | None, bins: int) -> None:
        labels, groups, n_groups = split.labels, split.groups, len(split.group_names)
        self.calibrator = calibrator
        self.scores = split.scores if calibrator is None else calibrator.scores(split.scores)
        self.bins = equal_mass(labels, self.scores, bins)
        size = len(self.bins.n)
        cells = groups * size + self.bins.member
        parts = [np.ones(len(labels)), self.scores, labels.astype(np.float64)]
        sums = [np.bincount(cells, weights=w, minlength=n_groups * size).reshape(n_groups, size) for w in parts]
        losses = [squared_errors(labels, self.scores), log_losses(labels, self.scores)]
        sums += [np.bincount(groups, weights=w, minlength=n_groups)[:, None] for w in losses]
        self._sums = np.concatenate(sums, axis=1)
        self._lines = Cells(labels, logit(self.scores), groups)
        self._both = 0 < int(labels.sum()) < len(labels)
        self.values = {name: float(value[0]) for name, value in self.evaluate(np.ones((1, n_groups))).items()}
        line, offset = self._lines.line, self._lines.offset
        exact = (*((np.nan, np.nan) if line is None else line), np.nan if offset is None else offset)
        # From all images, not from their cells; a residue of the iterations is no negative zero.
        for name, value in zip(_LINES, exact, strict=True):
            self.values[name] = round(value, 9) + 0.0

    def evaluate(self, weights: Floats) -> dict[str, Floats]:
        """Figures under each row of group weights, shape (b, number of groups); NaN where one is not defined."""
        sums = weights @ self._sums
        n, score, positive = np.split(sums[:, :-2], 3, axis=1)
        images = n.sum(axis=1)
        base, brier = positive.sum(axis=1) / images, sums[:, -2] / images
        with np.errstate(divide="ignore", invalid="ignore"):
            found = {
                "brier": brier,
                "log_loss": sums[:, -1] / images,
                "brier_skill": np.where((base > 0) & (base < 1), 1.0 - brier / (base * (1.0 - base)), np.nan),
                "ece": np.abs(score - positive).sum(axis=1) / images,
                **dict(zip(_LINES, self._lines.evaluate(weights).T, strict=True)),
                **{f"rate/{number}": positive[:, number] / n[:, number] for number in range(n.shape[1])},
            }
        if self._both:
            lost = (base == 0) | (base == 1)
            for values in found.values():
                values[lost] = np.nan
        return found


def _centred(value: float, draws: Floats, confidence: float, fewest: int) -> dict[str, Any]:
    """The interval of the calibration error, moved so that the resamples' mean lies on the estimate.

    Every resample adds its own noise to the error, which is never below 0: taken as they are, the resamples would lie above
    the estimate. What chance adds to the estimate itself is stated beside it (``by_chance``).
    """
    kept = draws[np.isfinite(draws)]
    moved = np.maximum(draws - (kept.mean() - value), 0.0) if len(kept) else draws
    found = percentile_interval(value, moved, confidence)
    return with_width(Interval(found.value, found.low, found.high, CENTRED, found.dropped), fewest).to_dict()


def _bin_rows(
    groups: NDArray[np.int64], bins: Bins, draws: Mapping[str, Floats], confidence: float
) -> list[dict[str, Any]]:
    rows = []
    for number in range(len(bins.n)):
        n_groups = len(np.unique(groups[bins.member == number]))
        found = percentile_interval(float(bins.rate[number]), draws[f"rate/{number}"], confidence)
        interval = share_interval(found, n_groups, confidence, int(bins.n[number]))
        row = {"low": float(bins.edges[number]), "high": float(bins.edges[number + 1]), "n": int(bins.n[number])}
        row |= {"n_groups": n_groups, "mean": float(bins.mean[number]), "rate": float(bins.rate[number])}
        rows.append({**row, "rate_low": interval.low, "rate_high": interval.high})
    return rows


def _several(split: Predictions, calibrator: Calibrator | None, bins: int) -> dict[str, float]:
    """Calibration errors of all class probabilities, of three or more classes."""
    held = split.probabilities if calibrator is None else calibrator.probabilities(split.probabilities)
    return {
        "class_wise": class_wise_error(split.targets, held, bins),
        "top_label": top_label_error(split.targets, held, bins),
    }


def _width_bins(scores: Floats) -> NDArray[np.int64]:
    return np.minimum((scores * _HISTOGRAM).astype(np.int64), _HISTOGRAM - 1)

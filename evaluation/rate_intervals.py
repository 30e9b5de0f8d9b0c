"""Intervals of figures at a threshold: Wilson's for proportions of independent images, resampled groups for the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import Bootstrap, prevalence_name
from evaluation.intervals import FROM_WILSON, Interval, share_interval, with_width
from evaluation.metrics import RATES, npv_at, ppv_at
from evaluation.predictions import Predictions


def groups_of(predictions: Predictions) -> dict[int, int]:
    """Number of groups with an image of each class that is there, by 0 and 1."""
    labels, groups = predictions.labels, predictions.groups
    return {int(value): len(np.unique(groups[labels == value])) for value in np.unique(labels)}


def rate_intervals(
    predictions: Predictions, resampled: Bootstrap, name: str, threshold: float, confidence: float
) -> dict[str, Interval]:
    """One interval for each name in ``RATES``, as :func:`intervals_at` makes them."""
    return intervals_at(
        predictions.labels, predictions.scores, predictions.groups, resampled, name, threshold, confidence
    )


def intervals_at(
    labels: NDArray[np.uint8],
    scores: NDArray[np.float64],
    groups: NDArray[np.int64],
    resampled: Bootstrap,
    name: str,
    threshold: float,
    confidence: float,
) -> dict[str, Interval]:
    """One interval for each name in ``RATES``.

    A proportion (accuracy, sensitivity, specificity, PPV, NPV) has Wilson's where every image of its denominator is a group
    of its own, and over groups where it is exactly 0 or 1. All else has that of the bootstrap.
    """
    flagged = scores >= threshold
    every = np.ones(len(labels), dtype=bool)
    denominators: dict[str, NDArray[np.bool_]] = {
        "accuracy": every,
        "sensitivity": labels == 1,
        "specificity": labels != 1,
        "ppv": flagged,
        "npv": ~flagged,
    }
    enough = min(len(np.unique(groups[labels == value])) for value in np.unique(labels))
    found = {}
    for rate in RATES:
        interval = resampled.interval(f"{name}/{rate}", confidence)
        if rate not in denominators:
            found[rate] = with_width(interval, enough)
            continue
        held = groups[denominators[rate]]
        found[rate] = share_interval(interval, len(np.unique(held)), confidence, len(held))
    return found


def at_prevalences(
    resampled: Bootstrap, name: str, rates: dict[str, Interval], prevalences: Sequence[float], confidence: float
) -> list[dict[str, Any]]:
    """PPV and NPV of a threshold where another share of the images is positive: ``prevalence``, ``ppv``, ``npv``.

    Their resamples are those of sensitivity and specificity, which do not depend on the prevalence. Where one of these is
    exactly 0 or 1, no resample can show an error of that kind, and Wilson's ends of both are put into the formula instead.

    Args:
        rates: intervals of ``sensitivity`` and ``specificity`` at the threshold. ``prevalences``: those of ``resampled``.
    """
    rows = []
    for prevalence in prevalences:
        row: dict[str, Any] = {"prevalence": float(prevalence)}
        for rate, formula in (("ppv", ppv_at), ("npv", npv_at)):
            interval = resampled.interval(f"{name}/{prevalence_name(rate, prevalence)}", confidence)
            sides = rates["sensitivity"], rates["specificity"]
            if any(side.low is None for side in sides):
                interval = with_width(interval, 0)
            elif interval.value is not None and any(side.value in (0.0, 1.0) for side in sides):
                found, cleared = sides
                low = float(formula(found.low, cleared.low, prevalence))  # type: ignore[arg-type]  # both have ends
                high = float(formula(found.high, cleared.high, prevalence))  # type: ignore[arg-type]
                if np.isfinite([low, high]).all():
                    interval = Interval(interval.value, low, high, FROM_WILSON, interval.dropped)
            row[rate] = interval.to_dict()
        rows.append(row)
    return rows

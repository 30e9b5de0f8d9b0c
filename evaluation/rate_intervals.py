"""Intervals of rates at a threshold: resampled groups, or Wilson's where no resample can hold an error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import Bootstrap
from evaluation.intervals import Interval, share_interval, without_ends
from evaluation.metrics import RATES
from evaluation.predictions import Predictions


def groups_of(predictions: Predictions) -> dict[int, int]:
    """Number of groups with an image of each class that is there, by 0 and 1."""
    labels, groups = predictions.labels, predictions.groups
    return {int(value): len(np.unique(groups[labels == value])) for value in np.unique(labels)}


def rate_intervals(
    predictions: Predictions, resampled: Bootstrap, name: str, threshold: float, confidence: float
) -> dict[str, Interval]:
    """Bootstrap intervals; Wilson's over groups for a share that is exactly 0 or 1."""
    labels, groups = predictions.labels, predictions.groups
    flagged = predictions.scores >= threshold
    every = np.ones(len(labels), dtype=bool)
    denominators: dict[str, NDArray[np.bool_]] = {
        "accuracy": every,
        "sensitivity": labels == 1,
        "specificity": labels != 1,
        "ppv": flagged,
        "npv": ~flagged,
    }
    enough = min(groups_of(predictions).values())
    found = {}
    for rate in RATES:
        interval = resampled.interval(f"{name}/{rate}", confidence)
        if rate not in denominators:
            found[rate] = without_ends(interval, enough)
            continue
        found[rate] = share_interval(interval, len(np.unique(groups[denominators[rate]])), confidence)
    return found

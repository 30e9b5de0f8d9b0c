"""The region below the threshold in which missed positives lie: called negative, but only just."""

from __future__ import annotations

from typing import Final

from evaluation.group_scores import positive_group_scores
from evaluation.predictions import Predictions
from evaluation.threshold import OperatingPoint, empirical_threshold

STRICTER: Final = 5  # the recall of the region's lower edge gives up a fifth of what the target gives up: 0.95 -> 0.99


def stricter_recall(target: float) -> float:
    """The recall that the lower edge of the borderline region is for: ``1 - (1 - target) / 5``, rounded to 12 digits."""
    return round(1.0 - (1.0 - target) / STRICTER, 12)


def borderline_of(val: Predictions, point: OperatingPoint) -> float | None:
    """Where the borderline region begins: scores from here up to the threshold are called negative, but only just.

    It is the empirical threshold on validation for a stricter recall, :func:`stricter_recall`: what would be called positive
    if misses were five times less welcome.

    Args:
        val: predictions of the validation part that the point was fixed on.
        point: the locked operating point.

    Returns:
        A score in [0, 1] below ``point.threshold``; None where the region is empty or validation has no positive.
    """
    scores = positive_group_scores(val, point.group_score)
    if len(scores) == 0 or not 0.0 < point.target_recall < 1.0:
        return None
    start, _ = empirical_threshold(scores, stricter_recall(point.target_recall))
    return start if start < point.threshold else None

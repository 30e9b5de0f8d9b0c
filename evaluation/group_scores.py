"""Scores of one part of the data as the threshold rules see them: one for each group, and sorted ones of the images."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from evaluation.predictions import Predictions

GROUP_SCORES: Final = ("max", "min")

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ValidationScores:
    """What a rule may look at; every array is sorted, smallest first.

    Attributes:
        groups: one score for each group with a positive image. ``clear``: the highest score of each group without one.
        positives, negatives: scores of the images.
        positive_class, negative_class, group_name: for sentences.
    """

    groups: Floats
    clear: Floats
    positives: Floats
    negatives: Floats
    positive_class: str
    negative_class: str
    group_name: str

    @classmethod
    def of(cls, predictions: Predictions, group_score: str, group_name: str) -> ValidationScores:
        """The scores of these predictions; arguments as in :func:`positive_group_scores`."""
        labels, scores = predictions.labels, predictions.scores
        return cls(
            np.sort(positive_group_scores(predictions, group_score)),
            np.sort(negative_group_scores(predictions)),
            np.sort(scores[labels == 1]),
            np.sort(scores[labels != 1]),
            predictions.positive_class,
            predictions.negative_class,
            group_name,
        )

    def missed(self, threshold: float) -> int:
        """How many positive groups score below it."""
        return below(self.groups, threshold)

    def flagged(self, threshold: float) -> int:
        """How many groups without a positive image have an image at or above it."""
        return len(self.clear) - below(self.clear, threshold)

    def specificity(self, threshold: float) -> float | None:
        """Share of the negative images below it; None without one."""
        return below(self.negatives, threshold) / len(self.negatives) if len(self.negatives) else None

    def reaches(self, threshold: float, specificity: float) -> bool:
        """Whether the share of negative images below it is at least this, counted in integers."""
        return len(self.negatives) > 0 and below(self.negatives, threshold) >= at_least(
            specificity, len(self.negatives)
        )


def below(ordered: Floats, threshold: float) -> int:
    """Number of sorted scores that are below the threshold, so not called positive."""
    return int(np.searchsorted(ordered, threshold, side="left"))


def at_least(share: float, n: int) -> int:
    """The smallest number of n that is at least this share, which is taken as the decimal number that was asked for."""
    exact = Fraction(str(share)) * n
    return -(-exact.numerator // exact.denominator)


def positive_group_scores(predictions: Predictions, group_score: str = "max") -> Floats:
    """One score for each group with a positive image, shape (number of such groups,), in the order of the group names.

    Args:
        group_score: ``max`` (found if any of its positive images is flagged) or ``min`` (only if all are).
    """
    if group_score not in GROUP_SCORES:
        raise ValueError(f"group score is {group_score!r}; expected one of {list(GROUP_SCORES)}.")
    positive = predictions.labels == 1
    groups, scores = predictions.groups[positive], predictions.scores[positive]
    start = -np.inf if group_score == "max" else np.inf
    held = np.full(len(predictions.group_names), start)
    (np.maximum if group_score == "max" else np.minimum).at(held, groups, scores)
    present: Floats = held[np.isfinite(held)]
    return present


def negative_group_scores(predictions: Predictions) -> Floats:
    """The highest score of each group without a positive image, shape (number of such groups,).

    Such a group is cleared only if none of its images is flagged, so that the highest score decides.
    """
    highest = np.full(len(predictions.group_names), -np.inf)
    np.maximum.at(highest, predictions.groups, predictions.scores)
    positive = np.zeros(len(predictions.group_names), dtype=bool)
    positive[predictions.groups[predictions.labels == 1]] = True
    present: Floats = highest[~positive & np.isfinite(highest)]
    return present

"""One model on one set of images, with its decisions, and the resamples behind every figure by which models are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import Bootstrap, Resampling, bootstrap
from evaluation.intervals import Interval, auroc_interval, share_interval, with_width
from evaluation.multiclass import multiclass_bootstrap
from evaluation.predictions import Predictions
from evaluation.rate_intervals import groups_of
from evaluation.threshold import OperatingPoint

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Point = OperatingPoint | float | Sequence[bool] | NDArray[np.bool_]

RANKED: Final = ("auroc", "average_precision", "partial_auc", "brier", "log_loss")
SHARES: Final = ("sensitivity", "specificity", "accuracy")
RATED: Final = ("sensitivity", "specificity", "balanced_accuracy", "accuracy")
OVER_CLASSES: Final = {
    "macro_auroc": "macro_auroc",
    "argmax_balanced_accuracy": "balanced_accuracy",
    "argmax_accuracy": "accuracy",
}
"""Figures of three or more classes, and what :func:`evaluation.multiclass.multiclass_bootstrap` calls them."""
NAMES: Final = {
    "auroc": "AUROC",
    "macro_auroc": "macro AUROC",
    "average_precision": "average precision",
    "partial_auc": "partial AUC above 80 % sensitivity",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "argmax_balanced_accuracy": "balanced accuracy of the most probable class",
    "argmax_accuracy": "accuracy of the most probable class",
    "brier": "Brier score",
    "log_loss": "log loss",
}
"""Every figure, in the order of tables."""
LOWER_IS_BETTER: Final = frozenset({"brier", "log_loss"})


@dataclass(frozen=True, eq=False)
class Decided:
    """Predictions and what was decided from them.

    Attributes:
        predictions: of one model.
        flagged: shape (n,); whether an image was called positive.
    """

    predictions: Predictions
    flagged: Flags

    @cached_property
    def right(self) -> Flags:
        """Shape (n,); whether the decision is the truth."""
        right: Flags = self.flagged == (self.predictions.labels == 1)
        return right

    @cached_property
    def denominators(self) -> dict[str, Flags]:
        """Which images each share is of."""
        positive = self.predictions.labels == 1
        return {"sensitivity": positive, "specificity": ~positive, "accuracy": np.ones(len(positive), dtype=bool)}

    def groups_in(self, share: str) -> int:
        """Number of groups with an image in the denominator of a share."""
        return len(np.unique(self.predictions.groups[self.denominators[share]]))

    def like(self, other: Predictions) -> Decided:
        """The same in the row order of predictions of the same images."""
        places = {name: row for row, name in enumerate(self.predictions.frame["image_id"].astype(str))}
        rows = np.array([places[name] for name in other.frame["image_id"].astype(str)], dtype=np.int64)
        frame = self.predictions.frame.iloc[rows].reset_index(drop=True)
        return replace(self, predictions=self.predictions.with_frame(frame), flagged=self.flagged[rows])


def decide(predictions: Predictions, point: Point) -> Decided:
    """Decisions of a model.

    Args:
        point: an operating point or a threshold (positive if and only if score >= it), or the decisions themselves, shape (n,),
            where rows have thresholds of their own.

    Raises:
        ValueError: decisions of another length.
    """
    if isinstance(point, OperatingPoint):
        return Decided(predictions, predictions.scores >= point.threshold)
    if isinstance(point, (int, float)):
        return Decided(predictions, predictions.scores >= float(point))
    flagged = np.asarray(point, dtype=bool)
    if flagged.shape != (len(predictions),):
        raise ValueError(f"decisions have shape {flagged.shape}; expected one for each of {len(predictions)} images.")
    return Decided(predictions, flagged)


def resample(decided: Decided, how: Resampling, *, full: bool = True) -> Bootstrap:
    """All figures of one model on the data and in resamples of whole groups.

    Args:
        full: also partial AUC, which costs as much as the rest.

    Returns:
        By the names of ``NAMES``; a figure that is not defined on these images is NaN. Those of the same groups, labels and
        seed rest on the same resamples: they may be subtracted and averaged in pairs.
    """
    held, classes = decided.predictions, len(decided.predictions.classes)
    shared: dict[str, Any] = {"resamples": how.resamples, "seed": how.seed, "interval": how.interval}
    ranks = bootstrap(held.labels, held.scores, held.groups, {}, full=full, **shared)
    # Decisions as scores of 0 and 1, so that rows may have thresholds of their own.
    calls = decided.flagged.astype(np.float64)
    rates = bootstrap(held.labels, calls, held.groups, {"at": 0.5}, ranked=False, **shared)
    named: list[tuple[str, Bootstrap, str]] = [(name, ranks, name) for name in RANKED if name in ranks.values]
    named += [(name, rates, f"at/{name}") for name in RATED]
    if classes > 2:
        over = multiclass_bootstrap(held.targets, held.probabilities, held.groups, **shared)
        named += [(name, over, theirs) for name, theirs in OVER_CLASSES.items()]
    return Bootstrap(
        values={name: float(source.values[key]) for name, source, key in named},
        draws={name: source.draws[key] for name, source, key in named},
        counts={},
        left_out={name: source.left_out[key] for name, source, key in named if key in source.left_out},
        pairing=ranks.pairing,
    )


def intervals_of(decided: Decided, drawn: Bootstrap, confidence: float) -> dict[str, Interval]:
    """Each figure with its interval; Wilson's over groups for a share or an AUROC that is exactly 0 or 1.

    Others have no ends where all resamples agree.
    """
    fewest = min(groups_of(decided.predictions).values())
    found = {}
    for name in drawn.values:
        interval = drawn.interval(name, confidence)
        if name in SHARES:
            found[name] = share_interval(interval, decided.groups_in(name), confidence)
        elif name == "auroc":
            found[name] = auroc_interval(interval, fewest, confidence)
        else:
            found[name] = with_width(interval, fewest)
    return found


def mean_of(members: Sequence[Bootstrap]) -> Bootstrap:
    """The mean of each figure over several models, on the data and in each resample.

    Args:
        members: at least one, all of the same images and resamples.

    Raises:
        ValueError: they rest on different resamples.
    """
    first = members[0]
    if any(member.pairing != first.pairing for member in members):
        raise ValueError("the resamples are of different groups, labels or seeds; their mean says nothing.")
    return Bootstrap(
        values={name: float(np.mean([member.values[name] for member in members])) for name in first.values},
        draws={name: np.mean([member.draws[name] for member in members], axis=0) for name in first.values},
        counts={},
        left_out={
            name: tuple(np.mean(parts, axis=0) for parts in zip(*(m.left_out[name] for m in members), strict=True))
            for name in first.left_out
        },
        pairing=first.pairing,
    )


def ordered(figures: Mapping[str, Any]) -> list[str]:
    """The figures that are there, in the order of tables."""
    return [name for name in NAMES if name in figures]

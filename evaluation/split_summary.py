"""Everything that is reported of one model on one split: metrics with intervals, overall and in subgroups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.bootstrap import Bootstrap, Seed, bootstrap
from evaluation.intervals import WILSON, Interval, wilson, wilson_interval
from evaluation.metrics import RATES
from evaluation.predictions import PREFIX, REQUIRED, Predictions
from evaluation.threshold import OperatingPoint, positive_group_scores

HALF, LOCKED = "at_0.5", "at_threshold"
RANKED: Final = ("auroc", "average_precision", "brier", "log_loss")
FEWEST_GROUPS: Final = 10
MOST_SUBGROUPS: Final = 20


@dataclass(frozen=True)
class Judged:
    """One model on one split.

    Attributes:
        summary: the split's part of metrics.json.
        resampled: the draws behind it, for differences.
    """

    predictions: Predictions
    summary: dict[str, Any]
    resampled: Bootstrap


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: number of resamples (at least 1), confidence in (0, 1), seed."""

    resamples: int = 2000
    confidence: float = 0.95
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.resamples < 1 or not 0.0 < self.confidence < 1.0:
            raise ValueError(
                f"{self.resamples} resamples and a confidence of {self.confidence!r}; expected at least 1 resample and "
                "a confidence between 0 and 1."
            )


def judge(
    predictions: Predictions, point: OperatingPoint, how: Resampling, subgroup_columns: Sequence[str] = ()
) -> Judged:
    """Metrics of one split at 0.5 and at the locked threshold.

    Args:
        predictions: of the split.
        point: fixed on validation; nothing here can change it.
        subgroup_columns: columns of the predictions whose values are reported apart.
    """
    thresholds = {HALF: 0.5, LOCKED: point.threshold}
    labels, groups = predictions.labels, predictions.groups
    resampled = bootstrap(labels, predictions.scores, groups, thresholds, how.resamples, how.seed)
    positive_groups = len(np.unique(groups[labels == 1]))
    scores = positive_group_scores(predictions, point.group_score)
    summary: dict[str, Any] = {
        "n": len(predictions),
        "n_positive": int(labels.sum()),
        "n_groups": len(predictions.group_names),
        "n_positive_groups": positive_groups,
        "prevalence": float(labels.mean()),
    }
    enough = _groups_of(predictions)
    for name in RANKED:
        summary[name] = _checked(resampled.interval(name, how.confidence), min(enough.values())).to_dict()
    for name, threshold in thresholds.items():
        intervals = _rate_intervals(predictions, resampled, name, threshold, how.confidence)
        found = wilson_interval(int((scores >= threshold).sum()), positive_groups, how.confidence)
        summary[name] = {
            "threshold": float(threshold),
            **asdict(resampled.counts[name]),
            **{rate: interval.to_dict() for rate, interval in intervals.items()},
            "group_recall": found.to_dict(),
        }
    summary["by"] = {
        column: rows for column in subgroup_columns if (rows := _subgroups(predictions, column, point, how))
    }
    return Judged(predictions, summary, resampled)


def _groups_of(predictions: Predictions) -> dict[int, int]:
    """Number of groups with an image of each class that is there, by 0 and 1."""
    labels, groups = predictions.labels, predictions.groups
    return {int(value): len(np.unique(groups[labels == value])) for value in np.unique(labels)}


def _checked(interval: Interval, n_groups: int) -> Interval:
    """Without ends where a single group was drawn again and again: that shows no uncertainty at all."""
    if n_groups < 2:
        return Interval(interval.value, None, None, interval.method, interval.dropped)
    return interval


def _rate_intervals(
    predictions: Predictions, resampled: Bootstrap, name: str, threshold: float, confidence: float
) -> dict[str, Interval]:
    """Bootstrap intervals; Wilson's over groups for a share that is exactly 0 or 1.

    No resample of an error-free sample holds an error, so that the bootstrap would call such a share certain.
    """
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
    enough = min(_groups_of(predictions).values())
    found = {}
    for rate in RATES:
        interval = resampled.interval(f"{name}/{rate}", confidence)
        if rate not in denominators:
            found[rate] = _checked(interval, enough)
            continue
        n_groups = len(np.unique(groups[denominators[rate]]))
        if interval.value in (0.0, 1.0):
            ends = wilson(n_groups * interval.value, n_groups, confidence)
            found[rate] = Interval(interval.value, *ends, WILSON, interval.dropped)
        else:
            found[rate] = _checked(interval, n_groups)
    return found


def _subgroups(
    predictions: Predictions, column: str, point: OperatingPoint, how: Resampling
) -> list[dict[str, Any]] | None:
    """One entry for each value of a column; None for a column that has too many values to be a grouping.

    Raises:
        ValueError: there is no such column.
    """
    if column not in predictions.frame.columns or column in REQUIRED or column.startswith(PREFIX):
        raise ValueError(f"subgroup column {column!r} is not in the predictions: {list(predictions.frame.columns)}.")
    values = predictions.frame[column]
    named = values.astype(str).where(values.notna() & (values.astype(str) != ""), "unknown")
    if named.nunique() > MOST_SUBGROUPS:
        return None
    return [
        _subgroup(predictions, name, (named == name).to_numpy(dtype=bool), point, how) for name in sorted(set(named))
    ]


def _subgroup(
    predictions: Predictions, name: str, rows: NDArray[np.bool_], point: OperatingPoint, how: Resampling
) -> dict[str, Any]:
    """Sensitivity and group recall of its positives, specificity of its negatives, at the locked threshold."""
    part = Predictions(pd.DataFrame(predictions.frame.loc[rows]), predictions.classes, predictions.positive_class)
    n_groups, n_positive = len(part.group_names), int(part.labels.sum())
    kinds = (["sensitivity", "group_recall"] if n_positive else []) + (
        ["specificity"] if n_positive < len(part) else []
    )
    entry: dict[str, Any] = {"value": name, "n": len(part), "n_positive": n_positive, "n_groups": n_groups}
    entry["suppressed"] = n_groups < FEWEST_GROUPS
    if entry["suppressed"]:
        return entry | {kind: Interval(None, None, None).to_dict() for kind in kinds}
    resampled = bootstrap(
        part.labels, part.scores, part.groups, {LOCKED: point.threshold}, how.resamples, how.seed, ranked=False
    )
    intervals = _rate_intervals(part, resampled, LOCKED, point.threshold, how.confidence)
    if n_positive:
        scores = positive_group_scores(part, point.group_score)
        found = int((scores >= point.threshold).sum())
        intervals["group_recall"] = wilson_interval(found, len(scores), how.confidence)
    return entry | {kind: intervals[kind].to_dict() for kind in kinds}

"""Everything that is reported of one model on one split: metrics with intervals, overall and in subgroups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from evaluation.bootstrap import Bootstrap, Resampling, bootstrap
from evaluation.intervals import wilson_interval, without_ends
from evaluation.multiclass import multiclass_of
from evaluation.predictions import Predictions
from evaluation.rate_intervals import groups_of, rate_intervals
from evaluation.subgroups import HALF, LOCKED, subgroups_of
from evaluation.threshold import OperatingPoint, positive_group_scores

RANKED: Final = ("auroc", "average_precision", "brier", "log_loss")


@dataclass(frozen=True)
class Judged:
    """One model on one split.

    Attributes:
        summary: the split's part of metrics.json.
        resampled: the draws behind it, for differences. ``classwise``: those of the arg-max figures; None for two classes.
    """

    predictions: Predictions
    summary: dict[str, Any]
    resampled: Bootstrap
    classwise: Bootstrap | None = None


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
    enough = groups_of(predictions)
    for name in RANKED:
        summary[name] = without_ends(resampled.interval(name, how.confidence), min(enough.values())).to_dict()
    for name, threshold in thresholds.items():
        intervals = rate_intervals(predictions, resampled, name, threshold, how.confidence)
        found = wilson_interval(int((scores >= threshold).sum()), positive_groups, how.confidence)
        summary[name] = {
            "threshold": float(threshold),
            **asdict(resampled.counts[name]),
            **{rate: interval.to_dict() for rate, interval in intervals.items()},
            "group_recall": found.to_dict(),
        }
    summary["by"] = {
        column: rows for column in subgroup_columns if (rows := subgroups_of(predictions, column, point, how))
    }
    classwise = None
    if len(predictions.classes) > 2:
        summary["multiclass"], classwise = multiclass_of(predictions, how)
    return Judged(predictions, summary, resampled, classwise)

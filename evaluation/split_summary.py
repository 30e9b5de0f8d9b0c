"""Everything that is reported of one model on one split: metrics with intervals, overall and in subgroups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from evaluation.bootstrap import Bootstrap, Resampling, bootstrap
from evaluation.group_level import group_level_of
from evaluation.intervals import auroc_interval, share_interval, wilson_interval, with_width
from evaluation.metrics import BETA
from evaluation.multiclass import multiclass_of
from evaluation.predictions import Predictions
from evaluation.ranking import FIXED, FIXED_RATES, fixed_name
from evaluation.rate_intervals import at_prevalences, groups_of, rate_intervals
from evaluation.subgroups import HALF, LOCKED, subgroups_of
from evaluation.threshold import OperatingPoint, positive_group_scores

RANKED: Final = ("auroc", "average_precision", "brier", "log_loss")
PREVALENCES: Final = (0.01, 0.05, 0.2)


@dataclass(frozen=True)
class Judged:
    """One model on one split.

    Attributes:
        summary: the split's part of metrics.json.
        resampled: the draws behind it, for differences. ``classwise``: those of the arg-max figures; None for two classes.
        grouped: those of the figures over groups; None where every image is its own group, or they were not asked for.
    """

    predictions: Predictions
    summary: dict[str, Any]
    resampled: Bootstrap
    classwise: Bootstrap | None = None
    grouped: Bootstrap | None = None


def judge(
    predictions: Predictions,
    point: OperatingPoint,
    how: Resampling,
    subgroup_columns: Sequence[str] = (),
    *,
    full: bool = True,
    beta: float = BETA,
    prevalences: Sequence[float] = PREVALENCES,
) -> Judged:
    """Metrics of one split at 0.5 and at the locked threshold.

    Args:
        predictions: of the split.
        point: fixed on validation; nothing here can change it.
        how: of all intervals that are not Wilson's.
        subgroup_columns: columns of the predictions whose values are reported apart.
        full: also partial AUC, the rates at a fixed other rate, PPV and NPV at ``prevalences``, and the figures over groups.
            Baselines do without.
        beta: of F-beta, above 0. ``prevalences``: each in (0, 1).

    Returns:
        Its ``summary`` holds, beside counts and the intervals of ``RANKED``: ``at_0.5`` and ``at_threshold`` (counts, rates,
        ``group_recall``, and ``prevalence``: rows of ``prevalence``, ``ppv``, ``npv``); ``partial_auc``;
        ``sensitivity_at_specificity`` and ``specificity_at_sensitivity`` (rows of ``at`` and an interval, read off this very
        set); ``groups`` (see :func:`evaluation.group_level.group_level_of`); ``by``; for three or more classes ``multiclass``.
    """
    wrong = [value for value in prevalences if not 0.0 < value < 1.0]
    if wrong or not beta > 0:
        raise ValueError(
            f"prevalences are {list(prevalences)} and beta is {beta}; expected each in (0, 1), beta above 0."
        )
    thresholds = {HALF: 0.5, LOCKED: point.threshold}
    prevalences = tuple(prevalences) if full else ()
    resampled = bootstrap(
        predictions.labels,
        predictions.scores,
        predictions.groups,
        thresholds,
        how.resamples,
        how.seed,
        full=full,
        interval=how.interval,
        beta=beta,
        prevalences=prevalences,
    )
    summary = _sizes(predictions)
    enough = min(groups_of(predictions).values())
    summary["auroc"] = auroc_interval(resampled.interval("auroc", how.confidence), enough, how.confidence).to_dict()
    for name in (*RANKED[1:], "partial_auc") if full else RANKED[1:]:
        summary[name] = with_width(resampled.interval(name, how.confidence), enough).to_dict()
    if full:
        summary |= _at_fixed_rates(resampled, groups_of(predictions), how.confidence)
    for name, threshold in thresholds.items():
        summary[name] = _at(predictions, resampled, name, threshold, point.group_score, prevalences, how.confidence)
    grouped = classwise = None
    if full:
        summary["groups"], grouped = group_level_of(predictions, thresholds, how, point.group_score, beta)
    summary["by"] = {
        column: rows for column in subgroup_columns if (rows := subgroups_of(predictions, column, point, how))
    }
    if len(predictions.classes) > 2:
        summary["multiclass"], classwise = multiclass_of(predictions, how)
    return Judged(predictions, summary, resampled, classwise, grouped)


def _sizes(predictions: Predictions) -> dict[str, Any]:
    labels, groups = predictions.labels, predictions.groups
    return {
        "n": len(predictions),
        "n_positive": int(labels.sum()),
        "n_groups": len(predictions.group_names),
        "n_positive_groups": len(np.unique(groups[labels == 1])),
        "prevalence": float(labels.mean()),
    }


def _at(
    predictions: Predictions,
    resampled: Bootstrap,
    name: str,
    threshold: float,
    group_score: str,
    prevalences: Sequence[float],
    confidence: float,
) -> dict[str, Any]:
    """Counts and rates at one threshold."""
    intervals = rate_intervals(predictions, resampled, name, threshold, confidence)
    scores = positive_group_scores(predictions, group_score)
    found = wilson_interval(int((scores >= threshold).sum()), len(scores), confidence)
    entry = {
        "threshold": float(threshold),
        **asdict(resampled.counts[name]),
        **{rate: interval.to_dict() for rate, interval in intervals.items()},
        "group_recall": found.to_dict(),
    }
    if prevalences:
        entry["prevalence"] = at_prevalences(resampled, name, intervals, prevalences, confidence)
    return entry


def _at_fixed_rates(resampled: Bootstrap, groups: dict[int, int], confidence: float) -> dict[str, Any]:
    """Sensitivity where specificity is at least so much, and the reverse: what the best threshold for this set would reach."""
    enough = min(groups.values()) if len(groups) == 2 else 0
    found: dict[str, Any] = {}
    for figure, label in zip(FIXED_RATES, (1, 0), strict=True):
        rows = []
        for at in FIXED:
            interval = resampled.interval(fixed_name(figure, at), confidence)
            known = with_width(interval, enough) if enough < 2 else share_interval(interval, groups[label], confidence)
            rows.append({"at": at, **known.to_dict()})
        found[figure] = rows
    return found

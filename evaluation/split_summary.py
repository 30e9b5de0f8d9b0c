"""Everything that is reported of one model on one split: metrics with intervals, overall and in subgroups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.bootstrap import Bootstrap, Resampling, bootstrap
from evaluation.intervals import Interval, share_interval, wilson_interval, without_ends
from evaluation.metrics import RATES
from evaluation.multiclass import multiclass_of
from evaluation.predictions import PREFIX, REQUIRED, Predictions
from evaluation.threshold import OperatingPoint, positive_group_scores

HALF, LOCKED = "at_0.5", "at_threshold"
RANKED: Final = ("auroc", "average_precision", "brier", "log_loss")
FEWEST_GROUPS: Final = 10
MOST_SUBGROUPS: Final = 12
UNKNOWN: Final = "unknown"
_BAND: Final = re.compile(r"\s*(?P<sign><|>|under |below |over |above |)\s*=?\s*(?P<number>\d+(?:\.\d+)?)(?![A-Za-z])")


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
    enough = _groups_of(predictions)
    for name in RANKED:
        summary[name] = without_ends(resampled.interval(name, how.confidence), min(enough.values())).to_dict()
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
    classwise = None
    if len(predictions.classes) > 2:
        summary["multiclass"], classwise = multiclass_of(predictions, how)
    return Judged(predictions, summary, resampled, classwise)


def _groups_of(predictions: Predictions) -> dict[int, int]:
    """Number of groups with an image of each class that is there, by 0 and 1."""
    labels, groups = predictions.labels, predictions.groups
    return {int(value): len(np.unique(groups[labels == value])) for value in np.unique(labels)}


def _rate_intervals(
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
    enough = min(_groups_of(predictions).values())
    found = {}
    for rate in RATES:
        interval = resampled.interval(f"{name}/{rate}", confidence)
        if rate not in denominators:
            found[rate] = without_ends(interval, enough)
            continue
        found[rate] = share_interval(interval, len(np.unique(groups[denominators[rate]])), confidence)
    return found


def _subgroups(
    predictions: Predictions, column: str, point: OperatingPoint, how: Resampling
) -> list[dict[str, Any]] | None:
    """One entry for each value of a column, small values of a long column together; None if no value is worth a row.

    Raises:
        ValueError: there is no such column.
    """
    if column not in predictions.frame.columns or column in REQUIRED or column.startswith(PREFIX):
        raise ValueError(f"subgroup column {column!r} is not in the predictions: {list(predictions.frame.columns)}.")
    values = predictions.frame[column]
    named = values.astype(str).where(values.notna() & (values.astype(str).str.strip() != ""), UNKNOWN)
    sizes = (
        pd.Series(predictions.groups).groupby(named.to_numpy()).nunique().sort_values(ascending=False, kind="stable")
    )
    kept = {str(name) for name in sizes.index}
    if len(kept) > MOST_SUBGROUPS:
        if sizes.iloc[0] < FEWEST_GROUPS:
            return None
        kept = {str(name) for name in sizes.index[: MOST_SUBGROUPS - 1]}
        rest = f"{len(sizes) - len(kept)} other values"
        named = named.where(named.isin(kept), rest)
        kept.add(rest)
    return [
        _subgroup(predictions, name, (named == name).to_numpy(dtype=bool), point, how)
        for name in sorted(kept, key=subgroup_order)
    ]


def subgroup_order(name: str) -> tuple[int, float, str]:
    """Sort key: numbers and age bands by their first number (``<20`` before ``20-39``), words by alphabet, unknown last."""
    if name == UNKNOWN or name.endswith(" other values"):
        return (3 if name == UNKNOWN else 2, 0.0, name)
    found = _BAND.match(name)
    if found is None:
        return 1, 0.0, name
    below, above = found["sign"] in ("<", "under ", "below "), found["sign"] in (">", "over ", "above ")
    return 0, float(found["number"]) + (0.5 if above else -0.5 if below else 0.0), name


def _subgroup(
    predictions: Predictions, name: str, rows: NDArray[np.bool_], point: OperatingPoint, how: Resampling
) -> dict[str, Any]:
    """Sensitivity and group recall of its positives, specificity of its negatives, at the locked threshold; AUROC of both.

    ``suppressed`` and ``reason`` say what is not shown and why.
    """
    part = predictions.with_frame(pd.DataFrame(predictions.frame.loc[rows]))
    n_groups, n_positive = len(part.group_names), int(part.labels.sum())
    kinds = ["sensitivity", "group_recall"] if n_positive else []
    kinds += ["specificity"] if n_positive < len(part) else []
    kinds += ["auroc"] if len(kinds) == 3 else []
    entry: dict[str, Any] = {"value": name, "n": len(part), "n_positive": n_positive, "n_groups": n_groups}
    entry["n_positive_groups"] = len(np.unique(part.groups[part.labels == 1]))
    entry["suppressed"], entry["reason"] = n_groups < FEWEST_GROUPS, ""
    if entry["suppressed"]:
        entry["reason"] = f"fewer than {FEWEST_GROUPS} groups"
        return entry | {kind: Interval(None, None, None).to_dict() for kind in kinds}
    enough = min(_groups_of(part).values()) >= FEWEST_GROUPS
    if "auroc" not in kinds:
        entry["reason"] = f"{part.positive_class if n_positive else part.negative_class} only"
    elif not enough:
        entry["reason"] = f"fewer than {FEWEST_GROUPS} groups of one kind: no AUROC"
    resampled = bootstrap(
        part.labels,
        part.scores,
        part.groups,
        {LOCKED: point.threshold},
        how.resamples,
        how.seed,
        ranked="auroc" in kinds and enough,
    )
    intervals = _rate_intervals(part, resampled, LOCKED, point.threshold, how.confidence)
    if n_positive:
        scores = positive_group_scores(part, point.group_score)
        found = int((scores >= point.threshold).sum())
        intervals["group_recall"] = wilson_interval(found, len(scores), how.confidence)
    if "auroc" in kinds:
        intervals["auroc"] = resampled.interval("auroc", how.confidence) if enough else Interval(None, None, None)
    return entry | {kind: intervals[kind].to_dict() for kind in kinds}

"""The test set in parts: one row for each value of a metadata column, all at the one locked threshold."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.bootstrap import Resampling, bootstrap
from evaluation.intervals import Interval, wilson_interval
from evaluation.predictions import PREFIX, REQUIRED, Predictions
from evaluation.rate_intervals import groups_of, rate_intervals
from evaluation.threshold import OperatingPoint, positive_group_scores

HALF, LOCKED = "at_0.5", "at_threshold"
FEWEST_GROUPS: Final = 10
MOST_SUBGROUPS: Final = 12
UNKNOWN: Final = "unknown"
_BAND: Final = re.compile(r"\s*(?P<sign><|>|under |below |over |above |)\s*=?\s*(?P<number>\d+(?:\.\d+)?)(?![A-Za-z])")


def subgroups_of(
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
    enough = min(groups_of(part).values()) >= FEWEST_GROUPS
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
    intervals = rate_intervals(part, resampled, LOCKED, point.threshold, how.confidence)
    if n_positive:
        scores = positive_group_scores(part, point.group_score)
        found = int((scores >= point.threshold).sum())
        intervals["group_recall"] = wilson_interval(found, len(scores), how.confidence)
    if "auroc" in kinds:
        intervals["auroc"] = resampled.interval("auroc", how.confidence) if enough else Interval(None, None, None)
    return entry | {kind: intervals[kind].to_dict() for kind in kinds}

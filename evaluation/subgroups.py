"""The test set in parts: one row for each value of a metadata column, all at the one locked threshold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.bootstrap import Resampling, bootstrap
from evaluation.intervals import Interval, auroc_interval, format_interval, wilson_interval
from evaluation.predictions import PREFIX, REQUIRED, Predictions
from evaluation.rate_intervals import groups_of, rate_intervals
from evaluation.threshold import OperatingPoint, positive_group_scores
from evaluation.wording import Worry, figure, plural, worry

HALF, LOCKED = "at_0.5", "at_threshold"
# With fewer groups of a kind than this, resampling cannot know what other groups would be like.
FEWEST_GROUPS: Final = 10
# Figures of a subgroup need this many groups of their kind: below it an interval spans half of what is possible.
FEWEST_IN_SUBGROUP: Final = 20
AGE_COLUMN: Final = "age"
AGE_BANDS: Final = ("<30", "30-60", ">60")
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
    if column.lower() == AGE_COLUMN and values.nunique() > MOST_SUBGROUPS:
        values = age_bands(values)
    named = values.astype(str).where(values.notna() & (values.astype(str).str.strip() != ""), UNKNOWN)
    sizes = (
        pd.Series(predictions.groups).groupby(named.to_numpy()).nunique().sort_values(ascending=False, kind="stable")
    )
    kept = {str(name) for name in sizes.index}
    if len(kept) > MOST_SUBGROUPS:
        if sizes.iloc[0] < FEWEST_IN_SUBGROUP:
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


def age_bands(ages: pd.Series) -> pd.Series:
    """Ages in years as ``<30``, ``30-60`` and ``>60``; missing where an age is; unchanged where one is no number."""
    years = pd.to_numeric(ages, errors="coerce")
    blank = ages.isna() | (ages.astype(str).str.strip() == "")
    if (years.isna() & ~blank).any():
        return ages
    number = years.to_numpy(dtype=np.float64)
    bands = np.select([number < 30, number <= 60, number > 60], AGE_BANDS, default="")
    return pd.Series(bands, index=ages.index)


def _subgroup(
    predictions: Predictions, name: str, rows: NDArray[np.bool_], point: OperatingPoint, how: Resampling
) -> dict[str, Any]:
    """Sensitivity and group recall of its positives, specificity of its negatives, at the locked threshold; AUROC of both.

    Each needs ``FEWEST_IN_SUBGROUP`` groups of its kind (AUROC: of both kinds) and is without a value otherwise; the whole
    row is ``suppressed`` where there are fewer groups in all. ``reason`` says what is not shown and why.
    """
    part = predictions.with_frame(pd.DataFrame(predictions.frame.loc[rows]))
    sizes = groups_of(part)
    n_groups, n_positive = len(part.group_names), int(part.labels.sum())
    enough = {kind: size >= FEWEST_IN_SUBGROUP for kind, size in sizes.items()}
    kinds = ["sensitivity", "group_recall"] if 1 in sizes else []
    kinds += ["specificity"] if 0 in sizes else []
    kinds += ["auroc"] if len(sizes) == 2 else []
    entry: dict[str, Any] = {"value": name, "n": len(part), "n_positive": n_positive, "n_groups": n_groups}
    entry |= {"n_positive_groups": sizes.get(1, 0), "n_negative_groups": sizes.get(0, 0)}
    entry["prevalence"] = float(part.labels.mean())
    entry |= {"suppressed": n_groups < FEWEST_IN_SUBGROUP, "reason": ""}
    hidden = Interval(None, None, None).to_dict()
    if entry["suppressed"]:
        entry["reason"] = f"fewer than {FEWEST_IN_SUBGROUP} groups"
        return entry | dict.fromkeys(kinds, hidden)
    entry["reason"] = _reason(part, enough)
    ranked = len(sizes) == 2 and all(enough.values())
    resampled = bootstrap(
        part.labels,
        part.scores,
        part.groups,
        {LOCKED: point.threshold},
        how.resamples,
        how.seed,
        ranked=ranked,
        interval=how.interval,
    )
    shown = rate_intervals(part, resampled, LOCKED, point.threshold, how.confidence)
    if 1 in sizes:
        scores = positive_group_scores(part, point.group_score)
        shown["group_recall"] = wilson_interval(int((scores >= point.threshold).sum()), len(scores), how.confidence)
    if ranked:
        shown["auroc"] = auroc_interval(
            resampled.interval("auroc", how.confidence), min(sizes.values()), how.confidence
        )
    needs = {"sensitivity": 1, "group_recall": 1, "specificity": 0}
    allowed = [kind for kind in kinds if (ranked if kind == "auroc" else enough[needs[kind]])]
    return entry | {kind: shown[kind].to_dict() if kind in allowed else dict(hidden) for kind in kinds}


def _reason(part: Predictions, enough: Mapping[int, bool]) -> str:
    names = {1: part.positive_class, 0: part.negative_class}
    if len(enough) == 1:
        return f"{names[next(iter(enough))]} only"
    few = [names[kind] for kind in (1, 0) if not enough[kind]]
    return f"fewer than {FEWEST_IN_SUBGROUP} groups with {' and with '.join(few)}" if few else ""


def subgroup_gap(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The rows with the lowest and the highest sensitivity, ``worst`` and ``best``, and their difference, ``gap``.

    Args:
        rows: of one column, as :func:`subgroups_of` makes them; those without a sensitivity, and the rows of unknown and of
            other values, do not count.

    Returns:
        None with fewer than two rows that count.
    """
    known = [row for row in rows if _is_compared(row)]
    if len(known) < 2:
        return None
    ordered = sorted(known, key=lambda row: row["sensitivity"]["value"])
    worst, best = dict(ordered[0]), dict(ordered[-1])
    return {"worst": worst, "best": best, "gap": best["sensitivity"]["value"] - worst["sensitivity"]["value"]}


def _is_compared(row: Mapping[str, Any]) -> bool:
    if row["suppressed"] or row["value"] == UNKNOWN or str(row["value"]).endswith(" other values"):
        return False
    held = row.get("sensitivity")
    return held is not None and held["value"] is not None and row["n_positive_groups"] >= FEWEST_IN_SUBGROUP


def subgroup_worries(metrics: Mapping[str, Any]) -> list[Worry]:
    """A caution for each column with a subgroup whose recall is clearly below that of the whole test set.

    Clearly: the upper end of its interval is below the recall of the whole.
    """
    test, group = metrics["splits"]["test"], metrics["group_name"]
    whole = test[LOCKED]["sensitivity"]["value"]
    found = []
    for column, rows in (test.get("by") or {}).items():
        gap = subgroup_gap(rows)
        if gap is None or whole is None:
            continue
        worst, best = gap["worst"], gap["best"]
        held = worst["sensitivity"]
        if held["high"] is None or held["high"] >= whole:
            continue
        groups = plural(worst["n_positive_groups"], f"{metrics['positive_class']} {group}")
        images = "" if group == "image" else f" ({plural(worst['n_positive'], 'image')})"
        text = (
            f"Where {column} is {worst['value']}, the sensitivity at the locked threshold is {format_interval(held)}, on {groups}"
            f"{images}; on the whole test set it is {figure(whole)}, and highest where {column} is {best['value']}, "
            f"{format_interval(best['sensitivity'])}. The one threshold does not serve all alike."
        )
        found.append(
            worry("caution", f"Fewer {metrics['positive_class']} are found where {column} is {worst['value']}", text)
        )
    return found

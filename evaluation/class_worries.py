"""Worries about single classes, where there are more than two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.comparison import ARGMAX
from evaluation.intervals import format_interval
from evaluation.subgroups import FEWEST_GROUPS
from evaluation.wording import Worry, listed, plural, worry


def class_worries(metrics: Mapping[str, Any]) -> list[Worry | None]:
    """Classes that test lacks, that are rare there or that are never called, and baselines over all classes."""
    return [_absent_classes(metrics), _rare_classes(metrics), _never_called(metrics), _argmax_baseline(metrics)]


def _absent_classes(metrics: Mapping[str, Any]) -> Worry | None:
    absent = (metrics["splits"]["test"].get("multiclass") or {}).get("absent")
    if not absent:
        return None
    text = f"The test set holds no image of {listed(absent)}: figures over all classes leave {_them(absent)} out."
    return worry("caution", "A class is missing in the test set", text)


def _rare_classes(metrics: Mapping[str, Any]) -> Worry | None:
    """Classes whose own figures rest on a handful of groups, and pull at every mean over classes."""
    rare = [row for row in _rows(metrics) if 0 < row["n_groups"] < FEWEST_GROUPS]
    if not rare:
        return None
    name = metrics["group_name"]
    counts = listed([f"{row['class']} ({plural(row['n_groups'], name)})" for row in rare])
    text = (
        f"Fewer than {FEWEST_GROUPS} {name}s on test: {counts}. Each class weighs the same in balanced accuracy and in "
        "macro figures, so these few move them."
    )
    return worry("caution", "Rare classes in the test set", text)


def _never_called(metrics: Mapping[str, Any]) -> Worry | None:
    never = [row["class"] for row in _rows(metrics) if row["n"] and not row["called"]]
    if not never:
        return None
    text = f"No test image has {listed(never)} as its most probable class: the model never calls {_them(never)}."
    return worry("caution", "A class is never called", text)


def _argmax_baseline(metrics: Mapping[str, Any]) -> Worry | None:
    """Better than a baseline for the positive classes, and yet not over all classes."""
    sentences = []
    for baseline in metrics["baselines"]:
        failed = [
            f"{name} differs by {format_interval(difference)}"
            for key, name in ARGMAX.items()
            if (difference := baseline["difference"].get(key)) and (difference["low"] or 0.0) <= 0.0
        ]
        if failed and baseline["clears"]:
            sentences.append(f"On test {listed(failed)} from a {baseline['title']}.")
    if not sentences:
        return None
    text = f"{' '.join(sentences)} Over all classes no skill beyond that is shown."
    return worry("caution", "A baseline is not cleared over all classes", text)


def _rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Figures of each class on test; none for two classes."""
    rows: list[dict[str, Any]] = (metrics["splits"]["test"].get("multiclass") or {}).get("classes", [])
    return rows


def _them(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"

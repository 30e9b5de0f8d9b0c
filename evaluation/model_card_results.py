"""Rows of the model card about the operating point, the performance and the limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from evaluation.intervals import format_interval
from evaluation.model_card_rows import CardRow
from evaluation.report_files import RunFiles
from evaluation.report_parts import fixed_when, subgroup_tables, worries_of_page
from evaluation.wording import figure, plural

_RATES: Final = (("sensitivity", "sensitivity"), ("specificity", "specificity"), ("PPV", "ppv"), ("NPV", "npv"))
_RANKED: Final = (("AUROC", "auroc"), ("average precision", "average_precision"), ("Brier score", "brier"))
_CLASSWISE: Final = (
    ("balanced accuracy", "balanced_accuracy"),
    ("macro AUROC", "macro_auroc"),
    ("accuracy", "accuracy"),
)


def threshold_rows(run: RunFiles) -> list[CardRow]:
    """The threshold, what certifies it, and whether the test kept the promise."""
    point, name = run.threshold, run.metrics["group_name"]
    when = "; before the test" if fixed_when(run) == "before" else ""
    rows = [CardRow("Threshold", point["statement"], f"threshold and how it was chosen{when}")]
    if point["rule"] == "certified" and point.get("recall_lower_bound") is not None:
        text = (
            f"{plural(point['n_groups'], name)} with {run.metrics['positive_class']} on validation, at most "
            f"{point['misses_allowed']} missed: recall at least {point['recall_lower_bound']:.4f} with "
            f"{100 * point['confidence']:g} % confidence; expected {point['expected_recall']:.4f}."
        )
        rows.append(CardRow("Certificate", text, "uncertainty of the operating point"))
    promise = run.metrics.get("promise")
    if promise:
        said = [promise["sentence"], *([promise["specificity"]["sentence"]] if promise.get("specificity") else [])]
        rows.append(CardRow("On test", " ".join(said), "internal testing of the operating point"))
    return rows


def performance_rows(run: RunFiles) -> list[CardRow]:
    """Metrics with intervals, calibration, subgroups, failures, external testing."""
    metrics, test = run.metrics, run.metrics["splits"]["test"]
    how = metrics["bootstrap"]
    method = (
        f"{100 * metrics['confidence']:g} % intervals, {how['resamples']:,} resamples of {how['unit']}s, {how['method']}; "
        "Wilson for proportions where every group has one image."
    )
    rows = [CardRow("Ranking", _listed(test, _RANKED), "performance measures with intervals")]
    if test.get("multiclass"):
        rows.append(
            CardRow("All classes", _listed(test["multiclass"], _CLASSWISE), "performance measures with intervals")
        )
    rows.append(
        CardRow("At the threshold", _listed(test["at_threshold"], _RATES), "performance at the operating point")
    )
    if test.get("groups"):
        groups = test["groups"]
        held = f"AUROC {format_interval(groups['auroc'])}; {_listed(groups['at_threshold'], _RATES)}"
        rows.append(CardRow(f"By {metrics['group_name']}", held, "unit of analysis"))
    rows.append(CardRow("Intervals", method, "statistical methods; uncertainty"))
    baseline = metrics.get("baseline")
    if baseline:
        rows.append(CardRow("Beside a baseline", baseline["sentence"], "comparison with other methods"))
    rows.append(
        CardRow("Calibration", _calibration(metrics), "calibration", "Agreement of scores with observed rates.")
    )
    rows.append(
        CardRow("Subgroups", _subgroups(run), "fairness; performance in subgroups", "Performance by age, sex, site.")
    )
    rows.append(CardRow("Failures", _failures(run), "failure analysis", "Look at the wrong images and describe them."))
    rows.append(_external(metrics))
    return rows


def limit_rows(run: RunFiles) -> list[CardRow]:
    """Alarms, cautions and notes of the page, each with its figures."""
    rows = [
        CardRow(item["title"], item["text"], f"limitations ({item['level']})")
        for item in worries_of_page(run)
        if item["level"] != "fine"
    ]
    if not rows:
        rows = [
            CardRow("Automatic checks", "No check raised a worry. That is no proof that there is none.", "limitations")
        ]
    return [*rows, CardRow("Other limits", "", "limitations; interpretation", "What no program can see in the files.")]


def _listed(held: Mapping[str, Any], names: tuple[tuple[str, str], ...]) -> str:
    return "; ".join(f"{name} {format_interval(held[key])}" for name, key in names if held.get(key))


def _calibration(metrics: Mapping[str, Any]) -> str:
    section = metrics.get("calibration") or {}
    return str(section.get("sentence") or "")


def _subgroups(run: RunFiles) -> str:
    """The lowest recall of each column that has one."""
    said = [
        f"by {table['column']}: lowest sensitivity {figure(table['worst']['sensitivity']['value'])} ({table['worst']['value']})"
        for table in subgroup_tables(run.metrics)
        if table["worst"]
    ]
    return "; ".join(said)


def _failures(run: RunFiles) -> str:
    now = run.metrics["splits"]["test"]["at_threshold"]
    counts = f"{plural(now['fn'], 'missed image')}, {plural(now['fp'], 'false alarm')} on test"
    if not run.mistakes:
        return f"{counts}."
    return f"{counts}; {plural(len(run.mistakes), 'picture')} on this page, the surest mistakes first."


def _external(metrics: Mapping[str, Any]) -> CardRow:
    topic, kind = "external testing", metrics.get("test_kind")
    if kind == "external":
        return CardRow("External testing", "These figures are of another data set than the one of training.", topic)
    if kind == "given":
        return CardRow(
            "External testing", "", topic, "Say whether these images come from another source than training."
        )
    return CardRow("External testing", "Not in this folder: the test images are of the same data set.", topic)

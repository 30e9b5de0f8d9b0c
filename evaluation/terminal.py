"""The end of a run in the terminal: a short table, its price, and what to worry about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from evaluation.intervals import format_interval
from evaluation.report_parts import all_worries
from evaluation.report_rivals import CLEARED, standing
from evaluation.wording import LEAKY, Worry, test_part_of

_OVER_CLASSES: Final = {
    "balanced accuracy": "balanced_accuracy",
    "accuracy": "accuracy",
    "macro F1": "macro_f1",
    "Cohen's kappa": "kappa",
    "macro AUROC": "macro_auroc",
}


_PARTS: Final = {"val": "validation", "test": "test (locked)"}
_LINES: Final = {"promise": "promise", "calibration": "calibration", "decision_curve": "net benefit"}


def print_results(
    metrics: dict[str, Any], console: Console | None = None, *, worries: Sequence[Worry] | None = None
) -> None:
    """Print what metrics.json says, in the order in which it should be read.

    Args:
        metrics: the content of metrics.json.
        console: where to; the terminal if None.
        worries: those of the page (:func:`evaluation.report_parts.worries_of_folder`); None: those of the metrics alone.
    """
    console = console or Console(highlight=False)
    worries = all_worries(metrics) if worries is None else worries
    console.print()
    leaks = [worry for worry in worries if worry["title"] == LEAKY]
    for worry in leaks:
        _print_worry(console, worry)
        console.print()
    if "multiclass" in metrics["splits"]["test"]:
        console.print(_argmax(metrics))
        console.print()
    console.print(_figures(metrics))
    if metrics.get("baselines"):
        console.print()
        console.print(_baselines(metrics))
    resamples, group = metrics["bootstrap"]["resamples"], metrics["group_name"]
    part = f"; {test_part_of(metrics)}" if test_part_of(metrics) else ""
    console.print(f"{metrics['confidence']:.0%} intervals from {resamples:,} resamples of {group}s{part}\n")
    if metrics["threshold"]["price"]:
        console.print(_price(metrics["threshold"]["price"], metrics["group_name"]))
        console.print()
    for name in ("promise", "calibration", "decision_curve"):
        sentence = (metrics.get(name) or {}).get("sentence")
        if sentence:
            console.print(Padding(f"{_LINES[name]}: {sentence}", 0), markup=False)
    console.print()
    for worry in [worry for worry in worries if worry not in leaks]:
        _print_worry(console, worry)


def _print_worry(console: Console, worry: dict[str, str]) -> None:
    console.print(f"[bold]{worry['level']}: {escape(worry['title'])}[/bold]")
    console.print(Padding(worry["text"], (0, 0, 0, 2)), markup=False)


def _plain_table(title: str, style: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style=style, box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column)
    return table


def _argmax(metrics: dict[str, Any]) -> Table:
    """Every class called by its highest probability: figures over all classes, then the recall of each."""
    parts = _parts(metrics)
    table = _plain_table(escape(metrics["title"]), "bold", "", *parts.values())
    sides = [metrics["splits"][part]["multiclass"] for part in parts]
    table.add_row("[bold]most probable class[/bold]")
    for name, key in _OVER_CLASSES.items():
        table.add_row(f"  {name}", *(format_interval(side[key]) for side in sides))
    table.add_row("[bold]recall of[/bold]")
    for number, row in enumerate(sides[-1]["classes"]):
        table.add_row(
            f"  {escape(row['class'])}", *(format_interval(side["classes"][number]["recall"]) for side in sides)
        )
    return table


def _figures(metrics: dict[str, Any]) -> Table:
    """The positive classes against the rest, at 0.5 and at the threshold."""
    threshold, several = metrics["threshold"], "multiclass" in metrics["splits"]["test"]
    title = f"{metrics['positive_class']} against {metrics['negative_class']}" if several else metrics["title"]
    parts, group = _parts(metrics), metrics["group_name"]
    table = _plain_table(escape(title), "bold", "", *parts.values())
    sides = [metrics["splits"][part] for part in parts]
    table.add_row("AUROC", *(format_interval(side["auroc"]) for side in sides))
    locked = (f"{threshold['threshold']:.4g} ({threshold['rule']})", "at_threshold")
    for name, at in [locked] if threshold["threshold"] == 0.5 else [("0.5", "at_0.5"), locked]:
        table.add_row(f"[bold]at {name}[/bold]")
        for metric in ("accuracy", "sensitivity", "specificity"):
            table.add_row(f"  {metric}", *(format_interval(side[at][metric]) for side in sides))
        if at == "at_threshold" and group != "image":
            table.add_row(f"  {group} recall", *(format_interval(side[at]["group_recall"]) for side in sides))
    return table


def _parts(metrics: dict[str, Any]) -> dict[str, str]:
    """The splits that there are, validation first, and what their columns are called: without it nothing was locked."""
    if "val" not in metrics["splits"]:
        return {"test": "test"}
    return dict(_PARTS)


def _baselines(metrics: dict[str, Any]) -> Table:
    """The model beside the baselines, on test."""
    table = _plain_table("beside baselines, on test", "", "", "AUROC", "model - baseline", "")
    table.add_row(escape(metrics["model"]), format_interval(metrics["splits"]["test"]["auroc"]), "", "")
    for row in metrics["baselines"]:
        verdict = "" if standing(row) == CLEARED else f"[bold]{standing(row)}[/bold]"
        difference = format_interval(row["difference"]["auroc"])
        table.add_row(escape(row["short"]), format_interval(row["auroc"]), difference, verdict)
    return table


def _price(rows: list[dict[str, Any]], group_name: str) -> Table:
    # The rules count groups, the other columns images; without the group column a row could look like a broken promise.
    shown = ("threshold", "group_recall", "sensitivity", "specificity")
    names = ("rule", "threshold", f"recall ({group_name}s)", "sensitivity (images)", "specificity (images)")
    table = _plain_table("price of recall, on validation", "", *names)
    for row in rows:
        table.add_row(row["rule"], *("-" if row[name] is None else f"{row[name]:.4g}" for name in shown))
    return table

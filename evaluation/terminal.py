"""The end of a run in the terminal: a short table, its price, and what to worry about."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from evaluation.intervals import format_interval


def print_results(metrics: dict[str, Any], console: Console | None = None) -> None:
    """Print what metrics.json says, in the order in which it should be read.

    Args:
        metrics: the content of metrics.json.
        console: where to; the terminal if None.
    """
    console = console or Console(highlight=False)
    console.print()
    console.print(_figures(metrics))
    resamples, group = metrics["bootstrap"]["resamples"], metrics["group_name"]
    console.print(f"{metrics['confidence']:.0%} intervals from {resamples:,} resamples of {group}s\n")
    console.print(_price(metrics["threshold"]["price"], metrics["group_name"]))
    if metrics["promise"]:
        console.print(Padding(f"\npromise: {metrics['promise']['sentence']}", 0), markup=False)
    console.print()
    for worry in metrics["worries"]:
        console.print(f"[bold]{worry['level']}: {escape(worry['title'])}[/bold]")
        console.print(Padding(worry["text"], (0, 0, 0, 2)), markup=False)


def _plain_table(title: str, style: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style=style, box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column)
    return table


def _figures(metrics: dict[str, Any]) -> Table:
    threshold = metrics["threshold"]
    table = _plain_table(escape(metrics["title"]), "bold", "", "validation", "test (locked)")
    sides = [metrics["splits"][part] for part in ("val", "test")]
    table.add_row("AUROC", *(format_interval(side["auroc"]) for side in sides))
    for name, at in (("0.5", "at_0.5"), (f"{threshold['threshold']:.4g} ({threshold['rule']})", "at_threshold")):
        table.add_row(f"[bold]at {name}[/bold]", "", "")
        for metric in ("accuracy", "sensitivity", "specificity"):
            table.add_row(f"  {metric}", *(format_interval(side[at][metric]) for side in sides))
    return table


def _price(rows: list[dict[str, Any]], group_name: str) -> Table:
    # The rules count groups, the other columns images; without the group column a row could look like a broken promise.
    shown = ("threshold", "group_recall", "sensitivity", "specificity")
    names = ("rule", "threshold", f"recall ({group_name}s)", "sensitivity (images)", "specificity (images)")
    table = _plain_table("price of recall, on validation", "", *names)
    for row in rows:
        table.add_row(row["rule"], *("-" if row[name] is None else f"{row[name]:.4g}" for name in shown))
    return table

"""The end of ensemble.py in the terminal: every member beside the whole, then the figures of the whole."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluation.ensembles import PAIRED
from evaluation.intervals import format_interval
from evaluation.terminal import print_results
from evaluation.wording import Worry


def print_ensemble(
    metrics: dict[str, Any], console: Console | None = None, *, worries: list[Worry] | None = None
) -> None:
    """Print what metrics.json of an ensemble says.

    Args:
        metrics: the content of metrics.json.
        worries: those of the page; by default those of the metrics alone.
        console: where to; the terminal if None.
    """
    console = console or Console(highlight=False)
    if "splits" in metrics:
        print_results(metrics, console, worries=worries)
    else:
        console.print()
        for item in metrics["worries"]:
            console.print(
                f"[bold]{item['level']}: {escape(item['title'])}[/bold]\n  {escape(item['text'])}", soft_wrap=True
            )
    table = members_table(metrics)
    # A table that is wider than the terminal is better scrolled than folded.
    wide = Console(
        width=max(console.width, Console(width=1000).measure(table).maximum), highlight=False, file=console.file
    )
    wide.print()
    wide.print(table)
    if "splits" not in metrics:  # else it is part of a note above
        console.print(f"\n{escape(metrics['ensemble']['sentence'])}", soft_wrap=True)


def members_table(metrics: dict[str, Any]) -> Table:
    """One row a run, their mean and sd, the whole with its intervals, and the difference to the best single run."""
    held = metrics["ensemble"]
    folds = held["kind"] == "folds"
    names = list(held["figures"])
    title = f"{escape(metrics['title'])}; test figures, each at its own threshold"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("run", "fold" if folds else "seed", *names, "threshold"):
        table.add_column(column, no_wrap=True)
    for number, row in enumerate(held["members"]):
        best = "  best on validation" if number == held.get("best") else ""
        values = [_value(row["figures"][name]["value"]) for name in names]
        table.add_row(
            escape(row["run"]), str(row["fold" if folds else "seed"]), *values, f"{row['threshold']:.4g}{best}"
        )
    table.add_row("mean (sd)", "", *(_spread(held["spread"][name]) for name in names), "")
    whole = "all folds pooled" if folds else "ensemble"
    threshold = "of each fold" if folds else f"{metrics['threshold']['threshold']:.4g}"
    table.add_row(f"[bold]{whole}[/bold]", "", *(format_interval(held["figures"][name]) for name in names), threshold)
    if held.get("differences"):
        paired = {name: held["differences"].get(key) for name, key in PAIRED.items()}
        ours = [format_interval(paired[name]) if paired.get(name) else "" for name in names]
        table.add_row("ensemble - best single", "", *ours, "")
    if held.get("official"):
        ours = [format_interval(held["official"][name]) for name in names]
        table.add_row("[bold]ensemble, official test[/bold]", "", *ours, f"{metrics['threshold']['threshold']:.4g}")
    return table


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _spread(spread: dict[str, Any]) -> str:
    if spread["sd"] is None:
        return _value(spread["mean"])
    return f"{spread['mean']:.3f} ({spread['sd']:.3f})"

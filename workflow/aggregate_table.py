"""The end of ``evaluate.py aggregate=`` in the terminal: one row a configuration, the best one, and what to do next."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluation.intervals import format_interval


def print_aggregate(content: dict[str, Any], console: Console | None = None) -> None:
    """Print what aggregate.json says.

    Args:
        content: of :func:`workflow.aggregating.aggregate_runs`. ``console``: where to; the terminal if None.
    """
    console = console or Console(highlight=False)
    table = _table(content)
    # A table that is wider than the terminal is better scrolled than folded.
    wide = Console(
        width=max(console.width, Console(width=1000).measure(table).maximum), highlight=False, file=console.file
    )
    wide.print()
    wide.print(table)
    console.print(f"\n[bold]{escape(content['headline'])}[/bold]", soft_wrap=True)
    for item in content["worries"]:
        if item["text"] != content["headline"]:
            console.print(
                f"[bold]{item['level']}: {escape(item['title'])}[/bold]\n  {escape(item['text'])}", soft_wrap=True
            )
    for item in content["left_out"]:
        console.print(f"left out: {escape(item['name'])}: {escape(item['reason'])}", soft_wrap=True)
    for item in content["commands"]:
        console.print(f"{item['what']}:\n  {escape(item['command'])}", soft_wrap=True)


def _table(content: dict[str, Any]) -> Table:
    title = f"{escape(content['title'])}; mean (sd) over runs, each at its own threshold"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    by, names = content["best"]["by"], content["figures"]
    for column in ("configuration", "runs", f"val {by}", *(f"test {name}" for name in names)):
        table.add_column(column, no_wrap=True)
    for row in content["configurations"]:
        best = len(content["configurations"]) > 1 and row["number"] == content["best"]["configuration"]
        name = f"[bold]{escape(row['name'])}  best on validation[/bold]" if best else escape(row["name"])
        values = [_spread(row["val"][by]), *(_spread(row["test"][figure]) for figure in names)]
        table.add_row(name, _runs(row), *values)
        held = row["pooled"]["test"]["figures"]
        if held and row["n_runs"] > 1:
            val = row["pooled"]["val"]["figures"]
            shown = format_interval(val[by]) if val else ""
            table.add_row("  pooled", "", shown, *(format_interval(held[figure]) for figure in names))
    return table


def _runs(row: dict[str, Any]) -> str:
    if row["folds"]:
        repeated = f" x {len(row['seeds'])} seeds" if len(row["seeds"]) > 1 else ""
        return f"{len(row['folds'])} of {row['folds_planned']} folds{repeated}"
    return f"{row['n_runs']} {'seed' if row['n_runs'] == 1 else 'seeds'}"


def _spread(spread: dict[str, Any]) -> str:
    if spread["mean"] is None:
        return "-"
    return f"{spread['mean']:.3f}" if spread["sd"] is None else f"{spread['mean']:.3f} ({spread['sd']:.3f})"

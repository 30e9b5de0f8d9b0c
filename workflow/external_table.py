"""The end of an external test in the terminal: own test part and external data of every run, and what changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluation.intervals import format_interval
from evaluation.transfer import COMPARED, seen_in_words


def print_external(content: dict[str, Any], console: Console | None = None) -> None:
    """Print what external.json says.

    Args:
        content: of external.json.
        console: where to; the terminal if None.
    """
    console = console or Console(highlight=False)
    table = external_table(content)
    # A table that is wider than the terminal is better scrolled than folded.
    width = max(console.width, Console(width=1000).measure(table).maximum)
    Console(width=width, highlight=False, file=console.file).print(table)
    for row in content["rows"]:
        console.print(f"\n{escape(row['sentence'])}", soft_wrap=True)
        if row["promise"] is not None and not row["promise"]["kept"]:
            console.print(f"[bold]Promise not kept.[/bold] {escape(row['promise']['sentence'])}", soft_wrap=True)
        if row["seen"]["images"]:
            found = seen_in_words(row["seen"], content["group_name"])
            console.print(
                f"{row['seen']['images']:,} images left out, which this run has seen: {found}.", soft_wrap=True
            )
        if row["seen"]["unchecked"]:
            console.print(f"Pictures were not compared: {escape(row['seen']['unchecked'])}", soft_wrap=True)


def external_table(content: Mapping[str, Any]) -> Table:
    """Two rows a run: its own test part and the external data."""
    title = f"{escape(content['title'])}; each run at its own threshold"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("run", "tested on", "images", "AUROC", "sensitivity", "specificity", "calibration in the large"):
        table.add_column(column, no_wrap=True)
    for row in content["rows"]:
        for side, called in (("own", f"own test: {row['trained_on']}"), ("external", content["tested_on"]["name"])):
            held = row[side]
            if held is not None:
                figures = [format_interval(held[name]) for name in (*COMPARED, "in_the_large")]
                first = row["name"] if side == "own" or row["own"] is None else ""
                table.add_row(escape(first), escape(called), f"{held['n']:,}", *figures)
    return table

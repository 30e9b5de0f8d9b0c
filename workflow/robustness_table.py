"""The end of a robustness test in the terminal: clean, strength 3 and strength 5 of every corruption, and a sentence."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluation.intervals import format_interval

_SHOWN = (3, 5)


def print_robustness(content: dict[str, Any], console: Console | None = None) -> None:
    """Print what robustness.json says.

    Args:
        content: of robustness.json.
        console: where to; the terminal if None.
    """
    console = console or Console(highlight=False)
    table = robustness_table(content)
    # A table that is wider than the terminal is better scrolled than folded.
    width = max(console.width, Console(width=1000).measure(table).maximum)
    Console(width=width, highlight=False, file=console.file).print(table)
    console.print(f"\n{escape(content['findings']['sentence'])}", soft_wrap=True)


def robustness_table(content: dict[str, Any]) -> Table:
    """One row a corruption: sensitivity and specificity at strengths 3 and 5, and where sensitivity drops."""
    images, point = content["images"], content["threshold"]["threshold"]
    title = f"{escape(content['title'])}; {images['n']:,} test images, threshold {point:.4g} as locked"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    columns = [f"{name} at {strength}" for strength in _SHOWN for name in ("sensitivity", "specificity")]
    for column in ("corruption", *columns, "AUROC at 5", "sensitivity drops from"):
        table.add_column(column, no_wrap=True)
    clean = content["clean"]
    own = [format_interval(clean[name]) for name in ("sensitivity", "specificity")]
    table.add_row("[bold]none[/bold]", *own, "", "", format_interval(clean["auroc"]), "")
    for item in content["kinds"]:
        cells = {cell["strength"]: cell for cell in item["cells"]}
        values = [
            _value(cells[strength][name]["value"]) for strength in _SHOWN for name in ("sensitivity", "specificity")
        ]
        first = item["first_drop"]["sensitivity"]
        table.add_row(
            escape(item["title"]),
            *values,
            _value(cells[_SHOWN[-1]]["auroc"]["value"]),
            "-" if first is None else f"strength {first}",
        )
    return table


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

"""The end of a robustness test in the terminal: clean, strength 3 and strength 5 of every corruption, and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_SHOWN = (3, 5)


def print_robustness(content: dict[str, Any], console: Console | None = None) -> None:
    """Print what robustness.json says.

    Args:
        content: of robustness.json.
        console: where to; the terminal if None.
    """
    console = console or Console(highlight=False)
    table = robustness_table(content)
    print_table(table, console)
    console.print(f"\n{escape(content['findings']['sentence'])}")


def print_table(table: Table, console: Console) -> None:
    """Print a table whole: one that is wider than the terminal is better scrolled than cut."""
    width = max(console.width, Console(width=1000).measure(table).maximum)
    Console(width=width, highlight=False, file=console.file).print(table)


def stacked(interval: Mapping[str, Any]) -> str:
    """A figure with its interval below it, so that a table of many figures stays narrow."""
    if interval["value"] is None or interval.get("low") is None or interval.get("high") is None:
        return _value(interval["value"])
    return f"{interval['value']:.3f}\n{interval['low']:.3f}-{interval['high']:.3f}"


def robustness_table(content: dict[str, Any]) -> Table:
    """One row a corruption: sensitivity and specificity at strengths 3 and 5, and where sensitivity drops."""
    images, point = content["images"], content["threshold"]["threshold"]
    title = f"{escape(content['title'])}; {images['n']:,} test images, threshold {point:.4g} as locked"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    columns = [f"{name}\nat {strength}" for strength in _SHOWN for name in ("sensitivity", "specificity")]
    for column in ("corruption", *columns, "AUROC\nat 5", "sensitivity\ndrops from"):
        table.add_column(column, no_wrap=True)
    clean = content["clean"]
    own = [stacked(clean[name]) for name in ("sensitivity", "specificity")]
    table.add_row("[bold]none[/bold]", *own, "", "", stacked(clean["auroc"]), "")
    for item in content["kinds"]:
        cells = {cell["strength"]: cell for cell in item["cells"]}
        values = [
            _value(cells[strength][name]["value"]) for strength in _SHOWN for name in ("sensitivity", "specificity")
        ]
        table.add_row(
            escape(item["title"]),
            *values,
            _value(cells[_SHOWN[-1]]["auroc"]["value"]),
            _drops_from(item, "sensitivity"),
        )
    return table


def _drops_from(item: Mapping[str, Any], metric: str) -> str:
    """The lowest strength with a drop beyond chance, or else the lowest whose drop may be chance."""
    first, sure = item["first_drop"][metric], item["certain_drop"][metric]
    if first is None:
        return "-"
    return f"strength {first}\n(may be chance)" if sure is None else f"strength {sure}"


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

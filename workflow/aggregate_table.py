"""The end of ``evaluate.py aggregate=`` in the terminal: one row a configuration, the best one, and what to do next."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from evaluation.aggregate_page import TILES
from workflow.external_matrix import KIND, print_matrix
from workflow.robustness_table import print_table, stacked

_NAME_WIDTH: Final = 30


def print_aggregate(content: dict[str, Any], console: Console | None = None) -> None:
    """Print what aggregate.json says.

    Args:
        content: of :func:`workflow.aggregating.aggregate_runs`. ``console``: where to; the terminal if None.
    """
    console = console or Console(highlight=False)
    if content["kind"] == KIND:
        print_matrix(content, console)
        return
    console.print()
    print_table(_table(content), console)
    console.print(f"\n[bold]{escape(content['headline'])}[/bold]")
    for item in content["worries"]:
        if item["text"] != content["headline"]:
            console.print(f"[bold]{item['level']}: {escape(item['title'])}[/bold]")
            console.print(Padding(escape(item["text"]), (0, 0, 0, 2)))
    for item in content["left_out"]:
        console.print(f"left out: {escape(item['name'])}: {escape(item['reason'])}")
    for item in content["commands"]:  # one line each, to be copied
        console.print(f"{item['what']}:\n  {escape(item['command'])}", soft_wrap=True)


def _table(content: dict[str, Any]) -> Table:
    title = f"{escape(content['title'])}; mean and sd over runs, each at its own threshold"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    by, names = content["best"]["by"], [name for name in TILES if name in content["figures"]]
    table.add_column("configuration", max_width=_NAME_WIDTH, overflow="fold")
    for column in (f"val\n{by}", *(f"test\n{name}".replace("balanced ", "balanced\n") for name in names)):
        table.add_column(column, no_wrap=True)
    for row in content["configurations"]:
        best = len(content["configurations"]) > 1 and row["number"] == content["best"]["configuration"]
        name = f"[bold]{escape(row['name'])}\nbest on validation[/bold]" if best else escape(row["name"])
        values = [_spread(row["val"][by]), *(_spread(row["test"][name]) for name in names)]
        table.add_row("\n".join([name, _runs(row), *_promises(content, row)]), *values)
        held = row["pooled"]["test"]["figures"]
        if held and row["n_runs"] > 1:
            val = row["pooled"]["val"]["figures"]
            shown = stacked(val[by]) if val else ""
            table.add_row("  pooled", shown, *(stacked(held[name]) for name in names))
    return table


def _promises(content: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """How many runs of a configuration kept what their threshold promised; nothing where none did promise."""
    own = [run["promise"] for run in content["runs"] if run["configuration"] == row["number"] and run["promise"]]
    kept = sum(promise["kept"] for promise in own)
    if not own:
        return []
    return [
        f"promise kept {kept} of {len(own)}" if kept == len(own) else f"[bold]promise kept {kept} of {len(own)}[/bold]"
    ]


def _runs(row: dict[str, Any]) -> str:
    if row["folds"]:
        repeated = f" x {len(row['seeds'])} seeds" if len(row["seeds"]) > 1 else ""
        return f"{len(row['folds'])} of {row['folds_planned']} folds{repeated}"
    return f"{row['n_runs']} {'seed' if row['n_runs'] == 1 else 'seeds'}"


def _spread(spread: dict[str, Any]) -> str:
    if spread["mean"] is None:
        return "-"
    return f"{spread['mean']:.3f}" if spread["sd"] is None else f"{spread['mean']:.3f}\nsd {spread['sd']:.3f}"

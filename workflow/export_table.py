"""The end of an export in the terminal: size, latency and agreement beside PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from workflow.robustness_table import print_table


def print_export(content: dict[str, Any], console: Console | None = None) -> None:
    """Print what export.json says.

    Args:
        content: of :func:`workflow.exporting.export`.
        console: where to; the terminal if None.
    """
    console = console or Console(highlight=False)
    if "check" not in content:
        _print_files(content, console)
        return
    console.print(f"[bold]{escape(content['title'])}[/bold]")
    print_table(_files_table(content), console)
    check = content["check"]
    batches = ", ".join(str(item["batch"]) for item in check["batches"])
    console.print(
        f"\nchecked on {escape(check['images'])}, {batches} at a time: the largest difference of a probability is "
        f"{check['largest_difference']:.2g} (tolerance {content['tolerance']:g}); on drawn images of {len(check['sizes'])} other "
        f"sizes, resized by the file itself, {check['largest_of_sizes']:.2g}"
    )
    if check["reason"]:
        console.print(f"[yellow]no real images: {escape(check['reason'])}[/yellow]")
    if check["decisions_differ"]:
        console.print(
            f"[yellow]{check['decisions_differ']} decisions differ: their scores lie within rounding of the threshold "
            f"{content['threshold']['threshold']:.6g}[/yellow]"
        )
    threshold = content["threshold"]
    console.print(
        f"threshold: locked at {threshold['threshold']:.7g}; the file compares with {threshold['in_graph']:.7g}, so that "
        f"rounding turns no image on the threshold into a miss; {check['on_threshold']:,} of the {check['n']:,} images lie "
        "between the two"
    )
    if "int8" in content:
        _print_int8(content["int8"], console)


def _files_table(content: Mapping[str, Any]) -> Table:
    table = _table(("", "MB", "batch of 1", "batch of 32", "largest\ndifference", "decisions\nthat differ"))
    latency, check = content["latency"], content["check"]
    table.add_row("PyTorch", _megabytes(content["weights_bytes"]), *[_ms(row["torch_ms"]) for row in latency], "", "")
    table.add_row(*_row(content["file"], latency, check, check["n"]))
    if "int8" in content:
        table.add_row(*_row(content["int8"], latency, content["int8"], content["int8"]["n"]))
    return table


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, no_wrap=True, justify="right" if name else "left")
    return table


def _row(
    file: Mapping[str, Any], latency: Sequence[Mapping[str, Any]], check: Mapping[str, Any], n: int
) -> tuple[str, ...]:
    times = [row["files"][file["name"]] for row in latency]
    return (
        escape(file["name"]),
        _megabytes(file["bytes"]),
        *(f"{_ms(time['ms'])} (x {time['ratio']:.2f})" for time in times),
        f"{check['largest_difference']:.1e}",
        f"{check['decisions_differ']} of {n:,}",
    )


def _print_int8(small: Mapping[str, Any], console: Console) -> None:
    figures = small["validation"]
    if figures is not None:
        images = f"{figures['n']:,} validation images, {figures['n_positive']:,} of them positive"
        console.print(f"\n[bold]8-bit weights at the locked threshold[/bold], {images}")
        table = _table(("", "run", "int8", "change"))
        for name, word in (("auroc", "AUROC"), ("recall", "recall"), ("specificity", "specificity")):
            row = figures[name]
            change = "-" if row["change"] is None else f"{row['change']:+.4f}"
            table.add_row(word, _figure(row["run"]), _figure(row["int8"]), change)
        print_table(table, console)
    console.print(f"\n[yellow]{escape(small['warning'])}[/yellow]")


def _print_files(content: Mapping[str, Any], console: Console) -> None:
    console.print(f"[bold]{escape(content['title'])}[/bold]")
    for file in content["files"]:
        console.print(f"  {escape(file['name']):<40}{file['bytes']:>12,} bytes")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f}"


def _ms(value: float) -> str:
    return f"{value:.1f} ms"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

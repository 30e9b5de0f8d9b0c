"""The table that ends a multirun: one row a run, read from the run folders."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

FAILED = "failed"
COLUMNS = (
    "run",
    "overrides",
    "seed",
    "val/auroc",
    "test/auroc",
    "sensitivity",
    "specificity",
    "threshold",
    "best epoch",
)


class SweepTable(Callback):
    """Hydra callback: print and save ``sweep.csv`` when all runs of a multirun have ended."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Collect what the runs left in their folders; a run without metrics is shown as failed."""
        folder = Path(config.hydra.sweep.dir)
        runs = [entry for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
        rows = [_row(run) for run in sorted(runs, key=lambda run: _number(run.name))]
        if not rows:
            return
        _save(rows, folder / "sweep.csv")
        _print(rows, folder)
        failed = [row["run"] for row in rows if row["val/auroc"] == FAILED]
        if failed:
            print(
                f"error: {len(failed)} of {len(rows)} runs failed; the reason is in train.log of: {', '.join(failed)}"
            )
            sys.exit(1)


def _number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (1_000_000, name)


def _row(run: Path) -> dict[str, str]:
    row = {"run": run.name, "seed": "", "overrides": "", "val/auroc": FAILED}
    if not (run / "run.json").is_file():
        return row
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    row |= {"overrides": " ".join(record["overrides"]), "seed": str(record["seeds"]["seed"])}
    if not (run / "metrics.json").is_file():
        return row
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    test = metrics["splits"]["test"]
    return row | {
        "val/auroc": _figure(metrics["splits"]["val"]["auroc"]),
        "test/auroc": _figure(test["auroc"]),
        "sensitivity": _figure(test["at_threshold"]["sensitivity"]),
        "specificity": _figure(test["at_threshold"]["specificity"]),
        "threshold": f"{metrics['threshold']['threshold']:.4f}",
        "best epoch": str(record.get("best_epoch", "")),
    }


def _figure(interval: dict[str, Any]) -> str:
    if interval["value"] is None:
        return "-"
    if interval["low"] is None:
        return f"{interval['value']:.3f}"
    return f"{interval['value']:.3f} ({interval['low']:.3f}-{interval['high']:.3f})"


def _save(rows: list[dict[str, str]], path: Path) -> None:
    beside = path.with_suffix(".tmp")
    with beside.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(beside, path)


def _print(rows: list[dict[str, str]], folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    shared = set.intersection(*(set(row["overrides"].split()) for row in rows))
    table = Table(
        title=f"{len(rows)} runs ({' '.join(sorted(shared)) or 'defaults'}); test figures at each run's own threshold",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    columns = [name for name in COLUMNS if name not in ("overrides", "seed")]
    for column in (columns[0], "differs in", *columns[1:]):
        table.add_column(column, no_wrap=True)
    for row in rows:
        differs = " ".join(item for item in row["overrides"].split() if item not in shared) or f"seed={row['seed']}"
        table.add_row(row["run"], differs, *(row.get(column) or "-" for column in columns[1:]))
    # A table that is wider than the terminal is better scrolled than folded.
    console = Console(width=max(Console().width, Console(width=1000).measure(table).maximum))
    console.print()
    console.print(table)
    console.print(
        f"\nsaved as {folder / 'sweep.csv'}; compare the runs with: tensorboard --logdir {folder}", soft_wrap=True
    )

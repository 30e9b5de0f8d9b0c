"""The table that ends a multirun: one row a run, read from the run folders."""

from __future__ import annotations

import csv
import json
import os
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

FAILED = "failed"
FIGURES = ("val/auroc", "test/auroc", "test/sensitivity", "test/specificity")


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
        failed = [row["run"] for row in rows if row["status"] == FAILED]
        if failed:
            print(
                f"error: {len(failed)} of {len(rows)} runs failed; the reason is in train.log of: {', '.join(failed)}"
            )
            sys.exit(1)


def _number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (1_000_000, name)


def _row(run: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"run": run.name, "seed": "", "overrides": [], "status": FAILED}
    if not (run / "run.json").is_file():
        return row
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    row |= {"overrides": record["overrides"], "seed": record["seeds"]["seed"]}
    if not (run / "metrics.json").is_file():
        return row
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    val, test = metrics["splits"]["val"], metrics["splits"]["test"]
    return row | {
        "status": "finished",
        "val/auroc": val["auroc"],
        "test/auroc": test["auroc"],
        "test/sensitivity": test["at_threshold"]["sensitivity"],
        "test/specificity": test["at_threshold"]["specificity"],
        "threshold": metrics["threshold"]["threshold"],
        "best epoch": record.get("best_epoch"),
    }


def _save(rows: list[dict[str, Any]], path: Path) -> None:
    """One row a run, one number a column: each figure with its lower and upper bound beside it."""
    bounds = [name + suffix for name in FIGURES for suffix in ("", " low", " high")]
    beside = path.with_suffix(".tmp")
    with beside.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(
            stream, ["run", "seed", "overrides", "status", *bounds, "threshold", "best epoch"], restval=""
        )
        writer.writeheader()
        for row in rows:
            flat = {name: value for name, value in row.items() if name not in FIGURES}
            for name in FIGURES:
                if name in row:
                    value = row[name]
                    flat |= {name: value["value"], f"{name} low": value["low"], f"{name} high": value["high"]}
            writer.writerow({**flat, "overrides": " ".join(row["overrides"])})
    os.replace(beside, path)


def _print(rows: list[dict[str, Any]], folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    known = [set(row["overrides"]) for row in rows if row["overrides"]]
    shared = set.intersection(*known) if known else set()
    title = f"{len(rows)} runs ({' '.join(sorted(shared)) or 'defaults'}); test figures at each run's own threshold"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("run", "differs in", *FIGURES, "threshold", "best epoch"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        differs = " ".join(item for item in row["overrides"] if item not in shared) or f"seed={row['seed']}"
        if row["status"] == FAILED:
            table.add_row(row["run"], differs, FAILED)
            continue
        figures = (_figure(row[name]) for name in FIGURES)
        table.add_row(row["run"], differs, *figures, f"{row['threshold']:.4g}", str(row["best epoch"]))
    finished = [row for row in rows if row["status"] != FAILED]
    repeated = _repeated_over(finished)
    if repeated:
        table.add_row(
            "", f"mean (sd over {repeated})", *(_mean([row[name]["value"] for row in finished]) for name in FIGURES)
        )
    # A table that is wider than the terminal is better scrolled than folded.
    console = Console(width=max(Console().width, Console(width=1000).measure(table).maximum), highlight=False)
    console.print()
    console.print(table)
    console.print(f"\nsaved as {folder / 'sweep.csv'}; {_next_step(folder, repeated)}", soft_wrap=True)


def _next_step(folder: Path, repeated: str) -> str:
    """The command that makes more of these runs: their ensemble where they repeat one another, else a comparison."""
    if repeated:
        return f"average the {repeated} with: python ensemble.py runs={shlex.quote(str(folder))}"
    return f"compare the runs with: tensorboard --logdir {shlex.quote(str(folder))}"


def _repeated_over(rows: list[dict[str, Any]]) -> str:
    """``seeds`` or ``folds`` if the runs differ in nothing else, so that their mean says something; else empty."""
    if len(rows) < 2:
        return ""
    for key, word in (("split.fold=", "folds"), ("seed=", "seeds")):
        rest = {tuple(item for item in row["overrides"] if not item.startswith(key)) for row in rows}
        varied = {item for row in rows for item in row["overrides"] if item.startswith(key)}
        if len(rest) == 1 and len(varied) == len(rows):
            return word
    return ""


def _figure(interval: dict[str, Any]) -> str:
    if interval["value"] is None:
        return "-"
    if interval["low"] is None:
        return f"{interval['value']:.3f}"
    return f"{interval['value']:.3f} ({interval['low']:.3f}-{interval['high']:.3f})"


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.3f} ({statistics.stdev(known):.3f})" if len(known) > 1 else "-"

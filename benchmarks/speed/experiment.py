"""``--experiment``: the whole of experiment=pneumonia_cnn_kaggle against the Keras script, by the time of their commands."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import machine as machines
from benchmarks.speed.cases import Case
from benchmarks.speed.data import CaseData, case_data, data_root
from benchmarks.speed.processes import Asked, ContenderFailed, measure, run_process
from conf.output import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results"
EXPERIMENT = "pneumonia_cnn_kaggle"
_ALL = 10**9
_RESAMPLES = 2000


def run(asked: argparse.Namespace, work: Path) -> Path:
    """Run both, in turns; returns the result file, which is written after every process.

    The first run of train.py finds no decoded images: its time includes reading, checking and decoding them all.

    Raises:
        ValueError: if one of them fails; with what it said.
    """
    case = Case("xray224", "simple_cnn", asked.size or 128, asked.images or _ALL)
    options = {name: getattr(asked, name) for name in ("batch", "weights", "accelerator", "phantom_images")}
    epochs = asked.experiment_epochs
    data = case_data(case, work, options | {"epochs": epochs}, whole_test=True)
    machine = machines.facts(asked.keras_python)
    target: Path = asked.out or RESULTS / f"{machines.file_name(machine, asked.accelerator)}-experiment.json"
    result: dict[str, Any] = {
        **{"kind": "experiment", "machine": machine, "epochs": epochs, "phantom": data.phantom},
        **{"test": data.test, "missing": {}, "measurements": []},
    }
    if asked.keras_python is None:
        result["missing"]["keras"] = "no environment with TensorFlow was named by --keras-python"
    fixed = Asked(work, epochs, asked.batch, True, asked.keras_python, None, asked.accelerator, asked.timeout)
    home = work / f"experiment-{time.time_ns()}"
    for number in range(1, asked.rounds + 1):
        result["measurements"].append(_whole_run(case, asked, fixed, home, number))
        write_json(result, target)
        if asked.keras_python is not None:
            result["measurements"].append(_keras(case, data, fixed, number))
            write_json(result, target)
    return target


def experiment_command(case: Case, asked: argparse.Namespace, work: Path, home: Path, run_dir: Path) -> list[str]:
    """What a user would type, with the places of data and run."""
    root, _ = data_root(case.files, work, asked.phantom_images)
    command = [sys.executable, "train.py", f"experiment={EXPERIMENT}", f"data.root={root.resolve()}"]
    command += [f"data.prepared={home}", f"hydra.run.dir={run_dir}", "trainer.progress_bar=false"]
    command += [f"trainer.max_epochs={asked.experiment_epochs}", f"trainer.accelerator={asked.accelerator}"]
    return [*command, *asked.override]


def _whole_run(case: Case, asked: argparse.Namespace, fixed: Asked, home: Path, number: int) -> dict[str, Any]:
    folder = fixed.work / "runs" / f"experiment-{time.time_ns()}"
    folder.mkdir(parents=True)
    started = time.perf_counter()
    print(f"round {number}: train.py experiment={EXPERIMENT}", flush=True)
    try:
        run_process(experiment_command(case, asked, fixed.work, home, folder / "run"), fixed.timeout, folder)
    except ContenderFailed as error:
        raise ValueError(f"train.py failed:\n{error}") from error
    wall = time.perf_counter() - started
    metrics = json.loads((folder / "run" / "metrics.json").read_text(encoding="utf-8"))
    record = json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))
    auroc = metrics["splits"]["test"]["auroc"]
    print(f"    {wall:.0f} s", flush=True)
    return {
        **{"contender": "firstread", "round": number, "wall": wall, "cached": number > 1},
        **{"auroc": auroc["value"], "low": auroc["low"], "high": auroc["high"], "durations": record["durations"]},
    }


def _keras(case: Case, data: CaseData, fixed: Asked, number: int) -> dict[str, Any]:
    print(f"round {number}: Keras, {fixed.epochs} epochs and the scores of the test images", flush=True)
    plain = CaseData([*data.overrides, "augmentation=none"], data.folder, data.training, data.test, data.phantom)
    try:
        found = measure("keras", case, plain, fixed, {"pipeline": "dataset"})
    except ContenderFailed as error:
        raise ValueError(f"the Keras script failed:\n{error}") from error
    print(f"    {found['wall']:.0f} s", flush=True)
    low, high = _interval(np.asarray(found["scores"]), np.asarray(found["targets"]))
    kept = {name: found[name] for name in ("wall", "auroc", "epochs")}
    return {"contender": "keras", "round": number, **kept, "low": low, "high": high}


def _interval(scores: Any, targets: Any) -> tuple[float, float]:
    """95 % percentile interval of the AUROC over resampled images."""
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(0)
    found: list[float] = []
    while len(found) < _RESAMPLES:
        rows = generator.integers(len(targets), size=len(targets))
        if 0 < targets[rows].sum() < len(rows):
            found.append(roc_auc_score(targets[rows], scores[rows]))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def as_markdown(result: dict[str, Any]) -> str:
    """The table of a result in Markdown."""
    lines = [
        f"`experiment={EXPERIMENT}`, {result['epochs']} epochs, on {machines.in_words(result['machine'])}; "
        f"{result['test']:,} test images" + (" of phantom data." if result["phantom"] else "."),
        "",
        "| round | command | wall time, s | test AUROC (95 % interval) |",
        "|---:|---|---:|---:|",
    ]
    names = {
        "firstread": "train.py: training, threshold, test, report",
        "keras": "Keras: training, scores of the test images",
    }
    for entry in result["measurements"]:
        name = names[entry["contender"]]
        if entry["contender"] == "firstread":
            name += "" if entry["cached"] else "; the images are indexed and decoded first"
        auroc = f"{entry['auroc']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})"
        lines.append(f"| {entry['round']} | {name} | {entry['wall']:.0f} | {auroc} |")
    walls = {name: [entry["wall"] for entry in result["measurements"] if entry["contender"] == name] for name in names}
    if all(walls.values()):
        share = statistics.median(walls["firstread"]) / statistics.median(walls["keras"])
        lines.append(f"\ntrain.py takes {share:.2f} of the wall time of the Keras script (medians).")
    lines += [f"\nNot measured: {name} ({reason})." for name, reason in result["missing"].items()]
    return "\n".join(lines) + "\n"

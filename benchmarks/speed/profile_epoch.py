"""``--profile`` and ``--alternate``: one training of train.py, looked at from inside its process."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.speed import machine as machines
from benchmarks.speed.cases import choose_cases
from benchmarks.speed.data import case_data, random_weights
from benchmarks.speed.processes import Asked, ContenderFailed, run_process, task_of
from conf.output import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results"
_EPOCHS = {"profile": 3, "alternate": 12}


def run(asked: argparse.Namespace, work: Path, kind: str) -> Path:
    """Train the first of the chosen cases in a fresh process; returns the result file.

    Args:
        kind: ``profile``: where the time of an epoch goes; ``alternate``: epochs in turns with steps of the network alone.

    Raises:
        ValueError: if the training failed; with what it said.
    """
    case = choose_cases(asked.cases, gpu=asked.accelerator == "gpu", size=asked.size, images=asked.images)[0]
    if asked.weights is None and case.architecture == "mobilenetv2_100":
        asked.weights = random_weights(work)
    options: dict[str, Any] = {
        name: getattr(asked, name) for name in ("batch", "weights", "accelerator", "phantom_images")
    }
    data = case_data(case, work, options | {"epochs": _EPOCHS[kind]})
    fixed = Asked(work, _EPOCHS[kind], asked.batch, False, None, asked.weights, asked.accelerator, asked.timeout)
    folder = work / "runs" / f"{kind}-{time.time_ns()}"
    folder.mkdir(parents=True)
    given, result = folder / "task.json", folder / "result.json"
    given.write_text(json.dumps(task_of(case, data, fixed, {})), encoding="utf-8")
    command = [sys.executable, "-m", f"benchmarks.speed.{kind}_script", str(given), str(result)]
    try:
        run_process(command, asked.timeout, folder)
    except ContenderFailed as error:
        raise ValueError(f"--{kind}: the training failed:\n{error}") from error
    machine = machines.facts(None)
    found = json.loads(result.read_text(encoding="utf-8"))
    target: Path = asked.out or RESULTS / f"{machines.file_name(machine, asked.accelerator)}-{kind}.json"
    about = {"title": case.title, "images": data.training, "phantom": data.phantom}
    write_json({"kind": kind, "machine": machine, "case": about, **found}, target)
    return target

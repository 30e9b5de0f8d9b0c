"""One contender on one case, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.speed.cases import Case
from benchmarks.speed.data import CaseData, resolved_settings
from benchmarks.speed.graphics_card import Utilisation

ROOT = Path(__file__).resolve().parents[2]
_SCRIPTS = {"ceiling": "ceiling_script", "lightning": "lightning_script", "timm": "timm_script"}
_LAST_LINES = 12


class ContenderFailed(Exception):
    """A contender ended with an error; the message is the end of what it said."""


@dataclass(frozen=True)
class Asked:
    """What does not change between contenders.

    Attributes:
        work: folder of the benchmark.
        epochs, batch: of training.
        auroc: score the whole test part.
        keras: the interpreter of a TensorFlow environment, or None.
        weights: of MobileNetV2 under timm's names, or None.
        accelerator: ``cpu`` or ``gpu``.
        timeout: seconds for one process.
    """

    work: Path
    epochs: int
    batch: int
    auroc: bool
    keras: Path | None
    weights: Path | None
    accelerator: str
    timeout: float


def measure(contender: str, case: Case, data: CaseData, asked: Asked, choice: dict[str, Any]) -> dict[str, Any]:
    """Run one contender.

    Args:
        choice: how it is set on this machine: ``workers``, ``channels_last``, ``amp``, ``pipeline``, ``compile``.

    Returns:
        ``epochs`` (pairs of images and seconds of the training part), ``wall`` (seconds of the whole process), and where
        there is such a thing ``auroc``, ``precision``, ``waiting`` (share), ``utilisation`` (of a GPU, 0 to 1).

    Raises:
        ContenderFailed: with what it said last.
    """
    folder = asked.work / "runs" / f"{case.name.replace('/', '-')}-{contender}-{time.time_ns()}"
    folder.mkdir(parents=True)
    started = time.perf_counter()
    with Utilisation(asked.accelerator == "gpu") as card:
        run = _train_py if contender.startswith("firstread") else _script
        found = run(contender, case, data, asked, choice, folder)
    found["wall"] = time.perf_counter() - started
    return found | card.found()


def _train_py(
    contender: str, case: Case, data: CaseData, asked: Asked, choice: dict[str, Any], folder: Path
) -> dict[str, Any]:
    run = folder / "run"
    overrides = [*data.overrides, f"hydra.run.dir={run}"]
    if contender == "firstread_features":
        overrides += ["augmentation=none", "finetune.views=1"]
    if contender == "firstread_compiled":
        overrides.append("trainer.compile=true")
    run_process([sys.executable, "train.py", *overrides], asked.timeout, folder)
    history = pd.read_csv(run / "history.csv")
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = {
        "epochs": [(data.training, data.training / speed) for speed in history["train/images_per_second"]],
        "waiting": float(history["train/data_wait_share"].iloc[1:].median()),
        "precision": record["precision"]["value"],
        "durations": record.get("durations", {}),
    }
    if asked.auroc:
        found["auroc"] = _auroc_of(run)
    return found


def _auroc_of(run: Path) -> float:
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return float(metrics["splits"]["test"]["auroc"]["value"])


def _script(
    contender: str, case: Case, data: CaseData, asked: Asked, choice: dict[str, Any], folder: Path
) -> dict[str, Any]:
    task, result = folder / "task.json", folder / "result.json"
    task.write_text(json.dumps(task_of(case, data, asked, choice)), encoding="utf-8")
    kind = contender.removesuffix("_compiled")
    if kind == "keras":
        command = [str(asked.keras), str(ROOT / "benchmarks" / "speed" / "keras_script.py")]
    else:
        command = [sys.executable, "-m", f"benchmarks.speed.{_SCRIPTS[kind]}"]
    run_process([*command, str(task), str(result)], asked.timeout, folder)
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    if "scores" in found:
        from sklearn.metrics import roc_auc_score

        found["auroc"] = float(roc_auc_score(found["targets"], found["scores"]))
    return found


def task_of(case: Case, data: CaseData, asked: Asked, choice: dict[str, Any]) -> dict[str, Any]:
    """What a script is told; mean, spread and learning rate are those that train.py uses for this case."""
    settings = resolved_settings(data.overrides)
    model, trainer = settings["model"], settings["trainer"]
    rate = settings["finetune"]["head_learning_rate"] if case.frozen else None
    return {
        "network": case.architecture,
        "frozen": case.frozen,
        "size": case.size,
        "channels": case.channels,
        "images": data.training,
        "folder": str(data.folder),
        "batch": asked.batch,
        "epochs": asked.epochs,
        "learning_rate": rate or trainer["learning_rate"],
        "weight_decay": trainer["weight_decay"],
        "augmentation": {name: settings["augmentation"][name] for name in ("rotate", "translate", "scale")}
        | {name: settings["augmentation"][name] for name in ("brightness", "contrast")},
        "weights": str(asked.weights) if asked.weights and case.architecture == "mobilenetv2_100" else None,
        "mean": model["mean"],
        "std": model["std"],
        "auroc": asked.auroc,
        "accelerator": asked.accelerator,
        "seed": 0,
        "choice": choice,
        "overrides": data.overrides,
    }


def run_process(command: list[str], timeout: float, folder: Path) -> None:
    """Run it in the repository's root; its output is kept in the folder.

    Raises:
        ContenderFailed: if it ends with an error or takes longer than ``timeout`` seconds.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        try:
            ended = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise ContenderFailed(f"stopped after {timeout:.0f} s; raise --timeout") from None
        except OSError as error:
            raise ContenderFailed(f"{command[0]}: {error}") from error
    if ended.returncode:
        said = (folder / "output.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise ContenderFailed("\n".join(said[-_LAST_LINES:]) or f"exit status {ended.returncode}")

"""run.json: what is needed to know, years later, what a run was."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "timm",
    "torchmetrics",
    "hydra-core",
    "albumentations",
    "pandas",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "opencv-python-headless",
)


class RunSnapshot(Callback):
    """Writes ``run.json`` when training starts, after every epoch and when the run is finished.

    Args:
        path: of the file.
        facts: plain values known before training (seeds, hashes, precision, command).
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path = path
        self.record: dict[str, Any] = {
            "status": "running",
            "version": _version("firstread"),
            "started": _now(),
            "finished": None,
            "durations": {},
            **facts,
            "packages": {name: _version(name) for name in PACKAGES},
            "python": platform.python_version(),
            "hardware": hardware(),
            "git": git_state(Path(__file__).resolve().parent),
        }
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            self.record["started"] = before["started"]
            self.record["overrides"] = before.get("overrides", [])
            self.record["command"] = before.get("command", "")
            self.record["model_notes"] = before.get("model_notes", [])
            self.record["resumed"] = [*before.get("resumed", []), _now()]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The record exists before the first step, so that an interrupted run has one too."""
        self.record["parameters"] = sum(parameter.numel() for parameter in pl_module.parameters())
        machine = getattr(trainer.datamodule, "machine", None)  # type: ignore[attr-defined]
        if machine is not None:
            self.record["machine"] = machine.facts
            self.record["hardware"]["threads"] = torch.get_num_threads()
        self.write()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the number of epochs current."""
        self.record["epochs_run"] = trainer.current_epoch + 1
        self.write()

    def update(self, **facts: Any) -> None:
        """Add facts that are known only after training."""
        self.record.update(facts, finished=_now())
        self.write()

    def finish(self) -> None:
        """Mark the run as finished: everything it leaves has been written, and nothing will be overwritten."""
        self.record["status"] = "finished"
        self.write()

    def write(self) -> None:
        """Replace the file as a whole."""
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        beside.write_text(json.dumps(self.record, indent=2) + "\n", encoding="utf-8")
        os.replace(beside, self.path)


def mark(path: Path, status: str) -> None:
    """Set the status of a run that ended early (``interrupted`` or ``failed``); nothing happens where there is no record."""
    if path.is_file():
        record = {**json.loads(path.read_text(encoding="utf-8")), "status": status}
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        os.replace(beside, path)


def hardware() -> dict[str, Any]:
    """Processor, cores, memory and GPU of this machine; values that cannot be found are None."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ram_gb": _memory_gb(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.release()}",
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and whether files differ from it; None outside a repository or without git."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _memory_gb() -> float | None:
    if sys.platform == "win32" or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)

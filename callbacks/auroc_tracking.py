"""AUROC tracking: the history of a run, epoch by epoch, and which epoch was best."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
from pytorch_lightning import Callback, LightningModule, Trainer

from callbacks.checkpoints import MONITOR, mode_of


class AUROCTracker(Callback):
    """Keeps one row an epoch, writes it to ``history.csv`` and remembers the best epoch; survives a resume.

    Args:
        path: the CSV file, replaced after every epoch. Columns: ``epoch`` (from 1), ``stage`` (from 1, where
            there are several) and all logged scalars.
        monitor: the logged value that decides which epoch is best.
    """

    def __init__(self, path: Path, monitor: str = MONITOR) -> None:
        self.path, self.monitor = path, monitor
        self._sign = 1.0 if mode_of(monitor) == "max" else -1.0
        self.history: list[dict[str, float]] = []

    @property
    def best_epoch(self) -> int | None:
        """Epoch (from 1) with the best monitored value, the first of equals; None before the first epoch ended."""
        rows = [row for row in self.history if not math.isnan(row.get(self.monitor, math.nan))]
        if not rows:
            return None
        return int(max(rows, key=lambda row: (self._sign * row[self.monitor], -row["epoch"]))["epoch"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row and save the history."""
        scalars = {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
        stages = list(getattr(pl_module, "stages", []))
        number = {"stage": float(stages.index(pl_module.stage) + 1)} if len(stages) > 1 else {}
        self.history.append({"epoch": float(trainer.current_epoch + 1), **number, **scalars})
        frame = pd.DataFrame(self.history)
        frame["epoch"] = frame["epoch"].astype(int)
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        frame.to_csv(beside, index=False)
        os.replace(beside, self.path)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.history = list(state_dict["history"])

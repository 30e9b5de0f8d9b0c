"""Train as train.py does, and after each epoch time as many steps of the network alone, on a batch in memory.

Both halves of a pair are seconds apart in one process, so a machine that is faster or slower for a minute cannot tell them apart.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning

from benchmarks.speed.ceiling_script import Steps
from benchmarks.speed.peer import task
from benchmarks.speed.profile_script import prepared_training


class InTurns(lightning.Callback):
    """Times the training part of every epoch as the epoch line does, and the same number of plain steps before the next.

    Args:
        step: of the network alone.
    """

    def __init__(self, step: Steps) -> None:
        self.step = step
        self.epochs: list[float] = []
        self.alone: list[float] = []
        self._began = self._ended = 0.0
        self._steps = 0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The clock starts before the loader does."""
        self._began, self._steps = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The last of these ends the training part."""
        self._steps += 1
        self.step.wait()
        self._ended = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The other half of the pair."""
        self.epochs.append(self._ended - self._began)
        started = time.perf_counter()
        for _ in range(self._steps):
            self.step()
        self.step.wait()
        self.alone.append(time.perf_counter() - started)


def main() -> None:
    """As many epochs as the task says; the first pair warms up and is left out."""
    asked = task()
    run, fit = prepared_training(asked)
    turns = InTurns(Steps(asked))
    run.callbacks.append(turns)  # type: ignore[attr-defined]
    fit()
    shares = [alone / epoch for alone, epoch in zip(turns.alone[1:], turns.epochs[1:], strict=True)]
    found = {
        "epochs": turns.epochs,
        "alone": turns.alone,
        "shares": shares,
        "share": statistics.median(shares),
        "images": asked["images"],
    }
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()

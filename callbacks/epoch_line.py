"""What a person sees while a run trains: a progress bar in a terminal, and one line an epoch."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from tqdm import tqdm

from callbacks.checkpoints import MONITOR, mode_of

BALANCED = "val/balanced_accuracy"  # of tasks with more than two classes
log = logging.getLogger("firstread")


class EpochLine(Callback):
    """Measures images per second and the share of time spent waiting for data, and prints one line an epoch.

    Waiting is the time from the end of a step until the next batch is there, on the device. A GPU is not asked to finish its
    work for that: it has waited if it had nothing left to do when the batch came.

    Args:
        progress_bar: show a bar as well, where the output is a terminal.
        monitor: the logged value that decides which epoch is marked as the best so far.
    """

    def __init__(self, progress_bar: bool = True, monitor: str = MONITOR) -> None:
        self.progress_bar, self.monitor = progress_bar, monitor
        self.speeds: list[float] = []
        self._sign = 1.0 if mode_of(monitor) == "max" else -1.0
        self._best = -self._sign * float("inf")
        self._bar: tqdm[Any] | None = None
        self._images = 0
        self._started = self._waited = self._batch_ended = self._ended = 0.0
        self._work_given: Any = None  # an event of the GPU behind the last step

    @property
    def images_per_second(self) -> float | None:
        """Median over epochs of this session, the first left out: it pays for warming up. None before that."""
        speeds = sorted(self.speeds[1:] or self.speeds)
        return speeds[len(speeds) // 2] if speeds else None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and the bar."""
        self._started = self._batch_ended = time.perf_counter()
        self._images, self._waited = 0, 0.0
        self._work_given = torch.cuda.Event() if pl_module.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        total = len(datamodule.splits.rows("train"))
        title = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        quiet = None if self.progress_bar else True  # None: only where the output is a terminal
        self._bar = tqdm(total=total, desc=title, unit=" images", leave=False, disable=quiet, dynamic_ncols=True)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The time since the last batch was spent on getting this one."""
        if self._work_given is None or self._work_given.query():
            self._waited += time.perf_counter() - self._batch_ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images."""
        count = len(batch["target"])
        self._images += count
        if self._bar is not None:
            self._bar.update(count)
        if self._work_given is not None:
            self._work_given.record(torch.cuda.current_stream())
        self._batch_ended = self._ended = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The training part of the epoch is over."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line."""
        seconds = self._ended - self._started
        speed = self._images / seconds if seconds > 0 else 0.0
        self.speeds.append(speed)
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        value = values.get(self.monitor, float("nan"))
        best = self._sign * value > self._sign * self._best  # never true for NaN
        self._best = value if best else self._best
        pl_module.log("train/images_per_second", speed)
        pl_module.log("train/data_wait_share", self._waited / seconds if seconds > 0 else 0.0)
        log.info(
            "epoch %2d/%d  train loss %.4f  val loss %.4f  val %s %.4f %s%s  %4.0f images/s  waiting for data %2.0f %%",
            trainer.current_epoch + 1,
            trainer.max_epochs or 0,
            values.get("train/loss", float("nan")),
            values.get("val/loss", float("nan")),
            "macro AUROC" if BALANCED in values else "AUROC",
            values.get("val/auroc", float("nan")),
            "best" if best else "    ",
            f"  balanced accuracy {values[BALANCED]:.3f}" if BALANCED in values else "",
            speed,
            100 * self._waited / seconds if seconds > 0 else 0.0,
        )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal clean."""
        if self._bar is not None:
            self._bar.close()

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: the best value so far."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self._best = state_dict["best"]

"""Which epoch is best follows trainer.monitor: in the checkpoint, in the history and in the printed line."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch

from callbacks.auroc_tracking import AUROCTracker
from callbacks.checkpoints import MODES, best_and_last, mode_of
from callbacks.epoch_line import EpochLine
from conf.schema import declared_options
from tests.callbacks.tiny_training import TinyData, TinyModule

MONITORS = declared_options()["trainer.monitor"].metadata["choices"]
# One column a monitor; each is best, for the first time, in another epoch.
CURVES = {
    "val/auroc": [0.6, 0.7, 0.9, 0.9, 0.8],
    "val/balanced_accuracy": [0.5, 0.8, 0.7, 0.6, 0.8],
    "val/loss": [0.9, 0.7, 0.6, 0.2, 0.3],
}
BEST = {"val/auroc": 3, "val/balanced_accuracy": 2, "val/loss": 4}


class Scripted(TinyModule):
    """Logs the curves above instead of what it has learnt."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        for name, values in CURVES.items():
            self.log(name, values[self.current_epoch], on_step=False, on_epoch=True, batch_size=1)


def fitted(folder: Path, monitor: str, epochs: int, resume: Path | None = None) -> AUROCTracker:
    tracker = AUROCTracker(folder / "history.csv", monitor)
    trainer = lightning.Trainer(
        callbacks=[EpochLine(False, monitor), tracker, *best_and_last(folder, monitor)],
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Scripted(), datamodule=TinyData(), ckpt_path=resume, weights_only=True)
    return tracker


def test_every_monitor_of_the_configuration_has_a_direction() -> None:
    assert set(MODES) == set(MONITORS)
    assert [mode_of(name) for name in ("val/auroc", "val/balanced_accuracy", "val/loss")] == ["max", "max", "min"]
    with pytest.raises(ValueError, match=r"trainer\.monitor=val/accuracy"):
        mode_of("val/accuracy")


@pytest.mark.parametrize("monitor", MONITORS)
def test_the_best_epoch_follows_the_monitor(tmp_path: Path, monitor: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="firstread"):
        tracker = fitted(tmp_path, monitor, 5)
    assert tracker.best_epoch == BEST[monitor]
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] + 1 == BEST[monitor]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] + 1 == 5
    lines = [record.getMessage() for record in caplog.records if "train loss" in record.getMessage()]
    marked = [number for number, line in enumerate(lines, start=1) if " best" in line]
    assert len(lines) == 5
    assert marked[-1] == BEST[monitor]
    better = [CURVES[monitor][number - 1] for number in marked]
    assert better == sorted(set(better), reverse=mode_of(monitor) == "min")


@pytest.mark.parametrize("monitor", ["val/auroc", "val/loss"])
def test_a_resumed_run_remembers_the_best_value(tmp_path: Path, monitor: str, caplog: pytest.LogCaptureFixture) -> None:
    fitted(tmp_path, monitor, 4)
    before = (tmp_path / "best.ckpt").stat().st_mtime_ns
    with caplog.at_level(logging.INFO, logger="firstread"):
        tracker = fitted(tmp_path, monitor, 5, tmp_path / "last.ckpt")
    assert tracker.best_epoch == BEST[monitor]
    assert (tmp_path / "best.ckpt").stat().st_mtime_ns == before
    assert not [record for record in caplog.records if " best" in record.getMessage()]


def test_epochs_without_a_value_are_never_the_best(tmp_path: Path) -> None:
    tracker = AUROCTracker(tmp_path / "history.csv", "val/loss")
    for epoch, value in enumerate((float("nan"), 0.5, 0.4, 0.4)):
        trainer: Any = SimpleNamespace(current_epoch=epoch, callback_metrics={"val/loss": torch.tensor(value)})
        tracker.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
        assert tracker.best_epoch == (None, 2, 3, 3)[epoch]

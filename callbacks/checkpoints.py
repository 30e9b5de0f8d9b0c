"""Checkpoints that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

MONITOR = "val/auroc"
MODES = {"val/auroc": "max", "val/balanced_accuracy": "max", "val/loss": "min"}


def mode_of(monitor: str) -> str:
    """Whether the largest (``max``) or the smallest (``min``) value of a monitored quantity is the best.

    Raises:
        ValueError: if there is no such quantity.
    """
    if monitor not in MODES:
        raise ValueError(f"trainer.monitor={monitor} is not known. Use one of: {', '.join(MODES)}.")
    return MODES[monitor]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a run killed while saving keeps its previous checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save ``checkpoint`` under ``path``; nobody ever sees a part of it."""
        beside = f"{path}.part"
        super().save_checkpoint(checkpoint, beside, storage_options)
        os.replace(beside, path)


class MovableCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that knows its best file again after the run folder was moved; Lightning's would forget it."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Read the state with every stored path pointing into the folder where the run lies now."""
        here = Path(str(self.dirpath))
        moved = {**state_dict, "dirpath": self.dirpath}
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            if moved.get(name):
                moved[name] = str(here / Path(moved[name]).name)
        moved["best_k_models"] = {
            str(here / Path(path).name): value for path, value in moved.get("best_k_models", {}).items()
        }
        super().load_state_dict(moved)


def best_and_last(folder: Path, monitor: str = MONITOR) -> list[ModelCheckpoint]:
    """Callbacks that keep ``best.ckpt`` (first of equals) and ``last.ckpt`` (end of every epoch).

    They are two, because Lightning's ``save_last`` writes only in epochs in which the best has changed.

    Args:
        folder: where they go.
        monitor: the logged value that decides which epoch is best, see :func:`mode_of`.
    """

    def keeps(filename: str, **options: Any) -> ModelCheckpoint:
        return MovableCheckpoint(
            dirpath=folder,
            filename=filename,
            save_top_k=1,
            auto_insert_metric_name=False,
            enable_version_counter=False,
            save_on_train_epoch_end=True,  # so that the whole epoch, its history row included, is in the file
            **options,
        )

    return [keeps("best", monitor=monitor, mode=mode_of(monitor)), keeps("last", every_n_epochs=1)]


def epochs_done(path: Path) -> int:
    """How many epochs a checkpoint has behind it."""
    return int(torch.load(path, map_location="cpu", weights_only=True)["epoch"]) + 1


FIXED = ("threshold", "calibration")


def store_fixed(path: Path, module: nn.Module) -> None:
    """Make threshold and calibration inside a checkpoint those of the module; nothing is written when they already are.

    Validation is repeated after training with the best weights. On a CPU, and on a GPU in deterministic mode, that gives the
    very same scores; elsewhere the last bit may differ, and the checkpoint must agree with the predictions file.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    state, ours = checkpoint["state_dict"], {name: getattr(module, name).detach().cpu() for name in FIXED}
    if not all(name in state and torch.equal(state[name], value) for name, value in ours.items()):
        state.update(ours)
        AtomicCheckpointIO().save_checkpoint(checkpoint, path)

"""Checkpoints that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint

MONITOR = "val/auroc"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a run killed while saving keeps its previous checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save ``checkpoint`` under ``path``; nobody ever sees a part of it."""
        beside = f"{path}.part"
        super().save_checkpoint(checkpoint, beside, storage_options)
        os.replace(beside, path)


def best_and_last(folder: Path) -> ModelCheckpoint:
    """The callback that keeps ``best.ckpt`` (highest val/auroc, first of equals) and ``last.ckpt`` (end of each epoch)."""
    return ModelCheckpoint(
        dirpath=folder,
        filename="best",
        monitor=MONITOR,
        mode="max",
        save_top_k=1,
        save_last=True,
        auto_insert_metric_name=False,
        enable_version_counter=False,
        save_on_train_epoch_end=True,  # so that the whole epoch, its history row included, is in the file
    )


def store_threshold(path: Path, threshold: float) -> None:
    """Make the threshold inside a checkpoint the given one; nothing is written when it already is.

    Validation is repeated after training with the best weights. On a CPU, and on a GPU in deterministic mode, that gives the
    very same scores; elsewhere the last bit may differ, and the checkpoint must agree with the predictions file.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if float(checkpoint["state_dict"]["threshold"]) != threshold:
        checkpoint["state_dict"]["threshold"] = torch.tensor(threshold, dtype=torch.float64)
        AtomicCheckpointIO().save_checkpoint(checkpoint, path)

"""A network, a module and data that train in a fraction of a second."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from callbacks.checkpoints import AtomicCheckpointIO, best_and_last

IMAGES, BATCH, FEATURES = 20, 4, 6


class Rows(Dataset[dict[str, Tensor]]):
    """Rows of random features; the sign of their sum is the class."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        self.features = torch.randn(IMAGES, FEATURES, generator=generator)
        self.targets = (self.features.sum(dim=1) > 0).long()

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"image": self.features[row], "target": self.targets[row], "row": torch.tensor(row)}


class TinyData(lightning.LightningDataModule):
    """The same rows for training, validation and test, in the same order every time."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = Rows()
        self.manifest = SimpleNamespace(frame=pd.DataFrame({"image_id": [f"image-{row}" for row in range(IMAGES)]}))
        self.splits = SimpleNamespace(rows=lambda part: np.arange(IMAGES))

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(self.rows, batch_size=BATCH)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(self.rows, batch_size=BATCH)

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(self.rows, batch_size=BATCH)


class TinyModule(lightning.LightningModule):
    """What the callbacks rely on: ``network``, ``threshold`` and ``collected()``."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.network = nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
        self.register_buffer("threshold", torch.tensor(float("nan"), dtype=torch.float64))
        self.scores: list[Tensor] = []

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.network(features).float().squeeze(1)
        return logits

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = functional.binary_cross_entropy_with_logits(self(batch["image"]), batch["target"].float())
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=BATCH)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.scores = []

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        logits = self(batch["image"])
        self.scores.append(logits.sigmoid())
        loss = functional.binary_cross_entropy_with_logits(logits, batch["target"].float())
        self.log("val/loss", loss, on_step=False, on_epoch=True, batch_size=BATCH)
        self.log("val/auroc", -loss, on_step=False, on_epoch=True, batch_size=BATCH)

    def on_test_epoch_start(self) -> None:
        self.scores = []

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.scores.append(self(batch["image"]).sigmoid())

    def collected(self) -> tuple[Any, Any]:
        scores = torch.cat(self.scores).double().cpu().numpy()
        return np.arange(IMAGES), np.stack([1 - scores, scores], axis=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=0.05)


def tiny_trainer(folder: Path | None, callbacks: list[lightning.Callback], **options: Any) -> lightning.Trainer:
    """A Trainer with the checkpoints of a run in ``folder``, or without any."""
    plugins = [AtomicCheckpointIO(), *options.pop("plugins", [])]
    chosen = {"max_epochs": 3, "accelerator": "cpu", **options}
    return lightning.Trainer(
        callbacks=[*callbacks, *(best_and_last(folder) if folder else [])],
        plugins=plugins,
        enable_checkpointing=folder is not None,
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **chosen,
    )


def copied(module: nn.Module) -> dict[str, Tensor]:
    """The module's tensors as they are now."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Equal to the bit."""
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name

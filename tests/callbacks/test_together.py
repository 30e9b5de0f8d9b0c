"""Averaging, staged unfreezing and the guard together, around the real module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.averaging import WeightAveraging
from callbacks.finite import FiniteLoss, NotFiniteError
from callbacks.reproducibility import SeedEachStep
from callbacks.unfreezing import StagedUnfreezing
from lightning_modules import ImageClassifier
from tests.callbacks.tiny_training import BATCH, IMAGES, TinyData, assert_same, copied, tiny_trainer

MODEL = {
    "name": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "channels": 1,
    "grey_input": "stem",
    "pooling": "auto",
    "hidden": [],
    "dropout": 0.3,
    "metadata": [],
    "mean": [0.5],
    "std": [0.25],
    "interpolation": "auto",
}
FINETUNE = {
    "name": "two_stage",
    "head_epochs": 1,
    "blocks": 2,
    "block_epochs": 1,
    "frozen_blocks": 0,
    "head_learning_rate": None,
    "layer_decay": 0.5,
    "views": 0,
}
TRAINER = {
    "max_epochs": 3,
    "optimizer": "adamw",
    "learning_rate": 0.01,
    "weight_decay": 0.01,
    "momentum": 0.9,
    "schedule": "cosine",
    "warmup": 0.1,
    "final_rate": 0.01,
    "plateau_patience": 2,
    "gradient_clip": 1.0,
    "monitor": "val/auroc",
    "accumulate": 2,
}


class Images(TinyData):
    """Small random images."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (IMAGES, 1, 32, 32), dtype=torch.uint8, generator=generator)
        self.batches: Any = [
            {"image": pixels[first : first + BATCH], "target": rows % 2, "row": rows}
            for first in range(0, IMAGES, BATCH)
            for rows in [torch.arange(first, first + BATCH)]
        ]

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(self.batches, batch_size=None)

    val_dataloader = train_dataloader


def classifier() -> ImageClassifier:
    torch.manual_seed(0)
    mixing, loss = {"mixup": 0.4, "cutmix": 1.0}, {"name": "focal", "label_smoothing": 0.1, "focal_gamma": 2.0}
    return ImageClassifier(
        MODEL,
        ["A", "B"],
        ["B"],
        TRAINER,
        finetune=FINETUNE,
        loss=loss,
        mixing=mixing,
        class_counts=[10, 10],
        batches_per_epoch=5,
    )


def fitted(folder: Path, epochs: int, start: Path | None = None, averaged: bool = True) -> ImageClassifier:
    module = classifier()
    callbacks: list[lightning.Callback] = [SeedEachStep(0), StagedUnfreezing(module.stages), FiniteLoss()]
    callbacks += [WeightAveraging(0.9)] if averaged else []
    trainer = tiny_trainer(folder, callbacks, max_epochs=epochs, accumulate_grad_batches=2, gradient_clip_val=1.0)
    trainer.fit(module, datamodule=Images(), ckpt_path=start, weights_only=True)
    return module


def test_a_staged_averaged_run_resumes_to_the_bit_and_trains_as_without_averaging(tmp_path: Path) -> None:
    whole = fitted(tmp_path / "whole", 3)
    fitted(tmp_path / "parts", 1)  # stops where the second stage is about to begin
    parts = fitted(tmp_path / "parts", 3, tmp_path / "parts" / "last.ckpt")
    assert_same(copied(whole.network), copied(parts.network))
    content = torch.load(tmp_path / "whole" / "last.ckpt", weights_only=True)
    raw = content["callbacks"]["WeightAveraging"]["raw"]
    assert_same(raw, copied(fitted(tmp_path / "plain", 3, averaged=False).network))
    # What never trained is the same in the raw weights, in their average and at the start.
    start, average, trained = copied(classifier().network), copied(whole.network), {*whole.stages[-1].blocks}
    for block in whole.network.blocks():
        for name in block.parameters:
            assert torch.equal(average[name], raw[name]) == (block.name not in trained), name
            assert torch.equal(average[name], start[name]) == (block.name not in trained), name


def test_weights_that_are_no_numbers_end_a_run_of_the_real_module(tmp_path: Path) -> None:
    module = classifier()
    parameter = module.network.get_parameter(module.network.blocks()[-1].parameters[0])
    parameter.data[0, 0] = float("nan")
    trainer = tiny_trainer(tmp_path, [StagedUnfreezing(module.stages), FiniteLoss()])
    with pytest.raises(NotFiniteError, match=r"epoch 1, batch 1, .*Weights: NOT FINITE in 1 of"):
        trainer.fit(module, datamodule=Images())
    with pytest.raises(NotFiniteError, match="validation scores are not finite for 20 of 20 images"):
        trainer.validate(module, datamodule=Images(), verbose=False)

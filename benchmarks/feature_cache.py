"""Epochs of a frozen network with and without its features kept in a file: epochs a minute, and how far the scores differ.

python benchmarks/feature_cache.py                                  # 1,000 random images of 128 x 128, 3 epochs
python benchmarks/feature_cache.py --images 300 --size 64 --epochs 5 --architecture resnet18
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytorch_lightning as lightning

from callbacks.feature_cache import build_feature_store
from datamodules.datamodule import ImageDataModule
from datamodules.manifest import Manifest
from datamodules.splits import Splits
from models.blocks import BlockNetwork
from models.build import build_network

VALIDATION = 5  # one image in so many validates


class HeadTraining(lightning.LightningModule):
    """Trains the head of a network with random weights, and keeps the scores and times of its epochs."""

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters()
        lightning.seed_everything(0, verbose=False)
        network = build_network(model, outputs=2)
        assert isinstance(network, BlockNetwork)
        self.network = network
        self._settle(model["image_size"])
        self.network.set_trainable(["head"])
        self.scores: list[Tensor] = []
        self.ended: list[float] = []

    def _settle(self, size: int) -> None:
        """Give normalisation layers statistics; without them a random trunk makes the same of every image."""
        for part in self.network.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = None  # the mean over the batches, in place of a moving one
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for _ in range(2):
                self.network.features(torch.rand(16, 3, size, size, generator=generator))

    def trunk_features(self, images: Tensor) -> Tensor:
        """Features of uint8 images."""
        return self.network.features(images.float() / 255)

    def logits(self, batch: dict[str, Tensor]) -> Tensor:
        """Of either kind of batch."""
        features = batch["features"] if "features" in batch else self.trunk_features(batch["image"])
        return self.network.classify(features)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy."""
        return torch.nn.functional.cross_entropy(self.logits(batch), batch["target"])

    def on_validation_epoch_start(self) -> None:
        """Only the last epoch's scores are compared."""
        self.scores = []

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Scores."""
        self.scores.append(self.logits(batch).softmax(dim=1))

    def on_train_epoch_end(self) -> None:
        """An epoch with its validation is over."""
        self.ended.append(time.perf_counter())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam on the head."""
        return torch.optim.Adam([part for part in self.parameters() if part.requires_grad], lr=1e-3)


def random_data(images: int, size: int) -> ImageDataModule:
    """Random colour images of two classes, of which one is a little brighter."""
    generator = np.random.default_rng(0)
    ids = [str(number) for number in range(images)]
    labels = np.array(["a", "b"])[np.arange(images) % 2]
    split = np.where(np.arange(images) // 2 % VALIDATION == 0, "val", "train")
    frame = pd.DataFrame({"image_id": ids, "label": labels, "group_id": ids, "split": split, "sha256": ids})
    manifest = Manifest(frame.assign(path=ids), ("a", "b"))
    pixels = generator.integers(0, 220, (images, size, size, 3), dtype=np.uint8)
    pixels[labels == "b"] += 30
    splits = Splits(frame, manifest.sha256, {})
    return ImageDataModule(manifest, splits, pixels, augmentation={}, batch_size=32, num_workers=0)


def fit(module: HeadTraining, data: ImageDataModule, epochs: int, folder: Path) -> float:
    """Train; returns epochs a minute, validation included, the first one left out where there are several."""
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    started = time.perf_counter()
    trainer.fit(module, datamodule=data)
    if epochs == 1:
        return 60 / (module.ended[0] - started)
    return 60 * (epochs - 1) / (module.ended[-1] - module.ended[0])


def main() -> None:
    """Train the same head twice in this process, and print one row for each way."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=1000)
    arguments.add_argument("--size", type=int, default=128)
    arguments.add_argument("--epochs", type=int, default=3)
    arguments.add_argument("--architecture", default="mobilenetv2_100")
    asked = arguments.parse_args()
    warnings.filterwarnings("ignore")
    settings = {"name": asked.architecture, "image_size": asked.size, "channels": 3, "hidden": [], "dropout": 0.0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain, cached = HeadTraining(settings), HeadTraining(settings)
        without = fit(plain, random_data(asked.images, asked.size), asked.epochs, folder)
        data = random_data(asked.images, asked.size)
        started = time.perf_counter()
        store = build_feature_store(cached, data, views=1, folder=folder)
        building = time.perf_counter() - started
        data.use_features(store, asked.epochs)
        kept = fit(cached, data, asked.epochs, folder)
        scores, others = torch.cat(plain.scores)[:, 1], torch.cat(cached.scores)[:, 1]
        megabytes = store.size / 1e6
    print(
        f"{asked.architecture}, {asked.images:,} images of {asked.size} x {asked.size}, {torch.get_num_threads()} threads"
    )
    print("| features | epochs a minute | once before, s | on disk, MB |")
    print("|---|---|---|---|")
    print(f"| computed in every epoch | {without:,.2f} | 0 | 0 |")
    print(f"| kept in a file | {kept:,.1f} | {building:.1f} | {megabytes:.1f} |")
    print(
        f"\n{kept / without:,.0f} times as fast; validation probabilities, from {float(scores.min()):.3f} to "
        f"{float(scores.max()):.3f}, differ by at most {float((scores - others).abs().max()):.1g}."
    )


if __name__ == "__main__":
    main()

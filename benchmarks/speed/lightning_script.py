"""Plain Lightning: ImageFolder, torchvision transforms and a DataLoader, in float32, as such scripts are written."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder  # type: ignore[import-untyped]
from torchvision.transforms import v2  # type: ignore[import-untyped]

from benchmarks.speed.peer import PlainNetwork, answer, optimiser, scores_of, task


class Classifier(lightning.LightningModule):
    """The module that every tutorial has."""

    def __init__(self, asked: dict[str, Any]) -> None:
        super().__init__()
        self.asked, self.network, self.loss = asked, PlainNetwork(asked), nn.BCEWithLogitsLoss()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Binary cross-entropy."""
        images, targets = batch
        loss: Tensor = self.loss(self.network(images), targets.float())
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam or AdamW."""
        return optimiser(self.network, self.asked)


class Clock(lightning.Callback):
    """Seconds of the training part of each epoch: from its start to the end of its last step, as train.py measures."""

    def __init__(self) -> None:
        self.epochs: list[tuple[int, float]] = []
        self._images, self._started, self._ended = 0, 0.0, 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start."""
        self._images, self._started = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count."""
        self._images += len(batch[1])
        self._ended = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            self._ended = time.perf_counter()
        self.epochs.append((self._images, self._ended - self._started))


def transforms(asked: dict[str, Any], *, training: bool) -> v2.Compose:
    """Resize, the small changes of pose and exposure, and normalisation, in the order of the tutorials."""
    steps: list[Any] = [v2.Grayscale()] if asked["channels"] == 1 else []
    steps.append(v2.Resize((asked["size"], asked["size"])))
    change = asked["augmentation"]
    if training:
        steps += [
            v2.RandomAffine(
                change["rotate"],
                translate=(change["translate"], change["translate"]),
                scale=(1 - change["scale"], 1 + change["scale"]),
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            v2.ColorJitter(brightness=change["brightness"], contrast=change["contrast"]),
        ]
    steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(asked["mean"], asked["std"])]
    return v2.Compose(steps)


def main() -> None:
    """Train some epochs, then score the test images where that is asked."""
    asked = task()
    workers = asked["choice"]["workers"]
    gpu = asked["accelerator"] == "gpu"
    options: dict[str, Any] = {"batch_size": asked["batch"], "num_workers": workers, "pin_memory": gpu}
    training = ImageFolder(f"{asked['folder']}/train", transforms(asked, training=True))
    loader = DataLoader(training, shuffle=True, persistent_workers=workers > 0, **options)
    clock, module = Clock(), Classifier(asked)
    trainer = lightning.Trainer(
        max_epochs=asked["epochs"],
        accelerator=asked["accelerator"],
        devices=1,
        logger=False,
        callbacks=[clock],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    scores = None
    if asked["auroc"]:
        test = ImageFolder(f"{asked['folder']}/test", transforms(asked, training=False))
        device = "cuda" if gpu else "cpu"
        scores = scores_of(module.network.to(device), DataLoader(test, **options), device)
    answer(clock.epochs, scores, precision="32-true")


if __name__ == "__main__":
    main()

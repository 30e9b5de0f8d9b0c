"""ImageClassifier: the LightningModule of every two-class task."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn import functional
from torchmetrics.classification import BinaryAUROC

from models.build import build_network
from models.bundle import to_input

Batch = dict[str, Tensor]


class ImageClassifier(LightningModule):
    """A network with its loss, optimiser and running metrics.

    Hyperparameters are plain numbers, strings, lists and dictionaries, so that every checkpoint loads with ``weights_only``.
    Training may run in mixed precision; validation and test always run in float32, so that scores do not tie on the coarse
    grid of bfloat16 and an exported model reproduces them.

    Args:
        model: settings of the network, as in ``conf/model``.
        classes: the two class names; their order is the order of the class numbers.
        positive: the class whose probability is the score.
        learning_rate, weight_decay: of Adam.

    Attributes:
        threshold: float64 buffer, the operating point; NaN until it has been fixed on validation.
    """

    threshold: Tensor

    def __init__(
        self, model: dict[str, Any], classes: list[str], positive: str, learning_rate: float, weight_decay: float = 0.0
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if len(classes) != 2 or positive not in classes:
            raise ValueError(f"positive={positive!r} must be one of two classes, got {classes}")
        self.network = build_network(model, outputs=1).to(memory_format=torch.channels_last)
        self.positive_index = classes.index(positive)
        self.mean, self.std = float(model["mean"]), float(model["std"])
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.register_buffer("threshold", torch.tensor(float("nan"), dtype=torch.float64))
        self.train_auroc, self.val_auroc, self.test_auroc = BinaryAUROC(), BinaryAUROC(), BinaryAUROC()
        self._rows: list[Tensor] = []
        self._scores: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        """Logit of the positive class, float32, shape ``(n,)``, for uint8 images ``(n, channels, height, width)``."""
        inputs = to_input(images, self.mean, self.std).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.network(inputs)
        return logits.squeeze(1).float()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Binary cross-entropy of one batch."""
        logits, targets = self(batch["image"]), self._positive(batch["target"])
        loss = functional.binary_cross_entropy_with_logits(logits, targets.float())
        self.train_auroc.update(logits.detach().sigmoid(), targets)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(targets))
        self.log("train/auroc", self.train_auroc, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the scores of the epoch before."""
        self._rows, self._scores = [], []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Scores, loss and AUROC of one validation batch."""
        self._evaluate(batch, "val", self.val_auroc)

    def on_test_epoch_start(self) -> None:
        """Forget the scores of the epoch before."""
        self._rows, self._scores = [], []

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Scores, loss and AUROC of one test batch."""
        self._evaluate(batch, "test", self.test_auroc)

    def collected(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Manifest rows and positive-class probabilities of the evaluation epoch just run, in row order.

        Returns:
            ``(rows, scores)``, each of shape ``(n,)``; the scores are exact float32 values held as float64, in [0, 1].
        """
        rows = torch.cat(self._rows).cpu().numpy()
        scores = torch.cat(self._scores).cpu().numpy().astype(np.float64)
        order = np.argsort(rows, kind="stable")
        return rows[order], scores[order]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam; fused where the device has it, which changes speed only."""
        return torch.optim.Adam(
            self.network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )

    def _positive(self, targets: Tensor) -> Tensor:
        return (targets == self.positive_index).long()

    def _evaluate(self, batch: Batch, part: str, auroc: BinaryAUROC) -> None:
        with torch.autocast(self.device.type, enabled=False):
            logits = self(batch["image"])
        targets = self._positive(batch["target"])
        # float32 probabilities, never logits: torchmetrics guesses per batch whether it was given logits.
        scores = logits.sigmoid()
        loss = functional.binary_cross_entropy_with_logits(logits, targets.float())
        auroc.update(scores, targets)
        self._rows.append(batch["row"])
        self._scores.append(scores)
        self.log(f"{part}/loss", loss, on_step=False, on_epoch=True, batch_size=len(targets))
        self.log(f"{part}/auroc", auroc, on_step=False, on_epoch=True)

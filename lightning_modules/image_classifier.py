"""ImageClassifier: the LightningModule of every task."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import BinaryAUROC, MulticlassAccuracy, MulticlassAUROC
from torchmetrics.utilities import dim_zero_cat

from models.build import build_network
from models.bundle import to_input
from models.losses import ClassificationLoss

Batch = dict[str, Tensor]


class ImageClassifier(LightningModule):
    """A network with its loss, optimiser and running metrics.

    Hyperparameters are plain numbers, strings, lists and dictionaries, so that every checkpoint loads with ``weights_only``.
    Training may run in mixed precision; validation and test always run in float32, so that scores do not tie on the coarse
    grid of bfloat16 and an exported model reproduces them.

    Two classes give one logit, of the positive class; more classes give one logit each. AUROC is that of the positive class,
    or the mean over classes of one against the rest.

    Args:
        model: settings of the network, as in ``conf/model``.
        classes: at least two class names; their order is the order of the class numbers.
        positive: the classes whose recall must be kept; exactly one of two.
        learning_rate, weight_decay: of Adam.
        class_counts: training images of each class; needed for the two corrections below only.
        class_weights, logit_adjustment: see :class:`models.losses.ClassificationLoss`.

    Attributes:
        threshold: float64 buffer, the operating point; NaN until it has been fixed on validation.
    """

    threshold: Tensor

    def __init__(
        self,
        model: dict[str, Any],
        classes: list[str],
        positive: list[str],
        learning_rate: float,
        weight_decay: float = 0.0,
        class_counts: list[int] | None = None,
        class_weights: bool = False,
        logit_adjustment: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if len(classes) < 2 or not positive or not set(positive) < set(classes):
            raise ValueError(f"positive={positive} must be some, but not all, of at least two classes, got {classes}")
        self.binary = len(classes) == 2
        self.network = build_network(model, outputs=1 if self.binary else len(classes)).to(
            memory_format=torch.channels_last
        )
        self.positive_index = classes.index(positive[0])
        self.loss = ClassificationLoss(
            class_counts or [1] * len(classes),
            self.positive_index,
            class_weights=class_weights,
            logit_adjustment=logit_adjustment,
        )
        self.mean, self.std = float(model["mean"]), float(model["std"])
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.register_buffer("threshold", torch.tensor(float("nan"), dtype=torch.float64))
        self.train_auroc, self.val_auroc, self.test_auroc = (_auroc(len(classes)) for _ in range(3))
        if not self.binary:
            self.val_balanced_accuracy = MulticlassAccuracy(len(classes), average="macro")
        self._rows: list[Tensor] = []
        self._scores: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32, for uint8 images ``(n, channels, height, width)``: shape ``(n,)`` for two classes, else ``(n, K)``."""
        inputs = to_input(images, self.mean, self.std).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.network(inputs).float()
        return logits.squeeze(1) if self.binary else logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy of one batch."""
        logits, targets = self(batch["image"]), batch["target"]
        loss: Tensor = self.loss(logits, targets)
        self.train_auroc.update(self._scored(logits.detach()), self._labels(targets))
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
        """Manifest rows and class probabilities of the evaluation epoch just run, in row order.

        Returns:
            ``(rows, probabilities)`` of shapes ``(n,)`` and ``(n, K)``; probabilities are exact float32 values held as
            float64, in [0, 1]. Of two classes, the negative one has 1 minus the score of the positive one.
        """
        rows = torch.cat(self._rows).cpu().numpy()
        scores = torch.cat(self._scores).cpu().numpy().astype(np.float64)
        order = np.argsort(rows, kind="stable")
        rows, scores = rows[order], scores[order]
        if self.binary:
            pair = (1.0 - scores, scores) if self.positive_index == 1 else (scores, 1.0 - scores)
            scores = np.stack(pair, axis=1)
        return rows, scores

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam; fused where the device has it, which changes speed only."""
        return torch.optim.Adam(
            self.network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )

    def _scored(self, logits: Tensor) -> Tensor:
        """Probabilities: of the positive class for two classes, else of every class."""
        return logits.sigmoid() if self.binary else logits.softmax(dim=1)

    def _labels(self, targets: Tensor) -> Tensor:
        """What the AUROC metric compares with: 1 for the positive class of two, else the class number."""
        return (targets == self.positive_index).long() if self.binary else targets

    def _evaluate(self, batch: Batch, part: str, auroc: Metric) -> None:
        with torch.autocast(self.device.type, enabled=False):
            logits = self(batch["image"])
        targets = batch["target"]
        # float32 probabilities, never logits: torchmetrics guesses per batch whether it was given logits.
        scores = self._scored(logits)
        auroc.update(scores, self._labels(targets))
        self._rows.append(batch["row"])
        self._scores.append(scores)
        loss = self.loss.plain(logits, targets)
        self.log(f"{part}/loss", loss, on_step=False, on_epoch=True, batch_size=len(targets))
        self.log(f"{part}/auroc", auroc, on_step=False, on_epoch=True)
        if part == "val" and not self.binary:
            self.val_balanced_accuracy.update(scores, targets)
            self.log("val/balanced_accuracy", self.val_balanced_accuracy, on_step=False, on_epoch=True)


class MacroAUROC(MulticlassAUROC):
    """Mean over classes of one-against-rest AUROC; a class without images is left out instead of counting as 0."""

    def compute(self) -> Tensor:  # type: ignore[override]
        """The mean over the classes that have positives and negatives; NaN if there is none."""
        targets = dim_zero_cat(self.target)
        counts = torch.bincount(targets, minlength=self.num_classes)
        judged = (counts > 0) & (counts < len(targets))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics warns of the classes that are left out here
            per_class: Tensor = super().compute()
        return per_class[judged].mean()


def _auroc(classes: int) -> Metric:
    return BinaryAUROC() if classes == 2 else MacroAUROC(classes, average="none")

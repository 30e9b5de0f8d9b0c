"""ImageClassifier: the LightningModule of every task."""

from __future__ import annotations

import math
import warnings
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import BinaryAUROC, MulticlassAccuracy, MulticlassAUROC
from torchmetrics.utilities import dim_zero_cat

from models.build import build_network
from models.bundle import Normalise
from models.losses import ClassificationLoss
from models.mixing import mix
from models.optimisation import build_optimizer, build_schedule
from models.stages import Stage, plan_stages
from models.views import views

Batch = dict[str, Tensor]


class ImageClassifier(LightningModule):
    """A network with its loss, optimiser and running metrics.

    Hyperparameters are plain numbers, strings, lists and dictionaries, so that every checkpoint loads with ``weights_only``.
    Training may run in mixed precision; validation and test always run in float32, so that scores do not tie on the coarse
    grid of bfloat16 and an exported model reproduces them.

    Two classes give one logit, of the positive class; more classes give one logit each. AUROC is that of the positive class,
    or the mean over classes of one against the rest.

    Args:
        model: settings of the network, as in ``conf/model``, with nothing left to fill in.
        classes: at least two class names; their order is the order of the class numbers.
        positive: the classes whose recall must be kept; exactly one of two.
        trainer: settings of optimiser and schedule, as in ``conf/trainer``.
        finetune: which blocks train when, as in ``conf/finetune``.
        loss: as in the section ``loss``. ``imbalance``: of the same name.
        mixing: ``mixup`` and ``cutmix``, the alphas of the section ``augmentation``.
        class_counts: training images of each class; needed where the loss corrects for them.
        tta: views whose mean probability is the score, once training is over: ``none``, ``flip`` or ``dihedral``.
        batches_per_epoch: of training; the schedules are laid out over them.

    Attributes:
        threshold: float64 buffer, the operating point; NaN until it has been fixed on validation.
        calibration: float64 buffer, shape (3,): slope, intercept and temperature of the recalibration; NaN likewise.
        stage: which blocks train now.
    """

    threshold: Tensor
    calibration: Tensor

    def __init__(
        self,
        model: dict[str, Any],
        classes: list[str],
        positive: list[str],
        trainer: dict[str, Any],
        *,
        finetune: dict[str, Any] | None = None,
        loss: dict[str, Any] | None = None,
        imbalance: dict[str, Any] | None = None,
        mixing: dict[str, float] | None = None,
        class_counts: list[int] | None = None,
        tta: str = "none",
        batches_per_epoch: int = 1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if len(classes) < 2 or not positive or not set(positive) < set(classes):
            raise ValueError(f"positive={positive} must be some, but not all, of at least two classes, got {classes}")
        self.binary = len(classes) == 2
        self.options, self.finetune, self.mixing = dict(trainer), finetune or {"name": "none"}, mixing or {}
        self.layout = torch.channels_last if trainer.get("channels_last", True) else torch.contiguous_format
        self.network = build_network(model, outputs=1 if self.binary else len(classes)).to(memory_format=self.layout)
        self.stages = plan_stages(self.finetune, self.options, [block.name for block in self.network.blocks()])
        self.enter_stage(self.stages[0])
        self.classes, self.positive_index = list(classes), classes.index(positive[0])
        correction = {name: value for name, value in (imbalance or {}).items() if name != "weighted_sampler"}
        self.loss = ClassificationLoss(
            class_counts or [1] * len(classes), self.positive_index, **correction, **(loss or {})
        )
        self.normalise = Normalise(model["mean"], model["std"])
        self.tta, self.batches_per_epoch = tta, batches_per_epoch
        self.register_buffer("threshold", torch.tensor(float("nan"), dtype=torch.float64))
        self.register_buffer("calibration", torch.full((3,), float("nan"), dtype=torch.float64))
        cast(Any, self).register_load_state_dict_pre_hook(_without_calibration)
        self.train_auroc, self.val_auroc, self.test_auroc = (_auroc(len(classes)) for _ in range(3))
        self.train_loss = _MeanLoss()
        if not self.binary:
            self.val_balanced_accuracy = MulticlassAccuracy(len(classes), average="macro", validate_args=False)
        self._rows: list[Tensor] = []
        self._scores: list[Tensor] = []

    def forward(self, images: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Logits, float32.

        Args:
            images: uint8 0 to 255, or float32 in that range, shape ``(n, channels, height, width)``.
            metadata: shape ``(n, m)``, for a network whose head takes it.

        Returns:
            Shape ``(n,)`` for two classes, else ``(n, K)``.
        """
        return self._logits(self.network(self._normalised(images), metadata))

    def trunk_features(self, images: Tensor) -> Tensor:
        """Features ``(n, f)``, float32, of the network without its head; for uint8 images as above."""
        features: Tensor = self.network.features(self._normalised(images)).float()
        return features

    def enter_stage(self, stage: Stage) -> None:
        """Let the blocks of this stage train, and no other; the optimiser has to be made anew after that."""
        self.stage = stage
        self.network.set_trainable(stage.blocks)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The training loss of one batch."""
        targets = batch["target"]
        aims, metadata = targets, batch.get("metadata")
        if "features" in batch:
            logits = self._logits(self.network.classify(batch["features"], metadata))
        else:
            images = batch["image"]
            if self.mixing.get("mixup") or self.mixing.get("cutmix"):
                images, aims = mix(images, targets, len(self.classes), **self.mixing)
            logits = self(images, metadata)
        loss: Tensor = self.loss(logits, aims)
        # Of a mixed image, the target that counts here is that of the image which was drawn.
        self.train_auroc.update(self._scored(logits.detach()), self._labels(targets))
        self.train_loss.update(loss.detach(), len(targets))
        # Logging costs more than a small step, and is needed once: values of an epoch are computed after its last batch.
        if self._trainer is None or self._trainer.is_last_batch:
            self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
            self.log("train/auroc", self.train_auroc, on_step=False, on_epoch=True)
        return loss

    def on_fit_start(self) -> None:
        """Compile the network in place, which leaves the names in checkpoints alone."""
        if self.options.get("compile"):
            self.network.compile()

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

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule of the stage, over the parameters that train in it."""
        optimizer = build_optimizer(
            self.network, self.stage, self.options, float(self.finetune.get("layer_decay", 1.0))
        )
        steps = self.stage.epochs * math.ceil(self.batches_per_epoch / self.options.get("accumulate", 1))
        schedule = build_schedule(optimizer, self.options, steps, self.stage.epochs)
        return {"optimizer": optimizer, **({"lr_scheduler": schedule} if schedule else {})}

    def _normalised(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.normalise(images)).contiguous(memory_format=self.layout)

    def _logits(self, outputs: Tensor) -> Tensor:
        return outputs.float().squeeze(1) if self.binary else outputs.float()

    def _scored(self, logits: Tensor) -> Tensor:
        """Probabilities: of the positive class for two classes, else of every class."""
        return logits.sigmoid() if self.binary else logits.softmax(dim=1)

    def _labels(self, targets: Tensor) -> Tensor:
        """What the AUROC metric compares with: 1 for the positive class of two, else the class number."""
        return (targets == self.positive_index).long() if self.binary else targets

    def _evaluate(self, batch: Batch, part: str, auroc: Metric) -> None:
        with torch.autocast(self.device.type, enabled=False):
            logits = self._evaluation_logits(batch)
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

    def _evaluation_logits(self, batch: Batch) -> Tensor:
        """Logits of a batch; once training is over, those of the mean probability over the views of each image."""
        metadata = batch.get("metadata")
        if "features" in batch:
            return self._logits(self.network.classify(batch["features"], metadata))
        # Epochs are scored without views: eight times the work, for a number that only picks the epoch.
        if self.tta == "none" or self._trainer is None or self._trainer.state.fn == TrainerFn.FITTING:
            return cast(Tensor, self(batch["image"], metadata))
        found = [self._scored(self(view, metadata)) for view in views(batch["image"], self.tta)]
        mean = torch.stack(found).mean(dim=0)
        return mean.logit(eps=1e-7) if self.binary else mean.clamp_min(1e-12).log()


def _without_calibration(module: ImageClassifier, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """A checkpoint from before scores were recalibrated: not fitted yet."""
    state.setdefault(f"{prefix}calibration", torch.full((3,), float("nan"), dtype=torch.float64))


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


class _MeanLoss(Metric):
    """Mean of the batches' losses, weighted by their images; it stays on the device until the epoch is over."""

    total: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, loss: Tensor, images: int) -> None:
        """Add the mean loss of a batch of so many images."""
        self.total += loss * images
        self.images += images

    def compute(self) -> Tensor:
        """The mean over the images."""
        return self.total / self.images


def _auroc(classes: int) -> Metric:
    # The checks of arguments look at values, for which a GPU would have to be waited for in every step.
    if classes == 2:
        return BinaryAUROC(validate_args=False)
    return MacroAUROC(classes, average="none", validate_args=False)

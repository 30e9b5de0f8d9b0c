"""Stop at the first loss or score that is no finite number, and say where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

SHOWN = 10  # image ids in a message
PATIENCE = 20  # steps between two looks on a device that computes while Python runs on


class NotFiniteError(ValueError):
    """A loss or a score is NaN or infinite; the message says where and what to try."""


@dataclass(frozen=True)
class _Step:
    """What is kept of a training step until the next look; tensors stay on their device."""

    batch: int
    rows: Tensor
    inputs: Tensor
    loss: Tensor


class FiniteLoss(Callback):
    """Ends a run at a training loss, or at validation or test scores, that are NaN or infinite.

    The loss is looked at before its backward pass. On a CPU that is in every step. Elsewhere a look would make Python wait for
    the device, so the last 20 steps are looked at together; and always before validation and at the end of an epoch, so that no
    checkpoint is written of weights that such a loss has spoilt. float16's loss scaling does no harm: what overflows under it
    are gradients, whose step the scaler leaves out.

    Has to stand before every callback that reads scores.

    Args:
        every: steps between two looks; None: 1 on a CPU, else 20.
    """

    def __init__(self, every: int | None = None) -> None:
        self.every = every
        self._steps: list[_Step] = []
        self._batch: dict[str, Any] = {}
        self._number = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what an earlier fit left."""
        self._steps, self._batch = [], {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember the batch, for the message."""
        self._batch, self._number = batch, batch_idx

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note whether the loss is finite, and look when it is time."""
        floats = [item for item in self._batch.values() if isinstance(item, Tensor) and item.is_floating_point()]
        inputs = torch.ones((), dtype=torch.bool, device=loss.device)
        for item in floats:
            inputs = inputs & item.isfinite().all()
        self._steps.append(_Step(self._number, self._batch["row"], inputs, loss.detach().isfinite().all()))
        self._batch = {}
        if len(self._steps) >= (self.every or (1 if loss.device.type == "cpu" else PATIENCE)):
            self._look(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before weights are judged."""
        self._look(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before weights are saved."""
        self._look(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Scores of NaN can neither be ranked nor thresholded."""
        if not trainer.sanity_checking:
            self._check_scores("validation", trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same for test."""
        self._check_scores("test", trainer, pl_module)

    def _look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise for the first step since the last look whose loss was not finite."""
        steps, self._steps = self._steps, []
        if not steps:
            return
        finite = torch.stack([step.loss for step in steps]).cpu()  # the one place that waits for the device
        if bool(finite.all()):
            return
        at = int(finite.logical_not().nonzero()[0])
        first, later = steps[at], len(steps) - 1 - at
        inputs = bool(first.inputs)
        where = f"epoch {trainer.current_epoch + 1}, batch {first.batch + 1}"
        since = f" ({later} steps later)" if later else ""
        raise NotFiniteError(
            f"the training loss is not finite any more: {where}, after {trainer.global_step} optimiser steps{since}. "
            f"{_images(trainer, first.rows)}. Inputs: {'finite' if inputs else 'NOT FINITE'}. {_weights(pl_module)}. "
            + (_ADVICE if inputs else "Look at the metadata and features of these images.")
        )

    def _check_scores(self, part: str, trainer: Trainer, pl_module: LightningModule) -> None:
        module: Any = pl_module
        rows, probabilities = module.collected()
        bad = ~np.isfinite(probabilities).all(axis=1)
        if not bad.any():
            return
        when = f" after epoch {trainer.current_epoch + 1}" if trainer.state.fn == TrainerFn.FITTING else ""
        raise NotFiniteError(
            f"{part} scores{when} are not finite for {int(bad.sum())} of {len(bad)} images. "
            f"{_images(trainer, torch.from_numpy(rows[bad]))}. {_weights(pl_module)}. {_ADVICE}"
        )


_ADVICE = (
    "Try a lower trainer.learning_rate (a tenth), trainer.gradient_clip=1, a longer trainer.warmup, "
    "or trainer.precision=32."
)


def _images(trainer: Trainer, rows: Tensor) -> str:
    """Number and first ids of the images in these manifest rows."""
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    ids = datamodule.manifest.frame["image_id"].iloc[rows.cpu().numpy()].tolist()
    more = f", and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f"Images ({len(ids)}): {', '.join(map(str, ids[:SHOWN]))}{more}"


def _weights(pl_module: LightningModule) -> str:
    """Whether the network's weights are finite, and where not.

    Running statistics are left out: the forward pass has just put the values in question into them.
    """
    network: Any = pl_module.network
    weights = dict(network.named_parameters())
    bad = [name for name, weight in weights.items() if not bool(weight.isfinite().all())]
    return f"Weights: NOT FINITE in {len(bad)} of {len(weights)} tensors, first {bad[0]}" if bad else "Weights: finite"

"""An exponential moving average of the weights, which is what is validated, kept and handed over."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor


class WeightAveraging(Callback):
    """Averages ``pl_module.network`` over the optimiser's steps; training itself goes on with the raw weights.

    After step t (from 1) the average becomes ``d a + (1 - d) w`` with ``d = min(decay, (1 + t) / (10 + t))``: the warm start of
    TensorFlow's ExponentialMovingAverage, without which the random initial weights would stay in the average for some
    ``1 / (1 - decay)`` steps. Gradients that are accumulated over several batches make one step.

    Running statistics of BatchNorm are averaged like weights: those of the newest raw weights would not fit the activations of
    the average, and it costs no pass over the data. Counters are copied. A frozen parameter is copied too, so that its average
    is equal to it to the bit.

    From the start of validation until the next training batch the network holds the average, raw weights wait aside. So
    validation, ``state_dict`` in every checkpoint, and the network after training are all averaged; raw weights are in this
    callback's own state in the checkpoint, from which a resumed run goes on to the bit. The module's threshold is no part of the
    network and belongs to the average, with whose scores it was chosen.

    Args:
        decay: in (0, 1); 0.999 averages over about the last thousand steps.

    Raises:
        ValueError: if the decay is out of its range.
    """

    def __init__(self, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"trainer.ema={decay} must lie between 0 and 1. Use null to switch it off.")
        self.decay = decay
        self.steps = 0
        self._last_step = 0  # of the trainer
        self._live: dict[str, Tensor] = {}  # the network's own tensors; only ever written in place
        self._average: dict[str, Tensor] = {}
        self._raw: dict[str, Tensor] | None = None  # None: the network holds the raw weights itself
        self._frozen: set[str] = set()  # parameters that rest, and whose average has been made equal to them
        self._restored: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at the initial weights, or where a checkpoint ended: its ``state_dict`` has put the average into the network."""
        network: Any = pl_module.network
        self._live, self._raw = network.state_dict(keep_vars=True), None
        self._average = {name: _wide(tensor).clone() for name, tensor in self._live.items()}
        self._last_step, self.steps, self._frozen = trainer.global_step, 0, set()
        if self._restored:
            _copy(self._restored["average"], self._average)
            _copy(self._restored["raw"], self._live)
            self.steps = self._restored["steps"]
        self._restored = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training goes on with the raw weights."""
        self._show_raw()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The same after a validation in the middle of an epoch."""
        self._show_raw()

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the step into the average, if the batch ended with one."""
        if trainer.global_step == self._last_step:
            return
        self._last_step = trainer.global_step
        self.steps += 1
        moving, averages = [], []
        for name, tensor in self._live.items():
            average, source = self._average[name], tensor.detach()
            if isinstance(tensor, torch.nn.Parameter) and not tensor.requires_grad:
                if name not in self._frozen:  # once: copying a whole frozen trunk may take longer than the head's step
                    average.copy_(source)
                    self._frozen.add(name)
                continue
            self._frozen.discard(name)
            if source.is_floating_point():
                averages.append(average)
                moving.append(source.to(average.dtype))
            else:
                average.copy_(source)
        if averages:
            decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(averages, moving, 1 - decay)  # as torch.optim.swa_utils does

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """While training runs, the average is what is validated."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._show_average()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before the checkpoint callbacks, also in an epoch without validation."""
        self._show_average()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The network is handed over with averaged weights."""
        self._show_average()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Free the memory; the average stays in the network."""
        self._live, self._average, self._raw, self._restored = {}, {}, None, None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """A checkpoint in the middle of an epoch holds the average too."""
        if self._raw is None:
            for name, tensor in self._live.items():
                checkpoint["state_dict"][f"network.{name}"] = self._average[name].to(tensor.dtype)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: raw weights, and the average where the network's own format would round it."""
        if not self._live:
            return {}
        raw = self._raw if self._raw is not None else {name: tensor.detach() for name, tensor in self._live.items()}
        wider = {name: item for name, item in self._average.items() if item.dtype != self._live[name].dtype}
        return {"steps": self.steps, "raw": dict(raw), "average": wider}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint; used when training starts."""
        self._restored = state_dict

    def _show_average(self) -> None:
        if self._raw is None and self._live:
            self._raw = {name: tensor.detach().clone() for name, tensor in self._live.items()}
            _copy(self._average, self._live)

    def _show_raw(self) -> None:
        if self._raw is not None:
            _copy(self._raw, self._live)
            self._raw = None


def _wide(tensor: Tensor) -> Tensor:
    """At least float32: small steps towards the weights would be lost in half precision."""
    tensor = tensor.detach()
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32)) if tensor.is_floating_point() else tensor


@torch.no_grad()
def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    """In place: the optimiser, a compiled network and other callbacks hold the same tensors."""
    for name, tensor in source.items():
        target[name].copy_(tensor)

"""Optimisers with a real step size for every block, and the course of the step size over a stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from models.blocks import BlockNetwork
from models.stages import Stage

NO_DECAY = " no decay"  # ends the names of groups without weight decay
RISE = 0.3  # share of the steps in which one_cycle rises where trainer.warmup is 0
START = 1 / 25  # one_cycle starts at this share of the peak
FALL = 1 / 3  # plateau multiplies the rate by this
DEFAULTS: dict[str, Any] = {
    "optimizer": "adam",
    "weight_decay": 0.0,
    "momentum": 0.9,
    "schedule": "constant",
    "warmup": 0.0,
    "final_rate": 0.01,
    "plateau_patience": 2,
    "gradient_clip": None,
    "monitor": "val/auroc",
}
"""Options of the section ``trainer`` that may be left out, as in the configuration."""


def build_optimizer(
    network: BlockNetwork, stage: Stage, trainer: dict[str, Any], layer_decay: float = 1.0
) -> Optimizer:
    """The optimiser of a stage; it holds exactly the parameters that train in it.

    Every block has up to two groups, named after it (``layer4`` and ``layer4 no decay``); the second has the biases and all
    other parameters of one dimension, which normalisation layers have. A group's ``lr`` is its real peak step size:
    schedulers of torch know nothing of a scale beside it.

    Args:
        network: its blocks, in their order, define the distance from the head.
        stage: which blocks train, and the peak step size of the head.
        trainer: the section of that name: ``optimizer`` (adam: decay is an L2 penalty in the gradient; adamw: decoupled,
            Loshchilov and Hutter 2019; sgd: with Nesterov momentum), ``weight_decay``, ``momentum``, ``gradient_clip``.
        layer_decay: each block before the head trains at this times the rate of the next one, in (0, 1].
    """
    trainer = {**DEFAULTS, **trainer}
    parameters = dict(network.named_parameters())
    blocks = network.blocks()
    groups: list[dict[str, Any]] = []
    for position, block in enumerate(blocks):
        if block.name not in stage.blocks:
            continue
        members = [(name, parameters[name]) for name in block.parameters]
        rate = stage.learning_rate * layer_decay ** (len(blocks) - 1 - position)
        for ending, decay, wanted in (("", trainer["weight_decay"], True), (NO_DECAY, 0.0, False)):
            chosen = [parameter for name, parameter in members if _decays(name, parameter) == wanted]
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay, "name": block.name + ending})
    # Fused kernels change speed only. Lightning cannot clip gradients that a fused optimiser unscales itself.
    fused = trainer["gradient_clip"] is None
    if trainer["optimizer"] == "sgd":
        momentum = trainer["momentum"]
        return SGD(groups, lr=stage.learning_rate, momentum=momentum, nesterov=momentum > 0, fused=fused)
    kind: type[Adam] = AdamW if trainer["optimizer"] == "adamw" else Adam
    return kind(groups, lr=stage.learning_rate, fused=fused)


def block_rates(optimizer: Optimizer, *, peak: bool = False) -> dict[str, float]:
    """Step size of every block that an optimiser of :func:`build_optimizer` trains, from the stem to the head.

    Args:
        peak: the one that the schedule is laid out from, instead of the present one.
    """
    key = "initial_lr" if peak else "lr"
    return {
        group["name"].removesuffix(NO_DECAY): float(group.get(key, group["lr"])) for group in optimizer.param_groups
    }


def carry_over(before: Optimizer, after: Optimizer) -> None:
    """Give ``after`` the running averages and step counts that ``before`` has of the parameters that both train."""
    for group in after.param_groups:
        for parameter in group["params"]:
            if parameter in before.state:
                after.state[parameter] = before.state[parameter]


@dataclass
class Course:
    """Share of the peak step size at every optimiser step of a stage; plain numbers, so that checkpoints load safely.

    Attributes:
        kind: ``constant``, ``cosine`` or ``one_cycle``.
        steps: optimiser steps of the stage; afterwards the share stays at its end value.
        rise: the first steps, in which the share rises to 1: in a line from just above 0, or, for one_cycle, along half a
            cosine from 1/25 (Smith and Topin 2019; the momentum stays as it is).
        final: share at the last step of cosine and one_cycle.
    """

    kind: str
    steps: int
    rise: int
    final: float

    def __call__(self, step: int) -> float:
        """The share, in [0, 1], at a step counted from 0."""
        if step < self.rise:
            if self.kind == "one_cycle":
                return START + (1 - START) * _half_cosine(step / self.rise)
            return (step + 1) / (self.rise + 1)
        if self.kind == "constant":
            return 1.0
        progress = (step - self.rise) / max(1, self.steps - 1 - self.rise)
        return self.final + (1 - self.final) * (1 - _half_cosine(min(1.0, progress)))


def build_schedule(optimizer: Optimizer, trainer: dict[str, Any], steps: int, epochs: int) -> dict[str, Any] | None:
    """The course of the step size over a stage; every group keeps its own ratio to the others.

    Args:
        optimizer: whose groups stand at their peak rates.
        trainer: the section of that name: ``schedule``, ``warmup``, ``final_rate``, ``plateau_patience``, ``monitor``.
        steps: optimiser steps of the stage (not batches, where gradients are accumulated).
        epochs: of the stage.

    Returns:
        What ``configure_optimizers`` returns to Lightning under ``lr_scheduler``; None where the rate never changes.

    Raises:
        ValueError: if plateau is to warm up, or there is no step.
    """
    trainer = {**DEFAULTS, **trainer}
    kind, warmup = trainer["schedule"], trainer["warmup"]
    if steps < 1 or epochs < 1:
        raise ValueError(f"a stage needs at least one step and one epoch, got steps={steps} and epochs={epochs}")
    if kind == "plateau":
        if warmup > 0:
            raise ValueError(
                f"trainer.warmup={warmup:g} cannot be combined with trainer.schedule=plateau. "
                "Set trainer.warmup=0, or choose trainer.schedule=cosine."
            )
        return _plateau(optimizer, trainer)
    if kind == "constant" and warmup == 0:
        return None
    share = RISE if kind == "one_cycle" and warmup == 0 else warmup
    # At least one step is left for the peak, and a warm-up that was asked for is at least one step, where there are two.
    rise = min(steps - 1, math.ceil(share * steps))
    course = Course(kind, steps, rise, trainer["final_rate"])
    return {
        # A plain function is not stored in checkpoints, so a run that is resumed to train longer follows its new course.
        "scheduler": LambdaLR(optimizer, lambda step: course(step)),
        "interval": "step",
        "name": "rate",
    }


def _plateau(optimizer: Optimizer, trainer: dict[str, Any]) -> dict[str, Any]:
    """A third of the rate after more than ``plateau_patience`` epochs in a row that were no better than the best before."""
    monitor = trainer["monitor"]
    scheduler = ReduceLROnPlateau(
        optimizer,
        mode="min" if monitor.endswith("loss") else "max",
        factor=FALL,
        patience=trainer["plateau_patience"],
        threshold=0.0,  # any improvement is one
        threshold_mode="abs",
        min_lr=[trainer["final_rate"] * group["lr"] for group in optimizer.param_groups],
        eps=0.0,  # the rates of early blocks are small on purpose
    )
    return {"scheduler": scheduler, "interval": "epoch", "monitor": monitor, "name": "rate"}


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and not name.endswith("bias")


def _half_cosine(progress: float) -> float:
    """From 0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * progress)) / 2

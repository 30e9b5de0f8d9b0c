"""The stages of a training: which blocks of the network train in which epochs, and at what rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DEFAULTS: dict[str, Any] = {
    "head_epochs": 0,
    "blocks": None,
    "block_epochs": 1,
    "frozen_blocks": 0,
    "head_learning_rate": None,
}
"""Options that a recipe may leave out, as in the configuration."""


@dataclass(frozen=True)
class Stage:
    """Epochs in which the same blocks train.

    Attributes:
        name: what trains, for the log: ``head``, ``layer4 to head``, ``all``.
        first_epoch: counted from 0.
        epochs: how many, at least 1.
        blocks: names of the blocks that train, from the stem to the head.
        learning_rate: peak step size of the last block, the head.
        frozen_trunk: nothing but the head trains, so that the trunk's features of an image stay the same.
    """

    name: str
    first_epoch: int
    epochs: int
    blocks: tuple[str, ...]
    learning_rate: float
    frozen_trunk: bool


def plan_stages(finetune: dict[str, Any], trainer: dict[str, Any], blocks: Sequence[str]) -> list[Stage]:
    """The stages of a recipe, in their order and without gaps; together they last ``max_epochs``.

    Args:
        finetune: the section of that name; what it leaves out is as in ``DEFAULTS``. Recipes: ``none`` trains everything
            from the start; ``frozen`` the head only; ``two_stage`` the head, then the last blocks as well; ``gradual`` one
            more block every ``block_epochs`` (Howard and Ruder 2018); ``lp_ft`` the head, then everything (Kumar et al.
            2022). The first ``frozen_blocks`` never train.
        trainer: the section of that name; ``max_epochs`` and ``learning_rate`` are used.
        blocks: names of the network's blocks, from the stem to the head.

    Raises:
        ValueError: if an option leaves nothing to train, has no effect on the recipe, or needs more epochs than there are.
    """
    finetune = {**DEFAULTS, **finetune}
    recipe = finetune["name"]
    _check_options(finetune, blocks)
    free = list(blocks[finetune["frozen_blocks"] :])
    if recipe == "none":
        starts = [(0, len(free))]
    elif recipe == "frozen":
        starts = [(0, 1)]
    else:
        joining = len(free) - 1 if finetune["blocks"] is None else finetune["blocks"]
        starts = _starts(finetune, joining, trainer["max_epochs"])
    ends = [first for first, _ in starts[1:]] + [trainer["max_epochs"]]
    head_rate = finetune["head_learning_rate"] or trainer["learning_rate"]
    stages = []
    for (first, count), end in zip(starts, ends, strict=True):
        chosen = tuple(free[-count:])
        stages.append(
            Stage(
                name=_name(chosen, blocks),
                first_epoch=first,
                epochs=end - first,
                blocks=chosen,
                learning_rate=float(head_rate if count == 1 and recipe != "none" else trainer["learning_rate"]),
                frozen_trunk=count == 1,
            )
        )
    return stages


def stage_of(stages: Sequence[Stage], epoch: int) -> Stage:
    """The stage that an epoch (from 0) belongs to; the last stage also has all later epochs."""
    return [stage for stage in stages if stage.first_epoch <= epoch][-1]


def _starts(finetune: dict[str, Any], joining: int, epochs: int) -> list[tuple[int, int]]:
    """First epoch of each stage, and how many of the last blocks train in it (the head counts)."""
    recipe, head_epochs = finetune["name"], finetune["head_epochs"]
    if head_epochs >= epochs:
        raise ValueError(
            f"finetune.head_epochs={head_epochs} leaves no epoch for the second stage of finetune={recipe}, because "
            f"trainer.max_epochs={epochs}. Give more epochs, fewer head_epochs, or finetune=frozen to train the head only."
        )
    starts = [(0, 1)] if head_epochs else []
    if recipe != "gradual":
        return [*starts, (head_epochs, joining + 1)]
    every = finetune["block_epochs"]
    needed = head_epochs + (joining - 1) * every + 1
    if needed > epochs:
        raise ValueError(
            f"finetune=gradual needs at least {needed} epochs until {joining} blocks have joined (finetune.head_epochs="
            f"{head_epochs}, finetune.block_epochs={every}), but trainer.max_epochs={epochs}. "
            "Give more epochs, or set finetune.blocks to fewer."
        )
    return [*starts, *((head_epochs + number * every, number + 2) for number in range(joining))]


def _check_options(finetune: dict[str, Any], blocks: Sequence[str]) -> None:
    recipe, frozen, joining = finetune["name"], finetune["frozen_blocks"], finetune["blocks"]
    staged, trunk = recipe in ("two_stage", "gradual", "lp_ft"), len(blocks) - 1
    if frozen > trunk:
        raise ValueError(
            f"finetune.frozen_blocks={frozen} leaves nothing to train: the network has {trunk} blocks before the head "
            f"({', '.join(blocks[:-1])}). Give at most {trunk}."
        )
    if finetune["head_epochs"] and not staged:
        raise ValueError(
            f"finetune.head_epochs={finetune['head_epochs']} has no effect with finetune={recipe}, which has one stage. "
            "Choose finetune=two_stage, gradual or lp_ft, or leave it out."
        )
    if joining is not None and recipe not in ("two_stage", "gradual"):
        raise ValueError(
            f"finetune.blocks={joining} has no effect with finetune={recipe}. "
            "Choose finetune=two_stage or gradual, or leave it out."
        )
    if staged and frozen == trunk:
        raise ValueError(
            f"finetune.frozen_blocks={frozen} leaves no block that could join the head in finetune={recipe}: the network "
            f"has {trunk} before it. Freeze fewer, or choose finetune=frozen."
        )
    if joining is not None and joining > trunk - frozen:
        raise ValueError(
            f"finetune.blocks={joining} is more than the {trunk - frozen} blocks that can join the head: the network has "
            f"{trunk} before it, and finetune.frozen_blocks={frozen}. Give at most {trunk - frozen}, or null for all."
        )


def _name(chosen: tuple[str, ...], blocks: Sequence[str]) -> str:
    if len(chosen) == len(blocks):
        return "all"
    return chosen[-1] if len(chosen) == 1 else f"{chosen[0]} to {chosen[-1]}"

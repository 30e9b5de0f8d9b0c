"""Recipes as stages, and what cannot be a plan."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from conf.schema import FinetuneConfig
from models.stages import DEFAULTS, Stage, plan_stages, stage_of

BLOCKS = ("stem", "layer1", "layer2", "layer3", "head")


def plan(name: str, epochs: int = 12, rate: float = 1e-4, **options: Any) -> list[Stage]:
    return plan_stages({"name": name, **options}, {"max_epochs": epochs, "learning_rate": rate}, BLOCKS)


def shape(stages: list[Stage]) -> list[tuple[int, int, int]]:
    """First epoch, epochs and number of blocks of each stage."""
    return [(stage.first_epoch, stage.epochs, len(stage.blocks)) for stage in stages]


def test_left_out_options_are_those_of_the_configuration() -> None:
    declared = dataclasses.asdict(FinetuneConfig())
    assert {name: declared[name] for name in DEFAULTS} == DEFAULTS


def test_none_trains_everything_and_frozen_the_head() -> None:
    (whole,) = plan("none")
    assert whole == Stage("all", 0, 12, BLOCKS, 1e-4, False)
    (head,) = plan("frozen", head_learning_rate=1e-2)
    assert head == Stage("head", 0, 12, ("head",), 1e-2, True)
    (late,) = plan("none", frozen_blocks=3, head_learning_rate=1e-2)
    assert (late.name, late.blocks, late.learning_rate, late.frozen_trunk) == (
        "layer3 to head",
        BLOCKS[3:],
        1e-4,
        False,
    )
    (last,) = plan("none", frozen_blocks=4)
    assert (last.name, last.frozen_trunk) == ("head", True)


def test_two_stages() -> None:
    head, rest = plan("two_stage", head_epochs=10, blocks=2, head_learning_rate=1e-3)
    assert head == Stage("head", 0, 10, ("head",), 1e-3, True)
    assert rest == Stage("layer2 to head", 10, 2, BLOCKS[2:], 1e-4, False)
    head, rest = plan("two_stage", head_epochs=10)
    assert (head.learning_rate, rest.blocks, rest.name) == (1e-4, BLOCKS, "all")


def test_lp_ft_is_the_head_and_then_everything() -> None:
    assert shape(plan("lp_ft", head_epochs=3)) == [(0, 3, 1), (3, 9, 5)]
    assert shape(plan("lp_ft")) == [(0, 12, 5)]
    assert plan("lp_ft", head_epochs=3, frozen_blocks=1)[1].blocks == BLOCKS[1:]


def test_gradual_goes_from_the_head_downwards_block_by_block() -> None:
    stages = plan("gradual", head_epochs=2, block_epochs=3)
    assert shape(stages) == [(0, 2, 1), (2, 3, 2), (5, 3, 3), (8, 3, 4), (11, 1, 5)]
    assert [stage.blocks[0] for stage in stages] == ["head", "layer3", "layer2", "layer1", "stem"]
    assert [stage.frozen_trunk for stage in stages] == [True, False, False, False, False]
    assert shape(plan("gradual", head_epochs=1, blocks=2)) == [(0, 1, 1), (1, 1, 2), (2, 10, 3)]
    assert shape(plan("gradual", head_epochs=0, blocks=1)) == [(0, 12, 2)]
    kept = plan("gradual", head_epochs=1, frozen_blocks=2)
    assert kept[-1].blocks == BLOCKS[2:]


def test_every_epoch_has_one_stage() -> None:
    stages = plan("gradual", head_epochs=2, block_epochs=2, blocks=3)
    assert [stages.index(stage_of(stages, epoch)) for epoch in range(13)] == [0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 3]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("two_stage", {"head_epochs": 12}, "finetune.head_epochs=12 leaves no epoch .* trainer.max_epochs=12"),
        ("lp_ft", {"head_epochs": 20}, "finetune.head_epochs=20"),
        (
            "gradual",
            {"head_epochs": 2, "block_epochs": 4},
            "at least 15 epochs until 4 blocks .* trainer.max_epochs=12",
        ),
        ("gradual", {"head_epochs": 12, "blocks": 1}, "finetune.head_epochs=12"),
        ("none", {"frozen_blocks": 5}, "finetune.frozen_blocks=5 leaves nothing .* at most 4"),
        ("two_stage", {"frozen_blocks": 4}, "finetune.frozen_blocks=4 leaves no block that could join"),
        ("two_stage", {"blocks": 5}, "finetune.blocks=5 is more than the 4 blocks"),
        ("gradual", {"blocks": 3, "frozen_blocks": 2}, "finetune.blocks=3 is more than the 2 blocks .*frozen_blocks=2"),
        ("none", {"head_epochs": 3}, "finetune.head_epochs=3 has no effect with finetune=none"),
        ("frozen", {"head_epochs": 3}, "finetune.head_epochs=3 has no effect with finetune=frozen"),
        ("lp_ft", {"blocks": 3}, "finetune.blocks=3 has no effect with finetune=lp_ft"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_keys(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plan(name, **options)


def test_gradual_takes_exactly_the_epochs_that_it_says() -> None:
    assert plan("gradual", epochs=15, head_epochs=2, block_epochs=4)[-1].epochs == 1
    with pytest.raises(ValueError, match="at least 15 epochs"):
        plan("gradual", epochs=14, head_epochs=2, block_epochs=4)

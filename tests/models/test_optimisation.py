"""Parameter groups with real rates, and the course of the rate."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conf.schema import TrainerConfig
from models.blocks import HEAD, Block, BlockNetwork
from models.optimisation import DEFAULTS, block_rates, build_optimizer, build_schedule, carry_over
from models.stages import Stage


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are slower on several threads, many times so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Small(BlockNetwork):
    """Two blocks of convolution and normalisation, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.output = nn.Linear(4, 1)

    def blocks(self) -> list[Block]:
        named = (("first", "first"), ("second", "second"), (HEAD, "output"))
        return [
            Block(name, tuple(f"{own}.{key}" for key, _ in getattr(self, own).named_parameters()))
            for name, own in named
        ]

    def trunk_modules(self) -> list[nn.Module]:
        return [self.first, self.second]

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.second(self.first(images)).mean(dim=(2, 3))
        return features

    def classify(self, features: Tensor, metadata: Tensor | None = None) -> Tensor:
        logits: Tensor = self.output(features)
        return logits


def stage(*blocks: str, rate: float = 1e-2) -> Stage:
    return Stage("x", 0, 5, blocks or ("first", "second", "head"), rate, blocks == ("head",))


def network(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small()


def train(module: Small, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        optimizer.zero_grad()
        module(images).square().mean().backward()
        optimizer.step()


def test_left_out_options_are_those_of_the_configuration() -> None:
    declared = dataclasses.asdict(TrainerConfig())
    assert {name: declared[name] for name in DEFAULTS} == DEFAULTS


def test_layer_decay_is_the_real_rate_of_every_group_not_an_inert_scale() -> None:
    """A scale beside one common rate, as timm writes it, is read by nobody (huggingface/pytorch-image-models#2532)."""
    module = network()
    optimizer = build_optimizer(module, stage(), {"weight_decay": 0.1}, layer_decay=0.5)
    found = {group["name"]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert found == {
        "first": (0.0025, 0.1),
        "first no decay": (0.0025, 0.0),
        "second": (0.005, 0.1),
        "second no decay": (0.005, 0.0),
        "head": (0.01, 0.1),
        "head no decay": (0.01, 0.0),
    }
    assert not any("lr_scale" in group for group in optimizer.param_groups)
    assert list(block_rates(optimizer).items()) == [("first", 0.0025), ("second", 0.005), ("head", 0.01)]
    # Adam's first step is the rate itself, whatever the gradient is: the parameters show which rate was used.
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    plain = build_optimizer(module, stage(), {}, layer_decay=0.5)
    train(module, plain, steps=1)
    moved = {
        name: float((parameter - before[name]).detach().abs().max()) for name, parameter in module.named_parameters()
    }
    assert moved["first.1.weight"] == pytest.approx(0.0025, rel=1e-3)
    assert moved["second.1.weight"] == pytest.approx(0.005, rel=1e-3)
    assert moved["output.weight"] == pytest.approx(0.01, rel=1e-3)


def test_biases_and_normalisation_layers_do_not_decay() -> None:
    module = network()
    optimizer = build_optimizer(module, stage(), {"weight_decay": 0.1, "optimizer": "adamw"})
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    decaying = {names[id(p)] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decaying == {"first.0.weight", "second.0.weight", "output.weight"}


@pytest.mark.parametrize("blocks", [("head",), ("second", "head"), ("first", "second", "head")])
def test_the_optimizer_holds_exactly_the_parameters_that_train(blocks: tuple[str, ...]) -> None:
    module = network()
    module.set_trainable(blocks)
    optimizer = build_optimizer(module, stage(*blocks), {}, layer_decay=0.5)
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(parameter) for parameter in module.parameters() if parameter.requires_grad}
    # The distance from the head counts in blocks of the network, not of the stage.
    assert block_rates(optimizer)[blocks[0]] == pytest.approx(1e-2 * 0.5 ** (len(blocks) - 1))


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("adam", torch.optim.Adam, {}),
        ("adamw", torch.optim.AdamW, {"weight_decay": 0.0}),
        ("sgd", torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
    ],
)
def test_groups_leave_the_plain_update_rule_as_it_was_to_the_bit(name: str, kind: Any, options: dict[str, Any]) -> None:
    ours, plain = network(), network()
    optimizer = build_optimizer(ours, stage(), {"optimizer": name, "momentum": 0.8})
    assert type(optimizer) is kind
    train(ours, optimizer)
    train(plain, kind(plain.parameters(), lr=1e-2, fused=True, **options))
    assert not torch.equal(ours.output.weight, network().output.weight)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


def test_weight_decay_of_adam_is_a_penalty_and_of_adamw_a_pull() -> None:
    for name, pull in (("adam", 0.0), ("adamw", 1e-2 * 0.1)):
        module = network()
        before = module.output.weight.detach().clone()
        optimizer = build_optimizer(module, stage(), {"optimizer": name, "weight_decay": 0.1})
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        # Without a gradient from the loss, adamw shrinks in proportion, and adam makes a whole step of the rate towards 0.
        expected = before * (1 - pull) if pull else before - 1e-2 * before.sign()
        assert torch.allclose(module.output.weight, expected, atol=1e-5)


def test_sgd_without_momentum_is_plain() -> None:
    group = build_optimizer(network(), stage(), {"optimizer": "sgd", "momentum": 0.0}).param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.0, False)


def test_gradients_that_are_to_be_clipped_are_not_left_to_a_fused_optimizer() -> None:
    """Lightning refuses to clip for an optimiser that unscales gradients itself, with bfloat16 as well."""
    for name in ("adam", "adamw", "sgd"):
        assert not build_optimizer(network(), stage(), {"optimizer": name, "gradient_clip": 1.0}).param_groups[0][
            "fused"
        ]
        assert build_optimizer(network(), stage(), {"optimizer": name}).param_groups[0]["fused"]


def test_running_averages_are_carried_over_to_the_next_stage() -> None:
    module = network()
    module.set_trainable(["head"])
    first = build_optimizer(module, stage("head"), {})
    train(module, first, steps=4)
    module.set_trainable(["second", "head"])
    second = build_optimizer(module, stage("second", "head", rate=1e-3), {})
    carry_over(first, second)
    assert set(second.state) == {module.output.weight, module.output.bias}
    assert float(second.state[module.output.weight]["step"]) == 4
    train(module, second, steps=1)
    assert float(second.state[module.output.weight]["step"]) == 5
    assert float(second.state[module.second[0].weight]["step"]) == 1


def factors(steps: int, more: int = 3, **trainer: Any) -> list[float]:
    """Rate over peak of the head at each step; all groups must agree."""
    optimizer = build_optimizer(network(), stage(), {}, layer_decay=0.5)
    peaks = [group["lr"] for group in optimizer.param_groups]
    schedule = build_schedule(optimizer, trainer, steps, epochs=1)
    assert schedule is not None and schedule["interval"] == "step"
    found = []
    for _ in range(steps + more):
        shares = [group["lr"] / peak for group, peak in zip(optimizer.param_groups, peaks, strict=True)]
        assert shares == pytest.approx([shares[0]] * len(shares))
        found.append(shares[0])
        optimizer.step()
        schedule["scheduler"].step()
    return found


def test_a_constant_rate_needs_no_schedule() -> None:
    assert build_schedule(build_optimizer(network(), stage(), {}), {}, 10, 1) is None
    assert factors(10, warmup=0.4) == pytest.approx([0.2, 0.4, 0.6, 0.8] + [1.0] * 9)


def test_cosine_rises_in_a_line_and_falls_to_its_end_value() -> None:
    found = factors(20, schedule="cosine", warmup=0.2, final_rate=0.1)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    middle = [0.1 + 0.9 * (1 + math.cos(math.pi * step / 15)) / 2 for step in range(16)]
    assert found[4:20] == pytest.approx(middle)
    assert found[19:] == pytest.approx([0.1] * 4)
    assert factors(1, schedule="cosine", warmup=0.5)[0] == 1.0


def test_one_cycle_starts_low_rises_for_three_tenths_and_falls() -> None:
    found = factors(20, schedule="one_cycle", final_rate=0.0)
    assert found[0] == pytest.approx(1 / 25)
    assert found.index(max(found)) == 6 and max(found) == 1.0
    assert found[:7] == sorted(found[:7]) and found[6:] == sorted(found[6:], reverse=True)
    assert found[19:] == pytest.approx([0.0] * 4)
    assert max(factors(20, schedule="one_cycle", warmup=0.5)[:10]) < 1.0


def test_plateau_falls_by_a_third_until_each_group_is_at_its_end_value() -> None:
    optimizer = build_optimizer(network(), stage(), {}, layer_decay=0.5)
    trainer = {"schedule": "plateau", "plateau_patience": 1, "final_rate": 0.1}
    schedule = build_schedule(optimizer, trainer, 10, 5)
    assert schedule is not None and schedule["monitor"] == "val/auroc" and schedule["interval"] == "epoch"
    rates = []
    for value in (0.7, 0.8, 0.8, float("nan"), 0.8001, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5):
        schedule["scheduler"].step(value)
        rates.append(block_rates(optimizer))
    share = [rate["head"] / 1e-2 for rate in rates]
    assert share == pytest.approx([1, 1, 1, 1 / 3, 1 / 3, 1 / 3, 1 / 9, 1 / 9, 0.1, 0.1, 0.1])
    assert [rate["first"] / 0.0025 for rate in rates] == pytest.approx(share)


@pytest.mark.parametrize(("monitor", "mode"), [("val/loss", "min"), ("val/balanced_accuracy", "max")])
def test_plateau_knows_which_way_is_better(monitor: str, mode: str) -> None:
    optimizer = build_optimizer(network(), stage(), {})
    schedule = build_schedule(optimizer, {"schedule": "plateau", "monitor": monitor}, 10, 5)
    assert schedule is not None and schedule["scheduler"].mode == mode and schedule["monitor"] == monitor


def test_plateau_cannot_warm_up() -> None:
    optimizer = build_optimizer(network(), stage(), {})
    with pytest.raises(ValueError, match=r"trainer.warmup=0.1 cannot be combined with trainer.sched"):
        build_schedule(optimizer, {"schedule": "plateau", "warmup": 0.1}, 10, 5)
    with pytest.raises(ValueError, match="at least one step"):
        build_schedule(optimizer, {"schedule": "cosine"}, 0, 5)


@pytest.mark.parametrize("kind", ["cosine", "one_cycle", "plateau"])
def test_state_of_a_schedule_loads_without_running_code(kind: str) -> None:
    optimizer = build_optimizer(network(), stage(), {})
    schedule = build_schedule(optimizer, {"schedule": kind}, 10, 5)
    assert schedule is not None
    optimizer.step()
    schedule["scheduler"].step(*([torch.tensor(0.7)] if kind == "plateau" else []))
    stream = io.BytesIO()
    torch.save(schedule["scheduler"].state_dict(), stream)
    stream.seek(0)
    state = torch.load(stream, weights_only=True)
    assert state["last_epoch"] == 1
    if kind != "plateau":
        assert set(state["lr_lambdas"]) == {None}, (
            "a stored course would come back when a run is resumed to train longer"
        )

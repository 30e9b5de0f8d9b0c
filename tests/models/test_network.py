"""Architectures of timm as trunks: blocks, pooling, sizes, grey and colour."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from models.backbones import build_trunk, check_architecture, feature_width, trunk_blocks
from models.blocks import BlockNetwork
from models.build import build_network

SETTINGS: dict[str, Any] = {"image_size": 64, "channels": 3, "pooling": "auto", "hidden": [], "dropout": 0.0}


def network(name: str, outputs: int = 1, **changes: Any) -> BlockNetwork:
    return build_network({**SETTINGS, "name": name, **changes}, outputs)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("test_resnet", ["stem", "layer1", "layer2", "layer3", "layer4", "head"]),
        ("test_vit", ["stem", *(f"blocks.{number}" for number in range(6)), "head"]),
        ("test_convnext", ["stem", *(f"stages.{number}" for number in range(4)), "head"]),
        ("mobilenetv2_100", ["stem", *(f"blocks.{number}" for number in range(7)), "head"]),
        ("efficientvit_b0", ["stem", *(f"stages.{number}" for number in range(4)), "neck", "head"]),
        ("levit_128s", ["stem", *(f"stages.{number}" for number in range(3)), "head"]),
    ],
)
def test_blocks_hold_every_parameter_once(name: str, names: list[str]) -> None:
    size = 224 if name == "levit_128s" else 64
    found = network(name, image_size=size)
    blocks = found.blocks()
    assert [block.name for block in blocks] == names
    placed = [parameter for block in blocks for parameter in block.parameters]
    assert sorted(placed) == sorted(key for key, _ in found.named_parameters())
    assert blocks[-1].parameters == ("head.output.weight", "head.output.bias")


def test_normalisation_layers_never_make_a_block_of_their_own() -> None:
    """Else "the last two blocks" of a ConvNeXt would be its last norm and one stage."""
    convnext = network("test_convnext").blocks()
    assert {"trunk.head.norm.weight", "trunk.head.norm.bias"} <= set(convnext[-2].parameters)
    with torch.device("meta"):
        vgg = trunk_blocks(timm.create_model("vgg11_bn", num_classes=0))
    assert vgg[0].parameters[:4] == ("features.0.weight", "features.0.bias", "features.1.weight", "features.1.bias")


def test_an_architecture_without_groups_has_blocks_too() -> None:
    trunk = nn.Sequential()
    for name, part in (("entry", nn.Conv2d(3, 4, 3)), ("norm", nn.BatchNorm2d(4)), ("last", nn.Linear(4, 4))):
        trunk.add_module(name, part)
    assert [(block.name, block.parameters) for block in trunk_blocks(trunk)] == [
        ("stem", ("entry.weight", "entry.bias", "norm.weight", "norm.bias")),
        ("last", ("last.weight", "last.bias")),
    ]


@pytest.mark.parametrize("name", ["rdnet_tiny", "caformer_s18"])
def test_stages_that_timm_does_not_tell_apart_are_blocks(name: str) -> None:
    with torch.device("meta"):
        trunk = timm.create_model(name, num_classes=0)
    blocks = trunk_blocks(trunk)
    assert len(blocks) >= 4
    placed = [parameter for block in blocks for parameter in block.parameters]
    assert sorted(placed) == sorted(key for key, _ in trunk.named_parameters())


def test_features_are_those_of_timm() -> None:
    found = network("test_resnet", outputs=7).eval()
    images = torch.randn(2, 3, 64, 64)
    trunk = found.get_submodule("trunk")
    features = found.features(images)
    assert torch.equal(features, trunk(images))
    assert features.shape == (2, 96)
    assert torch.equal(found(images), found.classify(features))
    assert found(images).shape == (2, 7)


def test_vgg_is_its_convolutions() -> None:
    found = network("vgg11").eval()
    parameters = sum(parameter.numel() for parameter in found.parameters())
    assert parameters == 9_220_480 + 513  # 3x3 convolutions of 3-64-128-256-256-512-512-512-512, and the output
    images = torch.randn(2, 3, 64, 64)
    maps = found.get_submodule("trunk.features")(images)
    assert torch.allclose(found.features(images), maps.mean(dim=(2, 3)), atol=1e-6)
    assert [block.name for block in found.blocks()][:3] == ["stem", "features.3", "features.6"]


def test_pooling() -> None:
    images = torch.randn(2, 3, 64, 64)
    torch.manual_seed(0)
    trunk = build_trunk("test_resnet", 3, 64, "concat").eval()
    maps = trunk.forward_features(images)  # type: ignore[operator]
    expected = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
    assert torch.allclose(trunk(images), expected, atol=1e-6)
    assert feature_width(trunk, "test_resnet", 3, 64) == 192
    assert feature_width(build_trunk("mobilenetv2_100", 3, 64, "max"), "mobilenetv2_100", 3, 64) == 1280


def test_an_impossible_pooling_names_the_possible_ones() -> None:
    with pytest.raises(ValueError, match=r"model\.pooling=concat: test_vit can only do auto, avg, max$"):
        network("test_vit", pooling="concat")


def test_finding_the_width_moves_nothing() -> None:
    trunk = build_trunk("test_resnet", 3, 64)
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    state = torch.get_rng_state()
    assert feature_width(trunk, "test_resnet", 3, 64) == 96
    assert torch.equal(torch.get_rng_state(), state)
    assert trunk.training
    for name, tensor in trunk.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize(
    ("name", "size", "own"), [("test_vit", 65, 160), ("vgg11", 16, 224)], ids=["no whole patches", "pooled away"]
)
def test_an_impossible_size_is_refused(name: str, size: int, own: int) -> None:
    with pytest.raises(ValueError, match=rf"model\.image_size={size}: {name} cannot .* made for {own}\. Set model\.im"):
        network(name, image_size=size)


def test_a_transformer_takes_the_size_that_is_asked_for() -> None:
    assert network("test_vit", image_size=96)(torch.randn(1, 3, 96, 96)).shape == (1, 1)


def test_grey_images() -> None:
    summed = network("test_resnet", channels=1)
    assert next(summed.parameters()).shape[1] == 1
    repeating = network("test_resnet", channels=1, grey_input="repeat").eval()
    assert next(repeating.parameters()).shape[1] == 3
    grey = torch.randn(2, 1, 64, 64)
    assert torch.equal(repeating.features(grey), repeating.get_submodule("trunk")(torch.cat([grey] * 3, dim=1)))


def test_a_frozen_trunk_does_not_move_in_training() -> None:
    found = network("test_resnet").train()
    found.set_trainable(["head"])
    before = {name: tensor.clone() for name, tensor in found.state_dict().items()}
    images = torch.randn(4, 3, 64, 64)
    first = found.features(images)
    assert not first.requires_grad
    assert torch.equal(first, found.features(images))
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_an_unknown_architecture_lists_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"model\.name=resnet_51: .*nearest: .*resnet50"):
        build_network({**SETTINGS, "name": "resnet_51"}, 1)
    with pytest.raises(ValueError, match="simple_cnn"):
        check_architecture("simplecnn")


def test_an_unknown_kind_of_weights_lists_those_there_are() -> None:
    check_architecture("resnet18.a1_in1k")
    with pytest.raises(ValueError, match=r"resnet18 has no weights of that name; there are: .*resnet18\.a1_in1k"):
        check_architecture("resnet18.imagenet")


def test_the_baseline_on_features_has_the_network_of_its_backbone() -> None:
    found = build_network({**SETTINGS, "name": "baseline_features", "backbone": "test_resnet"}, 2)
    assert found.features(torch.randn(2, 3, 64, 64)).shape == (2, 96)

"""The small CNN is the one of the source document."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.build import build_network
from models.simple_cnn import SimpleCNN

SETTINGS = {"name": "simple_cnn", "image_size": 16, "channels": 1, "filters": [4, 8], "hidden": [8], "dropout": 0.5}


def test_parameters_and_layers() -> None:
    model = SimpleCNN()
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_705_345
    kinds = [type(layer).__name__ for layer in model.modules() if not list(layer.children())]
    assert kinds == [
        "Conv2d",
        "MaxPool2d",
        "ReLU",
        "Conv2d",
        "MaxPool2d",
        "ReLU",
        "Flatten",
        "Linear",
        "ReLU",
        "Dropout",
        "Linear",
    ]


def test_the_order_of_relu_and_pooling_changes_no_bit() -> None:
    torch.manual_seed(0)
    model = SimpleCNN(image_size=32, dropout=0.0)
    convolutions = [layer for layer in model.trunk if isinstance(layer, nn.Conv2d)]
    as_written = [part for layer in convolutions for part in (layer, nn.ReLU(), nn.MaxPool2d(2))]
    documented = nn.Sequential(*as_written, nn.Flatten())
    images = torch.rand(8, 1, 32, 32)
    found = []
    for trunk in (model.trunk, documented):
        model.zero_grad()
        logits = model.classify(trunk(images))
        nn.functional.softplus(logits).sum().backward()
        found.append([logits.detach().clone(), *(part.grad.clone() for part in model.parameters())])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("size", "channels", "outputs"), [(128, 1, 1), (64, 3, 7), (50, 1, 2)])
def test_size_and_channels_are_parameters(size: int, channels: int, outputs: int) -> None:
    model = SimpleCNN(image_size=size, channels=channels, outputs=outputs)
    assert model(torch.zeros(2, channels, size, size)).shape == (2, outputs)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.image_size=8 is too small"):
        SimpleCNN(image_size=8, filters=(4, 4, 4))


def test_blocks_hold_every_parameter_once() -> None:
    model = build_network({**SETTINGS, "filters": [4, 8, 4], "image_size": 30, "metadata_width": 2}, 3)
    blocks = model.blocks()
    assert [block.name for block in blocks] == ["conv1", "conv2", "conv3", "head"]
    assert sorted(name for block in blocks for name in block.parameters) == sorted(
        name for name, _ in model.named_parameters()
    )
    assert model(torch.zeros(2, 1, 30, 30), torch.zeros(2, 2)).shape == (2, 3)


def test_a_frozen_convolution_rests() -> None:
    model = build_network(SETTINGS, 1)
    model.set_trainable(["conv2", "head"])
    model(torch.rand(2, 1, 16, 16)).sum().backward()
    resting = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert resting == {"trunk.0.weight", "trunk.0.bias"}


def test_fresh_weights_are_drawn_as_they_always_were() -> None:
    """The layers as version 0.1 stacked them, with the same seed: the same numbers, so that results do not move."""
    torch.manual_seed(7)
    before = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3), nn.Linear(2 * 2 * 8, 8), nn.Linear(8, 1))
    for layer in before:
        nn.init.xavier_uniform_(layer.weight)  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    torch.manual_seed(7)
    now = build_network(SETTINGS, 1)
    for old, new in zip(before.parameters(), now.parameters(), strict=True):
        assert torch.equal(old, new)


def test_weights_under_their_old_names_load() -> None:
    model = build_network(SETTINGS, 1).eval()
    old_names = {"trunk": "features", "head.hidden.0": "head.1", "head.output": "output"}
    old = {}
    for name, tensor in model.state_dict().items():
        new = next(start for start in old_names if name.startswith(start))
        old[f"network.{name.replace(new, old_names[new], 1)}"] = tensor
    assert {name.split(".")[1] for name in old} == {"features", "head", "output"}
    again = nn.ModuleDict({"network": build_network({**SETTINGS, "hidden": 8}, 1)}).eval()
    again.load_state_dict(old)
    images = torch.rand(3, 1, 16, 16)
    assert torch.equal(again["network"](images), model(images))

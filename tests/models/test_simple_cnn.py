"""The small CNN is the one of the source document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.build import build_network
from models.bundle import load_bundle, save_bundle, to_input
from models.simple_cnn import SimpleCNN

SETTINGS = {"name": "simple_cnn", "image_size": 16, "channels": 1, "filters": [4, 8], "hidden": 8, "dropout": 0.5}


def test_parameters_and_layers() -> None:
    model = SimpleCNN()
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_705_345
    kinds = [type(layer).__name__ for layer in model.modules() if not list(layer.children())]
    assert kinds == [
        "Conv2d",
        "ReLU",
        "MaxPool2d",
        "Conv2d",
        "ReLU",
        "MaxPool2d",
        "Flatten",
        "Linear",
        "ReLU",
        "Dropout",
        "Linear",
    ]


@pytest.mark.parametrize(("size", "channels", "outputs"), [(128, 1, 1), (64, 3, 7), (50, 1, 2)])
def test_size_and_channels_are_parameters(size: int, channels: int, outputs: int) -> None:
    model = SimpleCNN(image_size=size, channels=channels, outputs=outputs)
    assert model(torch.zeros(2, channels, size, size)).shape == (2, outputs)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        SimpleCNN(image_size=8, filters=(4, 4, 4))


def test_unknown_architecture_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match="simple_cnn"):
        build_network({"name": "resnet_51"}, 1)


def test_input_scaling() -> None:
    pixels = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    assert torch.allclose(to_input(pixels, 0.0, 1.0), torch.tensor([[0.0, 0.2, 1.0]]))
    assert torch.allclose(to_input(pixels, 0.5, 0.5), torch.tensor([[-1.0, -0.6, 1.0]]))
    assert pixels.tolist() == [[0, 51, 255]]


def test_bundle_round_trip_and_tampering(tmp_path: Path) -> None:
    network = build_network(SETTINGS, 1).eval()
    digest = save_bundle(network, {"network": SETTINGS, "classes": ["A", "B"], "notice": "n"}, tmp_path / "model")
    loaded, description = load_bundle(tmp_path / "model")
    images = torch.rand(3, 1, 16, 16)
    assert torch.equal(loaded(images), network(images))
    assert description["weights_sha256"] == digest
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "model.safetensors"]
    assert json.loads((tmp_path / "model" / "model.json").read_text())["classes"] == ["A", "B"]
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="changed after training"):
        load_bundle(tmp_path / "model")

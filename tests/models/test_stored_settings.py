"""Settings from a file are looked at before a network is built from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.build import build_network
from models.stored_settings import checked_settings, network_of

CNN: dict[str, Any] = {
    **{"name": "simple_cnn", "image_size": 16, "channels": 1, "filters": [4], "hidden": [3], "dropout": 0.5},
    **{"mean": [0.5], "std": [0.5], "interpolation": "area", "metadata": ["age"], "weights": "none", "backbone": ""},
}


def test_real_settings_pass_unchanged() -> None:
    assert checked_settings(CNN, "here") == CNN
    old = {**CNN, "hidden": 8, "mean": 0.0, "std": 1.0}
    assert checked_settings(old, "here") == old


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_size": 10**9}, "image_size is 1000000000"),
        ({"image_size": 16.0}, "image_size is 16.0"),
        ({"image_size": True}, "image_size is True"),
        ({"channels": 0}, "channels is 0"),
        ({"filters": []}, "lack filters"),
        ({"filters": [10**7]}, "filters is"),
        ({"filters": [1] * 99}, "filters is"),
        ({"filters": "44"}, "filters is '44'"),
        ({"filters": [4, 4, 4, 4, 4]}, "no network that can be built"),
        ({"image_size": 4096, "filters": [16_384], "hidden": [16_384]}, "no network that can be built"),
        ({"hidden": [-1]}, "hidden is"),
        ({"hidden": 10**9}, "hidden is"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"mean": "half"}, "mean is 'half'"),
        ({"std": [0.0]}, "std is"),
        ({"std": [float("inf")]}, "std is"),
        ({"mean": [0.5, 0.5]}, "mean is"),
        ({"metadata_width": 10**12}, "metadata_width is"),
        ({"interpolation": "lanczos"}, "interpolation is 'lanczos'"),
        ({"grey_input": ["stem"]}, "grey_input is"),
        ({"pooling": None}, "pooling is None"),
        ({"metadata": "age"}, "metadata is 'age'"),
        ({"metadata": [1]}, "metadata is"),
        ({"name": 7}, "name is 7"),
        ({"name": "x" * 10_000}, "name is"),
    ],
)
def test_what_no_network_can_have_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        checked_settings({**CNN, **change}, "model.json")
    assert str(caught.value).startswith("model.json: ") and len(str(caught.value)) < 250


@pytest.mark.parametrize("settings", [None, [], "simple_cnn", 3])
def test_settings_are_names_and_values(settings: Any) -> None:
    with pytest.raises(ValueError, match="expected names and values"):
        checked_settings(settings, "model.json")
    with pytest.raises(ValueError, match="lack name, channels"):
        checked_settings({"image_size": 16}, "model.json")


def test_weights_must_fit() -> None:
    weights = build_network(CNN, 1).state_dict()
    network = network_of(CNN, 1, weights, "here")
    assert not network.training
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
    for wrong in ({}, {**weights, "more": torch.zeros(1)}, {**weights, "head.output.bias": torch.zeros(2)}):
        with pytest.raises(ValueError, match="here: the weights and the settings are not of one network"):
            network_of(CNN, 1, wrong, "here")
    with pytest.raises(ValueError, match="not of one network"):
        network_of(CNN, 3, weights, "here")

"""Heat maps of a trained model: of its preprocessing, of the class that was asked for, of all its networks; from any thread."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from datamodules.metadata import MetadataEncoder
from explain.grad_cam import heat_maps
from explain.layers import default_layer
from explain.pictures import coloured, overlay
from models.build import build_network
from workflow.heat_maps import maps_of, mean_of, require_maps, target_of
from workflow.scoring import ScoredBy

PIXELS = np.random.default_rng(0).integers(0, 256, size=(18, 48, 48, 3), dtype=np.uint8)
SETTINGS: dict[str, Any] = {
    **{"name": "test_resnet", "image_size": 48, "channels": 3, "hidden": [8], "dropout": 0.5},
    **{"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
}
THREE = ["a", "b", "c"]


def part_of(classes: list[str], positive: list[str], seed: int = 0, **settings: Any) -> ScoredBy:
    torch.manual_seed(seed)
    described = {**SETTINGS, **settings}
    network = build_network(described, 1 if len(classes) == 2 else len(classes)).eval()
    description = {"network": described, "classes": classes, "positive": positive}
    return ScoredBy(Path(f"run{seed}"), {}, description, network)


def predictor_of(*parts: ScoredBy) -> Any:
    return SimpleNamespace(networks=parts, lock=threading.RLock())


def by_hand(part: ScoredBy, rows: slice = slice(None), **options: Any) -> NDArray[np.float32]:
    settings = part.description["network"]
    mean, std = (torch.tensor(settings[name])[:, None, None] for name in ("mean", "std"))
    return heat_maps(part.network, (torch.from_numpy(PIXELS[rows]).permute(0, 3, 1, 2) / 255 - mean) / std, **options)


@pytest.mark.parametrize("method", ["grad_cam", "grad_cam_pp", "hires_cam"])
def test_maps_overlays_and_colours_are_of_the_same_images(method: str) -> None:
    part = part_of(["a", "b"], ["b"])
    found = maps_of(predictor_of(part), PIXELS, method=method)
    assert found is not None and found.maps.dtype == np.float32
    np.testing.assert_allclose(found.maps, by_hand(part, method=method, outputs=0), atol=1e-4)
    assert found.overlays.shape == found.coloured.shape == (18, 48, 48, 3)
    np.testing.assert_array_equal(found.overlays[17], overlay(PIXELS[17], found.maps[17]))
    np.testing.assert_array_equal(found.coloured[3], coloured(found.maps[3]))


def test_two_classes_have_one_logit_and_two_sides() -> None:
    part = part_of(["sick", "well"], ["sick"])  # the positive class is the first: its logit is still the network's
    speaks_for, against = by_hand(part, outputs=0), by_hand(part, outputs=lambda answer: -answer[:, 0])
    for target, expected in ((None, speaks_for), ("positive", speaks_for), ("sick", speaks_for), ("well", against)):
        found = maps_of(predictor_of(part), PIXELS, target=target)
        assert found is not None
        np.testing.assert_allclose(found.maps, expected, atol=1e-4)
    assert not np.allclose(speaks_for, against, atol=0.1)


def test_of_several_classes_the_log_odds_of_those_that_are_meant() -> None:
    part = part_of(THREE, ["a", "c"])
    for target, numbers in ((None, [0, 2]), ("positive", [0, 2]), ("b", [1]), ("c", [2])):
        found = maps_of(predictor_of(part), PIXELS[:4], target=target)
        assert found is not None
        np.testing.assert_allclose(found.maps, by_hand(part, slice(4), outputs=numbers), atol=1e-4)
    assert target_of(["positive", "b", "c"], ["b"], "positive") == [0]  # a class may be called so


def test_an_ensemble_shows_where_its_networks_agree() -> None:
    parts = [part_of(["a", "b"], ["b"], seed) for seed in (0, 1)]
    found = maps_of(predictor_of(*parts), PIXELS)
    each = [by_hand(part, outputs=0) for part in parts]
    mean = (each[0].astype(float) + each[1]) / 2
    highest = mean.max(axis=(1, 2), keepdims=True)
    assert found is not None
    np.testing.assert_allclose(found.maps, np.where(highest > 0, mean / np.maximum(highest, 1e-9), 0.0), atol=1e-4)
    empty = mean_of([np.zeros((2, 4, 4), dtype=np.float32)] * 2)
    assert empty.shape == (2, 4, 4) and not empty.any()
    assert mean_of([np.zeros((0, 4, 4), dtype=np.float32)] * 2).shape == (0, 4, 4)


def test_the_layer_is_named_and_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    part, asked = part_of(["a", "b"], ["b"]), []

    def counted(*given: Any) -> str:
        asked.append(1)
        return default_layer(*given)

    monkeypatch.setattr("workflow.heat_maps.default_layer", counted)
    for _ in range(2):
        assert maps_of(predictor_of(part), PIXELS) is not None
    assert asked == [1]
    found = maps_of(predictor_of(part), PIXELS[:2], layer="trunk.layer2")
    assert found is not None
    np.testing.assert_allclose(found.maps, by_hand(part, slice(2), layer="trunk.layer2", method="hires_cam"), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"method": "gradcam"},
            r"method=gradcam: there is no such method; choose from grad_cam, grad_cam_pp, hires_cam",
        ),
        ({"layer": "layer2"}, r"heat_maps.layer=layer2: .* nearest: trunk.layer2.* \(run0\)"),
        ({"target": "d"}, r"heat_maps.target=d: there is no such class; choose from positive, a, b, c"),
    ],
)
def test_wrong_settings_are_named_before_any_image_is_read(options: dict[str, Any], words: str) -> None:
    predictor = predictor_of(part_of(THREE, ["a"]))
    with pytest.raises(ValueError, match=words):
        require_maps(predictor, **options)
    with pytest.raises(ValueError, match=words):
        maps_of(predictor, PIXELS[:1], **options)
    require_maps(predictor, method="hires_cam", layer="trunk.layer3", target="b")


def test_a_layer_that_is_no_place_gives_none_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="firstread"):
        assert maps_of(predictor_of(part_of(["a", "b"], ["b"])), PIXELS[:1], layer="head.output") is None
    assert "no heat maps: layer head.output: its result does not lie over the image" in caplog.text


def test_metadata_go_in_encoded() -> None:
    frame = pd.DataFrame({"sex": ["male", "female"] * 9, "age": np.linspace(20.0, 80.0, 18)})
    encoder = MetadataEncoder.fit(frame, ["sex", "age"])
    part = part_of(["a", "b"], ["b"], metadata_width=len(encoder.outputs))
    part.description["metadata"] = encoder.describe()
    table = torch.from_numpy(encoder.encode(frame))
    found = maps_of(predictor_of(part), PIXELS, metadata=frame)
    settings = part.description["network"]
    mean, std = (torch.tensor(settings[name])[:, None, None] for name in ("mean", "std"))
    inputs = (torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255 - mean) / std
    assert found is not None
    np.testing.assert_allclose(found.maps, heat_maps(part.network, inputs, [table]), atol=1e-4)
    with pytest.raises(ValueError, match="run0 sees metadata beside the image"):
        maps_of(predictor_of(part), PIXELS)


def test_no_image_gives_no_map() -> None:
    found = maps_of(predictor_of(part_of(["a", "b"], ["b"]), part_of(["a", "b"], ["b"], 1)), PIXELS[:0])
    assert found is not None and found.maps.shape == (0, 48, 48)
    assert found.overlays.shape == found.coloured.shape == (0, 48, 48, 3)


def test_threads_get_the_maps_of_their_own_images() -> None:
    predictor, wrong = predictor_of(part_of(["a", "b"], ["b"])), []
    expected = by_hand(predictor.networks[0], outputs=0)

    def ask(row: int) -> None:
        for _ in range(5):
            found = maps_of(predictor, PIXELS[row : row + 1])
            if found is None or not np.allclose(found.maps, expected[row : row + 1], atol=1e-4):
                wrong.append(row)

    threads = [threading.Thread(target=ask, args=(row,)) for row in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []

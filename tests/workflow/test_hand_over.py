"""The gallery of a run: its pictures and heat maps belong to the images that were got wrong."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from evaluation.predictions import write_predictions
from explain.grad_cam import heat_maps
from explain.pictures import coloured, overlay
from lightning_modules import ImageClassifier
from tests.conftest import composed_settings
from workflow import hand_over

CLASSES = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
MODEL = {
    **{
        "name": "test_resnet",
        "weights": "none",
        "image_size": 32,
        "channels": 3,
        "grey_input": "stem",
        "pooling": "auto",
    },
    **{"hidden": [], "dropout": 0.3, "metadata": [], "mean": [0.5], "std": [0.25], "interpolation": "auto"},
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``report`` is given: settings, folder, data of which the second half is the test part, and metrics."""
    monkeypatch.setattr(hand_over, "write_report", lambda folder: folder / "report.html")
    settings = composed_settings("task=ham10000", "task.labels=seven", "evaluation.mistakes=6")
    assert settings["task"]["classes"] == CLASSES
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(7), size=20)
    frame = pd.DataFrame(
        {
            "image_id": [f"i{row}" for row in range(20)],
            "group_id": [f"g{row}" for row in range(20)],
            "label": [CLASSES[row % 7] for row in range(20)],
            "sex": ["male", "female"] * 10,
        }
    )
    for number, name in enumerate(CLASSES):
        frame[f"prob_{name}"] = probabilities[:, number]
    write_predictions(tmp_path / "predictions" / "test.csv", frame)
    rows = {"test": np.arange(20, 40), "train": np.arange(20)}
    prepared = SimpleNamespace(
        splits=SimpleNamespace(rows=rows.__getitem__),
        pixels=generator.integers(0, 256, size=(40, 32, 32, 3), dtype=np.uint8),
        phantom=False,
    )
    return {
        "settings": settings,
        "folder": tmp_path,
        "prepared": prepared,
        "metrics": {"threshold": {"threshold": 0.5}},
    }


def classifier() -> ImageClassifier:
    torch.manual_seed(0)
    settings = composed_settings("task=ham10000", "task.labels=seven")
    return ImageClassifier(MODEL, CLASSES, settings["task"]["positive"], settings["trainer"])


def test_pictures_and_heat_maps_are_of_the_images_that_were_got_wrong(run: dict[str, Any]) -> None:
    module = classifier()
    module.network.set_trainable(["head"])
    module.train()
    hand_over.report(**run, module=module)
    assert module.training and not any(part.training for part in module.network.trunk_modules())
    folder, positive = run["folder"] / "figures" / "mistakes", run["settings"]["task"]["positive"]
    records = json.loads((folder / "mistakes.json").read_text())
    assert len(records) == 6
    for record in records:
        pixels = run["prepared"].pixels[20 + int(record["image_id"][1:])]
        with Image.open(folder / record["file"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), pixels)
        inputs = module.normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        heat = heat_maps(
            module.network, inputs, method="hires_cam", outputs=[CLASSES.index(name) for name in positive]
        )[0]
        with Image.open(folder / record["heat_map"]) as picture:
            difference = np.asarray(picture, dtype=int) - overlay(pixels, heat)
        assert np.abs(difference).mean() < 12  # a JPEG of noise
        with Image.open(folder / record["heat_map_alone"]) as picture:
            assert np.abs(np.asarray(picture, dtype=int) - coloured(heat)).mean() < 3
        assert record["facts"]["sex"] in ("male", "female")
    checks = json.loads((folder / "heat_maps.json").read_text())
    assert (checks["method"], checks["layer"]) == (
        "hires_cam",
        "trunk.layer3",
    )  # the fourth has one place left of 32 x 32 pixels
    assert (checks["mistakes"]["images"], checks["drawn"]["images"]) == (6, 20)


@pytest.mark.parametrize("reason", ["switched off", "a baseline", "no mistakes"])
def test_without_heat_maps_the_gallery_is_as_before(run: dict[str, Any], reason: str) -> None:
    run["settings"]["evaluation"]["heat_maps"] = reason != "switched off"
    run["settings"]["evaluation"]["mistakes"] = 0 if reason == "no mistakes" else 6
    hand_over.report(**run, module=None if reason == "a baseline" else classifier())
    folder = run["folder"] / "figures" / "mistakes"
    records = json.loads((folder / "mistakes.json").read_text())
    assert len(records) == (0 if reason == "no mistakes" else 6)
    assert all(record["heat_map"] == "" for record in records)
    assert not list(folder.glob("*.jpg")) and not (folder / "heat_maps.json").exists()

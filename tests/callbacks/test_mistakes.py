"""The gallery on disk: what is chosen, what is said of it, and how large it gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from callbacks.mistakes import contact_sheet, save_mistakes, with_heat_maps, worst_mistakes
from evaluation.predictions import Predictions

CLASSES = ("benign", "malignant")


def predictions(**columns: Any) -> Predictions:
    scores = np.array([0.1, 0.9, 0.2, 0.8])
    frame = pd.DataFrame(
        {
            "image_id": [f"i{row}" for row in range(4)],
            "group_id": ["g0", "g0", "g1", "g2"],
            "label": ["malignant", "benign", "malignant", "malignant"],
            **columns,
            "prob_benign": 1 - scores,
            "prob_malignant": scores,
        }
    )
    return Predictions(frame, CLASSES, "malignant")


def test_everything_that_describes_the_image_is_kept() -> None:
    columns = {
        "age_band": ["40-59", "", "80+", "0-39"],
        "sex": ["male", "unknown", np.nan, "female"],
        "site": ["back", "face", "unknown", "back"],
        "subtype": ["mel", "nv", "bcc", "mel"],
        "visits": [1.0, 2.0, 3.0, 4.0],
    }
    found = worst_mistakes(predictions(**columns), 0.5, 12)
    assert [(item.image_id, item.kind) for item in found] == [
        ("i0", "false negative"),
        ("i2", "false negative"),
        ("i1", "false positive"),
    ]
    assert found[0].facts == {"age_band": "40-59", "sex": "male", "site": "back", "visits": "1.0"}
    assert found[1].facts == {"age_band": "80+", "visits": "3.0"}
    assert found[2].facts == {"site": "face", "visits": "2.0"}
    assert [item.subtype for item in found] == ["mel", "bcc", "nv"]
    assert worst_mistakes(predictions(), 0.5, 1)[0].facts == {}


def test_heat_maps_lie_beside_the_pictures(tmp_path: Path) -> None:
    mistakes = with_heat_maps(
        worst_mistakes(predictions(), 0.5, 12), [0.25, None, -0.5], [(1.5, 0.0, 0.5), None, (0.0, 1.0, 0.0)]
    )
    images = np.full((3, 16, 16, 3), 40, dtype=np.uint8)
    overlays = np.full((3, 16, 16, 3), (200, 100, 50), dtype=np.uint8)
    save_mistakes(mistakes, images, tmp_path, overlays, overlays // 2, {"method": "grad_cam"})
    records = json.loads((tmp_path / "mistakes.json").read_text())
    assert [record["heat_map"] for record in records] == ["00_map.jpg", "01_map.jpg", "02_map.jpg"]
    assert [record["heat_map_check"] for record in records] == [0.25, None, -0.5]
    assert set(records[0]) == {
        *("image_id", "group_id", "label", "subtype", "score", "kind", "file", "predicted", "facts"),
        *("heat_map", "heat_map_alone", "heat_map_check", "heat_map_covered"),
    }
    assert [record["heat_map_covered"] for record in records] == [[1.5, 0.0, 0.5], None, [0.0, 1.0, 0.0]]
    with Image.open(tmp_path / "01_map.jpg") as read:
        assert read.mode == "RGB"
        assert np.abs(np.asarray(read, dtype=int) - overlays[1]).max() <= 4
    with Image.open(tmp_path / records[2]["heat_map_alone"]) as read:
        assert np.abs(np.asarray(read, dtype=int) - overlays[2] // 2).max() <= 4
    assert json.loads((tmp_path / "heat_maps.json").read_text()) == {"method": "grad_cam"}
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".jpg"] * 6 + [".json"] * 2 + [".png"] * 3
    with pytest.raises(ValueError, match="zip"):
        save_mistakes(mistakes, images, tmp_path, overlays[:2])


def test_without_heat_maps_the_entries_say_so(tmp_path: Path) -> None:
    save_mistakes(worst_mistakes(predictions(), 0.5, 12), np.zeros((3, 8, 8, 1), dtype=np.uint8), tmp_path)
    assert {record["heat_map"] for record in json.loads((tmp_path / "mistakes.json").read_text())} == {""}
    assert not list(tmp_path.glob("*.jpg"))


def test_twelve_pairs_stay_below_a_megabyte_of_heat_maps(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "image_id": [f"i{row}" for row in range(12)],
            "group_id": [f"g{row}" for row in range(12)],
            "label": ["malignant"] * 12,
            "prob_benign": np.ones(12),
            "prob_malignant": np.zeros(12),
        }
    )
    mistakes = with_heat_maps(
        worst_mistakes(Predictions(frame, CLASSES, "malignant"), 0.5, 12), [None] * 12, [None] * 12
    )
    noise = np.random.default_rng(0).integers(60, 190, size=(12, 112, 112, 3), dtype=np.uint8)
    overlays = noise.repeat(2, axis=1).repeat(2, axis=2)  # rougher than any real image
    save_mistakes(mistakes, noise, tmp_path, overlays)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.jpg")) < 1_000_000


def test_a_contact_sheet_takes_grey_images_beside_colour_ones() -> None:
    pictures = [np.zeros((8, 8, 1), dtype=np.uint8), np.zeros((8, 8, 3), dtype=np.uint8)]
    axes = contact_sheet(pictures, ["one", "two"], "title", columns=2).get_axes()
    assert [place.get_title() for place in axes] == ["one", "two"]
    assert [np.asarray(place.get_images()[0].get_array()).ndim for place in axes] == [2, 3]

"""The hub card: licences by the hub's names, text that cannot break Markdown, private folders, results of the run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.hub_card import hub_card, plain_text
from evaluation.hub_card_facts import HubFacts
from evaluation.hub_card_metadata import hub_metadata, licence_id
from evaluation.hub_card_tables import preparation_steps, result_tables
from evaluation.recalibration import Calibrator
from evaluation.report_files import read_run
from evaluation.threshold import fixed_point
from tests.evaluation.test_report import make_run

NETWORK = {"image_size": 32, "channels": 1, "interpolation": "bicubic", "mean": [0.5], "std": [0.25], "metadata": []}
FACTS = HubFacts(
    title="Films: simple_cnn",
    models=("simple_cnn",),
    classes=("NORMAL", "PNEUMONIA"),
    positive=("PNEUMONIA",),
    positive_called="PNEUMONIA",
    negative_called="NORMAL",
    group_name="patient",
    subject="xray",
    dataset="chest_xray",
    phantom=False,
    network=NETWORK,
    views="none",
    threshold=fixed_point(0.25, "PNEUMONIA", "NORMAL").to_dict(),
    calibration=Calibrator().to_dict(),
)


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC BY 4.0", "cc-by-4.0"),
        ("CC BY-NC 4.0", "cc-by-nc-4.0"),
        ("CC-BY-NC-SA 3.0", "cc-by-nc-sa-3.0"),
        ("Creative Commons (CC BY-ND 4.0), see the page", "cc-by-nd-4.0"),
        ("CC0 1.0", "cc0-1.0"),
        ("for research, ask the hospital", "other"),
        ("", "other"),
    ],
)
def test_licences_have_the_names_of_the_hub(licence: str, expected: str) -> None:
    assert licence_id(licence) == expected
    data = hub_metadata(dataclasses.replace(FACTS, licence=licence))
    assert data["license"] == expected
    assert ("license_name" in data) == (expected == "other")


def test_weights_of_non_commercial_images_say_so() -> None:
    assert "non-commercial derivatives" in hub_card(dataclasses.replace(FACTS, licence="CC BY-NC 4.0"))
    assert "non-commercial" not in hub_card(dataclasses.replace(FACTS, licence="CC BY 4.0"))
    assert "is not stated. Ask before" in hub_card(FACTS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b *c* <i> [x](y) | `z`", r"a\_b \*c\* \<i\> \[x\](y) \| \`z\`"),
        ("two\nlines\r\n# here", r"two lines \# here"),
        ("model.weights=/home/jane/w/net.pth seed=1", "model.weights=.../net.pth seed=1"),
        ("'data.root=/data/my films/x'", r"'data.root=.../my films/x'"),
        ("from C:\\Users\\jane\\net.pth", "from .../net.pth"),
        ("val/auroc and 16/32", "val/auroc and 16/32"),
        ("see https://doi.org/10.1/x", "see https://doi.org/10.1/x"),
    ],
)
def test_texts_are_literal_and_without_folders(text: str, expected: str) -> None:
    assert plain_text(text) == expected


def test_results_come_from_the_run(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run"))
    test = run.metrics["splits"]["test"]
    card = hub_card(dataclasses.replace(FACTS, run=run, licence="CC BY 4.0"))
    front = yaml.safe_load(card.split("---\n")[1])
    (result,) = front["model-index"][0]["results"]
    assert result["metrics"][0] == {"type": "roc_auc", "name": "AUROC", "value": round(test["auroc"]["value"], 4)}
    overall = result_tables(run)[0]
    assert overall.columns == ("", "validation", "test")
    cells = {row[0]: row[-1] for row in overall.rows}
    assert cells["AUROC"] == "0.912 (0.882-0.942)"
    assert cells["images"] == "60"
    assert f"| AUROC | {overall.rows[3][1]} | 0.912 (0.882-0.942) |" in card
    assert "## For the people of the study to fill in" in card and "Ethics" in card
    assert "on this page" not in card and "data:image" not in card, "pictures of patients are never handed over"
    assert "<script" not in card


def test_what_is_not_measured_is_not_in_the_metadata(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["splits"]["test"]["at_threshold"]["specificity"]["value"] = None
    (folder / "metrics.json").write_text(json.dumps(metrics))
    found = hub_metadata(dataclasses.replace(FACTS, run=read_run(folder)))
    assert "specificity" not in found["metrics"]
    assert "model-index" not in hub_metadata(FACTS)
    phantom = hub_metadata(dataclasses.replace(FACTS, run=read_run(folder), phantom=True))
    assert phantom["model-index"][0]["results"][0]["dataset"]["type"] == "phantom"


@pytest.mark.parametrize(
    ("network", "views", "expected"),
    [
        ({}, "none", ["smallest of the scales 1, 1/2, 1/4 and 1/8 that leaves both sides at least 64", "ITU-R 601"]),
        ({"interpolation": "area"}, "none", ["averaging over areas"]),
        ({"interpolation": "bilinear"}, "flip", ["Pillow's BILINEAR", "mean over two views"]),
        (
            {"channels": 3, "mean": [0.1, 0.2, 0.3], "std": 1.0},
            "dihedral",
            ["R, G, B", "subtract 0.1, 0.2, 0.3 and divide by 1;", "eight"],
        ),
        ({"grey_input": "repeat"}, "none", ["Repeat the grey image"]),
    ],
)
def test_the_preparation_is_exact(network: dict[str, Any], views: str, expected: list[str]) -> None:
    text = "\n".join(preparation_steps({**NETWORK, **network}, views))
    for part in expected:
        assert part in text


def test_what_the_model_has_is_said() -> None:
    held: dict[str, Any] = {
        "borderline_from": 0.125,
        "turned_away": 0.05,
        "views": "flip",
        "base_model": "timm/resnet18.a1_in1k",
    }
    calibrated = Calibrator("platt", 2.0, -0.5).to_dict()
    card = hub_card(dataclasses.replace(FACTS, **held, calibration=calibrated))
    for part in (
        "Scores from 0.125 up to the threshold",
        "sigmoid(2 * logit(score) -0.5)",
        "so are 5 % of the images like those of validation",
        "base_model: timm/resnet18.a1_in1k",
    ):
        assert part in card, part
    assert "There is no check of the input" not in card
    few = hub_card(dataclasses.replace(FACTS, turned_away=0.01, by_distance=False))
    assert "its size and colours. What is unlike" in few and "1 %" not in few

"""What the checks of heat maps are called: good maps, maps that a square could replace, maps that nobody should read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.heat_map_checks import HeatMapChecks, heat_map_checks
from evaluation.report_files import read_run
from tests.evaluation.test_report import make_run


def part(**changes: Any) -> dict[str, Any]:
    return {
        **{"images": 64, "covered": 64, "bright": 1.5, "dark": 0.2, "centre": 0.5, "bright_above_centre": 40},
        **{"in_centre": 0.3, "in_centre_untrained": 0.26, "untrained": 0.1, "untrained_range": [-0.2, 0.4]},
        "hires_cam": 0.95,
        **changes,
    }


def checked(**changes: Any) -> HeatMapChecks:
    stored = {
        "method": "grad_cam",
        "layer": "trunk.bn2",
        "mistakes": part(images=12, covered=12),
        "drawn": part(**changes),
    }
    found = heat_map_checks(stored, [], "PNEUMONIA")
    assert found is not None
    return found


def test_every_figure_has_a_row_and_every_kind_of_image_a_column() -> None:
    found = checked(bright=-0.25)
    assert found.made == "Grad-CAM at layer trunk.bn2"
    assert found.columns == ("12 mistakes", "64 test images drawn at random")
    cells = [tuple(cell.value for cell in row) for _, row in found.rows]
    assert cells == [
        ("\u22121.500", "+0.250"),
        ("\u22120.500", "\u22120.500"),
        ("\u22120.200", "\u22120.200"),
        ("40 of 12", "40 of 64"),
        ("30\u202f%", "30\u202f%"),
        ("26\u202f%", "26\u202f%"),
        ("0.10", "0.10"),
        ("0.95", "0.95"),
    ]
    assert [cell.range for cell in found.rows[-2][1]] == ["\u22120.20 to 0.40"] * 2
    assert "PNEUMONIA" in found.rows[0][0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "more than covering the middle of every image: on average they point at what counts."),
        ({"centre": 1.5}, "a fixed square would tell as much."),
        ({"dark": 1.6}, "do not read reasons from these maps."),
        ({"bright": 0.1, "dark": 0.0, "centre": None}, "leave dark: on average they point at what counts."),
        ({"bright": -0.2, "dark": -1.0, "centre": -0.9}, "Any cover raises the log-odds of PNEUMONIA here"),
        ({"in_centre": 0.6}, "lies in the middle of the image"),
        ({"untrained": 0.24}, "these depend on what was learnt"),
        ({"untrained": 0.25}, "Some of what they show was not learnt"),
        ({"untrained": 0.5}, "Most of what they show was not learnt"),
        ({"hires_cam": 0.04}, "draws other maps (correlation 0.04)"),
    ],
)
def test_the_sentences_follow_the_images_drawn_at_random(changes: dict[str, Any], words: str) -> None:
    assert words in " ".join(checked(**changes).sentences)


def test_nothing_is_claimed_that_the_figures_do_not_say() -> None:
    usual = " ".join(checked().sentences)
    assert "Any cover" not in usual and "lies in the middle" not in usual and "not learnt" not in usual
    assert "HiRes-CAM" not in usual
    empty = checked(
        **dict.fromkeys(("bright", "dark", "centre", "in_centre", "untrained", "untrained_range", "hires_cam")),
        covered=0,
    )
    assert empty.sentences == ()
    assert ("12 of 12" not in str(empty.rows)) and empty.rows[0][1][1].value == "0 of 64"


def test_images_without_a_map_are_counted() -> None:
    name, cells = checked(covered=34).rows[0]
    assert name.startswith("Images whose map is not empty")
    assert [cell.value for cell in cells] == ["\u2013", "34 of 64"]


def test_a_run_brings_its_checks_to_the_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert read_run(folder).heat_map_checks is None  # no heat map in its gallery
    gallery = folder / "figures" / "mistakes"
    entries = json.loads((gallery / "mistakes.json").read_text())
    for entry in entries:
        (gallery / f"{entry['file']}_map.jpg").write_bytes(b"picture")
        entry["heat_map"] = f"{entry['file']}_map.jpg"
    (gallery / "mistakes.json").write_text(json.dumps(entries))
    stored = {"method": "grad_cam_pp", "layer": "trunk.norm", "mistakes": part(), "drawn": part()}
    (gallery / "heat_maps.json").write_text(json.dumps(stored))
    run = read_run(folder)
    assert run.heat_map_checks is not None and run.heat_map_checks.made == "Grad-CAM++ at layer trunk.norm"
    assert not any("heat_maps" in name for name in run.absent)

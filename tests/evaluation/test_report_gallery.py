"""The gallery section: every word that helps to judge a picture, and none that a missing file would make false."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

from evaluation.heat_map_checks import heat_map_checks
from evaluation.pages import environment


class Pictures(HTMLParser):
    """Alt texts of all images, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.alts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.alts.append(dict(attrs).get("alt") or "")


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "image_id": "ISIC_1",
        "group_id": "HAM_7",
        "label": "malignant",
        "subtype": "mel",
        "score": 0.012,
        "kind": "false negative",
        "file": "00.png",
        "predicted": "",
        "facts": {"age_band": "40-59", "sex": "male"},
        "heat_map": "00_map.jpg",
        "heat_map_check": 0.1,
        "heat_map_covered": [1.5, 0.2],
        **changes,
    }


def mistake(heat_map: str = "data:image/jpeg;base64,BB", alone: str = "", **changes: Any) -> SimpleNamespace:
    return SimpleNamespace(entry=entry(**changes), picture="data:image/png;base64,AA", map=heat_map, alone=alone)


def section(mistakes: list[SimpleNamespace] | None, left_out: int = 0, stored: dict[str, Any] | None = None) -> str:
    shown = [item.entry for item in mistakes or [] if item.map]
    checks = heat_map_checks(stored, shown, "malignant") if shown else None
    return (
        environment()
        .get_template("report_gallery.html.j2")
        .render(
            files=SimpleNamespace(mistakes=mistakes, mistakes_left_out=left_out, heat_map_checks=checks),
            pos="malignant",
            group="lesion",
            threshold={"threshold": 0.31},
        )
    )


def in_one_line(page: str) -> str:
    return " ".join(page.split())


def test_the_map_alone_stands_beside_the_overlay() -> None:
    page = section([mistake(alone="data:image/jpeg;base64,CC"), mistake(heat_map="")])
    pictures = Pictures()
    pictures.feed(page)
    assert pictures.alts[:3] == [
        "malignant image with score 0.012: false negative",
        "Heat map of the image to its left",
        "The heat map alone",
    ]
    assert "over the image and alone" in page and page.count("no heat map") == 1
    assert "over the image and alone" not in section([mistake()])


def test_the_checks_are_a_table_with_what_they_do_not_show() -> None:
    part = {
        **{"images": 12, "covered": 12, "bright": 1.5, "dark": 0.2, "centre": 0.5, "bright_above_centre": 9},
        **{"in_centre": 0.4, "in_centre_untrained": 0.3, "untrained": 0.1, "untrained_range": [-0.1, 0.4]},
    }
    stored = {"method": "hires_cam", "layer": "trunk.layer4", "mistakes": part, "drawn": {**part, "images": 64}}
    page = in_one_line(section([mistake()], stored=stored))
    assert "(HiRes-CAM at layer trunk.layer4)" in page
    assert re.search(
        r"malignant with the map&#39;s brightest quarter covered</span></th><td class=\"n\">\u22121.500</td>", page
    )
    assert page.count('<td class="n">9 of 12</td>') == 2
    assert '0.10<span class="range below">\u22120.10 to 0.40</span>' in page
    assert "No such check shows that the network goes by the disease" in page


def test_a_pair_with_all_that_is_known_of_it() -> None:
    page = " ".join(section([mistake(), mistake(kind="false positive", label="benign", score=0.93)]).split())
    pictures = Pictures()
    pictures.feed(page)
    assert pictures.alts == [
        "malignant image with score 0.012: false negative",
        "Heat map of the image to its left",
        "benign image with score 0.930: false positive",
        "Heat map of the image to its left",
    ]
    for words in ("malignant (mel)", "age band 40-59", "sex male", "lesion HAM_7", "ISIC_1"):
        assert words in page
    assert page.index("Missed malignant") < page.index("False alarms")
    assert "it is no outline of a finding" in page


def test_old_entries_fill_as_much_of_the_table_as_they_can() -> None:
    page = in_one_line(section([mistake(), mistake(heat_map_check=None, heat_map_covered=None)]))
    assert "(Grad-CAM)" in page and "2 mistakes" in page and "drawn at random" not in page
    assert '<td class="n">\u22121.500</td>' in page and "with a square in the middle" not in page
    assert "on average they point at what counts" in page


def test_without_a_control_nothing_is_said_of_it() -> None:
    page = section([mistake(heat_map_check=None, heat_map_covered=None)])
    assert "How far can these maps be read" not in page and "<table" not in page


def test_runs_from_before_heat_maps() -> None:
    old = SimpleNamespace(entry=entry(), picture="data:image/png;base64,AA", map="", alone="")
    for name in ("facts", "heat_map", "heat_map_check", "heat_map_covered", "group_id"):
        del old.entry[name]
    page = section([old])
    assert "Grad-CAM" not in page and "lesion" not in page and 'class="gallery"' in page


def test_one_picture_without_a_heat_map_says_so() -> None:
    assert section([mistake(), mistake(heat_map="")]).count("no heat map") == 1


def test_a_name_that_says_the_same_twice_is_said_once() -> None:
    page = section([mistake(label="NORMAL", subtype="normal", group_id="ISIC_1", predicted="nv")])
    assert "(normal)" not in page and "lesion ISIC_1" not in page and "most probable: nv" in page


def test_nothing_to_show_is_said() -> None:
    assert "no picture of a mistake" in section([])
    assert "mistakes.json" in section(None)
    assert "3 further pictures left out" in section([mistake()], left_out=3)

"""The gallery section: every word that helps to judge a picture, and none that a missing file would make false."""

from __future__ import annotations

from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest

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


def mistake(heat_map: str = "data:image/jpeg;base64,BB", **changes: Any) -> SimpleNamespace:
    return SimpleNamespace(entry=entry(**changes), picture="data:image/png;base64,AA", map=heat_map)


def section(mistakes: list[SimpleNamespace] | None, left_out: int = 0) -> str:
    return (
        environment()
        .get_template("report_gallery.html.j2")
        .render(
            files=SimpleNamespace(mistakes=mistakes, mistakes_left_out=left_out),
            pos="malignant",
            group="lesion",
            threshold={"threshold": 0.31},
        )
    )


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


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        ([0.1, -0.1, None], "is 0.00 on average over 2 images (\u22120.10 to 0.10"),
        ([0.1], "They depend on what was learnt."),
        ([0.3, 0.4], "Some of what they show was not learnt"),
        ([0.9], "do not read reasons from them"),
    ],
)
def test_the_control_is_told_in_words(checks: list[float | None], words: str) -> None:
    assert words in " ".join(section([mistake(heat_map_check=value) for value in checks]).split())


def test_without_a_control_nothing_is_said_of_it() -> None:
    page = section([mistake(heat_map_check=None, heat_map_covered=None)])
    assert "Were they learnt" not in page and "Do the maps point" not in page


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (
            [0.5, 0.1],
            "change by \u22120.500 on average over 1 image; with the darkest quarter covered, by \u22120.100. They do,",
        ),
        (
            [-0.1, -0.3],
            "change by +0.100 on average over 1 image; with the darkest quarter covered, by +0.300. They do not:",
        ),
    ],
)
def test_maps_that_do_not_point_at_what_counts_are_called_so(losses: list[float], words: str) -> None:
    page = " ".join(section([mistake(heat_map_covered=losses), mistake(heat_map_covered=None)]).split())
    assert words in page


def test_runs_from_before_heat_maps() -> None:
    old = SimpleNamespace(entry=entry(), picture="data:image/png;base64,AA", map="")
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

"""Pages of answers: what a card says, that nothing of a file name becomes HTML, and that a full page stays small."""

from __future__ import annotations

import base64
import io
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.pages import NOTICE
from evaluation.panel import (
    BORDERLINE,
    KINDS,
    NAME_LENGTH,
    NEGATIVE,
    PER_PAGE,
    POSITIVE,
    Card,
    GroupLine,
    PanelImage,
    encoded,
    page_name,
    printable,
    score_beside,
    shortened,
    write_page,
)
from evaluation.wording import worry
from tests.evaluation.panel_samples import FRAME, one_of_each, page_of, picture


def cards_of(page: str) -> list[str]:
    return re.findall(r'<li class="shot.*?</li>', page, flags=re.DOTALL)


def words_of(card: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", card).split())


def test_every_kind_says_its_decision_in_words_and_has_a_shape_of_its_own(tmp_path: Path) -> None:
    cards = cards_of(page_of(tmp_path, one_of_each()))
    headings = [words_of(re.findall(r"<h3>.*?</h3>", card, flags=re.DOTALL)[0]) for card in cards]
    assert headings == ["PNEUMONIA", "NORMAL, borderline", "NORMAL", "No decision", "Not readable"]
    shapes = [re.findall(r'<svg class="sign".*?</svg>', card, flags=re.DOTALL)[0] for card in cards]
    assert len(set(shapes)) == len(KINDS)


def test_a_card_has_its_figures_and_its_reasons(tmp_path: Path) -> None:
    positive, borderline, _, abstained, unreadable = map(words_of, cards_of(page_of(tmp_path, one_of_each())))
    assert "0.930 score" in positive and "0.970 calibrated" in positive and "0.400 p of the input" in positive
    assert "0.450 score" in borderline
    assert "0.990 score, not used" in abstained and "calibrated" not in abstained and "It is in colour" in abstained
    assert "The file is empty" in unreadable and "score" not in unreadable and "no picture" in unreadable


def test_bar_has_score_threshold_and_borderline_region_where_they_belong(tmp_path: Path) -> None:
    card = cards_of(page_of(tmp_path, one_of_each()))[1]
    assert 'class="near" style="left:38.00%;width:14.00%"' in card
    assert 'class="tick" style="left:52.00%"' in card and 'class="dot" style="left:45.00%"' in card
    without = cards_of(page_of(tmp_path, one_of_each(), replace(FRAME, borderline_from=None, stricter=None)))[2]
    assert 'class="near"' not in without


def test_page_is_one_file_that_asks_nobody(tmp_path: Path) -> None:
    page = page_of(tmp_path, one_of_each())
    assert NOTICE in page and "Phantom data" not in page
    assert not re.findall(r'(?:src|href)="(?!data:image/jpeg;base64,|#|panel)', page)
    assert "<script" not in page and "http" not in page
    assert [path.name for path in tmp_path.iterdir()] == ["panel.html"]
    assert "Phantom data." in page_of(tmp_path, one_of_each(), replace(FRAME, phantom=True))


def test_pictures_are_described_for_those_who_do_not_see_them(tmp_path: Path) -> None:
    page = page_of(tmp_path, one_of_each())
    alternatives = re.findall(r'<img [^>]*alt="([^"]*)"', page)
    assert alternatives[:3] == ["No. 1: the image", "No. 1: its heat map over it", "No. 1: its heat map alone"]
    assert len(re.findall("<img ", page)) == len(alternatives) == 12


def test_filter_offers_what_is_there_and_needs_no_script(tmp_path: Path) -> None:
    page = page_of(tmp_path, one_of_each()[:3], replace(FRAME, kinds=FRAME.kinds[:3]))
    assert re.findall(r'name="sieve" value="(\w+)"', page) == ["all", POSITIVE, BORDERLINE, NEGATIVE]
    for kind in KINDS:
        assert f'main:has([value="{kind}"]:checked) .shot:not(.is-{kind})' in page
    assert "sieve" not in page_of(tmp_path, one_of_each()[:1], replace(FRAME, kinds=(POSITIVE,))).split("</style>")[1]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>.png", '"><img src=x onerror=1>.png', "a\nb\x1b[31m.png"])
def test_a_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    images = [replace(one_of_each()[0], name=name, group=name), replace(one_of_each()[4], error=name)]
    frame = replace(FRAME, groups={name: GroupLine(name, POSITIVE, 0.9, 2, 1)}, title=name)
    page = page_of(tmp_path, images, frame)
    body = page.split("</style>")[1]
    assert "<script" not in body and "<img src=x" not in body and "\x1b" not in body.split("</h1>")[1]
    assert len(cards_of(page)) == 2


def test_a_name_of_bytes_that_are_no_text_can_be_written(tmp_path: Path) -> None:
    name = b"scan\xff\xfe.png".decode("utf-8", "surrogateescape")
    assert "scan\ufffd\ufffd.png" in page_of(tmp_path, [replace(one_of_each()[0], name=name)])


def test_long_names_lose_their_middle() -> None:
    name = "patient_0001/" + "x" * 200 + "_left.png"
    cut = shortened(name)
    assert (
        len(cut) == NAME_LENGTH and cut.startswith("patient_0001/x") and cut.endswith("x_left.png") and "\u2026" in cut
    )
    assert shortened("short.png") == "short.png"
    assert shortened(name, lambda text: len(text) <= 3) == "p\u2026g"
    assert printable("a\u202eb\tc") == "a\ufffdb\ufffdc"


def test_a_full_page_of_the_worst_pictures_stays_below_5_megabytes(tmp_path: Path) -> None:
    image = PanelImage(1, "x" * 300, POSITIVE, 0.9, 0.9, 0.1, reasons=("because of this or that",) * 2, group="g" * 80)
    noise = Card.of(replace(image, pictures=tuple(picture(seed, 299) for seed in range(3))))
    frame = replace(FRAME, kinds=(POSITIVE,) * PER_PAGE)
    path = write_page(frame, [noise] * PER_PAGE, 1, tmp_path)
    assert path.stat().st_size < 5_000_000


def test_pictures_keep_their_proportions_and_small_ones_their_size() -> None:
    (uri,) = encoded([picture(0, 40, 1)])
    assert uri.startswith("data:image/jpeg;base64,")
    assert len(encoded([picture(0, 600)])[0]) < 20_000
    flat = np.full((300, 150, 3), 99, dtype=np.uint8)
    with Image.open(io.BytesIO(base64.b64decode(encoded([flat])[0].split(",")[1]))) as held:
        assert held.size == (112, 224)
    assert encoded([]) == ()


def test_a_card_lets_its_pictures_go() -> None:
    card = Card.of(one_of_each()[0])
    assert card.image.pictures == () and len(card.uris) == 3 and card.image.score == 0.93


def test_many_images_have_linked_pages(tmp_path: Path) -> None:
    kinds = (NEGATIVE,) * PER_PAGE + (POSITIVE,) + (NEGATIVE,) * PER_PAGE
    frame = replace(FRAME, kinds=kinds)
    assert frame.pages == 3
    page = page_of(tmp_path, one_of_each()[:1], frame, number=2)
    assert (tmp_path / page_name(2)).name == "panel_002.html"
    pagers = re.findall(r'<nav class="pager".*?</nav>', page, flags=re.DOTALL)
    assert len(pagers) == 2
    assert re.findall(r'<a href="([^"]*)"( aria-current="page")?>(\d)</a>', pagers[0]) == [
        ("panel.html", "", "1"),
        ("panel_002.html", ' aria-current="page"', "2"),
        ("panel_003.html", "", "3"),
    ]
    row = re.findall(r'<tr class="is-positive">.*?</tr>', page, flags=re.DOTALL)[0]
    assert re.findall(r'href="([^"]+)"', row) == ["panel_002.html#images"]


def test_summary_counts_all_images_and_says_what_borderline_means(tmp_path: Path) -> None:
    page = page_of(tmp_path, one_of_each())
    assert (
        "5 images: 1 called PNEUMONIA, 2 called NORMAL (1 of them borderline), 1 without a decision and 1 not readable."
        in page
    )
    assert "at a threshold for a recall of 99 % it would be called PNEUMONIA" in page


def test_groups_and_worries_are_shown_where_there_are_some(tmp_path: Path) -> None:
    images = [replace(image, group="p17") for image in one_of_each()[:2]]
    lines = {"p17": GroupLine("p17", POSITIVE, 0.93, 2, 2), "p99": GroupLine("p99", NEGATIVE, 0.1, 1, 1)}
    found = (worry("caution", "These images may be of another kind", "12 of 20 images are unlike."),)
    page = page_of(tmp_path, images, replace(FRAME, groups=lines, worries=found))
    assert "Patient p17 : PNEUMONIA (2 images)" in words_of(cards_of(page)[0])
    assert "p99" not in page  # no image of this page
    assert "12 of 20 images are unlike." in page
    assert "By patient" not in page_of(tmp_path, one_of_each())


def test_more_than_two_classes_show_the_most_probable(tmp_path: Path) -> None:
    images = [replace(one_of_each()[0], shares=(("nv", 0.7), ("mel", 0.2), ("bkl", 0.1)))]
    assert "Most probable: nv 0.700, mel 0.200, bkl 0.100" in words_of(cards_of(page_of(tmp_path, images))[0])


def test_an_empty_map_and_none_at_all_are_said(tmp_path: Path) -> None:
    images = [replace(one_of_each()[0], empty_map=True)]
    assert "The heat map is empty: no place speaks for PNEUMONIA." in cards_of(page_of(tmp_path, images))[0]
    page = page_of(tmp_path, [replace(one_of_each()[0], pictures=(picture(0),))], replace(FRAME, maps=""))
    assert "There are no heat maps." in page and "does not prove" not in page


@pytest.mark.parametrize(
    ("score", "threshold", "written"),
    [
        (0.9312, 0.52, "0.931"),
        (0.51999, 0.52, "0.51999"),
        (0.52, 0.52, "0.520"),
        (0.00231, 0.0021634, "0.0023"),
        (0.00212, 0.0021634, "0.002"),
        (0.00002, 0.52, "<\u202f0.001"),
        (0.9999, 0.52, ">\u202f0.999"),
        (0.0007, 0.0005, "0.0007"),
        (0.9, 0.0005, "0.900"),
    ],
)
def test_a_score_is_written_on_its_side_of_the_threshold(score: float, threshold: float, written: str) -> None:
    assert score_beside(score, threshold) == written


def test_bars_are_linear_unless_the_threshold_is_at_an_end() -> None:
    assert FRAME.at(0.3) == 0.3 and not FRAME.in_odds and FRAME.ends == (0.0, 1.0)
    near = replace(FRAME, threshold=0.0022, borderline_from=None)
    assert near.in_odds and near.at(0.5) == 0.5
    assert math.isclose(near.at(0.0001), 0.0, abs_tol=1e-9) and math.isclose(near.at(0.9999), 1.0)
    assert near.at(0.0) == 0.0 and near.at(1.0) == 1.0
    assert near.at(0.0044) - near.at(0.0022) > 0.03  # what the linear bar would show as two thousandths
    extreme = replace(FRAME, threshold=1e-6)
    assert 0.0 < extreme.at(1e-6) < 0.1 and extreme.ends[0] < 1e-6


def test_reading_says_what_maps_and_decisions_do_not_prove(tmp_path: Path) -> None:
    page = page_of(tmp_path, one_of_each())
    assert "no outline of a finding, no proof of a reason" in page and "is not cleared" in page
    assert "log-odds" in page_of(tmp_path, one_of_each(), replace(FRAME, threshold=0.0022, borderline_from=None))

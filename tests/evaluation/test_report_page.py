"""The page as a page: colours that can be read, headings in order, folded worries, checks, what fits into five megabytes."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation import pages, report
from evaluation.figures_style import DARK, VARIABLES
from evaluation.report_checks import checks_of
from evaluation.report_files import ReportError, RunFiles
from evaluation.wording import worry
from tests.evaluation.test_report import DATA_CARD, Page, edit, make_run

CSS = (Path(pages.__file__).parent / "report.css").read_text(encoding="utf-8")
VOID = {"meta", "link", "br", "img", "input", "hr", "col", "wbr", "source"}
TEXT = ("ink", "muted", "accent", "alarm", "caution", "good")


def palettes() -> dict[str, dict[str, str]]:
    """The variables of the sheet in light, dark and print; dark and print only override."""
    found = [
        dict(re.findall(r"--([\w-]+):\s*(#\w{3,6})", block)) for block in re.findall(r":root\s*\{(.*?)\}", CSS, re.S)
    ]
    light, dark, printed = found
    return {"light": light, "dark": light | dark, "print": light | printed}


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """WCAG 2: 1 to 21."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.pages._PNG_DPI", 20)


def test_contrast_is_measured_as_wcag_does() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=0.001)


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
def test_every_text_colour_can_be_read(mode: str) -> None:
    colours = palettes()[mode]
    pairs = [(text, ground) for text in TEXT for ground in ("paper", "card")]
    pairs += [("ink", "accent-soft"), ("muted", "accent-soft"), ("muted", "soft"), ("ink", "alarm-soft")]
    pairs += [(name, f"{name}-soft") for name in ("alarm", "caution", "good")] + [("card", "alarm")]
    weak = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: round(value, 2) for pair, value in weak.items() if value < 4.5} == {}


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
def test_marks_of_figures_stand_out_and_differ_in_grey(mode: str) -> None:
    colours = palettes()[mode]
    for name in ("fig-blue", "fig-orange", "fig-vermillion", "fig-muted", "fig-ink"):
        assert contrast(colours[name], colours["fig-paper"]) >= 3.0, name
    assert contrast(colours["fig-blue"], colours["fig-orange"]) > 1.2


def test_the_sheet_and_the_figures_use_the_same_colours() -> None:
    light, dark = palettes()["light"], palettes()["dark"]
    # Muted text on a page is a little darker than in a drawing, whose paper is always white.
    for colour, variable in VARIABLES.items():
        if variable != "--fig-muted":
            assert light[variable[2:]] == colour
        assert dark[variable[2:]] == DARK[colour]


def test_motion_print_and_phones_are_provided_for() -> None:
    assert "prefers-reduced-motion: no-preference" in CSS
    assert re.search(r"@media print \{.*nav, \.skip \{ display: none; \}", CSS, re.S)
    assert re.search(r"@media \(max-width: 640px\) \{\s*nav\.wide \{ display: none; \}", CSS)
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto;", CSS)
    # A caption has the width of the window on its table and stays while the table is scrolled.
    assert re.search(r"\.scroll \{ container-type: inline-size;", CSS)
    assert re.search(r"caption \{ position: sticky; left: 0; width: 100cqi;", CSS)


class Parents(HTMLParser):
    """The classes of the element that each table is in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, list[str]]] = []
        self.found: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.found.append(self.open[-1][1])
        if tag not in VOID:
            self.open.append((tag, (dict(attrs).get("class") or "").split()))

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop()[0] != tag:
            pass


def parents_of_tables(text: str) -> list[list[str]]:
    return Parents(text).found


def test_a_table_outside_its_box_is_seen() -> None:
    inside, outside = (
        '<div class="scroll"><table></table></div>',
        '<div class="scroll"></div><p><br></p><table></table>',
    )
    assert parents_of_tables(f"<main>{inside}{outside}</main>") == [["scroll"], []]


def test_headings_never_jump_and_landmarks_are_named(tmp_path: Path) -> None:
    text = report.write_report(make_run(tmp_path / "run")).read_text(encoding="utf-8")
    page = Page(text)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and max(b - a for a, b in itertools.pairwise(levels)) == 1
    assert [tag for tag, _ in page.tags if tag in ("header", "main", "footer")] == ["header", "main", "footer"]
    names = [attrs.get("aria-label") for tag, attrs in page.tags if tag == "nav"]
    assert len(names) == len(set(names)) == 2 and all(names)
    assert ("a", "#results") in page.values("href")
    assert all(attrs.get("aria-label") for _, attrs in page.tags if attrs.get("role") == "region")
    assert not [attrs for tag, attrs in page.tags if tag == "th" and "scope" not in attrs]
    # Tables scroll inside their own box, which the keyboard can reach.
    assert len(parents_of_tables(text)) == text.count("<table") > 5
    assert [classes for classes in parents_of_tables(text) if "scroll" not in classes] == []
    assert all(a.get("tabindex") == "0" for _, a in page.tags if "scroll" in (a.get("class") or "").split())


def test_alarms_are_in_full_and_the_rest_is_folded(tmp_path: Path) -> None:
    text = report.write_report(make_run(tmp_path / "run")).read_text(encoding="utf-8")
    summary = text[: text.index('<section id="results"')]
    assert re.search(r'<li class="worry alarm">\s*<p class="worry-title">.*?An alarm</p>\s*<p>Loud.</p>', summary, re.S)
    assert re.search(r'<details class="worry-line note">\s*<summary>.*?A note</summary>\s*<p>Small.</p>', summary, re.S)


def test_pictures_and_heat_maps_stand_side_by_side_within_the_budget(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    gallery = folder / "figures" / "mistakes"
    noise = np.random.default_rng(1).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    entries = json.loads((gallery / "mistakes.json").read_text())
    for number, entry in enumerate(entries):
        Image.fromarray(noise).save(gallery / f"{number}_map.jpg", quality=85)
        entry |= {"heat_map": f"{number}_map.jpg", "facts": {"sex": "female"}}
    (gallery / "mistakes.json").write_text(json.dumps(entries))
    page = report.write_report(folder)
    text = page.read_text(encoding="utf-8")
    shown = text.count('src="data:image/png') and text.count('src="data:image/jpeg')
    assert 0 < shown == text.count('src="data:image/png') and "sex female" in text
    assert page.stat().st_size < report.LARGEST_PAGE
    for number in range(len(entries)):
        Image.fromarray(noise.repeat(3, axis=0)).save(gallery / f"{number}_map.jpg", quality=95)
    small = report.write_report(folder)
    assert small.stat().st_size < report.LARGEST_PAGE
    assert "left out to keep this page small" in small.read_text(encoding="utf-8")


def test_a_page_too_large_for_other_reasons_goes_without_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(tmp_path / "run")
    monkeypatch.setattr(report, "LARGEST_PAGE", 10_000)
    text = report.write_report(folder).read_text(encoding="utf-8")
    assert "<img " not in text and "6 pictures left out to keep this page small" in text


def run_with(**changes: Any) -> RunFiles:
    """As much of a run as the checks read."""
    metrics: dict[str, Any] = {
        "splits": {"test": {"by": {}}},
        "worries": [],
        "phantom": False,
        "group_name": "patient",
        "shift": {"detected": False},
        "test_kind": "official",
        "calibration": {"worry": None},
    }
    card = changes.pop("data_card", DATA_CARD)
    audit = changes.pop("audit", None)
    held: Any = SimpleNamespace(metrics=metrics | changes, data_card=card, audit=audit)
    return held  # type: ignore[no-any-return]


def test_checks_of_a_clean_run() -> None:
    found = {check.name: (check.level, check.state) for check in checks_of(run_with())}
    assert found == {
        "Leakage": ("fine", "no patient in two parts"),
        "Shift": ("fine", "none seen"),
        "Calibration": ("fine", "scores fit the rates"),
        "Weak subgroup": ("unknown", "not known: no columns"),
        "Phantom data": ("fine", "no"),
        "Licence": ("fine", "CC BY 4.0"),
    }


@pytest.mark.parametrize(
    ("changes", "name", "level"),
    [
        ({"leak": {"share": 0.4}}, "Leakage", "alarm"),
        ({"worries": [worry("alarm", "A patient is on both sides of the split", "")]}, "Leakage", "alarm"),
        ({"audit": {"findings": [{"id": "parts", "level": "alarm", "title": "In two parts"}]}}, "Leakage", "alarm"),
        ({"audit": {"findings": [{"id": "shift", "level": "alarm", "title": "Of another kind"}]}}, "Leakage", "fine"),
        ({"group_name": "image"}, "Leakage", "caution"),
        ({"group_name": "image", "test_kind": "external"}, "Leakage", "fine"),
        ({"data_card": None}, "Leakage", "unknown"),
        ({"worries": [worry("alarm", "The test set is shifted", "")]}, "Shift", "alarm"),
        ({"worries": [worry("caution", "Test and validation differ", "")]}, "Shift", "caution"),
        ({"promise": {"kept": False}}, "Shift", "alarm"),
        ({"shift": None}, "Shift", "unknown"),
        ({"test_kind": "cut"}, "Shift", "unknown"),
        ({"calibration": {"worry": worry("caution", "Scores are no risks on test", "")}}, "Calibration", "caution"),
        ({"calibration": None}, "Calibration", "unknown"),
        ({"calibration": {"worry": None, "unknown": "one class only"}}, "Calibration", "unknown"),
        ({"phantom": True}, "Phantom data", "alarm"),
        ({"test_kind": "given"}, "Phantom data", "unknown"),
        ({"data_card": DATA_CARD | {"licence": "CC BY-NC 4.0"}}, "Licence", "caution"),
        ({"data_card": DATA_CARD | {"licence": ""}}, "Licence", "unknown"),
    ],
)
def test_each_check_answers_from_the_files(changes: dict[str, Any], name: str, level: str) -> None:
    found = {check.name: check.level for check in checks_of(run_with(**changes))}
    assert found[name] == level


def test_a_poor_calibration_is_told_as_a_sentence() -> None:
    for level in ("caution", "alarm"):
        held = run_with(calibration={"worry": worry(level, "Scores are off", "")})
        assert {check.name: check.state for check in checks_of(held)}["Calibration"] == "cannot be read as risks"


def test_the_weak_subgroup_is_known_from_its_worry() -> None:
    interval = {"value": 0.9, "low": 0.85, "high": 0.95}
    rows = [{"value": v, "n": 90, "n_groups": 60, "n_positive_groups": 30, "sensitivity": interval} for v in ("f", "m")]
    splits = {"test": {"by": {"sex": rows}}}
    held = worry("caution", "Fewer PNEUMONIA are found where sex is f", "")
    for worries, level in (([], "fine"), ([held], "caution")):
        found = {check.name: check.level for check in checks_of(run_with(splits=splits, worries=worries))}
        assert found["Weak subgroup"] == level


def test_an_unknown_schema_is_refused(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    edit(folder / "metrics.json", schema=2)
    assert report.write_report(folder).is_file()
    edit(folder / "metrics.json", schema="2")
    with pytest.raises(ReportError, match=r"schema is '2', this version reads \[1, 2\]"):
        report.write_report(folder)

"""The page of serve.py in a real browser: images go in, and what a person reads is what the model said."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from conf.schema import RESEARCH_NOTICE
from datamodules.appearance import look
from tests.conftest import make_chest_xray
from tests.serving.served_page import LOW_CONTRAST, Watched, running_browser, running_server
from tests.workflow.tiny_run import tiny_run
from workflow.answers import Answer, answers_of
from workflow.prediction_rows import Columns, csv_lines
from workflow.predictor import load_predictor

pytestmark = pytest.mark.slow

PHONE, DESKTOP = (390, 844), (1280, 900)
TOO_LARGE = 60_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served")
    return tiny_run(place / "run", make_chest_xray(place / "films", train_patients=12), place / "home")


@pytest.fixture(scope="module")
def films(run: Path) -> list[Path]:
    """Six images of the test part."""
    return sorted((run.parent / "films" / "test").rglob("*.jpeg"))[::3][:6]


@pytest.fixture(scope="module")
def broken(run: Path) -> Path:
    path = run.parent / "notes <img src=x onerror=alert(1)>.jpg"
    path.write_text("This is a text.\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    with running_server(run, f"max_bytes={TOO_LARGE}") as listening:
        yield listening


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as running:
        yield running


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page of its own in a fresh profile; at the end it must have complained of nothing and asked nobody else."""
    watched, context = Watched(address), browser.new_context(viewport=_size(DESKTOP), accept_downloads=True)
    page = context.new_page()
    watched.watch(page)
    page.set_default_timeout(60_000)
    page.goto(address)
    page.locator("body.ready").wait_for()
    yield page
    assert watched.asked, "nothing was watched"
    assert watched.elsewhere == []
    assert [said for said in watched.complaints if not _MEANT.search(said)] == []
    context.close()


_MEANT = re.compile("status of (503|403)")  # what a test lets the server say


def _size(size: tuple[int, int]) -> dict[str, int]:
    return dict(zip(("width", "height"), size, strict=True))


def _read(page: Any, files: list[Path]) -> None:
    page.locator("#files").set_input_files([str(path) for path in files])
    page.locator("#spoken", has_text="Done.").wait_for(state="attached")


def _expected(run: Path, films: list[Path]) -> list[Answer]:
    predictor = load_predictor(run)
    decoding = predictor.decoding
    looked = [
        look(
            path.read_bytes(),
            name=path.name,
            size=decoding["image_size"],
            channels=decoding["channels"],
            interpolation=decoding["interpolation"],
        )
        for path in films
    ]
    return answers_of(predictor, looked, [path.name for path in films])


def test_what_a_person_reads_is_what_the_model_said(page: Any, run: Path, films: list[Path]) -> None:
    _read(page, films)
    cards, expected = page.locator(".answer"), _expected(run, films)
    assert cards.count() == len(films) == len(expected)
    for number, answer in enumerate(expected):
        card = cards.nth(number)
        assert card.locator("h3").inner_text() == films[number].name
        assert card.locator(".decision").inner_text().split(",")[0] == answer.decision
        assert ("borderline" in card.locator(".decision").inner_text()) == answer.borderline
        assert float(card.locator(".score b").inner_text()) == pytest.approx(answer.score, abs=5.1e-4)
    assert {answer.decision for answer in expected} == {"NORMAL", "PNEUMONIA"}, "both decisions are tested"


def test_the_csv_is_that_of_the_server(page: Any, address: str, run: Path, films: list[Path], broken: Path) -> None:
    _read(page, [*films, broken])
    text = _downloaded(page)
    sent = [("files", (path.name, path.read_bytes())) for path in [*films, broken]]
    assert text == httpx.post(f"{address}api/predict.csv", files=sent, timeout=60).text
    rows = list(csv.DictReader(io.StringIO(text)))
    scores = [float(row["score"]) for row in rows[:-1]]
    assert scores == pytest.approx([answer.score for answer in _expected(run, films)], abs=1e-6)
    assert rows[-1]["error"] and not rows[-1]["score"]


def test_the_csv_of_many_classes_is_written_as_python_writes_it(page: Any, films: list[Path]) -> None:
    classes, calibrated = ("akiec", "mel, all", "nv"), (0.25, 0.5, 0.25)
    unlike = ("In colour, and large.", 'It says "no".')
    answers = [
        Answer("a.png", "", None, (1.0, 0.0, 1.5e-05), 1.0, 0.75, calibrated, "malignant", "akiec", False, 1.0),
        Answer("b, c.png", "", None, (0.1, 2e-300, 0.9), 0.1, 1e-05, calibrated, "abstain", "nv", False, 0.001, unlike),
        Answer("d.png", "", None, (0.1, 0.2, 0.7), 0.1 + 0.2, 0.3, calibrated, "benign", "nv", True, 0.5),
        Answer("e.png", error="e.png: not an image file"),
    ]
    given = {"positive_called": "malignant", "negative_called": "benign", "borderline_from": 0.25}
    _tell(page, classes=classes, positive=classes[:2], **given)
    results = [{**answer.to_dict(), "width": 9, "height": 9, "preview": None, "heat_map": None} for answer in answers]
    page.route("**/api/predict?*", lambda route: route.fulfill(json={"results": results}))
    _read(page, films[: len(results)])
    assert _downloaded(page) == "".join(csv_lines(Columns(classes, "malignant"), answers))


def _tell(page: Any, **facts: Any) -> None:
    """Load the page again with other facts about the model."""
    told = {**httpx.get(f"{page.url}api/model").json(), **facts}
    page.route("**/api/model", lambda route: route.fulfill(json=told))
    page.reload()
    page.locator("body.ready").wait_for()


def _downloaded(page: Any) -> str:
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download CSV").click()
    assert waiting.value.suggested_filename == "predictions.csv"
    return Path(waiting.value.path()).read_bytes().decode()


def test_phantoms_and_what_a_model_lacks_are_said(page: Any, films: list[Path]) -> None:
    assert page.locator("#phantom").is_hidden(), "this run is none"
    why = "Its last maps are one pixel wide."
    _tell(page, phantom=True, heat_maps={"available": False, "method": "grad_cam", "reason": why}, headline=[], card=[])
    assert page.get_by_text("Phantom data: the model learnt").is_visible()
    assert page.get_by_role("checkbox", name="with heat maps").is_disabled()
    _read(page, films[:1])
    assert page.get_by_text(f"No heat maps: {why}").first.is_visible() and page.locator("#slider-box").is_hidden()
    assert page.locator(".answer img").count() == 1
    page.get_by_role("tab", name="Model card").click()
    assert page.get_by_text("Headline figures are not known here").is_visible()


def test_a_file_that_cannot_be_read_stops_nothing_and_its_name_is_only_text(
    page: Any, films: list[Path], broken: Path
) -> None:
    _read(page, [films[0], broken, films[1]])
    assert page.locator(".answer").count() == 3
    card = page.locator(".answer.is-unreadable")
    assert card.locator("h3").inner_text() == broken.name
    assert "text" in card.inner_text() and "Not readable" in card.inner_text()
    assert page.locator(".answer img[src=x]").count() == 0
    page.get_by_role("button", name="Not readable 1").click()
    assert page.locator(".answer").count() == 1


def test_a_file_above_the_limit_is_not_sent_and_has_its_line_in_the_csv(
    page: Any, films: list[Path], run: Path
) -> None:
    large = run.parent / "large, too.png"
    large.write_bytes(bytes(TOO_LARGE + 1))
    _read(page, [films[0], large, films[1]])
    assert "max_bytes" in page.locator(".answer.is-unreadable").inner_text()
    rows = list(csv.DictReader(io.StringIO(_downloaded(page))))
    assert [row["image_id"] for row in rows] == [films[0].name, large.name, films[1].name]
    assert "max_bytes" in rows[1]["error"]


def test_the_slider_moves_with_the_keyboard_and_changes_the_layer(page: Any, films: list[Path]) -> None:
    _read(page, films[:1])
    layer, slider = page.locator(".answer img.heat"), page.get_by_role("slider", name=re.compile("Heat map"))
    layer.wait_for()
    assert _opacity(layer) == pytest.approx(0.7)
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert slider.input_value() == "65" and _opacity(layer) == pytest.approx(0.65)
    page.keyboard.press("Home")
    assert _opacity(layer) == 0 and page.locator("#strength-value").inner_text().startswith("0")
    assert page.get_by_role("img", name=re.compile("Heat map of .* alone")).count() == 1


def _opacity(layer: Any) -> float:
    return float(layer.evaluate("element => getComputedStyle(element).opacity"))


def test_tabs_work_as_keyboard_users_know_them(page: Any) -> None:
    read, card = page.get_by_role("tab", name="Read images"), page.get_by_role("tab", name="Model card")
    read.focus()
    page.keyboard.press("ArrowRight")
    assert card.get_attribute("aria-selected") == "true" and page.locator("#panel-card").is_visible()
    assert card.evaluate("element => element === document.activeElement")
    assert page.locator("#panel-read").is_hidden() and read.get_attribute("tabindex") == "-1"
    assert "Threshold" in page.locator("#panel-card").inner_text()
    page.keyboard.press("Home")
    assert page.locator("#panel-read").is_visible() and page.locator("#panel-card").is_hidden()


def test_everything_can_be_reached_with_the_tab_key_and_has_a_name(page: Any, films: list[Path]) -> None:
    _read(page, films[:2])
    page.locator(".answer img.heat").first.wait_for()
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    wanted = ["tab-read", "choose", "with-maps", "as-cards", "as-table", "download", "clear", "strength", "enlarge"]
    assert [name for name in wanted if name not in reached] == []
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    controls = [node for node in nodes if not node["ignored"] and node["role"]["value"] in _CONTROLS]
    assert len(controls) > 12
    assert [node["role"]["value"] for node in controls if not node.get("name", {}).get("value", "").strip()] == []


_CONTROLS = (
    "button",
    "tab",
    "slider",
    "checkbox",
    "link",
    "image",
    "img",
    "textbox",
    "tabpanel",
    "dialog",
    "progressbar",
)


@pytest.mark.parametrize("width", [PHONE[0], 320])
def test_nothing_runs_over_the_side_of_a_phone(page: Any, films: list[Path], broken: Path, width: int) -> None:
    page.set_viewport_size(_size((width, 844)))
    assert _beyond(page) <= 0
    _read(page, [*films, broken])
    page.locator(".answer img.heat").first.wait_for()
    assert _beyond(page) <= 0
    page.get_by_role("button", name="Table", exact=True).click()
    assert page.locator("table").is_visible() and _beyond(page) <= 0
    page.get_by_role("tab", name="Model card").click()
    assert _beyond(page) <= 0
    assert page.get_by_text(RESEARCH_NOTICE).first.is_visible()


def _beyond(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page: Any, films: list[Path], broken: Path, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    _read(page, [*films, broken])
    page.locator("#how summary").click()
    assert page.evaluate(LOW_CONTRAST) == []
    page.get_by_role("button", name="Table", exact=True).click()
    assert page.evaluate(LOW_CONTRAST) == []
    page.get_by_role("tab", name="Model card").click()
    assert page.evaluate(LOW_CONTRAST) == []


def test_the_table_is_sorted_by_its_headings(page: Any, films: list[Path], broken: Path) -> None:
    _read(page, [broken, *films])
    page.get_by_role("button", name="Table", exact=True).click()
    heading = page.get_by_role("button", name="score", exact=True)
    heading.click()
    heading.click()
    assert page.get_by_role("columnheader", name="score").get_attribute("aria-sort") == "descending"
    cells = page.locator("tbody tr td:nth-child(4)").all_inner_texts()
    scores = [float(cell) for cell in cells[:-1]]
    assert scores == sorted(scores, reverse=True) and cells[-1] == "\u2013", "what has no score comes last"
    page.locator("tbody tr button").first.click()
    assert page.evaluate("document.activeElement.classList.contains('answer')"), "the name leads to the card"


def test_files_dropped_anywhere_and_pasted_ones_are_read(page: Any, films: list[Path]) -> None:
    content = [list(films[0].read_bytes()), list(films[1].read_bytes())]
    page.evaluate(_GIVE, ["drop", content[0]])
    page.locator(".answer").nth(0).wait_for()
    page.evaluate(_GIVE, ["paste", content[1]])
    page.locator(".answer").nth(1).wait_for()
    assert page.locator(".answer h3").all_inner_texts() == ["drop.jpg", "paste.jpg"]


_GIVE = """([kind, bytes]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], `${kind}.jpg`, {type: "image/jpeg"}));
  document.body.dispatchEvent(kind === "drop" ? new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true})
    : new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true}));
}"""


def test_a_busy_server_is_asked_again(page: Any, films: list[Path]) -> None:
    asked: list[int] = []

    def busy_once(route: Any) -> None:
        asked.append(1)
        if len(asked) > 1:
            route.continue_()
        else:
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"detail": "Too many images are waiting."})

    page.route("**/api/predict?*", busy_once)
    _read(page, films[:2])
    assert len(asked) == 2 and page.locator(".answer").count() == 2


def test_the_rest_waits_where_reading_stops_and_goes_on_when_asked(page: Any, films: list[Path]) -> None:
    refusal = {"status": 403, "json": {"detail": "Another page asked."}}
    page.route("**/api/predict?*", lambda route: route.fulfill(**refusal), times=1)
    page.locator("#files").set_input_files([str(path) for path in films[:2]])
    page.get_by_role("alert").get_by_text("Another page asked. 2 files not read yet.").wait_for()
    page.get_by_role("button", name="Go on").click()
    page.locator(".answer").nth(1).wait_for()
    assert page.locator("#halted").is_hidden()


def test_cancelling_keeps_what_is_read_and_clearing_leaves_nothing(page: Any, films: list[Path]) -> None:
    held: list[Any] = []
    _read(page, films[:1])
    page.route("**/api/predict?*", lambda route: held.append(route))
    page.locator("#files").set_input_files([str(path) for path in films])
    page.get_by_role("button", name="Cancel").click()
    page.locator("#spoken", has_text="Cancelled. 6 files not read.").wait_for(state="attached")
    assert page.locator(".answer").count() == 1 and page.locator("#progress").is_hidden()
    page.get_by_role("button", name="Clear").click()
    assert page.locator(".answer").count() == 0 and page.locator("#results").is_hidden()
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0


def test_an_image_is_enlarged_with_its_map_and_the_focus_comes_back(page: Any, films: list[Path]) -> None:
    _read(page, films[:2])
    first = page.get_by_role("button", name=f"Enlarge {films[0].name}")
    first.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=films[0].name)
    dialog.locator("img.heat").wait_for()
    dialog.get_by_role("button", name="Next").click()
    assert page.get_by_role("dialog", name=films[1].name).is_visible()
    page.keyboard.press("Escape")
    assert page.locator("dialog").is_hidden()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Enlarge {films[1].name}"

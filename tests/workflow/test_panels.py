"""From answers to pages: decoded by the sheet, in order, with what can no longer be read, and nothing of an earlier panel."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.appearance import Looked, look
from datamodules.errors import UnreadableImageError
from evaluation import panel as pages
from evaluation.figures_panel import write_sheet
from evaluation.panel import ABSTAINED, BORDERLINE, NEGATIVE, POSITIVE, UNREADABLE
from evaluation.recalibration import Calibrator
from tests.conftest import make_chest_xray
from tests.workflow.tiny_run import tiny_run
from workflow import panels
from workflow.answers import ABSTAIN, Answer, Unread, answers_of
from workflow.panels import kind_of, write_panel
from workflow.predictor import Predictor, load_predictor

MAPS = {"method": "grad_cam", "layer": None, "target": None}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chest_xray(tmp_path_factory.mktemp("panels") / "chest_xray")


@pytest.fixture(scope="module")
def predictor(root: Path) -> Predictor:
    return load_predictor(tiny_run(root.parent / "run", root, root.parent / "home"))


@pytest.fixture(scope="module")
def read(predictor: Predictor) -> panels.Read:
    size = predictor.decoding

    def reader(answer: Answer) -> Looked:
        return look(
            Path(answer.path),
            size=size["image_size"],
            channels=size["channels"],
            interpolation=size["interpolation"],
        )

    return reader


@pytest.fixture(scope="module")
def answers(predictor: Predictor, read: panels.Read, root: Path) -> list[Answer]:
    """Fourteen of images, the fifth of a file that is none."""
    files = sorted((root / "test").rglob("*.jpeg"))[:14]
    images = [read(Answer(path.name, str(path))) for path in files]
    given: list[Looked | Unread] = [*images[:4], Unread(f"{files[4].name}: the file is empty"), *images[5:]]
    ids = [path.relative_to(root).as_posix() for path in files]
    groups = [f"p{number // 2}" for number in range(len(files))]
    return answers_of(predictor, given, ids, [str(path) for path in files], groups)


def numbers_of(page: Path) -> list[int]:
    return [int(value) for value in re.findall(r'<span class="number">(\d+)</span> \S+/', page.read_text("utf-8"))]


def test_all_images_are_there_in_order_on_a_page_and_on_sheets(
    predictor: Predictor, answers: list[Answer], read: panels.Read, tmp_path: Path
) -> None:
    written = write_panel(tmp_path, predictor, answers, read, heat_maps=MAPS, version="9.8.7")
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "panel.html",
        "panel/page_001.png",
        "panel/page_002.png",
    ]
    page = written[0].read_text("utf-8")
    assert numbers_of(written[0]) == list(range(1, 15))
    assert all(Path(answer.image_id).name in page for answer in answers)
    assert page.count("data:image/jpeg") == 3 * 13 and "9.8.7" in page
    assert "The file is empty" in page  # without the name of the file, which stands below
    assert "heat map (Grad-CAM) of what speaks for PNEUMONIA" in page.replace("Heat map", "heat map")
    heights = [Image.open(path).height for path in written[1:]]
    assert heights[1] < heights[0] / 3


def test_decisions_are_those_of_the_answers(
    predictor: Predictor, answers: list[Answer], read: panels.Read, tmp_path: Path
) -> None:
    given = [
        replace(answers[0], decision="PNEUMONIA", borderline=False, score=0.99),
        replace(answers[1], decision="NORMAL", borderline=True, score=0.4),
        replace(answers[2], decision="NORMAL", borderline=False, score=0.01),
        replace(answers[3], decision=ABSTAIN, p_value=0.001, reasons=("it is in colour",)),
        answers[4],
    ]
    kinds = [POSITIVE, BORDERLINE, NEGATIVE, ABSTAINED, UNREADABLE]
    assert [kind_of(answer, predictor) for answer in given] == kinds
    page = write_panel(tmp_path, predictor, given, read, heat_maps=None)[0].read_text("utf-8")
    assert re.findall(r'<li class="shot is-(\w+)"', page) == kinds
    assert "It is in colour" in page


def test_groups_are_said_with_their_decision(
    predictor: Predictor, answers: list[Answer], read: panels.Read, tmp_path: Path
) -> None:
    given = [replace(answers[0], decision="NORMAL", score=0.01), replace(answers[1], decision="PNEUMONIA", score=0.99)]
    page = write_panel(tmp_path, predictor, given, read, heat_maps=None)[0].read_text("utf-8")
    assert len(re.findall(r'<span class="id">p0</span>: PNEUMONIA \(2 images\)', page)) == 2
    alone = [replace(answer, group=None) for answer in given]
    assert "By patient" not in write_panel(tmp_path, predictor, alone, read, heat_maps=None)[0].read_text("utf-8")


def test_a_file_that_went_away_has_no_picture_and_keeps_its_answer(
    predictor: Predictor, answers: list[Answer], read: panels.Read, tmp_path: Path
) -> None:
    def gone(answer: Answer) -> Looked:
        if answer == answers[1]:
            raise UnreadableImageError("x.jpeg: cannot be read (No such file or directory)")
        return read(answer)

    page = write_panel(tmp_path, predictor, answers[:3], gone, heat_maps=MAPS)[0].read_text("utf-8")
    assert page.count("data:image/jpeg") == 6 and page.count("no picture") == 1
    assert "It could be read when it was scored, but not for this picture" in page
    assert f"{pages.score_beside(answers[1].score or 0.0, predictor.point.threshold)}</b> score" in page


def test_many_images_are_never_held_together(
    predictor: Predictor,
    answers: list[Answer],
    read: panels.Read,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(panels, "PER_PAGE", 24)
    monkeypatch.setattr(pages, "PER_PAGE", 24)
    begun: list[int] = []
    ahead: list[int] = []
    lock, look_once = threading.Lock(), read(answers[0])

    def counted(answer: Answer) -> Looked:
        with lock:
            begun.append(1)
        return look_once

    real = write_sheet

    def sheet(frame: pages.PanelFrame, images: list[pages.PanelImage], number: int, folder: Path) -> Path:
        ahead.append(len(begun) - 12 * number)
        return real(frame, images, number, folder)

    monkeypatch.setattr(panels, "write_sheet", sheet)
    many = [replace(answers[0], image_id=f"a/{number}") for number in range(60)]
    written = write_panel(tmp_path, predictor, many, counted, heat_maps=None)
    assert max(ahead) <= 12 and len(begun) == 60
    names = [path.name for path in written]
    assert names[:3] == ["panel.html", "panel_002.html", "panel_003.html"] and names[3:] == [
        f"page_{number:03d}.png" for number in range(1, 6)
    ]
    assert [number for path in written[:3] for number in numbers_of(path)] == list(range(1, 61))


def test_an_earlier_panel_leaves_nothing_behind(
    predictor: Predictor, answers: list[Answer], read: panels.Read, tmp_path: Path
) -> None:
    write_panel(tmp_path, predictor, answers, read, heat_maps=None)
    (tmp_path / "panel_002.html").write_text("old", encoding="utf-8")
    (tmp_path / "predictions.csv").write_text("kept", encoding="utf-8")
    write_panel(tmp_path, predictor, answers[:1], read, heat_maps=None)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == [
        "panel.html",
        "panel/page_001.png",
        "predictions.csv",
    ]


def test_a_layer_that_is_not_there_is_named_before_anything_is_removed(
    predictor: Predictor, answers: list[Answer], read: panels.Read, tmp_path: Path
) -> None:
    written = write_panel(tmp_path, predictor, answers[:1], read, heat_maps=MAPS)
    with pytest.raises(ValueError, match="no_such_layer"):
        write_panel(tmp_path, predictor, answers[:1], read, heat_maps={**MAPS, "layer": "no_such_layer"})
    assert all(path.is_file() for path in written)


def test_a_network_without_maps_has_a_panel_without(
    predictor: Predictor,
    answers: list[Answer],
    read: panels.Read,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def none(predictor: Predictor, pixels: np.ndarray, **options: object) -> None:
        asked.append(len(pixels))

    monkeypatch.setattr(panels, "maps_of", none)
    page = write_panel(tmp_path, predictor, answers, read, heat_maps=MAPS)[0].read_text("utf-8")
    assert asked == [1]  # once, not for every sheet
    assert page.count("data:image/jpeg") == 13 and "There are no heat maps." in page


def test_maps_of_a_chosen_class_are_said_to_be_of_it(
    predictor: Predictor, answers: list[Answer], read: panels.Read, tmp_path: Path
) -> None:
    chosen = {"method": "hires_cam", "layer": None, "target": "NORMAL"}
    page = write_panel(tmp_path, predictor, answers[:1], read, heat_maps=chosen)[0].read_text("utf-8")
    assert "Heat map (HiRes-CAM) of what speaks for NORMAL" in page


def test_more_images_turned_away_than_usual_are_a_worry(
    predictor: Predictor, answers: list[Answer], read: panels.Read, tmp_path: Path
) -> None:
    class Check:
        alpha = 0.01

    unlike = [replace(answer, decision=ABSTAIN, reasons=("unlike",)) for answer in answers[:4]]
    checked = replace(predictor, checks=(Check(),))  # type: ignore[arg-type]
    page = write_panel(tmp_path, checked, unlike, read, heat_maps=None)[0].read_text("utf-8")
    assert "These images may be of another kind" in page and "4 of 4 images (100.0%)" in page
    few = write_panel(tmp_path, checked, [*unlike[:1], *answers[5:]], read, heat_maps=None)[0].read_text("utf-8")
    assert "These images may be of another kind" not in few


def test_no_answers_are_refused(predictor: Predictor, read: panels.Read, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        write_panel(tmp_path, predictor, [], read)


def test_a_page_claims_no_calibration_and_no_check_that_there_is_not(
    predictor: Predictor, answers: list[Answer], read: panels.Read, tmp_path: Path
) -> None:
    plain = replace(predictor, calibrator=Calibrator(), checks=(None,))
    page = write_panel(tmp_path / "plain", plain, answers[:2], read, heat_maps=None)[0].read_text("utf-8")
    assert "</b> calibrated" not in page and "The scores of this model are not recalibrated" in page
    assert "often right as it says" not in page and "This model has no input check" in page
    check: Any = SimpleNamespace(alpha=0.01)
    acting = replace(predictor, calibrator=Calibrator("platt", slope=2.0, intercept=0.5), checks=(check,))
    page = write_panel(tmp_path / "acting", acting, answers[:2], read, heat_maps=None)[0].read_text("utf-8")
    assert page.count("</b> calibrated") == 2 and "not recalibrated" not in page and "no input check" not in page


def test_the_banner_of_a_phantom_model_says_nothing_of_the_images(
    predictor: Predictor, answers: list[Answer], read: panels.Read, tmp_path: Path
) -> None:
    phantom = replace(predictor, about=replace(predictor.about, phantom=True))
    page = write_panel(tmp_path, phantom, answers[:1], read, heat_maps=None)[0].read_text("utf-8")
    assert "The model was trained on generated images." in page and "The images were generated" not in page

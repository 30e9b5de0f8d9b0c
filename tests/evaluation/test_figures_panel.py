"""Contact sheets: size, order, shapes, bars, and names that do not fit."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.figures_panel import PER_SHEET, contact_sheet, write_sheet
from evaluation.figures_style import BLUE, VERMILLION
from evaluation.panel import BORDERLINE, KINDS, NEGATIVE, POSITIVE, UNREADABLE, PanelImage
from tests.evaluation import panel_samples

FRAME = replace(
    panel_samples.FRAME,
    title="Films: simple_cnn",
    threshold=0.5,
    statement="",
    borderline_from=0.4,
    calibrated_at=0.5,
    kinds=(POSITIVE,) * 30,
)


def image(kind: str = POSITIVE, score: float | None = 0.9, level: int = 200) -> PanelImage:
    flat = tuple(np.full((20, 20, channels), level, dtype=np.uint8) for channels in (1, 3, 3))
    return PanelImage(1, "film.png", kind, score, 0.8, pictures=flat if score is not None else ())


def count_of(sheet: Image.Image, colour: str) -> int:
    wanted = tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return int((np.asarray(sheet) == np.asarray(wanted, dtype=np.uint8)).all(axis=2).sum())


def test_a_full_sheet_is_a4_and_a_single_image_needs_one_row() -> None:
    full = contact_sheet(FRAME, [image()] * PER_SHEET, 1)
    assert full.width == 1240 and abs(full.height / full.width - 2**0.5) < 0.005
    assert contact_sheet(FRAME, [image()], 1).height < 0.3 * full.height
    assert contact_sheet(FRAME, [image()] * 2, 1).height == contact_sheet(FRAME, [image()], 1).height


@pytest.mark.parametrize("n", [0, PER_SHEET + 1])
def test_it_holds_one_to_twelve(n: int) -> None:
    with pytest.raises(ValueError, match="1 to 12"):
        contact_sheet(FRAME, [image()] * n, 1)


def test_images_are_in_reading_order() -> None:
    levels = [10, 60, 110, 160]
    sheet = np.asarray(contact_sheet(FRAME, [image(level=level) for level in levels], 1).convert("L"))
    rows, columns = (190, 458), (140, 736)  # somewhere inside the first picture of each place
    assert [int(sheet[row, column]) for row in rows for column in columns] == levels


def test_kinds_differ_without_colour() -> None:
    drawn = []
    for kind in KINDS:
        sheet = contact_sheet(replace(FRAME, positive="X", negative="X"), [image(kind)], 1).convert("L")
        sign = np.asarray(sheet.crop((50, 284, 72, 308)), dtype=np.float64)
        drawn.append((sign < 0.8 * sign.max()).tobytes())
    assert len(set(drawn)) == len(KINDS)


def test_bar_grows_with_the_score() -> None:
    small, large = (count_of(contact_sheet(FRAME, [image(POSITIVE, score)], 1), VERMILLION) for score in (0.55, 0.95))
    assert large > small + 500
    assert count_of(contact_sheet(FRAME, [image(NEGATIVE, 0.3)], 1), BLUE) > 300


def test_phantom_and_unreadable_and_odd_names_can_be_drawn() -> None:
    odd = PanelImage(12, "scan\udcff\n\u202e" + "y" * 400 + ".png", UNREADABLE, error="it is " + "long " * 100)
    alone = replace(image(BORDERLINE, 0.45), pictures=(np.zeros((8, 8, 1), dtype=np.uint8),))
    empty = replace(image(), empty_map=True)
    plain = contact_sheet(FRAME, [odd, alone, empty], 1)
    phantom = contact_sheet(replace(FRAME, phantom=True), [odd, alone, empty], 1)
    difference = np.asarray(plain) != np.asarray(phantom)
    assert difference[:80].any() and not difference[80:].any()
    said = contact_sheet(replace(FRAME, phantom=True, title=f"Phantom data - {FRAME.title}"), [odd, alone, empty], 1)
    assert said.tobytes() == phantom.tobytes()  # not twice


def test_nothing_is_drawn_beyond_the_margins() -> None:
    long = replace(FRAME, title="A very long title of a run " * 10, positive="A very long name of a class " * 4)
    images = [replace(image(kind, 0.5 if kind != UNREADABLE else None), error="e" * 300) for kind in KINDS]
    sheet = np.asarray(contact_sheet(long, images, 1))
    assert (sheet[:, -30:] == 255).all() and (sheet[:, :30] == 255).all()


def test_same_answers_same_bytes_and_no_remains(tmp_path: Path) -> None:
    first = write_sheet(FRAME, [image()], 3, tmp_path).read_bytes()
    assert write_sheet(FRAME, [image()], 3, tmp_path).read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["page_003.png"]
    with Image.open(io.BytesIO(first)) as held:
        assert held.format == "PNG" and set(held.info) == {"dpi"}

"""Contact sheets: twelve answers on a page to print or to page through, drawn with the palette of the figures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from evaluation.figures_style import BLUE, GRID, INK, MUTED, PAPER, VERMILLION
from evaluation.pages import NOTICE, write_whole
from evaluation.panel import (
    ABSTAINED,
    BORDERLINE,
    NEGATIVE,
    POSITIVE,
    UNREADABLE,
    PanelFrame,
    PanelImage,
    as_image,
    printable,
    score_beside,
    shortened,
)
from evaluation.report_text import NARROW_SPACE, probability, upper_first
from evaluation.wording import short

PER_SHEET: Final = 12
COLUMNS: Final = 2

# Pixels at 150 to the inch; a full sheet is A4.
_WIDTH, _HEIGHT = 1240, 1754
_MARGIN, _GAP, _PAD = 36, 24, 12
_TOP, _FOOT = 92, 54
_CELL = (_HEIGHT - _TOP - _FOOT) // (PER_SHEET // COLUMNS)
_SIDE, _SIGN = 174, 18
_WIDE = (_WIDTH - 2 * _MARGIN - _GAP) // COLUMNS
_PHANTOM = "Phantom data - "
_CAUTION, _SOFT, _PALE = "#7a5200", "#eef1f4", "#fdf5e2"
_COLOURS = {POSITIVE: VERMILLION, BORDERLINE: _CAUTION, NEGATIVE: BLUE, ABSTAINED: MUTED, UNREADABLE: MUTED}


def write_sheet(frame: PanelFrame, images: Sequence[PanelImage], number: int, folder: Path) -> Path:
    """Write ``page_001.png``: at most ``PER_SHEET`` images, two beside each other, in the order they are given.

    Args:
        number: of the sheet, from 1.
    """
    content = io.BytesIO()
    contact_sheet(frame, images, number).save(content, "PNG", dpi=(150, 150))
    return write_whole(folder / f"page_{number:03d}.png", content.getvalue())


def contact_sheet(frame: PanelFrame, images: Sequence[PanelImage], number: int) -> Image.Image:
    """The sheet as a picture: A4 upright at 150 dots an inch, shorter where rows are empty.

    Raises:
        ValueError: no image, or more than ``PER_SHEET``.
    """
    if not 1 <= len(images) <= PER_SHEET:
        raise ValueError(f"a contact sheet holds 1 to {PER_SHEET} images, got {len(images)}")
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (_WIDTH, _TOP + rows * _CELL + _FOOT), PAPER)
    draw = ImageDraw.Draw(sheet)
    _head(draw, frame, number)
    for position, image in enumerate(images):
        row, column = divmod(position, COLUMNS)
        _cell(sheet, draw, frame, image, (_MARGIN + column * (_WIDE + _GAP), _TOP + row * _CELL))
    _foot(draw, frame, sheet.height)
    return sheet


def _head(draw: ImageDraw.ImageDraw, frame: PanelFrame, number: int) -> None:
    sheets = -(-len(frame.kinds) // PER_SHEET)
    right = f"sheet {number} of {sheets}"
    x = _WIDTH - _MARGIN - _font(15).getlength(right)
    said = not frame.phantom or frame.title.startswith(_PHANTOM)  # titles of runs say it themselves
    title = frame.title if said else _PHANTOM + frame.title
    _text(draw, (_MARGIN, 24), title, 22, bold=True, room=x - _MARGIN - 20)
    draw.text((x, 30), right, fill=MUTED, font=_font(15))
    scale = " (bars in log-odds)" if frame.in_odds else ""
    line = f"Called {frame.positive} at a score of {short(frame.threshold)} or more, the upright line{scale}"
    if frame.borderline_from is not None:
        line += f"; hatched from {short(frame.borderline_from)}: borderline"
    _text(draw, (_MARGIN, 56), line, 15, MUTED, room=_WIDTH - 2 * _MARGIN)


def _foot(draw: ImageDraw.ImageDraw, frame: PanelFrame, height: int) -> None:
    if frame.maps:
        line = f"{upper_first(frame.maps)}, line at half the maximum: where in the image; no outline of a finding, no proof."
        _text(draw, (_MARGIN, height - 46), line, 14, MUTED, room=_WIDTH - 2 * _MARGIN)
    _text(draw, (_MARGIN, height - 25), NOTICE, 14, INK, bold=True, room=_WIDTH - 2 * _MARGIN)


def _cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, frame: PanelFrame, image: PanelImage, corner: tuple[int, int]
) -> None:
    left, top = corner
    box = (left, top, left + _WIDE, top + _CELL - 12)
    draw.rounded_rectangle(box, 8, fill=_PALE if image.kind == BORDERLINE else PAPER, outline=GRID)
    draw.rectangle((left, top + 8, left + 4, top + _CELL - 20), fill=_COLOURS[image.kind])
    x, room = left + _PAD + 4, _WIDE - 2 * _PAD - 4
    _pictures(sheet, draw, image, (x, top + _PAD), room)
    y = top + _PAD + _SIDE + 8
    _sign(sheet, image.kind, (x, y + 1))
    at = x + 25.0
    name_room = 0.5 * room
    at += _text(draw, (at, y - 1), upper_first(frame.word(image.kind)), 17, bold=True, room=name_room) + 14
    figures = _figures(image, frame.threshold)
    _text(draw, (at, y + 1), figures, 14, MUTED, room=left + _WIDE - _PAD - at)
    if image.score is not None:
        _bar(draw, frame, image, (x, y + 27), room)
    _text(draw, (x, y + 41), f"{image.number}  {printable(image.name)}", 13, MUTED, room=room, middle=True)


def _figures(image: PanelImage, threshold: float) -> str:
    """What stands behind the decision in words; for a file without a score the reason why."""
    if image.score is None:
        return image.error
    if image.kind == ABSTAINED:
        return image.reasons[0] if image.reasons else f"score {probability(image.score)}, not used"
    most = f", {image.shares[0][0]} {probability(image.shares[0][1])}" if image.shares else ""
    risk = "" if image.calibrated is None else f", calibrated {probability(image.calibrated)}"
    return f"score {score_beside(image.score, threshold)}{risk}{most}"


def _pictures(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, image: PanelImage, corner: tuple[int, int], room: int
) -> None:
    x, y = corner
    if not image.pictures:
        draw.rounded_rectangle((x, y, x + room, y + _SIDE), 5, fill=_SOFT)
        words = "no picture"
        draw.text((x + (room - _font(15).getlength(words)) / 2, y + _SIDE / 2 - 9), words, fill=MUTED, font=_font(15))
        return
    step = (room - _SIDE) // 2
    for place, picture in enumerate(image.pictures):
        shown = as_image(picture).convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        sheet.paste(shown, (x + place * step, y))
    if image.empty_map:
        middle = (x + 2 * step + _SIDE / 2, y + _SIDE / 2)
        draw.text(middle, "empty: nothing found", fill=GRID, font=_font(13), anchor="mm")


def _bar(draw: ImageDraw.ImageDraw, frame: PanelFrame, image: PanelImage, corner: tuple[int, int], room: int) -> None:
    """Score from 0 to 1, the threshold as an upright line, the borderline region hatched."""
    x, y = corner
    assert image.score is not None

    def at(value: float) -> float:
        return x + frame.at(value) * room

    colour = _COLOURS[image.kind]
    draw.rounded_rectangle((x, y, x + room, y + 7), 3, fill=_SOFT)
    if frame.borderline_from is not None:
        _hatch(draw, (at(frame.borderline_from), max(at(frame.threshold), at(frame.borderline_from) + 3)), y)
    draw.rectangle((x, y + 2, max(at(image.score), x + 1), y + 5), fill=colour)
    draw.rectangle((at(frame.threshold) - 1, y - 4, at(frame.threshold) + 1, y + 11), fill=INK)
    draw.ellipse((at(image.score) - 5, y - 2, at(image.score) + 5, y + 8), fill=colour, outline=PAPER)


def _hatch(draw: ImageDraw.ImageDraw, span: tuple[float, float], y: int) -> None:
    low, high = span
    draw.rectangle((low, y, high, y + 7), outline=_CAUTION)
    position = low
    while position < high:
        draw.line((position, y + 7, min(position + 7, high), y), fill=_CAUTION)
        position += 5


def _sign(sheet: Image.Image, kind: str, corner: tuple[int, int]) -> None:
    """A shape of its own for each kind of answer, as on the page; drawn large and made smaller, so that its edges are smooth."""
    size = _SIGN * 4
    mask = Image.new("L", (size, size))
    draw, inner, middle = ImageDraw.Draw(mask), (4, 4, size - 5, size - 5), size // 2
    if kind == POSITIVE:
        draw.polygon([(middle, 4), (size - 1, size - 5), (0, size - 5)], fill=255)
    elif kind == BORDERLINE:
        corners = [(middle, 2), (size - 3, middle), (middle, size - 3), (2, middle)]
        draw.line([*corners, *corners[:2]], fill=255, width=7, joint="curve")
        draw.polygon([corners[0], corners[3], corners[2]], fill=255)
    elif kind == UNREADABLE:
        draw.line((8, 8, size - 9, size - 9), fill=255, width=12)
        draw.line((8, size - 9, size - 9, 8), fill=255, width=12)
    elif kind == NEGATIVE:
        draw.ellipse(inner, outline=255, width=9)
        draw.line((22, middle, size - 23, middle), fill=255, width=9)
    else:
        for start in range(0, 360, 45):
            draw.arc(inner, start, start + 27, fill=255, width=8)
        draw.text((middle, middle + 1), "?", fill=255, font=_font(46, bold=True), anchor="mm")
    small = mask.resize((_SIGN, _SIGN), Image.Resampling.LANCZOS)
    sheet.paste(Image.new("RGB", small.size, _COLOURS[kind]), corner, small)


def _text(
    draw: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    size: int,
    fill: str = INK,
    *,
    room: float,
    bold: bool = False,
    middle: bool = False,
) -> float:
    """Write one line that is cut to the room there is, at its end or in its middle; gives its width in pixels."""
    font = _font(size, bold=bold)
    text = printable(text.replace(NARROW_SPACE, " "))

    def fits(words: str) -> bool:
        return font.getlength(words) <= room

    if middle:
        text = shortened(text, fits)
    elif not fits(text):
        while text and not fits(text + "\u2026"):
            text = text[:-1]
        text += "\u2026"
    draw.text(corner, text, fill=fill, font=font)
    return float(font.getlength(text))


@cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The typeface of the figures, which comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)

"""Pages of answers to look at: one card an image, with its heat map, its score at the threshold and the decision in words."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluation.pages import render, write_whole
from evaluation.report_text import probability
from evaluation.wording import Worry, listed, percent, plural, short

Picture = NDArray[np.uint8]

POSITIVE, BORDERLINE, NEGATIVE, ABSTAINED, UNREADABLE = KINDS = (
    "positive",
    "borderline",
    "negative",
    "abstained",
    "unreadable",
)
PER_PAGE: Final = 240  # images on an HTML page: twenty contact sheets
NAME_LENGTH: Final = 56  # characters of a file name on a card; the middle of a longer one is left out

_PICTURE_BYTES: Final = 13_500  # of the pictures of one card together; 240 cards stay below 5 MB
_QUALITIES: Final = (85, 75, 65, 55, 45)
_SIDES: Final = (224, 160, 112, 80, 56)  # pixels; no card shows a picture larger than the first
_MOST_GROUPS: Final = 200  # in the table of a page
_LINEAR: Final = 0.03  # thresholds nearer to 0 or 1 than this are shown in log-odds
_ODDS_END: Final = math.log(9999.0)


@dataclass(frozen=True, eq=False)
class PanelImage:
    """One image and its answer.

    Attributes:
        number: from 1, the row of the predictions file. ``name``: image id or file name.
        kind: one of ``KINDS``; ``borderline`` is called negative, but only just.
        score: of the positive classes together, [0, 1]; None if the file could not be read. ``calibrated``: the same as a risk.
        p_value: of the input check; None where there is none. ``reasons``: why there is no decision.
        shares: the most probable classes with their probabilities, highest first; empty for two classes.
        empty_map: there is a heat map, but nothing in it.
        group: patient or lesion; empty if not given. ``error``: why the file could not be read.
        pictures: the image, and where there is a heat map the overlay and the map alone; uint8 ``(height, width, 1 or 3)``.
    """

    number: int
    name: str
    kind: str
    score: float | None = None
    calibrated: float | None = None
    p_value: float | None = None
    shares: tuple[tuple[str, float], ...] = ()
    reasons: tuple[str, ...] = ()
    empty_map: bool = False
    group: str = ""
    error: str = ""
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class GroupLine:
    """What is said of a patient or lesion.

    Attributes:
        kind: one of ``KINDS``. ``score``: of the group; None where no image of it has a decision.
        images: all that were given. ``judged``: those with a decision.
    """

    group: str
    kind: str
    score: float | None
    images: int
    judged: int


@dataclass(frozen=True)
class PanelFrame:
    """What all pages of a panel share.

    Attributes:
        title: of the run. ``positive``, ``negative``: what the two decisions are called.
        threshold: locked. ``statement``: what it promises, a sentence. ``recall``: that it was chosen for.
        borderline_from: where the borderline region begins; None where it is not known or empty.
        stricter: the recall that ``borderline_from`` is for.
        calibrated_at: the recalibrated score of an image right at the threshold; None where scores are not recalibrated.
        maps: what the heat maps are called and speak for, a phrase; empty where there are none. ``target``: what they speak for.
        kinds: kind of every image, in order.
        groups: by name; empty where none are given. ``group_name``: patient, lesion, ... ``group_rule``: highest or lowest,
            the score that speaks for a group.
        unchecked: the model has no input check.
        worries: as :func:`evaluation.wording.worry` makes them, about all images together.
        phantom: generated images. ``version``: of the software.
    """

    title: str
    positive: str
    negative: str
    threshold: float
    statement: str
    borderline_from: float | None
    stricter: float | None
    calibrated_at: float | None
    maps: str
    target: str
    kinds: tuple[str, ...]
    groups: Mapping[str, GroupLine] = field(default_factory=dict)
    group_name: str = "patient"
    group_rule: str = "highest"
    unchecked: bool = False
    worries: tuple[Worry, ...] = ()
    phantom: bool = False
    version: str | None = None

    @property
    def pages(self) -> int:
        """Number of HTML pages."""
        return max(1, -(-len(self.kinds) // PER_PAGE))

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many images are of each kind; a kind without any is left out."""
        return {kind: self.kinds.count(kind) for kind in KINDS if kind in self.kinds}

    @cached_property
    def on_pages(self) -> dict[str, list[tuple[int, str]]]:
        """For each kind of which there are images the pages that hold one: number and file."""
        found: dict[str, set[int]] = {kind: set() for kind in self.counts}
        for position, kind in enumerate(self.kinds):
            found[kind].add(position // PER_PAGE + 1)
        return {kind: [(number, page_name(number)) for number in sorted(numbers)] for kind, numbers in found.items()}

    @property
    def in_odds(self) -> bool:
        """Whether bars show log-odds, because the threshold is so near 0 or 1 that nothing could be told apart there."""
        return not _LINEAR <= self.threshold <= 1.0 - _LINEAR

    def at(self, score: float) -> float:
        """Place of a score on a bar, 0 (left end) to 1."""
        if not self.in_odds:
            return score
        end = max(_ODDS_END, abs(_log_odds(self.threshold)) + 1.0)
        return min(max(0.5 + _log_odds(score) / (2.0 * end), 0.0), 1.0)

    @property
    def ends(self) -> tuple[float, float]:
        """Scores at the two ends of a bar."""
        if not self.in_odds:
            return 0.0, 1.0
        low = 1.0 / (1.0 + math.exp(max(_ODDS_END, abs(_log_odds(self.threshold)) + 1.0)))
        return low, 1.0 - low

    def word(self, kind: str) -> str:
        """The decision in words, as a card and a contact sheet have it."""
        return {
            POSITIVE: self.positive,
            BORDERLINE: f"{self.negative}, borderline",
            NEGATIVE: self.negative,
            ABSTAINED: "No decision",
            UNREADABLE: "Not readable",
        }[kind]

    def meaning(self, kind: str) -> str:
        """What stands behind the word."""
        at = short(self.threshold)
        stricter = percent(self.stricter) if self.stricter is not None else "a higher recall"
        return {
            POSITIVE: f"the score is at least the threshold, {at}",
            BORDERLINE: f"below the threshold, but at a threshold for a recall of {stricter} it would be called {self.positive}: "
            f"where missed {self.positive} images tend to lie",
            NEGATIVE: "the score is below the threshold"
            + (" and below the borderline region" if self.borderline_from is not None else ""),
            ABSTAINED: "abstained: the image is not like those that the model was validated on, so its score says nothing",
            UNREADABLE: "the file could not be decoded; no network saw it",
        }[kind]

    @property
    def sentence(self) -> str:
        """All images in one sentence."""
        count = self.counts
        near, n = count.get(BORDERLINE, 0), len(self.kinds)
        parts = [f"{count.get(POSITIVE, 0):,} called {self.positive}"]
        below = f"{count.get(NEGATIVE, 0) + near:,} called {self.negative}"
        parts.append(below + (f" ({near:,} of them borderline)" if near else ""))
        if held := count.get(ABSTAINED):
            parts.append(f"{held:,} without a decision")
        if broken := count.get(UNREADABLE):
            parts.append(f"{broken:,} not readable")
        return f"{plural(n, 'image')}: {listed(parts)}."


def _log_odds(score: float) -> float:
    held = min(max(score, 1e-12), 1.0 - 1e-12)
    return math.log(held / (1.0 - held))


def score_beside(score: float, threshold: float) -> str:
    """A score with as many digits as show on which side of the written threshold it lies: not 0.519 for 0.5187 below 0.519."""
    limit, side = float(short(threshold)), score >= threshold
    for digits in range(3, 9):
        hidden = digits == 3 and round(score) == round(threshold) and not 0.001 <= threshold <= 0.999
        if not hidden and (round(score, digits) >= limit) == side:
            return probability(score) if digits == 3 else f"{score:.{digits}f}"
    return repr(score)


def page_name(number: int) -> str:
    """File of an HTML page, counted from 1: ``panel.html``, ``panel_002.html``, ..."""
    return "panel.html" if number == 1 else f"panel_{number:03d}.html"


def printable(name: str) -> str:
    """A name without what cannot be shown: control characters, marks that turn the direction, bytes that are no text."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)


def shortened(name: str, fits: Callable[[str], bool] | None = None) -> str:
    """A name that fits, with the middle left out; beginning and end tell files apart.

    Args:
        fits: whether a text is short enough; at most ``NAME_LENGTH`` characters if None.
    """
    enough = fits if fits is not None else lambda text: len(text) <= NAME_LENGTH
    name = printable(name)
    if enough(name):
        return name
    low, high = 0, len(name)  # characters that are kept: low fit, high do not
    while high - low > 1:
        kept = (low + high) // 2
        low, high = (kept, high) if enough(_cut(name, kept)) else (low, kept)
    return _cut(name, low)


def _cut(name: str, kept: int) -> str:
    tail = (kept + 1) // 2
    return f"{name[: kept - tail]}\u2026{name[len(name) - tail :]}"


def encoded(pictures: Sequence[Picture]) -> tuple[str, ...]:
    """JPEG files as data URIs; quality and then size are lowered until they are together small enough for a page of many."""
    found: list[bytes] = []
    for side, quality in ((side, quality) for side in _SIDES for quality in _QUALITIES):
        found = [_jpeg(picture, side, quality) for picture in pictures]
        if sum(len(content) for content in found) <= _PICTURE_BYTES:
            break
    return tuple(f"data:image/jpeg;base64,{base64.b64encode(content).decode()}" for content in found)


def as_image(picture: Picture) -> Image.Image:
    """Grey or RGB, for Pillow."""
    return Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)


def _jpeg(picture: Picture, side: int, quality: int) -> bytes:
    image, content = as_image(picture), io.BytesIO()
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    image.save(content, "JPEG", quality=quality, optimize=True)
    return content.getvalue()


@dataclass(frozen=True)
class Card:
    """An image with its pictures as data URIs, which is all that a page needs of it."""

    image: PanelImage
    uris: tuple[str, ...]

    @classmethod
    def of(cls, image: PanelImage) -> Card:
        """The pictures themselves are let go."""
        held = {name: getattr(image, name) for name in PanelImage.__dataclass_fields__ if name != "pictures"}
        return cls(PanelImage(**held), encoded(image.pictures))


def write_page(frame: PanelFrame, cards: Sequence[Card], number: int, folder: Path) -> Path:
    """Write one HTML page; it needs no network and no other file.

    Args:
        cards: of this page, in order. ``number``: of the page, from 1.
    """
    kinds = [card.image.kind for card in cards]
    present = [kind for kind in KINDS if kind in kinds]
    groups = list(dict.fromkeys(card.image.group for card in cards if card.image.group in frame.groups))
    words = [] if frame.pages == 1 else [f"page {number} of {frame.pages}"]
    page = render(
        "panel.html.j2",
        title=frame.title,
        figures={},
        eyebrow=["predictions", plural(len(frame.kinds), "image"), *words],
        sections=[("summary", "Summary"), ("images", "Images"), ("reading", "How to read this")],
        phantom=frame.phantom,
        version=frame.version,
        f=frame,
        cards=cards,
        number=number,
        links=[(at, page_name(at)) for at in range(1, frame.pages + 1)],
        on_pages=frame.on_pages,
        shown=[(kind, kinds.count(kind)) for kind in present],
        groups=[frame.groups[name] for name in groups[:_MOST_GROUPS]],
        groups_left_out=max(0, len(groups) - _MOST_GROUPS),
        picture_names=("the image", "its heat map over it", "its heat map alone"),
        beside=score_beside,
        shortened=shortened,
        printable=printable,
    )
    return write_whole(folder / page_name(number), page.encode())

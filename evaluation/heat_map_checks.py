"""What the checks of a run's heat maps found, as a short table with plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from evaluation.report_text import NOTHING, difference, plural, score

TITLES: Final = {"grad_cam": "Grad-CAM", "grad_cam_pp": "Grad-CAM++", "hires_cam": "HiRes-CAM"}
LEARNT: Final = (0.25, 0.5)
"""Mean correlation with maps of untrained networks below which maps depend on what was learnt, and from which they do not."""
SAME: Final = 0.9  # mean correlation with HiRes-CAM from which nobody would see a difference
CHANCE: Final = 0.25  # share of the image that the square in the middle covers


class Cell(NamedTuple):
    """A figure of the table as text, and beneath it from where to where it goes over the images; empty if that is not said."""

    value: str
    range: str = ""


@dataclass(frozen=True)
class HeatMapChecks:
    """One table and what it says.

    Attributes:
        made: method and layer: ``Grad-CAM at layer trunk.layer4``.
        columns: which images: ``12 mistakes``. ``rows``: name and one cell a column.
        sentences: what the last column (images drawn at random, where there are any) says.
    """

    made: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    sentences: tuple[str, ...]


def heat_map_checks(
    stored: Mapping[str, Any] | None, entries: Sequence[Mapping[str, Any]], positive: str
) -> HeatMapChecks | None:
    """The table of a gallery.

    Args:
        stored: ``heat_maps.json``; None of runs from before there was one, whose entries say less.
        entries: of ``mistakes.json``, those with a heat map.
        positive: what the positive classes are called.

    Returns:
        None where nothing was checked.
    """
    stored = stored or {"method": "grad_cam", "layer": "", "mistakes": _of_entries(entries)}
    words = {"mistakes": "mistake", "drawn": "test image"}
    parts = [
        (f"{plural(stored[name]['images'], word)}", stored[name]) for name, word in words.items() if name in stored
    ]
    parts = [(f"{text} drawn at random" if part is stored.get("drawn") else text, part) for text, part in parts]
    rows = _rows([part for _, part in parts], positive)
    if not rows:
        return None
    layer = f" at layer {stored['layer']}" if stored.get("layer") else ""
    return HeatMapChecks(
        made=f"{TITLES.get(stored['method'], stored['method'])}{layer}",
        columns=tuple(text for text, _ in parts),
        rows=tuple(rows),
        sentences=tuple(_sentences(parts[-1][1], positive)),
    )


def _of_entries(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the entries of a gallery, as far as they go."""
    losses = [entry["heat_map_covered"] for entry in entries if entry.get("heat_map_covered")]
    learnt = [entry["heat_map_check"] for entry in entries if entry.get("heat_map_check") is not None]
    return {
        "images": len(entries),
        "covered": len(losses) or None,
        "bright": float(np.mean([item[0] for item in losses])) if losses else None,
        "dark": float(np.mean([item[1] for item in losses])) if losses else None,
        "untrained": float(np.mean(learnt)) if learnt else None,
        "untrained_range": [min(learnt), max(learnt)] if learnt else None,
    }


def _rows(parts: Sequence[Mapping[str, Any]], positive: str) -> list[tuple[str, tuple[Cell, ...]]]:
    """Those rows that say something of at least one column."""
    found = [
        ("Images whose map is not empty; the rest of the table is of these", [_with_map(part) for part in parts]),
        (
            f"Change of the log-odds of {positive} with the map's brightest quarter covered",
            [_changed(part, "bright") for part in parts],
        ),
        (
            "\u2026 with a square in the middle covered, also a quarter of the image",
            [_changed(part, "centre") for part in parts],
        ),
        ("\u2026 with the map's darkest quarter covered", [_changed(part, "dark") for part in parts]),
        ("Images that lose more with the brightest quarter than with the square", [_won(part) for part in parts]),
        (
            "Share of the brightest quarter that lies in the square; 25\u202f% by chance",
            [_share(part, "in_centre") for part in parts],
        ),
        (
            "\u2026 for maps of the same network with random weights",
            [_share(part, "in_centre_untrained") for part in parts],
        ),
        ("Correlation with those maps; 0 is unrelated, 1 the same", [_correlation(part) for part in parts]),
        (
            "Correlation with HiRes-CAM, which weights every place by itself",
            [Cell(score(part.get("hires_cam"), 2)) for part in parts],
        ),
    ]
    return [(name, tuple(cells)) for name, cells in found if any(cell.value != NOTHING for cell in cells)]


def _changed(part: Mapping[str, Any], name: str) -> Cell:
    lost = part.get(name)
    return Cell(NOTHING if lost is None else difference({"value": -lost}))


def _with_map(part: Mapping[str, Any]) -> Cell:
    """How many there are, where it is not all."""
    drawn = part["covered"]
    return Cell(NOTHING if drawn is None or drawn == part["images"] else f"{drawn} of {part['images']}")


def _won(part: Mapping[str, Any]) -> Cell:
    won = part.get("bright_above_centre")
    return Cell(NOTHING if won is None or not part["covered"] else f"{won} of {part['covered']}")


def _share(part: Mapping[str, Any], name: str) -> Cell:
    value = part.get(name)
    return Cell(NOTHING if value is None else f"{100 * value:.0f}\u202f%")


def _correlation(part: Mapping[str, Any]) -> Cell:
    ends = part.get("untrained_range")
    between = "" if not ends else f"{score(ends[0], 2)} to {score(ends[1], 2)}"
    return Cell(score(part.get("untrained"), 2), between)


def _sentences(part: Mapping[str, Any], positive: str) -> list[str]:
    found = (_pointing(part, positive), _centre(part), _learnt(part), _place_by_place(part))
    return [text for text in found if text]


def _pointing(part: Mapping[str, Any], positive: str) -> str:
    bright, dark, centre = (part.get(name) for name in ("bright", "dark", "centre"))
    if bright is None or dark is None:
        return ""
    if bright <= dark:
        text = (
            "Covering what the maps mark costs no more than covering what they leave dark: what the network goes by lies "
            "elsewhere, so do not read reasons from these maps."
        )
    elif centre is not None and bright <= centre:
        text = (
            "Covering what the maps mark costs more than covering what they leave dark, but no more than covering the middle of "
            "every image: a fixed square would tell as much."
        )
    else:
        middle = "" if centre is None else ", and more than covering the middle of every image"
        text = (
            f"Covering what the maps mark costs more than covering what they leave dark{middle}: on average they point at what "
            "counts."
        )
    # What is below zero everywhere is the cover itself: a grey patch may look like a finding.
    if all(lost is None or lost < 0 for lost in (bright, dark, centre)):
        text += (
            f" Any cover raises the log-odds of {positive} here, so compare the rows with each other, not with zero."
        )
    return text


def _centre(part: Mapping[str, Any]) -> str:
    share = part.get("in_centre")
    if share is None or share < 2 * CHANCE:
        return ""
    return "Most of what they mark lies in the middle of the image: where findings usually lie there too, that says little."


def _learnt(part: Mapping[str, Any]) -> str:
    mean = part.get("untrained")
    if mean is None:
        return ""
    if mean < LEARNT[0]:
        return "The same network with random weights draws other maps: these depend on what was learnt."
    if mean < LEARNT[1]:
        return (
            "Some of what they show was not learnt, but comes from the images or the architecture, for example that the middle "
            "counts for more."
        )
    return "Most of what they show was not learnt, but comes from the images or the architecture: do not read reasons from them."


def _place_by_place(part: Mapping[str, Any]) -> str:
    same = part.get("hires_cam")
    if same is None or same >= SAME:
        return ""
    return (
        f"HiRes-CAM, which weights every place by its own gradient, draws other maps (correlation {score(same, 2)}): these give "
        "a channel one weight for the whole image, and can light up what does not count. Compare with "
        "heat_maps.method=hires_cam in predict.py or serve.py before you read a reason from one."
    )

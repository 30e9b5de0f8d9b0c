"""The worst mistakes of a run as pictures: what a person wants to look at first."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from evaluation.predictions import PREFIX, REQUIRED, Predictions

JPEG_QUALITY = 85  # of heat maps: soft pictures, whose losses nobody sees, at a fifth of the size of a PNG


@dataclass(frozen=True)
class Mistake:
    """One wrong decision at the locked threshold.

    Attributes:
        row: of the predictions. ``kind``: ``false negative`` or ``false positive``.
        score: probability of the positive class.
        file: name of its picture, relative to the folder of mistakes.
        predicted: the most probable class; empty for two classes, where the score says it.
        facts: what else the predictions file says of the image (age band, sex, site, ...), without what is not known.
        heat_map: name of the picture of its heat map over the image, in the same folder; empty where there is none.
        heat_map_alone: name of the picture of the heat map by itself.
        heat_map_check: correlation with heat maps of the same network with random weights; None where not defined.
        heat_map_covered: what the log-odds of the positive classes lose with the brightest quarter of the heat map covered,
            with the darkest covered, and with a square in the middle covered; None where not defined.
    """

    row: int
    image_id: str
    group_id: str
    label: str
    subtype: str
    score: float
    kind: str
    file: str
    predicted: str
    facts: dict[str, str] = field(default_factory=dict)
    heat_map: str = ""
    heat_map_alone: str = ""
    heat_map_check: float | None = None
    heat_map_covered: tuple[float, ...] | None = None


def worst_mistakes(predictions: Predictions, threshold: float, count: int) -> list[Mistake]:
    """The most confident wrong decisions: false negatives first, lowest score first, then false positives.

    Args:
        predictions: of the test part.
        threshold: positive if and only if score >= threshold.
        count: at most this many; false negatives may take all but a third of the places.
    """
    scores, labels = predictions.scores, predictions.labels
    negatives = np.flatnonzero((labels == 1) & (scores < threshold))
    positives = np.flatnonzero((labels == 0) & (scores >= threshold))
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    positives = positives[np.argsort(-scores[positives], kind="stable")]
    first = min(len(negatives), max(count - len(positives), count - count // 3))
    chosen = [(row, "false negative") for row in negatives[:first]]
    chosen += [(row, "false positive") for row in positives[: count - first]]
    frame, several = predictions.frame, len(predictions.classes) > 2
    found = []
    for number, (row, kind) in enumerate(chosen):
        item = frame.iloc[int(row)]
        found.append(
            Mistake(
                row=int(row),
                image_id=str(item["image_id"]),
                group_id=str(item["group_id"]),
                label=str(item["label"]),
                subtype=str(item.get("subtype", "")),
                score=float(scores[row]),
                kind=kind,
                file=f"{number:02d}.png",
                predicted=predictions.classes[int(predictions.decisions[int(row)])] if several else "",
                facts=_facts(item),
            )
        )
    return found


def with_heat_maps(
    mistakes: Sequence[Mistake],
    checks: Sequence[float | None],
    covered: Sequence[tuple[float, ...] | None],
) -> list[Mistake]:
    """The same mistakes, each with the names of its heat map's pictures and what two checks found."""
    return [
        replace(
            mistake,
            heat_map=f"{Path(mistake.file).stem}_map.jpg",
            heat_map_alone=f"{Path(mistake.file).stem}_alone.jpg",
            heat_map_check=check,
            heat_map_covered=losses,
        )
        for mistake, check, losses in zip(mistakes, checks, covered, strict=True)
    ]


def save_mistakes(
    mistakes: Sequence[Mistake],
    images: NDArray[np.uint8],
    folder: Path,
    overlays: NDArray[np.uint8] | None = None,
    alone: NDArray[np.uint8] | None = None,
    checks: dict[str, Any] | None = None,
) -> None:
    """Write one PNG a mistake, JPEGs of its heat map if there is one, ``mistakes.json``, and ``heat_maps.json`` if given.

    Args:
        mistakes: in the order of the gallery; from :func:`with_heat_maps` where there are heat maps.
        images: their pixels, shape ``(n, height, width, channels)``, uint8.
        folder: created if needed.
        overlays: heat maps over the images, shape ``(n, height, width, 3)``, uint8 RGB. ``alone``: by themselves, the same.
        checks: of the heat maps, plain values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for mistake, image in zip(mistakes, images, strict=True):
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(folder / mistake.file, optimize=True)
    for pictures, name in ((overlays, "heat_map"), (alone, "heat_map_alone")):
        for mistake, picture in zip(mistakes, pictures if pictures is not None else (), strict=pictures is not None):
            Image.fromarray(picture).save(folder / getattr(mistake, name), quality=JPEG_QUALITY, subsampling=0)
    records = [{name: value for name, value in asdict(mistake).items() if name != "row"} for mistake in mistakes]
    _write_json(folder / "mistakes.json", records)
    if checks is not None:
        _write_json(folder / "heat_maps.json", checks)


def _write_json(path: Path, content: object) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, path)


def _facts(row: pd.Series[Any]) -> dict[str, str]:
    """Columns that describe the image, in the file's order; its sub-type has a place of its own."""
    known = {str(name): value for name, value in row.items() if str(name) not in (*REQUIRED, "subtype")}
    return {name: str(value) for name, value in known.items() if not name.startswith(PREFIX) and not _is_empty(value)}


def _is_empty(value: Any) -> bool:
    return pd.isna(value) or str(value) in ("", "unknown")


def contact_sheet(
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], captions: Sequence[str], title: str, columns: int = 6
) -> Figure:
    """Images in a grid with a caption over each.

    Args:
        images: each of shape ``(height, width, channels)``, uint8; grey ones and colour ones may be mixed.
        captions: one a picture; may be empty strings.
    """
    lines = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(1.6 * columns, 1.85 * lines + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for place in axes:
        place.set_axis_off()
    for place, image, caption in zip(axes, images, captions, strict=False):
        grey = image.shape[2] == 1
        place.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255)
        place.set_title(caption, fontsize=7, pad=3)
    return figure

"""The worst mistakes of a run as pictures: what a person wants to look at first."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from evaluation.predictions import Predictions


@dataclass(frozen=True)
class Mistake:
    """One wrong decision at the locked threshold.

    Attributes:
        row: of the predictions. ``kind``: ``false negative`` or ``false positive``.
        score: probability of the positive class.
        file: name of its picture, relative to the folder of mistakes.
        predicted: the most probable class; empty for two classes, where the score says it.
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
            )
        )
    return found


def save_mistakes(mistakes: list[Mistake], images: NDArray[np.uint8], folder: Path) -> None:
    """Write one PNG a mistake and ``mistakes.json``.

    Args:
        mistakes: in the order of the gallery.
        images: their pixels, shape ``(n, height, width, channels)``, uint8.
        folder: created if needed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for mistake, image in zip(mistakes, images, strict=True):
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(folder / mistake.file, optimize=True)
    records = [{name: value for name, value in asdict(mistake).items() if name != "row"} for mistake in mistakes]
    beside = folder / f".mistakes.json.{os.getpid()}"
    beside.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, folder / "mistakes.json")


def contact_sheet(images: NDArray[np.uint8], captions: list[str], title: str, columns: int = 6) -> Figure:
    """Images in a grid with a caption over each.

    Args:
        images: shape ``(n, height, width, channels)``, uint8.
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

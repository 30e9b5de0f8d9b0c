"""The images on which an exported file is compared with the run: its own validation and test images, or drawn ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.metadata import MetadataEncoder
from datamodules.progress import Progress, silent
from workflow.own_data import own_data
from workflow.predictor import Predictor
from workflow.scoring import Scorer

DRAWN: Final = 64
_SEED: Final = 7
_MOST: Final = 3000  # images of a part; they are held in memory, and more would tell little more


@dataclass(frozen=True)
class CheckImages:
    """Images as a network takes them.

    Attributes:
        pixels: uint8, shape ``(n, size, size, channels)``.
        encoded: metadata as the graph takes them, float32, shape ``(n, m)``; None for models that see the image alone.
        table: the same metadata as the predictor takes them, one row an image; None likewise.
        positive: shape (n,), True for an image of a positive class; None for drawn images.
        validation: shape (n,), True for images of the validation part; of drawn images, all.
        about: what they are, for people. ``reason``: why they are drawn; empty where they are the run's own.
    """

    pixels: NDArray[np.uint8]
    encoded: NDArray[np.float32] | None
    table: pd.DataFrame | None
    positive: NDArray[np.bool_] | None
    validation: NDArray[np.bool_]
    about: str
    reason: str = ""

    def __len__(self) -> int:
        return len(self.pixels)


def check_images(predictor: Predictor, data_root: Path | None, progress: Progress = silent) -> CheckImages:
    """The run's own validation and test images where they can be had, else drawn ones.

    Args:
        data_root: where the user says they are; then it is an error if they are not there.

    Raises:
        ValueError, DataError: the data in ``data_root`` are not those of the run.
    """
    try:
        return _own(predictor, data_root, progress)
    except (DataError, ValueError, OSError) as error:
        if data_root is not None:
            raise
        return _drawn(predictor, str(error))


def encoded_by(predictor: Predictor, table: pd.DataFrame) -> NDArray[np.float32] | None:
    """The second input of the graph; None for models that see the image alone."""
    described = _described(predictor)
    return None if described is None else MetadataEncoder.from_description(described).encode(table)


def _described(predictor: Predictor) -> dict[str, Any] | None:
    found = (part.description.get("metadata") for part in predictor.networks)
    return next((description for description in found if description), None)


def _own(predictor: Predictor, data_root: Path | None, progress: Progress) -> CheckImages:
    first = predictor.networks[0]
    if "data" not in first.config:
        raise ValueError("the model came without its run, so the images that it was validated on are not known")
    scorer = Scorer(predictor.source, {}, first.config, predictor.networks, predictor.point, predictor.device)
    prepared = own_data(scorer, data_root, progress)
    parts = {part: _spread(prepared.splits.rows(part)) for part in ("val", "test")}
    rows = np.concatenate(list(parts.values()))
    frame = prepared.manifest.frame.iloc[rows].reset_index(drop=True)
    counts = " and ".join(
        f"{len(found):,} {name} images"
        for name, found in (("validation", parts["val"]), ("test", parts["test"]))
        if len(found)
    )
    return CheckImages(
        np.asarray(prepared.pixels[np.sort(rows)])[np.argsort(np.argsort(rows))],
        encoded_by(predictor, frame),
        frame if predictor.metadata_columns else None,
        frame["label"].isin(list(predictor.positive)).to_numpy(dtype=bool),
        np.arange(len(rows)) < len(parts["val"]),
        f"the run's own {counts}",
    )


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """All rows, or of very many some from the first to the last."""
    return rows if len(rows) <= _MOST else rows[np.linspace(0, len(rows) - 1, _MOST).astype(np.int64)]


def _drawn(predictor: Predictor, reason: str) -> CheckImages:
    decoding = predictor.decoding
    pixels = drawn_images(DRAWN, decoding["image_size"], decoding["image_size"], decoding["channels"])
    described = _described(predictor)
    table = None if described is None else drawn_metadata(described, len(pixels))
    return CheckImages(
        pixels,
        None if table is None else encoded_by(predictor, table),
        table,
        None,
        np.ones(len(pixels), dtype=bool),
        f"{len(pixels)} drawn images (black, white, gradients, textures, noise), no real ones",
        reason,
    )


def drawn_images(count: int, height: int, width: int, channels: int, seed: int = _SEED) -> NDArray[np.uint8]:
    """Images of all kinds that are the same at every call: constant, gradients, textures from coarse to fine, noise.

    Returns:
        uint8, shape ``(count, height, width, channels)``.
    """
    random = np.random.default_rng(seed)
    image: NDArray[Any]
    rows, columns = np.mgrid[0:height, 0:width]
    found = []
    for number in range(count):
        kind = number % 4
        if kind == 0:
            image = np.full((height, width, channels), (number * 17) % 256, dtype=np.float64)
        elif kind == 1:
            angle = random.uniform(0.0, 2.0 * np.pi)
            slope = np.cos(angle) * rows / height + np.sin(angle) * columns / width
            image = np.repeat(((slope - slope.min()) / max(np.ptp(slope), 1e-9) * 255.0)[..., None], channels, axis=2)
        elif kind == 2:
            blocks = random.integers(0, 256, size=(2 + number // 4, 2 + number // 4, channels)).astype(np.uint8)
            image = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)
        else:
            image = random.integers(0, 256, size=(height, width, channels))
        found.append(np.clip(np.round(image), 0, 255).astype(np.uint8))
    return np.stack(found)


def drawn_metadata(described: Mapping[str, Any], count: int, seed: int = _SEED) -> pd.DataFrame:
    """Rows of metadata as an encoder's description expects them, some of them missing or unknown.

    Args:
        described: of :meth:`datamodules.metadata.MetadataEncoder.describe`.
    """
    random = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {}
    for column in described["columns"]:
        if column["kind"] == "number":
            values = random.normal(column["mean"], column["std"], size=count)
            columns[column["name"]] = [None if number % 8 == 7 else float(value) for number, value in enumerate(values)]
        else:
            choice = [*column["values"], "something else", ""]
            columns[column["name"]] = [choice[index] for index in random.integers(0, len(choice), size=count)]
    return pd.DataFrame(columns)

"""A panel of one image of every kind, with made-up pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.panel import (
    ABSTAINED,
    BORDERLINE,
    NEGATIVE,
    POSITIVE,
    UNREADABLE,
    Card,
    PanelFrame,
    PanelImage,
    write_page,
)

FRAME = PanelFrame(
    title="Pneumonia on chest X-rays: simple_cnn",
    positive="PNEUMONIA",
    negative="NORMAL",
    threshold=0.52,
    statement="An image is called PNEUMONIA when its score is at least 0.520.",
    borderline_from=0.38,
    stricter=0.99,
    calibrated_at=0.7,
    maps="heat map (Grad-CAM) of what speaks for PNEUMONIA",
    target="PNEUMONIA",
    kinds=(POSITIVE, BORDERLINE, NEGATIVE, ABSTAINED, UNREADABLE),
)


def picture(seed: int, side: int = 32, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, channels), dtype=np.uint8)


def pictures(seed: int, side: int = 32) -> tuple[NDArray[np.uint8], ...]:
    return picture(seed, side, 1), picture(seed + 1, side), picture(seed + 2, side)


def one_of_each() -> list[PanelImage]:
    return [
        PanelImage(1, "a.png", POSITIVE, 0.93, 0.97, 0.4, pictures=pictures(0)),
        PanelImage(2, "b.png", BORDERLINE, 0.45, 0.6, 0.3, pictures=pictures(1)),
        PanelImage(3, "c.png", NEGATIVE, 0.02, 0.01, 0.9, pictures=pictures(2)),
        PanelImage(4, "d.png", ABSTAINED, 0.99, 0.98, 0.001, reasons=("it is in colour",), pictures=pictures(3)),
        PanelImage(5, "e.png", UNREADABLE, error="the file is empty"),
    ]


def page_of(folder: Path, images: list[PanelImage], frame: PanelFrame = FRAME, number: int = 1) -> str:
    return write_page(frame, [Card.of(image) for image in images], number, folder).read_text(encoding="utf-8")

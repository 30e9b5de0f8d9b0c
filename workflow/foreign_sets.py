"""Pictures that no model for X-rays or skin should answer on, made here: they need no file but those of the libraries."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.phantom import write_phantom
from datamodules.phantom_dermoscopy import draw_dermoscopy
from datamodules.phantom_lesion import KINDS

EACH: Final = 60
_PHOTOGRAPHS: Final = ("china.jpg", "flower.jpg")  # a palace and a blossom; scikit-learn ships both
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class ForeignSet:
    """Pictures of one kind.

    Attributes:
        key, name: for files and for tables. ``meaning``: what they are, a sentence.
        files: each a whole PNG or JPEG file in memory, so that they go the way of every other file.
    """

    key: str
    name: str
    meaning: str
    files: tuple[bytes, ...]


def built_in_sets(
    subject: str, channels: int, shape: tuple[int, int], *, n: int = EACH, seed: int = 0
) -> list[ForeignSet]:
    """Sets of foreign pictures.

    Args:
        subject: ``xray``, ``skin`` or ``any``: what the model is for. Drawings show the other organ; for ``any`` there are none.
        channels: of the model, 1 or 3. Noise and flat pictures come in its own colours, so that these do not betray them.
        shape: usual height and width of its images in pixels, at least 32; the size shall not betray them either.
        n: pictures a set, at least 1. ``seed``: non-negative.
    """
    rng = partial(np.random.default_rng, seed)
    made = [
        (
            "noise",
            "random noise",
            "Grains of 1 to 16 pixels, uniform or normal.",
            _many(_noise, rng(), shape, channels, n),
        ),
        (
            "flat",
            "flat and graded",
            "One tone, or a slope from one tone to another.",
            _many(_flat, rng(), shape, channels, n),
        ),
        (
            "black",
            "black",
            "One picture without any light, as of a failed exposure.",
            [np.zeros((*shape, channels), np.uint8)],
        ),
        (
            "photographs",
            "photographs",
            "Crops of a photograph of a palace and of one of a blossom.",
            _crops(rng(), shape, n),
        ),
    ]
    sets = [
        ForeignSet(key, name, meaning, tuple(png(picture) for picture in pictures))
        for key, name, meaning, pictures in made
    ]
    if channels == 1:
        grey = [np.asarray(Image.fromarray(picture).convert("L")) for picture in _crops(rng(), shape, n)]
        sets.append(
            ForeignSet(
                "grey_photographs",
                "photographs in grey",
                "The same crops without colour.",
                tuple(png(picture) for picture in grey),
            )
        )
    side = min(max(min(shape), 32), 512)
    if subject == "xray":
        drawn = (png(picture) for picture in _lesions(n, side, seed))
        sets.append(ForeignSet("drawings", "drawings of skin", "Drawn skin lesions (phantom data).", tuple(drawn)))
    elif subject == "skin":
        files = tuple(_chests(n, side, seed))
        sets.append(ForeignSet("drawings", "drawings of a chest", "Drawn chest films (phantom data).", files))
    return sets


def png(picture: Picture) -> bytes:
    """A picture, grey ``(h, w)`` or ``(h, w, 1)`` or RGB ``(h, w, 3)``, as a PNG file in memory."""
    pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 and picture.shape[2] == 3 else picture
    _, content = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return content.tobytes()


def _many(
    draw: Callable[[np.random.Generator, tuple[int, int], int], Picture],
    rng: np.random.Generator,
    shape: tuple[int, int],
    channels: int,
    n: int,
) -> list[Picture]:
    return [draw(rng, shape, channels) for _ in range(n)]


def _noise(rng: np.random.Generator, shape: tuple[int, int], channels: int) -> Picture:
    grain = int(rng.choice([1, 2, 4, 8, 16]))
    small = (-(-shape[0] // grain), -(-shape[1] // grain), channels)
    values = rng.integers(0, 256, small) if rng.random() < 0.5 else rng.normal(127.5, rng.uniform(15, 60), small)
    large = np.repeat(np.repeat(np.clip(values, 0, 255).astype(np.uint8), grain, axis=0), grain, axis=1)
    return large[: shape[0], : shape[1]]


def _flat(rng: np.random.Generator, shape: tuple[int, int], channels: int) -> Picture:
    first, second = rng.uniform(0, 255, (2, channels))
    if rng.random() < 0.3:
        return np.broadcast_to(first.astype(np.uint8), (*shape, channels)).copy()
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    turn = rng.uniform(0, 2 * np.pi)
    way = np.hypot(x, y) / 1.5 if rng.random() < 0.4 else (np.cos(turn) * x + np.sin(turn) * y + 1.5) / 3.0
    share = np.clip(way, 0, 1)[..., None]
    return np.asarray(first * (1 - share) + second * share, dtype=np.uint8)


def _crops(rng: np.random.Generator, shape: tuple[int, int], n: int) -> list[Picture]:
    """Crops of 120 to 420 pixels' height with the wanted aspect where the photograph holds it, resized to the shape."""
    import sklearn.datasets

    folder = Path(sklearn.datasets.__file__).parent / "images"
    photographs = [np.asarray(Image.open(folder / name).convert("RGB")) for name in _PHOTOGRAPHS]
    found = []
    for number in range(n):
        photograph = photographs[number % len(photographs)]
        height = int(rng.integers(120, 421))
        width = min(round(height * shape[1] / shape[0]), photograph.shape[1])
        top = int(rng.integers(0, photograph.shape[0] - height + 1))
        left = int(rng.integers(0, photograph.shape[1] - width + 1))
        crop = photograph[top : top + height, left : left + width]
        found.append(np.asarray(cv2.resize(crop, shape[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8))
    return found


def _lesions(n: int, side: int, seed: int) -> Iterator[Picture]:
    for number in range(n):
        yield from draw_dermoscopy(KINDS[number % len(KINDS)], number + 1, 1, size=side, seed=seed)


def _chests(n: int, side: int, seed: int) -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        write_phantom(Path(folder), images=max(n, 10), size=side, seed=seed)
        for path in sorted(Path(folder).rglob("*.jpeg"))[:n]:
            yield path.read_bytes()

"""What an image file looks like before any network sees it: its shape, its colours, its contrast, its fine structure."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.images import Decoded, decoded
from datamodules.pixels import resized

LAYOUT_SIDE: Final = 16  # pixels of the tiny picture that tells where is what
_QUANTILES: Final = np.linspace(0.02, 0.98, 13)
_LEVELS: Final = 6  # scales at which fine structure is measured
_LEAST: Final = 0.1  # grey levels; below, structure is rounding
_SCALE: Final = 20.0  # of the logarithms, so that all numbers of a texture are about as large

Levels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Appearance:
    """Plain facts about one image file.

    Attributes:
        width, height: of the file in pixels, upright.
        aspect: width / height. ``side``: the shorter of both.
        chroma: mean over the pixels of the largest minus the smallest of red, green and blue, 0 (grey) to 255.
        brightness: mean grey level, 0 to 255. ``contrast``: standard deviation of the grey levels, 0 (constant) to 127.5.
        layout, texture: see :func:`described`; float32.
    """

    width: float
    height: float
    aspect: float
    side: float
    chroma: float
    brightness: float
    contrast: float
    layout: NDArray[np.float32]
    texture: NDArray[np.float32]

    def to_dict(self) -> dict[str, Any]:
        """Everything by name, as :meth:`evaluation.input_check.InputCheck.judge` takes it; the last two are arrays."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, eq=False)
class Looked:
    """A decoded image and what its file looks like.

    Attributes:
        pixels: uint8, shape ``(size, size, channels)``: exactly what :func:`datamodules.images.read_image` gives.
    """

    pixels: NDArray[np.uint8]
    appearance: Appearance


def look(source: Path | bytes, *, name: str | None = None, size: int, channels: int, interpolation: str) -> Looked:
    """Decode a file once for the network and for the checks that come before it.

    Args:
        source: the file or its bytes. ``name``: what an error calls it; of a path its own name.
        size, channels, interpolation: as :func:`datamodules.images.read_image`.

    Raises:
        UnreadableImageError: its text starts with the file's name.
    """
    found = decoded(source, size, channels, name, colours=True)
    pixels = resized(found.pixels, size, channels, interpolation)
    levels = _sum_of_channels(pixels)
    return Looked(
        pixels,
        Appearance(
            **file_facts(found),
            brightness=sum(cv2.sumElems(pixels)) / pixels.size,
            contrast=_contrast(levels, channels),
            layout=_layout(pixels),
            texture=_texture(pixels, levels),
        ),
    )


def file_facts(found: Decoded) -> dict[str, float]:
    """Width, height, aspect, shorter side and chroma of a file that was decoded with ``colours=True``."""
    width, height = float(found.width), float(found.height)
    chroma = 0.0 if found.colours is None else float(chroma_of(found.colours[None])[0])
    return {"width": width, "height": height, "aspect": width / height, "side": min(width, height), "chroma": chroma}


def chroma_of(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean over the pixels of the largest minus the smallest channel, 0 (grey) to 255, of each picture ``(n, h, w, 3)``."""
    # Channel by channel: a reduction over the last axis would take ten times as long.
    red, green, blue = (pixels[..., channel] for channel in range(3))
    most = np.maximum(np.maximum(red, green), blue)
    least = np.minimum(np.minimum(red, green), blue)
    return np.array([difference.mean() for difference in most - least])


def contrast_of(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Standard deviation of the grey levels of each picture ``(n, h, w, c)``, 0 to 127.5."""
    return np.array([_contrast(_sum_of_channels(picture), picture.shape[2]) for picture in pixels], dtype=np.float64)


def _contrast(levels: Levels, channels: int) -> float:
    return float(cv2.meanStdDev(levels)[1][0, 0]) / channels


def described(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What pictures look like, without any network.

    Args:
        pixels: uint8, shape ``(n, size, size, channels)``.

    Returns:
        layout: the pictures at 16 x 16, shape ``(n, 256 * channels)``, 0 to 255: where is what.
        texture: 13 quantiles of the grey levels, the strength of the structure at six scales (of the Laplacian pyramid, Burt
        and Adelson 1983), the balance of steps across and down, and for RGB mean and spread of each channel.
    """
    layout = [_layout(picture) for picture in pixels]
    texture = [_texture(picture, _sum_of_channels(picture)) for picture in pixels]
    return np.array(layout), np.array(texture)


# OpenCV sums in double and in one pass: with numpy, an RGB picture of 224 x 224 pixels took seven times as long.


def _layout(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return cv2.resize(picture, (LAYOUT_SIDE, LAYOUT_SIDE), interpolation=cv2.INTER_AREA).ravel().astype(np.float32)


def _sum_of_channels(picture: NDArray[np.uint8]) -> Levels:
    """Shape ``(height, width)``; a reduction over the last axis would take ten times as long."""
    if picture.shape[2] == 1:
        return picture[..., 0]
    total = picture[..., 0].astype(np.uint16)
    for channel in range(1, picture.shape[2]):
        total += picture[..., channel]
    return total


def _quantiles(levels: Levels, channels: int) -> list[float]:
    """Thirteen quantiles of the grey levels, as :func:`numpy.quantile` gives them, read off a histogram instead of sorted."""
    bins = 255 * channels + 1
    counts = cv2.calcHist([levels], [0], None, [bins], [0, bins])
    up_to = np.cumsum(counts.ravel(), dtype=np.float64)
    beside, share = _places(levels.size)
    # The k-th smallest of the pixels, from 0, is the first level that more than k pixels reach.
    low, high = up_to.searchsorted(beside, side="right").astype(np.float32) / np.float32(channels)
    step = high - low
    # From the nearer side, as numpy does, so that rounding is the same.
    found: list[float] = np.where(share >= 0.5, high - step * (1.0 - share), low + step * share).tolist()
    return found


@cache
def _places(pixels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Which two pixels, in order, each quantile lies between, shape (2, 13), and how far from the first."""
    place = _QUANTILES * (pixels - 1)
    below = np.floor(place)
    return np.stack([below, np.minimum(below + 1, pixels - 1)]), place - below


def _texture(picture: NDArray[np.uint8], levels: Levels) -> NDArray[np.float32]:
    channels = picture.shape[2]
    grey = levels.astype(np.float32) / np.float32(channels)
    found = _quantiles(levels, channels)
    level: Any = grey
    for _ in range(_LEVELS):
        height, width = level.shape
        coarser = cv2.resize(level, (max(width // 2, 1), max(height // 2, 1)), interpolation=cv2.INTER_AREA)
        smooth = cv2.resize(coarser, (width, height), interpolation=cv2.INTER_LINEAR)
        absolute, squares = cv2.norm(level, smooth, cv2.NORM_L1), cv2.norm(level, smooth, cv2.NORM_L2SQR)
        found += [_log(absolute / level.size), _log(math.sqrt(squares / level.size))]
        level = coarser
    across, down = _mean_step(grey[:, 1:], grey[:, :-1]), _mean_step(grey[1:], grey[:-1])
    found.append(_log(across) - _log(down))
    if channels == 3:
        mean, spread = cv2.meanStdDev(picture)
        found += [*mean.ravel(), *spread.ravel()]
    return np.array(found, dtype=np.float32)


def _mean_step(picture: NDArray[np.float32], moved: NDArray[np.float32]) -> float:
    """Mean absolute difference; 0 of a picture of one row or column, where there is none."""
    return cv2.norm(picture, moved, cv2.NORM_L1) / picture.size if picture.size else 0.0


def _log(value: float) -> float:
    return _SCALE * math.log(value + _LEAST)

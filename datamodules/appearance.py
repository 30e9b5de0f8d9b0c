"""What an image file looks like before any network sees it: its shape, its colours, its contrast, its fine structure."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
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
    layout, texture = described(pixels[None])
    return Looked(
        pixels,
        Appearance(
            **file_facts(found),
            brightness=float(pixels.mean()),
            contrast=float(contrast_of(pixels[None])[0]),
            layout=layout[0],
            texture=texture[0],
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
    return np.array([_grey(picture).std() for picture in pixels], dtype=np.float64)


def described(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What pictures look like, without any network.

    Args:
        pixels: uint8, shape ``(n, size, size, channels)``.

    Returns:
        layout: the pictures at 16 x 16, shape ``(n, 256 * channels)``, 0 to 255: where is what.
        texture: 13 quantiles of the grey levels, the strength of the structure at six scales (of the Laplacian pyramid, Burt
        and Adelson 1983), the balance of steps across and down, and for RGB mean and spread of each channel.
    """
    side = (LAYOUT_SIDE, LAYOUT_SIDE)
    layout = [cv2.resize(picture, side, interpolation=cv2.INTER_AREA).ravel() for picture in pixels]
    texture = [_texture(picture) for picture in pixels]
    return np.array(layout, dtype=np.float32), np.array(texture, dtype=np.float32)


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean over the channels; a reduction over the last axis would take ten times as long."""
    return _sum_of_channels(picture).astype(np.float32) / np.float32(picture.shape[2])


def _sum_of_channels(picture: NDArray[np.uint8]) -> NDArray[np.uint16]:
    total = picture[..., 0].astype(np.uint16)
    for channel in range(1, picture.shape[2]):
        total += picture[..., channel]
    return total


def _quantiles(picture: NDArray[np.uint8]) -> list[float]:
    """Thirteen quantiles of the grey levels, as :func:`numpy.quantile` gives them, read off a histogram instead of sorted."""
    channels = picture.shape[2]
    up_to = np.cumsum(np.bincount(_sum_of_channels(picture).ravel(), minlength=255 * channels + 1))
    place = _QUANTILES * (up_to[-1] - 1)
    below = np.floor(place)
    beside = np.stack([below, np.minimum(below + 1, up_to[-1] - 1)])
    # The k-th smallest of the pixels, from 0, is the first level that more than k pixels reach.
    low, high = np.searchsorted(up_to, beside, side="right").astype(np.float32) / np.float32(channels)
    share, step = place - below, high - low
    # From the nearer side, as numpy does, so that rounding is the same.
    found: list[float] = np.where(share >= 0.5, high - step * (1.0 - share), low + step * share).tolist()
    return found


def _texture(picture: NDArray[np.uint8]) -> list[float]:
    grey = _grey(picture)
    found = _quantiles(picture)
    level: NDArray[Any] = grey
    for _ in range(_LEVELS):
        height, width = level.shape
        coarser = cv2.resize(level, (max(width // 2, 1), max(height // 2, 1)), interpolation=cv2.INTER_AREA)
        detail = np.abs(level - cv2.resize(coarser, (width, height), interpolation=cv2.INTER_LINEAR))
        found += [_log(float(detail.mean())), _log(float(np.sqrt((detail**2).mean())))]
        level = coarser
    across, down = (float(np.abs(np.diff(grey, axis=axis)).mean()) for axis in (1, 0))
    found.append(_log(across) - _log(down))
    if picture.shape[2] == 3:
        found += [*picture.mean(axis=(0, 1)), *picture.std(axis=(0, 1))]
    return found


def _log(value: float) -> float:
    return _SCALE * math.log(value + _LEAST)

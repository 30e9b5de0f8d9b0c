"""Histograms of oriented gradients (Dalal and Triggs 2005): what an image looks like to a method from before deep learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE: Final = 128
_CELL, _BLOCK, _BINS = 16, 2, 9  # pixels of a cell, cells of a block, orientations from 0 to 180 degrees
_CELLS: Final = SIDE // _CELL
LENGTH: Final = (_CELLS - _BLOCK + 1) ** 2 * _BLOCK**2 * _BINS
_CLIP, _EPSILON = 0.2, 1e-3
_CHUNK: Final = 256  # images that are normalised together
_CELL_OF_PIXEL: Final = (np.arange(SIDE)[:, None] // _CELL * _CELLS + np.arange(SIDE)[None, :] // _CELL) * _BINS

Floats = NDArray[np.float32]


def hog_features(
    pixels: NDArray[np.uint8], rows: NDArray[np.int64], on_image: Callable[[int], None] | None = None
) -> Floats:
    """HOG descriptors of decoded images; colour is turned grey, and every image is resized to 128 x 128.

    Centred differences; 9 unsigned orientations, each gradient shared between the two nearest; cells of 16 x 16 pixels; blocks
    of 2 x 2 cells that overlap by half, normalised by L2-Hys (clipped at 0.2).

    Args:
        pixels: decoded images, shape ``(n, height, width, channels)``, 1 or 3 channels (RGB); may be a memory map, of which
            one image at a time is read.
        rows: which of them, shape ``(k,)``.
        on_image: called with the number of images just described.

    Returns:
        Shape ``(k, 1764)``, values in [0, 1].
    """
    found = np.empty((len(rows), LENGTH), dtype=np.float32)
    for start in range(0, len(rows), _CHUNK):
        chosen = rows[start : start + _CHUNK]
        cells = np.stack([_cell_histograms(_grey_square(pixels[row])) for row in chosen])
        found[start : start + len(chosen)] = _blocks(cells)
        if on_image is not None:
            on_image(len(chosen))
    return found


def _grey_square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    held = np.ascontiguousarray(image)
    grey = cv2.cvtColor(held, cv2.COLOR_RGB2GRAY) if held.shape[2] == 3 else held[:, :, 0]
    if grey.shape == (SIDE, SIDE):
        return np.asarray(grey, dtype=np.uint8)
    smaller = min(grey.shape) >= SIDE
    resized = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)


def _cell_histograms(grey: NDArray[np.uint8]) -> Floats:
    """Gradient magnitude by orientation in each cell, shape (8, 8, 9)."""
    values = grey.astype(np.float32) / 255
    across, down = np.zeros_like(values), np.zeros_like(values)
    across[:, 1:-1] = values[:, 2:] - values[:, :-2]
    down[1:-1] = values[2:] - values[:-2]
    magnitude, angle = cv2.cartToPolar(across, down)  # angle from 0 to 2 pi
    place = np.asarray(angle) * np.float32(_BINS / np.pi) - np.float32(0.5)  # centres of the bins are whole numbers
    lower = np.floor(place)
    upper_share = place - lower
    first = lower.astype(np.int64) % _BINS
    length = _CELLS * _CELLS * _BINS
    sums = np.bincount((_CELL_OF_PIXEL + first).ravel(), (magnitude * (1 - upper_share)).ravel(), length)
    sums += np.bincount((_CELL_OF_PIXEL + (first + 1) % _BINS).ravel(), (magnitude * upper_share).ravel(), length)
    return sums.astype(np.float32).reshape(_CELLS, _CELLS, _BINS)


def _blocks(cells: Floats) -> Floats:
    """Overlapping blocks of the cells of many images, each normalised: shape (images, 1764)."""
    windows = np.lib.stride_tricks.sliding_window_view(cells, (_BLOCK, _BLOCK), axis=(1, 2))
    blocks = windows.reshape(len(cells), -1, _BINS * _BLOCK * _BLOCK).astype(np.float32)
    for clip in (_CLIP, 1.0):
        length = np.sqrt((blocks**2).sum(axis=2, keepdims=True) + np.float32(_EPSILON**2))
        blocks = np.minimum(blocks / length, np.float32(clip))
    return np.asarray(blocks.reshape(len(cells), LENGTH), dtype=np.float32)

"""Copies of one picture that are not identical files: re-encoded, resized, mirrored or turned by quarter turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.fingerprints import SIDE

# What makes the second picture of a pair look like the first: mirrored left to right, then turned counter-clockwise.
TRANSFORMS = ("identity", "rot90", "rot180", "rot270", "flip", "flip_rot90", "flip_rot180", "flip_rot270")

# Calibrated on 5,824 chest films and 12,213 dermoscopic images, all pairs, all moves. Highest similarity of different
# subjects: 0.89 as they are, 0.92 with one of the two moved (seven times as many chances); those have 0.76 or less in
# even contrast. Lowest of copies re-encoded at JPEG quality 20, at a third of the size, or turned, halved and re-encoded
# at 50: 0.94, 0.95, 0.96, and 0.81 in even contrast.
LEAST_SIMILAR = 0.91
LEAST_SIMILAR_MOVED = 0.94
LEAST_EVEN = 0.80

_COARSE = 12  # frequencies along a side that candidates are sought by
_FINE = 24  # and that pairs are confirmed by; finer ones are noise of the encoder
_EVEN = 20  # and in even contrast, which amplifies that noise
_CANDIDATE = 0.9
_BORDER = 8  # pixels around the centre
_FLAT = 1.5  # grey levels: pixels with a smaller standard deviation show nothing that could be compared
_ROWS, _COLUMNS, _PAIRS = 512, 8192, 4096  # of a block; they bound the memory


def near_duplicates(
    small: NDArray[np.uint8],
    *,
    least: float = LEAST_SIMILAR,
    least_moved: float = LEAST_SIMILAR_MOVED,
    on_image: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """All pairs of pictures that show the same picture.

    Films of one kind look alike, because coarse brightness follows the body. Pictures are therefore compared by their
    discrete cosine transform weighted with the spatial frequency, which makes all scales count alike (the spectrum of
    natural pictures falls with the frequency). A pair is found by its coarse frequencies under all eight moves, and
    kept if three views agree: the whole, its centre (a dark frame around different lesions is not enough), and the
    whole in even contrast (a small dark lesion in the middle of plain skin is not enough either).

    Args:
        small: pictures of :func:`datamodules.fingerprints.small_images`, shape ``(n, 32, 32)``, one a distinct file.
        least: smallest similarity of a pair; ``least_moved``: the same where one picture is mirrored or turned.
        on_image: called with the number of images just compared with all others.

    Returns:
        One row a pair, sorted: ``first`` and ``second`` (row numbers, first < second), ``similarity`` (the smaller of
        the correlations of whole and centre, up to 1), ``transform`` (one of ``TRANSFORMS``: what makes the second look like
        the first). Pictures without contrast, or without contrast at their centre, are in no pair.

    Raises:
        ValueError: if ``small`` has another shape.
    """
    if small.ndim != 3 or small.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"pictures of shape {small.shape}; expected (n, {SIDE}, {SIDE})")
    coarse = _in_chunks(small, lambda part: _whole(part, _COARSE))
    found = []
    for start in range(0, len(small), _ROWS):
        for first, second, move in _candidates(small, coarse, start):
            for part in range(0, len(first), _PAIRS):
                rows = first[part : part + _PAIRS], second[part : part + _PAIRS]
                similarity = _confirmed(small[rows[0]], moved(small[rows[1]], move))
                kept = similarity >= (least if move == TRANSFORMS[0] else least_moved)
                found.append(_table(rows[0][kept], rows[1][kept], similarity[kept], move))
        if on_image is not None:
            on_image(min(_ROWS, len(small) - start))
    pairs = pd.concat([_table(*(np.empty(0, dtype=np.int64),) * 2, np.empty(0), ""), *found], ignore_index=True)
    # A symmetric picture is found under several moves; the plainest of the best is told.
    best = pairs.sort_values(["first", "second", "similarity"], ascending=[True, True, False], kind="stable")
    return best.drop_duplicates(["first", "second"]).reset_index(drop=True)


def moved(pictures: NDArray[np.uint8], transform: str) -> NDArray[np.uint8]:
    """Pictures of shape ``(..., height, width)`` after one of ``TRANSFORMS``.

    >>> moved(np.array([[1, 2], [3, 4]], dtype=np.uint8), "flip_rot90").tolist()
    [[1, 3], [2, 4]]
    """
    number = TRANSFORMS.index(transform)
    mirrored = pictures[..., ::-1] if number >= 4 else pictures
    return np.rot90(mirrored, number % 4, axes=(-2, -1))


def _candidates(
    small: NDArray[np.uint8], coarse: NDArray[np.float32], start: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], str]]:
    """Pairs whose first is in the block of rows from ``start`` on, with the move of the second."""
    block = small[start : start + _ROWS]
    for number, move in enumerate(TRANSFORMS):
        # To move the first back is to move the second; mirrored turns undo themselves.
        back = TRANSFORMS[-number % 4] if number < 4 else move
        wanted = _whole(moved(block, back), _COARSE)
        for left in range(start, len(small), _COLUMNS):
            alike = wanted @ coarse[left : left + _COLUMNS].T > _CANDIDATE
            first, second = np.nonzero(alike)
            first, second = first + start, second + left
            later = second > first
            if later.any():
                yield first[later], second[later], move


def _confirmed(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Similarity of each picture with its partner, shape (n,), at most 1; 0 if they disagree in even contrast."""
    whole = np.einsum("np,np->n", _whole(one, _FINE), _whole(other, _FINE))
    centre = np.einsum("np,np->n", _centre(one), _centre(other))
    even = np.einsum("np,np->n", _even(one), _even(other))
    similarity: NDArray[np.float64] = np.minimum(np.minimum(whole, centre), 1.0).astype(np.float64)
    return np.where(even >= LEAST_EVEN, similarity, 0.0)


def _whole(pictures: NDArray[np.uint8], frequencies: int) -> NDArray[np.float32]:
    """Weighted spectra of unit length, shape ``(n, frequencies ** 2)``; 0 for pictures without contrast."""
    return _unit(_spectra(pictures, frequencies), pictures)


def _centre(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The centres of the weighted pictures, of mean 0 and unit length, shape ``(n, pixels)``."""
    inner = (slice(None), slice(_BORDER, -_BORDER), slice(_BORDER, -_BORDER))
    weighted = _weighted(pictures, _FINE)[inner]
    return _unit(weighted - weighted.mean(axis=(1, 2), keepdims=True), pictures[inner])


def _even(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Weighted pictures divided by their contrast in a window of 9 x 9 pixels, of mean 0 and unit length."""
    from scipy.ndimage import uniform_filter  # scipy is loaded where pictures are compared, which most runs find done

    weighted = _weighted(pictures, _EVEN)
    power = weighted**2
    nearby = uniform_filter(power, size=(0, 9, 9), mode="reflect") + 0.04 * power.mean(axis=(1, 2), keepdims=True)
    even = weighted / np.sqrt(np.maximum(nearby, 1e-6))
    return _unit(even - even.mean(axis=(1, 2), keepdims=True), pictures)


def _weighted(pictures: NDArray[np.uint8], frequencies: int) -> NDArray[np.float32]:
    """Weighted pictures, back in pixels, shape ``(n, 32, 32)``."""
    from scipy.fft import idctn

    spectra = np.zeros((len(pictures), SIDE, SIDE), dtype=np.float32)
    spectra[:, :frequencies, :frequencies] = _spectra(pictures, frequencies)
    weighted: NDArray[np.float32] = idctn(spectra, norm="ortho", axes=(1, 2))
    return weighted


def _spectra(pictures: NDArray[np.uint8], frequencies: int) -> NDArray[np.float32]:
    from scipy.fft import dctn

    number = np.arange(frequencies, dtype=np.float32)
    weight = np.hypot(number[:, None], number[None, :])  # 0 at the mean brightness
    spectra = dctn(pictures.astype(np.float32), norm="ortho", axes=(1, 2))[:, :frequencies, :frequencies]
    weighted: NDArray[np.float32] = (spectra * weight).astype(np.float32, copy=False)
    return weighted


def _unit(values: NDArray[np.float32], pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Rows of unit length; rows of flat pictures, and rows of rounding errors, become 0."""
    rows = values.reshape(len(values), -1)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    flat = pictures.reshape(len(pictures), -1).std(axis=1, keepdims=True) < _FLAT
    unit: NDArray[np.float32] = np.where(flat | (length < 1e-2), np.float32(0), rows / np.maximum(length, 1e-2))
    return unit


def _in_chunks(
    small: NDArray[np.uint8], describe: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    parts = [describe(small[start : start + _COLUMNS]) for start in range(0, len(small), _COLUMNS)]
    return np.concatenate(parts) if parts else np.empty((0, _COARSE**2), dtype=np.float32)


def _table(
    first: NDArray[np.int64], second: NDArray[np.int64], similarity: NDArray[np.float64], move: str
) -> pd.DataFrame:
    columns = {"first": first, "second": second, "similarity": similarity, "transform": [move] * len(first)}
    return pd.DataFrame(columns).astype({"similarity": float, "transform": object})

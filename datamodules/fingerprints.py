"""A 32 x 32 grey picture of every image: what the search for near-duplicates and the audit look at. Decoded once."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.images import DECODER_VERSION, read_image
from datamodules.machine import usable_cores

SIDE = 32

_CHUNK = 64  # images a worker decodes before the next
# One record holds a picture with its file's hash, so that a single rename replaces both.
_RECORD = np.dtype([("sha256", "S64"), ("pixels", np.uint8, (SIDE, SIDE))])


def small_images(
    paths: list[Path], contents: list[str], memory: Path, on_image: Callable[[int], None] | None = None
) -> NDArray[np.uint8]:
    """Grey, area-averaged pictures, stretched to a square; those decoded before are taken from the memory.

    Args:
        paths: image files.
        contents: their content hashes (64 hexadecimal digits), in the same order. Files of one content are decoded once.
        memory: folder in which the pictures are kept, by content and decoder version; created. What was decoded before
            an interruption or an unreadable file is kept too.
        on_image: called with the number of images just decoded.

    Returns:
        Shape ``(n, 32, 32)``, values 0 to 255, in the order of ``paths``.

    Raises:
        UnreadableImageError: if a file has become unreadable since it was indexed.
        ValueError: if the lists differ in length or a hash is empty or too long.
    """
    if len(paths) != len(contents):
        raise ValueError(f"{len(paths)} paths, but {len(contents)} content hashes")
    if any(not 0 < len(content) <= 64 for content in contents):
        raise ValueError("a content hash is empty or longer than 64 characters")
    stored = memory / f"small-{SIDE}-v{DECODER_VERSION}.npy"
    keys = np.array(contents, dtype="S64")
    known = _remembered(stored)
    _, first = np.unique(keys, return_index=True)
    missing = np.sort(first[~np.isin(keys[first], known["sha256"])])
    if len(missing):
        known = _extended(known, stored, keys[missing], [paths[row] for row in missing], on_image)
    order = np.argsort(known["sha256"])
    found = order[np.searchsorted(known["sha256"], keys, sorter=order)] if len(keys) else np.empty(0, dtype=np.int64)
    pixels: NDArray[np.uint8] = known["pixels"][found]
    return pixels


def _remembered(stored: Path) -> NDArray[np.void]:
    """The records of an earlier call; none where the file is absent or not ours, because they can be made again."""
    try:
        records: NDArray[np.void] = np.load(stored, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return np.empty(0, dtype=_RECORD)
    return records if records.dtype == _RECORD and records.ndim == 1 else np.empty(0, dtype=_RECORD)


def _extended(
    known: NDArray[np.void],
    stored: Path,
    keys: NDArray[np.bytes_],
    paths: list[Path],
    on_image: Callable[[int], None] | None,
) -> NDArray[np.void]:
    """The known records and those of ``paths``; written to ``stored`` whatever happens on the way."""
    fresh = np.empty(len(paths), dtype=_RECORD)
    fresh["sha256"] = keys
    done = np.zeros(len(paths), dtype=bool)

    def decode(start: int) -> int:
        rows = range(start, min(start + _CHUNK, len(paths)))
        for row in rows:
            fresh["pixels"][row] = read_image(paths[row], SIDE, 1)[..., 0]
            done[row] = True
        return len(rows)

    try:
        with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
            for count in pool.map(decode, range(0, len(paths), _CHUNK)):
                if on_image is not None:
                    on_image(count)
    finally:
        known = np.concatenate([known, fresh[done]])
        _save(known, stored)
    return known


def _save(records: NDArray[np.void], stored: Path) -> None:
    stored.parent.mkdir(parents=True, exist_ok=True)
    beside = stored.with_name(f".{stored.stem}.{os.getpid()}.npy")
    try:
        np.save(beside, records)
        os.replace(beside, stored)
    finally:
        beside.unlink(missing_ok=True)
    for old in stored.parent.glob(f"small-{SIDE}-v*.npy"):
        if old != stored:
            old.unlink(missing_ok=True)  # of another decoder: never read again

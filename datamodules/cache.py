"""The decoded cache: all images of a data set at training resolution, as one memory-mapped array."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.images import DECODER_VERSION, read_image

Read = Callable[[int], NDArray[np.uint8]]  # the decoded image of a row

_CHUNK = 64  # images a worker decodes before the next; keeps few results in memory


def cache_key(contents: list[str], size: int, channels: int, interpolation: str = "area") -> str:
    """Hash over the files' content hashes in row order, the decode settings and the decoder's version."""
    head = f"decoder {DECODER_VERSION}, {size}x{size}x{channels}, squashed"
    if interpolation != "area":
        head += f", {interpolation}"
    return hashlib.sha256("\n".join([head, *contents]).encode()).hexdigest()


def open_cache(
    folder: Path,
    paths: list[Path],
    contents: list[str],
    *,
    size: int,
    channels: int,
    interpolation: str = "area",
    on_image: Callable[[int], None] | None = None,
) -> NDArray[np.uint8]:
    """The decoded images, built first where they are not there yet.

    A changed file or setting is another key and so another array: stale pixels cannot be read. The array is written
    beside its place and renamed when complete, so a killed build leaves nothing that could be mistaken for a cache, and
    two processes that build at the same time do no harm.

    Args:
        folder: where caches of this data set are kept.
        paths: image files, in row order.
        contents: their content hashes, in the same order.
        size, channels: of the decoded images.
        interpolation: how they are resized, see :func:`datamodules.images.read_image`.
        on_image: called with the number of images just decoded.

    Returns:
        Read-only memory-mapped array of shape ``(n, size, size, channels)``, values 0 to 255.

    Raises:
        UnreadableImageError: if a file has become unreadable since it was indexed.
    """
    key = cache_key(contents, size, channels, interpolation)
    path = folder / f"{size}x{size}x{channels}-{key[:16]}.npy"
    shape = (len(paths), size, size, channels)
    if not _complete(path, key, shape):
        _build(path, key, shape, partial(_read, paths, size, channels, interpolation), on_image)
    array: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return array


def _complete(path: Path, key: str, shape: tuple[int, ...]) -> bool:
    record = path.with_suffix(".json")
    if not (path.is_file() and record.is_file()):
        return False
    try:
        facts = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:  # damaged; the array is then made again
        return False
    return bool(
        facts.get("key") == key and facts.get("shape") == list(shape) and facts.get("bytes") == path.stat().st_size
    )


def _build(path: Path, key: str, shape: tuple[int, ...], read: Read, on_image: Callable[[int], None] | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.npy")
    try:
        _decode_into(beside, shape, read, on_image)
        size_on_disk = beside.stat().st_size
        record = path.with_suffix(f".json.{os.getpid()}")
        record.write_text(
            json.dumps({"key": key, "shape": list(shape), "bytes": size_on_disk}) + "\n", encoding="utf-8"
        )
        os.replace(beside, path)
        os.replace(record, path.with_suffix(".json"))
    finally:
        beside.unlink(missing_ok=True)


def _read(paths: list[Path], size: int, channels: int, interpolation: str, row: int) -> NDArray[np.uint8]:
    return read_image(paths[row], size, channels, interpolation)


def _decode_into(path: Path, shape: tuple[int, ...], read: Read, on_image: Callable[[int], None] | None) -> None:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)

    def decode(start: int) -> int:
        stop = min(start + _CHUNK, shape[0])
        for row in range(start, stop):
            array[row] = read(row)
        return stop - start

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for count in pool.map(decode, range(0, shape[0], _CHUNK)):
            if on_image is not None:
                on_image(count)
    array.flush()

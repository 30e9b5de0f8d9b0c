"""The decoded cache: all images of a data set at training resolution, as one array on disk, in memory or made when asked for."""

from __future__ import annotations

import json
import logging
import mmap
import os
import random
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from datamodules.cache_build import (
    BLOCK,
    Advance,
    blocks_of,
    build,
    checksums_of,
    damaged_blocks,
    decode_blocks,
    header_of,
    record_file,
    repair,
    rows_of,
    stat_of,
    unfinished_files,
    write_record,
)
from datamodules.cache_room import choose, memory_of_process
from datamodules.cache_use import alone, hold, lock_file
from datamodules.pixel_source import DecodedFiles, ImageFiles, MemoryPixels, cache_key
from datamodules.progress import Progress, silent

__all__ = ["cache_key", "open_cache", "open_pixels", "path_of"]

log = logging.getLogger("firstread")

_CHEAP = 10**9  # bytes whose checksums are all compared at every opening: half a second
_SPOT_CHECKS = 16  # blocks that are compared of a larger array


def path_of(folder: Path, files: ImageFiles) -> Path:
    """The file that holds the decoded images of these files."""
    return folder / f"{files.size}x{files.size}x{files.channels}-{files.key[:16]}.npy"


def open_pixels(kind: str, folder: Path, files: ImageFiles, progress: Progress = silent) -> NDArray[np.uint8]:
    """The decoded images, kept as ``data.cache`` says; the choice is logged before anything is decoded.

    Args:
        kind: ``auto``, ``disk``, ``ram`` or ``off``.
        folder: where caches of this data set are kept.
        files: the images.
        progress: shows how far decoding is.

    Returns:
        Read-only array of shape ``(n, size, size, channels)``, values 0 to 255: memory-mapped, in memory, or with ``off`` an
        object that stands for one and decodes rows when asked (:class:`datamodules.pixel_source.DecodedFiles`).

    Raises:
        DataError: if they do not fit where they were asked to be, or a file has changed or become unreadable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, files)
    complete = _facts(path, files) is not None
    part, _ = unfinished_files(path)
    reserved = 512 * part.stat().st_blocks if part.is_file() and not complete else 0
    choice = choose(kind, files, folder, complete=complete, reserved=reserved)
    log.info(choice.line)
    if choice.kind == "off":
        return cast(NDArray[np.uint8], DecodedFiles(files))  # has what is used of an array: shape, size, length, rows
    if choice.kind == "disk" or complete:
        on_disk = _open_on_disk(path, files, progress)
        return on_disk if choice.kind == "disk" else MemoryPixels.of(np.array(on_disk), files.key)
    return _decoded_in_memory(files, progress)


def open_cache(
    folder: Path,
    paths: list[Path],
    contents: list[str],
    *,
    size: int,
    channels: int,
    interpolation: str = "area",
    progress: Progress = silent,
) -> NDArray[np.uint8]:
    """The decoded images on disk, built first where they are not there yet.

    A changed file or setting is another key and so another array: stale pixels cannot be read. The array is written beside its
    place and renamed when complete; of a killed build the next process takes over what was decoded. Of two processes that want
    the same array at once, one decodes and the other waits. Every block of images has a checksum: all are compared when that
    is cheap or the file is not the one that was checked last, else some; a damaged block is decoded again.

    Args:
        folder: where caches of this data set are kept.
        paths: image files, in row order.
        contents: their content hashes, in the same order.
        size, channels: of the decoded images.
        interpolation: how they are resized, see :func:`datamodules.images.read_image`.
        progress: shows how many images are left.

    Returns:
        Read-only memory-mapped array of shape ``(n, size, size, channels)``, values 0 to 255.

    Raises:
        DataError: if a file has changed or become unreadable since it was indexed, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = ImageFiles(paths, contents, size, channels, interpolation)
    return _open_on_disk(path_of(folder, files), files, progress)


def _open_on_disk(path: Path, files: ImageFiles, progress: Progress) -> NDArray[np.uint8]:
    with alone(lock_file(path), "is decoding the same images"):
        facts = _facts(path, files)
        with ExitStack() as bars:
            if facts is None:
                build(path, files, _bar(bars, progress, f"decoding to {files.size} x {files.size}"))
            else:
                _check(path, files, facts, _bar(bars, progress, "decoding damaged blocks again"))
        hold(path)
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    if array.nbytes > memory_of_process().total / 2:
        # Read-ahead would fetch neighbours of every image of a shuffled batch, which are gone before their turn comes.
        cast(Any, array)._mmap.madvise(mmap.MADV_RANDOM)
    return array


def _bar(bars: ExitStack, progress: Progress, title: str) -> Callable[[int], Advance]:
    return lambda total: bars.enter_context(progress(title, total))


def _decoded_in_memory(files: ImageFiles, progress: Progress) -> NDArray[np.uint8]:
    images = np.empty(files.shape, dtype=np.uint8)

    def keep(block: int, decoded: NDArray[np.uint8]) -> None:
        rows = rows_of(files, block)
        images[rows.start : rows.stop] = decoded

    with progress(f"decoding to {files.size} x {files.size}", len(files)) as advance:
        for block, _ in decode_blocks(files, blocks_of(files), keep):
            advance(len(rows_of(files, block)))
    return MemoryPixels.of(images, files.key)


def _facts(path: Path, files: ImageFiles) -> dict[str, Any] | None:
    """The record of a complete array of these files; None where there is none, or none that can be used."""
    try:
        facts: dict[str, Any] = json.loads(record_file(path).read_text(encoding="utf-8"))
        size = path.stat().st_size
        if facts["key"] != files.key or facts["shape"] != list(files.shape):
            return None
        if "crc32" not in facts:  # of a version without checksums: only a whole file is believed
            return facts if facts["bytes"] == size else None
        return facts if len(facts["crc32"]) == len(blocks_of(files)) and facts["block"] == BLOCK else None
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged; the array is then made again
        return None


def _check(path: Path, files: ImageFiles, facts: dict[str, Any], advance: Callable[[int], Advance]) -> None:
    """Compare checksums, and decode again what does not have them."""
    stat, crcs, blocks = stat_of(path), facts.get("crc32"), blocks_of(files)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if crcs is None:
            write_record(path, files, checksums_of(descriptor, files), stat)
            return
        known = facts.get("checked") == stat
        some = known and files.nbytes > _CHEAP
        chosen = random.sample(blocks, min(_SPOT_CHECKS, len(blocks))) if some else blocks
        damaged = damaged_blocks(descriptor, files, {block: crcs[block] for block in chosen})
        if damaged and some:  # where one is damaged, others may be
            damaged = damaged_blocks(descriptor, files, dict(enumerate(crcs)))
        header = header_of(files.shape)
        sound = os.pread(descriptor, len(header), 0) == header
    finally:
        os.close(descriptor)
    if damaged or not sound:
        images = sum(len(rows_of(files, block)) for block in damaged)
        log.warning("%s is damaged; %s of %s images are decoded again", path, f"{images:,}", f"{len(files):,}")
        crcs = repair(path, files, damaged, crcs, advance(images))
        write_record(path, files, crcs, stat_of(path))
    elif not known:
        write_record(path, files, crcs, stat)

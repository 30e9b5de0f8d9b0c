"""Decoding a data set into one file: in parallel, resumable after a kill, checksummed block by block, and repaired so."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.cache_room import no_room
from datamodules.errors import DataError
from datamodules.machine import usable_cores
from datamodules.pixel_source import ImageFiles

BLOCK = 64  # images: what a thread decodes before the next, and what a checksum is of
_EVERY = 1.0  # seconds between two entries in the journal: what a kill costs at most
_FULL = (errno.ENOSPC, errno.EDQUOT)

Advance = Callable[[int], None]


def record_file(path: Path) -> Path:
    """The record of a complete array: key, shape, checksums, and the file's size, date and inode when it was last checked."""
    return path.with_suffix(".json")


def unfinished_files(path: Path) -> tuple[Path, Path]:
    """An array that is being decoded, and the journal of its finished blocks."""
    return path.with_name(f".{path.stem}.part"), path.with_name(f".{path.stem}.journal")


def header_of(shape: tuple[int, ...]) -> bytes:
    """What an ``.npy`` file of such an array of uint8 begins with."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def blocks_of(files: ImageFiles) -> range:
    """Numbers of the blocks."""
    return range(-(-len(files) // BLOCK))


def rows_of(files: ImageFiles, block: int) -> range:
    """The rows of a block."""
    return range(block * BLOCK, min((block + 1) * BLOCK, len(files)))


def place_of(files: ImageFiles, block: int) -> tuple[int, int]:
    """Where a block begins in the file, and its length, in bytes."""
    rows, image = rows_of(files, block), files.size * files.size * files.channels
    return len(header_of(files.shape)) + rows.start * image, len(rows) * image


def decode_blocks(
    files: ImageFiles, blocks: Sequence[int], keep: Callable[[int, NDArray[np.uint8]], None]
) -> Iterator[tuple[int, int]]:
    """Decode blocks on all processors, in threads: Pillow, OpenCV and zlib let others run meanwhile.

    Args:
        files: the images. ``blocks``: which of them.
        keep: called in the thread with a block's number and images, shape ``(k, size, size, channels)``.

    Yields:
        Number and CRC-32 of each block that has been kept, in order.

    Raises:
        DataError: if a file has changed or become unreadable since it was indexed.
    """

    def work(block: int) -> tuple[int, int]:
        rows = rows_of(files, block)
        images = np.empty((len(rows), *files.shape[1:]), dtype=np.uint8)
        files.read_into(images, rows)
        keep(block, images)
        return block, zlib.crc32(images.data)

    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        yield from pool.map(work, blocks)


def build(path: Path, files: ImageFiles, advance: Callable[[int], Advance]) -> None:
    """Decode all images into a file beside its place, and rename it when complete. The caller holds the lock.

    What a killed process has decoded is taken over, where its journal names it and its checksum is right.

    Args:
        path: of the ``.npy`` file. ``files``: the images.
        advance: called once with the number of images that are left; what it gives is called with those just decoded.

    Raises:
        DataError: if a file has changed or become unreadable, or the disk is full. What is decoded is kept.
    """
    part, journal = unfinished_files(path)
    known = _taken_over(part, journal, files)
    left = [block for block in blocks_of(files) if block not in known]
    with _opened(part, files, keep=bool(known)) as descriptor:
        _prepare_journal(journal, files, known)
        on_image = advance(sum(len(rows_of(files, block)) for block in left))
        with journal.open("a", encoding="ascii") as log:
            _fill(descriptor, log, files, left, known, on_image)
    crcs = [known[block] for block in blocks_of(files)]
    # The record first: a kill between the two leaves the journal, by which the next process finishes at once.
    write_record(path, files, crcs, stat_of(part))
    os.replace(part, path)
    journal.unlink()


def _fill(
    descriptor: int, log: Any, files: ImageFiles, left: list[int], known: dict[int, int], on_image: Advance
) -> None:
    waiting: list[tuple[int, int]] = []
    written = time.monotonic()

    def note() -> None:
        # Only what the disk has is named, so the journal can be believed after a power cut as well.
        os.fsync(descriptor)
        log.write("".join(f"{block} {crc}\n" for block, crc in waiting))
        log.flush()
        os.fsync(log.fileno())
        waiting.clear()

    try:
        for block, crc in decode_blocks(files, left, lambda number, images: _put(descriptor, files, number, images)):
            waiting.append((block, crc))
            known[block] = crc
            on_image(len(rows_of(files, block)))
            if time.monotonic() - written > _EVERY:
                note()
                written = time.monotonic()
    finally:
        with suppress(OSError):  # a full disk; the error that led here says so
            note()
    os.fsync(descriptor)


def _put(descriptor: int, files: ImageFiles, block: int, images: NDArray[np.uint8]) -> None:
    # Not through a memory map: on a full disk that ends the process without a word, where pwrite raises an error.
    start, _ = place_of(files, block)
    content, done = images.data.cast("B"), 0
    while done < len(content):
        done += os.pwrite(descriptor, content[done:], start + done)


@contextmanager
def _opened(part: Path, files: ImageFiles, *, keep: bool) -> Iterator[int]:
    """The unfinished file at its full size; an error of a full disk in words, and no large empty file left by one."""
    header, fresh = header_of(files.shape), not keep
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if fresh else 0), 0o666)
    try:
        _reserve(descriptor, len(header) + files.nbytes)
        os.pwrite(descriptor, header, 0)
        fresh = False
        yield descriptor
    except OSError as error:
        if error.errno not in _FULL:
            raise
        if fresh:
            part.unlink()
        raise DataError(no_room(files, part.parent, shutil.disk_usage(part.parent).free)) from error
    finally:
        os.close(descriptor)


def _reserve(descriptor: int, size: int) -> None:
    """Take the whole space now, so that a disk that is too small is known before hours of decoding."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
    os.ftruncate(descriptor, size)


def _head(files: ImageFiles) -> str:
    return f"{files.key} {BLOCK}\n"


def _taken_over(part: Path, journal: Path, files: ImageFiles) -> dict[int, int]:
    """Blocks that an earlier process finished, with their checksums."""
    try:
        lines = journal.read_text(encoding="ascii").splitlines(keepends=True)
        descriptor = os.open(part, os.O_RDONLY)
    except (OSError, ValueError):
        return {}
    try:
        if not lines or lines[0] != _head(files):
            return {}
        noted = {}
        for line in lines[1:]:
            words = line.split()
            # The last line may have been cut off by the kill.
            if line.endswith("\n") and len(words) == 2 and all(word.isdigit() for word in words):
                noted[int(words[0])] = int(words[1])
        noted = {block: crc for block, crc in noted.items() if block in blocks_of(files)}
        wrong = damaged_blocks(descriptor, files, noted)
        return {block: crc for block, crc in noted.items() if block not in wrong}
    finally:
        os.close(descriptor)


def _prepare_journal(journal: Path, files: ImageFiles, known: dict[int, int]) -> None:
    beside = journal.with_name(f"{journal.name}.new")
    beside.write_text(_head(files) + "".join(f"{block} {crc}\n" for block, crc in known.items()), encoding="ascii")
    os.replace(beside, journal)


def damaged_blocks(descriptor: int, files: ImageFiles, crcs: dict[int, int]) -> set[int]:
    """Which of these blocks of an open file do not have their checksums."""

    def wrong(block: int) -> bool:
        start, length = place_of(files, block)
        try:
            return zlib.crc32(os.pread(descriptor, length, start)) != crcs[block]
        except OSError:  # a bad sector
            return True

    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        return {block for block, bad in zip(crcs, pool.map(wrong, crcs), strict=True) if bad}


def checksums_of(descriptor: int, files: ImageFiles) -> list[int]:
    """CRC-32 of every block of an open file."""
    places = [place_of(files, block) for block in blocks_of(files)]
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        return list(pool.map(lambda place: zlib.crc32(os.pread(descriptor, place[1], place[0])), places))


def stat_of(path: Path) -> list[int]:
    """What changes when a file is written to or replaced: size, time of change in ns, inode."""
    about = path.stat()
    return [about.st_size, about.st_mtime_ns, about.st_ino]


def write_record(path: Path, files: ImageFiles, crcs: list[int], stat: list[int]) -> None:
    """Write the record of a complete array."""
    size = len(header_of(files.shape)) + files.nbytes
    facts = {
        "key": files.key,
        "shape": list(files.shape),
        "bytes": size,
        "block": BLOCK,
        "crc32": crcs,
        "checked": stat,
    }
    beside = path.with_name(f".{path.stem}.json.{os.getpid()}")
    beside.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    os.replace(beside, record_file(path))


def repair(path: Path, files: ImageFiles, damaged: set[int], crcs: list[int], on_image: Advance) -> list[int]:
    """Decode damaged blocks of a complete array again, in their places, and return the checksums of all blocks."""
    fresh = list(crcs)
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.pwrite(descriptor, header_of(files.shape), 0)
        work = decode_blocks(files, sorted(damaged), lambda number, images: _put(descriptor, files, number, images))
        for block, crc in work:
            fresh[block] = crc
            on_image(len(rows_of(files, block)))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return fresh

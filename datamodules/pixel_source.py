"""The images of a data set as arrays of pixels: from files that are decoded when asked for, or held in memory."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataChangedError, UnreadableImageError
from datamodules.images import DECODER_VERSION, read_content, read_image
from datamodules.machine import usable_cores

Rows = int | slice | NDArray[np.int64] | list[int]
_FEW = 4  # fewer images are decoded before threads have been handed their work


def cache_key(contents: list[str], size: int, channels: int, interpolation: str = "area") -> str:
    """Hash over the files' content hashes in row order, the decode settings and the decoder's version."""
    head = f"decoder {DECODER_VERSION}, {size}x{size}x{channels}, squashed"
    if interpolation != "area":
        head += f", {interpolation}"
    return hashlib.sha256("\n".join([head, *contents]).encode()).hexdigest()


@dataclass(frozen=True)
class ImageFiles:
    """Image files in row order, and how they are decoded.

    Attributes:
        names: of the files, relative to ``root``, or whole paths.
        contents: SHA-256 of their bytes, hexadecimal, in the same order.
        size, channels, interpolation: as :func:`datamodules.images.read_image` takes them.
        root: a folder. A million paths that name it each would take the better part of a gigabyte.
    """

    names: Sequence[str | Path]
    contents: list[str]
    size: int
    channels: int
    interpolation: str = "area"
    root: Path = Path()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of all decoded images: ``(n, size, size, channels)``."""
        return len(self), self.size, self.size, self.channels

    @property
    def nbytes(self) -> int:
        """Of all decoded images."""
        return len(self) * self.size * self.size * self.channels

    @cached_property
    def key(self) -> str:
        """See :func:`cache_key`."""
        return cache_key(self.contents, self.size, self.channels, self.interpolation)

    def read(self, row: int) -> NDArray[np.uint8]:
        """One decoded image, shape ``(size, size, channels)``.

        Raises:
            DataChangedError: if the file no longer holds what it held when it was indexed.
            UnreadableImageError: if it can no longer be read.
        """
        path = self.root / self.names[row]
        try:
            content = read_content(path)
        except UnreadableImageError as error:
            raise UnreadableImageError(f"{path}: {error}") from error
        if hashlib.sha256(content).hexdigest() != self.contents[row]:
            raise DataChangedError(
                f"{path}: the file has changed since it was indexed, so its pixels may not be those of its label. Start the "
                f"command again when nothing writes to the data set; should it say the same, give the file a new date (touch)."
            )
        return read_image(content, self.size, self.channels, self.interpolation, name=path.name)

    def read_into(self, images: NDArray[np.uint8], rows: Iterable[int]) -> None:
        """Decode some rows into ``images``, shape ``(len(rows), size, size, channels)``, one after the other."""
        for place, row in enumerate(rows):
            images[place] = self.read(row)


class DecodedFiles:
    """Image files that look like an array of pixels; every read decodes, and nothing is kept.

    It takes the indices that one batch needs: a row, a slice of rows or an array of rows. Several images are decoded by several
    threads, except in a loader process, of which there are several already.

    Args:
        files: the images.
        threads: that decode at a time; None: one for each processor, and one alone in a loader process.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, files: ImageFiles, threads: int | None = None) -> None:
        self.files, self.threads = files, threads
        self._pool: ThreadPoolExecutor | None = None
        self._owner = 0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(n, size, size, channels)``."""
        return self.files.shape

    @property
    def nbytes(self) -> int:
        """What all images together would take, in bytes."""
        return self.files.nbytes

    @property
    def key(self) -> str:
        """What tells these pixels from others."""
        return self.files.key

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]:
        """Decoded images: of one row ``(size, size, channels)``, of k rows ``(k, size, size, channels)``.

        Raises:
            DataError: if a file has changed or become unreadable since it was indexed.
            IndexError: if there is no such row.
        """
        # What numpy makes of the index: negative rows, steps, masks, and its errors.
        wanted = np.arange(len(self))[rows]
        if wanted.ndim == 0:
            return self.files.read(int(wanted))
        images = np.empty((wanted.size, *self.shape[1:]), dtype=np.uint8)
        self._decode(images, [int(row) for row in wanted.ravel()])
        return images.reshape(*wanted.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        images = self[:]
        return images if dtype is None else images.astype(dtype, copy=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "threads": self.threads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["files"], state["threads"])  # type: ignore[misc]

    def _decode(self, images: NDArray[np.uint8], rows: list[int]) -> None:
        threads = self.threads or (1 if multiprocessing.parent_process() is not None else usable_cores())
        if threads == 1 or len(rows) < _FEW:
            self.files.read_into(images, rows)
            return
        if self._pool is None or self._owner != os.getpid():  # threads do not follow into a forked process
            self._pool, self._owner = ThreadPoolExecutor(threads, thread_name_prefix="decode"), os.getpid()
        for _ in self._pool.map(
            lambda place: self.files.read_into(images[place : place + 1], [rows[place]]), range(len(rows))
        ):
            pass


class MemoryPixels(np.ndarray[Any, np.dtype[np.uint8]]):
    """Decoded images in memory, read-only, that know which they are.

    Attributes:
        key: what tells them from others; empty for a part of them or something computed from them.
    """

    key: str = ""

    @classmethod
    def of(cls, images: NDArray[np.uint8], key: str) -> MemoryPixels:
        """The images themselves, not a copy, closed for writing."""
        held = images.view(cls)
        held.key = key
        held.flags.writeable = False
        return held

    def __reduce__(self) -> tuple[Any, ...]:
        return MemoryPixels.of, (np.asarray(self), self.key)


def identity_of(pixels: Any) -> str:
    """What tells these pixels from others, the same for the decoded cache on disk, in memory and switched off.

    Args:
        pixels: shape ``(n, height, width, channels)``, uint8.

    Returns:
        The key of the decoded cache; of any other array a hash of its bytes.
    """
    if key := getattr(pixels, "key", ""):
        return str(key)
    name = getattr(pixels, "filename", None)
    try:
        record = json.loads(Path(str(name)).with_suffix(".json").read_text(encoding="utf-8"))
        if tuple(record["shape"]) == pixels.shape:
            return str(record["key"])
    except (OSError, ValueError, KeyError, TypeError):  # not of a decoded cache
        pass
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes() + str(pixels.shape).encode()).hexdigest()

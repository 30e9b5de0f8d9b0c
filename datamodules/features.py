"""Features of a frozen trunk: computed once, then read from a memory-mapped file in every epoch, and by every later run."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from datamodules.cache_use import hold
from datamodules.pixel_source import identity_of

_VERSION = 1  # raised when the same facts would give another file
_FILL = 0.95  # share of the free space that one file may take


@dataclass(frozen=True)
class StoredFeatures:
    """The features of one part of a split.

    The file is opened when the first batch is read, in the process that reads it: a loader process gets the path alone.

    Attributes:
        path: ``.npy`` file of float32 rows of f features.
        rows: manifest rows of the part, ascending, shape ``(n,)``.
        views: how many views of every row there are; view v of the i-th row is the ``first + v * n + i``-th of the file.
        first: where the part begins in the file.
    """

    path: Path
    rows: NDArray[np.int64]
    views: int
    first: int

    @cached_property
    def _file(self) -> NDArray[np.float32]:
        array: NDArray[np.float32] = np.load(self.path, mmap_mode="r")
        return array

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_file"}

    @property
    def array(self) -> NDArray[np.float32]:
        """All features of the part, shape ``(views, n, f)``, memory-mapped and read-only."""
        stop = self.first + self.views * len(self.rows)
        return self._file[self.first : stop].reshape(self.views, len(self.rows), -1)

    def of(self, rows: NDArray[np.int64], view: int) -> NDArray[np.float32]:
        """Features of some rows in one view, a copy of shape ``(b, f)``.

        Args:
            rows: manifest rows of this part, in any order, also repeated, shape ``(b,)``.
            view: 0 to ``views - 1``.
        """
        return np.array(self._file[self.first + view * len(self.rows) + np.searchsorted(self.rows, rows)])


@dataclass(frozen=True)
class FeatureStore:
    """The file with the features of the training part, in one or several views, and of the validation part.

    Attributes:
        path: of the ``.npy`` file, float32 of shape ``(views * n_train + n_val, f)``; its name holds the key. A record of the
            same name in JSON says that it is complete.
        key: SHA-256 over everything that the features depend on.
        views: views of every training image; validation images have one, unchanged.
        train_rows, val_rows: manifest rows, ascending.
    """

    path: Path
    key: str
    views: int
    train_rows: NDArray[np.int64]
    val_rows: NDArray[np.int64]

    @property
    def train(self) -> StoredFeatures:
        """The training part; the file counts as used from here on."""
        hold(self.path)
        return StoredFeatures(self.path, self.train_rows, self.views, 0)

    @property
    def val(self) -> StoredFeatures:
        """The validation part."""
        return StoredFeatures(self.path, self.val_rows, 1, self.views * len(self.train_rows))

    @property
    def images(self) -> int:
        """How many images the trunk has to see: all views of training, and validation."""
        return self.views * len(self.train_rows) + len(self.val_rows)

    @property
    def complete(self) -> bool:
        """Whether the file is there, undamaged."""
        try:
            facts = json.loads(self.path.with_suffix(".json").read_text(encoding="utf-8"))
            return bool(facts["key"] == self.key and facts["bytes"] == self.path.stat().st_size)
        except (OSError, ValueError, KeyError, TypeError):  # not there yet, or damaged; it is then made again
            return False

    @property
    def size(self) -> int:
        """Bytes on disk of a complete file."""
        return self.path.stat().st_size

    def write(self, blocks: Iterable[NDArray[np.float32]]) -> bool:
        """Write the file; a second process that wants the same one waits, and then finds it.

        It is written beside its place and renamed when complete. What a killed process left is removed first.

        Args:
            blocks: features of shapes ``(b, f)``, drawn only if needed: each view of the training rows, then validation.

        Returns:
            False if another process had written it in the meantime.

        Raises:
            ValueError: if the features are too large for the disk or not of the right number.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            if self.complete:
                return False
            for leftover in self.path.parent.glob(f".{self.path.stem}.*"):
                leftover.unlink(missing_ok=True)
            beside = self.path.with_name(f".{self.path.stem}.{os.getpid()}.npy")
            record = beside.with_suffix(".json")
            try:
                self._write_to(beside, blocks)
                facts = {"key": self.key, "views": self.views, "bytes": beside.stat().st_size}
                record.write_text(json.dumps(facts) + "\n", encoding="utf-8")
                os.replace(beside, self.path)
                os.replace(record, self.path.with_suffix(".json"))
            finally:
                beside.unlink(missing_ok=True)
                record.unlink(missing_ok=True)
        return True

    def _write_to(self, path: Path, blocks: Iterable[NDArray[np.float32]]) -> None:
        rest = iter(blocks)
        first = next(rest)
        width, written = first.shape[1], 0
        self._require_space(width)
        # Not through a memory map: on a full disk that ends the process without a word, where write() raises an error.
        with path.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (self.images, width)}
            np.lib.format.write_array_header_2_0(file, header)
            for block in itertools.chain([first], rest):
                file.write(np.ascontiguousarray(block, dtype="<f4").tobytes())
                written += len(block)
        if written != self.images:
            raise ValueError(f"the trunk gave features of {written:,} images, expected {self.images:,}")

    def _require_space(self, width: int) -> None:
        needed, free = 4 * self.images * width, shutil.disk_usage(self.path.parent).free
        if needed <= _FILL * free:
            return
        of_a_view = 4 * width * len(self.train_rows)
        fitting = int((_FILL * free - 4 * width * len(self.val_rows)) // of_a_view)
        less = f"Set finetune.views={fitting}, or " if fitting >= 1 else "Set "
        raise ValueError(
            f"finetune.views={self.views}: {width:,} features of {self.images:,} images take {needed / 1e9:,.2f} GB, but only "
            f"{free / 1e9:,.2f} GB are free in {self.path.parent}. {less}finetune.views=0 to compute them anew in every epoch, "
            "or FIRSTREAD_HOME to a folder on a larger disk."
        )


def feature_store(
    folder: Path,
    facts: dict[str, Any],
    pixels: NDArray[np.uint8],
    train_rows: NDArray[np.int64],
    val_rows: NDArray[np.int64],
    views: int,
) -> FeatureStore:
    """The store of these features, which may not be complete yet.

    Args:
        folder: where the features of this data set are kept.
        facts: plain values: trunk, augmentation, seed and whatever else decides the features beside the arguments below.
        pixels: decoded images of the whole manifest.
        train_rows, val_rows: manifest rows, ascending.
        views: of every training image, at least 1.

    Raises:
        ValueError: if there is less than one view.
    """
    if views < 1:
        raise ValueError(f"finetune.views={views}: stored features need at least 1 view; 0 means that none are stored")
    digest = hashlib.sha256(json.dumps([_VERSION, facts, views, identity_of(pixels)], sort_keys=True).encode())
    for rows in (train_rows, val_rows):
        digest.update(f"{len(rows)} rows".encode())
        digest.update(np.ascontiguousarray(rows, dtype="<i8").tobytes())
    key = digest.hexdigest()
    return FeatureStore(folder / f"features-{key[:16]}.npy", key, views, train_rows, val_rows)

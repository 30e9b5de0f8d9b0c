"""One pass over all files of a data set: content hash, size, patient, readability. Remembered, so that it is paid once."""

from __future__ import annotations

import filecmp
import hashlib
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from datamodules.errors import UnreadableImageError
from datamodules.images import DECODER_VERSION, READ_ERROR, inspect_image
from datamodules.machine import usable_cores

# Where pyarrow is installed, pandas would keep texts in it, and that refuses file names that are not UTF-8.
pd.set_option("mode.string_storage", "python")

COLUMNS = ["image_id", "size", "mtime_ns", "sha256", "width", "height", "mode", "patient", "error"]

_FOUND = [
    "sha256",
    "width",
    "height",
    "mode",
    "patient",
    "error",
]  # by reading the file, in contrast to its name and dates
_NUMBERS = ["size", "mtime_ns", "width", "height"]
_TYPES = {name: "int64" if name in _NUMBERS else "str" for name in COLUMNS}
_BLOCK = 2048  # files in the hands of the threads at a time; a million waiting tasks would take a gigabyte
_SALT_BYTES = 32


def index_files(
    root: Path,
    image_ids: list[str],
    memory: Path,
    on_file: Callable[[int], None] | None = None,
    *,
    salt: bytes | None = None,
) -> pd.DataFrame:
    """Facts on every file, reusing those of files whose size and time of change are the same as last time.

    Nothing is reused from another version of the decoder, or from another salt. When reading is interrupted, what has been
    read is remembered.

    Args:
        root: folder that the ids are relative to.
        image_ids: posix paths relative to ``root``.
        memory: CSV file in which the facts are kept; created or replaced.
        on_file: called with 1 for every file that had to be read.
        salt: mixed into the hash that stands for a DICOM patient. Without it, a random one is made once and kept in the
            file ``patient_salt`` beside ``memory``, readable by its owner only; whoever has it can test guesses of patient ids.

    Returns:
        One row an id, in the given order, with the columns ``COLUMNS``; ``error`` is empty for readable images, and
        the other facts are empty or 0 for unreadable ones. ``patient`` is empty for all files that name none.
    """
    salt = _kept_salt(memory.with_name("patient_salt")) if salt is None else salt
    reader = f"{DECODER_VERSION}-{hashlib.sha256(b'patient salt' + salt).hexdigest()[:8]}"
    wanted = pd.DataFrame({"image_id": image_ids} | _stats(root, image_ids))
    wanted = wanted.astype({name: _TYPES[name] for name in wanted.columns})
    merged = wanted.merge(_remembered(memory, reader), on=["image_id", "size", "mtime_ns"], how="left")
    missing = merged.index[merged["sha256"].isna()]
    if len(missing):
        results: list[tuple[str, int, int, str, str, str]] = []
        try:
            _inspect(root, merged.loc[missing, "image_id"].tolist(), salt, results, on_file)
        finally:
            merged = _filled(merged, missing, results)
            # A disk or network that did not answer may do so next time; only what the file itself says is remembered.
            lasting = merged["sha256"].notna() & ~merged["error"].str.contains(READ_ERROR, regex=False, na=False)
            save_csv(merged.loc[lasting, COLUMNS].drop_duplicates("image_id").assign(reader=reader), memory)
    return merged[COLUMNS].astype(_TYPES)


def save_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a CSV beside its place and rename it, so that no reader ever meets half a file; leave an equal one alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    frame.to_csv(beside, index=False, errors="surrogateescape")  # file names need not be valid Unicode
    if path.is_file() and filecmp.cmp(beside, path, shallow=False):
        beside.unlink()
    else:
        os.replace(beside, path)


def _kept_salt(path: Path) -> bytes:
    if path.is_file() and len(salt := path.read_bytes()) == _SALT_BYTES:
        return salt
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    salt = secrets.token_bytes(_SALT_BYTES)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(salt)
    os.replace(beside, path)
    return salt


def _stats(root: Path, image_ids: list[str]) -> dict[str, list[int]]:
    """Size and time of change; -1 where the system does not tell, which no remembered file has."""
    folder = str(root)

    def of_block(start: int) -> list[tuple[int, int]]:
        found = []
        for image_id in image_ids[start : start + _BLOCK]:
            try:
                stat = os.stat(os.path.join(folder, image_id))
                found.append((stat.st_size, stat.st_mtime_ns))
            except OSError:
                found.append((-1, -1))
        return found

    with ThreadPoolExecutor(max_workers=16) as pool:  # on a network drive each answer is waited for
        pairs = [pair for block in pool.map(of_block, range(0, len(image_ids), _BLOCK)) for pair in block]
    return {"size": [size for size, _ in pairs], "mtime_ns": [mtime for _, mtime in pairs]}


def _remembered(memory: Path, reader: str) -> pd.DataFrame:
    """Rows that the same reader has written; none from a file that is absent, damaged or of an older layout."""
    nothing = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _TYPES.items()})
    if not memory.is_file():
        return nothing
    try:
        known = pd.read_csv(
            memory, dtype={**_TYPES, "reader": "str"}, keep_default_na=False, encoding_errors="surrogateescape"
        )
        return known.loc[known["reader"] == reader, COLUMNS].drop_duplicates("image_id")
    except (ValueError, KeyError):
        return nothing


def _inspect(
    root: Path,
    image_ids: list[str],
    salt: bytes,
    results: list[tuple[str, int, int, str, str, str]],
    on_file: Callable[[int], None] | None,
) -> None:
    """Append one result an id, in order; after an interruption ``results`` holds those that were complete."""

    def facts(image_id: str) -> tuple[str, int, int, str, str, str]:
        try:
            found = inspect_image(root / image_id, salt)
        except UnreadableImageError as error:
            return "", 0, 0, "", "", str(error)
        return found.sha256, found.width, found.height, found.mode, found.patient, ""

    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        for start in range(0, len(image_ids), _BLOCK):
            for result in pool.map(facts, image_ids[start : start + _BLOCK]):
                results.append(result)
                if on_file is not None:
                    on_file(1)


def _filled(
    merged: pd.DataFrame, missing: pd.Index[int], results: list[tuple[str, int, int, str, str, str]]
) -> pd.DataFrame:
    fresh = pd.DataFrame(results, columns=_FOUND, index=missing[: len(results)])
    known = merged.astype(dict.fromkeys(_FOUND, object))
    known.loc[fresh.index, _FOUND] = fresh.astype(object)
    return known

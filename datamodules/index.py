"""One pass over all files of a data set: content hash, size, readability. Remembered, so that it is paid once."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from datamodules.errors import UnreadableImageError
from datamodules.images import READ_ERROR, inspect_image

COLUMNS = ["image_id", "size", "mtime_ns", "sha256", "width", "height", "mode", "error"]


def index_files(
    root: Path, image_ids: list[str], memory: Path, on_file: Callable[[int], None] | None = None
) -> pd.DataFrame:
    """Facts on every file, reusing those of files whose size and time of change are the same as last time.

    Args:
        root: folder that the ids are relative to.
        image_ids: posix paths relative to ``root``.
        memory: CSV file in which the facts are kept; created or replaced.
        on_file: called with 1 for every file that had to be read.

    Returns:
        One row an id, in the given order, with the columns ``COLUMNS``; ``error`` is empty for readable images, and
        the other facts are empty or 0 for unreadable ones.
    """
    stats = [(root / image_id).stat() for image_id in image_ids]
    wanted = pd.DataFrame(
        {
            "image_id": image_ids,
            "size": [stat.st_size for stat in stats],
            "mtime_ns": [stat.st_mtime_ns for stat in stats],
        }
    )
    known = _remembered(memory)
    merged = wanted.merge(known, on=["image_id", "size", "mtime_ns"], how="left")
    missing = merged.index[merged["sha256"].isna()].tolist()
    if missing:
        _inspect(root, merged, missing, on_file)
        # A disk or network that did not answer may do so next time; only what the file itself says is remembered.
        passing = merged["error"].str.contains(READ_ERROR, regex=False)
        save_csv(merged[COLUMNS][~passing], memory)
    numbers = ["size", "mtime_ns", "width", "height"]
    text = ["image_id", "sha256", "mode", "error"]
    return merged[COLUMNS].astype({**dict.fromkeys(numbers, "int64"), **dict.fromkeys(text, "str")})


def save_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a CSV beside its place and rename it, so that no reader ever meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    frame.to_csv(beside, index=False)
    os.replace(beside, path)


def _remembered(memory: Path) -> pd.DataFrame:
    if not memory.is_file():
        return pd.DataFrame(
            {name: pd.Series(dtype="int64" if name in ("size", "mtime_ns") else "object") for name in COLUMNS}
        )
    text = {"image_id": str, "sha256": str, "mode": str, "error": str}
    return pd.read_csv(memory, dtype=text, keep_default_na=False)


def _inspect(root: Path, merged: pd.DataFrame, rows: list[int], on_file: Callable[[int], None] | None) -> None:
    def facts(image_id: str) -> tuple[str, int, int, str, str]:
        try:
            found = inspect_image(root / image_id)
        except UnreadableImageError as error:
            return "", 0, 0, "", str(error)
        return found.sha256, found.width, found.height, found.mode, ""

    ids = merged.loc[rows, "image_id"].tolist()
    results = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for result in pool.map(facts, ids):
            results.append(result)
            if on_file is not None:
                on_file(1)
    columns = ["sha256", "width", "height", "mode", "error"]
    fresh = pd.DataFrame(results, columns=columns, index=rows)
    for name in columns:
        merged[name] = merged[name].astype(object)
        merged.loc[rows, name] = fresh[name]
    merged[["width", "height"]] = merged[["width", "height"]].astype("int64")

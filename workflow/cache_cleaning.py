"""What decoded images and stored features take, whether they are sound, and their removal: by command only, oldest use first."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from datamodules.cache_use import in_use, last_used, lock_file, use_file

DECODED, FEATURES, UNFINISHED = "decoded images", "features", "unfinished"


@dataclass(frozen=True)
class Kept:
    """One thing that was kept and can be made again.

    Attributes:
        path: its main file. ``whole``: the complete file that it is, or would have become.
        files: all files that go with it, that one included.
        kind: ``decoded images``, ``features`` or ``unfinished`` (a build that was killed; the next run would take it over).
        size: bytes on disk.
        used: when it was last used, in seconds since 1970.
        busy: whether a running process uses or makes it.
    """

    path: Path
    whole: Path
    files: tuple[Path, ...]
    kind: str
    size: int
    used: float
    busy: bool


def kept_in(prepared: Path) -> list[Kept]:
    """Everything that is kept below the folder of prepared data sets, longest not used first.

    Args:
        prepared: ``data.prepared``; where it does not exist, there is nothing.
    """
    found = []
    for folder in sorted([*prepared.glob("*/cache"), *prepared.glob("*/tasks/*/features")]):
        kind = DECODED if folder.name == "cache" else FEATURES
        files = sorted(file for file in folder.iterdir() if file.is_file())
        found += [_finished(path, kind) for path in files if path.suffix == ".npy" and not path.name.startswith(".")]
        found += [_unfinished(path) for path in files if path.name.startswith(".") and path.suffix in (".part", ".npy")]
    return sorted(found, key=lambda item: item.used)


def _finished(path: Path, kind: str) -> Kept:
    files = tuple(file for file in (path, path.with_suffix(".json"), use_file(path)) if file.is_file())
    return Kept(path, path, files, kind, _size(files), last_used(path), in_use(path) or _being_made(path))


def _unfinished(path: Path) -> Kept:
    # .STEM.part with .STEM.journal, or .STEM.PID.npy: the array that it would have become is STEM.npy.
    named = path.stem[1:] if path.suffix == ".part" else path.stem[1:].rpartition(".")[0]
    whole = path.with_name(f"{named}.npy")
    files = tuple(file for file in (path, path.with_suffix(".journal")) if file.is_file())
    return Kept(path, whole, files, UNFINISHED, _size(files), path.stat().st_mtime, _being_made(whole))


def _size(files: tuple[Path, ...]) -> int:
    # Space that is really taken: an unfinished array has its full length from the start on some file systems.
    return sum(
        min(about.st_size, 512 * getattr(about, "st_blocks", 1 << 60)) for about in (file.stat() for file in files)
    )


def _being_made(path: Path) -> bool:
    if not lock_file(path).is_file():
        return False
    try:
        with FileLock(lock_file(path), timeout=0):
            return False
    except Timeout:
        return True


def to_remove(kept: list[Kept], *, keep: int | None, older: float | None, now: float) -> list[Kept]:
    """What has to go, longest not used first; what is in use stays, and counts.

    Args:
        kept: as :func:`kept_in` gives it.
        keep: bytes that may be left at most; None: any number.
        older: seconds; what was last used longer ago goes. None: nothing for its age.
        now: seconds since 1970.
    """
    total, chosen = sum(item.size for item in kept), []
    for item in sorted(kept, key=lambda item: item.used):
        too_old = older is not None and now - item.used > older
        too_much = keep is not None and total > keep
        if not item.busy and (too_old or too_much):
            chosen.append(item)
            total -= item.size
    return chosen


def remove(items: list[Kept]) -> Iterator[tuple[Kept, bool]]:
    """Remove them one by one.

    Yields:
        Each, and whether it was removed: what a process has begun to use in the meantime stays.
    """
    for item in items:
        try:
            with FileLock(lock_file(item.whole), timeout=0):  # nobody can open it meanwhile
                if item.kind != UNFINISHED and in_use(item.path):
                    yield item, False
                    continue
                # The record first: an array without one is no cache.
                for file in sorted(item.files, key=lambda file: file.suffix != ".json"):
                    file.unlink(missing_ok=True)
                yield item, True
        except Timeout:
            yield item, False


def verified(item: Kept) -> str:
    """What is wrong with something that is kept; empty where nothing is.

    Of decoded images all checksums are compared. Damaged ones are marked, so that the next run that opens them decodes the
    damaged blocks again. Stored features have no checksums: their size is compared.
    """
    if item.kind == UNFINISHED:
        return ""
    record = item.path.with_suffix(".json")
    try:
        facts = json.loads(record.read_text(encoding="utf-8"))
        size = item.path.stat().st_size
        if facts["bytes"] != size:
            return f"{size:,} bytes in place of {facts['bytes']:,}; the next run that needs it makes it good"
        if "crc32" not in facts:
            return ""
        damaged = _damaged(item.path, facts)
    except (OSError, ValueError, KeyError, TypeError):
        return "without a usable record; the next run that needs it makes it again"
    if not damaged:
        return ""
    beside = record.with_name(f".{record.name}.{os.getpid()}")
    beside.write_text(json.dumps({**facts, "checked": None}) + "\n", encoding="utf-8")
    os.replace(beside, record)  # now nobody takes the file for the one that was checked
    return f"{damaged:,} of {len(facts['crc32']):,} blocks are damaged; the next run that needs it decodes those again"


def _damaged(path: Path, facts: dict[str, Any]) -> int:
    count, *sides = (int(value) for value in facts["shape"])
    image = sides[0] * sides[1] * sides[2]
    header = int(facts["bytes"]) - count * image
    block, wrong = int(facts["block"]), 0
    with path.open("rb") as file:
        file.seek(header)
        for number, crc in enumerate(facts["crc32"]):
            images = min(block, count - number * block)
            wrong += zlib.crc32(file.read(images * image)) != crc
    return wrong

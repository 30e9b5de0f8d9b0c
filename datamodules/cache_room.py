"""Where decoded images fit: on the disk, in memory, or nowhere."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from datamodules.errors import DataError
from datamodules.pixel_source import ImageFiles

KINDS = ("disk", "ram", "off")
_OF_DISK = 0.9  # of what is free
_OF_MEMORY = 0.9  # of what is available, where memory was asked for
_OF_MEMORY_UNASKED = 0.5  # of what is available, where it was not
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """Memory that this process may use, in bytes: what the machine has, or less where a container or job is limited.

    Attributes:
        total: used and unused.
        available: without swapping, when files that are only cached are given up.
    """

    total: int
    available: int


@dataclass(frozen=True)
class Choice:
    """Where decoded images are kept.

    Attributes:
        kind: ``disk``, ``ram`` or ``off``.
        line: one line for the user: size, place and reason.
    """

    kind: str
    line: str


def size_text(size: int) -> str:
    """Bytes in words: ``96 MB``, ``1.5 GB``."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if size >= 10 * unit:
            return f"{size / unit:,.0f} {name}"
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size / 1000:,.0f} kB"


def choose(wanted: str, files: ImageFiles, folder: Path, *, complete: bool, reserved: int = 0) -> Choice:
    """Where the decoded images of these files are to be kept.

    Args:
        wanted: ``data.cache``: ``auto``, ``disk``, ``ram`` or ``off``.
        files: the images.
        folder: where arrays on disk are kept; it exists.
        complete: whether the array is on disk already.
        reserved: bytes that an unfinished array has on disk already.

    Raises:
        DataError: if they do not fit where they were asked to be; says what does.
    """
    free, memory = shutil.disk_usage(folder).free, memory_of_process().available
    on_disk = complete or files.nbytes - reserved <= _OF_DISK * free
    room = f"{size_text(free)} free in {folder}"
    needed = size_text(files.nbytes)
    if wanted == "off":
        return Choice("off", _line(files, "off", f"as asked for; {needed} that are decoded anew each time"))
    if wanted == "ram":
        if files.nbytes > _OF_MEMORY * memory:
            raise DataError(
                f"data.cache=ram: {_what(files)} take {size_text(files.nbytes)}, but only {size_text(memory)} of memory are "
                "available. Use data.cache=auto or disk, or a smaller model.image_size."
            )
        return Choice("ram", _line(files, "in memory", "read from the disk" if complete else "as asked for"))
    if on_disk:
        return Choice("disk", _line(files, "on disk", "there already" if complete else room))
    if wanted == "disk":
        raise DataError(no_room(files, folder, free))
    if files.nbytes <= _OF_MEMORY_UNASKED * memory:
        return Choice("ram", _line(files, "in memory", f"because the disk has only {room}"))
    why = f"{needed} fit neither in {room} nor in half of the {size_text(memory)} of available memory"
    return Choice("off", _line(files, "off", f"{why}; decoded anew each time"))


def no_room(files: ImageFiles, folder: Path, free: int) -> str:
    """The message that decoded images do not fit on the disk."""
    return (
        f"data.cache=disk: {_what(files)} take {size_text(files.nbytes)}, but only {size_text(free)} are free in {folder}. "
        "Make room (python prepare.py cache=list), set FIRSTREAD_HOME to a folder on a larger disk, or use data.cache=ram or off."
    )


def _what(files: ImageFiles) -> str:
    return f"{len(files):,} images of {files.size} x {files.size} {'grey' if files.channels == 1 else 'RGB'}"


def _line(files: ImageFiles, place: str, reason: str) -> str:
    size = "" if place == "off" else f"{size_text(files.nbytes)} "
    return f"decoded cache: {size}{place} for {_what(files)} ({reason})"


def memory_of_process() -> Memory:
    """What the machine has, or what the control groups of this process leave it where that is less."""
    total, available = _of_machine()
    for limit, used in _of_groups():
        total, available = min(total, limit), min(available, max(limit - used, 0))
    return Memory(total, available)


def _of_machine() -> tuple[int, int]:
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        return int(lines["MemTotal"].split()[0]) * 1024, int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):  # not Linux: what is available is not told without another library
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 8 * 10**9
        return total, total // 2


def _of_groups() -> list[tuple[int, int]]:
    """Limit and use of every limited control group that this process is in, version 1 and 2."""
    found = []
    for _, controllers, name in _own_groups():
        if controllers == "":
            names, base = ("memory.max", "memory.current", "inactive_file"), _CGROUPS
        elif "memory" in controllers.split(","):
            names, base = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), _CGROUPS / "memory"
        else:
            continue
        inside = [part for part in name.split("/") if part not in ("", "..")]
        # A limit may be on any group above; in a container the own group is often the root.
        for depth in range(len(inside) + 1):
            found += _of_group(base.joinpath(*inside[:depth]), names)
    return found


def _own_groups() -> list[list[str]]:
    """Number, controllers and name of each group that this process is in."""
    try:
        return [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return []


def _of_group(folder: Path, names: tuple[str, str, str]) -> list[tuple[int, int]]:
    try:
        limit, used = (int((folder / name).read_text(encoding="ascii")) for name in names[:2])
        about = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):  # "max", or no such group
        return []
    return [(limit, max(used - int(about.get(names[2], 0)), 0))]  # files that are only cached make way

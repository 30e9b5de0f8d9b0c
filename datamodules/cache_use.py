"""Which kept files are in use, when they were last used, and whose turn it is to write them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("firstread")

_held: dict[Path, int] = {}  # descriptors that stay open until the process ends


def use_file(path: Path) -> Path:
    """The empty file beside a kept file whose date says when that was last used, and whose lock says that it is in use."""
    return path.with_name(f"{path.stem}.used.lock")


def lock_file(path: Path) -> Path:
    """The file beside a kept file that is locked while that is made, repaired or removed."""
    return path.with_suffix(".lock")


def hold(path: Path) -> None:
    """Note that a kept file is used now, and keep it from being cleaned up until this process and its children have ended."""
    beside = use_file(path)
    with suppress(OSError):  # a folder that is only read, or a file system without locks: nothing to be noted
        if path not in _held:
            descriptor = os.open(beside, os.O_RDWR | os.O_CREAT, 0o666)
            _held[path] = descriptor
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.utime(beside)


def in_use(path: Path) -> bool:
    """Whether a running process, this one included, holds a kept file."""
    if fcntl is None:
        return path in _held
    try:
        descriptor = os.open(use_file(path), os.O_RDWR)
    except OSError:  # never used
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def last_used(path: Path) -> float:
    """When a kept file was last opened by us, in seconds since 1970; where that was never noted, when it was written."""
    for candidate in (use_file(path), path):
        with suppress(OSError):
            return candidate.stat().st_mtime
    return 0.0


@contextmanager
def alone(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file; where another process has it, say so and wait.

    Args:
        path: the lock file.
        busy: what the other process is doing, for the message: ``another process {busy}; waiting for it``.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process %s; waiting for it", busy)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()

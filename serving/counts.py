"""What the server says about its work: numbers, once a minute at most. No name, no address, no content."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

_ORDER: Final = ("requests", "images", "unreadable", "abstained", "heat maps", "refused", "failed")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Counts:
    """Counts of one server; used by its event loop only.

    Args:
        every: seconds between two lines. ``write``: takes a line.
    """

    def __init__(self, every: float = 60.0, write: Callable[[str], None] = _to_stderr) -> None:
        self.total: Counter[str] = Counter()
        self._since: Counter[str] = Counter()
        self._every, self._write = every, write
        self._next = time.monotonic() + every

    def add(self, name: str, count: int = 1) -> None:
        """Count."""
        if name not in _ORDER:
            raise KeyError(name)
        self.total[name] += count
        self._since[name] += count

    def tick(self, *, last: bool = False) -> None:
        """Write a line if a minute has passed and something was counted; the last one of a server at once."""
        if not last and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every
        if self._since:
            self._write(f"{time.strftime('%H:%M')} {_listed(self._since)}")
            self._since = Counter()

    def failure(self, error: BaseException) -> None:
        """Count a mistake of ours and say where it is; its message is left out because it may name a file."""
        self.add("failed")
        self._write(f"{time.strftime('%H:%M')} failed: {type(error).__name__} in {_place(error.__traceback__)}")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {counts[name]:,}" for name in _ORDER if counts[name])


def _place(trace: TracebackType | None) -> str:
    """File and line where an exception came from."""
    place = "an unknown place"
    while trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place

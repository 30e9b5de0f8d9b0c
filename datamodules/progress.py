"""Progress of work that is done once: reading, drawing and decoding images. A bar in a terminal, a line a minute elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tqdm import tqdm

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a progress bar of a title and a total; the function it yields adds to it."""

log = logging.getLogger("firstread")

_EVERY = 60.0  # seconds between two lines where there is no terminal


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """From the first step on: in a terminal a bar with rate and time left, else a line a minute; nothing if nothing is to do."""
    bar: Any = None
    unit = "MB" if title.endswith("(MB)") else "images"
    started = said = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal bar, said, done
        if bar is None:
            bar = tqdm(total=total, desc=title, unit=f" {unit}", leave=False, disable=None, dynamic_ncols=True)
        bar.update(count)
        done += count
        now = time.monotonic()
        if bar.disable and now - said >= _EVERY:
            said = now
            log.info(progress_line(title, done, total, now - started, unit))

    try:
        yield advance
    finally:
        if bar is not None:
            bar.close()


def progress_line(title: str, done: int, total: int, seconds: float, unit: str = "images") -> str:
    """How far work is: ``decoding to 128 x 128: 12,000 of 100,000 images, 850 images/s, 1 min 43 s left``.

    Args:
        done: how many of ``total`` are done, above 0, in ``seconds``, above 0.
    """
    rate = done / seconds
    left = round((total - done) / rate)
    hours, minutes = left // 3600, left // 60 % 60
    time_left = f"{hours} h {minutes} min" if hours else f"{minutes} min {left % 60} s" if minutes else f"{left} s"
    return f"{title}: {done:,} of {total:,} {unit}, {rate:,.{0 if rate >= 10 else 1}f} {unit}/s, {time_left} left"


@contextmanager
def silent(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar that shows nothing."""
    yield lambda count: None

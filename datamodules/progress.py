"""Progress bars of work that is done once: reading, drawing and decoding images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tqdm import tqdm

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a progress bar of a title and a total; the function it yields adds to it."""


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar in a terminal, from the first step on; nothing where the output is a file or there is nothing to do."""
    bar: Any = None
    unit = " MB" if title.endswith("(MB)") else " images"

    def advance(count: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, desc=title, unit=unit, leave=False, disable=None, dynamic_ncols=True)
        bar.update(count)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.close()


@contextmanager
def silent(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar that shows nothing."""
    yield lambda count: None

"""Batches made one step ahead in a thread of this process, while the model works on the one before."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from torch.utils.data import DataLoader

Batch = TypeVar("Batch")


_NICE = 10  # by how much the thread that makes the next batch gives way


def _step_back() -> None:
    """Let the model's threads go first: a step is as slow as the slowest of them, and a batch has a whole step to be made in."""
    if sys.platform == "linux":  # where a priority is that of one thread
        os.nice(_NICE)


class AheadLoader(DataLoader[Batch]):
    """A DataLoader without worker processes that makes the next batch while the caller is busy with this one.

    A thread suffices: reading the memory map, OpenCV, numpy's large operations and torch's release Python's lock. Batches, their
    order and their random numbers are those of the plain loader, since one thread alone asks its iterator.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch names its private class
        """Starts on the first batch at once, with the epoch that the sampler has now."""
        return _Ahead(super().__iter__(), len(self))


class _Ahead(Iterator[Batch], Generic[Batch]):
    """The batches of an iterator, each made while the one before is in use.

    An exception raised by the iterator arrives with its own traceback when its batch is asked for. The thread ends with the last
    batch, with such an exception, or when this object is dropped, whichever comes first.

    Args:
        source: gives the batches; used by the thread alone.
        count: how many it gives.
    """

    def __init__(self, source: Iterator[Batch], count: int) -> None:
        self._source, self._left = source, count
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="next-batch", initializer=_step_back)
        self._made: deque[Future[Batch]] = deque()
        self._start()

    def __next__(self) -> Batch:
        if not self._made:
            raise StopIteration
        try:
            batch = self._made.popleft().result()
        except BaseException:  # also a KeyboardInterrupt while waiting
            self.close()
            raise
        self._start()
        return batch

    def _start(self) -> None:
        """Begin the next batch, or let the thread end after the last one."""
        if self._left:
            self._left -= 1
            # The source's own method: a reference to this object would keep it, and the thread, alive.
            self._made.append(self._pool.submit(self._source.__next__))
        else:
            self._pool.shutdown(wait=False)

    def close(self) -> None:
        """End the thread; a batch that is being made is finished first, and dropped."""
        self._left = 0
        self._made.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __del__(self) -> None:
        # Not waited for: it may be the thread itself that collects this object.
        self._pool.shutdown(wait=False, cancel_futures=True)

"""One thread that computes: images of many requests are scored together, heat maps come in between."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from serving.problems import Problem, ending

Image = TypeVar("Image")
Answer = TypeVar("Answer")
Drawn = TypeVar("Drawn")
Item = TypeVar("Item")

BATCH: Final = 64
"""Images that are scored together at most; as many as in an evaluation."""
_MAPS: Final = 8
"""Heat maps that are drawn before scores have their turn again."""


@dataclass
class _Asked(Generic[Image, Answer]):
    images: Sequence[Image]
    names: Sequence[str]
    result: Future[list[Answer]] = field(default_factory=Future)


@dataclass
class _Wanted(Generic[Image, Drawn]):
    images: Sequence[Image]
    result: Future[list[Drawn]] = field(default_factory=Future)
    done: list[Drawn] = field(default_factory=list)


class Line(Generic[Image, Answer, Drawn]):
    """The line before the network. Any thread may ask; one thread answers.

    Args:
        score: answers of images with their names, in order. ``draw``: heat maps of images, in order.
        pause: seconds that a first image waits for company.
        most: images that wait or are being computed; beyond it, requests are refused.
    """

    def __init__(
        self,
        score: Callable[[Sequence[Image], Sequence[str]], list[Answer]],
        draw: Callable[[Sequence[Image]], list[Drawn]],
        *,
        pause: float = 0.003,
        most: int = 1024,
    ) -> None:
        self._score, self._draw, self._pause, self._most = score, draw, pause, most
        self._asked: deque[_Asked[Image, Answer]] = deque()
        self._wanted: deque[_Wanted[Image, Drawn]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self.reserved = 0
        self._thread = threading.Thread(target=self._work, name="scoring", daemon=True)
        self._thread.start()

    def reserve(self, count: int) -> None:
        """Take places for images of a request, before the work of decoding them is done.

        Raises:
            Problem: 503; the line is full.
        """
        with self._changed:
            if self.reserved + count > self._most and self.reserved > 0:
                raise Problem(
                    503,
                    f"{self.reserved:,} images are waiting, and the line holds {self._most:,}. Try again in a few seconds.",
                    limit=self._most,
                    value=self.reserved + count,
                    retry_after=3,
                )
            self.reserved += count

    def release(self, count: int) -> None:
        """Give the places back when the request is over, answered or not."""
        with self._changed:
            self.reserved -= count

    def answers(self, images: Sequence[Image], names: Sequence[str]) -> Future[list[Answer]]:
        """Ask for the answers of images; cancelling the future takes them out of the line."""
        asked: _Asked[Image, Answer] = _Asked(images, names)
        self._put(self._asked, asked)
        return asked.result

    def maps(self, images: Sequence[Image]) -> Future[list[Drawn]]:
        """Ask for the heat maps of images."""
        wanted: _Wanted[Image, Drawn] = _Wanted(images)
        self._put(self._wanted, wanted)
        return wanted.result

    def close(self, timeout: float = 10.0) -> None:
        """Finish what waits, then end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _put(self, queue: deque[Item], item: Item) -> None:
        with self._changed:
            if self._closing:
                raise ending()
            queue.append(item)
            self._changed.notify_all()

    def _work(self) -> None:
        while self._wait():
            if batch := self._batch():
                self._answer(batch)
            with self._changed:
                wanted = self._wanted.popleft() if self._wanted else None
            if wanted is not None:
                self._draw_some(wanted)

    def _wait(self) -> bool:
        """Until there is work; False where there never will be any more."""
        with self._changed:
            while not (self._asked or self._wanted or self._closing):
                self._changed.wait()
            return bool(self._asked or self._wanted)

    def _batch(self) -> list[_Asked[Image, Answer]]:
        """Whole requests, as many as fit; the first one waits a moment for others."""
        until = time.monotonic() + self._pause
        found: list[_Asked[Image, Answer]] = []
        count = 0
        with self._changed:
            while count < BATCH:
                if not self._asked:
                    left = until - time.monotonic()
                    if not found or self._closing or left <= 0:
                        break
                    self._changed.wait(left)
                    continue
                if found and count + len(self._asked[0].images) > BATCH:
                    break
                asked = self._asked.popleft()
                if asked.result.set_running_or_notify_cancel():
                    found.append(asked)
                    count += len(asked.images)
        return found

    def _answer(self, batch: list[_Asked[Image, Answer]]) -> None:
        images = [image for asked in batch for image in asked.images]
        names = [name for asked in batch for name in asked.names]
        try:
            answers = self._score(images, names)
        except BaseException as error:
            for asked in batch:
                asked.result.set_exception(error)
            return
        start = 0
        for asked in batch:
            asked.result.set_result(answers[start : start + len(asked.images)])
            start += len(asked.images)

    def _draw_some(self, wanted: _Wanted[Image, Drawn]) -> None:
        """The next few maps of a request; the rest goes back to the end of the line."""
        if wanted.result.cancelled():
            return
        at = len(wanted.done)
        try:
            wanted.done += self._draw(wanted.images[at : at + _MAPS])
        except BaseException as error:
            _settle(wanted.result, error)
            return
        if len(wanted.done) < len(wanted.images):
            with self._changed:
                self._wanted.append(wanted)
        elif wanted.result.set_running_or_notify_cancel():
            wanted.result.set_result(wanted.done)


def _settle(result: Future[list[Drawn]], error: BaseException) -> None:
    if result.set_running_or_notify_cancel():
        result.set_exception(error)

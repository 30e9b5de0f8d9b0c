"""One request from its uploads to its answers: decoded in a few threads, scored in one, with limits on all that waits."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from datamodules.appearance import Looked
from explain.layers import NoMapsError
from serving.counts import Counts
from serving.line import Line
from serving.problems import ClientGone, Problem
from serving.reading import Reading, read_upload
from serving.uploads import Hold, Limits, Memory, Patience, Upload, received
from workflow.answers import ABSTAIN, Answer, Unread, answers_of
from workflow.heat_maps import explainer_of, maps_of
from workflow.predictor import Predictor

_LONGEST: Final = 180.0  # seconds for one request, from the last byte of its upload on

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """What goes back for one file. ``heat_map`` is a PNG of the map alone in colours, as wide and high as the network's input."""

    answer: Answer
    reading: Reading
    heat_map: bytes | None = None
    no_map: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; pictures as data URIs."""
        image = self.reading.image
        seen = image.appearance if isinstance(image, Looked) else None
        return {
            **self.answer.to_dict(),
            "width": int(seen.width) if seen else None,
            "height": int(seen.height) if seen else None,
            "preview": _data_uri("image/jpeg", self.reading.preview),
            "heat_map": _data_uri("image/png", self.heat_map),
            "heat_map_reason": self.no_map,
        }


class Service:
    """Answers requests with one predictor.

    Args:
        predictor: as loaded.
        limits: of one request.
        heat_maps: given of ``method``, ``layer``, ``target`` of :func:`workflow.heat_maps.maps_of`.
        abstain: whether the input check may turn images away.
        workers: threads that decode.

    Raises:
        ValueError: the network needs more than an image, or the heat maps' settings do not fit it.
    """

    def __init__(
        self,
        predictor: Predictor,
        limits: Limits,
        *,
        heat_maps: dict[str, Any] | None = None,
        abstain: bool = True,
        workers: int = 2,
        counts: Counts | None = None,
    ) -> None:
        if predictor.metadata_columns:
            raise ValueError(
                f"this network sees {', '.join(predictor.metadata_columns)} beside the image, which the page cannot ask for. Use "
                "predict.py with a table, or a run without model.metadata."
            )
        self.predictor, self.limits, self.abstain = predictor, limits, abstain
        self.counts = counts or Counts()
        self.heat_maps = dict(heat_maps or {})
        self.memory = Memory(max(4 * limits.max_bytes, 256_000_000))
        self.patience = Patience()
        self.line: Line[Looked | Unread, Answer, bytes | None] = Line(self._score, self._draw)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decoding")
        self.no_maps = self._warm_up()

    def close(self) -> None:
        """Finish what was begun and end all threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.line.close()

    async def results(self, request: Request, *, preview: bool, heat_map: bool) -> list[Result]:
        """The answers to the files of a request, in their order.

        Raises:
            Problem: refused, or too busy. ClientGone: nobody waits any more.
        """
        headers = {name.lower(): value for name, value in request.headers.items()}
        hold = Hold(self.memory)
        try:
            uploads = await received(request.receive, headers, self.limits, hold, self.patience)
            number = len(uploads)
            self.line.reserve(number)
            try:
                work = self._results(uploads, hold, preview=preview or heat_map, heat_map=heat_map)
                return await unless_gone(request, work)
            finally:
                self.line.release(number)
        finally:
            hold.give()

    async def _results(self, uploads: list[Upload], hold: Hold, *, preview: bool, heat_map: bool) -> list[Result]:
        try:
            async with asyncio.timeout(_LONGEST):
                readings = await self._readings(uploads, preview)
                names = [upload.name for upload in uploads]
                uploads.clear()  # their bytes are not needed any more
                hold.give()
                images = [reading.image for reading in readings]
                answers = await asyncio.wrap_future(self.line.answers(images, names))
                maps = await self._maps(images) if heat_map else [None] * len(images)
        except TimeoutError:
            raise Problem(
                503, f"The files took longer than {_LONGEST:g} seconds. Send fewer at a time.", retry_after=10
            ) from None
        self._count(answers, readings)
        reason = self.no_maps if heat_map else None
        rows = zip(answers, readings, maps, strict=True)
        return [Result(answer, reading, drawn, None if answer.error else reason) for answer, reading, drawn in rows]

    async def _readings(self, uploads: Sequence[Upload], preview: bool) -> list[Reading]:
        loop, decoding = asyncio.get_running_loop(), self.predictor.decoding

        def read(upload: Upload) -> Reading:
            return read_upload(upload, decoding, preview=preview)

        return list(await asyncio.gather(*(loop.run_in_executor(self._pool, read, item) for item in uploads)))

    async def _maps(self, images: Sequence[Looked | Unread]) -> list[bytes | None]:
        """One PNG an image; None for unreadable ones."""
        readable = [image for image in images if isinstance(image, Looked)]
        if self.no_maps is not None or not readable:
            return [None] * len(images)
        found: list[bytes | None] = await asyncio.wrap_future(self.line.maps(readable))
        drawn = iter(found)
        return [next(drawn) if isinstance(image, Looked) else None for image in images]

    def _score(self, images: Sequence[Looked | Unread], names: Sequence[str]) -> list[Answer]:
        return answers_of(self.predictor, images, names, abstain=self.abstain)

    def _draw(self, images: Sequence[Looked | Unread]) -> list[bytes | None]:
        pixels = np.stack([image.pixels for image in images if isinstance(image, Looked)])
        maps = maps_of(self.predictor, pixels, **self.heat_maps)
        return [None] * len(images) if maps is None else [_png(picture) for picture in maps.coloured]

    def _warm_up(self) -> str | None:
        """Compute once, so that the first visitor does not wait for it; tells why there are no heat maps, None where there are.

        Raises:
            NoMapsError: of the layer that was asked for.
        """
        size, channels = self.predictor.decoding["image_size"], self.predictor.decoding["channels"]
        pixels = np.zeros((1, size, size, channels), dtype=np.uint8)
        self.predictor.scored(pixels)
        try:
            for part in self.predictor.networks:
                explainer_of(part, **self.heat_maps).maps(pixels)
        except NoMapsError as error:
            if self.heat_maps.get("layer"):
                raise
            return str(error).partition(". ")[0].rstrip(".") + "."  # what comes after it is advice for a training
        return None

    def _count(self, answers: Sequence[Answer], readings: Sequence[Reading]) -> None:
        self.counts.add("requests")
        self.counts.add("images", len(answers))
        self.counts.add("unreadable", sum(answer.error is not None for answer in answers))
        self.counts.add("abstained", sum(answer.decision == ABSTAIN for answer in answers))
        for reading in readings:
            if reading.failure is not None:
                self.counts.failure(reading.failure)


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of some work, which is cancelled when the client closes the connection.

    Raises:
        ClientGone: it did.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _png(picture: NDArray[np.uint8]) -> bytes:
    done, content = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise RuntimeError("a heat map cannot be written as PNG")
    return content.tobytes()


def _data_uri(kind: str, content: bytes | None) -> str | None:
    return None if content is None else f"data:{kind};base64,{base64.b64encode(content).decode()}"

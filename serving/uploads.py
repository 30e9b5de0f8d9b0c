"""Uploaded files: parsed while they arrive, held in memory only, and refused as soon as a limit is passed.

The form parsers of the usual frameworks put a large upload into a temporary file; here no byte of an image touches the disk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serving.problems import ClientGone, Problem, ending

FIELD: Final = "files"
_LONGEST_NAME: Final = 255  # characters, as file systems have it
_OTHER_PARTS: Final = 8  # fields that are not files; their content is passed over

logging.getLogger("python_multipart").setLevel(logging.CRITICAL + 1)  # its warnings quote what was sent

Receive = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Limits:
    """What one request may bring.

    Attributes:
        max_bytes: of its body, all files together. ``max_files``: their number. ``max_pixels``: of one image, width x height.
        idle: seconds without a byte after which a slow client is given up.
        slowest: bytes per second that an upload must keep on average once ``idle`` seconds have passed.
    """

    max_bytes: int = 100_000_000
    max_files: int = 64
    max_pixels: int = 50_000_000
    idle: float = 15.0
    slowest: float = 8_000.0


@dataclass(frozen=True)
class Upload:
    """One file as it came: its name (of no folder) and its bytes."""

    name: str
    content: bytes


class Memory:
    """Bytes of all uploads that are held at this moment, and how many there may be. For one event loop, without locks.

    Args:
        most: bytes in all.
    """

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0


class Hold:
    """The part of the memory that one request holds."""

    def __init__(self, memory: Memory) -> None:
        self._memory, self.held = memory, 0

    def take(self, count: int) -> None:
        """Hold more bytes.

        Raises:
            Problem: 503; all requests together hold too many already.
        """
        most = self._memory.most
        if self._memory.held + count > most:
            raise Problem(
                503,
                f"The uploads that are being read fill the {most:,} bytes set aside for them. Try again in a few seconds.",
                limit=most,
                retry_after=2,
            )
        self._memory.held += count
        self.held += count

    def give(self) -> None:
        """Hold nothing any more; may be called again."""
        self._memory.held -= self.held
        self.held = 0


class Patience:
    """How long a body is waited for; all waits end together when the server shuts down."""

    def __init__(self) -> None:
        self.closing = False
        self._waits: set[asyncio.Timeout] = set()

    def close(self) -> None:
        """Give up all uploads that are not complete."""
        self.closing = True
        for wait in self._waits:
            wait.reschedule(0)  # a moment long past

    async def message(self, receive: Receive, seconds: float) -> Any:
        """The next message of a request.

        Raises:
            Problem: 408 after so many seconds, 503 where the server is shutting down.
        """
        self._check()
        try:
            async with asyncio.timeout(seconds) as wait:
                self._waits.add(wait)
                try:
                    return await receive()
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            self._check()
            raise Problem(
                408,
                f"No byte arrived for {seconds:g} seconds, so the upload was given up. Send it again.",
                headers=_CLOSE,
            ) from None

    def _check(self) -> None:
        if self.closing:
            raise ending()


_CLOSE: Final = {"Connection": "close"}  # what is left of the body is not waited for


async def received(
    receive: Receive, headers: Mapping[str, str], limits: Limits, hold: Hold, patience: Patience
) -> list[Upload]:
    """The files of a request, in the order of the form.

    Args:
        receive: of ASGI. ``headers``: of the request, lower case.
        hold: where the bytes are counted; the caller gives them back.

    Raises:
        Problem: not a form, malformed, too much, too many, too slow, or no file.
        ClientGone: the connection ended before the form did.
    """
    form = _Form(_boundary(headers), limits)
    _require_declared(headers, limits)
    started, taken, more = time.monotonic(), 0, True
    try:
        while more:
            message = await patience.message(receive, limits.idle)
            if message["type"] == "http.disconnect":
                raise ClientGone
            body, more = message.get("body", b""), message.get("more_body", False)
            taken += len(body)
            if taken > limits.max_bytes:
                raise _too_large(limits, None)
            hold.take(len(body))
            _require_pace(taken, time.monotonic() - started, limits)
            form.write(body)
        return form.finished()
    finally:
        form.forget()


def _boundary(headers: Mapping[str, str]) -> bytes:
    kind, options = parse_options_header(headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise Problem(
            415,
            f"The body is {kind.decode('latin-1')[:60] or 'of no stated type'}; files are sent as multipart/form-data in the "
            f"field '{FIELD}', for example: curl -F {FIELD}=@image.png",
        )
    if headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise Problem(415, "The body is compressed (Content-Encoding), which is not read. Send it as it is.")
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise Problem(400, "Content-Type names no boundary, so the form cannot be taken apart. Send it as browsers do.")
    return boundary


def _require_declared(headers: Mapping[str, str], limits: Limits) -> None:
    """Refuse what says itself that it is too large, before a byte of it is read."""
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.max_bytes:
        raise _too_large(limits, int(declared))


def _too_large(limits: Limits, value: int | None) -> Problem:
    said = "The upload" if value is None else f"The upload of {value:,} bytes"
    return Problem(
        413,
        f"{said} is larger than the {limits.max_bytes:,} bytes of one request, all files together. Send fewer files at a time, "
        "or start the server with a larger max_bytes=.",
        limit=limits.max_bytes,
        value=value,
    )


def _require_pace(taken: int, seconds: float, limits: Limits) -> None:
    if seconds > limits.idle and taken < limits.slowest * seconds:
        raise Problem(
            408,
            f"Only {taken:,} bytes arrived in {seconds:.0f} seconds, fewer than {limits.slowest:,.0f} a second; the upload was "
            "given up. Send it again over a faster connection, or fewer files at a time.",
            headers=_CLOSE,
        )


class _Form:
    """What a parser of multipart/form-data finds, kept in memory."""

    def __init__(self, boundary: bytes, limits: Limits) -> None:
        self._limits = limits
        self._files: list[Upload] = []
        self._others = 0
        self._ended = False
        self._field, self._value, self._content = bytearray(), bytearray(), bytearray()
        self._name: str | None = None  # of the file whose bytes are arriving; None in other parts
        self._headers: dict[bytes, bytes] = {}
        callbacks: Any = {
            "on_part_begin": self._begun,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._described,
            "on_part_data": self._data,
            "on_part_end": self._complete,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise _malformed() from error

    def write(self, body: bytes) -> None:
        """The next bytes of the form."""
        try:
            self._parser.write(body)
        except FormParserError as error:
            raise _malformed() from error

    def finished(self) -> list[Upload]:
        """All files; the body is over."""
        if not self._ended:
            raise Problem(
                400, "The form ends before its last part does; a part of the upload is missing. Send it again."
            )
        if not self._files:
            raise Problem(422, f"The form holds no file. Put one or more files into its field '{FIELD}'.")
        return self._files

    def forget(self) -> None:
        """Let go of all bytes at once: parser and form refer to each other, and would wait for the garbage collector."""
        self._parser.callbacks = {}
        self._content, self._files = bytearray(), []

    def _begun(self) -> None:
        self._headers, self._name = {}, None
        self._content = bytearray()

    def _header(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field, self._value = bytearray(), bytearray()

    def _described(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition", b""))[1]
        if options.get(b"name") == FIELD.encode() and b"filename" in options:
            limit = self._limits.max_files
            if len(self._files) == limit:
                raise Problem(
                    413,
                    f"More than {limit} files are in one request. Send them in several requests, or start the server with a "
                    "larger max_files=.",
                    limit=limit,
                )
            self._name = plain_name(options[b"filename"])
            return
        self._others += 1
        if self._others > _OTHER_PARTS:
            raise Problem(422, f"The form has too many parts that are no files. Only its field '{FIELD}' is read.")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name is not None:
            self._content += data[start:end]

    def _complete(self) -> None:
        if self._name is not None:
            self._files.append(Upload(self._name, bytes(self._content)))
        self._content = bytearray()

    def _end(self) -> None:
        self._ended = True


def plain_name(sent: bytes) -> str:
    """A file name as people may see it: no folders, no control characters, of limited length.

    Args:
        sent: as the form has it, UTF-8.
    """
    text = sent.decode("utf-8", errors="replace").replace("%22", '"').replace("\\", "/").rpartition("/")[2]
    shown = "".join(character if character.isprintable() else "_" for character in text).strip()
    return shown[:_LONGEST_NAME] or "unnamed"


def _malformed() -> Problem:
    return Problem(400, "The body is no well-formed multipart/form-data. Send it as browsers and curl -F do.")

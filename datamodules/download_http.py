"""Fetching files and JSON over HTTP: streamed, retried, resumed where that is safe, and never more than was announced."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from datamodules.errors import DataError
from datamodules.progress import Progress

WAITS = (1.0, 4.0, 12.0)  # seconds before the second, third and fourth attempt
_LONGEST_WAIT = 60.0  # seconds; a server may ask for less, not for more
_SLACK = 64 << 10  # bytes
_RESERVE = 64 << 20  # bytes that stay free on the disk
_LONGEST_JSON = 64 << 20  # bytes
_BLOCK = 1 << 16  # bytes; at most this much is lost when the line is cut

_Result = TypeVar("_Result")


class _PassingError(Exception):
    """What may go better next time; ``wait``: seconds that the server asks for, 0 where it does not say."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def open_client() -> httpx2.Client:
    """A client that says who it is, follows redirects and gives up on silence; proxies are taken from the environment."""
    try:
        release = version("firstread")
    except PackageNotFoundError:
        release = "0"
    return httpx2.Client(
        headers={"User-Agent": f"firstread/{release}", "Accept-Encoding": "identity"},
        follow_redirects=True,
        timeout=httpx2.Timeout(60.0, connect=15.0),
    )


def fetch_json(client: httpx2.Client, url: str) -> Any:
    """The JSON document at ``url``.

    Raises:
        DataError: if it cannot be had, also after the retries, or is no JSON.
    """

    def attempt() -> bytes:
        with _streamed(client, url, {}) as response:
            content = b""
            for block in response.iter_bytes(_BLOCK):
                content += block
                if len(content) > _LONGEST_JSON:
                    raise DataError(f"{shown(url)}: the answer is longer than {_LONGEST_JSON:,} bytes.")
            return content

    try:
        return json.loads(_retried(attempt, url))
    except ValueError as error:
        raise DataError(f"{shown(url)}: the answer is no JSON; the server may be down or ask for a browser.") from error


def fetch(
    client: httpx2.Client,
    url: str,
    part: Path,
    *,
    size: int = 0,
    resume: bool = False,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> None:
    """Write what is at ``url`` into the file ``part``; the caller verifies and renames it.

    Args:
        client: from ``open_client``.
        url: http or https.
        part: file to write; what is in it is kept only if ``resume`` and the server continues exactly there.
        size: bytes published; 0: unknown. A few more are taken, so that a check can name the wrong size, but not many.
        resume: whether to ask for the rest of a file of which a part is there.
        on_bytes: called with the bytes received; with a negative number when they had to be thrown away.

    Raises:
        DataError: if the server refuses, sends a web page or too much, the line stays cut, or the disk is too small. What
            came so far stays in ``part`` if ``resume``, and is removed otherwise.
    """
    try:
        _retried(lambda: _attempt(client, url, part, size, resume, on_bytes), url)
    except BaseException:
        if not resume:
            forget(part)
        raise
    _validator_file(part).unlink(missing_ok=True)


def forget(part: Path) -> None:
    """Remove a partly written file and what was noted on it."""
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse early what the disk cannot hold.

    Raises:
        DataError: if fewer than ``needed`` bytes, and a reserve, are free where ``folder`` is.
    """
    if needed + _RESERVE > (free := shutil.disk_usage(folder).free):
        raise DataError(
            f"{what} needs {needed:,} bytes, and {folder} has {free:,} free. Make room, or choose another disk."
        )


def shown(url: str) -> str:
    """An address as it may be printed: a signed one loses its long query."""
    plain, _, query = url.partition("?")
    return url if len(query) <= 100 else f"{plain}?..."


@contextmanager
def megabytes(progress: Progress, title: str, size: int) -> Iterator[Callable[[int], None]]:
    """A progress bar that counts MB and is told bytes."""
    done = 0
    with progress(f"{title} (MB)", -(-size // 10**6)) as advance:

        def add(count: int) -> None:
            nonlocal done
            steps = (done + count) // 10**6 - done // 10**6
            done += count
            if steps:
                advance(steps)

        yield add


def _retried(action: Callable[[], _Result], url: str) -> _Result:
    for wait in (*WAITS, None):
        try:
            return action()
        except (_PassingError, httpx2.TransportError) as error:
            reason = str(error) or type(error).__name__
            if wait is None or isinstance(error, httpx2.UnsupportedProtocol):
                raise DataError(f"{shown(url)}: {reason} (tried {len(WAITS) + 1} times)") from error
            time.sleep(max(wait, error.wait if isinstance(error, _PassingError) else 0.0))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise DataError(f"{shown(url)}: {error or type(error).__name__}") from error
    raise AssertionError("the last attempt returns or raises")


def _attempt(
    client: httpx2.Client, url: str, part: Path, size: int, resume: bool, on_bytes: Callable[[int], None]
) -> None:
    """One request, written behind what is there if the server continues it, from the start otherwise."""
    offset, validator = _continuation(part, size) if resume else (0, "")
    headers = {"Range": f"bytes={offset}-", "If-Range": validator} if offset else {}
    with _streamed(client, url, headers) as response:
        if response.status_code == 416 or (response.status_code == 206 and not _continues(response, offset, size)):
            forget(part)
            raise _PassingError("the server does not continue a file where it ended")
        if "text/html" in response.headers.get("Content-Type", "").lower():
            raise DataError(f"{shown(url)}: a web page came instead of the file; the server may ask for a browser.")
        if response.status_code == 200:
            offset = 0
        announced = _announced(response)
        if size and announced and offset + announced > size + _SLACK:
            raise DataError(f"{shown(url)}: {offset + announced:,} bytes are announced, {size:,} are published.")
        require_space(part.parent, announced or max(0, size - offset), part.name.removesuffix(".part"))
        if resume and not offset:
            _note_validator(part, response)
        total = _write(response, part, offset, size + _SLACK if size else offset + (announced or _free(part)), on_bytes)
    if total < (expected := max(size, offset + announced)):
        on_bytes(-total)
        raise _PassingError(f"the connection ended after {total:,} of {expected:,} bytes")


def _write(response: httpx2.Response, part: Path, offset: int, most: int, on_bytes: Callable[[int], None]) -> int:
    """Append from ``offset`` on; returns the size of the file."""
    total = offset
    with part.open("r+b" if offset else "wb") as sink:
        sink.seek(offset)
        on_bytes(offset)
        try:
            for block in response.iter_bytes(_BLOCK):
                total += len(block)
                if total > most:
                    raise DataError(
                        f"{shown(str(response.url))}: more than the published or announced {most:,} bytes come."
                    )
                sink.write(block)
                on_bytes(len(block))
        except BaseException:
            on_bytes(-total)  # the next attempt counts again
            raise
        sink.flush()
        os.fsync(sink.fileno())
    return total


@contextmanager
def _streamed(client: httpx2.Client, url: str, headers: dict[str, str]) -> Iterator[httpx2.Response]:
    with client.stream("GET", url, headers=headers) as response:
        if url.startswith("https:") and response.url.scheme != "https":
            raise DataError(f"{shown(url)}: the server redirects to an unprotected address.")
        status = response.status_code
        if status == 429 or status >= 500:
            asked = response.headers.get("Retry-After", "")
            wait = min(float(asked), _LONGEST_WAIT) if re.fullmatch(r"\d{1,6}", asked) else 0.0
            raise _PassingError(f"the server answers {status} {response.reason_phrase}", wait)
        if status not in (200, 206, 416) or (status != 200 and not headers):
            hint = {401: " (a login is asked for)", 403: " (programs are refused)", 404: " (it has moved)"}
            raise DataError(f"{shown(url)}: the server answers {status} {response.reason_phrase}{hint.get(status, '')}")
        yield response


def _announced(response: httpx2.Response) -> int:
    """Bytes of the body; 0 where the server does not say."""
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"\d{1,15}", length) and "Content-Encoding" not in response.headers else 0


def _free(part: Path) -> int:
    return max(0, shutil.disk_usage(part.parent).free - _RESERVE)


def _validator_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _note_validator(part: Path, response: httpx2.Response) -> None:
    """Keep what tells this version of the file from another; without it nothing is ever resumed."""
    part.unlink(missing_ok=True)
    etag = response.headers.get("ETag", "")
    mark = response.headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag
    if mark and mark.isascii() and "Content-Encoding" not in response.headers:
        _validator_file(part).write_text(mark, encoding="ascii")
    else:
        _validator_file(part).unlink(missing_ok=True)


def _continuation(part: Path, size: int) -> tuple[int, str]:
    """How much is there and of which version; nothing where either is unknown."""
    try:
        there, validator = part.stat().st_size, _validator_file(part).read_text(encoding="ascii")
    except (OSError, ValueError):
        return 0, ""
    return (0, "") if not validator or (size and there >= size) else (there, validator)


def _continues(response: httpx2.Response, offset: int, size: int) -> bool:
    """Whether a 206 answer is exactly the rest of the file."""
    match = re.fullmatch(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)", response.headers.get("Content-Range", ""))
    if match is None or not offset or "Content-Encoding" in response.headers:
        return False
    first, last, total = match.groups()
    whole = total == "*" or int(last) + 1 == int(total)
    return int(first) == offset and whole and (not size or total in ("*", str(size)))

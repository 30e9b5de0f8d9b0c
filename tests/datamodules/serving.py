"""A small web server on the loopback address, whose answers a test writes as functions."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """One answer; ``cut`` ends the connection after so many bytes of the body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    announce: bool = True


@dataclass
class Site:
    """Pages by path (without the query): an answer, or a function of (number of the request of this path, headers, query)."""

    url: str = ""
    pages: dict[str, Any] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, headers: dict[str, str]) -> Answer:
        plain, _, query = path.partition("?")
        with self.lock:
            count = sum(known.partition("?")[0] == plain for known, _ in self.requests)
            self.requests.append((path, headers))
        page = self.pages.get(plain, Answer(b"no such page", 404))
        found: Answer = page(count, headers, query) if callable(page) else page
        return found


def as_json(value: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(value).encode(), status, {"Content-Type": "application/json"})


def ranged(
    body: bytes, etag: str = '"v1"', cut_first: int | None = None
) -> Callable[[int, dict[str, str], str], Answer]:
    """A file of a server that honours ranges; the first answer may be cut."""

    def answer(count: int, headers: dict[str, str], query: str) -> Answer:
        asked = headers.get("range", "")
        if asked and headers.get("if-range") == etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            place = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}", "ETag": etag}
            return Answer(body[start:], 206, place)
        return Answer(body, 200, {"ETag": etag}, cut=cut_first if count == 0 else None)

    return answer


@contextmanager
def serving() -> Iterator[Site]:
    """The site while it is up."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = site.answer(self.path, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.announce:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut])
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

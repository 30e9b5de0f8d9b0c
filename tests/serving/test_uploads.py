"""Uploads: taken apart as they arrive, in memory, within limits."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable
from typing import Any

import pytest

from serving.problems import ClientGone, Problem
from serving.uploads import Hold, Limits, Memory, Patience, Upload, plain_name, received

HEADERS = {"content-type": "multipart/form-data; boundary=b"}
LIMITS = Limits(max_bytes=10_000, max_files=3, idle=0.05, slowest=0.0)


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    named = "" if filename is None else f'; filename="{filename}"'
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b--\r\n"


def pieces(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


class Client:
    """Sends pieces of a body, then what is said."""

    def __init__(self, sent: Iterable[bytes], end: str = "complete") -> None:
        self.sent, self.end, self.asked = list(sent), end, 0

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        if self.sent:
            body = self.sent.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self.sent) or self.end != "complete"}
        if self.end == "gone":
            return {"type": "http.disconnect"}
        await asyncio.sleep(60)
        raise AssertionError("nobody waits so long")


def taken(
    client: Client, *, headers: dict[str, str] | None = None, limits: Limits = LIMITS, memory: Memory | None = None
) -> list[Upload]:
    hold = Hold(memory or Memory(10**9))
    return asyncio.run(received(client.receive, headers or HEADERS, limits, hold, Patience()))


def refusal(client: Client, **named: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        taken(client, **named)
    return caught.value


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100_000])
def test_files_come_whole_and_in_order_however_they_are_cut(size: int) -> None:
    first, second = (
        bytes(range(256)) * 3 + b"\r\n--",
        b"\r\n--x\r\n\r\n--\r\r\n--",
    )  # beginnings of the line between two parts
    body = form(
        part("files", first, "a.png"), part("other", b"text"), part("files", second, "b.png"), part("files", b"", "c")
    )
    uploads = taken(Client(pieces(body, size)))
    assert uploads == [Upload("a.png", first), Upload("b.png", second), Upload("c", b"")]


def test_nothing_is_written_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("a temporary file is made")

    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp", "mkdtemp"):
        monkeypatch.setattr(tempfile, name, forbidden)
    large = bytes(4_000_000)  # the usual parsers spool from one million on
    body = form(part("files", large, "a.png"))
    assert taken(Client(pieces(body, 65_536)), limits=Limits(max_bytes=5_000_000)) == [Upload("a.png", large)]


def test_an_upload_that_says_it_is_too_large_is_refused_unread() -> None:
    client = Client([b"x"])
    problem = refusal(client, headers={**HEADERS, "content-length": "10001"})
    assert (problem.status, problem.limit, problem.value, client.asked) == (413, 10_000, 10_001, 0)
    assert "max_bytes=" in problem.detail


def test_an_upload_that_grows_too_large_is_refused_at_the_limit() -> None:
    client = Client([form(part("files", bytes(1_000), "a"))[:900], *[bytes(1_000)] * 100])
    problem = refusal(client)
    assert (problem.status, problem.limit) == (413, 10_000)
    assert client.asked == 11  # 900 + 10 x 1,000 is the first sum above the limit


def test_too_many_files_and_parts_are_refused() -> None:
    problem = refusal(Client([form(*[part("files", b"x", "a")] * 4)]))
    assert (problem.status, problem.limit) == (413, 3)
    assert refusal(Client([form(*[part("note", b"x")] * 9)])).status == 422


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b"", 415),
        ({"content-type": "application/json"}, b"{}", 415),
        ({**HEADERS, "content-encoding": "gzip"}, b"", 415),
        ({"content-type": "multipart/form-data"}, b"", 400),
        ({"content-type": f"multipart/form-data; boundary={'b' * 500}"}, b"", 400),
        (HEADERS, b"garbage", 400),
        (HEADERS, b"", 400),
        (HEADERS, form(part("files", b"abc", "a"))[:-6], 400),
        (HEADERS, b"--b\r\n" + b"X: y\r\n" * 1_000 + b"\r\n--b--\r\n", 400),
        (HEADERS, b"--b\r\nX: " + b"y" * 9_000 + b"\r\n\r\n--b--\r\n", 400),
        (HEADERS, form(part("files", b"no file name")), 422),
        (HEADERS, form(part("file", b"another field", "a.png")), 422),
    ],
)
def test_what_is_no_form_with_files_is_refused(headers: dict[str, str], body: bytes, status: int) -> None:
    assert refusal(Client([body]), headers={"x": "y", **headers}).status == status


def test_a_client_that_stops_sending_is_given_up() -> None:
    assert refusal(Client([b"--b\r\n"], "silent")).status == 408


def test_a_client_that_sends_too_slowly_is_given_up() -> None:
    class Slow(Client):
        async def receive(self) -> dict[str, Any]:
            await asyncio.sleep(0.01)
            return await super().receive()

    body = form(part("files", bytes(200), "a"))
    problem = refusal(Slow(pieces(body, 1)), limits=Limits(idle=0.1, slowest=1e6))
    assert problem.status == 408
    assert "bytes arrived in" in problem.detail


def test_a_client_that_hangs_up_is_noticed() -> None:
    with pytest.raises(ClientGone):
        taken(Client([b"--b\r\n"], "gone"))


def test_the_end_of_the_server_ends_all_waits() -> None:
    async def ended() -> Problem:
        patience = Patience()
        hold = Hold(Memory(1_000))
        waiting = asyncio.create_task(
            received(Client([b"--b\r\n"], "silent").receive, HEADERS, Limits(), hold, patience)
        )
        await asyncio.sleep(0.01)
        patience.close()
        with pytest.raises(Problem) as caught:
            async with asyncio.timeout(5):
                await waiting
        with pytest.raises(Problem, match="shutting down"):
            await patience.message(Client([b"late"]).receive, 1.0)
        return caught.value

    problem = asyncio.run(ended())
    assert (problem.status, problem.headers["Connection"]) == (503, "close")


def test_all_uploads_together_are_limited_and_counted_back() -> None:
    async def both() -> tuple[int, int, int]:
        memory = Memory(1_000)
        first, second = Hold(memory), Hold(memory)
        body = form(part("files", bytes(500), "a"))
        await received(Client(pieces(body, 50)).receive, HEADERS, LIMITS, first, Patience())
        with pytest.raises(Problem) as caught:
            await received(Client(pieces(body, 50)).receive, HEADERS, LIMITS, second, Patience())
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "2")
        during = memory.held
        for hold in (first, second, first):
            hold.give()
        return len(body), during, memory.held

    size, during, after = asyncio.run(both())
    assert size < during <= 1_000
    assert after == 0


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"film.png", "film.png"),
        (b"../../etc/passwd", "passwd"),
        (rb"C:\films\a.dcm", "a.dcm"),
        (b"a\x1b[31m\n.png", "a_[31m_.png"),
        (b"%22a%22.png", '"a".png'),
        ("Röntgen.png".encode(), "Röntgen.png"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"", "unnamed"),
        (b"x" * 999, "x" * 255),
    ],
)
def test_names_of_files_are_plain(sent: bytes, shown: str) -> None:
    assert plain_name(sent) == shown

"""What every request passes first: our names, our page, a number at one time, and the headers of every answer."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from serving.counts import Counts
from serving.guards import SECURITY, Guard, is_loopback
from serving.problems import ClientGone, Problem

SECRET = "patient_7.png"


class Inner:
    """Answers, fails or waits, as the path says; counts what reached it."""

    def __init__(self) -> None:
        self.reached = 0
        self.go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached += 1
        path = scope["path"]
        if path == "/refused":
            raise Problem(413, "too large", limit=1)
        if path == "/gone":
            raise ClientGone
        if path == "/broken":
            raise RuntimeError(SECRET)
        if path == "/wait":
            await self.go.wait()
        if path == "/read":
            await Request(scope, receive).body()
        await PlainTextResponse("fine")(scope, receive, send)


def asked(
    method: str, path: str = "/", *, host: str = "127.0.0.1", **headers: str
) -> tuple[httpx.Response, Inner, list[str]]:
    """The answer, what is behind the guard, and what was logged."""
    lines: list[str] = []

    async def ask() -> tuple[httpx.Response, Inner]:
        inner = Inner()
        guard = Guard(inner, host=host, counts=Counts(every=0.0, write=lines.append))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://127.0.0.1:7860") as client:
            return await client.request(method, path, headers=named), inner

    answer, inner = asyncio.run(ask())
    return answer, inner, lines


def assert_guarded(answer: httpx.Response) -> None:
    assert {name: answer.headers[name] for name in SECURITY} == SECURITY


@pytest.mark.parametrize(
    "name", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "[::1]:80", "127.0.0.2", "localhost."]
)
def test_our_own_names_are_answered(name: str) -> None:
    answer, _, _ = asked("GET", Host=name)
    assert answer.status_code == 200
    assert_guarded(answer)


@pytest.mark.parametrize(
    "name",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.168.0.1",
        "",
        "127.0.0.1@evil.example",
        "[::1",
        "0x7f.1",
    ],
)
def test_other_names_are_refused_because_they_may_be_rebound(name: str) -> None:
    answer, inner, _ = asked("GET", Host=name)
    assert (answer.status_code, inner.reached) == (421, 0)
    assert answer.headers["content-type"] == "application/problem+json"
    assert_guarded(answer)


def test_on_another_address_its_names_and_any_address_are_answered() -> None:
    for name in ("films.clinic.example:80", "192.168.0.1", "localhost"):
        assert asked("GET", host="films.clinic.example", Host=name)[0].status_code == 200
    assert asked("GET", host="films.clinic.example", Host="evil.example")[0].status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://127.0.0.1:7860.evil.example"},
        {"Origin": "http://["},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site", "Origin": "http://127.0.0.1:7860"},
    ],
)
def test_a_form_that_another_page_sends_is_refused(headers: dict[str, str]) -> None:
    answer, inner, _ = asked("POST", **headers)
    assert (answer.status_code, inner.reached) == (403, 0)
    assert_guarded(answer)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:7860"},
        {"Sec_Fetch_Site": "same-origin", "Origin": "http://127.0.0.1:7860"},
        {"Sec_Fetch_Site": "none"},
    ],
)
def test_our_page_and_programs_may_send_forms(headers: dict[str, str]) -> None:
    assert asked("POST", **headers)[0].status_code == 200


def test_a_refusal_is_a_body_that_programs_and_people_can_read() -> None:
    answer, _, _ = asked("POST", "/refused")
    assert answer.json() == {
        **{"type": "about:blank", "title": "Request Entity Too Large", "status": 413, "detail": "too large", "limit": 1}
    }
    assert_guarded(answer)


def test_a_mistake_of_ours_is_counted_and_quotes_nothing() -> None:
    answer, _, lines = asked("GET", "/broken")
    assert answer.status_code == 500
    assert SECRET not in answer.text
    assert len(lines) == 1
    assert "failed: RuntimeError in test_guards.py:" in lines[0]
    assert SECRET not in lines[0]
    assert_guarded(answer)


def test_more_requests_than_are_answered_at_one_time_are_sent_away() -> None:
    async def crowd() -> list[int]:
        inner = Inner()
        guard = Guard(inner, host="127.0.0.1", counts=Counts(write=lambda line: None), most=2)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://localhost") as client:
            waiting = [asyncio.create_task(client.get("/wait")) for _ in range(2)]
            while inner.reached < 2:
                await asyncio.sleep(0)
            busy = await client.get("/")
            assert busy.headers["retry-after"] == "2"
            health = await client.get("/api/health")
            inner.go.set()
            done = [answer.status_code for answer in await asyncio.gather(*waiting)]
            later = await client.get("/")
            return [busy.status_code, health.status_code, *done, later.status_code, guard.active]

    assert asyncio.run(crowd()) == [503, 200, 200, 200, 200, 0]


def test_what_is_not_done_when_the_server_has_to_end_is_refused_as_all_else_is() -> None:
    async def ended() -> tuple[httpx.Response, Counts]:
        inner, counts = Inner(), Counts(write=lambda line: None)
        guard = Guard(inner, host="127.0.0.1", counts=counts)
        answering: list[asyncio.Task[None]] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            answering.append(asyncio.create_task(guard(scope, receive, send)))
            await answering[0]

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            waiting = asyncio.create_task(client.get("/wait"))
            while inner.reached < 1:
                await asyncio.sleep(0)
            answering[0].cancel()  # as uvicorn does after its last seconds
            return await waiting, counts

    answer, counts = asyncio.run(ended())
    assert (answer.status_code, dict(counts.total)) == (503, {"refused": 1})
    assert "shutting down" in answer.json()["detail"]
    assert_guarded(answer)


def test_a_client_that_is_gone_is_no_mistake() -> None:
    sent: list[Any] = []

    async def ask() -> Counts:
        counts = Counts(write=sent.append)
        scope = {"type": "http", "method": "GET", "path": "/gone", "headers": [(b"host", b"localhost")]}

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await Guard(Inner(), host="127.0.0.1", counts=counts)(scope, receive, send)
        return counts

    assert not asyncio.run(ask()).total
    assert sent == []


def test_counts_say_numbers_once_in_a_while() -> None:
    lines: list[str] = []
    counts = Counts(every=3600.0, write=lines.append)
    counts.tick(last=True)
    counts.add("images", 3)
    counts.add("requests")
    counts.tick()
    assert lines == []
    counts.tick(last=True)
    assert lines[0].endswith(" requests 1, images 3")
    counts.tick(last=True)
    assert len(lines) == 1
    with pytest.raises(KeyError):
        counts.add("patient_7.png")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("films.example", False)],
)
def test_loopback_is_known(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected

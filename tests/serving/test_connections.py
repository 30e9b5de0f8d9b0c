"""Clients that would hold a connection for ever: each wait ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from serving import connections
from serving.connections import PatientProtocol

SHORT, PATIENCE = 1.0, 120.0  # seconds; the first is long enough for a busy machine
BIG = 30_000_000


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    body = b"x" * BIG if scope["path"] == "/big" else b"fine"
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body[: BIG // 2], "more_body": True})
    await send({"type": "http.response.body", "body": body[BIG // 2 :], "more_body": False})


def with_server(act: Callable[[int, uvicorn.Server], Awaitable[Any]]) -> Any:
    """What ``act`` finds, which gets the port of a server with our protocol."""

    async def run() -> Any:
        config = uvicorn.Config(_app, port=0, http=PatientProtocol, ws="none", lifespan="off", log_level="critical")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            async with asyncio.timeout(PATIENCE):
                return await act(server.servers[0].sockets[0].getsockname()[1], server)
        finally:
            server.should_exit = True
            await serving

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_SECONDS", "STALL_SECONDS", "LINGER_SECONDS"):
        monkeypatch.setattr(connections, name, SHORT)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: lo"])
def test_headers_that_do_not_come_end_the_connection(sent: bytes) -> None:
    async def act(port: int, server: uvicorn.Server) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    assert with_server(act) == b""


def test_the_headers_of_a_second_request_have_to_come_too() -> None:
    async def act(port: int, server: uvicorn.Server) -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        first = await reader.readuntil(b"fine")
        await asyncio.sleep(2 * SHORT)  # longer than headers may take; nothing has begun yet, so nothing ends
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        second = await reader.readuntil(b"fine")
        writer.write(b"GET / HTT")
        try:
            rest = await reader.read()
        except ConnectionResetError:
            rest = b""
        writer.close()
        return first[:15] + second[:15], rest

    assert with_server(act) == (b"HTTP/1.1 200 OKHTTP/1.1 200 OK", b"")


def test_a_client_that_reads_nothing_is_let_go() -> None:
    async def act(port: int, server: uvicorn.Server) -> int:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        while not server.server_state.connections:
            await asyncio.sleep(0.01)
        while server.server_state.connections:
            await asyncio.sleep(0.02)
        writer.close()
        return len(server.server_state.tasks)

    assert with_server(act) == 0


def test_a_client_that_reads_gets_all() -> None:
    async def act(port: int, server: uvicorn.Server) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        size = len((await reader.read()).partition(b"\r\n\r\n")[2])
        writer.close()
        return size

    assert with_server(act) == BIG


def test_a_client_that_reads_slowly_gets_all_too() -> None:
    async def act(port: int, server: uvicorn.Server) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        size, begun = 0, asyncio.get_running_loop().time()
        while part := await reader.read(1 << 16):
            size += len(part)
            late = begun + 3 * SHORT * size / BIG - asyncio.get_running_loop().time()
            if late > 0:
                await asyncio.sleep(late)
        writer.close()
        return size

    assert with_server(act) == BIG


def test_an_answer_comes_before_the_end_of_an_upload_that_is_then_given_up() -> None:
    async def act(port: int, server: uvicorn.Server) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 1000)
        answer = await reader.readuntil(b"fine")
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b"x" * 1000)
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()
        return answer[:15]

    assert with_server(act) == b"HTTP/1.1 200 OK"


def test_too_many_connections_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 3)

    async def act(port: int, server: uvicorn.Server) -> tuple[bytes, bytes]:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        while len(server.server_state.connections) < 3:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        refused = await reader.read()
        for _, other in [*opened, (reader, writer)]:
            other.close()
        while server.server_state.connections:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        later = await reader.read()
        writer.close()
        return refused, later

    refused, later = with_server(act)
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 2" in refused
    assert b"Too many connections" in refused
    assert later.endswith(b"fine")

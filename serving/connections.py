"""Connections that end: clients that send their request too slowly, never read the answer, or hold a connection for nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.problems import MEDIA_TYPE, Problem

HEAD_SECONDS: Final = 10.0
"""From the first moment of a connection, or the first byte of a later request, to the end of its headers."""
STALL_SECONDS: Final = 20.0
"""How long a client may read nothing, or next to nothing, of its answer."""
STALL_BYTES: Final = 100_000
"""What it has to read in that time, so that a slow client gets all and one that reads a byte now and then does not stay."""
LINGER_SECONDS: Final = 5.0
"""How long the rest of a refused upload is taken and dropped, so that the client sees the refusal instead of a broken pipe."""
MOST_CONNECTIONS: Final = 512


def _busy() -> bytes:
    problem = Problem(
        503, "Too many connections are open. Try again in a few seconds.", limit=MOST_CONNECTIONS, retry_after=2
    )
    body = json.dumps(problem.content()).encode()
    head = (
        f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
        "Retry-After: 2\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


class PatientProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with an end to every wait that a client could prolong for ever."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._unread = 0  # bytes of the answer when the client was last looked at

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Counted; refused where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.write(_busy())
            self._closed_soon()
            transport.close()
            return
        self._head = self.loop.call_later(HEAD_SECONDS, self._abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever is waited for is over."""
        for timer in (self._head, self._stall, self._linger):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request; its headers have to be complete in time."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.transport.is_closing():
            self._closed_soon()
        elif self.conn.their_state is h11.IDLE:
            if self._head is None and self.timeout_keep_alive_task is None:
                self._head = self.loop.call_later(HEAD_SECONDS, self._abort)
        elif self._head is not None:
            self._head.cancel()
            self._head = None

    def on_response_complete(self) -> None:
        """The answer is out; of a body that was not read, the rest is dropped for a while."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY or self.transport.is_closing():
            self._closed_soon()

    def pause_writing(self) -> None:
        """The client does not read as fast as is written."""
        super().pause_writing()
        if self._stall is None:
            self._watch()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
            self._closed_soon()

    def _watch(self) -> None:
        self._unread = self.transport.get_write_buffer_size()
        self._stall = self.loop.call_later(STALL_SECONDS, self._stalled)

    def _stalled(self) -> None:
        """An answer is written as a whole, so its client is slow until all of it is read: what counts is that it goes on."""
        if self._unread - self.transport.get_write_buffer_size() < STALL_BYTES:
            self._abort()
        else:
            self._watch()

    def timeout_keep_alive_handler(self) -> None:
        """No further request came."""
        super().timeout_keep_alive_handler()
        self._closed_soon()

    def shutdown(self) -> None:
        """The server ends: what is not being answered is closed."""
        super().shutdown()
        if self.cycle is None or self.cycle.response_complete:
            self._closed_soon()

    def _closed_soon(self) -> None:
        """A closed connection stays open as long as its client reads nothing of what is still to be sent."""
        if self._linger is None:
            self._linger = self.loop.call_later(LINGER_SECONDS, self._lingered)

    def _lingered(self) -> None:
        if self.transport.get_write_buffer_size() == 0:
            self._abort()
        elif self._stall is None:
            self._watch()

    def _abort(self) -> None:
        self.transport.abort()

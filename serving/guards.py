"""What every request passes first: whose name it calls us by, which page sent it, and how many are being answered."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.connections import LINGER_SECONDS
from serving.counts import Counts
from serving.problems import NO_ANSWER, OURS, ClientGone, Problem, ending

SECURITY: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), interest-cohort=()",
    "Cache-Control": "no-store",
}
_LOOPBACK_NAMES: Final = frozenset({"localhost"})
_READING: Final = ("GET", "HEAD", "OPTIONS")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_of(host: str) -> frozenset[str]:
    """The names by which requests may call a server that listens on an address; IP addresses are judged by :class:`Guard`."""
    if is_loopback(host):
        return _LOOPBACK_NAMES
    own = socket.gethostname().lower()
    return _LOOPBACK_NAMES | {host.lower(), own, own.partition(".")[0], f"{own.partition('.')[0]}.local"}


class Guard:
    """ASGI middleware: checks ``Host`` and ``Origin``, limits the requests at one time, adds the headers, ends all errors.

    A page of another site may make a browser send requests here. It cannot read the answers, unless it makes the browser
    believe that its own name is ours (DNS rebinding): so only our names are answered. And it shall not make us work: so a form
    that another page sends is refused.

    Args:
        app: what answers.
        host: the address on which is listened.
        counts: where requests are counted.
        most: requests that are answered at one time.
    """

    def __init__(self, app: ASGIApp, *, host: str, counts: Counts, most: int = 256) -> None:
        self._app, self._counts, self._most = app, counts, most
        self._names, self._loopback = names_of(host), is_loopback(host)
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._counts)
        self.active += 1
        try:
            self._check(scope)
            await self._app(scope, exchange.receive, exchange.send)
        except ClientGone:
            pass
        except Problem as problem:
            await self._refuse(problem, exchange, scope)
        except asyncio.CancelledError:  # the server ends and has waited long enough
            await self._refuse(ending(), exchange, scope)
        except Exception as error:
            self._counts.failure(error)
            await self._refuse(OURS, exchange, scope)
        finally:
            self.active -= 1

    async def _refuse(self, problem: Problem, exchange: _Exchange, scope: Scope) -> None:
        if not exchange.started:
            await problem.response()(scope, exchange.receive, exchange.send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._require_our_name(headers)
        if scope["method"] not in _READING:
            _require_our_page(headers)
        if self.active > self._most and scope["path"] != "/api/health":
            raise Problem(
                503,
                f"{self._most} requests are being answered. Try again in a few seconds.",
                limit=self._most,
                retry_after=2,
            )

    def _require_our_name(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        name = _host_of(f"//{hosts[0]}") if len(hosts) == 1 else None
        if name is not None and (name in self._names or self._is_address(name)):
            return
        raise Problem(
            421,
            "The request calls this server by a name that is not its own; a page of another site may be behind it. Open "
            "http://127.0.0.1 or http://localhost with the port that serve.py printed.",
        )

    def _is_address(self, name: str) -> bool:
        """An address cannot be rebound; on loopback it has to be one of loopback."""
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._loopback


def _require_our_page(headers: Headers) -> None:
    """Browsers say which page sends a form; programs say nothing."""
    site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin")
    ours = origin is None or _place_of(origin) == headers["host"].lower()
    if site not in ("same-origin", "none") or not ours:
        raise Problem(403, "A page of another site sent this request, which is refused. Use the page of this server.")


def _place_of(origin: str) -> str | None:
    """Name and port of the page that sends a request; None where it is no address at all."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _host_of(url: str) -> str | None:
    try:
        return (urlsplit(url).hostname or "").rstrip(".") or None
    except ValueError:
        return None


class _Exchange:
    """Passes a request and its answer on; every answer gets the headers that all have."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, counts: Counts) -> None:
        self._receive, self._send, self._counts = receive, send, counts
        self._closing = "close" in Headers(scope=scope).get("connection", "").lower()
        self._complete = False
        self.started = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            status = message["status"]
            if status >= 400 and status not in (NO_ANSWER, 500):  # 500 is counted as a failure
                self._counts.add("refused")
                if self._closing and status != 408:
                    await self._drop_rest()
            headers: Any = MutableHeaders(scope=message)
            for name, value in SECURITY.items():
                headers[name] = value
        await self._send(message)

    async def _drop_rest(self) -> None:
        """A connection that is closed while its client still sends is reset, and the client never sees why."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._complete:
                    await self.receive()

"""Refusals: what goes back to a client when its request is not answered, as RFC 9457 describes it (application/problem+json)."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"
NO_ANSWER: Final = 499  # as nginx calls it: the client closed the connection; nobody sees it


class Problem(Exception):
    """A request that is refused; the detail is meant for the person at the other end.

    Args:
        status: of HTTP, for example 413.
        detail: a sentence with the value, the limit and what to do.
        limit, value: the same as numbers, for programs; left out where there are none.
        retry_after: seconds after which the same request may be answered; sent with 503.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        limit: int | None = None,
        value: int | None = None,
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.limit, self.value = status, detail, limit, value
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)

    def content(self) -> dict[str, Any]:
        """The body as plain values."""
        numbers = {"limit": self.limit, "value": self.value}
        said = {"type": "about:blank", "title": phrase(self.status), "status": self.status, "detail": self.detail}
        return {**said, **{name: number for name, number in numbers.items() if number is not None}}

    def response(self) -> Response:
        """The answer to send."""
        body = json.dumps(self.content(), ensure_ascii=False).encode()
        return Response(body, status_code=self.status, headers=self.headers, media_type=MEDIA_TYPE)


def phrase(status: int) -> str:
    """The standard words of a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Refused"


OURS: Final = Problem(
    500, "Something went wrong in the server; these files got no answer. The others are not affected."
)


def ending() -> Problem:
    """What is said to all who still wait when the server ends."""
    return Problem(
        503,
        "The server is shutting down. Start it again, then send the files again.",
        headers={"Connection": "close"},  # what is left of a body is not waited for
    )


class ClientGone(Exception):
    """The client has closed the connection; nobody waits for the answer any more."""

"""A local server, and no waiting, for every test of downloads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from datamodules import download_http
from tests.datamodules.serving import Site, serving


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No waiting, no proxy; returns the waits that were asked for."""
    waits: list[float] = []
    monkeypatch.setattr(download_http.time, "sleep", waits.append)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return waits


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as up:
        yield up

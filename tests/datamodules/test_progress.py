"""Progress of long work: a bar in a terminal, a line a minute in a log, and nothing where there is nothing to do."""

from __future__ import annotations

import io
import logging

import pytest

from datamodules import progress
from datamodules.progress import progress_bar, progress_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress_bar("decoding", 100) as advance:
        for _ in range(50):
            advance(2)
    shown = terminal.getvalue()
    assert "decoding" in shown
    assert "/100" in shown
    assert "images/s" in shown


def test_a_log_gets_a_line_a_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with caplog.at_level(logging.INFO, "firstread"), progress_bar("decoding to 128 x 128", 10_000) as advance:
        for _ in range(10):
            clock[0] += 25
            advance(1000)
    assert caplog.messages == [
        "decoding to 128 x 128: 3,000 of 10,000 images, 40 images/s, 2 min 55 s left",
        "decoding to 128 x 128: 6,000 of 10,000 images, 40 images/s, 1 min 40 s left",
        "decoding to 128 x 128: 9,000 of 10,000 images, 40 images/s, 25 s left",
    ]


def test_nothing_to_do_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress_bar("decoding", 0):
        pass
    assert terminal.getvalue() == ""


def test_long_work_is_in_hours_and_slow_work_has_a_decimal() -> None:
    assert progress_line("drawing", 10, 40_000, 4.0).endswith("2.5 images/s, 4 h 26 min left")
    assert progress_line("fetching (MB)", 10, 20, 1.0, "MB") == "fetching (MB): 10 of 20 MB, 10 MB/s, 1 s left"

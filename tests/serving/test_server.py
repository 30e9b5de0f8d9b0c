"""The server in a process of its own: what is left behind, how it ends, and that it stands a crowd."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

import serve
from tests.conftest import ROOT, make_chest_xray
from tests.datamodules.odd_dicom import SECRET, plain
from tests.workflow.tiny_run import tiny_run

PATIENCE = 240.0
serve_load: Any = importlib.import_module("benchmarks.serve_load")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("server")
    return tiny_run(place / "run", make_chest_xray(place / "chest_xray"), place / "home")


@dataclass
class Started:
    """A server: its process, its address, and an empty folder where it may leave nothing."""

    process: subprocess.Popen[str]
    port: int
    work: Path
    notice: str
    before: dict[str, tuple[int, int]]

    @property
    def address(self) -> str:
        """Of its API."""
        return f"http://127.0.0.1:{self.port}/api"

    def end(self, number: int) -> tuple[int, str]:
        """Exit code and everything that it printed after its first lines."""
        self.process.send_signal(number)
        said, wrong = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said + wrong


@pytest.fixture(scope="module")
def server(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """One for all tests, because each costs seconds; the last test ends it."""
    work, before = tmp_path_factory.mktemp("work"), files_of(run)
    arguments = ("host=0.0.0.0", "max_pixels=2000", "max_files=60", "max_bytes=4000000")
    command = [sys.executable, str(ROOT / "serve.py"), f"run={run}", "port=0", *arguments]
    places = {name: str(work) for name in ("TMPDIR", "TEMP", "TMP", "HOME", "FIRSTREAD_HOME")}
    environment = {**os.environ, **places, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"serving at http://127\.0\.0\.1:(\d+)/", line):
                yield Started(process, int(found[1]), work, process.stdout.readline(), before)
                break
        else:
            pytest.fail(f"the server ended before it listened: {process.communicate()[1]}")
    finally:
        process.kill()
        process.wait()


def png(seed: int, size: tuple[int, int] = (40, 30)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def files_of(*folders: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_limits_of_the_command_line_hold(server: Started) -> None:
    limits = httpx.get(f"{server.address}/model", timeout=PATIENCE).json()["limits"]
    assert limits == {"max_bytes": 4_000_000, "max_files": 60, "max_pixels": 2000}
    one = httpx.post(f"{server.address}/predict", files={"files": ("a.png", png(0, (60, 40)))}, timeout=PATIENCE)
    assert one.json()["results"][0]["error"] == "a.png: too many pixels: 40 x 60 is more than 2,000"
    many = httpx.post(f"{server.address}/predict", files=[("files", ("a.png", b"x"))] * 61, timeout=PATIENCE)
    assert (many.status_code, many.json()["limit"]) == (413, 60)
    large = httpx.post(f"{server.address}/predict", files={"files": ("a.png", bytes(4_100_000))}, timeout=PATIENCE)
    assert (large.status_code, large.json()["limit"]) == (413, 4_000_000)


def test_what_was_received_is_answered_at_the_end_and_nothing_is_left_behind(server: Started, run: Path) -> None:
    sent = [("files", (f"{SECRET}{seed}.png", png(seed))) for seed in range(3)]
    sent += [("files", (f"{SECRET}.dcm", plain())), ("files", (f"{SECRET}.tif", _noisy_tiff()))]
    sent += [("files", (f"{SECRET}.jpg", bytes(3_000_000)))]  # usual form parsers put so much into a file
    answer = httpx.post(f"{server.address}/predict?heat_map=true", files=sent, timeout=PATIENCE)
    assert [entry["error"] is None for entry in answer.json()["results"]] == [True] * 4 + [False] * 2
    head, body = _request(60)
    whole, half = (socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in range(2))
    half.sendall(head + body[:100])
    whole.sendall(head + body)
    reached, before = 0, _health(server)["images"]
    while reached < 60:  # until the whole request is in the line, or answered already
        health = _health(server)
        reached = health["waiting"] + health["images"] - before
    code, said = server.end(signal.SIGTERM)
    answers = []
    for client in (whole, half):
        with client, client.makefile("rb") as stream:
            answers.append(stream.read())
    assert code == 0
    assert answers[0].startswith(b"HTTP/1.1 200 ")
    assert len(json.loads(answers[0].partition(b"\r\n\r\n")[2])["results"]) == 60
    assert answers[1].startswith(
        (b"HTTP/1.1 503 ", b"HTTP/1.1 408 ")
    )  # 408 where all this took longer than it is waited for
    assert server.notice == "Research and education only; not a medical device.\n"
    warning, *counts = said.splitlines()
    assert warning.startswith("warning: host=0.0.0.0 lets other machines")
    assert [line for line in counts if not _COUNTS.fullmatch(line)] == []
    assert sum(int(found) for found in re.findall(r"images (\d+)", said)) >= 66
    assert files_of(server.work) == {}
    assert files_of(run) == server.before


_COUNTS = re.compile(r"\d\d:\d\d (requests|images|unreadable|refused) [\d,]+(, (images|unreadable|refused) [\d,]+)*")


def _noisy_tiff() -> bytes:
    """A TIFF of so many samples a pixel that Pillow logs a remark."""
    tags = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 200, 277: 31_235, 278: 64, 279: 4096}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(5000)


def _request(count: int) -> tuple[bytes, bytes]:
    """Head and body of a form of so many images."""
    part = b'--xx\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = b"".join(part + png(seed) + b"\r\n" for seed in range(count)) + b"--xx--\r\n"
    head = (
        f"POST /api/predict?heat_map=true HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=xx\r\n\r\n"
    )
    return head.encode(), body


def _health(server: Started) -> dict[str, int]:
    found: dict[str, int] = httpx.get(f"{server.address}/health", timeout=PATIENCE).json()
    return found


def test_a_run_that_cannot_be_served_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)  # of this process, which runs other tests too
    with pytest.raises(SystemExit) as ended:
        serve.main([f"run={tmp_path}", "port=0"])
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.startswith("error: run=")
    assert said.err.count("\n") == 1


def test_a_crowd_and_hostile_clients_get_right_answers_or_refusals(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code = serve_load.main([f"run={run}", "clients=30", "rounds=1", "each=1"])
    said = capsys.readouterr().out
    assert code == 0, said
    summary = json.loads(said.splitlines()[-1])
    assert (summary["answered"], summary["wrong"], summary["never_ended"], summary["exit"]) == (60, 0, 0, 0)
    assert summary["largest_difference"] <= 1e-6
    for outcome in (
        "broken form: 400",
        "no images: 200",
        "another site's name: 421",
        "says it is 5 GB: 413",
        "half a body: 408",
    ):
        assert outcome in said


def test_a_client_that_is_never_let_go_is_seen_by_the_load_test() -> None:
    async def never() -> int:
        raise TimeoutError

    measured = serve_load.Round()
    asyncio.run(serve_load._counted("half", never, measured))
    assert dict(measured.hostile) == {"half: NEVER ENDED": 1}

"""The server in a process of its own: what is left behind, how it ends, and that it stands a crowd."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

import serve
from tests.conftest import ROOT, make_chest_xray
from tests.datamodules.odd_dicom import SECRET, plain
from tests.workflow.tiny_run import tiny_run

PATIENCE = 120.0


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

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Exit code and everything that it printed after its first lines."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        said, wrong = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said + wrong


@contextmanager
def started(run: Path, work: Path, *arguments: str) -> Iterator[Started]:
    work.mkdir()
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
                yield Started(process, int(found[1]), work, process.stdout.readline())
                break
        else:
            pytest.fail(f"the server ended before it listened: {process.communicate()[1]}")
    finally:
        process.kill()
        process.wait()


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 30), dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def files_of(*folders: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_nothing_is_written_or_printed_but_counts_and_it_ends_with_zero(run: Path, tmp_path: Path) -> None:
    before = files_of(run)
    with started(run, tmp_path / "work") as server:
        sent = [("files", (f"{SECRET}{seed}.png", png(seed))) for seed in range(3)]
        sent += [("files", (f"{SECRET}.dcm", plain())), ("files", (f"{SECRET}.jpg", bytes(3_000_000)))]
        answer = httpx.post(f"http://127.0.0.1:{server.port}/api/predict?heat_map=true", files=sent, timeout=PATIENCE)
        assert [entry["error"] is None for entry in answer.json()["results"]] == [True] * 4 + [False]
        code, said = server.end(signal.SIGTERM)
    assert code == 0
    assert re.search(r"^\d\d:\d\d requests 1, images 5, unreadable 1$", said, re.MULTILINE)
    assert server.notice == "Research and education only; not a medical device.\n"
    assert SECRET not in said
    assert files_of(tmp_path / "work") == {}
    assert files_of(run) == before


def test_what_was_received_is_answered_at_the_end_and_half_an_upload_is_not_waited_for(
    run: Path, tmp_path: Path
) -> None:
    boundary = "xx"
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'.encode()
    body = b"".join(part + png(seed) + b"\r\n" for seed in range(60)) + f"--{boundary}--\r\n".encode()
    head = (
        f"POST /api/predict?heat_map=true HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n\r\n"
    ).encode()
    with started(run, tmp_path / "work") as server:
        whole, half = (socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in range(2))
        half.sendall(head + body[:100])
        whole.sendall(head + body)
        reached = 0
        while reached < 60:  # until the whole request is in the line, or answered already
            health = httpx.get(f"http://127.0.0.1:{server.port}/api/health", timeout=PATIENCE).json()
            reached = health["waiting"] + health["images"]
        code, _ = server.end()
        answers = []
        for client in (whole, half):
            with client, client.makefile("rb") as stream:
                answers.append(stream.read())
    assert code == 0
    assert answers[0].startswith(b"HTTP/1.1 200 ")
    assert len(json.loads(answers[0].partition(b"\r\n\r\n")[2])["results"]) == 60
    assert answers[1].startswith(b"HTTP/1.1 503 ")
    assert b"shutting down" in answers[1]


def test_limits_of_the_command_line_hold_and_another_address_is_warned_about(run: Path, tmp_path: Path) -> None:
    with started(run, tmp_path / "work", "host=0.0.0.0", "max_pixels=1000", "max_files=2", "max_bytes=50000") as server:
        address = f"http://127.0.0.1:{server.port}/api"
        limits = httpx.get(f"{address}/model", timeout=PATIENCE).json()["limits"]
        assert limits == {"max_bytes": 50_000, "max_files": 2, "max_pixels": 1000}
        one = httpx.post(f"{address}/predict", files={"files": ("a.png", png(0))}, timeout=PATIENCE)
        assert one.json()["results"][0]["error"] == "a.png: too many pixels: 30 x 40 is more than 1,000"
        many = httpx.post(f"{address}/predict", files=[("files", ("a.png", png(0)))] * 3, timeout=PATIENCE)
        assert (many.status_code, many.json()["limit"]) == (413, 2)
        large = httpx.post(f"{address}/predict", files={"files": ("a.png", bytes(60_000))}, timeout=PATIENCE)
        assert (large.status_code, large.json()["limit"]) == (413, 50_000)
        code, said = server.end()
    assert code == 0
    assert "warning: host=0.0.0.0 lets other machines" in said


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


def test_a_crowd_and_hostile_clients_get_right_answers_or_refusals(run: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "serve_load.py"),
        f"run={run}",
        "clients=30",
        "rounds=1",
        "each=1",
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["answered"], summary["wrong"], summary["never_ended"], summary["exit"]) == (60, 0, 0, 0)
    assert summary["largest_difference"] <= 1e-6
    for outcome in (
        "broken form: 400",
        "no images: 200",
        "another site's name: 421",
        "says it is 5 GB: 413",
        "half a body: 408",
    ):
        assert outcome in done.stdout

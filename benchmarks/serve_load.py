"""The server under load and under abuse: latency, throughput, memory, and whether each answer is the one of predict.py.

python benchmarks/serve_load.py run=RUN images=FOLDER                 # 200 requests at once, 5 rounds
python benchmarks/serve_load.py run=RUN images=FOLDER clients=20 rounds=2 abuse=false

Each round sends one image a request, all at the same moment, once with nothing else and once among clients that send broken
forms, files that are no images, far too much, half a request and then nothing, or that hang up. Ends
with 1 if an answer is wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.appearance import look
from datamodules.errors import UnreadableImageError
from datamodules.images import looks_like_image
from workflow.answers import Unread, answers_of
from workflow.predictor import load_predictor

ROOT = Path(__file__).resolve().parents[1]
BOUNDARY = b"----firstread-load"
SCORES = ("score",)  # the recalibrated one follows from it
WORDS = ("decision", "borderline", "error", "image_id", "most_probable")


@dataclass
class Round:
    """What one round of requests measured."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    largest_difference: float = 0.0
    rss: int = 0
    hostile: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    port: int

    @property
    def rss(self) -> int:
        """Its memory in MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) // 1024

    @property
    def cpu(self) -> float:
        """Seconds of processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def started(run: Path, *further: str) -> Server:
    """Start ``serve.py`` at a free port and wait until it answers."""
    command = [sys.executable, str(ROOT / "serve.py"), f"run={run}", "port=0", *further]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"serving at http://127\.0\.0\.1:(\d+)/", line):
            return Server(process, int(found[1]))
    raise SystemExit(f"the server ended with {process.wait()} before it answered: {''.join(said)}")


def form(files: Sequence[tuple[str, bytes]]) -> bytes:
    """A body of multipart/form-data."""
    parts = [
        b'--%b\r\nContent-Disposition: form-data; name="files"; filename="%b"\r\n\r\n%b\r\n'
        % (BOUNDARY, name.encode(), content)
        for name, content in files
    ]
    return b"".join(parts) + b"--%b--\r\n" % BOUNDARY


def head(length: int, path: str = "/api/predict", host: str = "127.0.0.1") -> bytes:
    """The head of a request that posts a form."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n\r\n"
    ).encode()


async def exchange(port: int, request: bytes, patience: float = 240.0) -> tuple[int, bytes]:
    """Status and body of the answer to a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(patience):
            answer = await reader.read()
    finally:
        writer.close()
    first, _, body = answer.partition(b"\r\n\r\n")
    return int(first.split()[1]) if first else 0, body


async def ask(port: int, name: str, content: bytes, expected: dict[str, Any], measured: Round) -> None:
    """One image in one request; its answer is compared."""
    body = form([(name, content)])
    begun = time.perf_counter()
    status, answer = await exchange(port, head(len(body)) + body)
    measured.latencies.append(time.perf_counter() - begun)
    measured.statuses[status] += 1
    if status == 200:
        difference = compared(json.loads(answer)["results"][0], expected)
        measured.largest_difference = max(measured.largest_difference, difference)
        measured.wrong += difference > 1e-6
    elif status != 503:
        measured.wrong += 1


def compared(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest difference between two answers; infinite where their words differ."""
    if any(found[name] != expected[name] for name in WORDS) or found["reasons"] != list(expected["reasons"]):
        return float("inf")
    pairs = [(found[name], expected[name]) for name in SCORES]
    pairs += zip(found["probabilities"] or [], expected["probabilities"] or [], strict=True)
    return max((abs(a - b) for a, b in pairs if a is not None and b is not None), default=0.0)


def expected_of(run: Path, images: Sequence[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """What predict.py says of the same bytes, in batches of 64."""
    predictor = load_predictor(run)
    decoding = predictor.decoding
    size, channels, interpolation = (decoding[name] for name in ("image_size", "channels", "interpolation"))
    seen: list[Any] = []
    for name, content in images:
        try:
            seen.append(look(content, name=name, size=size, channels=channels, interpolation=interpolation))
        except UnreadableImageError as error:
            seen.append(Unread(str(error)))
    answers = []
    for start in range(0, len(seen), 64):
        part = slice(start, start + 64)
        answers += answers_of(predictor, seen[part], [name for name, _ in images[part]])
    return [answer.to_dict() for answer in answers]


async def endless(port: int) -> int:
    """It does not say how large it is, and goes on and on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    start = form([("a.png", b"")]).partition(b"\r\n--" + BOUNDARY + b"--")[0]
    writer.write(head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
    chunk = b"%x\r\n%b\r\n" % (1 << 20, b"x" * (1 << 20))
    writer.write(b"%x\r\n%b\r\n" % (len(start), start))
    try:
        for _ in range(400):
            writer.write(chunk)
            await writer.drain()
            if reader._buffer or reader.at_eof():  # type: ignore[attr-defined]
                break
        async with asyncio.timeout(30):
            return int((await reader.read(12)).split()[1])
    finally:
        writer.close()


async def hang_up(port: int, request: bytes) -> int:
    """A whole image, and nobody waits for its answer."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    writer.transport.abort()
    return -1


def hostile(port: int, image: bytes) -> dict[str, Callable[[], Coroutine[Any, Any, int]]]:
    """The clients that nobody wants, by name; each ends with the status that it got, 0 if it was only closed."""

    def posted(body: bytes, host: str = "127.0.0.1") -> bytes:
        return head(len(body), host=host) + body

    giant = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (20_000).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0" + bytes(4)
    whole = form([("slow.png", image)])
    sent = {
        "broken form": posted(b"--wrong\r\nContent-Disposition: nonsense\r\n\r\n" + os.urandom(5_000)),
        "no images": posted(form([("text.jpg", b"no image" * 50), ("giant.png", giant), ("empty.png", b"")])),
        "no HTTP": b"\x16\x03\x01" + os.urandom(300) + b"\r\n\r\n",
        "says it is 5 GB": head(5_000_000_000) + b"x" * 100_000,
        "half a head": b"POST /api/predict HTTP/1.1\r\nHost: 127.",
        "half a body": posted(whole)[: -len(whole) // 2],
        "another site's name": posted(whole, host="evil.example"),
    }

    def one(request: bytes) -> Callable[[], Coroutine[Any, Any, int]]:
        async def status() -> int:
            return (await exchange(port, request))[0]

        return status

    return {
        **{name: one(request) for name, request in sent.items()},
        "never ends": lambda: endless(port),
        "hangs up": lambda: hang_up(port, posted(whole)),
    }


async def one_round(
    server: Server, images: Sequence[tuple[str, bytes]], expected: Sequence[dict[str, Any]], each: int
) -> Round:
    """All images at once, with so many of each hostile client among them."""
    measured = Round()
    work: list[Awaitable[Any]] = [
        ask(server.port, name, content, wanted, measured)
        for (name, content), wanted in zip(images, expected, strict=True)
    ]
    begun = time.perf_counter()
    bad = hostile(server.port, images[0][1])
    others = [asyncio.create_task(_counted(name, make, measured)) for name, make in bad.items() for _ in range(each)]
    await asyncio.gather(*work)
    measured.seconds = time.perf_counter() - begun
    await asyncio.gather(*others)
    measured.rss = server.rss
    return measured


async def _counted(name: str, make: Callable[[], Coroutine[Any, Any, int]], measured: Round) -> None:
    try:
        status = await make()
    except TimeoutError:  # before OSError, of which it is one
        status = -2
    except (OSError, asyncio.IncompleteReadError, IndexError):
        status = 0
    measured.hostile[f"{name}: {_OUTCOME.get(status, status)}"] += 1


_OUTCOME = {0: "closed", -1: "gone", -2: "NEVER ENDED"}


def _images(folder: Path | None, count: int) -> list[tuple[str, bytes]]:
    """Files of a folder, evenly spread; drawn ones without a folder. Every 40th is one that cannot be read."""
    found: list[tuple[str, bytes]] = []
    if folder is not None:
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and looks_like_image(path))
        chosen = [paths[at * len(paths) // count % len(paths)] for at in range(count)]
        found = [(path.name, path.read_bytes()) for path in chosen]
    else:
        import cv2

        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (64, 48), dtype=np.uint8)
            found.append((f"{number}.png", cv2.imencode(".png", pixels)[1].tobytes()))
    return [
        (name, content[: len(content) // 2]) if at % 40 == 39 else (name, content)
        for at, (name, content) in enumerate(found)
    ]


def _line(title: str, measured: Round) -> str:
    p50, p95 = (np.percentile(measured.latencies, q) for q in (50, 95))
    answers = ", ".join(f"{count} x {status}" for status, count in sorted(measured.statuses.items()))
    return (
        f"{title:<12}{len(measured.latencies) / measured.seconds:7.1f} requests/s   p50 {p50:6.3f} s   p95 {p95:6.3f} s   "
        f"{answers}   wrong {measured.wrong}   largest difference {measured.largest_difference:.1e}   memory {measured.rss} MB"
    )


def main(argv: list[str]) -> int:
    """Print one line a round, then a JSON summary; 1 where something is wrong."""
    given = dict(text.split("=", 1) for text in argv)
    run, folder = Path(given["run"]), given.get("images")
    clients, rounds = int(given.get("clients", 200)), int(given.get("rounds", 5))
    each = int(given.get("each", 5)) if given.get("abuse", "true") == "true" else 0
    images = _images(Path(folder) if folder else None, clients)
    expected = expected_of(run, images)
    server = started(run, "max_bytes=20000000")
    cpu = server.cpu
    try:
        print(f"memory before: {server.rss} MB", flush=True)
        done = []
        for number in range(rounds):
            for title, count in (("plain", 0), ("with abuse", each)):
                if title == "plain" or count:
                    done.append((title, asyncio.run(one_round(server, images, expected, count))))
                    print(_line(f"{number + 1} {title}", done[-1][1]), flush=True)
        cpu = server.cpu - cpu
        begun = time.perf_counter()
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(timeout=60)
        ended = time.perf_counter() - begun
    finally:
        server.process.kill()
    abuse: Counter[str] = sum((measured.hostile for _, measured in done), Counter())
    for name, count in sorted(abuse.items()):
        print(f"  {name:<36}{count}")
    answered = sum(measured.statuses[200] for _, measured in done)
    summary: dict[str, Any] = {
        "answered": answered,
        "wrong": sum(measured.wrong for _, measured in done),
        "never_ended": sum(count for name, count in abuse.items() if "NEVER" in name),
        "exit": code,
        "ended_after": round(ended, 1),
        "server_cpu_ms_per_answer": round(1000 * cpu / max(answered, 1), 1),
        "largest_difference": max(measured.largest_difference for _, measured in done),
        "memory_mb": [measured.rss for _, measured in done],
    }
    print(json.dumps(summary))
    return int(bool(summary["wrong"] or summary["never_ended"] or code))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

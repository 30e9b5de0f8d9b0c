"""Building the decoded cache: killed and resumed, twice at once, damaged and repaired, on a full disk."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules import cache, cache_build
from datamodules.cache import open_cache, path_of
from datamodules.cache_build import BLOCK, header_of
from datamodules.errors import DataError, UnreadableImageError
from datamodules.images import inspect_image, read_image
from datamodules.pixel_source import ImageFiles
from tests.commands import ROOT
from tests.conftest import write_image

IMAGES = 3 * BLOCK + 10


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{number}.jpeg" for number in range(IMAGES)]
    for number, path in enumerate(paths):
        write_image(path, number)
    return paths


@pytest.fixture
def files(originals: list[Path]) -> ImageFiles:
    return ImageFiles(originals, [inspect_image(path).sha256 for path in originals], 16, 1)


class Counter:
    """A progress bar that notes its titles, its totals and what was done."""

    def __init__(self) -> None:
        self.bars: list[list[Any]] = []

    @contextmanager
    def __call__(self, title: str, total: int) -> Iterator[Any]:
        bar = [title, total, 0]
        self.bars.append(bar)

        def advance(count: int) -> None:
            bar[2] += count

        yield advance


def opened(folder: Path, files: ImageFiles, counter: Counter | None = None) -> NDArray[np.uint8]:
    progress = Counter() if counter is None else counter
    return open_cache(folder, files.names, files.contents, size=files.size, channels=files.channels, progress=progress)


def decoded(files: ImageFiles) -> NDArray[np.uint8]:
    return np.stack([read_image(path, files.size, files.channels) for path in files.names])


def names(folder: Path) -> set[str]:
    return {re.sub(r"16x16x1-[0-9a-f]{16}", "NAME", path.name) for path in folder.iterdir()}


def test_cache_holds_the_decoded_images(files: ImageFiles, tmp_path: Path) -> None:
    counter = Counter()
    pixels = opened(tmp_path, files, counter)
    assert (pixels == decoded(files)).all()
    assert counter.bars == [["decoding to 16 x 16", IMAGES, IMAGES]]
    assert names(tmp_path) == {"NAME.npy", "NAME.json", "NAME.lock", "NAME.used.lock"}
    again = opened(tmp_path, files, counter)
    assert len(counter.bars) == 1, "the second time nothing is decoded"
    assert (again == pixels).all()
    assert not again.flags.writeable


SLOW = """
import json, sys, time
from pathlib import Path
from datamodules import pixel_source
from datamodules.cache import open_cache
from datamodules.images import read_image
def slow(*arguments, **more):
    time.sleep(0.02)
    return read_image(*arguments, **more)
pixel_source.read_image = slow
folder, paths, contents = json.loads(sys.stdin.read())
open_cache(Path(folder), [Path(path) for path in paths], contents, size=16, channels=1)
print("built")
"""


def slow_process(folder: Path, files: ImageFiles) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps([str(folder), [str(path) for path in files.names], files.contents]))
    process.stdin.close()
    return process


def journal_lines(folder: Path) -> int:
    found = list(folder.glob(".*.journal")) if folder.is_dir() else []
    return len(found[0].read_text().splitlines()) if found else 0


def test_a_killed_build_goes_on_where_it_was(files: ImageFiles, tmp_path: Path) -> None:
    process = slow_process(tmp_path, files)
    until = time.monotonic() + 60
    while journal_lines(tmp_path) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = journal_lines(tmp_path) - 1
    assert done >= 1
    assert names(tmp_path) >= {".NAME.part", ".NAME.journal"}
    assert not path_of(tmp_path, files).exists(), "nothing that could be taken for a cache"
    counter = Counter()
    assert (opened(tmp_path, files, counter) == decoded(files)).all()
    assert counter.bars[0][1] == counter.bars[0][2] == IMAGES - done * BLOCK, "what was decoded is not decoded again"
    assert not list(tmp_path.glob(".*"))


def test_two_processes_decode_once(files: ImageFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "firstread")
    first = slow_process(tmp_path, files)
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".*.part")) and time.monotonic() < until:
        time.sleep(0.01)
    counter = Counter()
    assert (opened(tmp_path, files, counter) == decoded(files)).all()
    assert counter.bars == [], "the second waited, and found it"
    assert caplog.messages == ["another process is decoding the same images; waiting for it"]
    assert first.wait(60) == 0


def test_an_unreadable_file_stops_and_what_was_decoded_stays(files: ImageFiles, tmp_path: Path) -> None:
    broken = tmp_path / "150.jpeg"
    changed = ImageFiles([*files.names[:150], broken, *files.names[151:]], files.contents, 16, 1)
    with pytest.raises(UnreadableImageError, match=r"150\.jpeg"):
        opened(tmp_path / "cache", changed)
    assert not path_of(tmp_path / "cache", files).exists()
    broken.write_bytes(files.names[150].read_bytes())
    counter = Counter()
    assert (opened(tmp_path / "cache", changed, counter) == decoded(files)).all()
    assert counter.bars[0][1] < IMAGES


def stopped(folder: Path, files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A build that is stopped before its end: the unfinished array of all blocks, and its journal."""
    with monkeypatch.context() as patch:
        patch.setattr(cache_build, "write_record", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            opened(folder, files)
    return cache_build.unfinished_files(path_of(folder, files))


def test_a_journal_is_believed_only_as_far_as_it_is_right(
    files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, journal = stopped(tmp_path, files, monkeypatch)
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 4
    content = bytearray(part.read_bytes())
    content[cache_build.place_of(files, 1)[0] + 5] ^= 1  # a block that never reached the disk
    part.write_bytes(content)
    journal.write_text("".join(lines[:4]) + lines[4].rstrip()[:-1])  # and a line that was cut off
    counter = Counter()
    assert (opened(tmp_path, files, counter) == decoded(files)).all()
    assert counter.bars[0][1] == BLOCK + 10


@pytest.mark.parametrize("text", ["", "of another key 64\n0 0\n", "\0\0\0\n", "\udcff"])
def test_another_journal_is_not_believed(
    files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    _, journal = stopped(tmp_path, files, monkeypatch)
    journal.write_bytes(text.encode(errors="surrogateescape"))
    counter = Counter()
    assert (opened(tmp_path, files, counter) == decoded(files)).all()
    assert counter.bars[0][1] == IMAGES


def test_a_kill_between_the_record_and_the_array_costs_nothing(
    files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(
            cache_build.os, "replace", lambda old, new: killed() if str(old).endswith(".part") else os.rename(old, new)
        )
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path, files)
    counter = Counter()
    assert (opened(tmp_path, files, counter) == decoded(files)).all()
    assert counter.bars == [["decoding to 16 x 16", 0, 0]]


def damage(path: Path, place: int) -> None:
    """Another byte, with the date that the file had."""
    about = path.stat()
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.parametrize("row", [0, BLOCK, IMAGES - 1])
def test_a_damaged_byte_costs_one_block(
    files: ImageFiles, tmp_path: Path, row: int, caplog: pytest.LogCaptureFixture
) -> None:
    opened(tmp_path, files)
    path = path_of(tmp_path, files)
    damage(path, len(header_of(files.shape)) + row * 256 + 3)
    counter = Counter()
    assert (opened(tmp_path, files, counter) == decoded(files)).all()
    images = 10 if row == IMAGES - 1 else BLOCK
    assert counter.bars == [["decoding damaged blocks again", images, images]]
    assert f"is damaged; {images} of {IMAGES} images are decoded again" in caplog.text
    assert not opened_bars(tmp_path, files)


def opened_bars(folder: Path, files: ImageFiles) -> list[list[Any]]:
    counter = Counter()
    opened(folder, files, counter)
    return counter.bars


@pytest.mark.parametrize("lost", [100, 256 * 70, 256 * IMAGES + 5])
def test_a_cut_off_array_is_made_whole(files: ImageFiles, tmp_path: Path, lost: int) -> None:
    opened(tmp_path, files)
    path = path_of(tmp_path, files)
    path.write_bytes(path.read_bytes()[:-lost])
    assert (opened(tmp_path, files) == decoded(files)).all()
    assert not opened_bars(tmp_path, files)


def test_a_damaged_header_and_record_are_made_good(files: ImageFiles, tmp_path: Path) -> None:
    opened(tmp_path, files)
    path = path_of(tmp_path, files)
    damage(path, 20)
    assert (opened(tmp_path, files) == decoded(files)).all()
    path.with_suffix(".json").write_text("{", encoding="utf-8")
    assert (opened(tmp_path, files) == decoded(files)).all()
    record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert len(record["crc32"]) == 4


def test_large_arrays_are_checked_in_part_unless_they_are_not_the_ones_that_were_checked(
    files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_CHEAP", 0)
    monkeypatch.setattr(cache, "_SPOT_CHECKS", 2)
    compared: list[int] = []
    plain = cache_build.damaged_blocks

    def counting(descriptor: int, about: ImageFiles, crcs: dict[int, int]) -> set[int]:
        compared.append(len(crcs))
        return plain(descriptor, about, crcs)

    monkeypatch.setattr(cache, "damaged_blocks", counting)
    opened(tmp_path, files)
    opened(tmp_path, files)
    assert compared == [2]
    path = path_of(tmp_path, files)
    os.utime(path)  # somebody wrote to it, or copied it
    opened(tmp_path, files)
    opened(tmp_path, files)
    assert compared == [2, 4, 2]
    for block in range(4):
        damage(path, cache_build.place_of(files, block)[0])
    assert (opened(tmp_path, files) == decoded(files)).all()
    assert compared[3:] == [2, 4], "where one is damaged, all are compared"


def test_an_array_of_a_version_without_checksums_is_taken_over(files: ImageFiles, tmp_path: Path) -> None:
    opened(tmp_path, files)
    record = path_of(tmp_path, files).with_suffix(".json")
    facts = json.loads(record.read_text(encoding="utf-8"))
    record.write_text(json.dumps({name: facts[name] for name in ("key", "shape", "bytes")}), encoding="utf-8")
    assert not opened_bars(tmp_path, files)
    assert json.loads(record.read_text(encoding="utf-8"))["crc32"] == facts["crc32"]


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_a_full_disk_is_an_error_in_words(
    files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    plain, calls = getattr(os, call), [0]

    def full(*given: Any) -> Any:
        calls[0] += 1
        if call == "posix_fallocate" or calls[0] > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(*given)

    with monkeypatch.context() as patch:
        patch.setattr(cache_build.os, call, full)
        with pytest.raises(
            DataError, match=r"data\.cache=disk: 202 images of 16 x 16 grey take 52 kB, but only .* are free"
        ):
            opened(tmp_path, files)
    assert bool(list(tmp_path.glob(".*.part"))) == (call == "pwrite"), "what was decoded stays; an empty file does not"
    counter = Counter()
    assert (opened(tmp_path, files, counter) == decoded(files)).all()
    assert (counter.bars[0][1] < IMAGES) == (call == "pwrite")


def test_a_file_system_that_reserves_no_space_will_do(
    files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(cache_build.os, "posix_fallocate", refused)
    assert (opened(tmp_path, files) == decoded(files)).all()

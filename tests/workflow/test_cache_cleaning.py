"""Clean-up of decoded images and features: longest not used first, by command only, and never what a process uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from conf.cache_options import parsed
from datamodules.cache import open_cache, path_of
from datamodules.cache_use import lock_file, use_file
from datamodules.features import feature_store
from datamodules.images import inspect_image
from datamodules.pixel_source import ImageFiles
from tests.commands import ROOT
from tests.conftest import make_chest_xray, run_prepare, write_image
from workflow.cache_cleaning import DECODED, FEATURES, UNFINISHED, Kept, kept_in, remove, to_remove, verified
from workflow.cache_command import run

DAY, NOW = 86400.0, 1_000_000_000.0
HOLD = """
import sys, numpy as np
from pathlib import Path
from datamodules.cache_use import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def item(name: str, size: int, days: float, busy: bool = False) -> Kept:
    return Kept(Path(name), Path(name), (Path(name),), DECODED, size, NOW - days * DAY, busy)


def chosen(kept: list[Kept], *, keep: int | None = None, older: float | None = None) -> list[str]:
    return [found.path.name for found in to_remove(kept, keep=keep, older=older, now=NOW)]


def test_longest_not_used_goes_first() -> None:
    kept = [item("a", 10, 5), item("b", 10, 100), item("c", 10, 50), item("d", 10, 1)]
    assert chosen(kept, keep=40) == []
    assert chosen(kept, keep=39) == ["b"]
    assert chosen(kept, keep=20) == ["b", "c"]
    assert chosen(kept, keep=0) == ["b", "c", "a", "d"]
    assert chosen(kept, older=20 * DAY) == ["b", "c"]
    assert chosen(kept, older=200 * DAY) == []
    assert chosen(kept, older=20 * DAY, keep=10) == ["b", "c", "a"]
    assert chosen(kept, older=20 * DAY, keep=100) == ["b", "c"]


def test_what_is_in_use_stays_and_counts() -> None:
    kept = [item("a", 10, 5), item("b", 10, 100, busy=True), item("c", 10, 50)]
    assert chosen(kept, keep=20) == ["c"]
    assert chosen(kept, keep=0) == ["c", "a"]
    assert chosen(kept, older=1 * DAY) == ["c", "a"]


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Two decoded arrays, a feature store, an unfinished array and a file that an old version left behind."""
    folder = tmp_path / "prepared"
    cache = folder / "mine-01234567" / "cache"
    for size, days in ((16, 30), (20, 10)):
        path = decoded(tmp_path, cache, size)
        set_used(path, days)
    rows = np.arange(3)
    pixels = np.zeros((3, 4, 4, 1), dtype=np.uint8)
    store = feature_store(folder / "mine-01234567" / "tasks" / "a-1" / "features", {}, pixels, rows, rows[:0], 1)
    store.write([np.zeros((3, 7), dtype=np.float32)])
    use_file(store.path).touch()
    set_used(store.path, 20)
    (cache / ".32x32x1-0123.part").write_bytes(bytes(5000))
    (cache / ".32x32x1-0123.journal").write_text("key 64\n0 1\n")
    (cache / ".32x32x1-4567.991.npy").write_bytes(bytes(100))
    for name in (".32x32x1-0123.part", ".32x32x1-4567.991.npy"):
        os.utime(cache / name, (0, 0))
    return folder


def decoded(tmp_path: Path, folder: Path, size: int) -> Path:
    """A decoded array that no process holds: made by another one, which has ended."""
    paths = [tmp_path / "images" / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        write_image(path, number)
    files = ImageFiles(paths, [inspect_image(path).sha256 for path in paths], size, 1)
    if not (child := os.fork()):
        try:
            open_cache(folder, files.names, files.contents, size=size, channels=1)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    return path_of(folder, files)


def set_used(path: Path, days: float) -> None:
    about = use_file(path).stat().st_mtime - days * DAY
    os.utime(use_file(path), (about, about))


def test_everything_that_is_kept_is_found_oldest_use_first(prepared: Path) -> None:
    found = kept_in(prepared)
    assert [item.kind for item in found] == [UNFINISHED, UNFINISHED, DECODED, FEATURES, DECODED]
    assert [item.path.name[:5] for item in found[2:]] == ["16x16", "featu", "20x20"]
    assert not any(item.busy for item in found)
    assert all(item.size >= sum(file.stat().st_size for file in item.files) - 512 for item in found)
    assert kept_in(prepared / "nowhere") == []


def test_opening_counts_as_use(prepared: Path, tmp_path: Path) -> None:
    oldest = next(item for item in kept_in(prepared) if item.kind == DECODED)
    decoded(tmp_path, oldest.path.parent, 16)
    assert [item.path for item in kept_in(prepared)][-1] == oldest.path


def test_removal_takes_all_files_and_leaves_the_rest(prepared: Path) -> None:
    kept = kept_in(prepared)
    assert [gone for _, gone in remove(kept[:4])] == [True] * 4
    left = {path.name for path in prepared.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert left == {kept[4].path.name, f"{kept[4].path.stem}.json"}
    assert not verified(kept[4])


def test_what_a_running_process_uses_stays(prepared: Path) -> None:
    kept = [item for item in kept_in(prepared) if item.kind == DECODED]
    command = [sys.executable, "-c", HOLD, str(kept[0].path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert [item.busy for item in kept_in(prepared) if item.path == kept[0].path] == [True]
        assert [gone for _, gone in remove(kept)] == [False, True], "it began to use it after the list was made"
        assert kept[0].path.is_file()
        process.communicate()
    assert [gone for _, gone in remove(kept[:1])] == [True]


def test_what_is_being_made_stays(prepared: Path) -> None:
    part = next(item for item in kept_in(prepared) if item.path.suffix == ".part")
    assert part.whole.name == "32x32x1-0123.npy"
    with FileLock(lock_file(part.whole)):
        assert [item.busy for item in kept_in(prepared) if item.path == part.path] == [True]
        assert [gone for _, gone in remove([part])] == [False]
    assert [gone for _, gone in remove([part])] == [True]


def test_damage_is_found_named_and_repaired_by_the_next_run(prepared: Path, tmp_path: Path) -> None:
    item = next(item for item in kept_in(prepared) if item.kind == DECODED)
    good = item.path.read_bytes()
    assert verified(item) == ""
    about = item.path.stat()
    item.path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    os.utime(item.path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert verified(item).startswith("1 of 1 blocks are damaged")
    assert json.loads(item.path.with_suffix(".json").read_text())["checked"] is None
    decoded(tmp_path, item.path.parent, 16)
    assert item.path.read_bytes() == good
    item.path.write_bytes(good[:-7])
    assert "bytes in place of" in verified(item)
    item.path.with_suffix(".json").unlink()
    assert "without a usable record" in verified(item)


def test_the_command_says_what_it_does(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(parsed(["cache=list"]), prepared) == 0
    assert "30 days ago" in capsys.readouterr().out
    assert run(parsed(["cache=verify"]), prepared) == 0
    assert "5 of 5 are sound" in capsys.readouterr().out
    before = sorted(prepared.rglob("*"))
    assert run(parsed(["cache=clean", "older=15d"]), prepared) == 2
    said = capsys.readouterr()
    assert "would be freed" in said.out
    assert "add yes=true" in said.err
    assert sorted(prepared.rglob("*")) == before, "nothing without a yes"
    assert run(parsed(["cache=clean", "older=15d", "yes=true"]), prepared) == 0
    assert [item.path.name[:5] for item in kept_in(prepared)] == ["20x20"]
    assert run(parsed(["cache=clean", "keep=1GB"]), prepared) == 0
    assert run(parsed(["cache=clean", "keep=0", "yes=true"]), prepared) == 0
    assert run(parsed(["cache=list"]), prepared) == 0
    assert "nothing is kept" in capsys.readouterr().out


@pytest.mark.parametrize(("answer", "gone"), [("y", True), ("", False), ("no", False)])
def test_it_asks_in_a_terminal(prepared: Path, monkeypatch: pytest.MonkeyPatch, answer: str, gone: bool) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda text: answer)
    assert run(parsed(["cache=clean", "keep=0"]), prepared) == 0
    assert (kept_in(prepared) == []) == gone


def test_as_a_user_types_it(tmp_path: Path) -> None:
    root = make_chest_xray(tmp_path / "chest_xray", train_patients=20)
    done = run_prepare(f"data.root={root}", "model.image_size=16", "split.val_fraction=0.2", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "decoded cache: " in done.stdout
    listed = run_prepare("cache=list", home=tmp_path)
    assert listed.returncode == 0
    assert "decoded images" in listed.stdout
    assert run_prepare("cache=clean", "keep=0", "yes=true", home=tmp_path).returncode == 0
    assert not list((tmp_path / "prepared").rglob("16x16*.npy"))
    wrong = run_prepare("cache=clean", "keep=20", home=tmp_path)
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False)
    assert "keep=20: must be a size" in wrong.stderr
    assert "older" in run_prepare("cache=list", "--help", home=tmp_path).stdout
    assert "prepare.py cache=clean keep=20GB" in run_prepare("--help", home=tmp_path).stdout


def test_the_command_loads_nothing_heavy() -> None:
    code = (
        "import sys, prepare; from conf.cache_options import parsed; import workflow.cache_command; "
        "print([name for name in ('torch', 'pandas', 'cv2', 'PIL', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"

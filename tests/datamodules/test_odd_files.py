"""Whatever lies in a folder of images is read or refused with a reason: no crash, no hang, no noise, no leak of a name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests.conftest import ROOT
from tests.datamodules.odd_dicom import SECRET
from tests.datamodules.odd_files import PAGE, READ, odd_files, table

_SCRIPT = """
import json, signal, sys
from pathlib import Path
from datamodules.errors import UnreadableImageError
from datamodules.images import read_image
from datamodules.index import index_files

root, memory, names = Path(sys.argv[1]), Path(sys.argv[2]), json.load(sys.stdin)
signal.alarm(300)
facts = index_files(root, names, memory)
errors = {}
for name in names:
    signal.alarm(30)  # a file that hangs the reader kills this process
    try:
        pixels = read_image(root / name, 16, 3)
        assert pixels.shape == (16, 16, 3) and pixels.dtype.name == "uint8"
        errors[name] = ""
    except UnreadableImageError as error:
        errors[name] = str(error)
signal.alarm(0)
status = Path("/proc/self/status")
peak = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")] if status.is_file() else []
print(json.dumps({"facts": facts.to_dict("records"), "read": errors, "peak_kib": int(peak[0]) if peak else 0}))
"""
ODD = {odd.name: odd for odd in odd_files()}
AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@dataclass(frozen=True)
class Outcome:
    inspected: dict[str, str]
    read: dict[str, str]
    peak_mib: float
    stdout: str
    stderr: str
    memory: str
    left: list[str]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    root, elsewhere = tmp_path_factory.mktemp("odd"), tmp_path_factory.mktemp("memory")
    for odd in ODD.values():
        odd.write(root / odd.name)
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(root), str(elsewhere / "index.csv")],
        input=json.dumps(list(ODD)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    left = sorted(entry.name for entry in os.scandir(root))
    (root / "sparse.jpg").unlink()
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return Outcome(
        {row["image_id"]: row["error"] for row in found["facts"]},
        found["read"],
        found["peak_kib"] / 1024,
        done.stdout,
        done.stderr,
        (elsewhere / "index.csv").read_text(encoding="utf-8"),
        left,
    )


def test_there_are_many() -> None:
    assert len(ODD) == len(odd_files()) >= 80


@pytest.mark.parametrize("name", list(ODD))
def test_read_or_refused_with_its_reason(name: str, outcome: Outcome) -> None:
    if name == "forbidden.jpg" and AS_ROOT:
        pytest.skip("root may read every file")
    expected = "" if ODD[name].outcome == READ else f"{name}: {ODD[name].outcome}"
    assert outcome.inspected[name] == expected
    assert outcome.read[name] == expected


def test_nothing_is_printed(outcome: Outcome) -> None:
    assert outcome.stderr == ""
    assert len(outcome.stdout.splitlines()) == 1


def test_no_text_of_a_header_gets_out(outcome: Outcome) -> None:
    for text in (outcome.stdout, outcome.stderr, outcome.memory):
        assert SECRET not in text


def test_nothing_is_left_in_the_folder_of_images(outcome: Outcome) -> None:
    assert outcome.left == sorted(ODD)


def test_memory_stays_bounded(outcome: Outcome) -> None:
    if not outcome.peak_mib:
        pytest.skip("this system does not tell the peak of a process")
    assert outcome.peak_mib < 900, "the largest picture of the folder has 160,000 pixels"


def test_reasons_are_one_short_line() -> None:
    for odd in ODD.values():
        assert len(odd.outcome) < 140, odd.name
        assert not {"\n", "|"} & set(odd.outcome + odd.oddity), odd.name


def test_the_page_shows_this_very_list() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text[text.index("| file |") :] == table(), "run: python -m tests.datamodules.odd_files"

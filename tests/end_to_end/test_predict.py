"""predict.py as it is typed: exit codes, bad input of all kinds, and a command that is killed and typed again."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from conf.predict_options import parsed
from datamodules.progress import silent
from tests.commands import ROOT, WarmCommand, environment_of
from tests.conftest import make_chest_xray, run_command, write_image
from tests.datamodules.odd_dicom import SECRET, plain, ramp
from tests.workflow.tiny_run import tiny_run
from workflow.predicting import predict as do_predict
from workflow.prediction_inputs import find_inputs
from workflow.predictor import load_predictor


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    return tiny_run(place / "run", make_chest_xray(place / "chest_xray"), place / "home")


def predict(place: Path, *arguments: str, warm: bool = True) -> subprocess.CompletedProcess[str]:
    return run_command("predict.py", *arguments, home=place, warm=warm)


def rows(output: Path) -> dict[str, dict[str, str]]:
    with (output / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return {row["image_id"]: row for row in csv.DictReader(file)}


def huge_png(path: Path, side: int) -> None:
    """A whole and valid PNG file of many more pixels than bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    packer = zlib.compressobj(1)
    line = bytes(1 + side)
    data = b"".join(packer.compress(line) for _ in range(side)) + packer.flush()
    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def test_a_folder_with_everything_in_it(place: Path, run: Path) -> None:
    scans = place / "scans"
    for number in range(3):
        write_image(scans / f"good{number}.png", number)
    (scans / "letter.jpg").write_text("Dear doctor, here is the picture that you asked for.", encoding="utf-8")
    (scans / "nothing.png").write_bytes(b"")
    (scans / "readme.md").write_text("no image", encoding="utf-8")
    huge_png(scans / "huge.png", 20_000)
    # The same film, stored once with black as the lowest value and once with black as the highest.
    film = np.flipud(ramp())
    (scans / "mono2.dcm").write_bytes(plain(film))
    (scans / "mono1.dcm").write_bytes(plain(4095 - film, PhotometricInterpretation="MONOCHROME1"))
    (scans / "report.dcm").write_bytes(plain(film, PixelData=None))
    done = predict(place, f"run={run}", "images=scans", "output=out", "format=[csv,json]")
    assert done.returncode == 1, done.stderr
    found = rows(place / "out")
    assert list(found) == sorted(found)  # the order of the folder
    errors = {name: row["error"] for name, row in found.items() if row["error"]}
    assert errors == {
        "huge.png": "huge.png: too many pixels: 20000 x 20000 is more than 80,000,000",
        "letter.jpg": "letter.jpg: not an image file: it is text, not an image",
        "nothing.png": "nothing.png: the file is empty",
        "report.dcm": "report.dcm: it holds no pixel data",
    }
    assert found["mono1.dcm"]["score"] == found["mono2.dcm"]["score"] != found["good0.png"]["score"]
    assert {found[name]["decision"] for name in found if name not in errors} <= {"PNEUMONIA", "NORMAL"}
    text = " ".join(done.stdout.split())
    assert "4 could not be read:" in text and "1 other was left out: not named like an image" in text
    assert "Research and education only; not a medical device." in text
    everything = done.stdout + done.stderr + "".join(path.read_text() for path in (place / "out").iterdir())
    assert SECRET not in everything
    record = json.loads((place / "out" / "prediction.json").read_text(encoding="utf-8"))
    assert record["counts"]["unreadable"] == 4 and record["status"] == "finished"
    assert record["model"]["weights_sha256"] == [json.loads((run / "run.json").read_text())["weights_sha256"]]


def test_a_table_with_missing_files(place: Path, run: Path) -> None:
    write_image(place / "films" / "one.png", 1)
    (place / "films" / "list.csv").write_text("path,patient\none.png,p\ngone.png,p\n", encoding="utf-8")
    done = predict(place, f"run={run}", "images=films/list.csv", "output=listed")
    assert done.returncode == 1 and "gone.png: cannot be read (No such file or directory)" in done.stdout
    assert (place / "listed" / "groups.csv").is_file() and rows(place / "listed")["one.png"]["decision"]


def test_all_is_well_and_never_overwritten(place: Path, run: Path) -> None:
    write_image(place / "well" / "one.png", 1)
    given = (f"run={run / 'model'}", "images=well/*.png", "output=fine")
    done = predict(place, *given, warm=False)  # nor do the libraries say anything
    assert (done.returncode, done.stderr) == (0, "")
    again = predict(place, *given)
    assert again.returncode == 2 and "error: output=fine: this holds finished predictions" in again.stderr


def test_mistakes_are_named_before_torch_is_loaded(place: Path, run: Path) -> None:
    loads = "import sys, runpy; sys.argv = sys.argv[1:]\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    loads += "finally: print('heavy' if {'torch', 'numpy', 'pandas'} & set(sys.modules) else 'light')"
    for given in (["--help"], ["run=nowhere", "images=."], [f"run={run}", "images=nowhere"], [f"run={run}", "images"]):
        done = subprocess.run(
            [sys.executable, "-c", loads, str(ROOT / "predict.py"), *given],
            cwd=place, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stdout.endswith("light\n"), given
        assert done.returncode == (0 if given == ["--help"] else 2)


def interrupted(given: list[str], folder: Path, size: int, number: signal.Signals) -> tuple[int | None, str]:
    """Send a signal once the unfinished answers have so many bytes; the exit code and what was said."""
    working = WarmCommand("predict.py", tuple(given), folder, environment_of(folder))
    journal, deadline = folder / "out" / "unfinished.jsonl", time.monotonic() + 300
    while not (journal.is_file() and journal.stat().st_size > size) and time.monotonic() < deadline:
        time.sleep(0.002)
    working.send_signal(number)
    said, _ = working.communicate(timeout=300)
    assert journal.is_file(), said
    return working.returncode, said


def test_a_killed_command_goes_on_to_the_same_bytes(place: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place / "killed"
    for seed in range(10):
        write_image(folder / f"{seed}.png", seed)
    (folder / "9.png").write_bytes(b"")
    lines = [f"exam {row},{row % 10}.png,p{row // 7}" for row in range(1600)]
    (folder / "list.csv").write_text("\n".join(["image_id,path,patient", *lines]) + "\n", encoding="utf-8")
    given = [f"run={run}", f"images={folder / 'list.csv'}", "batch_size=4"]
    journal = folder / "out" / "unfinished.jsonl"
    code, _ = interrupted([*given, "output=out"], folder, 20_000, signal.SIGKILL)
    killed = len(journal.read_bytes().splitlines())
    assert code == -signal.SIGKILL and 1 < killed < 1600
    more = journal.stat().st_size + 20_000
    code, said = interrupted([*given, "output=out"], folder, more, signal.SIGTERM)
    assert code == 130 and killed < len(journal.read_bytes().splitlines()) < 1600
    assert "of 1,600 images. To go on:\n  python predict.py run=" in said and said.rstrip().endswith("output=out")
    assert predict(folder, *given, "output=out").returncode == 1
    monkeypatch.chdir(folder)
    options = parsed([*given, "output=whole"])
    whole = do_predict(load_predictor(run), find_inputs(options.images), options, "typed", silent)
    assert whole.record["resumed_after"] == 0
    for name in ("predictions.csv", "groups.csv"):
        assert (folder / "out" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    left = sorted(path.name for path in (folder / "out").iterdir())
    assert left == ["groups.csv", "prediction.json", "predictions.csv"]

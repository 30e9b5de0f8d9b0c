"""Data as people really have it: each mistake ends in one message or in a line of the report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import make_chest_xray, run_train

TINY = [
    "model.image_size=16",
    "model.filters=[4]",
    "model.hidden=[4]",
    "trainer.max_epochs=1",
    "evaluation.bootstrap=100",
    "split.val_fraction=0.2",
]


def refuse(home: Path, *arguments: str) -> str:
    done = run_train(*TINY, *arguments, "hydra.run.dir=run", home=home)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "run").exists(), "a run that never began leaves no folder"
    return done.stderr


def test_empty_folder_and_one_class(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is empty" in refuse(tmp_path, "data.root=empty")
    make_chest_xray(tmp_path / "one_class")
    for part in ("train", "test"):
        shutil.rmtree(tmp_path / "one_class" / part / "NORMAL")
    assert "no image of class NORMAL" in refuse(tmp_path, "data.root=one_class")


def test_text_file_and_truncated_image_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    root = make_chest_xray(tmp_path / "chest_xray")
    (root / "train" / "NORMAL" / "notes.txt").write_text("not an image")
    shutil.copy(next((root / "train" / "NORMAL").glob("*.jpeg")), root / "train" / "NORMAL" / "holiday.jpeg")
    truncated = root / "train" / "PNEUMONIA" / "person9999_virus_1.jpeg"
    whole = next((root / "train" / "PNEUMONIA").glob("*.jpeg")).read_bytes()
    truncated.write_bytes(whole[: len(whole) // 2])
    done = run_train(*TINY, "data.root=chest_xray", "hydra.run.dir=run", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out: 2 files" in done.stdout
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "train/NORMAL/notes.txt" in report
    assert "The patients are not known" in report, "a file name that follows no pattern is an alarm"
    assert "alarm: The patients are not known" in done.stdout
    assert "train/PNEUMONIA/person9999_virus_1.jpeg" in report


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write to")
def test_a_run_folder_that_cannot_be_written(tmp_path: Path) -> None:
    done = run_train(*TINY, "data.source=phantom", "hydra.run.dir=/proc/self/run", home=tmp_path)
    assert done.returncode == 2
    assert "/proc/self" in done.stderr
    assert "Traceback" not in done.stderr

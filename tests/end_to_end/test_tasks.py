"""Every task trains on its phantom data set, whatever its number of classes; leaky and corrected runs say what they are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import run_prepare, run_train
from tests.end_to_end.conftest import PLAIN

SKIN = [*PLAIN, "trainer.max_epochs=1", "split.val_fraction=0.2"]


@pytest.mark.parametrize(
    ("task", "images", "classes"),
    [("isic9", 400, 9), ("table", 300, 2)],
)
def test_every_task_runs_on_phantom_images(task: str, images: int, classes: int, home: Path) -> None:
    folder = home / "runs" / task
    done = run_train(f"task={task}", *SKIN, f"data.phantom_images={images}", f"hydra.run.dir={folder}", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert len(metrics["classes"]) == classes
    assert ("multiclass" in metrics["splits"]["test"]) == (classes > 2)
    assert metrics["phantom"] is True
    assert json.loads((folder / "audit.json").read_text(encoding="utf-8"))["findings"]
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "Audit of the data" in report
    # Links in text are for people; nothing may be fetched by the page itself.
    assert not re.search(r"""(?:src|srcset)=["']?https?:|@import|url\(["']?https?:|<link|<script""", report)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("task", ["skin_cancer", "isic_archive", "folder", "ham10000_binary"])
def test_every_other_task_is_prepared_from_phantom_images(task: str, home: Path) -> None:
    more = ["data.phantom_images=300", "model.image_size=16", "split.val_fraction=0.2"]
    done = run_prepare(f"task={task}", "data.source=phantom", *more, home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "benign" in done.stdout
    assert "malignant" in done.stdout
    assert "Phantom data" in done.stdout


def test_a_leaky_run_is_stamped_everywhere(home: Path) -> None:
    folder = home / "runs" / "leaky"
    arguments = ["task=ham10000_binary", "split.grouping=none", "data.phantom_images=300"]
    done = run_train(*SKIN, *arguments, f"hydra.run.dir={folder}", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "LEAKY split" in done.stdout + done.stderr
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["leak"]["share"] > 0.1
    assert metrics["worries"][0]["title"] == "LEAKY split"
    assert "LEAKY" in (folder / "report.html").read_text(encoding="utf-8")
    assert "LEAKY" in json.loads((folder / "data_card.json").read_text(encoding="utf-8"))["split"]["method"]


def test_a_run_on_ones_own_parts_has_its_report(home: Path, finished: tuple[Path, str]) -> None:
    folder = home / "runs" / "own-parts"
    parts = ["trainer.max_epochs=1", f"split.file={finished[0] / 'splits.csv'}"]
    done = run_train(*PLAIN, *parts, f"hydra.run.dir={folder}", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    card = json.loads((folder / "data_card.json").read_text(encoding="utf-8"))
    assert "seed" not in card["split"]
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert card["split"]["method"] in report
    assert "seed None" not in report


def test_a_correction_for_rare_classes_is_recorded_and_two_are_refused(home: Path) -> None:
    folder = home / "runs" / "weighted"
    arguments = ["task=ham10000", "data.phantom_images=400", "imbalance.class_weights=true"]
    done = run_train(*SKIN, *arguments, f"hydra.run.dir={folder}", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    card = json.loads((folder / "data_card.json").read_text(encoding="utf-8"))
    assert "inverse frequency" in card["imbalance"]
    both = run_train(*SKIN, *arguments, "imbalance.weighted_sampler=true", home=home)
    assert both.returncode == 2
    assert "switch one off" in both.stderr

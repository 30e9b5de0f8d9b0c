"""A trained run carries its input check: stored with the weights, judged after the test, shown in the report."""

from __future__ import annotations

import json
from pathlib import Path

from evaluation.input_check import InputCheck
from models.bundle import extra_arrays, read_description
from tests.conftest import run_train
from workflow.input_checking import INPUT_CHECK

SMALL = (
    "task=pneumonia",
    "model=simple_cnn",
    "data.source=phantom",
    "data.phantom_images=120",
    "model.image_size=24",
    "model.filters=[4]",
    "model.hidden=[]",
    "trainer.max_epochs=1",
    "evaluation.bootstrap=100",
    "evaluation.baselines=[majority]",
)


def test_a_run_knows_what_it_knows(tmp_path: Path) -> None:
    done = run_train(*SMALL, "evaluation.abstain=0.3", "hydra.run.dir=with", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "with"
    stored = read_description(run / "model")
    arrays = extra_arrays(run / "model", stored, INPUT_CHECK)
    assert arrays is not None
    check = InputCheck.from_parts(stored["input_check"], arrays)
    assert (check.alpha, check.n) == (0.3, stored["input_check"]["n_calibration"])
    assert stored["task"]["subject"] == "xray" and stored["licence"]
    record = json.loads((run / "input_check.json").read_text(encoding="utf-8"))
    assert {item["key"] for item in record["sets"]} >= {"noise", "flat", "black", "photographs", "drawings"}
    assert record["notice"] and record["title"].startswith("Phantom data")
    threshold = json.loads((run / "threshold.json").read_text(encoding="utf-8"))
    assert threshold["borderline_from"] == stored["borderline_from"]
    assert "Inputs the model does not know" in (run / "report.html").read_text(encoding="utf-8")


def test_null_fits_no_check(tmp_path: Path) -> None:
    done = run_train(*SMALL, "evaluation.abstain=null", "hydra.run.dir=without", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    stored = read_description(tmp_path / "without" / "model")
    assert stored["input_check"] is None and stored["files"] == {}
    assert not (tmp_path / "without" / "input_check.json").exists()
    assert "Inputs the model does not know" not in (tmp_path / "without" / "report.html").read_text(encoding="utf-8")

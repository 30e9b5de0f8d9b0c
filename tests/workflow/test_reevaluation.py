"""A finished run judged again: from its predictions alone, into a record of its own, and never with the test part choosing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from evaluation.predictions import read_predictions
from evaluation.threshold import choose_operating_point
from tests.conftest import ROOT
from tests.workflow.fake_runs import THREE, TWO, change, fake_run, read, write
from workflow.records import shown
from workflow.reevaluation import rejudge

COMMAND = "python evaluate.py run=RUN"
FAST = {"bootstrap": 100}
CARD = {
    "group_name": "lesion",
    "parts": {"all": {"images": 160}},
    "unknown_names": 3,
    "split": {},
    "left_out_reasons": {},
}


@pytest.fixture(autouse=True)
def without_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page takes seconds; the tests of the command line make it."""
    monkeypatch.setattr("workflow.records.write_report", lambda folder: folder / "report.html")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fake_run(tmp_path / "run")


def hashes_of(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_figures_in_a_folder_of_their_own(run: Path, tmp_path: Path) -> None:
    write(run / "data_card.json", CARD)
    (run / "splits.csv").write_text("image_id\n", encoding="utf-8")
    before = hashes_of(run)
    metrics, folder = rejudge(run, command=COMMAND, output=tmp_path / "again")
    old = read(run / "metrics.json")
    assert metrics["splits"] == old["splits"] and metrics["threshold"] == old["threshold"]
    assert metrics["bootstrap"] == old["bootstrap"] and metrics["calibration"] == old["calibration"]
    assert hashes_of(run) == before
    for name in ("predictions/val.csv", "predictions/test.csv", "config.yaml", "data_card.json", "splits.csv"):
        assert (folder / name).read_bytes() == (run / name).read_bytes()
    record = read(folder / "run.json")
    assert record["status"] == "finished" and record["command"] == COMMAND and record["kind"] == "judged again"
    assert record["source"]["run"] == shown(run) and record["weights_sha256"] == "weights0"
    assert record["source"]["test_sha256"] == before["predictions/test.csv"]
    assert read(folder / "threshold.json")["split_sha256"] == "same"
    assert {"Judged again", "The lesions are not known"} <= {item["title"] for item in metrics["worries"]}


def test_another_rule_is_chosen_on_validation_and_said(run: Path, tmp_path: Path) -> None:
    metrics, folder = rejudge(
        run, command=COMMAND, output=tmp_path / "again", threshold={"rule": "youden"}, judging=FAST
    )
    val = read_predictions(run / "predictions" / "val.csv", TWO, "malignant")
    wanted = choose_operating_point(val, "youden").threshold
    assert metrics["threshold"]["threshold"] == wanted == read(folder / "threshold.json")["threshold"]
    assert wanted != read(run / "metrics.json")["threshold"]["threshold"]
    test = read_predictions(run / "predictions" / "test.csv", TWO, "malignant")
    found = (test.scores >= wanted) & (test.labels == 1)
    assert metrics["splits"]["test"]["at_threshold"]["tp"] == int(found.sum())
    caution = next(item for item in metrics["worries"] if item["title"] == "Threshold re-chosen after the test")
    assert caution["level"] == "caution" and "youden" in caution["text"]
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert config["threshold"]["rule"] == "youden" and config["threshold"]["recall"] == 0.9
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["threshold"]["rule"] == "empirical"


def test_what_is_not_given_stays_as_the_run_has_it(run: Path, tmp_path: Path) -> None:
    metrics, _ = rejudge(run, command=COMMAND, output=tmp_path / "a", threshold={"recall": 0.6}, judging=FAST)
    assert (metrics["threshold"]["requested_rule"], metrics["threshold"]["target_recall"]) == ("empirical", 0.6)
    assert metrics["splits"]["val"]["at_threshold"]["group_recall"]["value"] >= 0.6
    by_hand = {"rule": "fixed", "value": 0.25}
    metrics, _ = rejudge(
        run, command=COMMAND, output=tmp_path / "b", threshold=by_hand, judging={**FAST, "confidence": 0.8}
    )
    assert metrics["threshold"]["threshold"] == 0.25 and metrics["confidence"] == 0.8
    assert "by hand" in next(item["text"] for item in metrics["worries"] if "re-chosen" in item["title"])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"rule": "certified", "recall": 0.999}, ("20 malignant lesions", "at least 2,995", "threshold.recall=0.86,")),
        ({"rule": "crc", "recall": 0.99}, ("20 malignant lesions", "at least 99", "threshold.recall=0.952,")),
        ({"min_specificity": 0.99}, ("specificity", "99 %", "threshold.min_specificity=0.")),
    ],
)
def test_what_validation_cannot_promise_is_refused(
    run: Path, tmp_path: Path, asked: dict[str, Any], words: tuple[str, ...]
) -> None:
    options: dict[str, Any] = {"command": COMMAND, "output": tmp_path / "again", "judging": FAST}
    with pytest.raises(ValueError) as caught:
        rejudge(run, threshold=asked, **options)
    for word in (*words, "threshold.infeasible=empirical"):
        assert word in str(caught.value)
    assert not (tmp_path / "again").exists()
    metrics, _ = rejudge(run, threshold={**asked, "infeasible": "empirical"}, **options)
    point = metrics["threshold"]
    assert point["rule"] == "empirical" and (point["fallback_reason"] or point["unmet"])


def test_the_same_rule_asked_anew_is_no_other_threshold(run: Path, tmp_path: Path) -> None:
    metrics, _ = rejudge(run, command=COMMAND, output=tmp_path / "again", threshold={"recall": 0.9}, judging=FAST)
    said = next(item for item in metrics["worries"] if item["title"] == "Judged again")
    assert "the threshold that the run had fixed" in said["text"]
    assert "Threshold re-chosen after the test" not in [item["title"] for item in metrics["worries"]]


def test_a_record_does_not_show_where_on_the_machine_the_run_lies(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def texts_of(name: str) -> str:
        metrics, folder = rejudge(
            run, command=COMMAND, output=tmp_path / name, threshold={"rule": "youden"}, judging=FAST
        )
        return json.dumps([metrics["worries"], read(folder / "run.json")["source"]])

    (run / "figures" / "mistakes").mkdir(parents=True)
    write(run / "figures" / "mistakes" / "mistakes.json", {})
    assert f".../{tmp_path.name}/run" in texts_of("elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert '"~/run"' in texts_of("home")
    monkeypatch.chdir(tmp_path)
    assert '"run": "run"' in texts_of("here")
    for name in ("elsewhere", "home", "here"):
        text = (tmp_path / name / "metrics.json").read_text(encoding="utf-8")
        assert str(tmp_path) not in text + (tmp_path / name / "run.json").read_text(encoding="utf-8")


def test_the_test_part_cannot_move_the_threshold(run: Path, tmp_path: Path) -> None:
    path = run / "predictions" / "test.csv"
    options = {"command": COMMAND, "threshold": {"rule": "fbeta"}, "judging": FAST}
    first, _ = rejudge(run, output=tmp_path / "a", **options)  # type: ignore[arg-type]
    frame = pd.read_csv(path)
    scores = np.random.default_rng(1).permutation(frame["prob_malignant"].to_numpy())
    frame.assign(prob_malignant=scores, prob_benign=1.0 - scores).to_csv(path, index=False)
    second, _ = rejudge(run, output=tmp_path / "b", **options)  # type: ignore[arg-type]
    assert first["threshold"] == second["threshold"]
    assert first["splits"]["test"]["auroc"] != second["splits"]["test"]["auroc"]


def test_a_record_can_be_judged_again_and_several_classes_too(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", classes=THREE)
    _, first = rejudge(run, command=COMMAND, output=tmp_path / "a", threshold={"rule": "crc"}, judging=FAST)
    metrics, _ = rejudge(first, command=COMMAND, output=tmp_path / "b", judging=FAST)
    assert metrics["threshold"] == read(first / "metrics.json")["threshold"]
    assert metrics["threshold"]["requested_rule"] == "crc" and "multiclass" in metrics["splits"]["test"]


def test_a_run_from_before_this_version(run: Path, tmp_path: Path) -> None:
    old = read(run / "metrics.json")
    for name in ("calibration", "decision_curve", "beta"):
        del old[name]
    for name in ("min_specificity", "specificity_lower_bound", "beta", "miss_cost", "infeasible"):
        old["threshold"].pop(name, None)
    write(run / "metrics.json", old | {"schema": 1})
    metrics, folder = rejudge(run, command=COMMAND, output=tmp_path / "again", judging=FAST)
    assert metrics["schema"] == 2 and metrics["calibration"]["calibrator"] is not None
    assert metrics["threshold"]["threshold"] == old["threshold"]["threshold"]
    assert read(folder / "calibration.json")["notice"].startswith("Research and education only")


def test_the_gallery_belongs_to_one_threshold(run: Path, tmp_path: Path) -> None:
    write(run / "data_card.json", CARD)
    pictures = run / "figures" / "mistakes"
    pictures.mkdir(parents=True)
    (pictures / "mistakes.json").write_text("[]", encoding="utf-8")
    (pictures / "00.png").write_bytes(b"picture")
    _, same = rejudge(run, command=COMMAND, output=tmp_path / "same", judging=FAST)
    assert (same / "figures" / "mistakes" / "00.png").read_bytes() == b"picture"
    metrics, other = rejudge(
        run, command=COMMAND, output=tmp_path / "other", threshold={"rule": "youden"}, judging=FAST
    )
    assert not (other / "figures" / "mistakes").exists()
    assert "No gallery of mistakes" in [item["title"] for item in metrics["worries"]]


def test_baselines_are_judged_beside_it(run: Path, tmp_path: Path) -> None:
    for part in ("val", "test"):
        frame = pd.read_csv(run / "predictions" / f"{part}.csv")
        frame.assign(prob_malignant=0.5, prob_benign=0.5).to_csv(
            run / "predictions" / f"majority_{part}.csv", index=False
        )
    metrics, folder = rejudge(run, command=COMMAND, output=tmp_path / "again", judging=FAST)
    assert [row["name"] for row in metrics["baselines"]] == ["majority"]
    assert (folder / "predictions" / "majority_val.csv").is_file()


def test_an_interruption_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("workflow.records.write_report", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rejudge(run, command=COMMAND, output=tmp_path / "made" / "again", judging=FAST)
    assert list((tmp_path / "made").iterdir()) == []


def test_what_cannot_be_judged_again(run: Path, tmp_path: Path) -> None:
    def assert_refused(*words: str, folder: Path = run, output: str = "again") -> None:
        with pytest.raises(ValueError) as caught:
            rejudge(folder, command=COMMAND, output=tmp_path / output, judging=FAST)
        for word in words:
            assert word in str(caught.value)
        assert not (tmp_path / "again").exists()

    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    assert_refused("never overwritten", output="there")
    assert_refused("no finished run", "aggregate=", folder=tmp_path)
    assert_refused("no finished run", folder=tmp_path / "there")
    change(run / "run.json", "status", to="interrupted")
    assert_refused("not finished", "interrupted", "resume=")
    change(run / "run.json", "status", to="finished")
    path = run / "predictions" / "test.csv"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.rpartition("i0279")[0], encoding="utf-8")
    assert_refused("79 images", "counted 80", "changed since")
    path.write_text(whole, encoding="utf-8")
    metrics = read(run / "metrics.json")
    metrics["pooled"] = metrics.pop("splits")["test"]
    write(run / "metrics.json", metrics)
    path.rename(path.with_name("out_of_fold.csv"))
    assert_refused("folds without a test part")


def test_no_torch_is_loaded() -> None:
    code = "import sys, workflow.reevaluation, workflow.given_predictions; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

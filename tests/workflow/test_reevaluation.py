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

from evaluation.ensembles import approximate
from evaluation.predictions import read_predictions
from evaluation.summary import evaluate_run
from evaluation.threshold import OperatingPoint, choose_operating_point
from evaluation.wording import worry
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


def judged_as_it_stands(run: Path) -> None:
    """metrics.json with the figures of the test file as it is now."""
    held = read(run / "metrics.json")
    val, test = (read_predictions(run / "predictions" / f"{part}.csv", TWO, "malignant") for part in ("val", "test"))
    point = OperatingPoint.from_dict(held["threshold"])
    facts = {name: held[name] for name in ("title", "task", "model", "phantom", "group_name")}
    write(run / "metrics.json", evaluate_run(val, test, point, domain_aucs={}, bootstrap=20, **facts))


def fold_ensemble(folder: Path) -> Path:
    """A run as an ensemble of folds with an official test part leaves it: its scores on validation are out of fold."""
    run = fake_run(folder)
    metrics = read(run / "metrics.json")
    point = approximate(OperatingPoint.from_dict(metrics["threshold"]), 5, "lesion").to_dict()
    notes = [worry("note", "Mean of 5 folds", "..."), worry("caution", "The lesions are few", "...")]
    ensemble = {"kind": "folds", "official": {}, "figures": {"AUROC": 1}}
    metrics |= {"threshold": point, "worries": notes, "ensemble": ensemble, "pooled": {"n": 80}}
    write(run / "metrics.json", metrics)
    write(run / "threshold.json", point)
    change(run / "run.json", "members", to=[{"run": str(fold), "fold": fold} for fold in range(5)])
    return run


def test_folds_judged_again_promise_no_more_than_before(tmp_path: Path) -> None:
    run, certified = fold_ensemble(tmp_path / "folds"), {"rule": "certified", "recall": 0.8}
    metrics, folder = rejudge(run, command=COMMAND, output=tmp_path / "a", threshold=certified, judging=FAST)
    point = metrics["threshold"]
    assert point["rule"] == "certified" and point["recall_lower_bound"] is None
    assert "approximate, not certified" in point["statement"]
    assert metrics["promise"]["expectation"]["certified"] is False
    titles = [item["title"] for item in metrics["worries"]]
    assert {"Mean of 5 folds", "The recall is certified approximately only"} <= set(titles)
    assert metrics["pooled"] == {"n": 80} and metrics["ensemble"]["figures"] == {"AUROC": 1}
    assert metrics["ensemble"]["official"]["AUROC"] == metrics["splits"]["test"]["auroc"]
    again, _ = rejudge(folder, command=COMMAND, output=tmp_path / "b", threshold={"recall": 0.75}, judging=FAST)
    assert again["threshold"]["recall_lower_bound"] is None and again["ensemble"]["kind"] == "folds"
    plain, _ = rejudge(run, command=COMMAND, output=tmp_path / "c", judging=FAST)
    kept = [item["title"] for item in plain["worries"]]
    assert "Mean of 5 folds" in kept and "The recall is certified approximately only" not in kept, (
        "the rule is empirical"
    )


def test_scores_that_were_changed_since_are_refused(run: Path, tmp_path: Path) -> None:
    for part in ("val", "test"):
        path = run / "predictions" / f"{part}.csv"
        whole, frame = path.read_bytes(), pd.read_csv(path)
        turned = {"prob_malignant": frame["prob_benign"], "prob_benign": frame["prob_malignant"]}
        frame.assign(**turned).to_csv(path, index=False)
        with pytest.raises(ValueError, match=rf"{part}\.csv is not what was judged: its AUROC is .*; metrics.json has"):
            rejudge(run, command=COMMAND, output=tmp_path / "again", judging=FAST)
        # Squared, they rank alike; one over the threshold less is seen too.
        squared = {"prob_malignant": frame["prob_malignant"] ** 2, "prob_benign": 1 - frame["prob_malignant"] ** 2}
        frame.assign(**squared).to_csv(path, index=False)
        with pytest.raises(ValueError, match="its Brier score is"):
            rejudge(run, command=COMMAND, output=tmp_path / "again", judging=FAST)
        path.write_bytes(whole)
    assert rejudge(run, command=COMMAND, output=tmp_path / "again", judging=FAST)


def test_a_threshold_that_was_changed_since_is_refused(run: Path, tmp_path: Path) -> None:
    def assert_refused(*words: str) -> None:
        with pytest.raises(ValueError) as caught:
            rejudge(run, command=COMMAND, output=tmp_path / "again", judging=FAST)
        for word in words:
            assert word in str(caught.value)

    locked, metrics = (run / name for name in ("threshold.json", "metrics.json"))
    before, judged = locked.read_bytes(), metrics.read_bytes()
    change(locked, "threshold", to=0.123)
    assert_refused("threshold is 0.123 in threshold.json", "changed since")
    change(metrics, "threshold", "threshold", to=0.123)
    assert_refused("speaks of two thresholds", "0.123")
    locked.write_bytes(before)
    assert_refused("0.123 in metrics.json")
    metrics.write_bytes(judged)
    change(locked, "recall_lower_bound", to=0.99)
    assert_refused("recall_lower_bound is 0.99 in threshold.json")
    locked.unlink()
    found, _ = rejudge(run, command=COMMAND, output=tmp_path / "again", judging=FAST)
    assert "No locked threshold" in [item["title"] for item in found["worries"]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("metrics.json", text) for text in ("[]", "null", "5")),
        *(("run.json", text) for text in ("[]", "null")),
        *(("data_card.json", text) for text in ("[]", "null", "{}")),
        *(("config.yaml", text) for text in ("a: [b", "- 1", "")),
        ("calibration.json", "[]"),
        ("threshold.json", "[]"),
    ],
)
def test_a_damaged_folder_is_one_message(name: str, text: str, run: Path, tmp_path: Path) -> None:
    (run / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"damaged|is no configuration"):
        rejudge(run, command=COMMAND, output=tmp_path / "again", judging=FAST)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("key", ["bootstrap", "splits", "threshold", "classes", "confidence", "worries"])
@pytest.mark.parametrize("value", [None, {"a": 1}, ["a"], "a"])
def test_damaged_figures_are_one_message(key: str, value: Any, run: Path, tmp_path: Path) -> None:
    change(run / "metrics.json", key, to=value)
    with pytest.raises(ValueError):
        rejudge(run, command=COMMAND, output=tmp_path / "again", judging=FAST)


def test_nothing_is_said_in_advance_of_a_test_that_was_seen(run: Path, tmp_path: Path) -> None:
    certified = {"rule": "certified", "recall": 0.8}
    metrics, first = rejudge(run, command=COMMAND, output=tmp_path / "a", threshold=certified, judging=FAST)
    assert "advance" not in metrics["promise"] and metrics["promise"]["expectation"]["sentence"]
    stored = read(first / "threshold.json")
    assert "advance" not in stored and stored["expectation"] == metrics["promise"]["expectation"]
    again, _ = rejudge(first, command=COMMAND, output=tmp_path / "b", judging=FAST)
    assert "advance" not in again["promise"], "nor of a record of a record"
    before = read(first / "metrics.json")
    before["promise"]["advance"] = before["promise"].pop("expectation")
    write(first / "metrics.json", before)
    said, folder = rejudge(first, command=COMMAND, output=tmp_path / "c", judging=FAST)
    assert said["promise"]["advance"] == read(folder / "threshold.json")["advance"], "what was said in advance stays so"


def test_prevalences_and_beta_stay_as_the_run_has_them(run: Path, tmp_path: Path) -> None:
    wanted = {**FAST, "prevalences": [0.03, 0.4]}
    metrics, first = rejudge(run, command=COMMAND, output=tmp_path / "a", threshold={"beta": 3.0}, judging=wanted)
    assert metrics["beta"] == 3.0
    change(first / "metrics.json", "beta", to=1.5)
    again, _ = rejudge(first, command=COMMAND, output=tmp_path / "b")
    held = again["splits"]["test"]["at_threshold"]["prevalence"]
    assert [row["prevalence"] for row in held] == [0.03, 0.4] and again["beta"] == 1.5


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
    judged_as_it_stands(run)
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
    price = old["threshold"]["price"]
    old["threshold"]["price"] = price[:3]
    write(run / "metrics.json", old | {"schema": 1})
    metrics, folder = rejudge(run, command=COMMAND, output=tmp_path / "again", judging=FAST)
    assert metrics["schema"] == 2 and metrics["calibration"]["calibrator"] is not None
    assert metrics["threshold"]["threshold"] == old["threshold"]["threshold"]
    assert metrics["threshold"]["price"] == price, "a row for every rule of this version"
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

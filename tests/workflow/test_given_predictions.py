"""Predictions of another tool: judged as far as they go, and what they cannot show is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.workflow.fake_runs import read
from workflow.given_predictions import judge_given
from workflow.records import shown

COMMAND = "python evaluate.py predictions=scores.csv"


@pytest.fixture(autouse=True)
def without_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page takes seconds; the tests of the command line make it."""
    monkeypatch.setattr("workflow.records.write_report", lambda folder: folder / "report.html")


def foreign(path: Path, first: int = 0, n: int = 240, **columns: Any) -> Path:
    """A file as a script with another framework writes it: two images to a patient, good scores."""
    rng = np.random.default_rng(first)
    number = np.arange(first, first + n)
    labels = number // 2 % 3 == 0
    scores = 1.0 / (1.0 + np.exp(-(rng.normal(size=n) + np.where(labels, 1.5, -1.5))))
    frame = pd.DataFrame({"filename": [f"{k}.png" for k in number], "y_true": labels.astype(int), "y_score": scores})
    frame["patient"] = [f"p{k // 2}" for k in number]
    frame["sex"] = np.where(number % 4 < 2, "f", "m")
    frame.assign(**columns).to_csv(path, index=False)
    return path


def judged(tmp_path: Path, path: Path, **options: Any) -> tuple[dict[str, Any], Path]:
    options = {"judging": {"bootstrap": 100}, **options}
    return judge_given(path, command=COMMAND, output=tmp_path / "record", **options)


def titles(metrics: dict[str, Any]) -> list[str]:
    return [item["title"] for item in metrics["worries"]]


def assert_refused(tmp_path: Path, path: Path, *words: str, **options: Any) -> None:
    with pytest.raises(ValueError) as caught:
        judged(tmp_path, path, **options)
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "record").exists()


def test_without_validation_the_threshold_is_set_by_hand(tmp_path: Path) -> None:
    path = foreign(tmp_path / "scores.csv")
    metrics, folder = judged(tmp_path, path, threshold={"rule": "fixed", "value": 0.3})
    assert metrics["test_kind"] == "given" and list(metrics["splits"]) == ["test"]
    assert metrics["threshold"]["threshold"] == 0.3 and metrics["threshold"]["rule"] == "fixed"
    assert metrics["group_name"] == "patient", "from its column"
    assert metrics["promise"] is None and metrics["shift"] is None
    assert [row["value"] for row in metrics["splits"]["test"]["by"]["sex"]] == ["f", "m"]
    assert "No validation predictions" in titles(metrics) and "How scores.csv was read" in titles(metrics)
    record = read(folder / "run.json")
    assert record["source"]["predictions"] == shown(path) != str(path) and record["status"] == "finished"
    assert sorted(item.name for item in folder.iterdir()) == [
        "metrics.json",
        "predictions",
        "run.json",
        "threshold.json",
    ]
    again, _ = judge_given(path, command=COMMAND, output=tmp_path / "default", judging={"bootstrap": 100})
    assert again["threshold"]["threshold"] == 0.5


def test_a_validation_file_gives_the_whole_report(tmp_path: Path) -> None:
    path, val = foreign(tmp_path / "scores.csv"), foreign(tmp_path / "val.csv", first=1000, n=600)
    metrics, folder = judged(tmp_path, path, validation=val)
    assert metrics["threshold"]["rule"] == "certified" and metrics["threshold"]["n_groups"] == 100
    assert metrics["promise"]["advance"] is not None and metrics["shift"] is not None
    assert read(folder / "calibration.json")["method"] in ("platt", "temperature")
    assert read(folder / "threshold.json")["advance"] == metrics["promise"]["advance"]
    assert {"What the validation images were used for", "How val.csv was read"} <= set(titles(metrics))
    parts = pd.read_csv(folder / "splits.csv")["split"].value_counts()
    assert parts.to_dict() == {"val": 600, "test": 240}


def test_a_share_is_cut_off_by_group_and_class(tmp_path: Path) -> None:
    path = foreign(tmp_path / "scores.csv")
    metrics, folder = judged(tmp_path, path, calibration_share=0.5, threshold={"rule": "youden"})
    splits = pd.read_csv(folder / "splits.csv")
    assert splits.groupby("group_id")["split"].nunique().max() == 1
    groups = splits.drop_duplicates("group_id")
    assert groups.groupby("label")["split"].value_counts().to_dict() == {
        ("negative", "test"): 40,
        ("negative", "val"): 40,
        ("positive", "test"): 20,
        ("positive", "val"): 20,
    }
    assert (
        metrics["threshold"]["threshold"] in pd.read_csv(folder / "predictions" / "val.csv")["prob_positive"].to_numpy()
    )
    assert not metrics["threshold"]["selection_optimistic"] and "Cut off for the threshold" in titles(metrics)
    drawn: list[str] = []
    for seed in (0, 0, 1):
        options = {"output": tmp_path / f"again{len(drawn)}", "judging": {"bootstrap": 100, "seed": seed}}
        _, other = judge_given(path, command=COMMAND, calibration_share=0.5, **options)  # type: ignore[arg-type]
        drawn.append((other / "splits.csv").read_text(encoding="utf-8"))
    assert drawn[0] == drawn[1] != drawn[2]


def test_no_threshold_is_chosen_on_the_images_that_are_judged(tmp_path: Path) -> None:
    path = foreign(tmp_path / "scores.csv")
    assert_refused(tmp_path, path, "threshold.rule=youden", "calibration_share=0.5", threshold={"rule": "youden"})
    assert_refused(tmp_path, path, "threshold.recall=0.9", "validation=FILE.csv", threshold={"recall": 0.9})


def test_a_promise_that_was_asked_for_is_not_dropped_in_silence(tmp_path: Path) -> None:
    path, val = foreign(tmp_path / "scores.csv"), foreign(tmp_path / "val.csv", first=1000)
    asked: dict[str, Any] = {"validation": val, "threshold": {"recall": 0.99}}
    words = ("40 positive patients", "at least 299", "threshold.recall=0.927,", "threshold.infeasible=empirical")
    assert_refused(tmp_path, path, *words, **asked)
    asked["threshold"]["infeasible"] = "empirical"
    assert judged(tmp_path, path, **asked)[0]["threshold"]["rule"] == "empirical"
    unasked, _ = judge_given(path, command=COMMAND, output=tmp_path / "b", validation=val, judging={"bootstrap": 100})
    assert unasked["threshold"]["fallback_reason"] and unasked["threshold"]["rule"] == "empirical"


def test_validation_that_does_not_belong_to_it(tmp_path: Path) -> None:
    path, val = foreign(tmp_path / "scores.csv"), foreign(tmp_path / "val.csv", first=1000)
    assert_refused(tmp_path, path, "images are on validation and on test", validation=path)
    named = foreign(tmp_path / "named.csv", first=1000, y_true=["yes", "no"] * 120)
    assert_refused(tmp_path, path, "of the classes ['no', 'yes']", "classes=[...]", validation=named)
    alone = foreign(tmp_path / "alone.csv", first=1000, patient=None)
    pd.read_csv(alone).drop(columns="patient").to_csv(alone, index=False)
    assert_refused(tmp_path, path, "column of groups", "columns.group=NAME", validation=alone)
    inside = foreign(tmp_path / "inside.csv", split=["val"] * 120 + ["test"] * 120)
    assert_refused(tmp_path, inside, "validation lines of their own", validation=val)
    assert_refused(tmp_path, inside, "validation lines of their own", calibration_share=0.5)
    assert len(judged(tmp_path, inside)[0]["splits"]) == 2


def test_one_patient_on_both_sides_is_an_alarm(tmp_path: Path) -> None:
    path = foreign(tmp_path / "scores.csv")
    val = foreign(tmp_path / "val.csv", first=1000, patient=[f"p{k // 2 + 100}" for k in range(240)])
    metrics, _ = judged(tmp_path, path, validation=val)
    assert metrics["worries"][0]["level"] == "alarm" and "both sides" in metrics["worries"][0]["title"]


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_is_a_stated_limit(tmp_path: Path, label: int) -> None:
    metrics, _ = judged(tmp_path, foreign(tmp_path / "scores.csv", y_true=label))
    test = metrics["splits"]["test"]
    assert test["auroc"]["value"] is None
    known, missing = ("sensitivity", "specificity") if label else ("specificity", "sensitivity")
    assert test["at_threshold"][known]["value"] is not None and test["at_threshold"][missing]["value"] is None
    assert "One class is missing" in titles(metrics)


def test_scores_of_the_other_class_are_noticed(tmp_path: Path) -> None:
    path = foreign(tmp_path / "scores.csv")
    frame = pd.read_csv(path)
    frame.assign(y_score=1.0 - frame["y_score"]).to_csv(path, index=False)
    metrics, _ = judged(tmp_path, path)
    assert "Scores may belong to the other class" in titles(metrics)


def test_too_few_of_a_class_to_cut(tmp_path: Path) -> None:
    labels = [1, 1] + [0] * 238
    path = foreign(tmp_path / "scores.csv", y_true=labels)
    assert_refused(tmp_path, path, "only one patient shows positive", calibration_share=0.5)


def test_a_class_whose_groups_show_rarer_ones_too_can_be_cut(tmp_path: Path) -> None:
    """Two lesions show b; one of them shows the rarer c as well, so only one is left to be drawn for b."""
    path, rows = tmp_path / "scores.csv", []
    lesions = ["abc", "ac", *["a"] * 12, "ab"]
    for number, kinds in enumerate(lesions):
        for kind in kinds:
            rows.append({"image": f"{number}{kind}", "label": kind, "lesion": f"l{number}"})
    frame = pd.DataFrame(rows).assign(prob_a=0.5, prob_b=0.25, prob_c=0.25)
    frame.to_csv(path, index=False)
    options: dict[str, Any] = {"positive": ["b", "c"], "calibration_share": 0.5, "threshold": {"rule": "empirical"}}
    metrics, folder = judged(tmp_path, path, **options)
    drawn = pd.read_csv(folder / "splits.csv")
    assert len(drawn) == len(frame) and metrics["splits"]["val"]["n"] > 0
    assert drawn.groupby("group_id")["split"].nunique().max() == 1
    held = drawn.groupby("split")["group_id"].nunique()
    assert abs(int(held["val"]) - int(held["test"])) <= 2

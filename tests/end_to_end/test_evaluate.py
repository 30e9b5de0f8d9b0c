"""evaluate.py through the real command line: a finished run judged again, files of other tools, comparison, aggregation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import evaluate
from tests.conftest import ROOT, run_command
from tests.workflow.fake_runs import fake_run

NOTICE = "Research and education only; not a medical device."


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def evaluated(home: Path, *arguments: str, warm: bool = True) -> str:
    """What a command that succeeds prints."""
    done = run_command("evaluate.py", *arguments, home=home, warm=warm)
    assert done.returncode == 0, done.stdout + done.stderr
    assert NOTICE in done.stdout and "report: " in done.stdout and "Traceback" not in done.stderr
    return done.stdout


def assert_refused(home: Path, *arguments: str, words: tuple[str, ...]) -> None:
    done = run_command("evaluate.py", *arguments, home=home)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def assert_page(folder: Path, *words: str) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert NOTICE in page and len(page) < 5_000_000
    for word in words:
        assert word in page


def another_tools_file(path: Path, first: int = 0, n: int = 300) -> Path:
    """As a script with another framework writes it: file name, truth, score, patient."""
    rng, number = np.random.default_rng(first), np.arange(first, first + n)
    labels = number // 2 % 2 == 0
    scores = 1.0 / (1.0 + np.exp(-(rng.normal(size=n) + np.where(labels, 1.5, -1.5))))
    frame = pd.DataFrame({"filename": [f"{k}.png" for k in number], "y_true": labels.astype(int), "y_score": scores})
    frame.assign(patient=[f"p{k // 2}" for k in number]).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the predictions of another tool on test and on validation images."""
    folder = tmp_path_factory.mktemp("files")
    another_tools_file(folder / "scores.csv")
    another_tools_file(folder / "val.csv", first=2000)
    return folder


def test_a_run_is_judged_again_at_another_threshold(home: Path, finished: tuple[Path, str]) -> None:
    run = finished[0]
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    asked = ("run=runs/finished", "threshold=youden", "bootstrap=100", "output=evaluations/youden")
    out = evaluated(home, *asked, warm=False)
    folder, old = home / "evaluations" / "youden", read(run / "metrics.json")
    metrics = read(folder / "metrics.json")
    assert metrics["threshold"]["requested_rule"] == "youden" and "youden" in out
    assert (
        metrics["threshold"]["threshold"] in pd.read_csv(run / "predictions" / "val.csv")["prob_PNEUMONIA"].to_numpy()
    )
    assert metrics["splits"]["test"]["auroc"]["value"] == old["splits"]["test"]["auroc"]["value"]
    assert [row["name"] for row in metrics["baselines"]] == [row["name"] for row in old["baselines"]]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert_page(folder, "Phantom data", "Judged again")
    assert_refused(home, "run=runs/finished", "output=evaluations/youden", words=("never overwritten",))

    # The record can be set beside the run it was made from.
    out = evaluated(home, "compare=[runs/finished,evaluations/youden]", "bootstrap=100", "output=evaluations/both")
    content = read(home / "evaluations" / "both" / "comparison.json")
    assert [row["threshold"] for row in content["runs"]] == [
        old["threshold"]["threshold"],
        metrics["threshold"]["threshold"],
    ]


def test_the_file_of_another_tool_gets_a_report(files: Path) -> None:
    out = evaluated(files, "predictions=scores.csv", "group_name=patient", "bootstrap=100", "output=plain")
    assert "No validation predictions" in out
    record = read(files / "plain" / "run.json")
    assert record["command"].startswith("python evaluate.py predictions=scores.csv")
    assert_page(files / "plain", "Predictions in scores.csv", "150 patients")

    evaluated(files, "predictions=scores.csv", "validation=val.csv", "group_name=patient", "bootstrap=100")
    (folder,) = (files / "evaluations" / "scores").iterdir()
    metrics = read(folder / "metrics.json")
    assert metrics["threshold"]["rule"] == "certified" and metrics["promise"]["test_positive_groups"] == 75
    assert_page(folder, "Operating point", "Calibration", "Validation to test")


def test_runs_are_aggregated(tmp_path: Path) -> None:
    for seed in (0, 1):
        fake_run(tmp_path / "multirun" / str(seed), seed=seed)
    out = evaluated(tmp_path, "aggregate=multirun", "bootstrap=100", "output=together")
    assert "2 seeds" in out
    assert_page(tmp_path / "together")


def test_bad_input_is_one_message(files: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(files / "scores.csv")
    frame.assign(y_score=frame["y_score"] * 8 - 4).to_csv(tmp_path / "logits.csv", index=False)
    frame.assign(y_true="sick").to_csv(tmp_path / "one.csv", index=False)
    frame.drop(columns="y_true").to_csv(tmp_path / "unlabelled.csv", index=False)
    (tmp_path / "run").mkdir()
    assert_refused(tmp_path, "predictions=logits.csv", words=("logits.csv", "y_score", "line", "sigmoid"))
    assert_refused(tmp_path, "predictions=one.csv", words=("'sick' everywhere", "classes="))
    assert_refused(tmp_path, "predictions=unlabelled.csv", words=("columns.label=NAME",))
    assert_refused(tmp_path, "run=run", words=("no finished run",))
    assert_refused(tmp_path, "run=run", "taks=isic9", words=("Did you mean 'task'?",))
    assert_refused(tmp_path, "run=run", "task=isic99", words=("there is no task 'isic99'",))
    assert_refused(tmp_path, "compare=[run]", words=("two or more",))
    assert {path.name for path in tmp_path.iterdir()} == {"logits.csv", "one.csv", "unlabelled.csv", "run"}


def test_a_mistake_costs_no_heavy_import(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", str(ROOT / "evaluate.py"), "run=nowhere"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "no such folder" in done.stderr
    for package in ("torch", "numpy", "pandas", "hydra"):
        assert f" {package}\n" not in done.stderr


def test_help() -> None:
    done = run_command("evaluate.py", "--help", home=ROOT)
    assert done.returncode == 0 and done.stdout.startswith("Judge predictions on disk") and NOTICE in done.stdout


def test_control_c_stops_with_one_line(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(options: Any, command: str) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setitem(evaluate.ACTIONS, "predictions", interrupted)
    with pytest.raises(SystemExit) as stopped:
        evaluate.main([f"predictions={files / 'scores.csv'}"])
    assert stopped.value.code == 130 and "nothing was written" in capsys.readouterr().out


def test_being_terminated_is_as_control_c(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def terminated(folder: Path) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    before, output = signal.getsignal(signal.SIGTERM), files / "made" / "record"
    monkeypatch.setattr("workflow.records.write_report", terminated)
    try:
        with pytest.raises(SystemExit) as stopped:
            evaluate.main([f"predictions={files / 'scores.csv'}", f"output={output}", "bootstrap=100"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.value.code == 130 and "nothing was written" in capsys.readouterr().out
    assert list(output.parent.iterdir()) == []

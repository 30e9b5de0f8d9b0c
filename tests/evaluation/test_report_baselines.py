"""The page shows every baseline, how the network was trained and where its stages begin."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from evaluation.figures import learning_curves
from evaluation.figures_curves import stage_starts
from evaluation.judge import judge_run
from evaluation.predictions import Predictions, read_predictions, write_predictions
from evaluation.report import write_report
from evaluation.terminal import print_results
from evaluation.threshold import OperatingPoint, choose_operating_point

CLASSES = {2: ("a", "b"), 3: ("a", "b", "c")}
STRENGTH = {"majority": 0.0, "thumbnail": 0.6, "hog_svm": 2.5}
HISTORY = "epoch,train/loss,val/loss,val/auroc,stage\n1,0.6,0.5,0.8,head\n2,0.4,0.45,,head\n3,0.3,0.4,0.9,all\n"


def scores_of(targets: np.ndarray, k: int, strength: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(len(targets), k)) if strength else 0.0
    raised = np.exp(strength * np.eye(k)[targets] + noise)
    found: np.ndarray = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32).astype(float)
    if k == 2:
        found[:, 0] = 1.0 - found[:, 1]
    return found


def make_run(folder: Path, k: int, **options: Any) -> dict[str, Any]:
    """A run of 90 images of 45 patients a part with three baselines; the last is as good as the model."""
    targets = np.arange(90) // 2 % k
    held = {}
    for part in ("val", "test"):
        frame = pd.DataFrame({"image_id": [f"{part}-{i}" for i in range(90)], "label": np.array(CLASSES[k])[targets]})
        frame["group_id"] = [f"{part}-p{i // 2}" for i in range(90)]
        scores = scores_of(targets, k, 2.5, 1 + len(part))
        frame = frame.assign(**{f"prob_{name}": scores[:, number] for number, name in enumerate(CLASSES[k])})
        write_predictions(folder / "predictions" / f"{part}.csv", frame)
        held[part] = read_predictions(folder / "predictions" / f"{part}.csv", CLASSES[k], "b", "b", "rest")
    point = choose_operating_point(held["val"], group_name="patient")
    metrics = judge_run(folder, point, parts_of(held), **given(k, targets), **options)
    (folder / "metrics.json").write_text(json.dumps(metrics, allow_nan=False))
    (folder / "threshold.json").write_text(json.dumps(point.to_dict()))
    return metrics


def given(k: int, targets: np.ndarray) -> dict[str, Any]:
    baselines = {
        name: {part: scores_of(targets, k, strength, 7 + len(part) + number) for part in ("val", "test")}
        for number, (name, strength) in enumerate(STRENGTH.items())
    }
    named = {"positive": "b", "positive_name": "b", "negative_name": "rest", "title": "T", "task": "t", "model": "cnn"}
    return {"classes": CLASSES[k], "baselines": baselines, "phantom": False, "bootstrap": 100, **named}


def parts_of(held: dict[str, Predictions]) -> dict[str, Any]:
    from evaluation.judge import Thumbnails

    pixels = np.random.default_rng(0).integers(0, 256, (90, 16)).astype(np.uint8)
    sides = {"train": held["val"], **held}
    return {
        name: Thumbnails(pixels, side.targets, np.array([f"{name}{g}" for g in side.groups]))
        for name, side in sides.items()
    }


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


@pytest.mark.parametrize("k", [2, 3])
def test_every_baseline_is_in_the_table_and_in_the_figure(tmp_path: Path, k: int) -> None:
    metrics = make_run(tmp_path, k)
    page = write_report(tmp_path).read_text()
    section = page[page.index('<section id="baselines">') :].partition("</section>")[0]
    text = text_of(section)
    for row in metrics["baselines"]:
        assert f"{row['auroc']['value']:.3f}" in text
        assert f"{row['balanced_accuracy']['value']:.3f}" in text
    assert text.count("not cleared") == 1 and text.count(" cleared") == 3
    assert "best on validation" in text and "0.5 by definition and has no interval" in text
    assert ("Macro AUROC" in text) is (k == 3)
    assert "simpler" in text and '<a href="#baselines">Baselines</a>' in page
    assert (tmp_path / "figures" / "baselines.svg").is_file()
    assert "1 of 3 not cleared" in text_of(page)
    assert "No evidence of skill beyond a HOG and SVM baseline" in text_of(page)


@pytest.mark.parametrize(("count", "said"), [(1, "The baseline beside the model"), (3, "All 3 beside the model")])
def test_the_card_links_to_as_many_baselines_as_there_are(tmp_path: Path, count: int, said: str) -> None:
    metrics = make_run(tmp_path, 2)
    best = [row for row in metrics["baselines"] if row["best"]]
    metrics["baselines"] = best if count == 1 else metrics["baselines"]
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    assert said in text_of(write_report(tmp_path).read_text())


def test_metrics_from_before_there_were_several_baselines(tmp_path: Path) -> None:
    metrics = make_run(tmp_path, 2)
    del metrics["baselines"], metrics["baseline"]["key"]
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    page = write_report(tmp_path).read_text()
    assert 'id="baselines"' not in page and '"#baselines"' not in page
    assert "logistic regression on 16x16 thumbnails" in page


def test_scores_of_another_shape_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path, 2)
    held = {
        part: read_predictions(tmp_path / "predictions" / f"{part}.csv", CLASSES[2], "b") for part in ("val", "test")
    }
    content = json.loads((tmp_path / "threshold.json").read_text())
    options = given(2, held["val"].targets)
    options["baselines"] = {"majority": {"val": np.full((90, 2), 0.5), "test": np.full((89, 2), 0.5)}}
    with pytest.raises(ValueError, match=r"baseline majority: the scores of test have shape \(89, 2\)"):
        judge_run(tmp_path, OperatingPoint.from_dict(content), parts_of(held), **options)


def test_how_the_network_was_trained_and_where_its_stages_begin(tmp_path: Path) -> None:
    make_run(tmp_path, 2)
    assert "How the network was trained" not in write_report(tmp_path).read_text()
    (tmp_path / "history.csv").write_text(HISTORY)
    run = {
        **dict.fromkeys(("version", "command", "started", "finished", "manifest_sha256", "split_sha256"), "x"),
        **{"git": None, "durations": {}, "seeds": {}, "packages": {}, "precision": None, "best_epoch": 3},
        "hardware": {"cpu": "c", "cores": 2, "gpu": None, "ram_gb": 1.0},
        "model_notes": ["Weights: <imagenet>.", "Tested: the average of the weights."],
    }
    (tmp_path / "run.json").write_text(json.dumps(run))
    page = write_report(tmp_path).read_text()
    assert "How the network was trained" in page and "<li>Weights: &lt;imagenet&gt;.</li>" in page
    assert "<dt>Precision</dt>" not in page
    assert ">Stage</th>" in page and ">head</td>" in page and ">all</td>" in page
    assert "thin lines: a stage begins" in page


def test_lines_stand_where_the_stage_changes() -> None:
    history = pd.read_csv(io.StringIO(HISTORY))
    assert stage_starts(history) == [2.5]
    assert stage_starts(history.drop(columns="stage")) == []
    lines = [len(axes.lines) for axes in learning_curves(history).axes]
    plain = [len(axes.lines) for axes in learning_curves(history.drop(columns="stage")).axes]
    assert lines == [number + 1 for number in plain]


def test_the_terminal_says_what_is_not_cleared(tmp_path: Path) -> None:
    metrics = make_run(tmp_path, 2)
    console = Console(width=120, record=True, file=io.StringIO())
    print_results(metrics, console)
    lines = console.export_text().splitlines()
    start = next(number for number, line in enumerate(lines) if "beside baselines, on test" in line)
    said = {line.split("  ")[0]: line for line in lines[start + 2 : start + 6]}
    assert list(said) == ["cnn", "constant answer", "thumbnails", "HOG and SVM"]
    assert [name for name, line in said.items() if "not cleared" in line] == ["HOG and SVM"]
    metrics["baselines"][-1]["difference"]["auroc"] |= {"value": -0.2, "low": -0.3, "high": -0.1}
    print_results(metrics, console)
    assert re.search(r"HOG and SVM .* worse$", console.export_text(), re.M)

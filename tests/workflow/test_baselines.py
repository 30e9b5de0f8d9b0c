"""Baselines on a prepared data set: which there are, that they are remembered, and a run whose model is one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from datamodules.prepared import PreparedData, prepare
from evaluation.baselines import BASELINES, baseline_scores
from evaluation.judge import Thumbnails, judge_run
from evaluation.predictions import read_predictions
from evaluation.report import write_report
from evaluation.threshold import OperatingPoint
from tests.conftest import composed_settings
from workflow import baselines as module
from workflow.baselines import available_baselines, baseline_predictions, metadata_columns, train_baseline

IMAGES = 120


def settings_of(root: Path, home: Path, *more: str) -> dict[str, Any]:
    folders = (f"data.root={root}", f"data.prepared={home / 'prepared'}", "model.image_size=32")
    table = ("table.group=owner", "table.subgroups=[sex,site,dx_type]", "data.near_duplicates=false")
    shares = ("split.test_fraction=0.3", "split.val_fraction=0.3", "evaluation.bootstrap=100")
    task = ("task=table", "task.classes=[a,b]", "task.positive=[b]")
    return composed_settings(*task, *folders, *table, *shares, *more)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images whose stripes and whose sex column go with the class; two of an owner."""
    folder = tmp_path_factory.mktemp("baselines")
    rng = np.random.default_rng(0)
    rows = []
    (folder / "data").mkdir()
    for number in range(IMAGES):
        label = number // 2 % 2
        wave = np.tile(60 * np.sin(np.arange(32) / 2.0 + rng.uniform(0, 6)), (32, 1))
        picture = 128 + (wave if label else wave.T) + rng.normal(0, 10, (32, 32))
        cv2.imwrite(str(folder / "data" / f"{number}.png"), np.clip(picture, 0, 255).astype(np.uint8))
        sex = "male" if rng.random() < (0.9 if label else 0.1) else "female"
        rows.append((f"{number}.png", "ab"[label], f"owner{number // 2}", sex, "back", "yes" if label else "no"))
    columns = ["path", "label", "owner", "sex", "site", "dx_type"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "data" / "images.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def prepared(home: Path) -> PreparedData:
    return prepare(settings_of(home / "data", home))


def features_of(prepared: PreparedData) -> dict[str, np.ndarray]:
    targets, rng = prepared.manifest.targets, np.random.default_rng(0)
    rows = {part: prepared.splits.rows(part) for part in ("train", "val", "test")}
    return {part: rng.normal(size=(len(mine), 6)) + 2.0 * targets[mine, None] for part, mine in rows.items()}


def test_what_there_is_depends_on_the_data_and_on_the_run(home: Path, prepared: PreparedData) -> None:
    settings = settings_of(home / "data", home)
    assert metadata_columns(prepared) == ["sex"]  # site has one value, and dx_type tells the answer
    assert available_baselines(settings, prepared) == ["majority", "thumbnail", "metadata", "hog_svm"]
    settings["evaluation"]["baselines"] = ["features", "hog_svm"]
    assert available_baselines(settings, prepared) == ["hog_svm"]
    assert available_baselines(settings, prepared, features_of(prepared)) == ["hog_svm", "features"]
    settings["model"]["name"] = "baseline_hog_svm"
    assert available_baselines(settings, prepared) == []
    settings["evaluation"]["baselines"] = ["hog"]
    with pytest.raises(ValueError, match=r"evaluation\.baselines holds 'hog'"):
        available_baselines(settings, prepared)
    bare = replace(prepared.manifest, frame=prepared.manifest.frame.drop(columns=["sex", "site"]))
    without = replace(prepared, manifest=bare)
    assert metadata_columns(without) == []
    with pytest.raises(ValueError, match="none of the columns age, own_age, sex"):
        baseline_predictions("metadata", settings, without)


def test_every_baseline_sees_what_it_should(home: Path, prepared: PreparedData) -> None:
    settings, targets = settings_of(home / "data", home), prepared.manifest.targets
    accuracy = {}
    for name in BASELINES:
        features = features_of(prepared) if name == "features" else None
        found = baseline_predictions(name, settings, prepared, features=features)
        assert list(found) == ["val", "test"]
        for part, scores in found.items():
            assert scores.shape == (len(prepared.splits.rows(part)), 2)
            assert (scores.sum(axis=1) == 1.0).all()
        accuracy[name] = (found["test"].argmax(axis=1) == targets[prepared.splits.rows("test")]).mean()
    assert accuracy["hog_svm"] > 0.95 and accuracy["features"] > 0.9 and 0.75 < accuracy["metadata"] < 1.0
    with pytest.raises(ValueError, match="none were given"):
        baseline_predictions("features", settings, prepared)
    short = {part: rows[:-1] for part, rows in features_of(prepared).items()}
    with pytest.raises(ValueError, match="do not fit the split"):
        baseline_predictions("features", settings, prepared, features=short)


def test_the_next_run_on_the_same_split_only_reads(
    home: Path, prepared: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(home / "data", home)
    first = baseline_predictions("thumbnail", settings, prepared)
    (kept,) = (prepared.task_folder / "baselines").glob("thumbnail-*.npz")
    fitted: list[str] = []
    real = baseline_scores

    def counted(name: str, *given: Any, **more: Any) -> dict[str, Any]:
        fitted.append(name)
        return real(name, *given, **more)

    monkeypatch.setattr(module, "baseline_scores", counted)
    again = baseline_predictions("thumbnail", settings, prepared)
    assert not fitted and all(np.array_equal(first[part], again[part]) for part in first)
    kept.write_bytes(kept.read_bytes()[:100])  # a damaged file is made again
    mended = baseline_predictions("thumbnail", settings, prepared)
    assert fitted == ["thumbnail"] and np.array_equal(first["test"], mended["test"])
    other = prepare(settings_of(home / "data", home, "split.seed=1"))
    baseline_predictions("thumbnail", settings_of(home / "data", home, "split.seed=1"), other)
    smaller = replace(prepared, pixels=np.ascontiguousarray(prepared.pixels[:, ::2, ::2]))
    baseline_predictions("thumbnail", settings, smaller)
    assert fitted == ["thumbnail"] * 3
    assert not list((prepared.task_folder / "baselines").glob(".*"))


def test_a_run_whose_model_is_a_baseline(home: Path, prepared: PreparedData, tmp_path: Path) -> None:
    settings = settings_of(home / "data", home, "threshold.rule=empirical", "threshold.recall=0.9")
    settings["model"]["name"] = "baseline_metadata"
    point = train_baseline(settings, prepared, tmp_path)
    content = json.loads((tmp_path / "threshold.json").read_text())
    assert OperatingPoint.from_dict(content) == point and "baseline_metadata" in content["title"]
    assert point.rule == "empirical" and point.target_recall == 0.9 and not point.selection_optimistic
    val = read_predictions(tmp_path / "predictions" / "val.csv", ("a", "b"), "b")
    assert val.frame["image_id"].tolist() == prepared.splits.frame["image_id"][prepared.splits.rows("val")].tolist()
    parts = {}
    for part in ("train", "val", "test"):
        rows = prepared.splits.rows(part)
        groups = prepared.manifest.frame["group_id"].to_numpy(dtype=str)[rows]
        parts[part] = Thumbnails(prepared.pixels[rows].reshape(len(rows), -1)[:, :256], np.zeros(0, int), groups)
        parts[part] = replace(parts[part], targets=prepared.manifest.targets[rows])
    names = available_baselines(settings, prepared)
    assert names == ["majority", "thumbnail", "hog_svm"]
    metrics = judge_run(
        tmp_path,
        point,
        parts,
        classes=("a", "b"),
        positive=["b"],
        baselines={name: baseline_predictions(name, settings, prepared) for name in names},
        title="t",
        task="t",
        model="baseline_metadata",
        phantom=False,
        bootstrap=100,
    )
    assert [row["name"] for row in metrics["baselines"]] == names
    assert not metrics["baselines"][2]["clears"]  # the image says more here than the metadata
    assert (tmp_path / "predictions" / "hog_svm_test.csv").is_file()
    (tmp_path / "metrics.json").write_text(json.dumps(metrics, allow_nan=False))
    page = write_report(tmp_path).read_text()
    assert "fitted at once" in page and "history.csv" not in page and "Beside simpler methods" in page
    settings["model"]["name"] = "baseline_svm"
    with pytest.raises(ValueError, match=r"model\.name is 'baseline_svm'"):
        train_baseline(settings, prepared, tmp_path)

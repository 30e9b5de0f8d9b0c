"""From the predictions files of a run to metrics.json, for two classes and for several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.judge import Thumbnails, judge_run
from evaluation.predictions import read_predictions, write_predictions
from evaluation.threshold import choose_operating_point

PARTS = {"train": 300, "val": 160, "test": 170}
NAMES = {
    2: (("benign", "malignant"), "malignant", "malignant"),
    4: (("bcc", "bkl", "mel", "nv"), ("mel", "bcc"), "cancer"),
}


def make(folder: Path, k: int, *, pixels: int = 48, seed: int = 0, **options: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    classes, positive, name = NAMES[k]
    colour = rng.normal(size=(k, pixels))
    parts = {}
    for part, n in PARTS.items():
        targets = np.arange(n) // 2 % k
        groups = np.array([f"{part}-{i // 2}" for i in range(n)])
        grey = 120 + 20 * rng.normal(size=(n, pixels)) + 4 * colour[targets]
        parts[part] = Thumbnails(np.clip(grey, 0, 255).astype(np.uint8), targets, groups)
        logits = rng.normal(size=(n, k))
        logits[np.arange(n), targets] += 3.0
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        frame = pd.DataFrame({"image_id": [f"{part}-{i}" for i in range(n)], "group_id": groups})
        frame["label"] = np.array(classes)[targets]
        for number, column in enumerate(classes):
            frame[f"prob_{column}"] = scores[:, number].astype(np.float32)
        if part != "train":
            write_predictions(folder / "predictions" / f"{part}.csv", frame)
    val = read_predictions(folder / "predictions" / "val.csv", classes, positive, name, "harmless")
    settings: dict[str, Any] = {"title": "t", "task": "t", "model": "m", "phantom": False, "group_name": "lesion"}
    settings |= {"bootstrap": 60, "positive_name": name, "negative_name": "harmless"}
    point = choose_operating_point(val, recall=0.9, group_name="lesion")
    return judge_run(folder, point, parts, classes=classes, positive=positive, **(settings | options))


def test_two_classes_have_no_part_of_their_own(tmp_path: Path) -> None:
    metrics = make(tmp_path, 2)
    assert "multiclass" not in metrics["splits"]["test"]
    assert set(metrics["baseline"]["difference"]) == {"auroc"} and "argmax_sentence" not in metrics["baseline"]
    assert (metrics["positive"], metrics["negative_class"]) == (["malignant"], "benign")
    frame = pd.read_csv(tmp_path / "predictions" / "thumbnail_val.csv")
    assert (frame["prob_malignant"] + frame["prob_benign"] == 1.0).all()
    assert metrics["baseline"]["val"]["auroc"]["value"] > 0.7


def test_several_classes_everywhere(tmp_path: Path) -> None:
    metrics = make(tmp_path, 4)
    json.dumps(metrics, allow_nan=False)
    assert metrics["positive"] == ["bcc", "mel"]
    assert (metrics["positive_class"], metrics["negative_class"]) == ("cancer", "harmless")
    for side in (*metrics["splits"].values(), metrics["baseline"]["val"], metrics["baseline"]["test"]):
        assert len(side["multiclass"]["classes"]) == 4
        assert 0 < side["n_positive"] < side["n"]
    assert set(metrics["baseline"]["difference"]) == {"auroc", "macro_auroc", "balanced_accuracy"}
    ours, theirs = (
        side["multiclass"]["macro_auroc"] for side in (metrics["splits"]["test"], metrics["baseline"]["test"])
    )
    difference = metrics["baseline"]["difference"]["macro_auroc"]
    assert difference["value"] == pytest.approx(ours["value"] - theirs["value"])
    assert difference["low"] < difference["value"] < difference["high"]
    assert "Macro AUROC: " in metrics["baseline"]["argmax_sentence"]
    assert set(metrics["shift"]["domain_auc"]) == {"bcc", "bkl", "mel", "nv"}
    for part in ("val", "test"):
        frame = pd.read_csv(tmp_path / "predictions" / f"thumbnail_{part}.csv")
        columns = [f"prob_{name}" for name in NAMES[4][0]]
        assert len(frame) == PARTS[part]
        assert frame[columns].sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-5)
        assert np.array_equal(frame[columns], frame[columns].astype(np.float32).astype(float))


def test_a_leaky_split_is_the_first_worry(tmp_path: Path) -> None:
    leak = {"grouping": "none", "test_images": 1503, "test_images_with_group_in_train": 542, "share": 542 / 1503}
    metrics = make(tmp_path, 2, leak=leak | {"unit": "lesion"})
    assert metrics["leak"]["test_images"] == 1503
    worry = metrics["worries"][0]
    assert (worry["level"], worry["title"]) == ("alarm", "LEAKY split")
    assert (
        "36.1 % of the test images show a lesion that is also in training, so every figure here may be too good"
        in worry["text"]
    )
    assert make(tmp_path, 2)["leak"] is None


def test_what_kind_of_test_part_it_was_is_kept_and_checked(tmp_path: Path) -> None:
    assert make(tmp_path, 2)["test_kind"] == "official"
    assert make(tmp_path, 2, test_kind="cut")["test_kind"] == "cut"
    with pytest.raises(ValueError, match="test_kind is 'own'"):
        make(tmp_path, 2, test_kind="own")


def test_a_threshold_of_other_positive_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="as the threshold was chosen for"):
        make(tmp_path, 4, positive_name="other")

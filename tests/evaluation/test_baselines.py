"""Five baselines: what they give, on what they rest, and that constant scores do no harm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.baseline import thumbnail_scores
from evaluation.baselines import BASELINES, TITLES, BaselineInputs, baseline_scores
from evaluation.predictions import Predictions
from evaluation.summary import evaluate_run
from evaluation.threshold import choose_operating_point

LEARNT = [name for name in BASELINES if name != "majority"]
SIZES = (180, 60, 70)


def inputs(k: int, *, width: int = 12, gap: float = 2.0, seed: int = 0) -> tuple[BaselineInputs, list[np.ndarray]]:
    """Three parts whose first inputs tell the class; two images a group."""
    rng = np.random.default_rng(seed)
    targets = [np.arange(n) // 2 % k for n in SIZES]
    centres = gap * np.eye(k, width)
    parts = [rng.normal(size=(len(t), width)) + centres[t] for t in targets]
    return BaselineInputs(parts[0], parts[1], parts[2], np.arange(SIZES[0]) // 2), targets


def assert_probabilities(scores: dict[str, Any], k: int) -> None:
    assert list(scores) == ["val", "test"]
    for part, n in zip(scores.values(), SIZES[1:], strict=True):
        assert part.shape == (n, k) and part.dtype == np.float64
        assert part.min() >= 0 and part.max() <= 1
        assert part.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("k", [2, 4])
def test_gives_class_probabilities_and_the_same_again(name: str, k: int) -> None:
    given, targets = inputs(k)
    scores = baseline_scores(name, given, targets[0], k)
    assert_probabilities(scores, k)
    again = baseline_scores(name, given, targets[0], k)
    assert all(np.array_equal(scores[part], again[part]) for part in scores)
    if name != "majority":
        assert (scores["test"].argmax(axis=1) == targets[2]).mean() > 0.6


def test_majority_is_the_class_frequencies_of_training() -> None:
    given, _ = inputs(2)
    targets = np.repeat([0, 1, 2], [90, 60, 30])
    scores = baseline_scores("majority", given, targets, 4)
    assert scores["val"] == pytest.approx(np.tile([1 / 2, 1 / 3, 1 / 6, 0], (60, 1)))


def test_the_thumbnail_baseline_is_the_one_that_there_was() -> None:
    given, targets = inputs(2)
    scores = baseline_scores("thumbnail", given, targets[0], 2, positive=0)
    expected = thumbnail_scores(given.train, targets[0] == 0, given.val)
    assert scores["val"][:, 0] == pytest.approx(expected, abs=1e-7)
    assert (scores["val"].sum(axis=1) == 1.0).all()


@pytest.mark.parametrize("name", LEARNT)
def test_learns_from_training_alone(name: str) -> None:
    """Another test part does not change what is said of validation."""
    given, targets = inputs(3)
    other = BaselineInputs(given.train, given.val, given.test[:5] + 50.0, given.groups)
    first, second = (baseline_scores(name, item, targets[0], 3)["val"] for item in (given, other))
    assert first == pytest.approx(second, abs=1e-6)


@pytest.mark.parametrize("name", LEARNT)
def test_a_class_that_training_lacks_gets_nothing(name: str) -> None:
    given, targets = inputs(3)
    scores = baseline_scores(name, given, np.where(targets[0] == 1, 3, targets[0]), 4)
    assert (scores["test"][:, 1] == 0).all() and (scores["test"][:, [0, 2, 3]] > 0).all()


@pytest.mark.parametrize("name", ["metadata", "features", "hog_svm"])
def test_too_few_groups_for_folds(name: str) -> None:
    given, targets = inputs(2)
    few = BaselineInputs(given.train, given.val, given.test, targets[0])  # one group a class
    scores = baseline_scores(name, few, targets[0], 2)
    assert (scores["test"].argmax(axis=1) == targets[2]).mean() > 0.8


def test_groups_decide_the_folds() -> None:
    """Copies of an image in one group teach nothing about other groups: probabilities stay near the frequencies."""
    rng = np.random.default_rng(0)
    one = rng.normal(size=(30, 40))
    copies = np.repeat(one, 6, axis=0) + 1e-3 * rng.normal(size=(180, 40))
    targets = np.repeat(rng.permutation(30) % 2, 6)
    held = rng.normal(size=(200, 40))
    whole = BaselineInputs(copies, held[:100], held[100:], np.arange(180) // 6)
    torn = BaselineInputs(copies, held[:100], held[100:], np.arange(180))
    sure = [np.abs(baseline_scores("hog_svm", item, targets, 2)["test"] - 0.5).mean() for item in (whole, torn)]
    assert sure[0] < 0.5 * sure[1]


def test_constant_inputs_and_other_scales_do_no_harm() -> None:
    given, targets = inputs(2)
    padded = [np.column_stack([1e6 * part, np.full(len(part), 7.0)]) for part in (given.train, given.val, given.test)]
    scores = baseline_scores("features", BaselineInputs(padded[0], padded[1], padded[2], given.groups), targets[0], 2)
    plain = baseline_scores("features", given, targets[0], 2)
    assert scores["test"] == pytest.approx(plain["test"], abs=1e-3)


def test_what_does_not_fit_is_refused() -> None:
    given, targets = inputs(2)
    with pytest.raises(ValueError, match="choose from majority, thumbnail"):
        baseline_scores("svm", given, targets[0], 2)
    with pytest.raises(ValueError, match="179 targets"):
        baseline_scores("features", given, targets[0][:-1], 2)
    with pytest.raises(ValueError, match="of one class"):
        baseline_scores("metadata", given, np.zeros(180, dtype=int), 2)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        baseline_scores("majority", given, targets[0] + 1, 2)
    broken = BaselineInputs(given.train, given.val, np.where(given.test > 1, np.nan, given.test), given.groups)
    with pytest.raises(ValueError, match="inputs of test hold NaN"):
        baseline_scores("hog_svm", broken, targets[0], 2)
    narrow = BaselineInputs(given.train, given.val[:, :3], given.test, given.groups)
    with pytest.raises(ValueError, match=r"\(60, 3\)"):
        baseline_scores("features", narrow, targets[0], 2)


def predictions(part: str, separation: float, seed: int = 0) -> Predictions:
    """80 groups of two images; separation 0 is one score for all."""
    rng = np.random.default_rng([seed, len(part)])
    labels = np.arange(160) // 2 % 2
    latent = separation * (2 * labels - 1) + (rng.normal(size=160) if separation else 0.0)
    scores = (1 / (1 + np.exp(-latent))).astype(np.float32).astype(float)
    frame = pd.DataFrame({"image_id": [f"{part}-{i}" for i in range(160)], "group_id": np.arange(160) // 2})
    frame["group_id"] = part + frame["group_id"].astype(str)
    frame["label"] = np.array(["a", "b"])[labels]
    return Predictions(frame.assign(prob_a=1 - scores, prob_b=scores), ("a", "b"), "b")


def judged(model: float, **strength: float) -> dict[str, Any]:
    val, test = predictions("val", model), predictions("test", model)
    pairs = {name: (predictions("val", s, 1), predictions("test", s, 1)) for name, s in strength.items()}
    options: dict[str, Any] = {"title": "t", "task": "t", "model": "m", "phantom": False, "domain_aucs": {}}
    return evaluate_run(val, test, choose_operating_point(val), baselines=pairs, bootstrap=100, **options)


def test_each_baseline_has_a_row_and_a_paired_difference() -> None:
    metrics = judged(3.0, hog_svm=0.6, thumbnail=0.3, majority=0.0)
    rows = {row["name"]: row for row in metrics["baselines"]}
    assert list(rows) == ["majority", "thumbnail", "hog_svm"]  # the order of BASELINES
    assert [name for name, row in rows.items() if row["best"]] == ["hog_svm"]
    assert metrics["baseline"]["key"] == "thumbnail" and metrics["baseline"]["name"] == TITLES["thumbnail"]
    model = metrics["splits"]["test"]["auroc"]["value"]
    for row in rows.values():
        difference = row["difference"]["auroc"]
        assert difference["value"] == pytest.approx(model - row["auroc"]["value"])
        assert difference["low"] <= difference["value"] <= difference["high"]
        assert row["clears"] and TITLES[row["name"]] in row["sentence"]
    assert not [item for item in metrics["worries"] if "skill" in item["title"]]


def test_a_constant_answer_is_at_chance_and_has_no_interval() -> None:
    metrics = judged(2.0, majority=0.0)
    (row,) = metrics["baselines"]
    assert (row["auroc"]["value"], row["auroc"]["low"], row["auroc"]["high"]) == (0.5, None, None)
    assert row["constant"] and row["clears"] and row["accuracy"]["value"] == 0.5
    assert metrics["baseline"]["key"] == "majority"  # without thumbnails the strongest on validation
    assert metrics["baseline"]["test"]["auroc"]["low"] is None and row["balanced_accuracy"]["low"] is None


def test_a_model_that_is_constant_is_no_better_than_one() -> None:
    metrics = judged(0.0, majority=0.0, thumbnail=1.0)
    assert not any(row["clears"] for row in metrics["baselines"])
    titles = [item["title"] for item in metrics["worries"]]
    assert "No evidence of skill beyond a thumbnail baseline" in titles and "No better than chance" in titles
    assert any("the same score: the AUROC is 0.5 by definition" in item["text"] for item in metrics["worries"])


def test_the_worry_names_the_best_that_is_not_cleared_and_the_others() -> None:
    metrics = judged(1.0, majority=0.0, thumbnail=1.0, hog_svm=1.4)
    worry = next(item for item in metrics["worries"] if "skill" in item["title"])
    assert worry["level"] == "alarm" and worry["title"] == "No evidence of skill beyond a HOG and SVM baseline"
    assert "linear SVM" in worry["text"] and "better than a thumbnail baseline." in worry["text"]
    assert "constant" not in worry["text"]

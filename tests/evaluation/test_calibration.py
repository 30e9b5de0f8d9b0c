"""Calibration figures against scikit-learn, statsmodels and naive loops; what is not defined; and the words for it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm  # type: ignore[import-untyped]
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from evaluation.bootstrap import Resampling, group_draws
from evaluation.calibration import calibration_of, calibration_section
from evaluation.calibration_bins import (
    brier_parts,
    calibration_error,
    class_wise_error,
    debiased_error,
    equal_mass,
    equal_width,
    error_by_chance,
    top_label_error,
)
from evaluation.calibration_words import faults_of
from evaluation.predictions import Predictions
from evaluation.recalibration import Calibrator, logit

HOW = Resampling(120, 0.95, (0, 1))


def predictions(
    labels: NDArray[Any], scores: NDArray[np.float64], groups: NDArray[np.int64] | None = None
) -> Predictions:
    named = np.arange(len(labels)) if groups is None else groups
    frame = pd.DataFrame({"image_id": [f"i{k}" for k in range(len(labels))], "group_id": [f"g{k:05d}" for k in named]})
    frame["label"] = np.where(np.asarray(labels) == 1, "ill", "well")
    return Predictions(frame.assign(prob_ill=scores, prob_well=1.0 - scores), ("ill", "well"), "ill")


def drawn(n: int = 500, slope: float = 0.6, intercept: float = -0.5, seed: int = 0, digits: int = 9) -> Predictions:
    """Scores whose true risk is ``expit(slope * logit(score) + intercept)``, two images a group."""
    rng = np.random.default_rng(seed)
    scores = np.round(expit(2.0 * rng.normal(size=n)), digits)
    labels = rng.random(n) < expit(slope * logit(scores) + intercept)
    return predictions(labels, scores, np.arange(n) // 2)


def of_classes(n: int = 600, seed: int = 0) -> Predictions:
    rng, classes = np.random.default_rng(seed), ("a", "b", "c")
    targets = rng.choice(3, n, p=[0.2, 0.3, 0.5])
    raised = np.exp(2.5 * (rng.normal(size=(n, 3)) + np.eye(3)[targets]))
    frame = pd.DataFrame({"image_id": [f"i{k}" for k in range(n)], "group_id": [f"g{k}" for k in range(n)]})
    frame["label"] = np.array(classes)[targets]
    frame[[f"prob_{name}" for name in classes]] = raised / raised.sum(axis=1, keepdims=True)
    return Predictions(frame, classes, ("a", "b"), "bad", "good")


def naive_error(labels: NDArray[Any], scores: NDArray[np.float64], edges: NDArray[np.float64]) -> float:
    total = 0.0
    for low, high in pairwise(edges.tolist()):
        inside = [
            (s, y) for s, y in zip(scores, labels, strict=True) if low < s <= high or (low == edges[0] and s == low)
        ]
        if inside:
            total += abs(sum(s for s, _ in inside) - sum(int(y) for _, y in inside))
    return total / len(scores)


@pytest.mark.parametrize("digits", [9, 1])
def test_bins_equal_those_of_scikit_learn(digits: int) -> None:
    held = drawn(digits=digits)
    for strategy, bins in (
        ("quantile", equal_mass(held.labels, held.scores)),
        ("uniform", equal_width(held.labels, held.scores)),
    ):
        rate, mean = calibration_curve(held.labels, held.scores, n_bins=10, strategy=strategy)
        filled = bins.n > 0
        assert bins.rate[filled] == pytest.approx(rate)
        assert bins.mean[filled] == pytest.approx(mean)
        assert bins.n.sum() == len(held)


@pytest.mark.parametrize("digits", [9, 1])
def test_calibration_errors_equal_naive_loops(digits: int) -> None:
    held = drawn(digits=digits)
    mass, width = equal_mass(held.labels, held.scores), equal_width(held.labels, held.scores)
    assert calibration_error(width) == pytest.approx(naive_error(held.labels, held.scores, np.linspace(0, 1, 11)))
    assert calibration_error(mass) == pytest.approx(naive_error(held.labels, held.scores, mass.edges))
    squares = 0.0
    for n, mean, rate in zip(mass.n, mass.mean, mass.rate, strict=True):
        squares += n / len(held) * ((mean - rate) ** 2 - rate * (1 - rate) / (n - 1))
    assert debiased_error(mass) == pytest.approx(np.sqrt(squares))


def test_equal_scores_share_a_bin_whatever_the_order_of_rows() -> None:
    held = drawn(digits=1)
    bins = equal_mass(held.labels, held.scores)
    order = np.random.default_rng(1).permutation(len(held))
    again = equal_mass(held.labels[order], held.scores[order])
    np.testing.assert_array_equal(bins.n, again.n)
    assert all(len(np.unique(bins.member[held.scores == value])) == 1 for value in np.unique(held.scores))
    assert (bins.n > 0).all()
    one = equal_mass(held.labels, np.full(len(held), 0.3))
    assert one.n.tolist() == [len(held)] and one.edges.tolist() == [0.3, 0.3]


@pytest.mark.parametrize("bins", [1, 4, 10])
def test_parts_of_the_brier_score_add_up_exactly(bins: int) -> None:
    held = drawn()
    for mass in (equal_mass(held.labels, held.scores, bins), equal_width(held.labels, held.scores, bins)):
        parts = brier_parts(held.labels, held.scores, mass)
        total = parts["reliability"] - parts["resolution"] + parts["uncertainty"]
        total += parts["within_variance"] - parts["within_covariance"]
        assert total == pytest.approx(brier_score_loss(held.labels, held.scores), abs=1e-14)
    few = predictions(held.labels, np.round(held.scores, 1))
    exact = brier_parts(few.labels, few.scores, equal_width(few.labels, few.scores, 1000))
    assert exact["within_variance"] == pytest.approx(0.0, abs=1e-15) == exact["within_covariance"]


def test_errors_over_classes_equal_naive_ones() -> None:
    held = of_classes()
    called, top = held.probabilities.argmax(axis=1), held.probabilities.max(axis=1)
    right = called == held.targets
    edges = np.quantile(top, np.linspace(0, 1, 11))
    assert top_label_error(held.targets, held.probabilities) == pytest.approx(naive_error(right, top, edges))
    each = []
    for number in range(3):
        column = held.probabilities[:, number]
        each.append(naive_error(held.targets == number, column, np.quantile(column, np.linspace(0, 1, 11))))
    assert class_wise_error(held.targets, held.probabilities) == pytest.approx(np.mean(each))


def test_figures_of_a_split_equal_reference_software() -> None:
    held = drawn()
    cal = calibration_of(held, HOW)
    json.dumps(cal, allow_nan=False)
    assert cal["brier"]["value"] == pytest.approx(brier_score_loss(held.labels, held.scores))
    assert cal["log_loss"]["value"] == pytest.approx(log_loss(held.labels, held.scores))
    rate = held.labels.mean()
    assert cal["brier_skill"]["value"] == pytest.approx(1 - cal["brier"]["value"] / (rate * (1 - rate)))
    reference = sm.Logit(held.labels, sm.add_constant(logit(held.scores))).fit(disp=0, tol=1e-12)
    found = [cal[name]["value"] for name in ("intercept", "slope")]
    assert found == pytest.approx(list(reference.params), abs=1e-7)
    assert cal["mean_score"] == pytest.approx(held.scores.mean()) and cal["rate"] == pytest.approx(rate)
    for name in ("brier", "log_loss", "brier_skill", "slope", "intercept", "in_the_large"):
        assert cal[name]["low"] < cal[name]["value"] < cal[name]["high"]
    error = cal["ece"]["equal_mass"]
    assert 0 <= error["low"] <= error["value"] <= error["high"] and error["method"].endswith("centred")
    assert sum(row["n"] for row in cal["bins"]) == len(held) == sum(map(sum, cal["histogram"].values()))
    assert all(row["rate_low"] <= row["rate"] <= row["rate_high"] for row in cal["bins"])
    assert cal["bins"][0]["low"] == held.scores.min() and cal["bins"][-1]["high"] == held.scores.max()


def test_draws_are_those_of_repeated_images() -> None:
    """The ends of every interval are quantiles of figures of the repeated rows."""
    held, how = drawn(120, digits=2), Resampling(40, 0.9, 3)
    weights = np.concatenate(list(group_draws(held.groups, held.labels, how.resamples, how.seed)))
    slopes, losses = [], []
    for row in weights:
        rows = np.repeat(np.arange(len(held)), row[held.groups].astype(int))
        fitted = sm.Logit(held.labels[rows], sm.add_constant(logit(held.scores[rows]))).fit(disp=0, tol=1e-12)
        slopes.append(fitted.params[1])
        losses.append(brier_score_loss(held.labels[rows], held.scores[rows]))
    cal = calibration_of(held, how)
    for name, draws in (("slope", slopes), ("brier", losses)):
        wanted = np.quantile(draws, [0.05, 0.95])
        assert [cal[name]["low"], cal[name]["high"]] == pytest.approx(list(wanted), abs=1e-6)


def test_calibrated_scores_have_intervals_that_hold_the_ideal_and_an_error_like_chance() -> None:
    cal = calibration_of(drawn(4000, 1.0, 0.0), HOW)
    assert cal["slope"]["low"] < 1 < cal["slope"]["high"]
    assert cal["in_the_large"]["low"] < 0 < cal["in_the_large"]["high"]
    assert cal["ece"]["equal_mass"]["value"] < cal["ece"]["by_chance"]["high"]
    assert cal["ece"]["debiased_l2"] < 0.03
    assert faults_of(cal) == []


def test_error_by_chance_is_that_of_drawn_labels() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(400)
    bins = equal_mass(np.zeros(400, dtype=np.uint8), scores)
    found = [calibration_error(equal_mass((rng.random(400) < scores).astype(np.uint8), scores)) for _ in range(400)]
    mean, high = error_by_chance(scores, bins)
    assert mean == pytest.approx(np.mean(found), rel=0.08)
    assert high == pytest.approx(np.quantile(found, 0.95), rel=0.12)


@pytest.mark.parametrize(
    ("slope", "intercept", "words"),
    [(0.4, 0.0, ["too extreme"]), (2.2, 0.0, ["not extreme enough"]), (1.0, -1.5, ["too high"]), (1.0, 1.5, ["too low"])],
)  # fmt: skip
def test_faults_are_named(slope: float, intercept: float, words: list[str]) -> None:
    assert faults_of(calibration_of(drawn(3000, slope, intercept), HOW)) == words


def test_a_gap_is_notable_relative_to_the_rarer_class() -> None:
    """A mean of 0.23 where 0.19 are positive is a fifth too high, although the gap is below 0.05."""
    rng = np.random.default_rng(0)
    scores = expit(-1.7 + 1.5 * rng.normal(size=4000))
    labels = rng.random(4000) < expit(logit(scores) - 0.35)
    for sign, word in ((1, "too high"), (-1, "too low")):
        held = predictions(labels if sign > 0 else ~labels, scores if sign > 0 else 1.0 - scores)
        section = calibration_section(None, held, HOW)
        cal = section["splits"]["test"]["raw"]
        assert 0.02 < abs(cal["mean_score"] - cal["rate"]) < 0.05
        assert faults_of(cal) == [word]
        assert f"Raw scores on test are {word}" in section["sentence"] and section["worry"]["level"] == "note"


def test_a_gap_that_the_number_of_positives_explains_is_no_fault() -> None:
    """Perfect scores of 150 images: the mean is often off by a tenth of the rate, though by chance alone."""
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scores = expit(-1.7 + 1.5 * rng.normal(size=150))
        found.append(faults_of(calibration_of(predictions(rng.random(150) < scores, scores), HOW)))
    assert sum("too high" in faults or "too low" in faults for faults in found) <= 4


def test_a_calibration_error_beyond_chance_is_a_fault_though_slope_and_mean_are_right() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.2, 0.8, 6000)
    labels = rng.random(6000) < scores + 0.08 * np.cos((scores - 0.5) * 4 * np.pi / 0.6)
    section = calibration_section(None, predictions(labels, scores), HOW)
    cal = section["splits"]["test"]["raw"]
    assert cal["slope"]["low"] < 1 < cal["slope"]["high"] and abs(cal["mean_score"] - cal["rate"]) < 0.02
    assert faults_of(cal) == ["off in parts of their range"] and section["worry"]["level"] == "note"


def test_recalibration_on_validation_mends_test() -> None:
    section = calibration_section(drawn(1500, seed=1), drawn(1500, seed=2), HOW)
    json.dumps(section, allow_nan=False)
    test, val = section["splits"]["test"], section["splits"]["val"]
    assert section["calibrator"]["method"] == "platt"
    assert test["recalibrated"]["slope"]["low"] < 1 < test["recalibrated"]["slope"]["high"]
    assert test["recalibrated"]["ece"]["equal_mass"]["value"] < test["raw"]["ece"]["equal_mass"]["value"] / 2
    assert val["recalibrated"]["slope"]["value"] == pytest.approx(1.0, abs=1e-6)
    assert val["recalibrated"]["intercept"]["value"] == 0.0
    assert section["worry"]["level"] == "note" and "Recalibrated on validation" in section["worry"]["text"]
    assert "Raw scores on test are too high and too extreme" in section["sentence"]
    assert "After Platt scaling on validation they are not notably off" in section["sentence"]


def test_recalibration_that_does_not_hold_for_test_is_a_caution_and_said_to_be_worse() -> None:
    section = calibration_section(drawn(1500, 1.0, 2.0, seed=1), drawn(1500, 1.0, -0.3, seed=2), HOW)
    assert section["worry"]["level"] == "caution"
    assert "After recalibration on validation the scores are too high" in section["worry"]["text"]
    assert "That is worse" in section["sentence"]


def test_without_validation_a_stored_calibrator_or_none() -> None:
    held = drawn()
    bare = calibration_section(None, held, HOW)
    assert bare["calibrator"] is None and set(bare["splits"]) == {"test"}
    assert bare["splits"]["test"]["recalibrated"] is None
    assert "there are no validation predictions" in bare["sentence"]
    stored = calibration_section(None, held, {"test": HOW}, calibrator=Calibrator("platt", 0.6, -0.5))
    moved = stored["splits"]["test"]["recalibrated"]
    assert moved == calibration_of(held, HOW, calibrator=Calibrator("platt", 0.6, -0.5))
    assert moved["slope"]["value"] == pytest.approx(stored["splits"]["test"]["raw"]["slope"]["value"] / 0.6)


def test_several_classes_have_errors_over_classes_raw_and_at_a_temperature() -> None:
    section = calibration_section(of_classes(seed=1), of_classes(seed=2), HOW)
    test = section["splits"]["test"]
    for name in ("class_wise", "top_label"):
        assert test["recalibrated"]["ece"][name] < test["raw"]["ece"][name]
    two = calibration_of(drawn(), HOW)
    assert two["ece"]["class_wise"] is None is two["ece"]["top_label"]


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_leaves_slopes_undefined(label: int) -> None:
    held = predictions(np.full(30, label), np.linspace(0.1, 0.9, 30))
    section = calibration_section(held, held, HOW)
    json.dumps(section, allow_nan=False)
    cal = section["splits"]["test"]["raw"]
    assert all(cal[name]["value"] is None for name in ("slope", "intercept", "in_the_large", "brier_skill"))
    assert cal["brier"]["value"] == pytest.approx(np.square(held.scores - label).mean())
    assert section["calibrator"]["method"] == "none" and "Not recalibrated" in section["sentence"]
    assert section["unknown"] == "one class only" and section["worry"] is None
    assert "cannot be judged: one class only" in section["sentence"] and "notably" not in section["sentence"]


def test_one_image_and_one_group() -> None:
    one = predictions(np.array([1]), np.array([0.4]))
    group = predictions(np.array([1, 0, 1]), np.array([0.4, 0.5, 1.0]), np.zeros(3, dtype=np.int64))
    for held in (one, group):
        cal = calibration_of(held, HOW)
        json.dumps(cal, allow_nan=False)
        assert cal["brier"]["low"] is None and cal["ece"]["equal_mass"]["low"] is None


def test_separable_classes_have_no_slope_but_a_brier_score() -> None:
    cal = calibration_of(predictions(np.repeat([0, 1], 30), np.linspace(0, 1, 60)), HOW)
    assert cal["slope"]["value"] is None and cal["slope"]["dropped"] == HOW.resamples
    assert cal["in_the_large"]["value"] is not None and cal["brier"]["low"] is not None


@pytest.mark.parametrize(
    ("labels", "scores", "why"),
    [
        ([0] * 30 + [1] * 30, np.repeat([0.01, 0.99], 30), "the scores separate the classes"),
        ([0, 1] * 30, np.full(60, 0.5), "all scores are equal"),
        ([1] + [0] * 9 + [1], np.array([0.3, *np.linspace(0.01, 0.4, 9), 0.5]), "too few groups"),
    ],
)
def test_calibration_that_cannot_be_judged_is_not_called_right(
    labels: list[int], scores: NDArray[np.float64], why: str
) -> None:
    groups = np.array([0, *range(1, 10), 0]) if why == "too few groups" else None
    section = calibration_section(None, predictions(np.array(labels), scores, groups), HOW)
    assert section["unknown"] == why and section["worry"] is None
    assert f"cannot be judged: {why}" in section["sentence"] and "notably" not in section["sentence"]
    assert calibration_section(None, drawn(), HOW)["unknown"] is None


def test_separable_scores_that_are_too_high_are_a_fault_all_the_same() -> None:
    held = predictions(np.repeat([0, 1], [90, 10]), np.concatenate([np.linspace(0.3, 0.5, 90), np.full(10, 0.9)]))
    section = calibration_section(None, held, HOW)
    assert section["unknown"] is None and section["worry"]["level"] == "caution"


def test_intervals_of_whole_groups_are_wider() -> None:
    base = drawn(150)
    copies = np.repeat(np.arange(150), 6)
    labels, scores = base.labels[copies], base.scores[copies]
    widths = []
    for groups in (copies, np.arange(900)):
        slope = calibration_of(predictions(labels, scores, groups), HOW)["slope"]
        widths.append(slope["high"] - slope["low"])
    assert widths[0] > 1.8 * widths[1]

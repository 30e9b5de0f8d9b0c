"""Decision curves against the formula written out, values of other software, and resamples of repeated images."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from evaluation.bootstrap import Resampling, group_draws
from evaluation.calibration import calibration_section
from evaluation.decision_curve import SHOWN, THRESHOLDS, decision_curve_of, net_benefit
from evaluation.predictions import Predictions
from evaluation.recalibration import Calibrator, fit_calibrator, prior_shift

HOW = Resampling(60, 0.95, (0, 1))


def predictions(
    labels: NDArray[Any], scores: NDArray[np.float64], groups: NDArray[np.int64] | None = None
) -> Predictions:
    named = np.arange(len(labels)) if groups is None else groups
    frame = pd.DataFrame({"image_id": [f"i{k}" for k in range(len(labels))], "group_id": [f"g{k:05d}" for k in named]})
    frame["label"] = np.where(np.asarray(labels) == 1, "ill", "well")
    return Predictions(frame.assign(prob_ill=scores, prob_well=1.0 - scores), ("ill", "well"), "ill")


def drawn(n: int = 240, seed: int = 5) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(int)
    scores = 1 / (1 + np.exp(-(1.4 * (2 * labels - 1) + rng.normal(size=n) * 1.3 - 0.6)))
    return predictions(labels, np.round(scores, 2).clip(0.01, 0.99))


def curve_of(held: Predictions, **options: Any) -> dict[str, Any]:
    found = decision_curve_of(held, HOW, **{"calibrator": None, "threshold": 0.3, **options})
    assert found is not None
    json.dumps(found, allow_nan=False)
    return found


def naive(held: Predictions, scores: NDArray[np.float64], pt: float) -> tuple[float, float]:
    """Net benefit of the model and of acting on all, from counts."""
    n, flagged = len(held), scores >= pt
    found, alarms = int((flagged & (held.labels == 1)).sum()), int((flagged & (held.labels == 0)).sum())
    positives = int(held.labels.sum())
    weight = pt / (1 - pt)
    return found / n - alarms / n * weight, positives / n - (n - positives) / n * weight


def test_values_of_the_package_dcurves() -> None:
    """Pinned from dcurves 1.1.7 on these scores: net benefit and interventions avoided at 5, 10, 20 and 50 %."""
    points = curve_of(drawn())["points"]
    assert [point["threshold"] for point in points] == list(SHOWN) == [0.05, 0.1, 0.2, 0.5]
    model = [0.273464912281, 0.251851851852, 0.233333333333, 0.179166666667]
    assert [point["model"]["value"] for point in points] == pytest.approx(model, abs=1e-11)
    every = [0.267543859649, 0.226851851852, 0.130208333333, -0.391666666667]
    assert [point["all"] for point in points] == pytest.approx(every, abs=1e-11)
    avoided = [0.1125, 0.225, 0.4125, 0.570833333333]
    assert [point["avoided"]["value"] for point in points] == pytest.approx(100 * np.array(avoided), abs=1e-9)


def test_every_threshold_equals_the_formula_and_ties_with_it_are_flagged() -> None:
    """Scores have two digits, so that many lie exactly on a threshold."""
    held = drawn()
    curve = curve_of(held)
    assert len(curve["thresholds"]) == len(THRESHOLDS) == len(set(THRESHOLDS))
    assert curve["thresholds"][0] == 0.01 and curve["thresholds"][-1] == 0.99
    wanted = [naive(held, held.scores, pt) for pt in curve["thresholds"]]
    assert curve["model"] == pytest.approx([row[0] for row in wanted], abs=1e-12)
    assert curve["all"] == pytest.approx([row[1] for row in wanted], abs=1e-12)
    ends = [row for row in zip(curve["low"], curve["model"], curve["high"], strict=True) if row[0] is not None]
    assert len(ends) > 100 and all(low <= value <= high for low, value, high in ends)


def test_a_point_states_what_is_flagged_and_found() -> None:
    held = drawn()
    for point in curve_of(held)["points"]:
        flagged = held.scores >= point["threshold"]
        assert point["flagged"] == pytest.approx(flagged.mean())
        assert point["sensitivity"] == pytest.approx(flagged[held.labels == 1].mean())
        assert point["gain"]["value"] == pytest.approx(point["model"]["value"] - max(point["all"], 0.0))


def test_bands_are_quantiles_over_repeated_images() -> None:
    held = drawn(120)
    held = predictions(held.labels, held.scores, np.arange(120) // 3)
    weights = np.concatenate(list(group_draws(held.groups, held.labels, HOW.resamples, HOW.seed)))
    models, gains = [], []
    for row in weights:
        rows = np.repeat(np.arange(120), row[held.groups].astype(int))
        part = predictions(held.labels[rows], held.scores[rows])
        model, every = naive(part, part.scores, 0.2)
        models.append(model)
        gains.append(model - max(every, 0.0))
    point = curve_of(held)["points"][2]
    for name, draws in (("model", models), ("gain", gains)):
        found = [point[name]["low"], point[name]["high"]]
        assert found == pytest.approx(list(np.quantile(draws, [0.025, 0.975])), abs=1e-12)


def test_ranges_are_where_the_model_beats_all_and_none() -> None:
    curve = curve_of(drawn())
    gains = np.array(curve["model"]) - np.maximum(curve["all"], 0.0)
    inside = np.zeros(len(THRESHOLDS), dtype=bool)
    for low, high in curve["useful"]:
        inside |= (np.array(THRESHOLDS) >= low) & (np.array(THRESHOLDS) <= high)
    np.testing.assert_array_equal(inside, gains > 0)
    for low, high in curve["certain"]:
        assert any(start <= low and high <= end for start, end in curve["useful"])
    assert "acting on the model is better" in curve["sentence"]


def test_a_constant_score_is_never_better() -> None:
    curve = curve_of(predictions(np.tile([0, 1, 0], 50), np.full(150, 1 / 3)))
    assert curve["useful"] == [] == curve["certain"]
    assert "At no threshold" in curve["sentence"]


def test_a_model_without_errors_is_better_for_certain() -> None:
    curve = curve_of(predictions(np.tile([0, 1, 0], 20), np.tile([0.005, 0.995, 0.005], 20)))
    assert curve["certain"] == [[0.01, 0.99]]
    assert curve["locked"]["certain"] and curve["locked"]["gain"]["low"] is None
    assert curve["points"][0]["model"]["value"] == pytest.approx(1 / 3)


def test_recalibrated_scores_are_used_and_the_locked_threshold_moves_with_them() -> None:
    held, calibrator = drawn(), Calibrator("platt", 0.5, -1.0, n=100, n_positive=30)
    curve = curve_of(held, calibrator=calibrator, threshold=0.37)
    moved = calibrator.scores(held.scores)
    assert curve["recalibrated"] and curve["mean_score"] == pytest.approx(moved.mean())
    assert curve["model"] == pytest.approx([naive(held, moved, pt)[0] for pt in curve["thresholds"]])
    locked = curve["locked"]
    assert locked["score"] == 0.37
    assert locked["threshold"] == pytest.approx(float(calibrator.scores([0.37])[0]))
    assert locked["sensitivity"] == pytest.approx((held.scores >= 0.37)[held.labels == 1].mean())
    assert locked["flagged"] == pytest.approx((held.scores >= 0.37).mean())
    assert "recalibrated probability" in curve["sentence"] and "a score of 0.370" in curve["sentence"]


def test_raw_scores_where_nothing_was_fitted() -> None:
    for calibrator in (None, Calibrator(n=100, n_positive=30)):
        curve = curve_of(drawn(), calibrator=calibrator)
        assert not curve["recalibrated"] and curve["locked"]["threshold"] == 0.3


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_that_stands_for_no_odds_is_left_out(threshold: float) -> None:
    curve = curve_of(drawn(), threshold=threshold)
    assert curve["locked"] is None and "locked" not in curve["sentence"]


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        (0.1, "cost as much as 9.0 false alarms"),
        (0.8, "one false alarm cost as much as 4.0 missed ill images"),
    ],
)
def test_the_sentence_says_what_a_miss_costs(threshold: float, words: str) -> None:
    assert words in curve_of(drawn(), threshold=threshold)["sentence"]


def test_target_prevalence_moves_scores_and_weights() -> None:
    held, calibrator = drawn(), Calibrator("platt", 1.0, 0.0, n=100, n_positive=30)
    target = curve_of(held, calibrator=calibrator, prevalence=0.02)["target"]
    moved = prior_shift(calibrator.scores(held.scores), 0.3, 0.02)
    found = [(moved >= pt)[held.labels == 1].mean() for pt in target["thresholds"]]
    alarms = [(moved >= pt)[held.labels == 0].mean() for pt in target["thresholds"]]
    wanted = [
        0.02 * tpr - 0.98 * fpr * pt / (1 - pt)
        for tpr, fpr, pt in zip(found, alarms, target["thresholds"], strict=True)
    ]
    assert target["model"] == pytest.approx(wanted, abs=1e-12)
    assert target["all"][0] == pytest.approx(0.02 - 0.98 * 0.01 / 0.99)
    assert max(target["model"]) <= 0.02
    own = curve_of(held, prevalence=float(held.labels.mean()))
    assert own["target"]["model"] == pytest.approx(own["model"], abs=1e-12)


def test_net_benefit_is_that_of_counts() -> None:
    found = net_benefit(np.array([0.9]), np.array([0.2]), 0.25, np.array([0.1]))
    assert found == pytest.approx([0.25 * 0.9 - 0.75 * 0.2 / 9])


@pytest.mark.parametrize("prevalence", [0.0, 1.0, 1.5])
def test_a_prevalence_outside_its_range_is_refused(prevalence: float) -> None:
    with pytest.raises(ValueError, match="target prevalence"):
        curve_of(drawn(), prevalence=prevalence)


def test_one_class_only_has_no_curve() -> None:
    held = predictions(np.zeros(20), np.linspace(0, 1, 20))
    assert decision_curve_of(held, HOW, calibrator=None, threshold=0.5) is None


def test_a_single_threshold_is_named_as_such() -> None:
    scores = np.repeat([0.5, 0.57, 0.58, 0.59], 20)
    curve = curve_of(predictions(np.repeat([1, 0, 0, 1], 20), scores))
    assert curve["useful"] == [[0.59, 0.59]]
    assert curve["sentence"].startswith("At a score of 59 %, acting on the model is better")


def test_scores_that_are_far_from_risks_are_said_to_be_and_the_threshold_names_no_cost() -> None:
    held = drawn()
    far = predictions(held.labels, np.sqrt(held.scores))
    section = calibration_section(None, far, HOW)
    assert section["worry"]["level"] == "caution"
    curve = curve_of(far, calibration=section)
    assert curve["locked"] is None and not curve["hurts"]
    assert "Read it with care: on test these scores are too high" in curve["sentence"]
    assert (
        "stands for" not in curve["sentence"] and "about the cost of a miss is therefore left out" in curve["sentence"]
    )


def test_recalibration_that_makes_scores_worse_is_not_used() -> None:
    held, calibrator = drawn(), Calibrator("platt", 3.0, 3.0, n=100, n_positive=30)
    section = calibration_section(None, held, HOW, calibrator=calibrator)
    assert "That is worse" in section["sentence"]
    curve, raw = curve_of(held, calibrator=calibrator, calibration=section), curve_of(held)
    assert curve["hurts"] and not curve["recalibrated"] and curve["locked"] is None
    assert curve["model"] == raw["model"] and curve["points"] == raw["points"]
    assert "recalibration on validation makes them worse" in curve["sentence"]
    assert "probability" not in curve["sentence"] and "stands for" not in curve["sentence"]


def test_recalibration_that_helps_is_used_and_the_locked_threshold_judged() -> None:
    risks = expit(1.5 * np.random.default_rng(3).normal(size=1500))
    held = predictions(np.random.default_rng(4).random(1500) < risks, risks**2)
    calibrator = fit_calibrator(held)
    section = calibration_section(None, held, HOW, calibrator=calibrator)
    curve = curve_of(held, calibrator=calibrator, calibration=section)
    assert section["worry"]["level"] == "note" and curve["recalibrated"] and not curve["hurts"]
    assert "The locked threshold, a score of 0.300, stands for" in curve["sentence"]


def test_a_threshold_set_by_hand_is_not_called_locked() -> None:
    curve = curve_of(drawn(), threshold=0.5, locked=False)
    assert curve["locked"]["name"] == "threshold" and "locked" not in curve["sentence"]
    assert "The threshold, a score of 0.5, stands for 0.5" in curve["sentence"]
    assert "one missed ill image cost as much as one false alarm;" in curve["sentence"]


def test_one_positive_group_has_no_band() -> None:
    curve = curve_of(predictions(np.array([1, 0, 0, 0]), np.array([0.8, 0.1, 0.2, 0.3])))
    assert curve["low"][0] is None and curve["points"][0]["model"]["low"] is None
    assert curve["certain"] == [] and curve["useful"] and "not beyond chance" in curve["sentence"]

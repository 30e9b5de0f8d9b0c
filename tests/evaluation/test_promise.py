from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.stats import betabinom

from evaluation.bootstrap import Resampling
from evaluation.predictions import Predictions
from evaluation.promise import advance_of, promise_of, specificity_worry
from evaluation.split_summary import Judged, judge
from evaluation.threshold import OperatingPoint, choose_operating_point, fixed_point

CLASSES = ("benign", "malignant")


def predictions(positives: np.ndarray, negatives: np.ndarray | None = None) -> Predictions:
    """Every image is a lesion of its own."""
    clear = np.linspace(0, 0.5, 40) if negatives is None else negatives
    scores = np.concatenate([positives, clear])
    ids = [f"i{number}" for number in range(len(scores))]
    frame = pd.DataFrame({"image_id": ids, "group_id": ids})
    frame["label"] = ["malignant"] * len(positives) + ["benign"] * len(clear)
    frame["prob_malignant"], frame["prob_benign"] = scores, 1 - scores
    return Predictions(frame, CLASSES, "malignant")


@cache
def point(rule: str = "certified", n: int = 300) -> OperatingPoint:
    """Scores 0.001 to n / 1000, so that the threshold is (m + 1) / 1000."""
    scores = np.arange(1, n + 1) / 1000
    return choose_operating_point(predictions(scores), rule, group_name="lesion", selection_optimistic=False)


def judged(missed: int, n: int, threshold: float) -> Judged:
    scores = np.full(n, threshold)
    scores[:missed] = threshold / 2
    return judge(predictions(scores), point(), Resampling(resamples=20))


def test_the_worked_example_stated_in_advance() -> None:
    """n = 300, m = 8, 300 new groups: the chance to show a recall of 0.95 is 0.928."""
    assert point().misses_allowed == 8
    held = advance_of(point(), 300, "lesion")
    assert held is not None and held["certified"]
    assert held["probability_test_meets_target"] == pytest.approx(0.928, abs=5e-4)
    assert held["expected_misses"] == pytest.approx(300 * 9 / 301)
    misses = betabinom(300, 9, 292)
    assert (held["misses_90"], held["misses_99"]) == (misses.ppf(0.9), misses.ppf(0.99))
    assert f"at most {held['misses_90']} in 90 and {held['misses_99']} in 99 of 100" in held["sentence"]
    assert "92.8 %" in held["sentence"] and "300 malignant lesions" in held["sentence"]


def test_conformal_risk_control_promises_the_mean_only() -> None:
    held = advance_of(point("crc"), 200, "lesion")
    assert held is not None and not held["certified"]
    assert held["expected_misses"] / 200 <= 0.05
    assert "on average only" in held["sentence"]


def test_a_point_of_out_of_fold_scores_promises_approximately() -> None:
    held = advance_of(replace(point(), recall_lower_bound=None), 200, "lesion")
    assert held is not None and not held["certified"]
    assert "approximate" in held["sentence"] and "average" not in held["sentence"]


@pytest.mark.parametrize("rule", ["empirical", "youden", "fbeta", "cost", "fixed"])
def test_other_rules_promise_nothing(rule: str) -> None:
    other = point(rule)
    assert advance_of(other, 100, "lesion") is None
    assert promise_of(other, judged(0, 100, other.threshold), "lesion") is None


def test_nothing_is_promised_without_validation_or_without_positives() -> None:
    assert advance_of(fixed_point(0.5, "malignant", "benign"), 100, "lesion") is None
    assert advance_of(point(), 0, "lesion") is None


def test_the_outcome_is_what_was_said_in_advance() -> None:
    advance = advance_of(point(), 300, "lesion")
    assert advance is not None
    most = advance["misses_99"]
    assert most > 15
    for missed, kept, words in (
        (9, True, "The recall of 95 % is met."),
        (15, True, "The recall of 95 % is met."),
        (16, True, "within what chance allows"),
        (most, True, "within what chance allows"),
        (most + 1, False, "This is shift"),
    ):
        held = promise_of(point(), judged(missed, 300, point().threshold), "lesion")
        assert held is not None
        assert (held["test_misses"], held["kept"]) == (missed, kept)
        assert words in held["sentence"]
        assert held["advance"] == advance
        assert held["misses_99"] == most and held["test_positive_groups"] == 300


def test_more_misses_than_expected_above_the_target_are_named() -> None:
    # One miss of 20 meets a recall of 0.95; a certificate from 5,000 groups with a low target expects none.
    strict = replace(point(), n_groups=5000, misses_allowed=0, target_recall=0.95)
    held = promise_of(strict, judged(1, 20, strict.threshold), "lesion")
    assert held is not None and held["kept"] and held["test_misses"] > held["misses_99"]
    assert "more misses than chance explains" in held["sentence"]


@pytest.mark.parametrize(
    ("flagged", "kept", "words"),
    [(40, True, "is met"), (48, True, "what chance allows"), (80, False, "not like those of validation: shift")],
)
def test_a_certified_specificity_is_checked_on_test(flagged: int, kept: bool, words: str) -> None:
    """200 benign lesions on test, of which at most 20 % may be flagged."""
    val = predictions(np.linspace(0.5, 1, 200), np.linspace(0, 0.55, 200))
    both = choose_operating_point(val, min_specificity=0.8, group_name="lesion")
    assert both.specificity_lower_bound is not None
    benign = np.full(200, 0.01)
    benign[:flagged] = both.threshold
    test = judge(predictions(np.full(50, 0.9), benign), both, Resampling(resamples=20))
    held = promise_of(both, test, "lesion")
    assert held is not None and held["kept"]
    found = held["specificity"]
    assert (found["test_negative_groups"], found["test_flagged"], found["kept"]) == (200, flagged, kept)
    assert words in found["sentence"]
    alarm = specificity_worry({"threshold": both.to_dict(), "promise": held})
    assert (alarm is None) == kept
    assert kept or (alarm is not None and alarm["level"] == "alarm")
    assert promise_of(point(), judged(0, 300, point().threshold), "lesion")["specificity"] is None  # type: ignore[index]


def test_a_specificity_that_is_not_kept_is_a_caution() -> None:
    held = choose_operating_point(predictions(np.linspace(0, 1, 100)), min_specificity=0.9)
    found = specificity_worry({"threshold": held.to_dict()})
    assert found is not None and found["level"] == "caution"
    assert held.unmet is not None and held.unmet in found["text"]
    assert specificity_worry({"threshold": point().to_dict()}) is None
    assert specificity_worry({"threshold": {"rule": "certified"}}) is None  # from before the field

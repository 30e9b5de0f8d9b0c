from __future__ import annotations

import importlib.util
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from evaluation.group_scores import ValidationScores, negative_group_scores
from evaluation.intervals import clopper_pearson_lower
from evaluation.predictions import Predictions
from evaluation.rules import RULES, WEIGHING, Infeasible, Request, check_feasible, choose
from evaluation.threshold import choose_operating_point

CLASSES = ("benign", "malignant")
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "certified_recall.py"
SCORES = st.lists(st.integers(0, 8), min_size=1, max_size=40)


def held_of(positives: np.ndarray, negatives: np.ndarray) -> ValidationScores:
    """Every image is its own group."""
    found, clear = np.sort(positives), np.sort(negatives)
    return ValidationScores(found, clear, found, clear, "malignant", "benign", "lesion")


def predictions(positives: np.ndarray, negatives: np.ndarray) -> Predictions:
    labels = ["malignant"] * len(positives) + ["benign"] * len(negatives)
    scores = np.concatenate([positives, negatives])
    ids = [f"i{number}" for number in range(len(scores))]
    frame = pd.DataFrame({"image_id": ids, "group_id": ids, "label": labels})
    frame["prob_malignant"], frame["prob_benign"] = scores, 1 - scores
    return Predictions(frame, CLASSES, "malignant")


def gain(rule: str, found: int, alarms: int, positives: int, negatives: int) -> Fraction:
    """What a rule makes largest, straight from its definition and exactly."""
    misses, cleared = positives - found, negatives - alarms
    if rule == "youden":
        return Fraction(found, positives) + Fraction(cleared, negatives) - 1
    if rule == "fbeta":
        return Fraction(5 * found, 5 * found + 4 * misses + alarms)
    share = Fraction(positives, positives + negatives)
    return -(share * 10 * Fraction(misses, positives) + (1 - share) * Fraction(alarms, negatives))


@pytest.mark.parametrize("rule", ["youden", "fbeta", "cost"])
@settings(max_examples=60, deadline=None)
@given(positives=SCORES, negatives=SCORES, specificity=st.sampled_from([None, 0.3, 0.5, 0.9]))
def test_rules_that_count_images_find_the_best_score_that_occurs(
    rule: str, positives: list[int], negatives: list[int], specificity: float | None
) -> None:
    found, clear = np.array(positives) / 8, np.array(negatives) / 8
    values: dict[float, Fraction] = {}
    for threshold in np.unique(np.concatenate([found, clear])):
        cleared = int((clear < threshold).sum())
        if specificity is None or cleared >= Fraction(str(specificity)) * len(clear):
            counts = int((found >= threshold).sum()), len(clear) - cleared
            values[float(threshold)] = gain(rule, *counts, len(found), len(clear))
    choice = choose(rule, held_of(found, clear), Request(rule, min_specificity=specificity))
    assert (choice.unmet is None) == bool(values)
    if values:
        # Of equals the lowest, which finds more.
        assert choice.threshold == min(t for t, value in values.items() if value == max(values.values()))
        assert choice.misses == (found < choice.threshold).sum()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=19, max_size=120))
def test_conformal_risk_control_is_an_order_statistic(ranks: list[int]) -> None:
    scores = np.array(ranks) / 8
    choice = choose("crc", held_of(scores, np.array([0.5])), Request("crc"))
    assert choice.threshold == np.sort(scores)[choice.misses]
    assert (choice.misses + 1) * 20 <= len(scores) + 1 < (choice.misses + 2) * 20


def test_a_group_is_cleared_only_if_none_of_its_images_is_flagged() -> None:
    frame = pd.DataFrame({"image_id": list("abcdef"), "group_id": ["x", "x", "y", "z", "z", "w"]})
    frame["label"] = ["benign", "benign", "benign", "malignant", "benign", "benign"]
    frame["prob_malignant"] = [0.25, 0.75, 0.5, 0.875, 1.0, 0.0]
    frame["prob_benign"] = 1 - frame["prob_malignant"]
    held = Predictions(frame, CLASSES, "malignant")
    # z holds a malignant image: its benign one does not make it a group that should be cleared.
    assert sorted(negative_group_scores(held)) == [0.0, 0.5, 0.75]


def test_both_certified_is_the_highest_threshold_that_certifies_the_recall() -> None:
    rng = np.random.default_rng(0)
    found, clear = rng.normal(4, 1, 200), rng.normal(0, 1, 200)
    choice = choose("certified", held_of(found, clear), Request(min_specificity=0.8))
    # 200 groups certify a recall of 0.95 with 97.5 % confidence with 3 misses, with 95 % confidence with 4.
    assert choice.misses == 3 and choice.threshold == np.sort(found)[3]
    assert choice.recall_lower_bound == pytest.approx(clopper_pearson_lower(197, 200, 0.975))
    cleared = int((clear < choice.threshold).sum())
    assert choice.specificity_lower_bound == pytest.approx(clopper_pearson_lower(cleared, 200, 0.975))
    assert choice.unmet is None
    assert choice.specificity_from is not None and choice.specificity_from <= choice.threshold
    scores = np.unique(np.concatenate([found, clear]))
    bounds = {t: clopper_pearson_lower(int((clear < t).sum()), 200, 0.975) for t in scores}
    assert choice.specificity_from == min(t for t, bound in bounds.items() if bound >= 0.8)


def test_recall_and_specificity_hold_together() -> None:
    """Binormal scores, true rates known exactly: whenever both are certified, both hold in at least 95 % of the draws."""
    rng = np.random.default_rng(1)
    draws = [
        choose("certified", held_of(rng.normal(3, 1, 120), rng.normal(0, 1, 120)), Request(min_specificity=0.8))
        for _ in range(400)
    ]
    wrong = [
        draw.specificity_lower_bound is not None
        and (norm.sf(draw.threshold - 3) < 0.95 or norm.cdf(draw.threshold) < 0.8)
        for draw in draws
    ]
    assert any(draw.specificity_lower_bound is not None for draw in draws)
    assert np.mean(wrong) <= 0.05


def test_a_specificity_that_cannot_be_certified_leaves_the_recall_certified() -> None:
    rng = np.random.default_rng(0)
    held = predictions(rng.uniform(0.2, 1, 200).round(6), rng.uniform(0, 0.6, 200).round(6))
    point = choose_operating_point(held, min_specificity=0.9, group_name="lesion")
    alone = choose_operating_point(held, group_name="lesion")
    assert (point.rule, point.threshold, point.misses_allowed) == ("certified", alone.threshold, alone.misses_allowed)
    assert point.fallback_reason is None and point.specificity_lower_bound is None
    assert point.unmet is not None and "of 200 benign lesions" in point.unmet and "90 %" in point.unmet
    assert point.statement.endswith(point.unmet)
    with pytest.raises(Infeasible, match=r"threshold\.min_specificity=0\.\d+, or a lower threshold\.recall") as caught:
        choose_operating_point(held, min_specificity=0.9, infeasible="refuse")
    offered = round(np.floor(1000 * caught.value.certifiable) / 1000, 3)
    both = choose_operating_point(held, min_specificity=offered, infeasible="refuse")
    assert both.specificity_lower_bound is not None and both.specificity_lower_bound >= offered


@pytest.mark.parametrize("rule", ["crc", "empirical", "fixed"])
def test_a_specificity_that_is_not_reached_is_told_or_refused(rule: str) -> None:
    scores = np.linspace(0, 1, 101)
    held = predictions(scores, scores * 0.9)
    point = choose_operating_point(held, rule, fixed=0.25, min_specificity=0.9)
    assert point.unmet is not None and "below the 90 %" in point.unmet
    with pytest.raises(Infeasible, match="below the 90 %"):
        choose_operating_point(held, rule, fixed=0.25, min_specificity=0.9, infeasible="refuse")
    reached = choose_operating_point(held, rule, fixed=0.25, min_specificity=0.01, infeasible="refuse")
    assert reached.unmet is None and "reaches the 1 %" in reached.statement


@pytest.mark.parametrize("rule", [name for name in RULES if name not in WEIGHING])
def test_without_negatives_a_specificity_is_not_known(rule: str) -> None:
    held = predictions(np.linspace(0.2, 1, 100), np.array([]))
    point = choose_operating_point(held, rule, min_specificity=0.5)
    assert ("0 benign groups" if rule == "certified" else "no benign image") in str(point.unmet)
    assert choose_operating_point(held, rule).unmet is None


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("certified", "at least 95 % of all future malignant lesions are found, with 95 % confidence"),
        ("crc", "on average over validation sets like this one"),
        ("empirical", "with no promise for other lesions"),
        ("youden", "largest sum of sensitivity and specificity on the validation images"),
        ("fbeta", "largest F2 on the validation images"),
        ("cost", "where a miss counts 10 false alarms"),
        ("fixed", "set by hand that promises no recall"),
    ],
)
def test_each_rule_says_what_it_means(rule: str, words: str) -> None:
    rng = np.random.default_rng(0)
    held = predictions(rng.uniform(0.3, 1, 100).round(6), rng.uniform(0, 0.7, 100).round(6))
    point = choose_operating_point(held, rule, group_name="lesion")
    assert words in point.statement
    assert (point.recall_lower_bound is not None) == (rule == "certified")
    assert (point.expected_recall is not None) == (rule in ("certified", "crc", "empirical"))
    row = next(row for row in point.price if row["rule"] == ("0.5" if rule == "fixed" else rule))
    assert row["threshold"] == point.threshold
    assert row["specificity"] == np.mean(held.scores[held.labels == 0] < point.threshold)


def test_groups_decide_before_training() -> None:
    check_feasible(59, 0, "certified")
    check_feasible(1, 0, "empirical")
    check_feasible(0, 0, "fixed")
    check_feasible(19, 0, "crc")
    with pytest.raises(
        Infeasible, match=r"58 malignant lesions.*at least 59.*94\.96 %.*threshold\.recall=0\.949"
    ) as few:
        check_feasible(58, 0, "certified", positive_class="malignant", group_name="lesion")
    assert (few.value.n, few.value.needed) == (58, 59)
    with pytest.raises(Infeasible, match=r"on average needs at least 19.*90\.90 %") as mean:
        check_feasible(10, 0, "crc")
    assert mean.value.needed == 19
    with pytest.raises(
        Infeasible, match=r"20 benign lesions.*specificity of 90 % with 97\.5 %.*min_specificity=0\.831"
    ):
        check_feasible(200, 20, "certified", min_specificity=0.9, negative_class="benign", group_name="lesion")
    with pytest.raises(Infeasible, match="needs at least 72"):
        check_feasible(60, 200, "certified", min_specificity=0.9)
    with pytest.raises(Infeasible, match=r"0 positive groups.*Give validation more images"):
        check_feasible(0, 0, "certified")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("certified_recall", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("n", "naive", "mean"), [(100, 0.38, 0.980), (300, 0.43, 0.970)])
def test_certified_keeps_its_promise_in_simulated_validation_sets_and_empirical_does_not(
    benchmark: ModuleType, n: int, naive: float, mean: float
) -> None:
    """2,000 validation sets through the very rules, with the true recall of every threshold known."""
    found = benchmark.simulate(n, rules=("certified", "empirical"))
    assert found["certified"]["kept"] >= 0.95
    assert found["certified"]["recall"].mean() == pytest.approx(mean, abs=2e-3)
    assert found["empirical"]["kept"] == pytest.approx(naive, abs=3 * np.sqrt(naive * (1 - naive) / 2000))
    assert found["certified"]["fpr"].mean() > found["empirical"]["fpr"].mean() + 0.05
    assert benchmark.simulate(50, draws=2, rules=("certified",)) == {"certified": None}


def test_a_fixed_value_is_as_exact_as_the_scores_are() -> None:
    for value in (0.1, 0.2, 0.3, 0.6, 0.7, 0.9):
        tool = predictions(np.array([value, 0.95]), np.array([value, 0.05]))  # as a person writes them
        assert choose_operating_point(tool, rule="fixed", fixed=value).threshold == value
        single = float(np.float32(value))
        network = predictions(np.array([single, 1.0]), np.array([single, 0.25]))
        point = choose_operating_point(network, rule="fixed", fixed=value)
        assert point.threshold == single and point.misses_allowed == 0


@pytest.mark.parametrize("rule", ["youden", "fbeta", "cost"])
def test_rules_that_weigh_two_errors_need_images_of_both_kinds(rule: str) -> None:
    alone = predictions(np.array([0.25, 0.5, 0.75]), np.array([]))
    with pytest.raises(ValueError, match=rf"no benign image, so the {rule} rule has nothing to weigh"):
        choose_operating_point(alone, rule=rule)
    price = {row["rule"]: row for row in choose_operating_point(alone, rule="empirical").price}
    assert price[rule]["threshold"] is None and "no benign image" in price[rule]["note"]

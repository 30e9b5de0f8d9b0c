from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from evaluation.certificate import certified_misses, empirical_misses
from evaluation.predictions import Predictions, read_predictions, write_predictions
from evaluation.threshold import (
    RULES,
    Infeasible,
    OperatingPoint,
    certified_threshold,
    choose_operating_point,
    empirical_threshold,
    fixed_point,
    positive_group_scores,
)

CLASSES = ("NORMAL", "PNEUMONIA")


def predictions(positives: list[list[float]], negatives: list[float] | None = None) -> Predictions:
    """One list of scores for each positive group; negatives are groups of their own."""
    rows = [(f"p{g}", "PNEUMONIA", score) for g, scores in enumerate(positives) for score in scores]
    rows += [(f"n{g}", "NORMAL", score) for g, score in enumerate([0.125] if negatives is None else negatives)]
    table = pd.DataFrame(rows, columns=["group_id", "label", "prob_PNEUMONIA"])
    table["prob_PNEUMONIA"] = table["prob_PNEUMONIA"].to_numpy(dtype=np.float32).astype(np.float64)
    table["prob_NORMAL"] = 1.0 - table["prob_PNEUMONIA"]
    table.insert(0, "image_id", [f"image-{i}" for i in range(len(table))])
    return Predictions(table, CLASSES, "PNEUMONIA")


def spread(n: int, seed: int = 0) -> list[list[float]]:
    return [[float(score)] for score in np.random.default_rng(seed).random(n).astype(np.float32)]


@pytest.mark.parametrize(("n", "rank"), [(59, 1), (93, 2), (100, 2), (124, 3), (300, 9)])
def test_certified_threshold_is_an_order_statistic(n: int, rank: int) -> None:
    scores = np.random.default_rng(0).random(n)
    threshold, misses = certified_threshold(scores)
    assert (threshold, misses) == (np.sort(scores)[rank - 1], rank - 1)
    assert (scores < threshold).sum() == rank - 1


def test_too_few_groups_say_how_many_are_needed() -> None:
    with pytest.raises(Infeasible) as caught:
        certified_threshold(np.linspace(0, 1, 50))
    assert (caught.value.n, caught.value.needed) == (50, 59)
    assert caught.value.certifiable == pytest.approx(0.9418, abs=5e-5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=60), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_empirical_threshold_is_the_largest_that_keeps_the_recall(ranks: list[int], recall: float) -> None:
    scores = np.array(ranks) / 8
    threshold, _ = empirical_threshold(scores, recall)
    feasible = [t for t in np.unique(scores) if (scores >= t).mean() >= recall - 1e-12]
    assert threshold == max(feasible)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=59, max_size=200))
def test_ties_never_cost_more_than_the_allowed_misses(ranks: list[int]) -> None:
    scores = np.array(ranks) / 8
    threshold, misses = certified_threshold(scores)
    assert (scores < threshold).sum() <= misses


@pytest.mark.parametrize("n", [100, 300])
def test_certified_keeps_the_recall_where_the_naive_rule_does_not(n: int) -> None:
    """Binormal scores, 4,000 calibration sets: the true recall of each threshold is known exactly."""
    rng = np.random.default_rng(0)
    ordered = np.sort(rng.normal(2.0, 1.0, (4000, n)), axis=1)
    allowed = certified_misses(n, 0.95, 0.95)
    assert allowed is not None
    certified = norm.sf(ordered[:, allowed] - 2.0)
    naive = norm.sf(ordered[:, empirical_misses(n, 0.95)] - 2.0)
    assert (certified >= 0.95).mean() >= 0.95
    assert certified.mean() == pytest.approx({100: 0.980, 300: 0.970}[n], abs=2e-3)
    assert (naive >= 0.95).mean() == pytest.approx({100: 0.381, 300: 0.430}[n], abs=0.03)
    # The price: more of the healthy are flagged.
    assert norm.sf(ordered[:, allowed]).mean() > norm.sf(ordered[:, empirical_misses(n, 0.95)]).mean() + 0.05


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    for rule in (certified_threshold, empirical_threshold):
        with pytest.raises(ValueError, match="NaN or infinity"):
            rule(np.array([0.5, bad]))
        with pytest.raises(ValueError, match="no positive group"):
            rule(np.array([]))


def test_one_score_for_each_positive_group() -> None:
    held = predictions([[0.25, 0.75], [0.5], [0.125, 0.0, 0.0625]], negatives=[0.875])
    assert sorted(positive_group_scores(held, "max")) == [0.125, 0.5, 0.75]
    assert sorted(positive_group_scores(held, "min")) == [0.0, 0.25, 0.5]
    with pytest.raises(ValueError, match="'mean'"):
        positive_group_scores(held, "mean")


def test_negative_images_of_a_positive_group_do_not_count() -> None:
    table = predictions([[0.25], [0.5]], negatives=[0.875]).frame.assign(group_id=["a", "b", "a"])
    held = Predictions(table, CLASSES, "PNEUMONIA")
    assert positive_group_scores(held, "max").tolist() == [0.25, 0.5]


def test_images_of_one_group_count_once() -> None:
    many = predictions([[0.5, 0.75]] * 40)
    point = choose_operating_point(many)
    assert point.n_groups == 40
    assert point.rule == "empirical"


def test_certified_operating_point() -> None:
    point = choose_operating_point(predictions(spread(100)), group_name="patient")
    assert (point.rule, point.requested_rule, point.fallback_reason) == ("certified", "certified", None)
    assert (point.n_groups, point.misses_allowed) == (100, 1)
    assert point.recall_lower_bound == pytest.approx(0.9534, abs=5e-5)
    assert point.expected_recall == pytest.approx(99 / 101)
    assert point.threshold == sorted(score[0] for score in spread(100))[1]
    assert point.selection_optimistic
    assert "95 % of all future PNEUMONIA patients" in point.statement
    assert "misses at most 1 of 100 PNEUMONIA patients" in point.statement
    assert "a little optimistic" in point.statement
    calm = choose_operating_point(predictions(spread(100)), selection_optimistic=False)
    assert "optimistic" not in calm.statement


def test_certified_falls_back_to_empirical_and_says_so() -> None:
    point = choose_operating_point(predictions(spread(50)), group_name="patient")
    assert (point.rule, point.requested_rule) == ("empirical", "certified")
    assert point.fallback_reason is not None
    for part in ("50 PNEUMONIA patients", "at least 59", "94.18 %"):
        assert part in point.fallback_reason
    assert (point.misses_allowed, point.recall_lower_bound) == (2, None)
    assert "no promise" in point.statement
    certified = next(row for row in point.price if row["rule"] == "certified")
    assert certified["threshold"] is None and certified["specificity"] is None
    assert "at least 59" in certified["note"]


def test_price_on_validation() -> None:
    negatives = [float(score) for score in np.linspace(0, 0.9, 40)]
    point = choose_operating_point(predictions(spread(100), negatives))
    rows = {row["rule"]: row for row in point.price}
    assert list(rows) == ["0.5", "certified", "crc", "empirical", "youden", "fbeta", "cost"]
    assert rows["certified"]["threshold"] == point.threshold
    assert rows["certified"]["group_recall"] == 0.99
    assert rows["empirical"]["group_recall"] == 0.95
    assert rows["certified"]["specificity"] <= rows["empirical"]["specificity"] <= rows["0.5"]["specificity"]


def test_fixed_rule() -> None:
    point = choose_operating_point(predictions(spread(20)), rule="fixed", fixed=0.3)
    # Held as a float32, so that both precisions take the same decision at the very value.
    assert point.threshold == float(np.float32(0.3))
    assert (point.recall_lower_bound, point.expected_recall, point.fallback_reason) == (None, None, None)
    assert [row["rule"] for row in point.price][:3] == ["0.5", "fixed", "certified"]
    half = choose_operating_point(predictions(spread(20)), rule="fixed")
    assert (half.threshold, [row["rule"] for row in half.price][:2]) == (0.5, ["0.5", "certified"])


def test_without_positives_or_negatives() -> None:
    none = predictions([], negatives=[0.25, 0.75])
    with pytest.raises(ValueError, match="holds no PNEUMONIA image"):
        choose_operating_point(none)
    point = choose_operating_point(none, rule="fixed")
    assert point.n_groups == 0
    json.dumps(point.to_dict(), allow_nan=False)
    alone = choose_operating_point(predictions(spread(100), negatives=[]))
    assert all(row["specificity"] is None for row in alone.price)
    json.dumps(alone.to_dict(), allow_nan=False)


def test_one_positive_group_and_equal_scores() -> None:
    one = choose_operating_point(predictions([[0.75]]))
    assert (one.threshold, one.rule, one.misses_allowed) == (0.75, "empirical", 0)
    assert one.fallback_reason is not None and "1 PNEUMONIA group;" in one.fallback_reason
    equal = choose_operating_point(predictions([[0.5]] * 100, negatives=[0.5] * 5))
    rows = {row["rule"]: row for row in equal.price}
    assert equal.threshold == 0.5
    assert (rows["certified"]["group_recall"], rows["certified"]["specificity"]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "best"}, "'best'"),
        ({"min_specificity": 1.0}, r"min_specificity is 1\.0"),
        ({"beta": 0.0}, r"beta is 0\.0"),
        ({"miss_cost": float("inf")}, "miss_cost is inf"),
        ({"infeasible": "ignore"}, "'ignore'"),
        ({"recall": 1.0}, "recall is 1.0"),
        ({"confidence": 0.0}, "confidence is 0.0"),
        ({"group_score": "mean"}, "'mean'"),
        ({"rule": "fixed", "fixed": float("nan")}, "nan"),
        ({"rule": "fixed", "fixed": 1.5}, r"1\.5"),
        ({"rule": "fixed", "recall": 0.0}, r"recall is 0\.0"),
    ],
)
def test_impossible_requests(change: dict[str, float | str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_operating_point(predictions(spread(5)), **change)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=59, max_size=120), st.sampled_from(RULES))
def test_decisions_at_the_threshold_survive_csv_and_json(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float], rule: str
) -> None:
    folder = tmp_path_factory.mktemp("run")
    held = predictions([[score] for score in scores], negatives=scores[::-1])
    point = choose_operating_point(held, rule=rule, fixed=0.3)
    before = held.scores >= point.threshold
    write_predictions(folder / "val.csv", held.frame)
    (folder / "threshold.json").write_text(json.dumps(point.to_dict(), allow_nan=False))
    read = read_predictions(folder / "val.csv", CLASSES, "PNEUMONIA").scores
    stored = json.loads((folder / "threshold.json").read_text())["threshold"]
    assert stored == point.threshold
    assert np.array_equal(read >= stored, before)
    assert np.array_equal(read.astype(np.float32) >= np.float32(stored), before)
    if rule != "fixed":
        assert (read == stored).any()
        positives = read[held.labels == 1]
        assert (positives < stored).sum() <= point.misses_allowed


def test_a_point_from_before_the_later_fields_is_still_read() -> None:
    point = choose_operating_point(predictions(spread(100)))
    later = {
        "min_specificity",
        "specificity_lower_bound",
        "specificity_from",
        "unmet",
        "beta",
        "miss_cost",
        "infeasible",
    }
    earlier = {name: value for name, value in point.to_dict().items() if name not in later}
    assert OperatingPoint.from_dict({"title": "a run", **earlier}) == point


@pytest.mark.parametrize("rule", RULES)
def test_rule_arguments_choose_the_same_point_again(rule: str) -> None:
    held = predictions(spread(100), [float(score) for score in np.linspace(0, 0.7, 60)])
    point = choose_operating_point(held, rule, 0.9, fixed=0.3, min_specificity=0.2, beta=1.5, miss_cost=4.0)
    assert choose_operating_point(held, **point.rule_arguments()) == point


def test_refusing_names_what_can_be_had_and_what_to_change() -> None:
    with pytest.raises(Infeasible) as caught:
        choose_operating_point(predictions(spread(50)), infeasible="refuse", group_name="patient")
    for part in ("50 PNEUMONIA patients", "at least 59", "94.18 %", "threshold.recall=0.941", "split.val_fraction"):
        assert part in str(caught.value)
    offered = choose_operating_point(predictions(spread(50)), recall=0.941, infeasible="refuse")
    assert (offered.rule, offered.misses_allowed) == ("certified", 0)


def test_a_point_set_by_hand_without_validation_promises_nothing() -> None:
    point = fixed_point(0.3, "PNEUMONIA", "NORMAL")
    assert (point.threshold, point.rule, point.n_groups, point.price) == (0.3, "fixed", 0, ())
    assert (point.recall_lower_bound, point.expected_recall) == (None, None)
    assert "set by hand" in point.statement and "promises none" in point.statement
    assert OperatingPoint.from_dict(json.loads(json.dumps(point.to_dict(), allow_nan=False))) == point
    with pytest.raises(ValueError, match=r"1\.2"):
        fixed_point(1.2, "PNEUMONIA", "NORMAL")
    with pytest.raises(ValueError, match="'mean'"):
        fixed_point(0.5, "PNEUMONIA", "NORMAL", group_score="mean")


def test_operating_point_round_trip(tmp_path: Path) -> None:
    point = choose_operating_point(predictions(spread(100)))
    path = tmp_path / "threshold.json"
    path.write_text(json.dumps(point.to_dict()))
    assert OperatingPoint.from_dict(json.loads(path.read_text())) == point
    with pytest.raises(ValueError, match="lacks"):
        OperatingPoint.from_dict({"threshold": 0.5})
    for bad in (float("nan"), float("inf"), None, "0.5"):
        with pytest.raises(ValueError, match="from 0 to 1"):
            OperatingPoint.from_dict({**point.to_dict(), "threshold": bad})

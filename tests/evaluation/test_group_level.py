"""One score a patient: against pandas and scikit-learn, and the split's summary with everything in it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference
from statsmodels.stats.proportion import proportion_confint  # type: ignore[import-untyped]

from evaluation.bootstrap import Resampling, difference_interval
from evaluation.group_level import group_level_of, one_per_group
from evaluation.intervals import FROM_WILSON
from evaluation.predictions import Predictions
from evaluation.split_summary import judge
from evaluation.threshold import OperatingPoint, choose_operating_point

HOW = Resampling(80, 0.95, 0)


def draw(n_groups: int = 60, seed: int = 0, alone: bool = False, mixed: bool = True) -> Predictions:
    """Patients of one to four images; of some, only part of the images show the disease."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(n_groups), 1 if alone else rng.integers(1, 5, n_groups))
    labels = (rng.random(n_groups) < 0.5)[codes]
    if mixed:
        labels &= rng.random(len(codes)) < 0.8
    scores = np.round(1 / (1 + np.exp(-(rng.normal(size=len(codes)) + 1.5 * labels - 0.7))), 2)
    return of(codes, labels, scores)


def of(codes: Any, labels: Any, scores: Any) -> Predictions:
    frame = pd.DataFrame({"image_id": [f"i{k}" for k in range(len(codes))], "group_id": [f"p{k:03d}" for k in codes]})
    frame["label"] = np.where(labels, "ill", "well")
    frame["prob_well"], frame["prob_ill"] = 1.0 - np.asarray(scores, dtype=float), np.asarray(scores, dtype=float)
    return Predictions(frame, ("well", "ill"), "ill")


def point_at(threshold: float, part: Predictions, group_score: str = "max") -> OperatingPoint:
    return choose_operating_point(part, rule="fixed", fixed=threshold, group_score=group_score)


@pytest.mark.parametrize("score", ["max", "min"])
def test_figures_equal_those_of_a_table_with_one_row_a_patient(score: str) -> None:
    held = draw()
    table = held.frame.assign(y=held.labels, s=held.scores).groupby("group_id").agg({"y": "max", "s": score})
    labels, scores = one_per_group(held, score)
    assert labels.tolist() == table["y"].tolist() and scores.tolist() == table["s"].tolist()
    summary, _ = group_level_of(held, {"at_0.5": 0.5}, HOW, score)
    assert summary is not None
    assert (summary["n"], summary["n_positive"], summary["score"]) == (60, int(table["y"].sum()), score)
    y, s = table["y"].to_numpy(), table["s"].to_numpy()
    assert summary["auroc"]["value"] == pytest.approx(reference.roc_auc_score(y, s), abs=1e-12)
    assert summary["average_precision"]["value"] == pytest.approx(reference.average_precision_score(y, s), abs=1e-12)
    assert summary["brier"]["value"] == pytest.approx(reference.brier_score_loss(y, s), abs=1e-12)
    at, flagged = summary["at_0.5"], s >= 0.5
    assert [at["tn"], at["fp"], at["fn"], at["tp"]] == reference.confusion_matrix(y, flagged).ravel().tolist()
    for rate, hits, n in (
        ("sensitivity", at["tp"], y.sum()),
        ("specificity", at["tn"], (1 - y).sum()),
        ("ppv", at["tp"], flagged.sum()),
        ("accuracy", at["tp"] + at["tn"], 60),
    ):
        assert (at[rate]["value"], at[rate]["method"]) == (pytest.approx(hits / n), "wilson")
        ends = proportion_confint(hits, n, method="wilson")
        assert (at[rate]["low"], at[rate]["high"]) == pytest.approx(ends, abs=1e-9)
    assert at["f1"]["method"] == "group bootstrap"


def test_images_that_are_their_own_groups_have_no_second_level_and_wilsons_intervals() -> None:
    held = draw(alone=True)
    assert group_level_of(held, {}, HOW) == (None, None)
    side = judge(held, point_at(0.4, held), HOW)
    assert side.summary["groups"] is None and side.grouped is None
    at = side.summary["at_threshold"]
    assert {at[rate]["method"] for rate in ("accuracy", "sensitivity", "specificity", "ppv", "npv")} == {"wilson"}
    ends = proportion_confint(at["tp"], at["tp"] + at["fn"], method="wilson")
    assert (at["sensitivity"]["low"], at["sensitivity"]["high"]) == pytest.approx(ends, abs=1e-9)


def test_an_unknown_score_of_a_group() -> None:
    with pytest.raises(ValueError, match="group score is 'mean'; expected max or min"):
        one_per_group(draw(), "mean")


def test_everything_that_a_split_says() -> None:
    held = draw()
    side = judge(held, point_at(0.25, held, "min"), HOW, beta=3.0, prevalences=(0.1,))
    summary = side.summary
    json.dumps(summary, allow_nan=False)
    for figure in ("sensitivity_at_specificity", "specificity_at_sensitivity"):
        assert [row["at"] for row in summary[figure]] == [0.9, 0.95]
        assert all(set(row) == {"at", "value", "low", "high", "method", "dropped"} for row in summary[figure])
        assert all(row["low"] <= row["value"] <= row["high"] for row in summary[figure])
    assert 0.0 < summary["partial_auc"]["low"] < summary["partial_auc"]["value"] < summary["partial_auc"]["high"] < 0.2
    at = summary["at_threshold"]
    expected = reference.fbeta_score(held.labels, held.scores >= 0.25, beta=3.0)
    assert at["f_beta"]["value"] == pytest.approx(expected, abs=1e-12)
    assert summary["groups"]["score"] == "min"
    assert summary["groups"]["at_threshold"]["threshold"] == 0.25
    [row] = at["prevalence"]
    assert row["prevalence"] == 0.1
    se, sp = at["sensitivity"]["value"], at["specificity"]["value"]
    assert row["ppv"]["value"] == pytest.approx(se * 0.1 / (se * 0.1 + (1 - sp) * 0.9))
    assert row["npv"]["value"] == pytest.approx(sp * 0.9 / (sp * 0.9 + (1 - se) * 0.1))
    assert row["ppv"]["low"] < row["ppv"]["value"] < row["ppv"]["high"]
    assert row["ppv"]["method"] == "group bootstrap"


def test_without_the_further_figures_the_others_stay_the_same() -> None:
    held = draw()
    long, short = (judge(held, point_at(0.25, held), HOW, full=full) for full in (True, False))
    assert {"partial_auc", "groups", "sensitivity_at_specificity"}.isdisjoint(short.summary)
    assert "prevalence" not in short.summary["at_threshold"]
    for name in ("auroc", "average_precision", "brier", "log_loss"):
        assert short.summary[name] == long.summary[name]
    assert short.summary["at_0.5"]["mcc"] == long.summary["at_0.5"]["mcc"]
    gap = difference_interval("auroc", long.resampled, short.resampled)
    assert (gap.value, gap.low, gap.high) == (0.0, 0.0, 0.0)


def test_bca_is_used_throughout() -> None:
    held = draw(n_groups=80)
    plain, corrected = (
        judge(held, point_at(0.25, held), Resampling(200, 0.95, 0, kind)) for kind in ("percentile", "bca")
    )
    for path in (("auroc",), ("partial_auc",), ("at_0.5", "accuracy"), ("groups", "auroc"), ("groups", "at_0.5", "f1")):
        first, second = plain.summary, corrected.summary
        for key in path:
            first, second = first[key], second[key]
        assert first["value"] == second["value"]
        assert (first["method"], second["method"]) == ("group bootstrap", "group bootstrap, BCa")
        assert (first["low"], first["high"]) != (second["low"], second["high"])
    assert corrected.summary["at_0.5"]["prevalence"][0]["ppv"]["method"] == "group bootstrap, BCa"
    assert corrected.summary["sensitivity_at_specificity"][0]["method"] == "group bootstrap, BCa"


def test_a_perfect_score_is_not_called_certain() -> None:
    codes = np.repeat(np.arange(40), 2)
    labels = codes < 15
    held = of(codes, labels, np.where(labels, 0.9, 0.1))
    summary = judge(held, point_at(0.5, held), HOW).summary
    assert summary["auroc"]["value"] == 1.0
    low, high = proportion_confint(15, 15, method="wilson")
    assert (summary["auroc"]["low"], summary["auroc"]["high"]) == pytest.approx((low, high), abs=1e-9)
    assert summary["auroc"]["method"] == "wilson"
    for name in ("average_precision", "partial_auc", "brier"):
        assert (summary[name]["low"], summary[name]["high"]) == (None, None)
    row = summary["sensitivity_at_specificity"][0]
    assert (row["value"], row["method"]) == (1.0, "wilson") and row["low"] < 0.85
    at = summary["at_0.5"]["prevalence"][0]
    assert (at["ppv"]["value"], at["npv"]["value"]) == (1.0, 1.0)
    # 15 ill patients and 25 well ones: at 1 % prevalence that says little about who is ill among the flagged.
    assert at["ppv"]["low"] < 0.1 and at["ppv"]["method"] == FROM_WILSON
    assert at["npv"]["low"] < 1.0


@pytest.mark.parametrize("ill", [True, False])
def test_one_class_only_gives_none_and_no_wrong_number(ill: bool) -> None:
    codes = np.repeat(np.arange(12), 2)
    rng = np.random.default_rng(1)
    held = of(codes, np.full(24, ill), rng.random(24))
    point = point_at(0.5, draw())
    for kind in ("percentile", "bca"):
        summary = judge(held, point, Resampling(60, 0.95, 0, kind)).summary
        text = json.dumps(summary, allow_nan=False)
        assert "Infinity" not in text
        for name in ("auroc", "average_precision", "partial_auc"):
            assert summary[name]["value"] is None and summary[name]["low"] is None
        assert summary["groups"]["auroc"]["value"] is None
        assert all(row["value"] is None for row in summary["specificity_at_sensitivity"])
        lacking, known = ("specificity", "sensitivity") if ill else ("sensitivity", "specificity")
        assert summary["at_0.5"][lacking]["value"] is None
        assert summary["at_0.5"][known]["value"] is not None
        assert all(row["ppv"]["value"] is None for row in summary["at_0.5"]["prevalence"])
        assert summary["at_0.5"]["f_beta"]["value"] is not None if ill else summary["at_0.5"]["f_beta"]["value"] is None


@pytest.mark.parametrize(
    ("prevalences", "beta"), [((0.0,), 2.0), ((0.2, 1.0), 2.0), ((0.2,), 0.0), ((0.2,), float("nan"))]
)
def test_impossible_options(prevalences: tuple[float, ...], beta: float) -> None:
    held = draw()
    with pytest.raises(ValueError, match=r"prevalences are .* and beta is"):
        judge(held, point_at(0.5, held), HOW, prevalences=prevalences, beta=beta)

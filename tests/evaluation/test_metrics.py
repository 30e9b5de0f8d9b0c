from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from evaluation.metrics import (
    RATES,
    Counts,
    auroc,
    average_precision,
    counts_at,
    log_losses,
    npv_at,
    ppv_at,
    rates,
    rates_of,
    squared_errors,
)
from evaluation.ranking import Ranking

LABELS = np.array([0, 0, 1, 1, 0, 1, 1, 0], dtype=np.uint8)
SCORES = np.array([0.1, 0.4, 0.35, 0.8, 0.35, 0.9, 0.4, 0.0])


@st.composite
def samples(draw: st.DrawFn) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Labels of both classes, scores with many ties, and whole-number weights that leave both classes some weight."""
    n = draw(st.integers(2, 40))
    labels = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)), dtype=np.uint8)
    labels[:2] = [0, 1]
    scores = np.array(draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))) / 6
    weights = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), dtype=np.float64)
    weights[:2] = np.maximum(weights[:2], 1)
    return labels, scores, weights


def test_fixed_numbers() -> None:
    assert auroc(LABELS, SCORES) == reference.roc_auc_score(LABELS, SCORES) == 0.875
    assert average_precision(LABELS, SCORES) == pytest.approx(reference.average_precision_score(LABELS, SCORES))
    assert squared_errors(LABELS, SCORES).mean() == pytest.approx(reference.brier_score_loss(LABELS, SCORES))
    assert counts_at(LABELS, SCORES, 0.4) == Counts(tp=3, fn=1, fp=1, tn=3)
    assert counts_at(LABELS, SCORES, 0.0) == Counts(tp=4, fn=0, fp=4, tn=0)


@settings(max_examples=150, deadline=None)
@given(samples())
def test_weighted_ranking_equals_scikit_learn_with_ties(
    sample: tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]],
) -> None:
    labels, scores, weights = sample
    expected_auroc = reference.roc_auc_score(labels, scores, sample_weight=weights)
    expected_precision = reference.average_precision_score(labels, scores, sample_weight=weights)
    assert auroc(labels, scores, weights) == pytest.approx(expected_auroc, abs=1e-12)
    assert average_precision(labels, scores, weights) == pytest.approx(expected_precision, abs=1e-12)
    many = np.stack([weights, np.ones(len(labels))]).astype(np.float32)
    found_auroc, found_precision = Ranking(labels, scores).evaluate(many)
    plain = reference.roc_auc_score(labels, scores), reference.average_precision_score(labels, scores)
    assert found_auroc == pytest.approx([expected_auroc, plain[0]], abs=1e-6)
    assert found_precision == pytest.approx([expected_precision, plain[1]], abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(samples())
def test_weights_may_be_fractions(
    sample: tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]],
) -> None:
    labels, scores, weights = sample
    weights = weights / 7
    assert auroc(labels, scores, weights) == pytest.approx(
        reference.roc_auc_score(labels, scores, sample_weight=weights), abs=1e-12
    )


def test_ranking_by_units_equals_ranking_by_images() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200).astype(np.uint8)
    scores, units = rng.integers(0, 50, 200) / 50, rng.integers(0, 30, 200)
    weights = rng.integers(0, 4, (5, 30)).astype(np.float32)
    by_units = Ranking(labels, scores, units).evaluate(weights)
    by_images = Ranking(labels, scores).evaluate(weights[:, units])
    assert np.array_equal(by_units[0], by_images[0]) and np.array_equal(by_units[1], by_images[1])


@settings(max_examples=100, deadline=None)
@given(samples(), st.integers(0, 7))
def test_rates_equal_scikit_learn(
    sample: tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]], cut: int
) -> None:
    labels, scores, _ = sample
    flagged = (scores >= cut / 6).astype(int)
    found = rates_of(counts_at(labels, scores, cut / 6))
    expected = {
        "accuracy": reference.accuracy_score(labels, flagged),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, flagged),
        "sensitivity": reference.recall_score(labels, flagged),
        "specificity": reference.recall_score(labels, flagged, pos_label=0),
        "ppv": reference.precision_score(labels, flagged, zero_division=np.nan),
        "npv": reference.precision_score(labels, flagged, pos_label=0, zero_division=np.nan),
        "f1": reference.f1_score(labels, flagged),
        "f_beta": reference.fbeta_score(labels, flagged, beta=2.0),
        "mcc": reference.matthews_corrcoef(labels, flagged),
    }
    assert tuple(found) == RATES
    assert found == pytest.approx(expected, nan_ok=True, abs=1e-12)


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_f_beta_equals_scikit_learn(beta: float) -> None:
    flagged = (SCORES >= 0.8).astype(int)
    found = rates_of(counts_at(LABELS, SCORES, 0.8), beta)
    assert found["f_beta"] == pytest.approx(reference.fbeta_score(LABELS, flagged, beta=beta), abs=1e-12)
    assert (found["f_beta"] == found["f1"]) == (beta == 1.0)


def test_predictive_values_at_a_prevalence() -> None:
    """At the sample's own prevalence they are the sample's; elsewhere Bayes' rule in whole numbers of patients."""
    counts = Counts(tp=45, fn=5, fp=20, tn=130)
    own, prevalence = rates_of(counts), 50 / 200
    assert ppv_at(own["sensitivity"], own["specificity"], prevalence) == pytest.approx(45 / 65)
    assert npv_at(own["sensitivity"], own["specificity"], prevalence) == pytest.approx(130 / 135)
    # Of 10,000 people 100 are ill: 90 found, 990 false alarms, 8,910 cleared rightly, 10 wrongly.
    assert ppv_at(0.9, 0.9, 0.01) == pytest.approx(90 / 1080)
    assert npv_at(0.9, 0.9, 0.01) == pytest.approx(8910 / 8920)
    assert np.isnan(ppv_at(0.0, 1.0, 0.2)) and np.isnan(npv_at(1.0, 0.0, 0.2))
    assert ppv_at(np.array([0.9, np.nan]), np.array([1.0, 0.5]), 0.2) == pytest.approx([1.0, np.nan], nan_ok=True)


def test_rates_are_elementwise() -> None:
    rng = np.random.default_rng(1)
    tp, fn, fp, tn = rng.integers(0, 9, (4, 50))
    many = rates(tp, fn, fp, tn)
    for i in range(50):
        one = rates_of(Counts(int(tp[i]), int(fn[i]), int(fp[i]), int(tn[i])))
        assert {name: float(values[i]) for name, values in many.items()} == pytest.approx(one, nan_ok=True)


def test_one_class_has_no_rank_metrics_and_no_invented_rates() -> None:
    labels, scores = np.ones(4, dtype=np.uint8), np.array([0.1, 0.6, 0.7, 0.8])
    assert np.isnan(auroc(labels, scores)) and np.isnan(average_precision(labels, scores))
    assert np.isnan(auroc(1 - labels, scores)) and np.isnan(average_precision(1 - labels, scores))
    found = rates_of(counts_at(labels, scores, 0.5))
    assert found["sensitivity"] == 0.75
    assert all(np.isnan(found[name]) for name in ("specificity", "balanced_accuracy", "mcc"))
    assert np.isnan(rates_of(counts_at(1 - labels, scores, 0.5))["f1"])


def test_all_flagged_has_mcc_zero_and_no_npv() -> None:
    found = rates_of(counts_at(LABELS, SCORES, 0.0))
    assert found["mcc"] == 0.0
    assert np.isnan(found["npv"])


def test_smallest_samples() -> None:
    labels = np.array([1, 0], dtype=np.uint8)
    assert auroc(labels, np.array([0.9, 0.1])) == 1.0
    assert auroc(labels, np.array([0.1, 0.9])) == 0.0
    assert auroc(labels, np.array([0.5, 0.5])) == 0.5
    assert np.isnan(auroc(labels[:1], np.array([0.5])))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_cannot_be_ranked_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        auroc(np.array([0, 1], dtype=np.uint8), np.array([0.5, bad]))


def test_log_loss_equals_scikit_learn_in_float32_and_stays_finite() -> None:
    scores = np.array([0.0, 1.0, 0.25, 0.9, 1.0, 0.5, 0.0, 0.125])
    found = log_losses(LABELS, scores).mean()
    assert np.isfinite(found)
    assert found == pytest.approx(reference.log_loss(LABELS, scores.astype(np.float32)), rel=1e-5)
    inner = np.clip(SCORES, 0.01, 0.99)
    assert log_losses(LABELS, inner).mean() == pytest.approx(reference.log_loss(LABELS, inner), abs=1e-12)


def test_float32_ranking_of_many_images_is_exact() -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random(60_000) < 0.5).astype(np.uint8)
    scores = rng.random(60_000)
    weights = rng.integers(0, 4, (1, 60_000))
    exact = Ranking(labels, scores).evaluate(weights.astype(np.float64))
    fast = Ranking(labels, scores).evaluate(weights.astype(np.float32))
    assert fast[0] == pytest.approx(exact[0], abs=1e-7)
    assert fast[1] == pytest.approx(exact[1], abs=1e-7)

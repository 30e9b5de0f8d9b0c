from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from evaluation import certificate
from evaluation.intervals import clopper_pearson_lower, wilson

MINIMUM = {
    0.90: [29, 46, 61, 76, 89, 103, 116, 129, 142, 154, 167],
    0.95: [59, 93, 124, 153, 181, 208, 234, 260, 286, 311, 336],
    0.98: [149, 236, 313, 386, 456, 523, 590, 655, 719, 782, 845],
}


@pytest.mark.parametrize("recall", MINIMUM)
def test_minimum_number_of_groups(recall: float) -> None:
    assert [certificate.minimum_groups(recall, 0.95, misses) for misses in range(11)] == MINIMUM[recall]


def test_further_minima() -> None:
    assert certificate.minimum_groups(0.99, 0.95) == 299
    assert certificate.minimum_groups(0.95, 0.90) == 45


@pytest.mark.parametrize(("n", "misses"), [(50, None), (58, None), (59, 0), (100, 1), (150, 2), (300, 8)])
def test_worked_example(n: int, misses: int | None) -> None:
    assert certificate.certified_misses(n, 0.95, 0.95) == misses


def test_worked_example_bounds() -> None:
    assert certificate.recall_lower_bound(100, 1, 0.95) == pytest.approx(0.9534, abs=5e-5)
    assert certificate.recall_lower_bound(300, 8, 0.95) == pytest.approx(0.9524, abs=5e-5)
    assert certificate.certifiable_recall(50, 0.95) == pytest.approx(0.9418, abs=5e-5)
    assert certificate.certifiable_recall(50, 0.90) == pytest.approx(0.955, abs=5e-4)
    assert certificate.certified_misses(50, 0.95, 0.90) == 0
    assert certificate.expected_recall(50, 2) == pytest.approx(0.941, abs=5e-4)
    assert certificate.expected_recall(300, 15) == pytest.approx(0.947, abs=5e-4)
    assert [certificate.empirical_misses(n, 0.95) for n in (50, 100, 300)] == [2, 5, 15]


@pytest.mark.parametrize(
    ("n", "misses", "kept"), [(50, 2, 0.46), (100, 5, 0.38), (300, 15, 0.43), (100, 1, 0.963), (300, 8, 0.966)]
)
def test_worked_example_chance_to_keep_the_recall(n: int, misses: int, kept: float) -> None:
    """P(R >= 0.95) with R following Beta(n - m, m + 1) equals P(Bin(n, 0.05) > m)."""
    assert binom.sf(misses, n, 0.05) == pytest.approx(kept, abs=5e-3)


@pytest.mark.parametrize(
    ("n", "misses", "mean", "kept"), [(50, 1, 0.961, 0.72), (100, 4, 0.950, 0.56), (300, 14, 0.950, 0.54)]
)
def test_worked_example_of_conformal_risk_control(n: int, misses: int, mean: float, kept: float) -> None:
    assert certificate.crc_misses(n, 0.95) == misses
    assert certificate.expected_recall(n, misses) == pytest.approx(mean, abs=6e-4)
    assert binom.sf(misses, n, 0.05) == pytest.approx(kept, abs=5e-3)


@pytest.mark.parametrize(("n", "misses"), [(50, None), (100, 1), (150, 3), (300, 8)])
def test_worked_example_of_the_wilson_bound(n: int, misses: int | None) -> None:
    """Anti-conservative at n = 150, where the exact rule allows 2: that is why it is not used."""
    enough = [m for m in range(n) if wilson(n - m, n, 0.9)[0] >= 0.95]
    assert (max(enough) if enough else None) == misses
    assert binom.sf(3, 150, 0.05) == pytest.approx(0.945, abs=5e-4)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 999))
def test_conformal_risk_control_keeps_the_mean_and_no_more(n: int, recall: int) -> None:
    misses = certificate.crc_misses(n, recall / 1000)
    keeps = [(n - m) * 1000 >= recall * (n + 1) for m in (misses or 0, (misses or 0) + 1)]
    assert keeps == ([False, False] if misses is None else [True, False])
    assert (misses is None) == (n < certificate.crc_minimum_groups(recall / 1000))


def test_half_of_the_risk_is_exact() -> None:
    assert certificate.half_risk(0.95) == 0.975
    assert certificate.half_risk(0.9) == 0.95


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.integers(1, 99), st.integers(1, 99))
def test_equals_exact_arithmetic(n: int, recall: int, confidence: int) -> None:
    keep, limit = Fraction(recall, 100), 1 - Fraction(confidence, 100)
    tail, exact = Fraction(0), None
    for k in range(n):
        tail += math.comb(n, k) * (1 - keep) ** k * keep ** (n - k)
        if tail > limit:
            break
        exact = k
    assert certificate.certified_misses(n, recall / 100, confidence / 100) == exact


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3000), st.floats(0.5, 0.99), st.floats(0.5, 0.99))
def test_certified_is_the_clopper_pearson_bound(n: int, recall: float, confidence: float) -> None:
    misses = certificate.certified_misses(n, recall, confidence)
    if misses is None:
        assert certificate.certifiable_recall(n, confidence) < recall + 1e-9
        return
    bound = certificate.recall_lower_bound(n, misses, confidence)
    assert bound == pytest.approx(clopper_pearson_lower(n - misses, n, confidence), abs=1e-12)
    assert bound >= recall - 1e-9
    if misses + 1 < n:
        assert certificate.recall_lower_bound(n, misses + 1, confidence) < recall + 1e-9


def test_limits_met_exactly_count_as_met() -> None:
    # One group, r = 1 - d: P(Bin(1, 1/2) <= 0) = 1/2 <= 1/2; in decimals 0.9 and 0.1 are no exact doubles.
    assert certificate.certified_misses(1, 0.5, 0.5) == 0
    assert certificate.certified_misses(1, 0.1, 0.9) == 0
    assert certificate.certified_misses(2, 0.3, 0.91) == 0


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 999))
def test_empirical_misses_are_counted_in_integers(n: int, recall: int) -> None:
    misses = certificate.empirical_misses(n, recall / 1000)
    assert (n - misses) * 1000 >= recall * n
    assert misses == n - 1 or (n - misses - 1) * 1000 < recall * n


def test_no_and_few_groups() -> None:
    assert certificate.certified_misses(0, 0.95, 0.95) is None
    assert certificate.certified_misses(1, 0.95, 0.95) is None
    assert certificate.certified_misses(1, 0.04, 0.95) == 0
    assert certificate.certifiable_recall(1, 0.95) == pytest.approx(0.05)


@pytest.mark.parametrize(("n", "recall", "confidence"), [(-1, 0.9, 0.9), (5, 1.0, 0.9), (5, 0.0, 0.9), (5, 0.9, 1.0)])
def test_impossible_requests(n: int, recall: float, confidence: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        certificate.certified_misses(n, recall, confidence)


def test_what_the_test_set_may_show() -> None:
    assert certificate.probability_test_meets_target(300, 8, 300, 0.95) == pytest.approx(0.928, abs=5e-4)
    assert certificate.expected_test_misses(300, 8, 300) == pytest.approx(300 * 9 / 301)
    assert certificate.misses_quantile(0, 8, 300) == 0
    assert certificate.expected_test_misses(0, 8, 300) == 0.0
    assert certificate.probability_test_meets_target(0, 8, 300, 0.95) == 1.0


def test_what_the_test_set_may_show_in_a_simulation() -> None:
    rng = np.random.default_rng(0)
    calibration = np.sort(rng.random((4000, 100)), axis=1)[:, 1]
    missed = (rng.random((4000, 200)) < calibration[:, None]).sum(axis=1)
    assert missed.mean() == pytest.approx(certificate.expected_test_misses(200, 1, 100), rel=0.05)
    most = certificate.misses_quantile(200, 1, 100)
    assert (missed <= most).mean() >= 0.985 and (missed < most).mean() < 0.995
    kept = certificate.probability_test_meets_target(200, 1, 100, 0.95)
    assert (missed <= 10).mean() == pytest.approx(kept, abs=0.015)

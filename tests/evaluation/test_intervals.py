from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.stats.proportion import (  # type: ignore[import-untyped]
    confint_proportions_2indep,
    proportion_confint,
)

from evaluation.intervals import (
    Interval,
    auroc_interval,
    clopper_pearson_lower,
    difference_of_shown,
    format_interval,
    percentile_interval,
    share_interval,
    wilson,
    wilson_interval,
    with_width,
    without_ends,
)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95, 0.99])
)
def test_wilson_equals_statsmodels(pair: tuple[int, int], confidence: float) -> None:
    hits, n = pair
    expected = proportion_confint(hits, n, alpha=1 - confidence, method="wilson")
    assert wilson(hits, n, confidence) == pytest.approx(expected, abs=1e-9)
    assert wilson(hits, n, confidence)[0] <= hits / n <= wilson(hits, n, confidence)[1]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95, 0.99])
)
def test_clopper_pearson_equals_statsmodels(pair: tuple[int, int], confidence: float) -> None:
    hits, n = pair
    # A one-sided bound at level c is the lower end of the two-sided interval at level 2c - 1.
    expected = proportion_confint(hits, n, alpha=2 * (1 - confidence), method="beta")[0]
    assert clopper_pearson_lower(hits, n, confidence) == pytest.approx(expected, abs=1e-9)


def test_published_audit_figures() -> None:
    assert wilson(455, 624) == pytest.approx((0.693, 0.763), abs=5e-4)
    assert wilson(55, 118) == pytest.approx((0.379, 0.556), abs=5e-4)
    assert clopper_pearson_lower(287, 300) == pytest.approx(0.932, abs=5e-4)


def test_clopper_pearson_is_where_the_tail_equals_the_level() -> None:
    low = clopper_pearson_lower(97, 100, 0.95)
    assert binom.sf(96, 100, low) == pytest.approx(0.05, abs=1e-9)


def test_ends_without_hits_or_misses() -> None:
    assert wilson(0, 10)[0] == 0.0 and wilson(10, 10)[1] == 1.0
    assert wilson(1, 1) == pytest.approx((0.2065, 1.0), abs=1e-4)
    assert clopper_pearson_lower(0, 5) == 0.0
    assert clopper_pearson_lower(5, 5) == pytest.approx(0.05**0.2)
    assert wilson_interval(0, 0) == Interval(None, None, None, "wilson")


@pytest.mark.parametrize(("hits", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_impossible_counts(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= hits <= n"):
        wilson(hits, n)
    with pytest.raises(ValueError, match="expected 0 <= hits <= n"):
        clopper_pearson_lower(hits, n)


def test_percentiles_drop_and_count_what_is_not_defined() -> None:
    draws = np.concatenate([np.linspace(0, 1, 1001), [np.nan] * 7])
    interval = percentile_interval(0.4, draws, 0.9)
    assert (interval.value, interval.method, interval.dropped) == (0.4, "group bootstrap", 7)
    assert (interval.low, interval.high) == pytest.approx((0.05, 0.95))
    assert percentile_interval(float("nan"), draws) == Interval(None, None, None, dropped=7)
    assert percentile_interval(0.4, draws[:5]) == Interval(0.4, None, None)


def test_a_share_of_independent_images_has_wilsons_interval() -> None:
    drawn = Interval(0.8, 0.7, 0.9, dropped=3)
    assert share_interval(drawn, 50, 0.9, n=50) == Interval(0.8, *wilson(40, 50, 0.9), "wilson", 3)
    assert share_interval(drawn, 50, 0.9, n=51) == drawn
    assert share_interval(drawn, 50, 0.9) == drawn
    assert share_interval(Interval(None, None, None), 0, n=0) == Interval(None, None, None)
    # No error among 80 images of 30 patients: as sure as 30 patients make it.
    assert share_interval(Interval(1.0, 1.0, 1.0), 30, n=80) == Interval(1.0, *wilson(30, 30), "wilson")


def test_resamples_that_all_agree_are_no_certainty() -> None:
    assert with_width(Interval(1.0, 1.0, 1.0), 40) == Interval(1.0, None, None)
    for keep in (with_width, without_ends):
        assert keep(Interval(0.5, 0.4, 0.6), 1) == Interval(0.5, None, None)
        assert keep(Interval(0.5, 0.4, 0.6), 2) == Interval(0.5, 0.4, 0.6)
    # A difference of exactly nothing is known exactly.
    assert without_ends(Interval(0.0, 0.0, 0.0), 2) == Interval(0.0, 0.0, 0.0)


def test_a_perfect_auroc_is_as_sure_as_its_independent_pairs() -> None:
    assert auroc_interval(Interval(1.0, 1.0, 1.0), 25) == Interval(1.0, *wilson(25, 25), "wilson")
    assert auroc_interval(Interval(0.9, 0.8, 0.95), 25) == Interval(0.9, 0.8, 0.95)
    assert auroc_interval(Interval(1.0, 1.0, 1.0), 1) == Interval(1.0, None, None)


@pytest.mark.parametrize(
    ("interval", "text", "percent"),
    [
        (Interval(0.953, 0.936, 0.968), "0.953 (0.936-0.968)", "95.3 % (93.6-96.8)"),
        (Interval(-0.0001, -0.05, 0.0), "0.000 (-0.050 to 0.000)", "0.0 % (-5.0 to 0.0)"),
        (Interval(None, None, None), "n/a", "n/a"),
        (Interval(1.0, None, None), "1.000", "100.0 %"),
    ],
)
def test_format(interval: Interval, text: str, percent: str) -> None:
    assert format_interval(interval) == text
    assert format_interval(interval.to_dict()) == text
    assert format_interval(interval, percent=True) == percent


def test_a_side_without_any_error_does_not_make_a_difference_certain() -> None:
    # 12 of 12 against 170 of 200: Fisher's exact test gives p = 0.22.
    before = {"value": 1.0, **dict(zip(("low", "high"), wilson(12, 12), strict=True))}
    after = {"value": 0.85, **dict(zip(("low", "high"), wilson(170, 200), strict=True))}
    resampled = {"value": -0.15, "low": -0.2, "high": -0.1, "method": "group bootstrap", "dropped": 0}
    found = difference_of_shown(resampled, after, before)
    expected = confint_proportions_2indep(170, 200, 12, 12, method="newcomb", compare="diff")
    assert (found["low"], found["high"]) == pytest.approx(expected, abs=1e-9)
    assert found["low"] < 0 < found["high"] and found["method"] == "newcombe"
    within = {**before, "value": 0.9}
    assert difference_of_shown(resampled, after, within) == resampled
    assert difference_of_shown(resampled, after, {"value": 1.0, "low": None, "high": None})["low"] is None

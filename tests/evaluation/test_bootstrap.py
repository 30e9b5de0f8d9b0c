from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from evaluation.bootstrap import BLOCK, Resampling, bootstrap, difference_interval, group_draws
from evaluation.metrics import Counts, counts_at, log_losses, npv_at, ppv_at, rates_of, squared_errors

THRESHOLDS = {"at_0.5": 0.5, "at_threshold": 0.3}
Sample = tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.int64]]


def sample(n_groups: int = 40, seed: int = 0, ties: bool = True, mixed: bool = False) -> Sample:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), rng.integers(1, 5, n_groups))
    labels = (rng.random(n_groups) < 0.6).astype(np.uint8)[groups]
    if mixed:
        labels = np.where(rng.random(len(labels)) < 0.2, 1 - labels, labels).astype(np.uint8)
    latent = 1.5 * labels + rng.normal(size=n_groups)[groups] + rng.normal(size=len(groups)) - 0.7
    scores = 1 / (1 + np.exp(-latent))
    if ties:
        scores = np.round(scores, 1)
    order = rng.permutation(len(groups))
    return labels[order], scores[order].astype(np.float32).astype(np.float64), groups[order]


def draws_of(data: Sample, resamples: int, seed: int | tuple[int, ...] = 0) -> NDArray[np.float32]:
    return np.concatenate(list(group_draws(data[2], data[0], resamples, seed)))


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("mixed", [True, False])
def test_equals_a_naive_loop_over_the_same_draws(ties: bool, mixed: bool) -> None:
    data = labels, scores, groups = sample(ties=ties, mixed=mixed)
    resampled = bootstrap(*data, THRESHOLDS, resamples=60, seed=3)
    for number, weights in enumerate(draws_of(data, 60, 3)):
        rows = np.repeat(np.arange(len(labels)), weights[groups].astype(int))
        y, s = labels[rows], scores[rows]
        expected = {
            "auroc": reference.roc_auc_score(y, s),
            "average_precision": reference.average_precision_score(y, s),
            "brier": squared_errors(y, s).mean(),
            "log_loss": log_losses(y, s).mean(),
        }
        for name, threshold in THRESHOLDS.items():
            expected |= {f"{name}/{rate}": value for rate, value in rates_of(counts_at(y, s, threshold)).items()}
        found = {name: float(values[number]) for name, values in resampled.draws.items()}
        assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("mixed", [True, False])
def test_every_figure_equals_a_naive_loop_over_the_same_draws(mixed: bool) -> None:
    data = labels, scores, groups = sample(mixed=mixed)
    resampled = bootstrap(*data, {"at": 0.3}, 40, 5, full=True, beta=0.5, prevalences=(0.01, 0.3))
    for number, weights in enumerate(draws_of(data, 40, 5)):
        rows = np.repeat(np.arange(len(labels)), weights[groups].astype(int))
        y, s = labels[rows], scores[rows]
        at = rates_of(counts_at(y, s, 0.3), beta=0.5)
        scaled = reference.roc_auc_score(1 - y, -s, max_fpr=0.2)
        fpr, tpr, _ = reference.roc_curve(y, s, drop_intermediate=False)
        expected = {
            "partial_auc": 0.02 + 0.36 * (scaled - 0.5),
            "sensitivity_at_specificity/0.9": tpr[1 - fpr >= 0.9 - 1e-9].max(),
            "specificity_at_sensitivity/0.95": (1 - fpr[tpr >= 0.95 - 1e-9]).max(),
            "at/f_beta": reference.fbeta_score(y, s >= 0.3, beta=0.5),
            "at/ppv@0.01": float(ppv_at(at["sensitivity"], at["specificity"], 0.01)),
            "at/npv@0.3": float(npv_at(at["sensitivity"], at["specificity"], 0.3)),
        }
        found = {name: float(resampled.draws[name][number]) for name in expected}
        assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("bad", ["BCa", "", "normal"])
def test_an_unknown_kind_of_interval(bad: str) -> None:
    with pytest.raises(ValueError, match=r"interval is .*; expected one of \['percentile', 'bca'\]"):
        Resampling(interval=bad)


def test_values_are_those_of_the_data() -> None:
    labels, scores, groups = sample()
    resampled = bootstrap(labels, scores, groups, THRESHOLDS, resamples=20)
    assert resampled.values["auroc"] == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)
    assert resampled.counts["at_threshold"] == counts_at(labels, scores, 0.3)
    assert isinstance(resampled.counts["at_0.5"], Counts)


def test_each_kind_of_group_keeps_its_number() -> None:
    data = labels, _, groups = sample(mixed=True)
    positive = np.bincount(groups, weights=labels) > 0
    weights = draws_of(data, 100)
    assert (weights[:, positive].sum(axis=1) == positive.sum()).all()
    assert (weights[:, ~positive].sum(axis=1) == (~positive).sum()).all()


def test_draws_are_uniform_over_groups() -> None:
    data = sample(n_groups=10)
    weights = draws_of(data, 4000)
    assert weights.mean(axis=0) == pytest.approx(np.ones(10), abs=0.08)
    positive = np.bincount(data[2], weights=data[0]) > 0
    size = positive.sum()
    assert weights[:, positive].var(axis=0) == pytest.approx(np.full(size, 1 - 1 / size), rel=0.15)


def test_seed_zero_is_a_seed_and_seeds_differ() -> None:
    data = sample()
    first, again, other = (draws_of(data, 50, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(draws_of(data, 50, (0, 0)), draws_of(data, 50, (0, 1)))


@pytest.mark.parametrize("resamples", [1, BLOCK - 1, BLOCK, BLOCK + 1, 100])
def test_the_first_resamples_do_not_depend_on_how_many_follow(resamples: int) -> None:
    data = sample()
    assert np.array_equal(draws_of(data, resamples), draws_of(data, 200)[:resamples])
    assert len(bootstrap(*data, THRESHOLDS, resamples).draws["auroc"]) == resamples


def test_order_of_images_does_not_matter() -> None:
    labels, scores, groups = sample()
    turned = bootstrap(labels[::-1], scores[::-1], groups[::-1], THRESHOLDS, resamples=50)
    straight = bootstrap(labels, scores, groups, THRESHOLDS, resamples=50)
    for name, values in straight.draws.items():
        assert turned.draws[name] == pytest.approx(values, nan_ok=True)


def test_equal_scores_differ_by_exactly_zero() -> None:
    data = sample()
    first, second = (bootstrap(*data, THRESHOLDS, resamples=200) for _ in range(2))
    for name in first.values:
        interval = difference_interval(name, first, second)
        assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_paired_difference_is_narrower_than_an_independent_one() -> None:
    labels, scores, groups = sample(n_groups=200, ties=False)
    noisy = np.clip(scores + np.random.default_rng(1).normal(0, 0.02, len(scores)), 0, 1)
    model = bootstrap(labels, scores, groups, {}, resamples=500)
    paired = difference_interval("auroc", model, bootstrap(labels, noisy, groups, {}, resamples=500))
    apart = difference_interval("auroc", model, bootstrap(labels, noisy, groups, {}, resamples=500, seed=1))
    assert paired.high is not None and paired.low is not None and apart.high is not None and apart.low is not None
    assert paired.high - paired.low < 0.5 * (apart.high - apart.low)


def test_resamples_that_lose_a_class_are_dropped_and_counted() -> None:
    # The only negative image lives in a group with a positive one, and is drawn only when that group is.
    labels = np.array([1, 0, 1, 1], dtype=np.uint8)
    scores, groups = np.array([0.9, 0.2, 0.8, 0.4]), np.array([0, 0, 1, 2])
    resampled = bootstrap(labels, scores, groups, {"at_0.5": 0.5}, resamples=400)
    lost = draws_of((labels, scores, groups), 400)[:, 0] == 0
    assert 0 < lost.sum() < 400
    for name in ("auroc", "at_0.5/sensitivity", "at_0.5/accuracy", "brier"):
        assert np.array_equal(np.isnan(resampled.draws[name]), lost)
        assert resampled.interval(name).dropped == lost.sum()


def test_a_rate_is_dropped_only_where_it_is_not_defined() -> None:
    labels = np.array([1, 1, 1, 0, 0], dtype=np.uint8)
    scores = np.array([0.9, 0.2, 0.2, 0.1, 0.1])
    resampled = bootstrap(labels, scores, np.arange(5), {"at_0.5": 0.5}, resamples=400)
    assert resampled.interval("at_0.5/ppv").dropped > 0
    assert resampled.interval("at_0.5/sensitivity").dropped == 0


def test_one_class_alone() -> None:
    labels, scores = np.ones(6, dtype=np.uint8), np.linspace(0, 1, 6)
    resampled = bootstrap(labels, scores, np.arange(6), {"at_0.5": 0.5}, resamples=100)
    assert resampled.interval("auroc").value is None
    assert resampled.interval("at_0.5/specificity").low is None
    assert resampled.interval("at_0.5/sensitivity").value == 0.5


def test_one_image() -> None:
    resampled = bootstrap(np.array([1], dtype=np.uint8), np.array([0.7]), np.array([0]), {"at_0.5": 0.5}, resamples=30)
    assert resampled.interval("auroc").value is None
    assert resampled.interval("brier").value == pytest.approx(0.09)


def test_groups_widen_the_interval() -> None:
    """Copies of an image are no new evidence: as many images again, the same interval."""
    labels, scores, groups = sample(n_groups=60, ties=False)
    single = np.unique(groups, return_index=True)[1]
    once = bootstrap(labels[single], scores[single], groups[single], {}, resamples=300)
    copies = np.repeat(single, 5)
    five = bootstrap(labels[copies], scores[copies], groups[copies], {}, resamples=300)
    assert five.interval("auroc").low == pytest.approx(once.interval("auroc").low, abs=1e-6)


def test_interval_agrees_with_exhaustive_enumeration() -> None:
    """Three positive and two negative single images: all 27 * 4 equally likely resamples, counted by hand."""
    labels = np.array([1, 1, 1, 0, 0], dtype=np.uint8)
    scores = np.array([0.9, 0.6, 0.3, 0.5, 0.1])
    exact = []
    for positives in itertools.product(range(3), repeat=3):
        for negatives in itertools.product((3, 4), repeat=2):
            rows = [*positives, *negatives]
            exact.append(reference.roc_auc_score(labels[rows], scores[rows]))
    found = bootstrap(labels, scores, np.arange(5), {}, resamples=8000).draws["auroc"]
    assert found.mean() == pytest.approx(np.mean(exact), abs=0.01)
    assert found.std() == pytest.approx(np.std(exact), abs=0.01)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        bootstrap(np.array([0, 1], dtype=np.uint8), np.array([0.5, bad]), np.arange(2), {}, resamples=10)


def test_impossible_requests() -> None:
    nothing = np.array([], dtype=np.uint8), np.array([]), np.array([], dtype=np.int64)
    with pytest.raises(ValueError, match="expected equally many"):
        bootstrap(*nothing, {}, resamples=10)
    with pytest.raises(ValueError, match="resamples is 0"):
        bootstrap(*sample(), {}, resamples=0)

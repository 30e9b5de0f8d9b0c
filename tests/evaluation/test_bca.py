"""BCa intervals against scipy.stats.bootstrap on the same draws, the jackknife by hand, and where there is no correction."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as reference

from evaluation.bca import BCA, MOST_BLOCKS, acceleration, bca_interval, blocks_left_out
from evaluation.bootstrap import Bootstrap, bootstrap, difference_interval
from evaluation.metrics import auroc, average_precision

Sample = tuple[NDArray[np.uint8], NDArray[np.float64]]


def sample(positives: int = 40, negatives: int = 55, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], [positives, negatives]).astype(np.uint8)
    return labels, np.round(1 / (1 + np.exp(-(rng.normal(size=len(labels)) + 1.3 * labels - 0.4))), 2)


def scipy_bca(found: Bootstrap, name: str, data: Sample, statistic: object, confidence: float) -> tuple[float, float]:
    """What SciPy makes of the same draws: its own bias, jackknife and quantiles."""
    labels, scores = data
    result = stats.bootstrap(
        (scores[labels == 1], scores[labels == 0]),
        statistic,
        n_resamples=0,
        vectorized=False,
        confidence_level=confidence,
        method="BCa",
        bootstrap_result=SimpleNamespace(bootstrap_distribution=found.draws[name]),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def both(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> Sample:
    labels = np.repeat([1, 0], [len(positive), len(negative)]).astype(np.uint8)
    return labels, np.concatenate([positive, negative])


STATISTICS = {
    "auroc": lambda p, n: reference.roc_auc_score(*both(p, n)),
    "average_precision": lambda p, n: reference.average_precision_score(*both(p, n)),
    "brier": lambda p, n: reference.brier_score_loss(*both(p, n)),
    "at/sensitivity": lambda p, n: float(np.mean(p >= 0.5)),
    "at/balanced_accuracy": lambda p, n: float(np.mean(p >= 0.5) + np.mean(n < 0.5)) / 2,
    "at/f1": lambda p, n: reference.f1_score(both(p, n)[0], both(p, n)[1] >= 0.5),
    "at/mcc": lambda p, n: reference.matthews_corrcoef(both(p, n)[0], both(p, n)[1] >= 0.5),
}


@pytest.mark.parametrize("name", list(STATISTICS))
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_equals_scipy_on_groups_of_one_image(name: str, confidence: float) -> None:
    labels, scores = data = sample()
    found = bootstrap(labels, scores, np.arange(len(labels)), {"at": 0.5}, 400, 1, interval="bca")
    interval = found.interval(name, confidence)
    assert interval.method == BCA
    expected = scipy_bca(found, name, data, STATISTICS[name], confidence)
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-6)


def test_agrees_with_scipys_own_resamples() -> None:
    labels, scores = sample(30, 30, seed=4)
    found = bootstrap(labels, scores, np.arange(60), {}, 4000, 2, interval="bca").interval("auroc")
    theirs = stats.bootstrap(
        (scores[:30], scores[30:]),
        lambda p, n: auroc(*both(p, n)),
        n_resamples=1500,
        vectorized=False,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.015)


def test_groups_are_left_out_whole() -> None:
    """The values without each group, one at a time: of sums in closed form, of ranks with weights."""
    labels, scores = sample(30, 40)
    groups = np.concatenate([np.arange(30) // 2, 15 + np.arange(40) // 3])
    found = bootstrap(labels, scores, groups, {"at": 0.5}, 40, interval="bca")
    for stratum, codes in enumerate((range(15), range(15, 29))):
        for place, code in enumerate(codes):
            kept = groups != code
            y, s = labels[kept], scores[kept]
            held = {name: parts[stratum][place] for name, parts in found.left_out.items()}
            assert held["auroc"] == pytest.approx(auroc(y, s), abs=1e-12)
            assert held["average_precision"] == pytest.approx(average_precision(y, s), abs=1e-12)
            assert held["at/accuracy"] == pytest.approx(reference.accuracy_score(y, s >= 0.5), abs=1e-12)
            assert held["log_loss"] == pytest.approx(reference.log_loss(y, s), rel=1e-6)


def test_blocks_leave_every_group_out_once() -> None:
    strata = [np.arange(0, 500), np.arange(500, 530), np.array([], dtype=np.int64)]
    weights = blocks_left_out(strata, 530)
    assert [len(part) for part in weights] == [100, 30, 0]
    assert sum(map(len, weights)) <= MOST_BLOCKS
    for part, members in zip(weights[:2], strata[:2], strict=True):
        assert ((1 - part).sum(axis=0)[members] == 1).all()
        assert (1 - part).sum() == len(members)


def test_blocks_estimate_the_acceleration_of_single_groups() -> None:
    rng = np.random.default_rng(0)
    values = rng.exponential(size=20_000)
    single = (values.sum() - values) / (len(values) - 1)
    kept = [np.delete(values, np.arange(k, len(values), 100)).mean() for k in range(100)]
    exact = acceleration([single])
    assert exact == pytest.approx(2 / 6 / np.sqrt(len(values)), rel=0.15)  # an exponential variable has skewness 2
    assert acceleration([np.array(kept)]) == pytest.approx(exact, abs=0.01)


def test_differences_are_corrected_too() -> None:
    labels, scores = sample(60, 60)
    rng = np.random.default_rng(1)
    other = np.clip(scores + rng.normal(0, 0.1, 120), 0, 1)
    first, second = (bootstrap(labels, s, np.arange(120), {}, 500, 3, interval="bca") for s in (scores, other))
    paired = difference_interval("auroc", first, second)
    assert paired.method == BCA
    gap = [np.subtract(*pair) for pair in zip(first.left_out["auroc"], second.left_out["auroc"], strict=True)]
    assert paired == bca_interval(
        first.values["auroc"] - second.values["auroc"], first.draws["auroc"] - second.draws["auroc"], gap
    )
    elsewhere = bootstrap(labels, other, np.arange(120), {}, 500, 4, interval="bca")
    apart = difference_interval("auroc", first, elsewhere)
    assert apart.method == BCA
    assert None not in (paired.low, paired.high, apart.low, apart.high)
    assert paired.high - paired.low < apart.high - apart.low  # type: ignore[operator]
    same = difference_interval("auroc", first, first)
    assert (same.value, same.low, same.high, same.method) == (0.0, 0.0, 0.0, "group bootstrap")


@pytest.mark.parametrize(
    ("value", "draws", "left_out"),
    [
        (0.5, np.linspace(0.6, 0.9, 100), [np.array([0.5, 0.6])]),  # every draw above
        (0.5, np.linspace(0.1, 0.9, 100), [np.full(9, 0.5)]),  # no group moves it
        (0.5, np.linspace(0.1, 0.9, 100), [np.array([0.5, np.nan, 0.4])]),  # not defined without a group
        (0.5, np.linspace(0.1, 0.9, 100), [np.array([0.5])]),  # one group alone
    ],
)
def test_falls_back_to_percentiles_and_says_so(
    value: float, draws: NDArray[np.float64], left_out: list[NDArray[np.float64]]
) -> None:
    found = bca_interval(value, draws, left_out)
    assert found.method == "group bootstrap"
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))


def test_nothing_comes_of_nothing() -> None:
    assert bca_interval(float("nan"), np.linspace(0, 1, 50), [np.arange(5.0)]).value is None
    few = bca_interval(0.4, np.concatenate([np.linspace(0, 1, 10), np.full(30, np.nan)]), [np.arange(5.0)])
    assert (few.value, few.low, few.dropped) == (0.4, None, 30)


def test_coverage_is_no_worse_than_that_of_percentiles() -> None:
    """A skewed figure of few groups: 95 % intervals of the Brier score over 150 seeded samples of 25 + 25 images."""
    rng = np.random.default_rng(11)
    big = rng.beta(0.4, 2.0, 200_000)
    truth = float(np.mean(big**2))
    hits = {"percentile": 0, "bca": 0}
    for number in range(150):
        errors = rng.beta(0.4, 2.0, 50)
        labels = np.repeat([1, 0], 25).astype(np.uint8)
        scores = np.where(labels == 1, 1 - errors, errors)
        for kind in hits:
            found = bootstrap(labels, scores, np.arange(50), {}, 300, number, ranked=False, interval=kind)
            interval = found.interval("brier")
            assert interval.low is not None and interval.high is not None
            hits[kind] += interval.low <= truth <= interval.high
    assert hits["bca"] >= hits["percentile"]
    assert hits["bca"] >= 0.88 * 150

"""DeLong's variance against its definition, written as slow loops, and against resampled groups."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from evaluation.bootstrap import bootstrap
from evaluation.delong import CLUSTERED, components, delong, delong_interval, delong_test
from evaluation.intervals import wilson
from evaluation.metrics import counts_at

Floats = NDArray[np.float64]


def scored(n: int, seed: int, ties: bool = True) -> tuple[NDArray[np.uint8], Floats, Floats, NDArray[np.int64]]:
    """Labels, scores of two related models (with ties), and groups of one to a few images that share an effect."""
    rng = np.random.default_rng(seed)
    groups = np.sort(rng.integers(0, n // 2, n))
    shared = rng.normal(size=n)[groups]
    labels = (rng.random(n) < 0.4).astype(np.uint8)
    first = labels + shared + rng.normal(size=n)
    second = 0.7 * first + 0.8 * labels + rng.normal(size=n)
    if ties:
        first, second = np.round(first, 1), np.round(second, 0)
    return labels, first, second, np.unique(groups, return_inverse=True)[1].astype(np.int64)


def psi(x: float, y: float) -> float:
    return 1.0 if x > y else 0.5 if x == y else 0.0


def slow_components(labels: NDArray[np.uint8], scores: Floats) -> tuple[list[float], list[float]]:
    above, below = scores[labels == 1], scores[labels == 0]
    return (
        [float(np.mean([psi(x, y) for y in below])) for x in above],
        [float(np.mean([psi(x, y) for x in above])) for y in below],
    )


def slow_clustered(labels: NDArray[np.uint8], scores: list[Floats], groups: NDArray[np.int64]) -> Floats:
    """Obuchowski's (1997) covariance from its formulas, one cluster after another."""
    m, n, names = int(labels.sum()), int((labels == 0).sum()), np.unique(groups)
    parts = [slow_components(labels, values) for values in scores]
    aucs = [float(np.mean(part[0])) for part in parts]
    with_positive = [name for name in names if ((groups == name) & (labels == 1)).any()]
    with_negative = [name for name in names if ((groups == name) & (labels == 0)).any()]
    positive_groups, negative_groups = groups[labels == 1], groups[labels == 0]

    def sums(model: int, name: int) -> tuple[float, float]:
        x = [value - aucs[model] for value, own in zip(parts[model][0], positive_groups, strict=True) if own == name]
        y = [value - aucs[model] for value, own in zip(parts[model][1], negative_groups, strict=True) if own == name]
        return sum(x), sum(y)

    found = np.zeros((len(scores), len(scores)))
    for r in range(len(scores)):
        for s in range(len(scores)):
            own = [(sums(r, name), sums(s, name)) for name in names]
            s10 = sum(a[0] * b[0] for a, b in own) * len(with_positive) / ((len(with_positive) - 1) * m)
            s01 = sum(a[1] * b[1] for a, b in own) * len(with_negative) / ((len(with_negative) - 1) * n)
            s11 = sum(a[0] * b[1] + a[1] * b[0] for a, b in own) * len(names) / (len(names) - 1)
            found[r, s] = s10 / m + s01 / n + s11 / (m * n)
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_components_and_covariance_are_those_of_the_definition(seed: int) -> None:
    labels, first, second, _ = scored(60, seed)
    slow = [slow_components(labels, values) for values in (first, second)]
    for values, (of_positives, of_negatives) in zip((first, second), slow, strict=True):
        found = components(labels, values)
        np.testing.assert_allclose(found[0], of_positives, atol=1e-12)
        np.testing.assert_allclose(found[1], of_negatives, atol=1e-12)
    aucs, covariance = delong(labels, first, second)
    assert aucs == pytest.approx([roc_auc_score(labels, first), roc_auc_score(labels, second)])
    expected = np.cov([slow[0][0], slow[1][0]]) / labels.sum() + np.cov([slow[0][1], slow[1][1]]) / (labels == 0).sum()
    np.testing.assert_allclose(covariance, expected, rtol=1e-10)


def test_a_case_that_can_be_done_by_hand() -> None:
    # Positives 3, 2; negatives 2, 1: psi = 1, 1 | 1/2, 1. V10 = 1, 3/4; V01 = 3/4, 1; AUROC = 7/8; S10 = S01 = 1/32.
    aucs, covariance = delong([1, 1, 0, 0], [3, 2, 2, 1])
    assert aucs[0] == 0.875
    assert covariance[0, 0] == pytest.approx(1 / 32)


@pytest.mark.parametrize("seed", [0, 1])
def test_clustered_covariance_is_that_of_the_definition(seed: int) -> None:
    labels, first, second, groups = scored(60, seed)
    _, covariance = delong(labels, first, second, groups=groups)
    np.testing.assert_allclose(covariance, slow_clustered(labels, [first, second], groups), rtol=1e-10)


def test_groups_of_one_image_change_nothing() -> None:
    labels, first, second, _ = scored(80, 3)
    plain, clustered = delong(labels, first, second), delong(labels, first, second, groups=np.arange(80))
    np.testing.assert_allclose(plain[1], clustered[1], rtol=1e-10)


def test_clustered_errors_are_near_those_of_resampled_groups() -> None:
    rng, groups = np.random.default_rng(4), np.repeat(np.arange(300), 4)
    labels = (rng.random(300) < 0.4).astype(np.uint8)[groups]  # whole groups are positive, as patients are
    first = labels + rng.normal(size=300)[groups] + rng.normal(size=1200)
    second = first + rng.normal(size=300)[groups]
    aucs, covariance = delong(labels, first, second, groups=groups)
    ours = [float(np.sqrt(covariance[0, 0])), delong_test(aucs, covariance).standard_error]
    pair = [bootstrap(labels, scores, groups, {}, 1000, 0) for scores in (first, second)]
    theirs = [float(pair[0].draws["auroc"].std()), float((pair[1].draws["auroc"] - pair[0].draws["auroc"]).std())]
    assert ours == pytest.approx(theirs, rel=0.1)
    assert theirs[0] > 1.3 * float(np.sqrt(delong(labels, first)[1][0, 0]))  # ignoring the groups would claim too much


def test_two_identical_models_do_not_differ() -> None:
    labels, first, _, groups = scored(60, 5)
    for scores in (first, 2 * first + 1):  # the same ranks
        for own in (None, groups):
            test = delong_test(*delong(labels, first, scores, groups=own))
            assert (test.value, test.p, test.z, test.low, test.high) == (0.0, 1.0, None, 0.0, 0.0)


def test_a_difference_without_variance_has_no_p() -> None:
    labels, perfect = np.array([0, 0, 0, 1, 1, 1]), np.array([1, 2, 3, 4, 5, 6])
    test = delong_test(*delong(labels, perfect, np.zeros(6)))
    assert test.value == -0.5
    assert test.p is None and test.low is None


def test_the_difference_is_second_minus_first() -> None:
    labels, first, second, _ = scored(300, 6)
    aucs, covariance = delong(labels, first, second)
    forth, back = delong_test(aucs, covariance), delong_test(aucs, covariance, first=1, second=0)
    assert forth.value == pytest.approx(roc_auc_score(labels, second) - roc_auc_score(labels, first))
    assert forth.value == -back.value
    assert forth.p == back.p
    assert forth.low is not None and back.high is not None
    assert forth.low == pytest.approx(-back.high)


def test_interval_on_the_logit_scale() -> None:
    assert delong_interval(0.5, 0.01).low == pytest.approx(1 / (1 + np.exp(1.959964 * 0.1 / 0.25)), abs=1e-6)
    near = delong_interval(0.999, 1e-5, method=CLUSTERED)
    assert near.low is not None and near.high is not None
    assert 0.6 < near.low < 0.999 < near.high < 1.0
    assert near.method == CLUSTERED
    assert delong_interval(1.0, 0.0).low is None
    assert delong_interval(0.7, float("nan")).high is None


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng, true, hits = np.random.default_rng(7), 0.8413447, 0  # of N(sqrt 2, 1) against N(0, 1): Phi(1)
    labels = np.repeat([1, 0], 50).astype(np.uint8)
    for _ in range(400):
        scores = rng.normal(size=100) + np.sqrt(2) * labels
        aucs, covariance = delong(labels, scores)
        interval = delong_interval(float(aucs[0]), float(covariance[0, 0]))
        assert interval.low is not None and interval.high is not None
        hits += interval.low <= true <= interval.high
    assert 0.92 <= hits / 400 <= 0.98


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1, 1], [0.1, 0.2, 0.3], "3 positives and 0 negatives"),
        ([1, 0], [0.1, np.nan], "NaN"),
        ([1, 0], [0.1, 0.2, 0.3], "shape"),
    ],
)
def test_what_cannot_be_computed_is_refused(labels: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        delong(labels, scores)


def test_no_scores_and_wrong_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="no scores"):
        delong([1, 0])
    with pytest.raises(ValueError, match="one group an image"):
        delong([1, 0], [0.2, 0.1], groups=[0, 1, 2])


def test_too_few_groups_have_no_variance() -> None:
    aucs, covariance = delong([1, 1, 0, 0], [3, 2, 2, 1], [1, 2, 3, 4], groups=[0, 0, 1, 2])
    assert np.isnan(covariance).all()
    test = delong_test(aucs, covariance)
    assert test.p is None and test.standard_error is None


def seconds_of(n: int) -> float:
    """Processor time of one call, the fastest of three."""
    rng = np.random.default_rng(8)
    labels = (rng.random(n) < 0.1).astype(np.uint8)
    scores = rng.normal(size=n) + labels
    taken = []
    for _ in range(3):
        begun = time.process_time()
        delong(labels, scores, scores + rng.normal(size=n), groups=rng.integers(0, n // 5, n))
        taken.append(time.process_time() - begun)
    return min(taken)


def test_time_grows_with_the_number_of_rows_and_not_with_its_square() -> None:
    # 16 times the rows take 16 log-factors longer where it is O(n log n), and 256 times where every pair is looked at.
    assert seconds_of(160_000) < 80 * seconds_of(10_000)


# confidenceinterval 1.0.5 (its roc_auc_score, method "delong", and its shares, method "wilson") on these 60 images.
LABELS = "000111011001000010010101001001010011011000110001101010100100"
SCORES = (
    "59 58 25 72 91 65 42 73 83 30 34 78 40 20 60 14 45 14 61 65 19 47 48 49 15 53 45 31 38 64 36 91 27 15 30 69 30 78 63 27 23 "
    "27 76 65 40 80 49 36 94 46 51 60 73 25 59 18 39 89 30 48"
)
PINNED = (0.8857143, 0.8018110523494401, 0.9696175327030502)
SHARES = {
    "accuracy": (0.7833333333333333, 0.6637997242680521, 0.868769559518097),
    "ppv": (0.7307692279585799, 0.5391695962082381, 0.8629555167798162),
    "npv": (0.8235294093425606, 0.6648626260015724, 0.9165103095462768),
    "sensitivity": (0.75999999696, 0.5657031664457093, 0.8850368630659855),
    "specificity": (0.7999999977142856, 0.6410838693433439, 0.8995755352620137),
}


def test_equals_the_package_confidenceinterval() -> None:
    labels = np.array([int(letter) for letter in LABELS], dtype=np.uint8)
    scores = np.array(SCORES.split(), dtype=np.float64) / 100
    aucs, covariance = delong(labels, scores)
    half = norm.ppf(0.975) * np.sqrt(
        covariance[0, 0]
    )  # that package takes the interval on the scale of the AUROC itself
    assert (aucs[0], aucs[0] - half, aucs[0] + half) == pytest.approx(PINNED, abs=1e-7)
    found = counts_at(labels, scores, 0.5)
    pairs = {
        "accuracy": (found.tp + found.tn, len(labels)),
        "ppv": (found.tp, found.tp + found.fp),
        "npv": (found.tn, found.tn + found.fn),
        "sensitivity": (found.tp, found.tp + found.fn),
        "specificity": (found.tn, found.tn + found.fp),
    }
    for name, (hits, n) in pairs.items():
        assert (hits / n, *wilson(hits, n)) == pytest.approx(SHARES[name], abs=1e-6), name

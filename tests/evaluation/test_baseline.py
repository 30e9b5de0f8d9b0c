from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from evaluation.baseline import domain_auc, thumbnail_scores


def images(n: int, brightness: float = 0.0, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Noise in which positives are a little brighter in the upper half."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n).astype(np.uint8)
    pixels = rng.normal(120 + brightness, 25, (n, 256))
    pixels[:, :128] += 6.0 * labels[:, None]
    return np.clip(pixels, 0, 255).astype(np.uint8), labels


def test_equals_a_plain_logistic_regression() -> None:
    train, labels = images(200)
    other, truth = images(80, seed=1)
    scaler = StandardScaler().fit(train.astype(float))
    model = LogisticRegression(C=0.01, max_iter=1000).fit(scaler.transform(train.astype(float)), labels)
    expected = model.predict_proba(scaler.transform(other.astype(float)))[:, 1]
    found = thumbnail_scores(train, labels, other)
    assert found.shape == (80,)
    assert found == pytest.approx(expected, abs=1e-6)
    assert roc_auc_score(truth, found) > 0.9


def test_scores_are_exact_float32_values() -> None:
    train, labels = images(60)
    scores = thumbnail_scores(train, labels.astype(bool), train)
    assert scores.dtype == np.float64
    assert np.array_equal(scores, scores.astype(np.float32).astype(np.float64))
    assert np.array_equal(scores, thumbnail_scores(train, labels, train))
    assert scores.min() >= 0 and scores.max() <= 1


def test_constant_pixels_and_no_other_image() -> None:
    train, labels = images(60)
    train[:, 0] = 7
    assert np.isfinite(thumbnail_scores(train, labels, train)).all()
    assert thumbnail_scores(train, labels, train[:0]).shape == (0,)


def test_several_classes_equal_a_multinomial_regression() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 240)
    pixels = rng.normal(size=(240, 48)) * 20 + 3 * np.eye(3)[targets].repeat(16, axis=1) * 5 + 100
    scaler = StandardScaler().fit(pixels)
    model = LogisticRegression(C=0.01, max_iter=1000).fit(scaler.transform(pixels), targets)
    found = thumbnail_scores(pixels, targets, pixels[:50], 3)
    assert found.shape == (50, 3)
    assert found == pytest.approx(model.predict_proba(scaler.transform(pixels[:50])), abs=1e-6)
    assert np.array_equal(found, found.astype(np.float32).astype(float))
    assert found.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_a_class_that_training_lacks_gets_no_probability() -> None:
    train, labels = images(60)
    found = thumbnail_scores(train, 2 * labels.astype(int), train, 4)
    assert found.shape == (60, 4)
    assert (found[:, [1, 3]] == 0).all() and (found[:, [0, 2]] > 0).all()
    assert thumbnail_scores(train, labels, train[:0], 3).shape == (0, 3)
    with pytest.raises(ValueError, match="class numbers run from 0 to 4; expected 0 to 2"):
        thumbnail_scores(train, 4 * labels.astype(int), train, 3)
    with pytest.raises(ValueError, match="at least two"):
        thumbnail_scores(train, np.ones(60), train, 3)


def test_impossible_requests() -> None:
    train, labels = images(20)
    with pytest.raises(ValueError, match="of one class"):
        thumbnail_scores(train, np.ones(20), train)
    with pytest.raises(ValueError, match="do not fit"):
        thumbnail_scores(train, labels[:5], train)
    with pytest.raises(ValueError, match="do not fit"):
        thumbnail_scores(train, labels, train[:, :10])
    with pytest.raises(ValueError, match="expected \\(images, pixels\\)"):
        thumbnail_scores(train.reshape(20, 16, 16), labels, train)
    with pytest.raises(ValueError, match="NaN or infinity"):
        thumbnail_scores(np.full((20, 256), np.nan), labels, train)


def test_domain_of_alike_and_of_different_sets() -> None:
    first, second, brighter = images(300)[0], images(200, seed=1)[0], images(200, brightness=12, seed=2)[0]
    groups = [f"a{i // 2}" for i in range(300)], [f"b{i // 2}" for i in range(200)]
    alike = domain_auc(first, second, *groups)
    apart = domain_auc(first, brighter, *groups)
    assert alike is not None and apart is not None
    assert 0.35 < alike < 0.65
    assert apart > 0.95
    assert domain_auc(first, second, *groups, seed=0) == alike
    assert domain_auc(first, second, *groups, seed=1) != alike


def test_groups_are_not_split_between_folds() -> None:
    """Copies of a few images tell the sets apart only if copies of one group are allowed on both sides."""
    first, second = images(20)[0], images(20, seed=1)[0]
    copies = np.repeat(first, 10, axis=0), np.repeat(second, 10, axis=0)
    grouped = domain_auc(*copies, np.repeat(np.arange(20), 10), np.repeat(np.arange(20, 40), 10))
    alone = domain_auc(*copies, np.arange(200), np.arange(200, 400))
    assert grouped is not None and alone is not None
    assert alone > 0.99
    assert grouped < 0.8


def test_too_few_groups() -> None:
    first, second = images(50)[0], images(50, seed=1)[0]
    assert domain_auc(first, second, np.arange(50), np.arange(50) // 10) is None
    assert domain_auc(first[:0], second, [], np.arange(50)) is None
    with pytest.raises(ValueError, match="100 thumbnails, but 99 groups"):
        domain_auc(first, second, np.arange(50), np.arange(49))

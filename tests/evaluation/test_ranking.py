"""Partial AUC and rates at a fixed other rate: against scikit-learn, torchmetrics, both published formulas, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from evaluation import ranking
from evaluation.ranking import FIXED, FULL, RANKS, Ranking, fixed_name

Sample = tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.int64]]


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Labels of both classes, scores with many ties, whole-number weights that leave both classes some weight."""
    n = draw(st.integers(2, 60))
    labels = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)), dtype=np.uint8)
    labels[:2] = [0, 1]
    scores = np.array(draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))) / 8
    weights = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    weights[:2] = np.maximum(weights[:2], 1)
    return labels, scores, weights


def mcclish(labels: NDArray[np.uint8], scores: NDArray[np.float64], floor: float = 0.8) -> float:
    """ISIC 2024: the scorer's formula, undoing McClish's scaling of the mirrored curve."""
    m = 1 - floor
    scaled = reference.roc_auc_score(1 - labels, -scores, max_fpr=m)
    return float(m**2 / 2 + (m - m**2 / 2) / 0.5 * (scaled - 0.5))


def integrated(labels: NDArray[np.uint8], scores: NDArray[np.float64], floor: float = 0.8) -> float:
    """The area of max(TPR - floor, 0) over FPR, corner by corner of the ROC curve."""
    fpr, tpr, _ = reference.roc_curve(labels, scores, drop_intermediate=False)
    area = 0.0
    for x0, x1, y0, y1 in zip(fpr[:-1], fpr[1:], tpr[:-1], tpr[1:], strict=True):
        if y1 <= floor or x1 == x0:
            continue
        start = x0 if y0 >= floor else x0 + (x1 - x0) * (floor - y0) / (y1 - y0)
        area += (x1 - start) * (max(y0, floor) + y1 - 2 * floor) / 2
    return float(area)


def figures_of(
    labels: NDArray[np.uint8], scores: NDArray[np.float64], weights: NDArray[np.generic]
) -> dict[str, float]:
    found = Ranking(labels, scores).figures(np.asarray(weights)[None, :], full=True)
    assert set(found) == {*RANKS, *FULL}
    return {name: float(values[0]) for name, values in found.items()}


@settings(max_examples=200, deadline=None)
@given(samples())
def test_weights_equal_repeated_images_with_scikit_learn(sample: Sample) -> None:
    labels, scores, weights = sample
    found = figures_of(labels, scores, weights.astype(np.int32))
    y, s = np.repeat(labels, weights), np.repeat(scores, weights)
    fpr, tpr, _ = reference.roc_curve(y, s, drop_intermediate=False)
    expected = {
        "auroc": reference.roc_auc_score(y, s),
        "average_precision": reference.average_precision_score(y, s),
        "partial_auc": mcclish(y, s),
    }
    for at in FIXED:
        expected[fixed_name("sensitivity_at_specificity", at)] = tpr[1 - fpr >= at - 1e-9].max()
        expected[fixed_name("specificity_at_sensitivity", at)] = (1 - fpr[tpr >= at - 1e-9]).max()
    assert found == pytest.approx(expected, abs=1e-9)
    assert found["partial_auc"] == pytest.approx(integrated(y, s), abs=1e-9)
    for kind in (np.float32, np.float64):
        assert figures_of(labels, scores, weights.astype(kind)) == pytest.approx(expected, abs=1e-6)


def test_partial_auc_both_ways_on_many_scores_and_at_its_ends() -> None:
    rng = np.random.default_rng(7)
    labels = (rng.random(3000) < 0.3).astype(np.uint8)
    scores = np.round(1 / (1 + np.exp(-(rng.normal(size=3000) + 1.2 * labels))), 2)
    found = figures_of(labels, scores, np.ones(3000, dtype=np.int32))["partial_auc"]
    assert found == pytest.approx(mcclish(labels, scores), abs=1e-12)
    assert found == pytest.approx(integrated(labels, scores), abs=1e-12)
    perfect = labels.astype(float)
    ones = np.ones(3000, dtype=np.int32)
    assert figures_of(labels, perfect, ones)["partial_auc"] == pytest.approx(0.2)
    assert figures_of(labels, 1 - perfect, ones)["partial_auc"] == pytest.approx(0.0)
    # A constant score is the diagonal: the triangle above 0.8.
    assert figures_of(labels, np.full(3000, 0.5), ones)["partial_auc"] == pytest.approx(0.02)


def test_fixed_rates_by_hand() -> None:
    """Ten negatives at 1..10, ten positives at 5.5..14.5: nine negatives cleared at 10, the best threshold of 90 %."""
    scores = np.concatenate([np.arange(1, 11), np.arange(10) + 5.5]) / 20
    labels = np.repeat([0, 1], 10).astype(np.uint8)
    found = figures_of(labels, scores, np.ones(20, dtype=np.int32))
    assert found["sensitivity_at_specificity/0.9"] == pytest.approx(
        0.6
    )  # 9.5 and above: exactly 1 of 10 negatives flagged
    assert found["sensitivity_at_specificity/0.95"] == pytest.approx(0.5)  # 10.5 and above
    assert found["specificity_at_sensitivity/0.9"] == pytest.approx(0.6)  # 6.5 and above clears 1..6
    assert found["specificity_at_sensitivity/0.95"] == pytest.approx(0.5)


def test_fixed_rates_equal_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    from torchmetrics.functional.classification import (
        binary_sensitivity_at_specificity,
        binary_specificity_at_sensitivity,
    )

    rng = np.random.default_rng(3)
    labels = (rng.random(777) < 0.4).astype(np.uint8)
    scores = np.round(np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1), 2).astype(np.float32).astype(float)
    found = figures_of(labels, scores, np.ones(777, dtype=np.int32))
    given_scores, target = torch.tensor(scores), torch.tensor(labels.astype(int))
    for at in FIXED:
        sensitivity, _ = binary_sensitivity_at_specificity(given_scores, target, at)
        specificity, _ = binary_specificity_at_sensitivity(given_scores, target, at)
        assert found[fixed_name("sensitivity_at_specificity", at)] == pytest.approx(float(sensitivity), abs=1e-6)
        assert found[fixed_name("specificity_at_sensitivity", at)] == pytest.approx(float(specificity), abs=1e-6)


def test_one_class_has_none_of_them() -> None:
    for labels in (np.ones(5, dtype=np.uint8), np.zeros(5, dtype=np.uint8)):
        found = figures_of(labels, np.linspace(0, 1, 5), np.ones(5, dtype=np.int32))
        assert all(np.isnan(value) for value in found.values())
    both = np.array([1, 0, 0], dtype=np.uint8)
    assert all(np.isnan(value) for value in figures_of(both, np.array([0.3, 0.3, 0.1]), np.array([0, 1, 2])).values())


def test_how_many_weightings_are_swept_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    labels, scores = (rng.random(120) < 0.4).astype(np.uint8), np.round(rng.random(120), 1)
    weights = rng.integers(0, 4, (7, 120)).astype(np.int32)
    together = Ranking(labels, scores).figures(weights, full=True)
    monkeypatch.setattr(ranking, "_IN_CACHE", 240)
    apart = Ranking(labels, scores).figures(weights, full=True)
    for name, values in together.items():
        assert np.array_equal(values, apart[name])

"""The threshold sweep: its rates are those that a count by hand gives, at ties and at the ends too."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.figures_style import svg
from evaluation.figures_sweep import rates_at, threshold_sweep

RNG = np.random.default_rng(0)
LABELS = (RNG.random(300) < 0.3).astype(np.uint8)
SCORES = np.asarray(np.round(np.clip(RNG.normal(0.35 + 0.3 * LABELS, 0.2), 0, 1), 2), dtype=np.float64)  # many ties


def test_rates_are_those_of_a_count() -> None:
    thresholds = np.array([1.0, 0.0, 0.37, 0.5, 0.505, np.float64(SCORES[7]), 2.0])
    found = rates_at(LABELS, SCORES, thresholds)
    for place, threshold in enumerate(thresholds):
        called, positive = np.greater_equal(SCORES, threshold), LABELS == 1
        tp, fp, fn = (int(both.sum()) for both in (called & positive, called & ~positive, ~called & positive))
        assert found["recall"][place] == pytest.approx(tp / positive.sum())
        assert found["specificity"][place] == pytest.approx(1 - fp / (~positive).sum())
        assert found["F1"][place] == pytest.approx(2 * tp / (2 * tp + fp + fn))


def test_the_locked_threshold_is_marked_and_its_numbers_are_written() -> None:
    rates = rates_at(LABELS, SCORES, np.array([0.42]))
    figure = threshold_sweep(LABELS, SCORES, 0.42, title="val: threshold sweep", phantom=True)
    axes = figure.get_axes()[0]
    assert {line.get_label() for line in axes.get_lines()} >= {"recall", "specificity", "F1"}
    place = np.log(0.42 / 0.58)
    assert any(np.asarray(line.get_xdata()).tolist() == pytest.approx([place, place]) for line in axes.get_lines())
    drawn = {str(line.get_label()): line for line in axes.get_lines()}["recall"]
    middle = 200
    expected = rates_at(LABELS, SCORES, 1 / (1 + np.exp(-np.asarray(drawn.get_xdata())[[middle]])))["recall"]
    assert np.asarray(drawn.get_ydata())[middle] == expected[0]
    text = svg(figure)
    assert "Phantom data - val: threshold sweep" in text
    assert f"recall {rates['recall'][0]:.3f}, specificity {rates['specificity'][0]:.3f}" in text
    assert "locked 0.42" in text


def test_before_there_is_a_threshold_none_is_marked() -> None:
    figure = threshold_sweep(LABELS, SCORES, float("nan"))
    assert "locked" not in svg(figure)
    with pytest.raises(ValueError, match="both classes"):
        threshold_sweep(np.ones(3, dtype=np.uint8), np.array([0.1, 0.2, 0.3]), 0.5)


@pytest.mark.parametrize(("low", "high", "threshold"), [(0.0, 1.0, 0.0), (0.0001, 0.02, 0.002), (0.49, 0.51, 0.5)])
def test_any_range_of_scores_has_ticks_and_its_threshold_inside(low: float, high: float, threshold: float) -> None:
    axes = threshold_sweep(LABELS, np.linspace(low, high, len(LABELS)), threshold).get_axes()[0]
    left, right = axes.get_xlim()
    assert len(axes.get_xticks()) >= 3
    assert all(left <= tick <= right for tick in axes.get_xticks())
    assert all(left <= float(np.asarray(line.get_xdata())[0]) <= right for line in axes.get_lines())

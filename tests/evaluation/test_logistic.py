"""Logistic lines against reference software, and resamples against lines fitted to repeated images."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm  # type: ignore[import-untyped]
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from evaluation.bootstrap import group_draws
from evaluation.logistic import CELLS, Cells, fit_line, fit_offset, overlap


def drawn(n: int, seed: int = 0, digits: int = 9) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    z = np.round(2.0 * rng.normal(size=n), digits)
    labels = (rng.random(n) < expit(0.7 * z - 0.6)).astype(np.uint8)
    return labels, z, np.unique(rng.integers(0, n // 2, n), return_inverse=True)[1].astype(np.int64)


@pytest.mark.parametrize(("n", "seed"), [(40, 1), (400, 2), (3000, 3)])
def test_line_and_offset_equal_statsmodels_and_scikit_learn(n: int, seed: int) -> None:
    labels, z, _ = drawn(n, seed)
    line, offset = fit_line(labels, z), fit_offset(labels, z)
    assert line is not None and offset is not None
    reference = sm.Logit(labels, sm.add_constant(z)).fit(disp=0, tol=1e-12)
    assert (line.intercept, line.slope) == pytest.approx(tuple(reference.params), abs=1e-8)
    other = LogisticRegression(C=np.inf, tol=1e-12, max_iter=2000).fit(z[:, None], labels)
    assert line.slope == pytest.approx(other.coef_[0, 0], abs=1e-4)
    fixed = sm.GLM(labels, np.ones(n), offset=z, family=sm.families.Binomial()).fit(tol=1e-12)
    assert offset == pytest.approx(fixed.params[0], abs=1e-8)


def test_resamples_equal_lines_of_the_repeated_images() -> None:
    """With few different logits nothing is rounded."""
    labels, z, groups = drawn(300, digits=1)
    cells = Cells(labels, z, groups)
    weights = np.concatenate(list(group_draws(groups, labels, 20, 5)))
    found = cells.evaluate(weights)
    for number in (0, 7, 19):
        rows = np.repeat(np.arange(300), weights[number][groups].astype(int))
        line, offset = fit_line(labels[rows], z[rows]), fit_offset(labels[rows], z[rows])
        assert line is not None and offset is not None
        assert tuple(found[number]) == pytest.approx((*line, offset), abs=1e-7)


def test_cells_change_the_lines_of_many_images_by_next_to_nothing() -> None:
    labels, z, groups = drawn(20 * CELLS)
    cells = Cells(labels, z, groups)
    weights = np.concatenate(list(group_draws(groups, labels, 3, 5)))
    found = cells.evaluate(weights)
    for number in range(3):
        rows = np.repeat(np.arange(len(z)), weights[number][groups].astype(int))
        line, offset = fit_line(labels[rows], z[rows]), fit_offset(labels[rows], z[rows])
        assert line is not None and offset is not None
        assert tuple(found[number]) == pytest.approx((*line, offset), abs=5e-4)


@pytest.mark.parametrize(
    ("labels", "z", "overlapping"),
    [
        ([0, 0, 1, 1], [0.0, 1.0, 2.0, 3.0], False),
        ([0, 0, 1, 1], [0.0, 1.0, 1.0, 3.0], False),
        ([1, 1, 0, 0], [0.0, 1.0, 2.0, 3.0], False),
        ([0, 1, 0, 1], [0.0, 1.0, 2.0, 3.0], True),
        ([0, 1, 0, 1], [1.0, 1.0, 1.0, 1.0], False),
        ([0, 0, 0], [0.0, 1.0, 2.0], False),
        ([1, 1, 1], [0.0, 1.0, 2.0], False),
    ],
)
def test_without_overlap_there_is_no_line(labels: list[int], z: list[float], overlapping: bool) -> None:
    held, places = np.array(labels, dtype=np.uint8), np.array(z)
    assert overlap(held, places) is overlapping
    assert (fit_line(held, places) is not None) is overlapping
    assert (fit_offset(held, places) is not None) is (0 < sum(labels) < len(labels))


def test_a_resample_without_overlap_is_marked() -> None:
    labels, z = np.array([0, 1, 0, 1], dtype=np.uint8), np.array([-1.0, -0.5, 0.5, 1.0])
    cells = Cells(labels, z, np.arange(4))
    found = cells.evaluate(np.array([[1, 1, 1, 1], [2, 0, 0, 2], [0, 1, 1, 0], [2, 0, 2, 0]], dtype=np.float64))
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1:, :2]).all()
    assert np.isfinite(found[1:3, 2]).all() and np.isnan(found[3, 2])


def test_logits_that_hardly_differ_have_their_steep_line() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(0.3, 0.01, 400)
    labels = (rng.random(400) < expit(200.0 * (z - 0.3))).astype(np.uint8)
    line = fit_line(labels, z)
    assert line is not None and 120.0 < line.slope < 300.0
    # The likelihood is flat there: the residuals add up to zero, alone and weighted by z.
    left = labels - expit(line.intercept + line.slope * z)
    assert left.sum() == pytest.approx(0.0, abs=1e-6) and (left * z).sum() == pytest.approx(0.0, abs=1e-6)

"""The logistic line ``logit P(y = 1) = intercept + slope * z``: exactly, and in thousands of resamples at once."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit

# Resamples see the logits rounded to this many cells, one half of them equally filled and the other equally wide; with
# fewer different logits nothing is rounded.
CELLS: Final = 512
_STEPS: Final = 40
_LARGEST_STEP: Final = 4.0
_SMALLEST_STEP: Final = 1e-9

Floats = NDArray[np.float64]


class Line(NamedTuple):
    """Intercept and slope."""

    intercept: float
    slope: float


def overlap(labels: NDArray[np.uint8], z: Floats) -> bool:
    """Whether a positive lies below a negative and another above one, without which no finite slope fits best.

    Args:
        labels: shape (n,), 1 = positive. ``z``: shape (n,).
    """
    found, others = z[labels == 1], z[labels != 1]
    if not len(found) or not len(others):
        return False
    return bool(found.min() < others.max() and found.max() > others.min())


def fit_line(labels: NDArray[np.uint8], z: Floats) -> Line | None:
    """The line of highest likelihood by Newton's method; None where there is none (see :func:`overlap`).

    Args:
        labels: shape (n,), 1 = positive. ``z``: shape (n,), finite.
    """
    if not overlap(labels, z):
        return None
    # On a common scale, so that logits that hardly differ, and have a slope of hundreds, take no more steps than others.
    centre, scale = float(z.mean()), float(z.std())
    scaled, positive = (z - centre) / scale, labels.astype(np.float64)
    goals = np.array([[positive.sum(), (positive * scaled).sum()]])
    found = newton(np.ones((1, len(z))), scaled, goals, np.zeros((1, 2)))[0]
    if not np.isfinite(found).all():
        return None
    slope = float(found[1]) / scale
    return Line(float(found[0]) - slope * centre, slope)


def fit_offset(labels: NDArray[np.uint8], z: Floats) -> float | None:
    """The intercept of highest likelihood with the slope fixed to 1; None unless both classes are there."""
    total = float(labels.sum())
    if total in (0.0, float(len(labels))):
        return None
    found = newton_offset(np.ones((1, len(z))), z, np.array([total]), np.zeros(1))[0]
    return float(found) if np.isfinite(found) else None


def newton(weights: Floats, z: Floats, goals: Floats, start: Floats) -> Floats:
    """Lines of highest likelihood under many weightings.

    Args:
        weights: shape (b, m), not negative. ``z``: shape (m,).
        goals: shape (b, 2): weighted sums of y and of y * z.
        start: shape (b, 2) or (1, 2): intercept and slope to start from.

    Returns:
        Shape (b, 2): intercept and slope; NaN where the steps do not end, as for separable classes.
    """
    lines = np.broadcast_to(start, goals.shape).astype(np.float64)
    moving = np.arange(len(lines))
    for _ in range(_STEPS):
        chance = expit(lines[moving, :1] + lines[moving, 1:] * z)
        held = weights[moving] * chance
        left = goals[moving] - np.stack([held.sum(axis=1), held @ z], axis=1)
        held *= 1.0 - chance
        a, b, c = held.sum(axis=1), held @ z, held @ (z * z)
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = a * c - b * b
            step = np.stack([c * left[:, 0] - b * left[:, 1], a * left[:, 1] - b * left[:, 0]], axis=1) / scale[:, None]
        step = np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        lines[moving] += step
        moving = moving[~(np.abs(step).max(axis=1) < _SMALLEST_STEP * (1.0 + np.abs(lines[moving]).max(axis=1)))]
        moving = moving[np.isfinite(lines[moving]).all(axis=1)]
        if not len(moving):
            break
    lines[moving] = np.nan
    return lines


def newton_offset(weights: Floats, z: Floats, goals: Floats, start: Floats) -> Floats:
    """Intercepts with the slope fixed to 1, shape (b,); arguments as in :func:`newton`, ``goals`` and ``start`` (b,)."""
    found = np.broadcast_to(start, goals.shape).astype(np.float64)
    moving = np.arange(len(found))
    for _ in range(_STEPS):
        chance = expit(found[moving, None] + z)
        held = weights[moving] * chance
        left = goals[moving] - held.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.clip(left / (held * (1.0 - chance)).sum(axis=1), -_LARGEST_STEP, _LARGEST_STEP)
        found[moving] += step
        moving = moving[~(np.abs(step) < _SMALLEST_STEP * (1.0 + np.abs(found[moving])))]
        moving = moving[np.isfinite(found[moving])]
        if not len(moving):
            break
    found[moving] = np.nan
    return found


class Cells:
    """Logits in cells, so that thousands of lines can be fitted to resampled groups.

    Only the logits' place is rounded, to the mean of their cell; the sums of y and y * z that the line must meet are those
    of the images themselves.

    Args:
        labels: shape (n,), 1 = positive. ``z``: shape (n,). ``groups``: shape (n,), codes from 0.
    """

    def __init__(self, labels: NDArray[np.uint8], z: Floats, groups: NDArray[np.int64]) -> None:
        distinct, cells = np.unique(z, return_inverse=True)
        if len(distinct) > CELLS:
            share = np.linspace(0.0, 1.0, CELLS // 2 + 1)[1:-1]
            edges = np.unique(np.concatenate([np.quantile(z, share), z.min() + share * (z.max() - z.min())]))
            distinct, cells = np.unique(np.searchsorted(edges, z), return_inverse=True)
        size, n_groups = len(distinct), int(groups.max()) + 1
        self._z = np.bincount(cells, weights=z, minlength=size) / np.bincount(cells, minlength=size)
        self._members = grouped(groups, cells, n_groups, size)
        positive = labels.astype(np.float64)
        sums = [np.bincount(groups, weights=part, minlength=n_groups) for part in (positive, positive * z)]
        self._goals = np.stack(sums, axis=1)
        line, offset = fit_line(labels, z), fit_offset(labels, z)
        self.line, self.offset = line, offset

    def evaluate(self, weights: NDArray[np.floating]) -> Floats:
        """Intercept, slope and the intercept at slope 1 under each weighting of the groups.

        Args:
            weights: shape (b, number of groups).

        Returns:
            Shape (b, 3); NaN where a resample has no such line.
        """
        held = weights.astype(np.float64)
        inside, goals = held @ self._members, held @ self._goals
        found = np.full((len(held), 3), np.nan)
        if self.line is not None:
            found[:, :2] = newton(inside, self._z, goals, np.array([self.line]))
        if self.offset is not None:
            found[:, 2] = newton_offset(inside, self._z, goals[:, 0], np.array([self.offset]))
        return found


def grouped(groups: NDArray[np.int64], cells: NDArray[np.int64], n_groups: int, n_cells: int) -> csr_array:
    """How many images each group has in each cell: sparse, shape (n_groups, n_cells)."""
    ones = np.ones(len(groups))
    return csr_array((ones, (groups, cells)), shape=(n_groups, n_cells))

"""Scores against what happened, bin by bin: reliability, calibration errors in several variants, parts of the Brier score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Bins:
    """Images by score.

    Attributes:
        edges: shape (bins + 1,), of the score; an image on an inner edge belongs to the bin below it.
        member: bin of each image, shape (n,).
        n: images in each bin, shape (bins,). ``mean``: their mean score. ``rate``: share of positives among them. Both are
            NaN in an empty bin.
    """

    edges: Floats
    member: Whole
    n: Whole
    mean: Floats
    rate: Floats


def equal_mass(labels: NDArray[np.uint8], scores: Floats, bins: int = 10) -> Bins:
    """Bins of about equally many images; equal scores share a bin, so that there may be fewer bins and none is empty.

    Args:
        labels: shape (n,), 1 = positive. ``scores``: shape (n,), in [0, 1]. ``bins``: at least 1.
    """
    edges = np.quantile(scores, np.linspace(0.0, 1.0, bins + 1))
    inner = np.searchsorted(edges[1:-1], scores)
    used, member = np.unique(inner, return_inverse=True)
    kept = np.concatenate([[edges[0]], edges[used + 1]])
    return _binned(labels, scores, kept, member.astype(np.int64))


def equal_width(labels: NDArray[np.uint8], scores: Floats, bins: int = 10) -> Bins:
    """Bins of equal width from 0 to 1, some of them perhaps empty; arguments as in :func:`equal_mass`."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    return _binned(labels, scores, edges, np.searchsorted(edges[1:-1], scores).astype(np.int64))


def calibration_error(bins: Bins) -> float:
    """Expected calibration error: mean over images of ``|rate - mean score|`` of their bin, 0 to 1."""
    return float(np.nansum(bins.n * np.abs(bins.rate - bins.mean)) / bins.n.sum())


def debiased_error(bins: Bins) -> float:
    """Root mean square calibration error without what chance alone puts into each bin (Kumar 2019), 0 to 1.

    ``sqrt(max(0, sum n_b / n * ((mean - rate)^2 - rate (1 - rate) / (n_b - 1))))``; bins of one image are left out.
    """
    several = bins.n > 1
    n, mean, rate = bins.n[several], bins.mean[several], bins.rate[several]
    if not len(n):
        return 0.0
    squares = np.square(mean - rate) - rate * (1.0 - rate) / (n - 1)
    return float(np.sqrt(max(0.0, (n * squares).sum() / n.sum())))


def brier_parts(labels: NDArray[np.uint8], scores: Floats, bins: Bins) -> dict[str, float]:
    """The Brier score in parts (Murphy 1973), with the terms within bins (Stephenson 2008) that make the sum exact.

    Returns:
        ``reliability`` (0 is best), ``resolution`` (higher is better), ``uncertainty`` (of the data alone),
        ``within_variance`` and ``within_covariance``, with
        ``brier = reliability - resolution + uncertainty + within_variance - within_covariance``.
    """
    share, base = bins.n / bins.n.sum(), float(labels.mean())
    inside, beyond = scores - bins.mean[bins.member], labels - bins.rate[bins.member]
    return {
        "reliability": float(np.nansum(share * np.square(bins.mean - bins.rate))),
        "resolution": float(np.nansum(share * np.square(bins.rate - base))),
        "uncertainty": base * (1.0 - base),
        "within_variance": float(np.square(inside).mean()),
        "within_covariance": 2.0 * float((inside * beyond).mean()),
    }


def top_label_error(targets: Whole, probabilities: Floats, bins: int = 10) -> float:
    """Expected calibration error of the most probable class in equally filled bins: how often it is right, 0 to 1.

    Args:
        targets: class numbers, shape (n,). ``probabilities``: shape (n, classes).
    """
    right = (probabilities.argmax(axis=1) == targets).astype(np.uint8)
    return calibration_error(equal_mass(right, probabilities.max(axis=1), bins))


def class_wise_error(targets: Whole, probabilities: Floats, bins: int = 10) -> float:
    """Mean over classes of the expected calibration error of one class against the rest, in equally filled bins, 0 to 1."""
    errors = [
        calibration_error(equal_mass((targets == k).astype(np.uint8), np.ascontiguousarray(column), bins))
        for k, column in enumerate(probabilities.T)
    ]
    return float(np.mean(errors))


def error_by_chance(scores: Floats, bins: Bins, seed: int = 0, times: int | None = None) -> tuple[float, float]:
    """What calibration error perfectly calibrated scores would show on as many images (Broecker and Smith 2007).

    Labels are drawn with the scores as their probabilities, image by image, whatever their groups.

    Args:
        scores: shape (n,). ``bins``: of these scores. ``seed``: of the draws.
        times: draws; None takes 200, and fewer where there are very many images.

    Returns:
        Mean and 95 % quantile of :func:`calibration_error`.
    """
    generator = np.random.default_rng(seed)
    size = len(bins.n)
    times = int(np.clip(5_000_000 // len(scores), 50, 200)) if times is None else times
    expected = np.bincount(bins.member, weights=scores, minlength=size)
    errors = np.empty(times)
    for number in range(times):
        drawn = bins.member[generator.random(len(scores)) < scores]
        errors[number] = np.abs(np.bincount(drawn, minlength=size) - expected).sum() / len(scores)
    return float(errors.mean()), float(np.quantile(errors, 0.95))


def _binned(labels: NDArray[np.uint8], scores: Floats, edges: Floats, member: Whole) -> Bins:
    size = len(edges) - 1
    n = np.bincount(member, minlength=size)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(member, weights=scores, minlength=size) / n
        rate = np.bincount(member, weights=labels, minlength=size) / n
    return Bins(edges, member, n, mean, rate)

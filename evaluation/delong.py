"""AUROC with its large-sample variance, of one model or several on the same images (DeLong, DeLong and Clarke-Pearson 1988).

Write psi(x, y) for 1, 1/2 or 0 where a positive scores above, level with or below a negative. Each image has one component: of
a positive, the mean of psi over all negatives; of a negative, the mean over all positives. Their variances give that of AUROC.
Mid-ranks give all components in O(n log n) (Sun and Xu 2014). Where images of one group are not independent, the components
are summed within groups before their variance is taken (Obuchowski 1997).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from evaluation.intervals import Interval

DELONG: Final = "DeLong"
CLUSTERED: Final = "DeLong, clustered"
# Below this share of the two variances, the variance of a difference is nothing but rounding.
_ROUNDING: Final = 1e-12

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Difference:
    """AUROC of one model minus that of another on the same images.

    Attributes:
        value: in [-1, 1]. ``low``, ``high``: of its normal interval, clipped to [-1, 1]; None where it is not known.
        standard_error: at least 0; None where it is not known. ``z``: value / standard error; None where that is 0.
        p: two-sided; 1 for models that rank alike, None where a difference has no variance.
    """

    value: float
    low: float | None
    high: float | None
    standard_error: float | None
    z: float | None
    p: float | None
    method: str = DELONG

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def components(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """The mean of psi of each positive over the negatives, and of each negative over the positives.

    Args:
        labels: shape (n,), 1 = positive. ``scores``: shape (n,), finite.

    Returns:
        Arrays of shape (positives,) and (negatives,), in the order of the rows; the mean of each is AUROC.

    Raises:
        ValueError: different lengths, a score that is not finite, or only one class.
    """
    positive, values = np.asarray(labels) == 1, np.asarray(scores, dtype=np.float64)
    if positive.shape != values.shape or values.ndim != 1:
        raise ValueError(f"labels have shape {positive.shape}, scores {values.shape}; expected two equal lengths.")
    if not np.isfinite(values).all():
        raise ValueError("scores hold NaN or infinity; they cannot be ranked.")
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        raise ValueError(f"{n_positive} positives and {n_negative} negatives: AUROC needs one of each.")
    ranks = rankdata(values)
    of_positives = (ranks[positive] - rankdata(values[positive])) / n_negative
    of_negatives = 1.0 - (ranks[~positive] - rankdata(values[~positive])) / n_positive
    return of_positives, of_negatives


def delong(labels: ArrayLike, *scores: ArrayLike, groups: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """AUROC of each model and the covariance of these estimates.

    Args:
        labels: shape (n,), 1 = positive.
        scores: one array of shape (n,) for each model, of the same images in the same order.
        groups: shape (n,), whole numbers from 0: which images belong together; None takes all images as independent.

    Returns:
        ``(aucs, covariance)``, shapes (models,) and (models, models). The covariance is NaN where a class has fewer than two
        images, or, with groups, fewer than two groups.

    Raises:
        ValueError: as :func:`components`, or no scores.
    """
    if not scores:
        raise ValueError("no scores were given; expected those of at least one model.")
    parts = [components(labels, values) for values in scores]
    of_positives, of_negatives = (np.stack([part[side] for part in parts]) for side in (0, 1))
    aucs: Floats = of_positives.mean(axis=1)
    # Equal numbers stay equal: models that rank alike get a difference of exactly 0.
    off_positives, off_negatives = of_positives - aucs[:, None], of_negatives - aucs[:, None]
    if groups is None:
        return aucs, _independent(off_positives) + _independent(off_negatives)
    positive = np.asarray(labels) == 1
    codes = np.asarray(groups, dtype=np.int64)
    if codes.shape != positive.shape:
        raise ValueError(f"groups have shape {codes.shape}, labels {positive.shape}; expected one group an image.")
    return aucs, _clustered(off_positives, off_negatives, codes[positive], codes[~positive])


def _independent(off: Floats) -> Floats:
    """Covariance of the means over independent images; ``off`` has shape (models, images)."""
    n = off.shape[1]
    found: Floats = off @ off.T / ((n - 1) * n) if n > 1 else np.full((len(off), len(off)), np.nan)
    return found


def _clustered(off_positives: Floats, off_negatives: Floats, positive_groups: Whole, negative_groups: Whole) -> Floats:
    """Covariance of the means where sums over groups are independent, not images (Obuchowski 1997)."""
    size = int(max(positive_groups.max(), negative_groups.max())) + 1
    sums, counts = [], []
    for off, own in ((off_positives, positive_groups), (off_negatives, negative_groups)):
        # Per image of the class, so that the sum over all groups is the error of AUROC itself.
        sums.append(np.stack([np.bincount(own, weights=row, minlength=size) for row in off]) / off.shape[1])
        counts.append(len(np.unique(own)))
    if min(counts) < 2:
        return np.full((len(off_positives),) * 2, np.nan)
    both = len(np.union1d(positive_groups, negative_groups))
    found: Floats = sum(
        (own @ own.T * (count / (count - 1)) for own, count in zip(sums, counts, strict=True)),
        start=np.zeros((len(off_positives),) * 2),
    )
    crossed = sums[0] @ sums[1].T
    found = found + (crossed + crossed.T) * (both / (both - 1))
    return found


def delong_interval(auc: float, variance: float, confidence: float = 0.95, *, method: str = DELONG) -> Interval:
    """Interval of AUROC, normal on the logit scale, so that it stays between 0 and 1.

    Args:
        auc: in [0, 1]. ``variance``: a diagonal element of the covariance. ``confidence``: in (0, 1).

    Returns:
        No ends where AUROC is exactly 0 or 1 or the variance is not known: no error was seen that could show its size.
    """
    if not 0.0 < auc < 1.0 or not np.isfinite(variance):
        return Interval(float(auc), None, None, method)
    half = norm.ppf(0.5 + confidence / 2) * np.sqrt(variance) / (auc * (1.0 - auc))
    low, high = (float(np.clip(expit(logit(auc) + side * half), 0.0, 1.0)) for side in (-1, 1))
    return Interval(float(auc), low, high, method)


def delong_test(
    aucs: Floats, covariance: Floats, confidence: float = 0.95, *, first: int = 0, second: int = 1, method: str = DELONG
) -> Difference:
    """Whether two models on the same images differ in AUROC: ``second - first``, its interval and two-sided p value.

    Args:
        aucs, covariance: of :func:`delong`. ``first``, ``second``: numbers of the models.
    """
    value = float(aucs[second] - aucs[first])
    own = covariance[first, first] + covariance[second, second]
    variance = float(own - 2.0 * covariance[first, second])
    if not np.isfinite(variance):
        return Difference(value, None, None, None, None, None, method)
    if variance <= _ROUNDING * float(own) or variance <= 0.0:
        if abs(value) <= _ROUNDING:
            return Difference(0.0, 0.0, 0.0, 0.0, None, 1.0, method)
        return Difference(value, None, None, 0.0, None, None, method)
    error = float(np.sqrt(variance))
    half = float(norm.ppf(0.5 + confidence / 2)) * error
    low, high = max(-1.0, value - half), min(1.0, value + half)
    p = float(2.0 * norm.sf(abs(value) / error))
    return Difference(value, low, high, error, value / error, p, method)

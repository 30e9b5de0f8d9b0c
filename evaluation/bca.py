"""Bootstrap intervals corrected for bias and skewness (BCa), for resamples that are drawn within strata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from evaluation.intervals import FEWEST_RESAMPLES, Interval, percentile_interval

BCA: Final = "group bootstrap, BCa"
# Where leaving out every group in turn would be slow, so many blocks of groups are left out instead, and in each stratum at
# least so many that its skewness can be seen.
MOST_BLOCKS: Final = 200
_FEWEST_BLOCKS: Final = 20

Floats = NDArray[np.float64]


def bca_interval(value: float, draws: Floats, left_out: Sequence[Floats], confidence: float = 0.95) -> Interval:
    """The BCa interval of bootstrap draws (Efron 1987).

    Its ends are quantiles of the draws at ``Phi(z0 + (z0 + z) / (1 - a (z0 + z)))`` with ``z = Phi^-1`` of the wanted tail,
    the bias ``z0 = Phi^-1`` of the share of draws below the value (equal ones count half) and the acceleration ``a``.

    Args:
        value: the estimate on the data themselves; NaN if it is not defined there.
        draws: shape (resamples,); NaN marks a resample to drop.
        left_out: for each stratum the estimates without one of its groups (or one block of them), as
            :func:`acceleration` wants them.

    Returns:
        The percentile interval, and ``method`` says so, where the correction is not defined: all draws on one side of the
        value, an estimate that breaks down without some group, or one that no group moves.
    """
    plain = percentile_interval(value, draws, confidence)
    kept = draws[np.isfinite(draws)]
    if plain.low is None or len(kept) < FEWEST_RESAMPLES:
        return plain
    below = ((kept < value).sum() + (kept <= value).sum()) / (2 * len(kept))
    skew = acceleration(left_out)
    if not 0.0 < below < 1.0 or not np.isfinite(skew):
        return plain
    bias = norm.ppf(below)
    wanted = bias + norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    room = 1.0 - skew * wanted
    if (room <= 0).any():
        return plain
    low, high = np.quantile(kept, norm.cdf(bias + wanted / room))
    return Interval(float(value), float(low), float(high), BCA, plain.dropped)


def acceleration(left_out: Sequence[Floats]) -> float:
    """How fast the spread of an estimate changes with its value: a sixth of the skewness of its jackknife.

    With ``u = (n - 1) (mean - estimate without one unit)`` in a stratum of n units, ``a = sum(S3 / n^3) / 6 /
    sum(S2 / n^2)^1.5``, where S2 and S3 are the sums of ``u^2`` and ``u^3`` (Davison and Hinkley 1997, several samples).

    Args:
        left_out: for each stratum, shape (units,). A stratum of one unit has no spread and adds nothing.

    Returns:
        NaN where an estimate is not defined without some unit, or where no unit changes it.
    """
    cubes = squares = 0.0
    for values in left_out:
        n = len(values)
        if n < 2:
            continue
        moved = (n - 1) * (values.mean() - values)
        cubes += float((moved**3).sum()) / n**3
        squares += float((moved**2).sum()) / n**2
    if not np.isfinite(squares) or not np.isfinite(cubes) or squares <= 0.0:
        return float("nan")
    return float(cubes / 6.0 / squares**1.5)


def blocks_left_out(strata: Sequence[NDArray[np.int64]], n_groups: int) -> list[NDArray[np.int32]]:
    """Weights of all groups without one block each, for each stratum: shape (blocks of the stratum, number of groups).

    A stratum with few groups has blocks of one. Larger blocks take every k-th group, so that an order in the names (by
    hospital, by date) does not end up in them.
    """
    share = max(MOST_BLOCKS // max(1, sum(len(members) > 0 for members in strata)), _FEWEST_BLOCKS)
    found = []
    for members in strata:
        count = min(share, len(members))
        weights = np.ones((count, n_groups), dtype=np.int32)
        for number in range(count):
            weights[number, members[number::count]] = 0
        found.append(weights)
    return found

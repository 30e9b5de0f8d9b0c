"""Intervals of a proportion (Wilson, Clopper-Pearson) and of bootstrap draws (percentile; BCa is in ``bca``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm

BOOTSTRAP: Final = "group bootstrap"
WILSON: Final = "wilson"
NEWCOMBE: Final = "newcombe"
FROM_WILSON: Final = "from Wilson's ends of sensitivity and specificity"
FEWEST_RESAMPLES: Final = 20
_NO_WIDTH: Final = 1e-12  # rounding of sums that are the same

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval; None where there is none.

    Attributes:
        dropped: resamples in which the metric was not defined.
    """

    value: float | None
    low: float | None
    high: float | None
    method: str = BOOTSTRAP
    dropped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def wilson(hits: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided Wilson score interval of a proportion (Wilson 1927).

    Args:
        hits: 0 to ``n``; need not be whole. ``n``: above 0. ``confidence``: in (0, 1).
    """
    if not 0 <= hits <= n or n <= 0:
        raise ValueError(f"{hits} hits of {n}: expected 0 <= hits <= n and n > 0.")
    z = float(norm.ppf(0.5 + confidence / 2))
    centre = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * float(np.sqrt(hits * (n - hits) / n + z * z / 4))
    # The exact ends are 0 and 1 there; rounding must not move them.
    return (0.0 if hits == 0 else max(0.0, centre - half)), (1.0 if hits == n else min(1.0, centre + half))


def wilson_interval(hits: int, n: int, confidence: float = 0.95) -> Interval:
    """A proportion of independent units with its Wilson interval; all None for n = 0."""
    if n == 0:
        return Interval(None, None, None, WILSON)
    return Interval(hits / n, *wilson(hits, n, confidence), WILSON)


def clopper_pearson_lower(hits: int, n: int, confidence: float = 0.95) -> float:
    """One-sided exact lower bound of a proportion: the (1 - confidence) quantile of Beta(hits, n - hits + 1)."""
    if not 0 <= hits <= n or n <= 0:
        raise ValueError(f"{hits} hits of {n}: expected 0 <= hits <= n and n > 0.")
    return 0.0 if hits == 0 else float(beta.ppf(1 - confidence, hits, n - hits + 1))


def percentile_interval(value: float, draws: Floats, confidence: float = 0.95) -> Interval:
    """The percentile interval of bootstrap draws.

    Args:
        value: the estimate on the data themselves; NaN if it is not defined there.
        draws: shape (resamples,); NaN marks a resample to drop.
    """
    kept = draws[np.isfinite(draws)]
    dropped = len(draws) - len(kept)
    if not np.isfinite(value):
        return Interval(None, None, None, dropped=dropped)
    if len(kept) < FEWEST_RESAMPLES:
        return Interval(float(value), None, None, dropped=dropped)
    low, high = np.quantile(kept, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(value), float(low), float(high), dropped=dropped)


def without_ends(interval: Interval, n_groups: int) -> Interval:
    """Without ends where a single group was drawn again and again: that shows no uncertainty at all."""
    if n_groups < 2:
        return Interval(interval.value, None, None, interval.method, interval.dropped)
    return interval


def with_width(interval: Interval, n_groups: int) -> Interval:
    """As :func:`without_ends`, and no ends either where all resamples agree: no width would look like certainty."""
    low, high = interval.low, interval.high
    if low is not None and high is not None and high - low < _NO_WIDTH:
        return Interval(interval.value, None, None, interval.method, interval.dropped)
    return without_ends(interval, n_groups)


def share_interval(interval: Interval, n_groups: int, confidence: float = 0.95, n: int | None = None) -> Interval:
    """The interval of a share of images: Wilson's where it holds, else that of the bootstrap.

    Wilson's holds where every image of the denominator is a group of its own. It also stands in, over groups, where the
    share is exactly 0 or 1: no resample of an error-free sample holds an error, so that the bootstrap would call such a
    share certain.

    Args:
        interval: of the bootstrap. ``n_groups``: groups with an image in the share's denominator.
        n: images in the denominator, if all of them count alike; None for a share that is no plain proportion.
    """
    if interval.value is None:
        return interval
    if n is not None and n == n_groups > 0:
        hits = round(interval.value * n)
        return Interval(interval.value, *wilson(hits, n, confidence), WILSON, interval.dropped)
    if interval.value not in (0.0, 1.0):
        return with_width(interval, n_groups)
    ends = wilson(n_groups * interval.value, n_groups, confidence)
    return Interval(interval.value, *ends, WILSON, interval.dropped)


def auroc_interval(interval: Interval, n_groups: int, confidence: float = 0.95) -> Interval:
    """The interval of an AUROC: Wilson's where it is exactly 0 or 1, so that no resample can differ.

    AUROC is a share of pairs. As many pairs are independent of each other as the smaller class has groups, each used once;
    all of them agree.

    Args:
        n_groups: of the class with fewer groups.
    """
    return share_interval(interval, n_groups, confidence) if n_groups >= 2 else without_ends(interval, n_groups)


def difference_of_shown(
    difference: Mapping[str, Any], first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, Any]:
    """A difference ``first - second``, with ends of its own where one side is exactly 0 or 1.

    No resample moves such a side, so that the bootstrap would call it certain. The intervals that are shown of both sides are
    joined instead, as Newcombe (1998) does for proportions: low = d - sqrt((a - a_low)^2 + (b_high - b)^2), and high alike.
    For sides on the same images that is wider than need be.

    Args:
        difference, first, second: with the keys of :class:`Interval`.
    """
    a, b = first["value"], second["value"]
    if difference["value"] is None or not {a, b} & {0.0, 1.0}:
        return dict(difference)
    if None in (first["low"], second["low"]):
        return {**difference, "low": None, "high": None, "method": NEWCOMBE}
    low = difference["value"] - float(np.hypot(a - first["low"], second["high"] - b))
    high = difference["value"] + float(np.hypot(first["high"] - a, b - second["low"]))
    return {**difference, "low": max(-1.0, low), "high": min(1.0, high), "method": NEWCOMBE}


def format_interval(interval: Mapping[str, Any] | Interval, percent: bool = False) -> str:
    """``0.953 (0.936-0.968)``, or ``95.3 % (93.6-96.8)``; ``n/a`` where there is no value."""
    held = interval.to_dict() if isinstance(interval, Interval) else interval
    value, low, high = held["value"], held["low"], held["high"]
    if value is None:
        return "n/a"
    scale, digits, unit = (100, 1, " %") if percent else (1, 3, "")
    # Adding zero turns a rounded -0.0 into 0.0.
    texts = [f"{round(scale * end, digits) + 0.0:.{digits}f}" for end in (value, low, high) if end is not None]
    if len(texts) < 3:
        return texts[0] + unit
    between = " to " if low < 0 else "-"
    return f"{texts[0]}{unit} ({texts[1]}{between}{texts[2]})"

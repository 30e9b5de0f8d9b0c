"""Numbers inside sentences."""

from __future__ import annotations

import math


def percent(share: float, digits: int = 0) -> str:
    """``95 %`` for 0.95, with more digits where rounding would change a stated target (``99.5 %``)."""
    if digits == 0:
        return f"{100 * share:.6g} %"
    return f"{100 * share:.{digits}f} %"


def plural(count: int, noun: str, *, number: bool = True) -> str:
    """``1 patient``, ``1,200 patients``; without the number on request."""
    word = noun if count == 1 else f"{noun}s"
    return f"{count:,} {word}" if number else word


def short(score: float) -> str:
    """A score with three decimals, or with the two digits that tell it from 0 or 1 where it is nearer."""
    if score in (0.0, 0.5, 1.0):
        return f"{score:g}"
    distance = min(score, 1.0 - score)
    digits = 3 if distance >= 0.01 else math.ceil(-math.log10(max(distance, 1e-12))) + 1
    return f"{score:.{digits}f}"


def figure(value: float | None) -> str:
    """A metric with three decimals; ``n/a`` for None."""
    return "n/a" if value is None else f"{value:.3f}"

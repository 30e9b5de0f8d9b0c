"""Numbers inside sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

Worry = dict[str, str]
LEAKY: Final = "LEAKY split"


def worry(level: str, title: str, text: str) -> Worry:
    """One entry of ``worries``; level is alarm, caution or note."""
    return {"level": level, "title": title, "text": text}


def percent(share: float, digits: int = 0) -> str:
    """``95 %`` for 0.95, with more digits where rounding would change a stated target (``99.5 %``)."""
    if digits == 0:
        # Never 100 % for a share below 1.
        return f"{100 * share:.6g} %" if share == 1.0 or 100 * share < 99.9999 else f"{100 * share:.15g} %"
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


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def test_part_of(metrics: Mapping[str, Any]) -> str:
    """Where the test set comes from; empty for metrics from before that was recorded."""
    kind, leak = metrics.get("test_kind"), metrics.get("leak")
    if kind is None:
        return ""
    if kind == "given":
        return "predictions as given"
    if kind == "external":
        return "another data set than the one of training"
    if leak:
        return "official test part, LEAKY" if kind == "official" else "test part cut image by image, LEAKY"
    return "official, locked test part" if kind == "official" else f"test part cut by {metrics['group_name']}, locked"

"""What image files usually look like, and sentences about one that looks otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

GREY: Final = (
    8.0  # mean chroma of 255 up to which a picture counts as grey; JPEG colours of grey pictures stay far below
)
_PALER: Final = 2.0  # by how much colours may be paler than any that was seen
_WIDER: Final = 3.0  # and a shape wider or narrower: data sets of squeezed squares do not show how wide films are
_SMALLER: Final = 4.0  # by how much a side may be shorter, and a contrast lower
_ORDER: Final = ("chroma", "contrast", "side", "aspect")


@dataclass(frozen=True)
class Limit:
    """The range of one fact of a file.

    Attributes:
        name: of the fact, as :class:`datamodules.appearance.Appearance` names it.
        low, high: outside of these, a file is turned away; None: no limit on that side.
        usual_low, usual_high: of the training and validation images that were looked at.
    """

    name: str
    low: float | None
    high: float | None
    usual_low: float
    usual_high: float

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Limit:
        """The limit that :meth:`to_dict` described; ValueError where it is of an unknown fact or no number."""
        found = cls(**content)
        numbers = [held for held in (found.low, found.high, found.usual_low, found.usual_high) if held is not None]
        if found.name not in _ORDER or not np.isfinite(np.array(numbers, dtype=np.float64)).all():
            raise ValueError(
                f"the limit of {str(found.name)[:40]!r} is none of a known fact, or holds what is no number"
            )
        return found

    def holds(self, value: float) -> bool:
        """Whether the value is inside."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def limits_of(facts: Mapping[str, NDArray[np.float64]]) -> tuple[Limit, ...]:
    """Limits from the facts of training and validation images, each with a wide margin: they are for gross mistakes.

    Args:
        facts: of some of ``side``, ``aspect``, ``chroma``, ``contrast`` one value an image, shape ``(n,)``, n at least 1.
    """
    found = []
    for name in _ORDER:
        if name not in facts:
            continue
        values = facts[name]
        low, high = float(values.min()), float(values.max())
        least, most = {
            "side": (low / _SMALLER, None),
            "aspect": (low / _WIDER, high * _WIDER),
            "contrast": (low / _SMALLER, None),
            "chroma": (low / _PALER if low > GREY else None, max(high, GREY) + GREY),
        }[name]
        found.append(Limit(name, least, most, low, high))
    return tuple(found)


def outside(limits: Sequence[Limit], facts: Mapping[str, Any]) -> list[str]:
    """A sentence for each fact that is outside its limits; facts that are not known are passed over."""
    known = [(limit, facts[limit.name]) for limit in limits if facts.get(limit.name) is not None]
    return [_sentence(limit, float(value)) for limit, value in known if not limit.holds(float(value))]


def _sentence(limit: Limit, value: float) -> str:
    span = f"{limit.usual_low:.3g} to {limit.usual_high:.3g}"
    if limit.name == "side":
        return f"only {value:.0f} pixels on the shorter side; the training images have at least {limit.usual_low:.0f}"
    if limit.name == "aspect":
        return f"of an unusual shape ({value:.2f} times as wide as high); the training images are {span} times"
    if limit.name == "contrast":
        return f"with hardly any contrast ({value:.1f} of 127); the training images have {span}"
    if limit.usual_high <= GREY:
        return f"in colour (mean chroma {value:.0f} of 255); the training images are grey"
    if value < limit.usual_low:
        return f"without colour or nearly so (mean chroma {value:.0f} of 255); the training images have {span}"
    return f"more colourful than expected (mean chroma {value:.0f} of 255); the training images have {span}"

"""Numbers and dates as the report writes them: fixed digits, real minus signs, spaces that do not break."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from evaluation.wording import short

NOTHING: Final = "\u2013"
NARROW_SPACE: Final = "\u202f"
MINUS: Final = "\u2212"


def score(value: float | None, digits: int = 3) -> str:
    """`0.953`; a dash where there is no value."""
    if value is None:
        return NOTHING
    written = f"{value:.{digits}f}"
    # What rounds to zero has no sign.
    return (written if float(written) else f"{0:.{digits}f}").replace("-", MINUS)


def percent(value: float | None) -> str:
    """`95.3 %` for 0.953; a dash where there is no value."""
    return NOTHING if value is None else f"{100 * value:.1f}{NARROW_SPACE}%".replace("-", MINUS)


def value_of(interval: Mapping[str, Any]) -> str:
    """The estimate alone: `0.953`."""
    return score(interval["value"])


def range_of(interval: Mapping[str, Any]) -> str:
    """The interval alone: `0.936-0.968` with an en dash, `to` before a negative end; empty where there is none."""
    low, high = interval["low"], interval["high"]
    if low is None or high is None:
        return ""
    return f"{score(low)}{' to ' if low < 0 else NOTHING}{score(high)}"


def difference(interval: Mapping[str, Any]) -> str:
    """A signed difference: `+0.012`; what rounds to zero has no sign."""
    value = interval["value"]
    return NOTHING if value is None else _signed(value)


def difference_range(interval: Mapping[str, Any]) -> str:
    """The interval of a signed difference: `+0.002 to +0.022`; empty where there is none."""
    low, high = interval["low"], interval["high"]
    return "" if low is None or high is None else f"{_signed(low)} to {_signed(high)}"


def _signed(value: float) -> str:
    written = f"{value:+.3f}"
    return written.replace("-", MINUS) if float(written) else written[1:]


def count(value: float | None) -> str:
    """`5,856`; a dash where there is no value."""
    return NOTHING if value is None else f"{value:,.0f}"


def threshold(value: float | None) -> str:
    """A threshold as the sentences of metrics.json write it; a dash where there is none."""
    return NOTHING if value is None else short(value)


def probability(value: float | None) -> str:
    """The score of one image: `0.066`, `< 0.001`, `> 0.999`."""
    if value is not None and not 0.001 <= value <= 0.999:
        return f"<{NARROW_SPACE}0.001" if value < 0.5 else f">{NARROW_SPACE}0.999"
    return score(value)


def seconds(value: float | None) -> str:
    """`48.2 s`, `3 min 37 s` or `2 h 05 min`."""
    if value is None:
        return NOTHING
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(value: str | None) -> str:
    """`21 November 2026, 08:15` for an ISO 8601 time; text that is none stays as it is."""
    if not value:
        return NOTHING
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return value
    zone = " UTC" if parsed.tzinfo is not None and not parsed.utcoffset() else ""
    return f"{parsed.day} {parsed:%B %Y, %H:%M}{zone}"


def plural(number: int, noun: str) -> str:
    """`1 patient`, `427 patients`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def upper_first(text: str) -> str:
    """`Malignant` for `malignant`; other letters stay as they are."""
    return text[:1].upper() + text[1:]


def place(value: Any, here: Path | None = None, home: Path | None = None) -> Any:
    """A path as a page that is passed on names it; what is no text of an absolute path, or of one that leads up, stays as it is.

    Args:
        here: the path is written from there if it is below; the current folder if None. ``home``: likewise, after ``~/``.

    Returns:
        Of a path elsewhere, the last two parts after ``.../``.
    """
    if not isinstance(value, str) or not (Path(value).is_absolute() or Path(value).parts[:1] == ("..",)):
        return value
    path = Path(os.path.abspath(value))
    for base, mark in ((here or Path.cwd(), ""), (home or Path.home(), "~/")):
        if path.is_relative_to(base):
            return mark + path.relative_to(base).as_posix()
    return "/".join(["...", *path.parts[-2:]]) if len(path.parts) > 2 else value


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "score": score,
    "percent": percent,
    "value_of": value_of,
    "range_of": range_of,
    "difference": difference,
    "difference_range": difference_range,
    "count": count,
    "threshold": threshold,
    "probability": probability,
    "seconds": seconds,
    "moment": moment,
    "place": place,
    "plural": plural,
    "upper_first": upper_first,
}

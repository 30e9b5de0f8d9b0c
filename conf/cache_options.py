"""The command line of ``python prepare.py cache=...``.

Only the standard library and the declarations of the configuration are imported here, so a mistake costs a fraction of a second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conf.arguments import given_by, keys_text
from conf.evaluate_keys import UsageError

ACTIONS: Final = ("list", "verify", "clean")
KEYS: Final = {
    "cache": "list: what decoded images and stored features take, and when each was last used; verify: compare all checksums; "
    "clean: remove some of them, those longest not used first",
    "keep": "cache=clean: remove until the rest takes at most this much, for example 20GB, 500MB or 0",
    "older": "cache=clean: remove what was last used longer ago than this, for example 90d or 12h",
    "yes": "cache=clean: true removes without asking",
    "data.prepared": "the folder of prepared data sets (default: FIRSTREAD_HOME/prepared)",
}
_UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SECONDS: Final = {"h": 3600, "d": 86400}


@dataclass(frozen=True)
class CacheOptions:
    """A checked command line.

    Attributes:
        action: ``list``, ``verify`` or ``clean``.
        keep: bytes that may be left; None: any number.
        older: seconds since the last use beyond which something is removed; None: any.
        yes: remove without asking.
        prepared: the folder, if given.
    """

    action: str
    keep: int | None = None
    older: float | None = None
    yes: bool = False
    prepared: Path | None = None


def parsed(argv: list[str]) -> CacheOptions:
    """Check a command line.

    Args:
        argv: the arguments without the program's name.

    Raises:
        UsageError: naming the argument and what to do.
    """
    given = given_by(argv, KEYS, "prepare.py cache=list")
    action = given["cache"]
    if action not in ACTIONS:
        raise UsageError(f"cache={action}: must be one of {', '.join(ACTIONS)}.")
    foreign = [key for key in ("keep", "older", "yes") if key in given and action != "clean"]
    if foreign:
        raise UsageError(
            f"{foreign[0]}={given[foreign[0]]}: belongs to cache=clean; leave it away with cache={action}."
        )
    if action == "clean" and not {"keep", "older"} & set(given):
        raise UsageError("cache=clean: say what may stay: keep=20GB, older=90d, or both; keep=0 removes everything.")
    if given.get("yes", "false") not in ("true", "false"):
        raise UsageError(f"yes={given['yes']}: must be true or false.")
    return CacheOptions(
        action,
        keep=_bytes(given["keep"]) if "keep" in given else None,
        older=_seconds(given["older"]) if "older" in given else None,
        yes=given.get("yes") == "true",
        prepared=Path(given["data.prepared"]).expanduser() if "data.prepared" in given else None,
    )


def help_text() -> str:
    """What ``python prepare.py cache=list --help`` prints."""
    examples = ("cache=list", "cache=verify", "cache=clean keep=20GB", "cache=clean older=90d yes=true")
    return "\n".join([*(f"python prepare.py {example}" for example in examples), "", *keys_text(KEYS)])


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B?)", text.strip().upper())
    unit = found and (found[2] if found[2].endswith("B") or not found[2] else found[2] + "B")
    if not found or unit not in _UNITS or (found[2] == "" and float(found[1]) != 0):
        raise UsageError(f"keep={text}: must be a size with its unit, for example 20GB or 500MB, or 0.")
    return round(float(found[1]) * _UNITS[unit])


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([hd])", text.strip().lower())
    if not found:
        raise UsageError(f"older={text}: must be a number of days or hours, for example 90d or 12h.")
    return float(found[1]) * _SECONDS[found[2]]

"""What the commands without Hydra share: arguments of the form key=value, their help, and how a command ends.

Only the standard library is imported here, so a mistake costs a fraction of a second.
"""

from __future__ import annotations

import difflib
import sys
import textwrap
from collections.abc import Collection, Mapping
from types import FrameType
from typing import Final, NoReturn

from conf.evaluate_keys import HELP_WIDTH, UsageError

INTERRUPTED: Final = 130
USAGE_ERROR: Final = 2


def given_by(
    argv: list[str],
    keys: Mapping[str, str],
    program: str,
    *,
    lists: Collection[str] = (),
    other_spellings: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The value of every key on a command line, as it was typed.

    Args:
        argv: the arguments without the program's name.
        keys: what each means, by name. ``program``: file name of the command, for messages.
        lists: keys that take several values in brackets. ``other_spellings``: of keys, for the message.

    Raises:
        UsageError: naming the argument and what to do.
    """
    given: dict[str, str] = {}
    for text in argv:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"'{text}' is not of the form key=value. See: python {program} --help")
        if key not in keys:
            meant = _nearest((other_spellings or {}).get(key, key), keys)
            raise UsageError(f"{text}: there is no key '{key}'.{meant} See: python {program} --help")
        if key in given:
            more = f" Several are listed in brackets: {key}=[A,B]." if key in lists else ""
            raise UsageError(f"{text}: {key} is given twice.{more}")
        if not value.strip():
            raise UsageError(f"{text}: {key} has no value: {keys[key]}.")
        given[key] = value
    return given


def _nearest(key: str, keys: Collection[str]) -> str:
    close = difflib.get_close_matches(key, list(keys), n=1) or [name for name in keys if name.endswith(f".{key}")]
    return f" Did you mean '{close[0]}'?" if close else ""


def keys_text(keys: Mapping[str, str]) -> list[str]:
    """Lines of ``--help``: each key with what it means."""
    width, lines = max(map(len, keys)) + 2, []
    for key, text in keys.items():
        lines += textwrap.wrap(
            text, HELP_WIDTH, initial_indent=f"  {key:<{width}}", subsequent_indent=" " * (width + 2)
        )
    return lines


def stop(error: Exception) -> NoReturn:
    """Print one message and end with the code of a mistake."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(USAGE_ERROR)


def as_ctrl_c(number: int, frame: FrameType | None) -> NoReturn:
    """A signal handler: a request to end works as Ctrl-C, so that nothing half-written stays behind."""
    raise KeyboardInterrupt

"""The keys ``heat_maps.*`` of the commands that draw heat maps: which methods there are, and how the keys are checked.

Only the standard library is imported here, so a mistake costs a fraction of a second.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final

from conf.evaluate_keys import UsageError

METHODS: Final = (
    "hires_cam",
    "grad_cam",
    "grad_cam_pp",
)  # the keys of explain.grad_cam.METHODS; the first is the default
PREFIX: Final = "heat_maps."


def heat_maps_of(given: Mapping[str, str]) -> dict[str, str]:
    """``method``, ``layer`` and ``target`` as far as given.

    Args:
        given: text of every key on the command line.

    Raises:
        UsageError: a method that there is not.
    """
    found = {key.removeprefix(PREFIX): text for key, text in given.items() if key.startswith(PREFIX)}
    method = found.get("method", METHODS[0])
    if method not in METHODS:
        close = difflib.get_close_matches(method, METHODS, n=1)
        meant = f" Did you mean '{close[0]}'?" if close else ""
        raise UsageError(f"{PREFIX}method={method}: must be one of {', '.join(METHODS)}.{meant}")
    return found

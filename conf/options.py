"""How a key of the configuration is declared: default, one sentence, and the values it may take."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def option(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A dataclass field with a description and the values it may take.

    Args:
        default: the value when no yaml file sets one; a list or dictionary is copied for every instance.
        text: one sentence for the help page.
        low, high: inclusive bounds. ``above``, ``below``: exclusive bounds.
        choices: the only strings allowed.
    """
    rules = {"low": low, "high": high, "above": above, "below": below, "choices": choices}
    metadata = {"help": text, **{name: rule for name, rule in rules.items() if rule is not None}}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)

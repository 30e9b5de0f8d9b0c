"""From a plain dictionary of settings to a network."""

from __future__ import annotations

from typing import Any

from torch import nn

from models.simple_cnn import simple_cnn

_BUILDERS = {"simple_cnn": simple_cnn}


def build_network(settings: dict[str, Any], outputs: int) -> nn.Module:
    """The network that ``settings["name"]`` names, with fresh weights.

    Args:
        settings: plain values, as in ``conf/model``; also what ``model/model.json`` of a run holds.
        outputs: number of logits: 1 for two classes, else one a class.

    Raises:
        ValueError: if there is no such architecture; lists those there are.
    """
    name = settings["name"]
    if name not in _BUILDERS:
        raise ValueError(f"there is no architecture {name!r}; available: {', '.join(sorted(_BUILDERS))}")
    return _BUILDERS[name](settings, outputs)

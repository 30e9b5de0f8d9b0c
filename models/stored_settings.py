"""A network from settings that a file brings along: every value is looked at before anything is built from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from torch import Tensor

from models.blocks import BlockNetwork
from models.build import build_network

_WORDS: Final = ("name", "backbone")
_CHOICES: Final = {
    "grey_input": ("stem", "repeat"),
    "pooling": ("auto", "avg", "max", "concat"),
    "interpolation": ("area", "bilinear", "bicubic"),
}
# Far above what anybody trains, far below what fills a machine: a file must not decide how much memory is taken.
_RANGES: Final = {"image_size": (1, 4096), "channels": (1, 3), "metadata_width": (0, 100_000)}
_MOST_UNITS, _MOST_LAYERS, _MOST_WEIGHTS = 16_384, 16, 2**30
_NEEDED: Final = ("name", "image_size", "channels")


def network_of(settings: Any, outputs: int, tensors: Mapping[str, Tensor], where: str) -> BlockNetwork:
    """The network of stored settings with stored weights, in eval mode.

    Args:
        settings: what the file holds as settings of :func:`models.build.build_network`; anything, before it is checked.
        outputs: number of logits. ``tensors``: the weights by their names in the network.
        where: the file, for messages.

    Raises:
        ValueError: settings that build no network, or weights of another one.
    """
    network = build_network(checked_settings(settings, where), outputs)
    try:
        network.load_state_dict(dict(tensors))
    except RuntimeError as error:  # one line for each kind of difference; the first says enough
        said = [line.strip() for line in str(error).splitlines()]
        raise ValueError(
            f"{where}: the weights and the settings are not of one network ({said[min(1, len(said) - 1)][:200]})."
        ) from error
    return network.eval()


def checked_settings(settings: Any, where: str) -> dict[str, Any]:
    """The settings, of the right types and within ranges that some network has.

    Raises:
        ValueError: naming the file, the key and the value.
    """
    if not isinstance(settings, Mapping):
        raise ValueError(f"{where}: the settings of the network are {_shown(settings)}, expected names and values.")
    lacking = [name for name in _NEEDED if name not in settings]
    if lacking:
        raise ValueError(f"{where}: the settings of the network lack {', '.join(lacking)}.")
    wrong = next(((name, settings[name]) for name in settings if not _plausible(str(name), settings[name])), None)
    if wrong is not None:
        raise ValueError(f"{where}: the network's {wrong[0]} is {_shown(wrong[1])}, which no network here can have.")
    held = {str(name): value for name, value in settings.items()}
    if held["name"] == "simple_cnn":
        _require_small(held, where)
    return held


def _plausible(name: str, value: Any) -> bool:
    if name in _WORDS:
        return isinstance(value, str) and len(value) <= 200
    if name in _CHOICES:
        return isinstance(value, str) and value in _CHOICES[name]
    if name == "metadata":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if name in _RANGES:
        low, high = _RANGES[name]
        return _whole(value, low, high)
    if name == "hidden" and isinstance(value, int):  # one number in version 0.1
        return _whole(value, 1, _MOST_UNITS)
    if name in ("filters", "hidden"):
        return _listed(value) and len(value) <= _MOST_LAYERS and all(_whole(item, 1, _MOST_UNITS) for item in value)
    if name in ("mean", "std"):
        values = value if _listed(value) else [value]
        return len(values) in (1, 3) and all(_number(item) and (name == "mean" or item > 0) for item in values)
    if name == "dropout":
        return _number(value) and 0 <= value < 1
    return True  # not read by a network


def _require_small(settings: Mapping[str, Any], where: str) -> None:
    """Its first dense layer has a weight for each feature and unit, so plausible values may still multiply to a monster."""
    filters, hidden = settings.get("filters"), settings.get("hidden", [])
    if not filters:
        raise ValueError(f"{where}: the settings of simple_cnn lack filters.")
    side = settings["image_size"]
    for _ in filters:  # 3x3 convolution without padding, 2x2 max-pooling
        side = (side - 2) // 2
    first = hidden if isinstance(hidden, int) else (hidden or [1])[0]
    if side < 1 or side * side * filters[-1] * first > _MOST_WEIGHTS:
        raise ValueError(
            f"{where}: simple_cnn with image_size {settings['image_size']}, filters {list(filters)} and hidden "
            f"{_shown(hidden)} is no network that can be built."
        )


def _listed(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

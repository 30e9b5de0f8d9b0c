"""Heat maps of a trained run or ensemble: from pixels as they are decoded to maps, overlays and maps in colour."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from conf.heat_map_keys import METHODS
from conf.output import short
from explain.grad_cam import Target, heat_maps, require_method
from explain.layers import NoMapsError, default_layer, named_layer
from explain.pictures import coloured, overlay
from models.bundle import Normalise
from workflow.scoring import encoded

if TYPE_CHECKING:
    from workflow.predictor import Predictor
    from workflow.scoring import ScoredBy

log = logging.getLogger("firstread")

POSITIVE: Final = "positive"
_AT_ONCE: Final = 16
# It follows from the architecture, not from the weights.
_LAYERS: Final[WeakKeyDictionary[nn.Module, str]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Maps:
    """Heat maps of some images.

    Attributes:
        pixels: of the images, shape ``(n, height, width, channels)``, uint8.
        maps: shape ``(n, height, width)``, float32 in [0, 1], each divided by its own maximum; all zero where nothing speaks for
            the target.
    """

    pixels: NDArray[np.uint8]
    maps: NDArray[np.float32]

    @cached_property
    def overlays(self) -> NDArray[np.uint8]:
        """Each map over its image, shape ``(n, height, width, 3)``, uint8 RGB; see :func:`explain.pictures.overlay`."""
        drawn = [overlay(image, heat) for image, heat in zip(self.pixels, self.maps, strict=True)]
        return np.stack(drawn) if drawn else np.zeros((*self.maps.shape, 3), dtype=np.uint8)

    @cached_property
    def coloured(self) -> NDArray[np.uint8]:
        """Each map alone, shape ``(n, height, width, 3)``, uint8 RGB; see :func:`explain.pictures.coloured`."""
        return coloured(self.maps)


@dataclass(frozen=True)
class Explainer:
    """A network and the question that its heat maps answer.

    Attributes:
        network: in eval mode while maps are made of it, on ``device``.
        normalise: from pixels 0 to 255, shape ``(n, channels, height, width)``, to what the network takes.
        outputs: the target, see :func:`explain.grad_cam.heat_maps`.
        layer: name of the layer; None for :func:`explain.layers.default_layer`.
    """

    network: nn.Module
    normalise: Callable[[Tensor], Tensor]
    outputs: Target
    method: str = METHODS[0]
    layer: str | None = None

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def inputs(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Pixels ``(n, height, width, channels)`` as the network takes them, in the memory layout that it is fastest with."""
        images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).to(self.device)
        return self.normalise(images).contiguous(memory_format=torch.channels_last)

    def further(self, metadata: NDArray[np.float32] | None) -> list[Tensor]:
        """Encoded metadata ``(n, m)`` as :func:`explain.grad_cam.heat_maps` takes them."""
        return [] if metadata is None else [torch.from_numpy(metadata).to(self.device)]

    def maps(self, pixels: NDArray[np.uint8], metadata: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Heat maps of images, shape ``(n, height, width)``, float32 in [0, 1].

        Raises:
            NoMapsError: the network or its layer has none.
        """
        inputs, further = self.inputs(pixels), self.further(metadata)
        return self.maps_of_inputs(inputs, further)

    def maps_of_inputs(self, inputs: Tensor, further: Sequence[Tensor]) -> NDArray[np.float32]:
        """The same for what :meth:`inputs` and :meth:`further` give."""
        layer = self.layer_for(inputs, further)
        return heat_maps(self.network, inputs, further, method=self.method, outputs=self.outputs, layer=layer)

    def layer_for(self, inputs: Tensor, further: Sequence[Tensor]) -> str | None:
        """Name of the layer; of a network that was asked before without running it again. None where there is no image."""
        if self.layer is not None or len(inputs) == 0:
            return self.layer
        if self.network not in _LAYERS:
            _LAYERS[self.network] = default_layer(self.network, inputs, further)
        return _LAYERS[self.network]


def target_of(classes: Sequence[str], positive: Sequence[str], target: str | None = None) -> Target:
    """What heat maps speak for, from the name of a class.

    Args:
        classes: of the model, in the order of its outputs; of two classes there is one logit, of the positive class.
        target: a class: its log-odds against all others. ``positive`` or None: the log-odds of the positive classes together,
            which is what the threshold decides by.

    Raises:
        ValueError: there is no such class.
    """
    if target not in (None, POSITIVE, *classes):
        raise ValueError(
            f"heat_maps.target={target}: there is no such class; choose from {POSITIVE}, {', '.join(classes)}."
        )
    chosen = list(positive) if target is None or target not in classes else [target]
    if len(classes) > 2:
        return [list(classes).index(name) for name in chosen]
    return 0 if chosen == list(positive) else _opposite


def _opposite(answer: Tensor) -> Tensor:
    return -answer.float().reshape(len(answer))


def maps_of(
    predictor: Predictor,
    pixels: NDArray[np.uint8],
    *,
    method: str = METHODS[0],
    layer: str | None = None,
    target: str | None = None,
    metadata: pd.DataFrame | None = None,
) -> Maps | None:
    """Where in each image a trained model finds what speaks for an answer.

    Maps are those of the images as they are, not of their test-time views. Of an ensemble each map is the mean of its networks'
    maps, divided by its maximum again: it shows where they agree. May be called from several threads, while others score.

    Args:
        pixels: shape ``(n, height, width, channels)``, uint8, decoded as ``predictor.decoding`` says; any n.
        method: ``hires_cam``, ``grad_cam`` or ``grad_cam_pp``. The first two are one in networks that average their last maps.
        layer: name of a layer of the network, for example ``trunk.layer3``; the last that lies over the image if None.
        target: a class, or ``positive`` (as is None).
        metadata: raw values, one row an image, for networks that see them.

    Returns:
        None where a network has no maps; the log says why.

    Raises:
        ValueError: no such method, layer or class, or metadata missing for a network that needs them.
    """
    found = []
    for part in predictor.networks:
        explainer = explainer_of(part, method=method, layer=layer, target=target)
        table = encoded(part, metadata, len(pixels))
        pieces = [slice(start, start + _AT_ONCE) for start in range(0, len(pixels), _AT_ONCE)]
        try:
            maps = []
            for piece in pieces:
                with predictor.lock:  # held for some images at a time, so that scoring need not wait for all maps
                    maps.append(explainer.maps(pixels[piece], None if table is None else table[piece]))
        except NoMapsError as error:
            log.warning("no heat maps: %s", error)
            return None
        found.append(np.concatenate(maps) if maps else np.zeros(pixels.shape[:3], dtype=np.float32))
    return Maps(pixels, found[0] if len(found) == 1 else mean_of(found))


def mean_of(maps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The mean of several networks' maps of the same images, each ``(n, height, width)``, divided by its own maximum."""
    mean = np.mean(maps, axis=0, dtype=np.float64)
    highest = mean.max(axis=(1, 2), keepdims=True, initial=0.0)
    found: NDArray[np.float64] = np.divide(mean, highest, out=np.zeros_like(mean), where=highest > 0)
    return found.astype(np.float32)


def require_maps(
    predictor: Predictor, *, method: str = METHODS[0], layer: str | None = None, target: str | None = None
) -> None:
    """Check the settings of heat maps before any image is read.

    Raises:
        ValueError: no such method, layer or class.
    """
    for part in predictor.networks:
        explainer_of(part, method=method, layer=layer, target=target)


def explainer_of(
    part: ScoredBy, *, method: str = METHODS[0], layer: str | None = None, target: str | None = None
) -> Explainer:
    """One network of a predictor or scorer with a question, checked.

    Raises:
        ValueError: no such method, layer or class.
    """
    require_method(method)
    if layer is not None:
        _require_layer(part, layer)
    described: dict[str, Any] = part.description["network"]
    device = next(part.network.parameters()).device
    return Explainer(
        part.network,
        Normalise(described["mean"], described["std"]).to(device),
        target_of(part.description["classes"], part.description["positive"], target),
        method,
        layer,
    )


def _require_layer(part: ScoredBy, layer: str) -> None:
    try:
        named_layer(part.network, layer)
    except ValueError as error:
        raise ValueError(f"heat_maps.{error} ({short(part.run)})") from None

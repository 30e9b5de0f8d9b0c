"""Heat maps for pictures: from pixels as they are stored to overlays, with the control of random weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain.covering import covering
from explain.grad_cam import NoMapsError, control, grad_cam, overlay

log = logging.getLogger("firstread")


@dataclass(frozen=True)
class HeatMaps:
    """Grad-CAM of some images.

    Attributes:
        overlays: shape ``(n, height, width, 3)``, uint8 RGB.
        maps: shape ``(n, height, width)``, float32 in [0, 1].
        checks: of :func:`explain.grad_cam.control`: for each image the correlation with maps of untrained networks, in
            [-1, 1]; about 0 where the map depends on what was learnt; None where it is not defined.
        covered: of :func:`explain.covering.covering`: what the log-odds of the positive classes lose with the brightest and
            with the darkest quarter of the map covered; None where the map is constant.
    """

    overlays: NDArray[np.uint8]
    maps: NDArray[np.float32]
    checks: list[float | None]
    covered: list[tuple[float, float] | None]


def gallery_of(
    network: nn.Module,
    normalise: Callable[[Tensor], Tensor],
    pixels: NDArray[np.uint8],
    *,
    positive: Sequence[int] | None = None,
    metadata: NDArray[np.float32] | None = None,
) -> HeatMaps | None:
    """What speaks for the positive classes in each image; also in one that was wrongly called negative.

    Args:
        network: gives one logit (of the positive class) or one for each class.
        normalise: from uint8 images ``(n, channels, height, width)`` to what the network takes, on the network's device.
        pixels: shape ``(n, height, width, channels)``, uint8, as the network was trained on them.
        positive: numbers of the positive classes; None for a network with one logit.
        metadata: encoded, shape ``(n, m)``, for a network that takes it.

    Returns:
        None where the network has no maps to weight (transformers); the log says so.
    """
    device = next(network.parameters()).device
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).to(device)
    inputs = normalise(images)
    further = [] if metadata is None else [torch.from_numpy(metadata).to(device)]
    outputs: int | Sequence[int] = 0 if positive is None else list(positive)
    try:
        maps = grad_cam(network, inputs, further, outputs=outputs)
    except NoMapsError as error:
        log.warning("no heat maps: %s", error)
        return None
    checks = control(network, inputs, maps, further, outputs=outputs)
    covered = covering(network, inputs, maps, further, outputs=outputs)
    drawn = [overlay(image, heat) for image, heat in zip(pixels, maps, strict=True)]
    empty = np.zeros((0, *pixels.shape[1:3], 3), dtype=np.uint8)
    return HeatMaps(np.stack(drawn) if drawn else empty, maps, checks, covered)

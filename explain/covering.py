"""Whether a heat map points at what counts: cover what it marks, what it does not, and a square, and see what the answer does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain.control import centre_square, marked
from explain.grad_cam import Target, speaks_for
from explain.undisturbed import undisturbed

_AT_ONCE = 16


class Losses(NamedTuple):
    """What the target (a logit or log-odds) of one image loses with a quarter of it covered; below 0 if it gains.

    Attributes:
        bright: with the brightest quarter of the heat map covered. ``dark``: with the darkest.
        centre: with a square in the middle covered, which needs no heat map.
    """

    bright: float
    dark: float
    centre: float


def covering(
    network: nn.Module,
    inputs: Tensor,
    maps: NDArray[np.float32],
    further: Sequence[Tensor] = (),
    *,
    outputs: Target = 0,
) -> list[Losses | None]:
    """What the target loses where a quarter of the image is replaced by the image's mean.

    Deletion in its simplest form (Samek et al. 2017). A map that points at what counts loses more at its brightest quarter
    than at its darkest, and more than the middle of the image does; one that does not should not be read.

    Args:
        network, inputs, further, outputs: as in :func:`explain.grad_cam.heat_maps`.
        maps: what it gave for them, shape ``(n, height, width)``.

    Returns:
        One an image; None where the map is constant, so that no place is brighter than another, or a loss is not finite.
    """
    found: list[Losses | None] = []
    with undisturbed(network, inputs.device), torch.no_grad():
        for start in range(0, len(inputs), _AT_ONCE):
            piece = slice(start, start + _AT_ONCE)
            images, heat, beside = inputs[piece], maps[piece], [part[piece] for part in further]
            mean = images.mean(dim=(2, 3), keepdim=True)
            whole = speaks_for(network(images, *beside), outputs).double().cpu().numpy()
            square = np.broadcast_to(centre_square(*heat.shape[1:]), heat.shape)
            lost = []
            for mask in (marked(heat), marked(-heat), square):
                hidden = torch.where(torch.from_numpy(mask[:, None].copy()).to(images.device), mean, images)
                lost.append(whole - speaks_for(network(hidden, *beside), outputs).double().cpu().numpy())
            usable = (heat.max(axis=(1, 2)) > heat.min(axis=(1, 2))) & np.isfinite(lost).all(axis=0)
            found += [
                Losses(*map(float, row)) if use else None
                for row, use in zip(zip(*lost, strict=True), usable, strict=True)
            ]
    return found

"""Whether a heat map points at what counts: cover its brightest quarter, and its darkest, and see what the answer does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain.grad_cam import Target, speaks_for, undisturbed

SHARE = 0.25
_AT_ONCE = 16


def covering(
    network: nn.Module,
    inputs: Tensor,
    maps: NDArray[np.float32],
    further: Sequence[Tensor] = (),
    *,
    outputs: Target = 0,
) -> list[tuple[float, float] | None]:
    """What the target loses where a quarter of the image is replaced by the image's mean.

    Deletion in its simplest form (Samek et al. 2017). A map that points at what counts loses more at its brightest quarter
    than at its darkest; one that does not should not be read.

    Args:
        network, inputs, further, outputs: as in :func:`explain.grad_cam.grad_cam`.
        maps: what it gave for them, shape ``(n, height, width)``.

    Returns:
        For each image the loss (of a logit or of log-odds) with the brightest quarter covered, and with the darkest covered;
        below 0 if the target gains. None where the map is constant, so that no place is brighter than another.
    """
    found: list[tuple[float, float] | None] = []
    with undisturbed(network, inputs.device), torch.no_grad():
        for start in range(0, len(inputs), _AT_ONCE):
            piece = slice(start, start + _AT_ONCE)
            images, heat, beside = inputs[piece], maps[piece], [part[piece] for part in further]
            mean = images.mean(dim=(2, 3), keepdim=True)
            answers = [speaks_for(network(images, *beside), outputs)]
            for order in (heat, -heat):
                hidden = torch.where(_highest(order).to(images.device), mean, images)
                answers.append(speaks_for(network(hidden, *beside), outputs))
            whole, bright, dark = (answer.double().cpu().numpy() for answer in answers)
            constant = heat.max(axis=(1, 2)) == heat.min(axis=(1, 2))
            for row in range(len(images)):
                losses = (float(whole[row] - bright[row]), float(whole[row] - dark[row]))
                found.append(losses if np.isfinite(losses).all() and not constant[row] else None)
    return found


def _highest(values: NDArray[np.float32]) -> Tensor:
    """The places of the highest quarter of each map, shape ``(n, 1, height, width)``; of equals the later ones."""
    flat = values.reshape(len(values), -1)
    chosen = np.argsort(flat, axis=1, kind="stable")[:, flat.shape[1] - int(SHARE * flat.shape[1]) :]
    mask = np.zeros(flat.shape, dtype=bool)
    np.put_along_axis(mask, chosen, True, axis=1)
    return torch.from_numpy(mask.reshape(len(values), 1, *values.shape[1:]))

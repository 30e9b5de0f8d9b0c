"""Sanity checks of heat maps: would an untrained network draw them too, and would a square in the middle do as well?"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain.grad_cam import Target, heat_maps

SHARE: Final = 0.25
"""Of the image: what a map marks are its brightest quarter of places; the square in the middle is as large."""


def untrained(
    network: nn.Module,
    inputs: Tensor,
    further: Sequence[Tensor] = (),
    *,
    method: str = "grad_cam",
    outputs: Target = 0,
    layer: str | None = None,
    draws: int = 3,
) -> NDArray[np.float32]:
    """Heat maps that the same network draws with random weights (Adebayo et al. 2018).

    Which way an untrained network leans means nothing, so its map is the one of what speaks for or against the target,
    whichever is stronger.

    Args:
        network, inputs, further, method, outputs, layer: as in :func:`explain.grad_cam.heat_maps`.
        draws: number of networks with random weights; always the same ones.

    Returns:
        Shape ``(draws, n, height, width)``.
    """
    found = [
        heat_maps(
            randomised(network, seed), inputs, further, method=method, outputs=outputs, layer=layer, either_way=True
        )
        for seed in range(draws)
    ]
    return np.stack(found)


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """A copy with random weights: normal ones around 0 of the same mean square; biases and normalisation stay.

    Args:
        network: is not changed.
        seed: of the weights; the global random stream is not used.
    """
    copy, generator = deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in copy.parameters():
            if parameter.ndim > 1:
                size = parameter.float().square().mean().sqrt().cpu()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
    return copy


def control(maps: NDArray[np.float32], others: NDArray[np.float32]) -> list[float | None]:
    """How much of each heat map untrained networks draw too.

    A map that looks the same without what was learnt shows the edges of the image or the architecture.

    Args:
        maps: shape ``(n, height, width)``. ``others``: of :func:`untrained`.

    Returns:
        For each image the mean correlation in [-1, 1] with the maps of these networks, about 0 if the map depends on what was
        learnt; None where none is defined.
    """
    return _means([agreement(maps, drawn) for drawn in others])


def _means(draws: Sequence[Sequence[float | None]]) -> list[float | None]:
    """The mean over draws for each image, of what is defined."""
    columns = [[value for value in column if value is not None] for column in zip(*draws, strict=True)]
    return [float(np.mean(values)) if values else None for values in columns]


def agreement(first: NDArray[np.float32], second: NDArray[np.float32]) -> list[float | None]:
    """Correlation of two heat maps of the same image, for each image.

    Args:
        first, second: shape ``(n, height, width)``.

    Returns:
        Pearson's r in [-1, 1]; None where a map is constant, so that there is nothing to correlate.
    """
    found: list[float | None] = []
    for one, other in zip(first, second, strict=True):
        a, b = (values.astype(np.float64).ravel() - values.mean(dtype=np.float64) for values in (one, other))
        scale = float(np.sqrt((a @ a) * (b @ b)))
        found.append(float(np.clip(a @ b / scale, -1.0, 1.0)) if scale > 1e-9 else None)
    return found


def marked(maps: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The brightest quarter of the places of each map, shape ``(n, height, width)``; of equals the later ones."""
    flat = maps.reshape(len(maps), -1)
    chosen = np.argsort(flat, axis=1, kind="stable")[:, flat.shape[1] - int(SHARE * flat.shape[1]) :]
    mask = np.zeros(flat.shape, dtype=bool)
    np.put_along_axis(mask, chosen, True, axis=1)
    return mask.reshape(maps.shape)


def centre_square(height: int, width: int) -> NDArray[np.bool_]:
    """A rectangle in the middle that covers a quarter of the image, shape ``(height, width)``."""
    mask = np.zeros((height, width), dtype=bool)
    high, wide = round(height * SHARE**0.5), round(width * SHARE**0.5)
    top, left = (height - high) // 2, (width - wide) // 2
    mask[top : top + high, left : left + wide] = True
    return mask


def in_centre(maps: NDArray[np.float32]) -> list[float | None]:
    """What share of the brightest quarter of each map lies in the square in the middle.

    Returns:
        For each image a share in [0, 1]: 0.25 where the two have nothing to do with each other, 1 where the map marks the
        square; None where the map is constant and marks nothing.
    """
    square = centre_square(*maps.shape[1:])
    return [
        float((mask & square).sum() / mask.sum()) if heat.max() > heat.min() else None
        for mask, heat in zip(marked(maps), maps, strict=True)
    ]


def in_centre_untrained(others: NDArray[np.float32]) -> list[float | None]:
    """The same share of the maps of untrained networks, for each image the mean over them.

    Args:
        others: of :func:`untrained`.
    """
    return _means([in_centre(drawn) for drawn in others])

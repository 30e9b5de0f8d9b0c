"""Test-time augmentation: the views of an image over which its probabilities are averaged."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

VIEWS = {"none": 1, "flip": 2, "dihedral": 8}
"""Number of views of each kind."""


def views(images: Tensor, kind: str) -> Iterator[Tensor]:
    """The same images seen in each way, one after the other; the first view is always the images as they are.

    Probabilities are to be averaged over the views, not logits, and on validation as on test: a threshold holds only for
    scores that were made in the same way.

    Args:
        images: ``(n, channels, height, width)``, square for ``dihedral``.
        kind: ``none`` (1 view), ``flip`` (2: plain and left-right), ``dihedral`` (8: the symmetries of the square, four quarter
            turns of the plain and of the flipped image).

    Yields:
        Tensors of the same shape, type and memory format.

    Raises:
        ValueError: if there is no such kind, or quarter turns would change the shape.
    """
    if kind not in VIEWS:
        raise ValueError(f"evaluation.tta={kind}: must be one of {', '.join(VIEWS)}.")
    if kind == "dihedral" and images.shape[-1] != images.shape[-2]:
        height, width = images.shape[-2:]
        raise ValueError(
            f"evaluation.tta=dihedral turns images by 90 degrees, which needs square ones, not {height} x {width}. "
            "Use evaluation.tta=flip."
        )
    return _views(images, kind)


def _views(images: Tensor, kind: str) -> Iterator[Tensor]:
    # Turned images are views on the same memory with odd strides; convolutions are fast on the format that training used.
    last = images.is_contiguous(memory_format=torch.channels_last)
    memory = torch.channels_last if last else torch.contiguous_format
    yield images
    if kind == "none":
        return
    flipped = images.flip(-1).contiguous(memory_format=memory)
    yield flipped
    if kind == "dihedral":
        for turns in (1, 2, 3):
            yield torch.rot90(images, turns, (-2, -1)).contiguous(memory_format=memory)
            yield torch.rot90(flipped, turns, (-2, -1)).contiguous(memory_format=memory)

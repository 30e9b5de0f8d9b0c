"""Mixup and cutmix: training on pairs of images and on both of their labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def mix(images: Tensor, targets: Tensor, classes: int, *, mixup: float, cutmix: float) -> tuple[Tensor, Tensor]:
    """A batch in which every image is mixed with another one of the batch.

    One share lambda is drawn a batch, from Beta(alpha, alpha), and one order of the partners, as in the code of both papers.
    Where both alphas are above 0, each batch is mixed one way or the other with equal probability. An image may meet itself and
    then stays as it is. All random numbers come from torch's global generator on the CPU.

    Args:
        images: shape ``(n, channels, height, width)``, values 0 to 255, uint8 or floating point; left as it is.
        targets: class numbers, shape ``(n,)``, int64, 0 to ``classes - 1``.
        classes: number of classes.
        mixup: alpha of mixup, at least 0 (Zhang et al. 2018, "mixup: Beyond empirical risk minimization", section 2):
            ``lambda x_i + (1 - lambda) x_j``. 0 switches it off.
        cutmix: alpha of cutmix, at least 0 (Yun et al. 2019, "CutMix", section 3.1): a rectangle of the partner with the share
            ``1 - lambda`` of the area, its centre uniform in the image. Where it reaches over the edge it is cut, and lambda is
            then the share of the image that is really left. 0 switches it off.

    Returns:
        The images (float32 after mixup, else of their own type; channels-last if they were) and the soft targets, float32,
        shape ``(n, classes)``, each row with sum 1.

    Raises:
        ValueError: if an alpha is negative or not finite.
    """
    for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
        if not (math.isfinite(alpha) and alpha >= 0):
            raise ValueError(f"augmentation.{name}={alpha}: must be at least 0; 0 switches it off.")
    labels = functional.one_hot(targets, classes).to(torch.float32)
    if mixup == 0 and cutmix == 0:
        return images, labels
    blend = cutmix == 0 or (mixup > 0 and bool(torch.rand(()) < 0.5))
    alpha = mixup if blend else cutmix
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partners = torch.randperm(len(images)).to(images.device)
    if blend:
        plain = images.to(torch.float32)
        mixed = torch.lerp(plain[partners], plain, share)
    else:
        top, bottom, left, right = _patch(images.shape[2], images.shape[3], share)
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[partners, :, top:bottom, left:right]
        share = 1.0 - (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])
    if images.is_contiguous(memory_format=torch.channels_last):  # indexing may have lost the layout
        mixed = mixed.contiguous(memory_format=torch.channels_last)
    return mixed, torch.lerp(labels[partners], labels, share)


def _patch(height: int, width: int, share: float) -> tuple[int, int, int, int]:
    """Rows and columns of a rectangle with the share ``1 - share`` of the area before it is cut at the edges."""
    side = math.sqrt(1.0 - share)
    middle = torch.rand(2).tolist()
    edges = []
    for size, centre in ((height, middle[0]), (width, middle[1])):
        half = side * size / 2
        edges += [max(round(centre * size - half), 0), min(round(centre * size + half), size)]
    return edges[0], edges[1], edges[2], edges[3]

"""Random changes of training images. albumentations is used here and nowhere else."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The library asks the network for a newer version of itself on import; a run on a closed network would wait for it.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations
import cv2

cv2.setNumThreads(0)  # OpenCV's threads would compete with the training step's


class Augmentation:
    """A seeded chain of random changes, applied to a batch of images.

    The random numbers depend on the given seed only, not on the process, worker or number of calls before. This matters:
    albumentations 2.0.8 by itself replays the same random stream in every worker and epoch.

    Args:
        settings: ``rotate`` (degrees), ``translate``, ``scale``, ``brightness``, ``contrast`` (shares),
            ``horizontal_flip``, ``vertical_flip`` (probabilities); 0 switches a change off.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        chain = _chain(settings)
        self._compose = albumentations.Compose(chain) if chain else None

    @property
    def active(self) -> bool:
        """False if every change is switched off."""
        return self._compose is not None

    def __call__(self, images: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Changed copies of a batch.

        Args:
            images: shape ``(n, height, width, channels)``, values 0 to 255.
            seed: 0 to 2**32 - 1.

        Returns:
            Array of the same shape and type.
        """
        if self._compose is None:
            return images
        self._compose.set_random_seed(seed)
        changed = np.empty_like(images)
        for row in range(len(images)):
            changed[row] = self._compose(image=images[row])["image"]
        return changed


def _chain(settings: dict[str, Any]) -> list[albumentations.BasicTransform]:
    chain: list[albumentations.BasicTransform] = []
    rotate, translate, scale = (float(settings.get(name, 0.0)) for name in ("rotate", "translate", "scale"))
    if rotate or translate or scale:
        chain.append(
            albumentations.Affine(
                rotate=(-rotate, rotate),
                translate_percent={axis: (-translate, translate) for axis in "xy"},
                scale=(1 - scale, 1 + scale),
                interpolation=cv2.INTER_LINEAR,
                p=1.0,
            )
        )
    for name, flip in (
        ("horizontal_flip", albumentations.HorizontalFlip),
        ("vertical_flip", albumentations.VerticalFlip),
    ):
        if settings.get(name):
            chain.append(flip(p=float(settings[name])))
    brightness, contrast = float(settings.get("brightness", 0.0)), float(settings.get("contrast", 0.0))
    if brightness or contrast:
        chain.append(
            albumentations.RandomBrightnessContrast(
                brightness_limit=(-brightness, brightness), contrast_limit=(-contrast, contrast), p=1.0
            )
        )
    return chain

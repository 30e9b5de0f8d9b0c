"""Random changes of training images. albumentations is used here and nowhere else."""

from __future__ import annotations

import math
import os
import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The library asks the network for a newer version of itself on import; a run on a closed network would wait for it.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations
import cv2

cv2.setNumThreads(0)  # OpenCV's threads would compete with the training step's

BORDERS = {"black": cv2.BORDER_CONSTANT, "nearest": cv2.BORDER_REPLICATE, "reflect": cv2.BORDER_REFLECT_101}
CROP_RATIO = (3 / 4, 4 / 3)  # width to height of a crop (Szegedy 2015)
ERASED_AREA, ERASED_RATIO = (0.02, 0.2), (0.3, 1 / 0.3)  # of Zhong 2020, with less than their 40 % of the area
BLUR_SIGMA = (0.4, 1.0)  # standard deviation in pixels of images up to 128 pixels wide; in proportion for larger ones

# The random stream of every change. Changes that draw equally many numbers an image must not share one: two flips on the same
# stream would always flip together. The first three share one, so that runs made before there were others can be repeated; they
# draw 7, 1 and 2 numbers an image and so meet on the same number in the first image of a batch only.
_STREAMS = {"affine": 0, "horizontal_flip": 0, "exposure": 0} | {
    name: number
    for number, name in enumerate(
        ("vertical_flip", "crop", "quarter_turns", "gamma", "colour", "blur", "noise", "erase"), start=1
    )
}
_Chain = list[tuple[int, albumentations.BasicTransform]]


class Augmentation:
    """A seeded chain of random changes, applied to a batch of images.

    In this order: turn, shift, zoom and shear as one (a single interpolation), crop, quarter turn, flips, brightness and
    contrast, gamma, saturation and hue, blur, noise, erasing. Shapes come first, so that the border they leave is darkened or
    blurred like the image; noise comes after the blur, which would take it away.

    The random numbers depend on the given seed only, not on the process, worker or number of calls before, and switching one
    change on does not alter another. This matters: albumentations 2.0.8 by itself replays the same random stream in every worker
    and epoch, and ``Compose.set_random_seed`` gives all of its transforms the same stream, so that two flips of probability 0.5
    turn an image by 180 degrees or not at all, and never mirror it.

    Args:
        settings: of the section ``augmentation``; a change that is 0, false or (``crop``) 1 or is not named is off. ``mixup`` and
            ``cutmix`` need two images and are done by :mod:`models.mixing`.

    Raises:
        ValueError: if ``border`` is none of :data:`BORDERS`.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        border = settings.get("border", "black")
        if border not in BORDERS:
            raise ValueError(f"augmentation.border={border}: must be one of {', '.join(BORDERS)}.")
        self._settings = dict(settings)
        self._chains: dict[tuple[int, ...], _Chain] = {}

    @property
    def active(self) -> bool:
        """False if every change is switched off."""
        return bool(self._chain(16, 16, 3))

    def __call__(self, images: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Changed copies of a batch; the batch itself if nothing is to be changed.

        Args:
            images: shape ``(n, height, width, channels)``, 1 (grey) or 3 (RGB) channels, values 0 to 255. Grey images have no
                saturation and no hue to change.
            seed: 0 to 2**32 - 1.

        Returns:
            Array of the same shape and type.

        Raises:
            ValueError: for quarter turns of images that are not square.
        """
        height, width, channels = images.shape[1:]
        if self._settings.get("quarter_turns") and height != width:
            raise ValueError(
                f"augmentation.quarter_turns=true: images must be square, these are {width} x {height}; switch it off."
            )
        chain = self._chain(height, width, channels)
        if not chain:
            return images
        for stream, transform in chain:
            # Stream 0 is the seed itself; the others follow from the seed and their number.
            own = seed if stream == 0 else int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
            transform.set_random_state(np.random.default_rng(own), random.Random(own))
        changed = np.empty_like(images)
        for row in range(len(images)):
            image = images[row]
            for _, transform in chain:
                image = transform(image=image)["image"]
            changed[row] = image
        return changed

    def _chain(self, height: int, width: int, channels: int) -> _Chain:
        """The transforms for images of this shape; made once for each."""
        shape = (height, width, channels)
        if shape not in self._chains:
            steps = _geometry(self._settings, height, width) | _pixels(self._settings, height, channels)
            self._chains[shape] = [(_STREAMS[name], transform) for name, transform in steps.items()]
        return self._chains[shape]


class _Gamma(albumentations.RandomGamma):  # type: ignore[misc]  # albumentations ships no types
    """Gamma that is as often below as above 1, and rounds; the library's draws darker and cuts decimals off.

    Args:
        largest: g; gamma lies between ``1 / (1 + g)`` and ``1 + g``, its logarithm uniformly.
    """

    def __init__(self, largest: float) -> None:
        super().__init__(p=1.0)
        self.span = math.log1p(largest)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        return {"gamma": math.exp(self.py_random.uniform(-self.span, self.span))}

    def apply(self, img: NDArray[np.uint8], gamma: float, **params: Any) -> NDArray[np.uint8]:
        table = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
        return np.asarray(cv2.LUT(img, table), dtype=np.uint8).reshape(img.shape)


class _Erase(albumentations.Erasing):  # type: ignore[misc]
    """A rectangle is filled with the image's own mean colour, which tells a network the least."""

    def apply(self, img: NDArray[np.uint8], holes: NDArray[np.int32], seed: int, **params: Any) -> NDArray[np.uint8]:
        image = img.copy()
        for left, top, right, bottom in holes:
            image[top:bottom, left:right] = np.rint(cv2.mean(img)[: img.shape[2]])
        return image


def _geometry(settings: dict[str, Any], height: int, width: int) -> dict[str, albumentations.BasicTransform]:
    steps: dict[str, albumentations.BasicTransform] = {}
    rotate, translate, scale, shear = (
        float(settings.get(name, 0.0)) for name in ("rotate", "translate", "scale", "shear")
    )
    if rotate or translate or scale or shear:
        steps["affine"] = albumentations.Affine(
            rotate=(-rotate, rotate),
            translate_percent={axis: (-translate, translate) for axis in "xy"},
            scale=(1 - scale, 1 + scale),
            shear={"x": (-shear, shear), "y": (0.0, 0.0)},
            interpolation=cv2.INTER_LINEAR,
            border_mode=BORDERS[settings.get("border", "black")],
            p=1.0,
        )
    crop = float(settings.get("crop", 1.0))
    if crop < 1:
        steps["crop"] = albumentations.RandomResizedCrop(
            size=(height, width), scale=(crop, 1.0), ratio=CROP_RATIO, interpolation=cv2.INTER_LINEAR, p=1.0
        )
    if settings.get("quarter_turns"):
        steps["quarter_turns"] = albumentations.RandomRotate90(p=1.0)
    for name, flip in (
        ("horizontal_flip", albumentations.HorizontalFlip),
        ("vertical_flip", albumentations.VerticalFlip),
    ):
        if settings.get(name):
            steps[name] = flip(p=float(settings[name]))
    return steps


def _pixels(settings: dict[str, Any], side: int, channels: int) -> dict[str, albumentations.BasicTransform]:
    steps: dict[str, albumentations.BasicTransform] = {}
    brightness, contrast, gamma, saturation, hue, blur, noise, erase = (
        float(settings.get(name, 0.0))
        for name in ("brightness", "contrast", "gamma", "saturation", "hue", "blur", "noise", "erase")
    )
    if brightness or contrast:
        steps["exposure"] = albumentations.RandomBrightnessContrast(
            brightness_limit=(-brightness, brightness), contrast_limit=(-contrast, contrast), p=1.0
        )
    if gamma:
        steps["gamma"] = _Gamma(gamma)
    if (saturation or hue) and channels == 3:
        steps["colour"] = albumentations.ColorJitter(
            brightness=(1.0, 1.0),
            contrast=(1.0, 1.0),
            saturation=(1 - saturation, 1 + saturation),
            hue=(-hue, hue),
            p=1.0,
        )
    if blur:
        low, high = (sigma * max(1.0, side / 128) for sigma in BLUR_SIGMA)
        steps["blur"] = albumentations.GaussianBlur(blur_limit=0, sigma_limit=(low, high), p=blur)
    if noise:
        steps["noise"] = albumentations.GaussNoise(std_range=(0.0, noise), p=1.0)
    if erase:
        steps["erase"] = _Erase(scale=ERASED_AREA, ratio=ERASED_RATIO, p=erase)
    return steps

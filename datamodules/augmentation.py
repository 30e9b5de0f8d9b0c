"""Random changes of training images. albumentations is used here and nowhere else."""

from __future__ import annotations

import math
import os
import random
import threading
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
_TONES = np.arange(256, dtype=np.float32)
_SAME = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)  # a table for RGB that changes nothing


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
        self._chains: dict[tuple[int, int, int, int | None], _Chain] = {}
        self._one_batch = threading.Lock()  # the transforms hold the random state of the batch that they work on

    def __reduce__(self) -> tuple[type[Augmentation], tuple[dict[str, Any]]]:
        """For loader processes."""
        return Augmentation, (self._settings,)

    @property
    def active(self) -> bool:
        """False if every change is switched off."""
        return bool(self._chain((16, 16, 3), None))

    def __call__(self, images: NDArray[np.uint8], seed: int, size: int | None = None) -> NDArray[np.uint8]:
        """Changed copies of a batch; the batch itself if nothing is to be changed.

        Args:
            images: shape ``(n, height, width, channels)``, 1 (grey) or 3 (RGB) channels, values 0 to 255. Grey images have no
                saturation and no hue to change.
            seed: 0 to 2**32 - 1.
            size: height and width of the result, which the crop gives it, so that it need not enlarge what it cuts out of
                images that are stored larger. None: those of the images.

        Returns:
            Array of the same type, number of images and channels.

        Raises:
            ValueError: for quarter turns of images that are not square, or another size where nothing is cropped.
        """
        height, width, channels = images.shape[1:]
        if self._settings.get("quarter_turns") and size is None and height != width:
            raise ValueError(
                f"augmentation.quarter_turns=true: images must be square, these are {width} x {height}; switch it off."
            )
        chain = self._chain((height, width, channels), size)
        if not chain:
            return images
        changed = np.empty(
            (len(images), *((height, width) if size is None else (size, size)), channels), dtype=np.uint8
        )
        with self._one_batch:
            for stream, transform in chain:
                # Stream 0 is the seed itself; the others follow from the seed and their number.
                own = seed if stream == 0 else int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
                transform.set_random_state(np.random.default_rng(own), random.Random(own))
            for row in range(len(images)):
                image = images[row]
                for _, transform in chain:
                    image = _applied(transform, image)
                changed[row] = image
        return changed

    def _chain(self, shape: tuple[int, int, int], size: int | None) -> _Chain:
        """The transforms for images of this shape; made once for each."""
        key = (*shape, size)
        if key not in self._chains:
            height, width, channels = shape
            steps = _geometry(self._settings, height, width, size) | _pixels(self._settings, size or height, channels)
            if size is not None and (height, width) != (size, size) and "crop" not in steps:
                raise ValueError(
                    f"data.margin: training images are {width} x {height} pixels and must become {size} x {size}, which the crop "
                    "does. Set augmentation.crop below 1, or data.margin=1."
                )
            self._chains[key] = [(_STREAMS[name], transform) for name, transform in steps.items()]
        return self._chains[key]


def _applied(transform: albumentations.BasicTransform, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``transform(image=image)["image"]`` without the library's bookkeeping for masks, boxes and replays.

    That takes longer than the change of a small image itself. The numbers drawn and the result are the same.
    """
    if not transform.should_apply():
        return image
    params = transform.get_params() | {"shape": image.shape}
    params |= transform.get_params_dependent_on_data(params, {"image": image})
    return np.ascontiguousarray(transform.apply(image, **params))


class _Affine(albumentations.Affine):  # type: ignore[misc]  # albumentations ships no types
    """The library's, without a second matrix for boxes and without matrices that are known in advance.

    Bit for bit its result: products that are exact in floating point are written down, all others are done as it does them.
    """

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        uniform, shift = self.py_random.uniform, self.translate_percent
        across, down = (int(uniform(*shift[axis]) * side) for axis, side in (("x", width), ("y", height)))
        lean_x, lean_y = (np.tan(np.deg2rad(-uniform(*self.shear[axis]))) for axis in "xy")
        zoom_x, zoom_y = (uniform(*self.scale[axis]) for axis in "xy")
        angle = np.deg2rad(uniform(*self.rotate) % 360)
        cosine, sine = np.cos(angle), np.sin(angle)
        x, y = width / 2 - 0.5, height / 2 - 0.5
        # Points are moved from the right to the left: centre to the origin, zoom, turn, then shear, shift and back at once.
        turn = np.array(((cosine, sine, 0.0), (-sine, cosine, 0.0), (0.0, 0.0, 1.0)))
        rest = np.array(((1.0, lean_x, across + x), (lean_y, 1.0, down + y), (0.0, 0.0, 1.0)))
        matrix = (rest @ turn) * (zoom_x, zoom_y, 1.0) @ np.array(((1.0, 0.0, -x), (0.0, 1.0, -y), (0.0, 0.0, 1.0)))
        return {"matrix": matrix}

    def apply(self, img: NDArray[np.uint8], matrix: NDArray[np.float64], **params: Any) -> NDArray[np.uint8]:
        (a, b, c), (d, e, f) = matrix[:2].tolist()
        # The library leaves an image alone where np.allclose(matrix, identity), which takes longer than to move it.
        if max(abs(b), abs(c), abs(d), abs(f)) <= 1e-8 and max(abs(a - 1), abs(e - 1)) <= 1e-8 + 1e-5:
            return img
        how = {"flags": cv2.INTER_LINEAR, "borderMode": self.border_mode, "borderValue": 0}
        moved = cv2.warpAffine(img, matrix[:2], img.shape[1::-1], **how)
        return np.asarray(moved, dtype=np.uint8).reshape(img.shape)


class _Exposure(albumentations.RandomBrightnessContrast):  # type: ignore[misc]
    """The library's: one look-up table an image."""

    def apply(self, img: NDArray[np.uint8], alpha: float, beta: float, **params: Any) -> NDArray[np.uint8]:
        table = np.clip(_TONES * alpha + beta, 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(img, table), dtype=np.uint8).reshape(img.shape)


class _Crop(albumentations.RandomResizedCrop):  # type: ignore[misc]
    """The library's, without wrappers for images of many channels."""

    def apply(self, img: NDArray[np.uint8], crop_coords: tuple[int, int, int, int], **params: Any) -> NDArray[np.uint8]:
        left, top, right, bottom = crop_coords
        part = img[top:bottom, left:right]
        if part.shape[:2] == self.size:
            return part
        method = self._get_interpolation_for_resize(part.shape[:2], "image")
        height, width = self.size
        resized = cv2.resize(part, (width, height), interpolation=method)
        return np.asarray(resized, dtype=np.uint8).reshape(height, width, -1)


class _Colour(albumentations.ColorJitter):  # type: ignore[misc]
    """The library's saturation and hue, in the order it draws, for RGB images."""

    def apply(
        self, img: NDArray[np.uint8], saturation: float, hue: float, order: list[int], **params: Any
    ) -> NDArray[np.uint8]:
        for step in order:
            if step == 2 and saturation != 1:
                grey = cv2.cvtColor(cv2.cvtColor(img, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
                img = np.asarray(cv2.addWeighted(img, saturation, grey, 1 - saturation, gamma=0), dtype=np.uint8)
            elif step == 3 and hue != 0:
                table = _SAME.copy()
                table[0, :, 0] = np.mod(_SAME[0, :, 0] + 180 * hue, 180)  # OpenCV counts hue in steps of 2 degrees
                hsv = cv2.LUT(cv2.cvtColor(img, cv2.COLOR_RGB2HSV), table)
                img = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), dtype=np.uint8)
        return img


class _Noise(albumentations.GaussNoise):  # type: ignore[misc]
    """The library's, with the noise drawn and added in fewer passes over the image."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        spread, shape = self.py_random.uniform(*self.std_range), params["shape"]
        self.py_random.uniform(*self.mean_range)  # always 0, but a number is drawn
        noise = np.zeros(shape)
        cv2.setRNGSeed(self.random_generator.integers(0, 2**16))  # of this thread's generator
        cv2.randn(noise, np.zeros(shape[2], np.float32), spread * np.ones(shape[2], np.float32))
        return {"noise_map": noise}

    def apply(self, img: NDArray[np.uint8], noise_map: NDArray[np.float64], **params: Any) -> NDArray[np.uint8]:
        noisy = noise_map.astype(np.float32)
        noisy *= 255
        np.trunc(noisy, out=noisy)
        noisy += img
        return np.clip(noisy, 0, 255, out=noisy).astype(np.uint8)


class _Gamma(albumentations.RandomGamma):  # type: ignore[misc]
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


def _geometry(
    settings: dict[str, Any], height: int, width: int, size: int | None
) -> dict[str, albumentations.BasicTransform]:
    steps: dict[str, albumentations.BasicTransform] = {}
    rotate, translate, scale, shear = (
        float(settings.get(name, 0.0)) for name in ("rotate", "translate", "scale", "shear")
    )
    if rotate or translate or scale or shear:
        steps["affine"] = _Affine(
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
        steps["crop"] = _Crop(
            size=(height, width) if size is None else (size, size),
            scale=(crop, 1.0),
            ratio=CROP_RATIO,
            interpolation=cv2.INTER_LINEAR,
            # Averages areas where a crop of an image stored larger has to shrink, as decoding does.
            area_for_downscale=None if size is None else "image",
            p=1.0,
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
        steps["exposure"] = _Exposure(
            brightness_limit=(-brightness, brightness), contrast_limit=(-contrast, contrast), p=1.0
        )
    if gamma:
        steps["gamma"] = _Gamma(gamma)
    if (saturation or hue) and channels == 3:
        steps["colour"] = _Colour(
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
        steps["noise"] = _Noise(std_range=(0.0, noise), p=1.0)
    if erase:
        steps["erase"] = _Erase(scale=ERASED_AREA, ratio=ERASED_RATIO, p=erase)
    return steps

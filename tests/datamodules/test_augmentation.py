"""What every option of the augmentation does, and that its random numbers depend on the seed alone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import albumentations
import cv2
import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from conf.schema import AugmentationConfig
from datamodules.augmentation import Augmentation
from datamodules.batches import BatchSampler, CachedImages
from tests.commands import ROOT

PRESETS = sorted((ROOT / "conf" / "augmentation").glob("*.yaml"))
XRAY = {"rotate": 8.0, "translate": 0.04, "scale": 0.08, "brightness": 0.15, "contrast": 0.15}
EACH: dict[str, Any] = {
    "crop": 0.5,
    "rotate": 20.0,
    "quarter_turns": True,
    "translate": 0.2,
    "scale": 0.3,
    "shear": 20.0,
    "horizontal_flip": 0.5,
    "vertical_flip": 0.5,
    "brightness": 0.3,
    "contrast": 0.3,
    "gamma": 0.5,
    "saturation": 0.5,
    "hue": 0.1,
    "blur": 0.5,
    "noise": 0.1,
    "erase": 0.5,
}


def pictures(channels: int, n: int = 8, side: int = 32) -> NDArray[np.uint8]:
    """Smooth random colours."""
    generator = np.random.default_rng(channels)
    coarse = generator.integers(30, 220, (n, 6, 6, channels), dtype=np.uint8)
    fine = [cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC) for image in coarse]
    return np.stack(fine).reshape(n, side, side, channels)


def copies(image: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    return np.repeat(image[None], n, axis=0)


def flat(value: int, n: int, channels: int = 1, side: int = 32) -> NDArray[np.uint8]:
    return np.full((n, side, side, channels), value, dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", EACH)
def test_each_change_alone(name: str, channels: int) -> None:
    images = pictures(channels)
    before = images.copy()
    augmentation = Augmentation({name: EACH[name]})
    changed = augmentation(images, 3)
    assert augmentation.active
    assert (images == before).all(), "the batch that was given is left as it is"
    assert changed.shape == images.shape and changed.dtype == np.uint8
    if name in ("saturation", "hue") and channels == 1:
        assert changed is images
        return
    assert 1 <= (changed != images).any(axis=(1, 2, 3)).sum() <= len(images)
    assert (changed == augmentation(images, 3)).all(), "the same seed gives the same images"
    assert (changed != augmentation(images, 4)).any(), "another seed gives others"
    again = Augmentation({name: EACH[name]})
    again(images, 99)
    assert (changed == again(images, 3)).all(), "what was asked for before does not matter"


def test_every_key_of_the_configuration_is_tested_here() -> None:
    keys = {item.name for item in dataclasses.fields(AugmentationConfig)}
    assert keys - set(EACH) == {"name", "border", "mixup", "cutmix"}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
@pytest.mark.parametrize("channels", [1, 3])
def test_presets(path: Path, channels: int) -> None:
    text = path.read_text(encoding="utf-8")
    settings = dataclasses.asdict(AugmentationConfig(**yaml.safe_load(text)))
    assert settings["name"] == path.stem
    assert text.startswith("# "), "the file says what it is for"
    augmentation = Augmentation(settings)
    assert augmentation.active == (path.stem != "none")
    images = pictures(channels)
    assert augmentation(images, 0).shape == images.shape
    if path.stem == "xray":
        assert not settings["horizontal_flip"] and not settings["vertical_flip"] and not settings["quarter_turns"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("settings", [XRAY, {"rotate": 90.0, "horizontal_flip": 0.5}], ids=["xray", "turn and flip"])
def test_pixels_of_earlier_runs_are_repeated(settings: dict[str, float], channels: int) -> None:
    rotate, translate, scale = settings["rotate"], settings.get("translate", 0.0), settings.get("scale", 0.0)
    steps = [
        albumentations.Affine(
            rotate=(-rotate, rotate),
            translate_percent={axis: (-translate, translate) for axis in "xy"},
            scale=(1 - scale, 1 + scale),
            p=1.0,
        )
    ]
    if "brightness" in settings:
        steps.append(albumentations.RandomBrightnessContrast((-0.15, 0.15), (-0.15, 0.15), p=1.0))
    else:
        steps.append(albumentations.HorizontalFlip(p=0.5))
    compose = albumentations.Compose(steps)
    images = pictures(channels)
    for seed in range(5):
        compose.set_random_seed(seed)
        expected = np.stack([compose(image=image)["image"] for image in images])
        assert (Augmentation(settings)(images, seed) == expected).all()


def moves(images: NDArray[np.uint8], original: NDArray[np.uint8]) -> list[tuple[int, bool]]:
    """Of each image, the quarter turns and whether it is mirrored before them."""
    table = {
        np.rot90(original[:, ::-1] if mirrored else original, turns).tobytes(): (turns, mirrored)
        for turns in range(4)
        for mirrored in (False, True)
    }
    return [table[image.tobytes()] for image in images]


def test_flips_are_drawn_apart() -> None:
    # albumentations 2.0.8 gives all transforms of a seeded Compose one stream: both flips or none.
    image = pictures(1, 1)[0]
    counts = Counter(moves(Augmentation({"horizontal_flip": 0.5, "vertical_flip": 0.5})(copies(image, 800), 1), image))
    assert set(counts) == {(0, False), (0, True), (2, False), (2, True)}
    assert min(counts.values()) > 140  # 200 expected, standard deviation 12


def test_quarter_turns_and_flips_give_all_eight_symmetries() -> None:
    image = pictures(3, 1)[0]
    settings = {"horizontal_flip": 0.5, "vertical_flip": 0.5, "quarter_turns": True}
    counts = Counter(moves(Augmentation(settings)(copies(image, 800), 2), image))
    assert len(counts) == 8
    assert min(counts.values()) > 55  # 100 expected, standard deviation 9


def test_one_change_does_not_alter_the_draws_of_another() -> None:
    image = pictures(1, 1)[0]
    alone = moves(Augmentation({"vertical_flip": 0.5})(copies(image, 50), 7), image)
    both = moves(Augmentation({"vertical_flip": 0.5, "horizontal_flip": 1.0})(copies(image, 50), 7), image[:, ::-1])
    assert alone == both
    assert len(set(alone)) == 2


def test_crop_keeps_size_share_and_shape() -> None:
    side, n = 128, 60
    ramp = np.linspace(0, 255, side)
    x, y = np.meshgrid(ramp, ramp)
    image = np.stack([x, y, x], axis=2).astype(np.uint8)
    changed = Augmentation({"crop": 0.4})(copies(image, n), 0).astype(float)
    width = (changed[..., 0].max(axis=(1, 2)) - changed[..., 0].min(axis=(1, 2))) / 255
    height = (changed[..., 1].max(axis=(1, 2)) - changed[..., 1].min(axis=(1, 2))) / 255
    area, ratio = width * height, width / height
    assert area.min() > 0.37 and area.min() < 0.55 and area.max() > 0.85
    assert ratio.min() > 0.73 and ratio.max() < 1.37


@pytest.mark.parametrize(("border", "darkest"), [("black", 0), ("nearest", 200), ("reflect", 200)])
def test_border(border: str, darkest: int) -> None:
    changed = Augmentation({"rotate": 45.0, "border": border})(flat(200, 8), 0)
    assert changed.min() == darkest
    assert changed.max() == 200


def test_unknown_border() -> None:
    with pytest.raises(ValueError, match=r"augmentation\.border=mirror: must be one of black, nearest, reflect"):
        Augmentation({"border": "mirror", "rotate": 5.0})


def test_quarter_turns_need_square_images() -> None:
    images = np.zeros((1, 8, 12, 1), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"augmentation\.quarter_turns=true.*12 x 8"):
        Augmentation({"quarter_turns": True})(images, 0)
    assert Augmentation({"horizontal_flip": 1.0})(images, 0).shape == images.shape


@pytest.mark.parametrize("axis", [1, 2])
def test_translate(axis: int) -> None:
    images = flat(0, 40, side=50)
    images[:, 25, 25] = 255
    moved = Augmentation({"translate": 0.2})(images, 0)[..., 0]
    middle = moved.max(axis=3 - axis).argmax(axis=1) - 25
    assert 5 < np.abs(middle).max() <= 10
    assert middle.min() < 0 < middle.max()


def test_brightness_and_contrast() -> None:
    brighter = Augmentation({"brightness": 0.1})(flat(100, 200), 0)[:, 0, 0, 0].astype(float) - 100
    assert np.abs(brighter).max() <= 26
    assert brighter.min() < -20 and brighter.max() > 20
    contrast = Augmentation({"contrast": 0.2})(flat(100, 200), 0)[:, 0, 0, 0]
    assert 79 <= contrast.min() < 84 and 116 < contrast.max() <= 121


def test_gamma_is_as_often_below_as_above_one() -> None:
    values = Augmentation({"gamma": 0.5})(flat(128, 400), 0)[:, 0, 0, 0]
    darkest, brightest = 255 * (128 / 255) ** 1.5, 255 * (128 / 255) ** (1 / 1.5)
    assert darkest - 1 <= values.min() < darkest + 3
    assert brightest - 3 < values.max() <= brightest + 1
    assert 160 < (values > 128).sum() < 240  # 200 expected, standard deviation 10
    ends = flat(0, 2)
    ends[1] = 255
    assert (Augmentation({"gamma": 0.5})(ends, 0) == ends).all(), "black and white stay"


def test_saturation_and_hue_leave_grey_pixels_alone() -> None:
    grey = flat(90, 4, channels=3)
    assert (Augmentation({"saturation": 0.5, "hue": 0.2})(grey, 0) == grey).all()
    red = flat(60, 60, channels=3)
    red[..., 0] = 200
    hue = Augmentation({"hue": 0.1})(red, 0)
    turned = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[0, 0, 0] for image in hue]).astype(int)
    turned = (turned + 90) % 180 - 90  # OpenCV counts hue in steps of 2 degrees
    assert 10 < np.abs(turned).max() <= 19
    assert turned.min() < 0 < turned.max()
    saturation = Augmentation({"saturation": 0.5})(red, 0).astype(int)
    spread = saturation.max(axis=3)[:, 0, 0] - saturation.min(axis=3)[:, 0, 0]
    assert 68 <= spread.min() < 140 < spread.max() <= 212


def test_blur_is_slight_and_as_frequent_as_asked() -> None:
    board = ((np.indices((128, 128)).sum(axis=0) // 4 % 2) * 255).astype(np.uint8)[None, ..., None]
    changed = Augmentation({"blur": 0.5})(np.repeat(board, 200, axis=0), 0)
    blurred = changed[(changed != board).any(axis=(1, 2, 3))]
    assert 70 < len(blurred) < 130
    assert blurred.std(axis=(1, 2, 3)).min() > 0.45 * board.std(), "the pattern of 4 pixels is still there"


def test_noise_is_no_larger_than_asked() -> None:
    noisy = Augmentation({"noise": 0.05})(flat(128, 50, side=64), 0).astype(float)
    spread = noisy.std(axis=(1, 2, 3)) / 255
    assert spread.max() < 0.052 and spread.max() > 0.04 and spread.min() < 0.01
    assert np.abs(noisy.mean(axis=(1, 2, 3)) - 128).max() < 2


@pytest.mark.parametrize("channels", [1, 3])
def test_erased_rectangle(channels: int) -> None:
    image = pictures(channels, 1, side=64)[0]
    mean = np.rint(image.mean(axis=(0, 1)))
    changed = Augmentation({"erase": 0.5})(copies(image, 200), 0)
    erased = [one for one in changed if (one != image).any()]
    assert 70 < len(erased) < 130  # 100 expected, standard deviation 7
    shares = []
    for one in erased:
        rows, columns = np.where((one != image).any(axis=2))
        box = one[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert np.abs(box - mean).max() <= 1, "one rectangle of the image's mean"
        shares.append(box.shape[0] * box.shape[1] / 64**2)
    assert 0.015 < min(shares) < 0.05 and 0.15 < max(shares) < 0.21


def loaded(workers: int, epochs: int, *, seed: int = 0) -> list[list[torch.Tensor]]:
    """Batches of several epochs of one loader; all images are the same, so what differs is the augmentation."""
    pixels = copies(pictures(3, 1, side=16)[0], 40)
    strong = yaml.safe_load((ROOT / "conf" / "augmentation" / "strong.yaml").read_text(encoding="utf-8"))
    sampler = BatchSampler(np.arange(40), 8, seed)
    loader = DataLoader(
        CachedImages(pixels, np.zeros(40, dtype=np.int64), Augmentation(strong)),
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    found = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        found.append([batch["image"] for batch in loader])
    return found


def test_workers_and_epochs_never_repeat_a_stream() -> None:
    # The trap: albumentations by itself gives all workers and all epochs the same changes.
    with_workers = [batch for epoch in loaded(2, 2) for batch in epoch]
    images = torch.cat(with_workers)
    assert len({image.numpy().tobytes() for image in images}) == len(images) == 80
    alone = [batch for epoch in loaded(0, 2) for batch in epoch]
    assert all(torch.equal(one, other) for one, other in zip(with_workers, alone, strict=True))
    other_seed = [batch for epoch in loaded(0, 2, seed=1) for batch in epoch]
    assert not any(torch.equal(one, other) for one, other in zip(alone, other_seed, strict=True))

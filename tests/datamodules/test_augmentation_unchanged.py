"""The short cuts around albumentations change no pixel, and crops of images stored larger come out at the final size."""

from __future__ import annotations

import copy
import pickle
import random
import threading
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from datamodules import augmentation as ours
from datamodules.augmentation import Augmentation
from tests.commands import ROOT
from tests.datamodules.test_augmentation import EACH, PRESETS, copies, flat, pictures

OF_THE_LIBRARY = (ours._Affine, ours._Exposure, ours._Crop, ours._Colour, ours._Noise)
SETTINGS: dict[str, dict[str, Any]] = {name: {name: value} for name, value in EACH.items()}
SETTINGS |= {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in PRESETS if path.stem != "none"}
SETTINGS |= {f"border {border}": {"rotate": 45.0, "shear": 9.0, "border": border} for border in ours.BORDERS}
SETTINGS |= {"everything": EACH, "slight": {"rotate": 1e-9}}


def of_the_library(transform: Any) -> Any:
    """The same settings in the library's own class."""
    plain = copy.copy(transform)
    if isinstance(transform, OF_THE_LIBRARY):
        plain.__class__ = type(transform).__mro__[1]
        plain._key2func = {}  # else it calls the methods of the class it was made as
        plain._set_keys()
    return plain


def by_the_library(settings: dict[str, Any], images: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """What the library's transforms make of a batch when they are called as its documentation says."""
    chain = [(stream, of_the_library(item)) for stream, item in Augmentation(settings)._chain(images.shape[1:], None)]
    for stream, transform in chain:
        own = seed if stream == 0 else int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
        transform.set_random_state(np.random.default_rng(own), random.Random(own))
    found = []
    for image in images:
        for _, transform in chain:
            image = transform(image=image)["image"]
        found.append(image)
    return np.stack(found)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SETTINGS)
def test_every_pixel_is_the_librarys(name: str, channels: int) -> None:
    for side in (32, 75):
        images = pictures(channels, side=side)
        for seed in (0, 7, 2**32 - 1):
            assert np.array_equal(
                Augmentation(SETTINGS[name])(images, seed), by_the_library(SETTINGS[name], images, seed)
            )


def test_every_class_of_ours_is_compared() -> None:
    transforms = [item for _, item in Augmentation(EACH)._chain((32, 32, 3), None)]
    assert all(any(isinstance(item, kind) for item in transforms) for kind in OF_THE_LIBRARY)
    assert not any(isinstance(of_the_library(item), OF_THE_LIBRARY) for item in transforms)


def test_images_that_are_not_square() -> None:
    images = np.ascontiguousarray(pictures(3, side=48)[:, :31])
    settings = {name: value for name, value in EACH.items() if name != "quarter_turns"}
    assert np.array_equal(Augmentation(settings)(images, 5), by_the_library(settings, images, 5))


@pytest.mark.parametrize("channels", [1, 3])
def test_crops_of_larger_images_have_the_final_size(channels: int) -> None:
    images = pictures(channels, side=48)
    augmentation = Augmentation(EACH)
    changed = augmentation(images, 3, 32)
    assert changed.shape == (8, 32, 32, channels) and changed.dtype == np.uint8
    assert np.array_equal(changed, Augmentation(EACH)(images, 3, 32))
    assert not np.array_equal(changed, augmentation(images, 4, 32))


def test_the_part_cut_out_does_not_depend_on_the_stored_size() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 256)[None, :, None], (256, 256, 1)).astype(np.uint8)
    coarse = np.ascontiguousarray(ramp[::2, ::2])
    settings = {"crop": 0.5, "rotate": 10.0, "border": "nearest"}
    large = Augmentation(settings)(copies(ramp, 20), 1, 128).astype(int)
    small = Augmentation(settings)(copies(coarse, 20), 1).astype(int)
    assert np.abs(large - small).mean() < 2
    assert np.abs(large - np.roll(small, 1, axis=0)).mean() > 8, "another draw differs clearly"


def test_a_crop_that_shrinks_averages() -> None:
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)[None, ..., None]
    changed = Augmentation({"crop": 0.9})(board, 0, 64)
    assert changed.min() > 100 and changed.max() < 155, "a fine pattern becomes grey, not another pattern"


def test_another_size_needs_a_crop() -> None:
    with pytest.raises(ValueError, match=r"data\.margin: training images are 48 x 48 .* 32 x 32.*augmentation\.crop"):
        Augmentation({"rotate": 5.0})(flat(9, 2, side=48), 0, 32)


def test_two_threads_do_not_disturb_each_other() -> None:
    strong = yaml.safe_load((ROOT / "conf" / "augmentation" / "strong.yaml").read_text(encoding="utf-8"))
    augmentation, images = Augmentation(strong), pictures(3, side=48)
    expected = [Augmentation(strong)(images, seed) for seed in range(8)]
    found: dict[int, NDArray[np.uint8]] = {}

    def work(first: int) -> None:
        for seed in range(first, 8, 2):
            found[seed] = augmentation(images, seed)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[seed], expected[seed]) for seed in range(8))


def test_it_travels_to_loader_processes() -> None:
    augmentation, images = Augmentation(EACH), pictures(3)
    expected = augmentation(images, 2)
    assert np.array_equal(pickle.loads(pickle.dumps(augmentation))(images, 2), expected)

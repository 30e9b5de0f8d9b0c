"""Resizing by matrices gives the grey levels of OpenCV and Pillow, also inside an exported program."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.export import Dim

from datamodules.pixels import resized
from models.resizing import INTERPOLATIONS, Resize

SIZE = 20
# Same, whole multiples, odd sizes, tall, wide, enlarged in one direction and in both.
SHAPES = [
    *((20, 20), (40, 40), (60, 40), (100, 20), (21, 19), (73, 57), (300, 25), (25, 300)),
    *((61, 40), (60, 41), (12, 12), (8, 9), (12, 90), (90, 12), (20, 33), (33, 20), (19, 21), (257, 301)),
]


def images(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Noise, and a smooth picture with full black and white."""
    random = np.random.default_rng([height, width, channels])
    noise = random.integers(0, 256, size=(height, width, channels))
    rows, columns = np.mgrid[0:height, 0:width]
    wave = np.clip(127.5 + 200.0 * np.sin(rows / 7.0) * np.cos(columns / 5.0), 0, 255)
    return np.stack([noise, np.repeat(wave[..., None], channels, axis=2)]).astype(np.uint8)


def expected(pixels: NDArray[np.uint8], size: int, interpolation: str) -> NDArray[np.int64]:
    channels = pixels.shape[-1]
    flat = pixels[..., 0] if channels == 1 else pixels
    return np.stack([resized(image, size, channels, interpolation) for image in flat]).astype(np.int64)


def found(resize: torch.nn.Module, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.asarray(resize(torch.from_numpy(pixels)).permute(0, 2, 3, 1).numpy().astype(np.int64))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pillow_to_the_bit(interpolation: str, height: int, width: int, channels: int) -> None:
    pixels = images(height, width, channels)
    np.testing.assert_array_equal(found(Resize(SIZE, interpolation), pixels), expected(pixels, SIZE, interpolation))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_opencv_to_a_rounding(height: int, width: int, channels: int) -> None:
    pixels = images(height, width, channels)
    difference = np.abs(found(Resize(SIZE, "area"), pixels) - expected(pixels, SIZE, "area"))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01
    if min(height, width) < SIZE or (height % SIZE == 0 and width % SIZE == 0):
        assert difference.max() == 0


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_images_of_the_right_size_stay_as_they_are(interpolation: str) -> None:
    pixels = images(SIZE, SIZE, 3)
    np.testing.assert_array_equal(found(Resize(SIZE, interpolation), pixels), pixels)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_program_chooses_by_the_shape_that_it_is_given(interpolation: str) -> None:
    sides = {0: Dim("n", min=1), 1: Dim("height", min=1), 2: Dim("width", min=1)}
    example = torch.zeros((3, SIZE + 5, SIZE + 9, 1), dtype=torch.uint8)
    program = torch.export.export(Resize(SIZE, interpolation), (example,), dynamic_shapes={"images": sides}).module()
    for height, width in ((20, 20), (40, 40), (12, 90), (300, 25), (73, 57)):
        pixels = images(height, width, 1)
        for batch in (pixels, pixels[:1]):
            assert np.abs(found(program, batch) - expected(batch, SIZE, interpolation)).max() <= 1
    assert found(program, images(20, 20, 1)).shape == (2, 20, 20, 1)


def test_an_unknown_interpolation_is_named() -> None:
    with pytest.raises(ValueError, match=r"model\.interpolation=lanczos: must be one of area, bilinear, bicubic"):
        Resize(SIZE, "lanczos")

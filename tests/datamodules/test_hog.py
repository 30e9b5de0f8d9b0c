"""HOG: orientations where they belong, whatever the size, brightness and colour of the image."""

from __future__ import annotations

import numpy as np
import pytest

from datamodules.hog import LENGTH, SIDE, hog_features

EVERY = np.arange(1)


def stripes(angle: float, side: int = SIDE, channels: int = 1, amplitude: float = 100.0) -> np.ndarray:
    """A wave whose gradient points along ``angle`` (degrees), shape (1, side, side, channels)."""
    y, x = np.mgrid[0:side, 0:side] * (SIDE / side)
    wave = np.sin(2 * np.pi * (x * np.cos(np.deg2rad(angle)) + y * np.sin(np.deg2rad(angle))) / 32)
    grey = np.round(127 + amplitude * wave).astype(np.uint8)
    return np.repeat(grey[None, :, :, None], channels, axis=3)


@pytest.mark.parametrize("angle", [10, 30, 50, 70, 90, 110, 130, 150, 170])
def test_the_strongest_orientation_is_that_of_the_gradient(angle: int) -> None:
    found = hog_features(stripes(angle), EVERY).reshape(-1, 9, 2, 2).sum(axis=(0, 2, 3))
    assert found.argmax() == (angle - 10) // 20
    assert hog_features(stripes(angle + 180), EVERY) == pytest.approx(hog_features(stripes(angle), EVERY), abs=0.05)


def test_shape_range_and_order() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 40, 56, 3), dtype=np.uint8)
    rows = np.array([3, 0, 4])
    counted: list[int] = []
    found = hog_features(images, rows, counted.append)
    assert found.shape == (3, LENGTH) == (3, 1764) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1 and sum(counted) == 3
    assert np.array_equal(found[1], hog_features(images, rows[1:2])[0])
    blocks = found.reshape(3, -1, 36)
    assert np.linalg.norm(blocks, axis=2) == pytest.approx(1.0, abs=0.01)


def test_contrast_size_and_grey_in_three_channels_change_little() -> None:
    plain = hog_features(stripes(30), EVERY)
    for other in (stripes(30, amplitude=50), stripes(30, side=256), stripes(30, channels=3)):
        assert np.abs(hog_features(other, EVERY) - plain).mean() < 0.01 < np.abs(plain).mean() / 5
    assert np.abs(hog_features(stripes(90), EVERY) - plain).mean() > 0.05


def test_a_flat_image_and_no_image() -> None:
    flat = np.full((1, 64, 64, 1), 90, dtype=np.uint8)
    assert not hog_features(flat, EVERY).any()
    assert hog_features(flat, EVERY[:0]).shape == (0, LENGTH)

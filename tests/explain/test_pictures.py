"""Heat maps as pictures read without colour."""

from __future__ import annotations

import numpy as np
import pytest

from explain.pictures import colour_bar, coloured, overlay


def test_an_overlay_reads_without_colour() -> None:
    heat = np.zeros((32, 32), dtype=np.float32)
    heat[8:16, 8:16] = 1.0
    image = np.full((32, 32, 1), 90, dtype=np.uint8)
    drawn = overlay(image, heat)
    assert drawn.shape == (32, 32, 3) and drawn.dtype == np.uint8
    grey = drawn.astype(float) @ [0.299, 0.587, 0.114]
    assert grey[12, 12] > grey[25, 25] + 60  # hot is bright
    assert (drawn[8, 8] == 255).all()  # the line at half the maximum
    assert (overlay(image, np.zeros((32, 32), dtype=np.float32)) == 90).all()
    colour = np.zeros((32, 32, 3), dtype=np.uint8)
    assert overlay(colour, heat).shape == (32, 32, 3)
    with pytest.raises(ValueError, match="an overlay needs"):
        overlay(image, heat[:16])


def test_brightness_rises_with_the_map() -> None:
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    drawn = overlay(np.full((64, 64, 1), 60, dtype=np.uint8), ramp).astype(float) @ [0.299, 0.587, 0.114]
    outside = np.delete(drawn[32], range(29, 36))  # without the line itself
    assert outside[0] < outside[20] < outside[-20] < outside[-1]


def brightness(
    picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(picture.astype(float) @ [0.299, 0.587, 0.114])


def test_a_map_alone_and_its_bar_get_brighter_with_every_step() -> None:
    ramp = np.linspace(0.0, 1.0, 11, dtype=np.float32)
    assert (np.diff(brightness(coloured(ramp))) > 5).all()
    bar = colour_bar(64, 5)
    assert bar.shape == (5, 64, 3) and bar.dtype == np.uint8
    assert (bar == bar[:1]).all() and (np.diff(brightness(bar[0])) > 0).all()
    assert brightness(bar[0])[0] < 5 and brightness(bar[0])[-1] > 230
    np.testing.assert_array_equal(bar[0], coloured(np.linspace(0.0, 1.0, 64, dtype=np.float32)))

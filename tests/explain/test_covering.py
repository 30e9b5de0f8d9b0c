"""Covering tells a map that points at what counts from one that does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explain.covering import covering


class Corner(nn.Module):
    """The answer is the mean of the upper left quarter, plus what is given beside the image."""

    def forward(self, images: Tensor, beside: Tensor | None = None) -> Tensor:
        side = images.shape[2] // 2
        answer = images[:, :, :side, :side].mean(dim=(1, 2, 3))
        return answer if beside is None else answer + beside[:, 0]


def image_and_map() -> tuple[Tensor, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    image, heat = torch.zeros(1, 1, 16, 16), np.full((1, 16, 16), 0.1, dtype=np.float32)
    image[0, 0, :8, :8] = 1.0
    heat[0, :8, :8], heat[0, 8:, 8:] = 1.0, 0.0
    return image, heat


def test_the_right_map_loses_at_its_brightest_quarter() -> None:
    image, heat = image_and_map()
    assert covering(Corner(), image, heat) == [
        pytest.approx((0.75, 0.0, 0.1875))
    ]  # the mean of the image is 0.25, and the square covers a quarter of the corner
    assert covering(Corner(), image, 1 - heat) == [pytest.approx((0.0, 0.75, 0.1875))]


def test_batches_what_goes_in_beside_and_maps_without_a_place() -> None:
    image, heat = image_and_map()
    images, maps = image.repeat(18, 1, 1, 1), heat.repeat(18, axis=0)
    maps[17] = 0.0
    beside = [torch.arange(18.0)[:, None]]
    found = covering(Corner(), images, maps, beside)
    assert found[:17] == [pytest.approx((0.75, 0.0, 0.1875))] * 17
    assert found[17] is None
    assert bool((images == image).all())


def test_the_target_may_be_a_function() -> None:
    image, heat = image_and_map()
    assert covering(Corner(), image, heat, outputs=lambda answer: -answer) == [pytest.approx((-0.75, 0.0, -0.1875))]

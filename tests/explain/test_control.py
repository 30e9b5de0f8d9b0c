"""The sanity checks of heat maps find out maps that were not learnt, and maps that a square in the middle could replace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explain.control import (
    agreement,
    centre_square,
    control,
    in_centre,
    in_centre_untrained,
    marked,
    randomised,
    untrained,
)
from explain.grad_cam import heat_maps
from tests.explain.networks import Seeker, images_of, network_of


def test_the_control_has_random_weights_of_the_same_size() -> None:
    network = network_of("test_resnet")
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    drawn, again = randomised(network, seed=1), randomised(network, seed=1)
    other = randomised(network, seed=2)
    for (name, one), same, different in zip(
        drawn.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(one, same)
        if one.ndim == 1:
            assert torch.equal(one, state[name])
        elif one.numel() > 500:
            assert not torch.equal(one, different)
            sizes = [float(values.detach().square().mean().sqrt()) for values in (one, state[name])]
            assert sizes[0] == pytest.approx(sizes[1], rel=0.15)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_agreement_is_a_correlation() -> None:
    maps = heat_maps(Seeker(), torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert agreement(maps, maps) == pytest.approx([1.0, 1.0])
    assert agreement(maps, 1 - maps) == pytest.approx([-1.0, -1.0])
    assert agreement(maps, maps[::-1]) == pytest.approx([np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1]] * 2)


def test_the_control_finds_out_a_map_that_was_not_learnt() -> None:
    class Edges(nn.Module):
        """One map whose weight says no more than a sign: every draw of it looks at the same places."""

        def __init__(self) -> None:
            super().__init__()
            self.where = nn.MaxPool2d(4)
            self.weight = nn.Parameter(torch.tensor([[1.0], [2.0]]))

        def forward(self, images: Tensor) -> Tensor:
            answer: Tensor = self.where(images).mean(dim=(2, 3)) * self.weight[0]
            return answer

    images = torch.zeros(2, 1, 32, 32)
    images[0, 0, 4:8, 20:24], images[1, 0, 24:28, 0:8] = 1.0, 1.0
    maps = heat_maps(Edges(), images)
    assert control(maps, untrained(Edges(), images)) == pytest.approx([1.0, 1.0])
    learnt = network_of("test_resnet")
    found = control(heat_maps(learnt, images_of()), untrained(learnt, images_of()))
    assert all(value is not None and abs(value) < 0.9 for value in found)
    assert control(np.zeros_like(maps), untrained(Edges(), images)) == [None, None]


def test_the_square_in_the_middle_covers_a_quarter() -> None:
    square = centre_square(16, 24)
    assert square.mean() == 0.25
    assert square[4:12, 6:18].all() and not square[:4].any() and not square[:, 18:].any()
    assert centre_square(15, 15).mean() == pytest.approx(0.25, abs=0.05)


def test_how_much_of_what_a_map_marks_lies_in_the_square() -> None:
    square = centre_square(16, 16).astype(np.float32)
    corner = np.zeros((16, 16), dtype=np.float32)
    corner[:8, :8] = 1.0
    even = np.ones((16, 16), dtype=np.float32)
    maps = np.stack([square, 1 - square, corner, even])
    assert marked(maps).mean(axis=(1, 2)) == pytest.approx(0.25)
    assert in_centre(maps) == [1.0, 0.0, 0.25, None]
    noise = np.random.default_rng(0).random((20, 32, 32)).astype(np.float32)
    values = [value for value in in_centre(noise) if value is not None]
    assert np.mean(values) == pytest.approx(0.25, abs=0.02)
    assert in_centre_untrained(np.stack([maps, maps[[2, 2, 2, 3]]])) == [0.625, 0.125, 0.25, None]


def test_untrained_networks_are_asked_in_the_same_way() -> None:
    network, images = network_of("test_resnet"), images_of()
    first = untrained(network, images, draws=2)
    assert first.shape == (2, 2, 64, 64)
    np.testing.assert_array_equal(first, untrained(network, images, draws=2))
    assert not np.array_equal(first[0], first[1])
    early = untrained(network, images, layer="trunk.layer2", draws=1)
    assert not np.allclose(early[0], first[0], atol=0.05)

"""The views of test-time augmentation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.views import VIEWS, views

SQUARE = torch.arange(9, dtype=torch.float32).reshape(1, 1, 3, 3)


def corners(image: Tensor) -> tuple[float, ...]:
    """Corners from the upper left clockwise: they tell the eight symmetries apart."""
    return tuple(float(image[0, 0, row, column]) for row, column in ((0, 0), (0, 2), (2, 2), (2, 0)))


def test_dihedral_views_are_the_eight_symmetries_of_the_square() -> None:
    found = {corners(view) for view in views(SQUARE, "dihedral")}
    turns = [(0, 2, 8, 6), (2, 8, 6, 0), (8, 6, 0, 2), (6, 0, 2, 8)]
    assert found == {*turns, *(turn[::-1] for turn in turns)}
    assert all(view[0, 0, 1, 1] == 4 for view in views(SQUARE, "dihedral")), "the centre stays"


def test_flip_is_left_right_and_the_plain_image_comes_first() -> None:
    plain, flipped = views(SQUARE, "flip")
    assert torch.equal(plain, SQUARE)
    assert flipped[0, 0, 0].tolist() == [2, 1, 0]
    assert [torch.equal(view, SQUARE) for view in views(SQUARE, "none")] == [True]


@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_number_shape_type_and_memory_are_kept(kind: str, memory: torch.memory_format) -> None:
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8).contiguous(memory_format=memory)
    found = list(views(images, kind))
    assert len(found) == VIEWS[kind]
    for view in found:
        assert (view.shape, view.dtype) == (images.shape, images.dtype)
        assert view.is_contiguous(memory_format=memory)


def test_a_network_that_ignores_orientation_gives_one_probability_for_all_views() -> None:
    torch.manual_seed(0)
    blind = nn.Sequential(
        nn.Conv2d(3, 4, kernel_size=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)
    )
    seeing = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 1))
    images = torch.rand(2, 3, 8, 8)
    with torch.inference_mode():
        for network, alike in ((blind, True), (seeing, False)):
            scores = torch.stack([network(view).sigmoid() for view in views(images, "dihedral")])
            assert torch.allclose(scores, scores[:1].expand_as(scores), atol=1e-6) is alike


def test_what_cannot_be_turned_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tta=rotate: must be one of none, flip, dihedral"):
        views(SQUARE, "rotate")
    with pytest.raises(ValueError, match="square ones, not 3 x 4"):
        views(torch.zeros(1, 1, 3, 4), "dihedral")
    assert len(list(views(torch.zeros(1, 1, 3, 4), "flip"))) == 2

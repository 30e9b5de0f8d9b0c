"""The right layer of each family, and how its result lies over the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explain.grad_cam import METHODS, heat_maps
from explain.layers import Grid, NoMapsError, default_layer, grid_of, named_layer, prefix_tokens
from tests.explain.networks import images_of, network_of

FAMILIES = {
    "simple_cnn": "trunk.5",
    "resnet18": "trunk.layer4",
    "mobilenetv2_100": "trunk.bn2",
    "vgg11": "trunk.pre_logits",  # our trunk drops the dense layers, so it passes the last pooled maps on
    "convnext_atto": "trunk.norm_pre",
    "vit_tiny_patch16_224": "trunk.blocks.11.norm1",  # answers from its class token
    "deit_tiny_distilled_patch16_224": "trunk.blocks.11.norm1",  # two tokens before the patches
    "vit_tiny_r_s16_p8_224": "trunk.blocks.11.norm1",
    "swin_tiny_patch4_window7_224": "trunk.norm",  # channels last
    "mixer_s32_224": "trunk.norm",  # tokens that are averaged
}
FIXED = {"mixer_s32_224": 224}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_places_that_reach_the_answer(name: str) -> None:
    side = FIXED.get(name, 64)
    network, images = network_of(name, image_size=side).eval(), images_of(1, side=side)
    layer = default_layer(network, images)
    assert layer == FAMILIES[name]
    # Which way fresh weights lean is chance, so what speaks for or against is asked for.
    for method in METHODS:
        heat = heat_maps(network, images, method=method, layer=layer, either_way=True)
        assert heat.shape == (1, side, side) and heat.max() == 1.0 and heat.min() >= 0.0
        assert heat.std() > 0.01


class TokenSeeker(nn.Module):
    """A transformer by hand: patches of 8 x 8, a class token before them, one attention that looks at the brightest patch."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 2, kernel_size=8, stride=8, bias=False)
        self.tokens = nn.Identity()
        self.out = nn.Identity()
        with torch.no_grad():
            self.patches.weight[0], self.patches.weight[1] = 1 / 64, -1 / 64

    def forward(self, images: Tensor) -> Tensor:
        rows = self.patches(images).flatten(2).transpose(1, 2)
        rows = self.tokens(torch.cat([rows.new_zeros(len(rows), 1, 2), rows], dim=1))
        weights = (4 * rows[:, :, 0]).softmax(dim=1)
        first = torch.einsum("nt,ntc->nc", weights, rows)[:, None]
        answer: Tensor = self.out(torch.cat([first, rows[:, 1:]], dim=1))[:, 0, :1]
        return answer


@pytest.mark.parametrize("size", [(64, 64), (64, 40)])
@pytest.mark.parametrize("method", METHODS)
def test_tokens_lie_where_their_patches_do(size: tuple[int, int], method: str) -> None:
    images = torch.full((2, 1, *size), 0.05)
    images[0, 0, 8:16, 24:32] = 1.0
    images[1, 0, 48:56, 0:8] = 1.0
    network = TokenSeeker()
    assert default_layer(network, images) == "tokens"  # after it only the class token reaches the answer
    for heat, (row, column) in zip(heat_maps(network, images, method=method), ((12, 28), (52, 4)), strict=True):
        assert heat[row, column] > 0.85  # between four pixels
        assert heat[row - 4 : row + 4, column - 4 if column > 4 else 0 : column + 4].mean() > 4 * heat.mean()


def test_a_layer_after_the_last_attention_is_refused_with_advice() -> None:
    with pytest.raises(NoMapsError, match="layer out: of its tokens only the class token reaches the answer"):
        heat_maps(TokenSeeker(), torch.rand(1, 1, 64, 64), layer="out")
    network = network_of("vit_tiny_patch16_224")
    with pytest.raises(NoMapsError, match=r"trunk.norm: .*normalisation before the last attention"):
        heat_maps(network, images_of(1), layer="trunk.norm")
    earlier = heat_maps(network, images_of(1), layer="trunk.blocks.5", either_way=True)
    assert earlier.max() == 1.0


@pytest.mark.parametrize(
    ("shape", "prefixes", "expected"),
    [
        ((2, 5, 7, 7), (), Grid("channels_first", 7, 7)),
        ((2, 32, 8, 7), (), Grid("channels_first", 8, 7)),  # a padding
        ((2, 7, 7, 96), (), Grid("channels_last", 7, 7)),
        ((2, 49, 8), (), Grid("tokens", 7, 7)),
        ((2, 50, 8), (), Grid("tokens", 7, 7, 1)),
        ((2, 54, 8), (5,), Grid("tokens", 7, 7, 5)),
        ((2, 49, 8), (1,), Grid("tokens", 7, 7)),
        ((2, 52, 8), (1,), None),
        ((2, 5, 1, 1), (), None),
        ((2, 1, 1, 5), (), None),
        ((2, 1, 8), (), None),
        ((2, 5), (), None),
        ((8, 49, 8), (), None),  # windows: not one an image
    ],
)
def test_the_grid_of_a_result(shape: tuple[int, ...], prefixes: tuple[int, ...], expected: Grid | None) -> None:
    assert grid_of(torch.zeros(shape), (2, 3, 56, 56), prefixes) == expected


def test_grids_keep_the_proportions_of_the_image() -> None:
    assert grid_of(torch.zeros(1, 36, 4), (1, 3, 144, 64)) == Grid("tokens", 9, 4)
    assert grid_of(torch.zeros(1, 37, 4), (1, 3, 64, 144)) == Grid("tokens", 4, 9, 1)
    assert grid_of([torch.zeros(1, 36, 4)], (1, 3, 64, 64)) is None


def test_maps_of_each_order_are_the_same_places() -> None:
    values = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    last = values.permute(0, 2, 3, 1)
    tokens = torch.cat([torch.full((2, 2, 3), -1.0), last.reshape(2, 20, 3)], dim=1)
    for grid, given in (
        (Grid("channels_first", 4, 5), values),
        (Grid("channels_last", 4, 5), last),
        (Grid("tokens", 4, 5, 2), tokens),
    ):
        assert torch.equal(grid.maps(given), values)


def test_a_silent_network_still_has_a_layer() -> None:
    network, images = network_of("simple_cnn"), images_of(1)
    for parameter in named_layer(network, "head.hidden").parameters():
        nn.init.constant_(parameter, -1.0)  # every dense unit is dead
    assert default_layer(network, images.abs()) == "trunk.5"
    assert not heat_maps(network, images.abs()).any()


def test_a_network_without_places_is_refused_in_words() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 1))
    with pytest.raises(NoMapsError, match=r"Sequential has no layer .* evaluation.heat_maps=false"):
        default_layer(flat, images_of(1))


def test_looking_for_the_layer_leaves_nothing_behind() -> None:
    network, images = network_of("mobilenetv2_100"), images_of()
    network.train()
    network.requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    with torch.inference_mode():
        assert default_layer(network, images) == "trunk.bn2"
    assert network.training and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_layer_by_name_and_a_wrong_name() -> None:
    network = network_of("resnet18")
    assert named_layer(network, "trunk.layer3") is dict(network.named_modules())["trunk.layer3"]
    coarse = heat_maps(network, images_of(), either_way=True)
    finer = heat_maps(network, images_of(), layer="trunk.layer3", either_way=True)
    assert not np.allclose(coarse, finer, atol=0.1)
    with pytest.raises(ValueError, match=r"layer=layer3: .* nearest: trunk.layer3"):
        named_layer(network, "layer3")
    with pytest.raises(ValueError, match=r"nearest: .*trunk.layer4"):
        named_layer(network, "trunk.layr4")
    with pytest.raises(ValueError, match=r"layer=zzz: .* there are: trunk, trunk.conv1"):
        named_layer(network, "zzz")


def test_prefix_tokens_are_those_that_the_network_names() -> None:
    assert prefix_tokens(network_of("deit_tiny_distilled_patch16_224")) == (2,)
    assert prefix_tokens(network_of("resnet18")) == ()

"""Grad-CAM: where the evidence is, by the formula, on every kind of network; and nothing is left behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from explain.grad_cam import NoMapsError, agreement, control, grad_cam, overlay, randomised, target_layer
from models.build import build_network

SETTINGS: dict[str, Any] = {"image_size": 64, "channels": 3, "filters": [4, 8], "hidden": [8], "dropout": 0.5}


class Seeker(nn.Module):
    """Built by hand: channel 0 sees bright pixels, channel 1 dark ones; the answer is the mean of the first less the second."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 2, kernel_size=8, stride=8, bias=False)
        self.head = nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            self.maps.weight[0], self.maps.weight[1] = 1 / 64, -1 / 64
            self.head.weight.copy_(torch.tensor([[1.0, -1.0]]))

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.head(functional.relu(self.maps(images), inplace=True).mean(dim=(2, 3)))
        return answer


def network_of(name: str, outputs: int = 1, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_network({**SETTINGS, "name": name, **settings}, outputs)


def images_of(count: int = 2, channels: int = 3, side: int = 64) -> Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def test_the_map_peaks_where_the_evidence_is() -> None:
    images = torch.zeros(2, 1, 64, 64)
    images[0, 0, 8:16, 40:48] = 1.0  # bright: speaks for
    images[1, 0, 8:16, 40:48] = -1.0  # dark: speaks against, and nothing speaks for
    images[1, 0, 48:56, 0:8] = 0.5
    maps = grad_cam(Seeker(), images)
    assert maps.shape == (2, 64, 64) and maps.dtype == np.float32
    for heat, (row, column) in zip(maps, ((12, 44), (52, 4)), strict=True):
        peak = np.unravel_index(int(heat.argmax()), heat.shape)
        assert abs(int(peak[0]) - row) <= 4 and abs(int(peak[1]) - column) <= 4
        assert heat.max() == 1.0
    assert maps[1, 12, 44] == 0.0
    # For the opposite answer the dark place is the evidence.
    opposite = grad_cam(Seeker(), images, outputs=lambda answer: -answer[:, 0])
    peak = np.unravel_index(int(opposite[1].argmax()), opposite[1].shape)
    assert abs(int(peak[0]) - 12) <= 4 and abs(int(peak[1]) - 44) <= 4


@pytest.mark.parametrize("positive", [2, [0, 2]])
def test_it_is_the_formula(positive: int | list[int]) -> None:
    network, images = network_of("test_resnet", 3).eval(), images_of()
    layer = target_layer(network, images)
    held: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, given, result: held.append(result))
    logits = network(images)
    handle.remove()
    together = logits.softmax(dim=1)[:, positive].reshape(2, -1).sum(dim=1).logit()
    target = logits[:, positive] if isinstance(positive, int) else together
    (gradient,) = torch.autograd.grad(target.sum(), held)
    heat = torch.einsum("nc,nchw->nhw", gradient.mean(dim=(2, 3)), held[0]).clamp_min(0)
    heat = functional.interpolate(heat[:, None], size=(64, 64), mode="bilinear")[:, 0].detach()
    highest = heat.amax(dim=(1, 2), keepdim=True)
    expected = torch.where(highest > 0, heat / highest, heat)
    assert expected.max() == 1.0
    np.testing.assert_allclose(grad_cam(network, images, outputs=positive), expected.numpy(), atol=2e-5)


@pytest.mark.parametrize("name", ["simple_cnn", "mobilenetv2_100", "resnet18", "test_convnext"])
def test_the_last_maps_of_each_family(name: str) -> None:
    network = network_of(name)
    layer = target_layer(network, images_of(1))
    found = dict((module, key) for key, module in network.named_modules())[layer]
    expected = {"simple_cnn": "trunk.5", "mobilenetv2_100": "trunk.bn2", "resnet18": "trunk.layer4"}
    assert found == expected.get(name, "trunk.norm_pre")
    maps = grad_cam(network, images_of())
    assert np.isfinite(maps).all() and maps.min() >= 0 and maps.max() <= 1


@pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224"])
def test_transformers_are_refused_in_words(name: str) -> None:
    small: dict[str, Any] = {"img_size": 32, "window_size": 2, "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1)}
    network = timm.create_model(name, num_classes=1, **(small if name.startswith("swin") else {}))
    side = 32 if name.startswith("swin") else 160
    with pytest.raises(NoMapsError, match=r"no convolutional map.*evaluation.heat_maps=false"):
        grad_cam(network, images_of(1, side=side))


def test_metadata_and_several_batches() -> None:
    network, images = network_of("test_resnet", metadata_width=2), images_of(18, side=32)
    further = [torch.randn(18, 2, generator=torch.Generator().manual_seed(2))]
    maps = grad_cam(network, images, further)
    alone = [grad_cam(network, images[row : row + 1], [further[0][row : row + 1]])[0] for row in (0, 15, 16, 17)]
    np.testing.assert_allclose(maps[[0, 15, 16, 17]], np.stack(alone), atol=1e-4)
    assert grad_cam(network, images[:0], [further[0][:0]]).shape == (0, 32, 32)


def test_nothing_is_left_behind() -> None:
    network, images = network_of("mobilenetv2_100"), images_of()
    network.train()
    for number, module in enumerate(network.modules()):
        module.training = number % 3 != 0  # as where some blocks rest
    for number, parameter in enumerate(network.parameters()):
        parameter.requires_grad_(number % 2 == 0)
    first = next(network.parameters())
    first.grad = torch.full_like(first, 7.0)
    modes = [module.training for module in network.modules()]
    flags = [parameter.requires_grad for parameter in network.parameters()]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.manual_seed(3)
    random = torch.get_rng_state()
    before = images.clone()
    with torch.inference_mode():
        grad_cam(network, images)
    with torch.no_grad():
        grad_cam(randomised(network), images)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(images, before) and not images.requires_grad
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == flags
    assert bool((first.grad == 7.0).all())
    assert [parameter.grad is None for parameter in network.parameters()].count(False) == 1
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_frozen_weights_give_the_same_map() -> None:
    network, images = network_of("test_resnet"), images_of()
    free = grad_cam(network, images)
    network.requires_grad_(False)
    np.testing.assert_array_equal(grad_cam(network, images), free)


def test_a_compiled_network_gives_the_same_map_and_stays_compiled() -> None:
    network, images = Seeker(), images_of(2, 1)
    plain = grad_cam(network, images)
    network.compile(backend="eager")
    with torch.no_grad():
        network(images)  # compiled code, which knows nothing of the hooks that come later
    call = network._compiled_call_impl
    np.testing.assert_array_equal(grad_cam(network, images), plain)
    assert network._compiled_call_impl is call is not None
    assert len(control(network, images, plain)) == 2


def test_it_also_works_after_an_error_and_names_a_wrong_layer() -> None:
    network, images = network_of("test_resnet"), images_of()
    network.train()
    last = list(network.modules())[-1]
    with pytest.raises(NoMapsError, match="Linear gives no maps"):
        grad_cam(network, images, layer=last)
    with pytest.raises(NoMapsError, match="did not take part"):
        grad_cam(network, images, layer=nn.Conv2d(1, 1, 1))
    with pytest.raises(ValueError, match="not all"):
        grad_cam(network_of("test_resnet", 3), images, outputs=[0, 1, 2])
    assert network.training and not any(module._forward_hooks for module in network.modules())


def test_constant_maps_stay_finite() -> None:
    network = Seeker()
    nothing = grad_cam(network, torch.zeros(1, 1, 64, 64))
    assert not nothing.any()
    even = grad_cam(network, torch.ones(1, 1, 64, 64))
    np.testing.assert_allclose(even, 1.0, rtol=1e-6)
    assert agreement(even, even) == [None]
    tiny = grad_cam(network, torch.full((1, 1, 64, 64), 1e-30))
    assert np.isfinite(tiny).all()


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
    maps = grad_cam(Seeker(), torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)))
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
    maps = grad_cam(Edges(), images)
    assert control(Edges(), images, maps) == pytest.approx([1.0, 1.0])
    learnt = network_of("test_resnet")
    found = control(learnt, images_of(), grad_cam(learnt, images_of()))
    assert all(value is not None and abs(value) < 0.9 for value in found)
    assert control(Edges(), images, np.zeros_like(maps)) == [None, None]


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

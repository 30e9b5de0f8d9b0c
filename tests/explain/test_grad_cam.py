"""Grad-CAM: where the evidence is, by the formula, on every kind of network; and nothing is left behind."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explain.control import agreement, randomised
from explain.grad_cam import METHODS, grad_cam, grad_cam_pp, heat_maps, hires_cam
from explain.layers import NoMapsError, default_layer, named_layer
from tests.explain.networks import Seeker, images_of, network_of


def test_the_map_peaks_where_the_evidence_is() -> None:
    images = torch.zeros(2, 1, 64, 64)
    images[0, 0, 8:16, 40:48] = 1.0  # bright: speaks for
    images[1, 0, 8:16, 40:48] = -1.0  # dark: speaks against, and nothing speaks for
    images[1, 0, 48:56, 0:8] = 0.5
    maps = heat_maps(Seeker(), images)
    assert maps.shape == (2, 64, 64) and maps.dtype == np.float32
    for heat, (row, column) in zip(maps, ((12, 44), (52, 4)), strict=True):
        peak = np.unravel_index(int(heat.argmax()), heat.shape)
        assert abs(int(peak[0]) - row) <= 4 and abs(int(peak[1]) - column) <= 4
        assert heat.max() == 1.0
    assert maps[1, 12, 44] == 0.0
    # For the opposite answer the dark place is the evidence.
    opposite = heat_maps(Seeker(), images, outputs=lambda answer: -answer[:, 0])
    peak = np.unravel_index(int(opposite[1].argmax()), opposite[1].shape)
    assert abs(int(peak[0]) - 12) <= 4 and abs(int(peak[1]) - 44) <= 4


@pytest.mark.parametrize("positive", [2, [0, 2]])
def test_it_is_the_formula(positive: int | list[int]) -> None:
    network, images = network_of("test_resnet", 3).eval(), images_of()
    layer = named_layer(network, default_layer(network, images))
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
    np.testing.assert_allclose(heat_maps(network, images, outputs=positive), expected.numpy(), atol=2e-5)


def test_metadata_and_several_batches() -> None:
    network, images = network_of("test_resnet", metadata_width=2), images_of(18, side=32)
    further = [torch.randn(18, 2, generator=torch.Generator().manual_seed(2))]
    maps = heat_maps(network, images, further)
    alone = [heat_maps(network, images[row : row + 1], [further[0][row : row + 1]])[0] for row in (0, 15, 16, 17)]
    np.testing.assert_allclose(maps[[0, 15, 16, 17]], np.stack(alone), atol=1e-4)
    assert heat_maps(network, images[:0], [further[0][:0]]).shape == (0, 32, 32)


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
        heat_maps(network, images)
    with torch.no_grad():
        heat_maps(randomised(network), images)
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
    free = heat_maps(network, images)
    network.requires_grad_(False)
    np.testing.assert_array_equal(heat_maps(network, images), free)


def test_a_compiled_network_gives_the_same_map_and_stays_compiled() -> None:
    network, images = Seeker(), images_of(2, 1)
    plain = heat_maps(network, images)
    network.compile(backend="eager")
    with torch.no_grad():
        network(images)  # compiled code, which knows nothing of the hooks that come later
    call = network._compiled_call_impl
    np.testing.assert_array_equal(heat_maps(network, images), plain)
    assert network._compiled_call_impl is call is not None


def test_it_also_works_after_an_error_and_names_a_wrong_layer() -> None:
    network, images = network_of("test_resnet"), images_of()
    network.train()
    last = list(network.modules())[-1]
    with pytest.raises(NoMapsError, match="layer Linear: its result does not lie over the image"):
        heat_maps(network, images, layer=last)
    with pytest.raises(NoMapsError, match="did not take part"):
        heat_maps(network, images, layer=nn.Conv2d(1, 1, 1))
    with pytest.raises(ValueError, match="not all"):
        heat_maps(network_of("test_resnet", 3), images, outputs=[0, 1, 2])
    with pytest.raises(
        ValueError, match=r"heat_maps.method=cam: there is no such method; choose from grad_cam, grad_cam_pp"
    ):
        heat_maps(network, images, method="cam")
    assert network.training and not any(module._forward_hooks for module in network.modules())


def test_constant_maps_stay_finite() -> None:
    network = Seeker()
    nothing = heat_maps(network, torch.zeros(1, 1, 64, 64))
    assert not nothing.any()
    even = heat_maps(network, torch.ones(1, 1, 64, 64))
    np.testing.assert_allclose(even, 1.0, rtol=1e-6)
    assert agreement(even, even) == [None]
    tiny = heat_maps(network, torch.full((1, 1, 64, 64), 1e-30))
    assert np.isfinite(tiny).all()


class Pooled(nn.Module):
    """Maps, their mean over space, a linear layer: of such a network class activation maps are exact."""

    def __init__(self, flat: bool = False) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.maps = nn.Sequential(nn.Conv2d(3, 6, kernel_size=5, stride=4), nn.ReLU())
        self.flat = flat
        self.head = nn.Linear(6 * 49 if flat else 6, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.maps(images)
        answer: Tensor = self.head(maps.flatten(1) if self.flat else maps.mean(dim=(2, 3)))
        return answer


def maps_and_gradient(network: Pooled, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    maps = network.maps(images).detach().requires_grad_()
    answer = network.head(maps.flatten(1) if network.flat else maps.mean(dim=(2, 3)))
    (gradient,) = torch.autograd.grad(answer.sum(), maps)
    return maps.detach(), gradient, answer.detach()[:, 0]


def test_of_pooled_maps_grad_cam_and_hires_cam_are_both_the_class_activation_map() -> None:
    network, images = Pooled(), images_of(3, side=32)
    maps, gradient, answer = maps_and_gradient(network, images)
    cam = torch.einsum("k,nkhw->nhw", network.head.weight[0], maps).detach() / maps[0, 0].numel()  # Zhou et al. 2016
    torch.testing.assert_close(grad_cam(maps, gradient), cam)
    torch.testing.assert_close(hires_cam(maps, gradient), cam)
    torch.testing.assert_close(cam.sum(dim=(1, 2)), answer - network.head.bias.detach())
    found = [heat_maps(network, images, method=method) for method in ("grad_cam", "hires_cam")]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_of_flattened_maps_only_hires_cam_says_what_each_place_adds() -> None:
    network, images = Pooled(flat=True), images_of(3, side=32)
    maps, gradient, answer = maps_and_gradient(network, images)
    constant = network.head.bias.detach()
    torch.testing.assert_close(hires_cam(maps, gradient).sum(dim=(1, 2)), answer - constant)
    # Take away one place: the answer falls by what the map says of it.
    without = maps.clone()
    without[:, :, 2, 3] = 0.0
    lost = answer - network.head(without.flatten(1))[:, 0].detach()
    torch.testing.assert_close(hires_cam(maps, gradient)[:, 2, 3], lost)
    assert not torch.allclose(grad_cam(maps, gradient).sum(dim=(1, 2)), answer - constant, rtol=0.05)


def test_grad_cam_pp_is_the_formula_of_its_paper() -> None:
    maps = torch.tensor([[[[0.0, 2.0], [1.0, 0.0]], [[3.0, 0.0], [0.0, 1.0]]]], dtype=torch.float64)
    gradient = torch.tensor([[[[0.5, 1.0], [-1.0, 0.0]], [[0.25, -2.0], [0.0, 0.5]]]], dtype=torch.float64)
    expected = np.zeros((2, 2))
    for k in range(2):
        weight = 0.0
        for i in range(2):
            for j in range(2):
                g = float(gradient[0, k, i, j])
                if g > 0:  # relu of the gradient; 0 / 0 counts as 0
                    weight += g**2 / (2 * g**2 + float(maps[0, k].sum()) * g**3) * g
        expected += weight * maps[0, k].numpy()
    np.testing.assert_allclose(grad_cam_pp(maps, gradient)[0].numpy(), expected, rtol=1e-12)
    # Maps below zero, which the formula was not made for, cannot turn a weight over.
    below = grad_cam_pp(torch.full((1, 1, 2, 2), -3.0), torch.full((1, 1, 2, 2), 0.5))
    assert bool((below < 0).all()) and bool(torch.isfinite(below).all())


@pytest.mark.parametrize("method", METHODS)
def test_a_map_says_where_but_not_how_much(method: str) -> None:
    network, images = Pooled(), images_of(2, side=32)
    before = heat_maps(network, images, method=method)
    with torch.no_grad():
        network.head.weight *= 3.0
    after = heat_maps(network, images, method=method)
    if method == "grad_cam_pp":  # its weights are not linear in the gradient
        assert agreement(before, after) == pytest.approx([1.0, 1.0], abs=0.05)
    else:
        np.testing.assert_allclose(after, before, atol=1e-5)
    assert {float(heat.max()) for heat in before} == {1.0}


@pytest.mark.parametrize("method", METHODS)
def test_either_way_is_what_speaks_for_or_against(method: str) -> None:
    images = torch.full((1, 1, 64, 64), 0.01)
    images[0, 0, 8:16, 40:48] = -1.0
    network = Seeker()
    opposite = heat_maps(network, images, method=method, outputs=lambda answer: -answer[:, 0])
    np.testing.assert_array_equal(heat_maps(network, images, method=method, either_way=True), opposite)


def test_another_thread_that_scores_meanwhile_notices_nothing() -> None:
    network, images = network_of("test_resnet").eval(), images_of(4)
    with torch.inference_mode():
        expected = network(images)
    maps, wrong, stop = heat_maps(network, images), [], threading.Event()

    def score() -> None:
        with torch.inference_mode():
            while not stop.is_set():
                if not torch.equal(network(images), expected):
                    wrong.append("scores")

    def explain(rows: slice, method: str) -> None:
        for _ in range(8):
            found = heat_maps(network, images[rows], method=method)
            if not np.allclose(found, heat_maps(network, images[rows], method=method), atol=1e-5):
                wrong.append("maps")

    threads = [threading.Thread(target=score) for _ in range(2)]
    explaining = [
        threading.Thread(target=explain, args=(slice(2), "grad_cam")),
        threading.Thread(target=explain, args=(slice(2, 4), "hires_cam")),
    ]
    for thread in (*threads, *explaining):
        thread.start()
    for thread in explaining:
        thread.join()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    np.testing.assert_array_equal(heat_maps(network, images), maps)
    assert not any(module._forward_hooks for module in network.modules())

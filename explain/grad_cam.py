"""Heat maps by class activation: Grad-CAM, Grad-CAM++ and HiRes-CAM. Where in an image what speaks for an answer is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from explain.layers import Grid, NoMapsError, default_layer, grid_of, mine, named_layer, prefix_tokens
from explain.undisturbed import undisturbed

Target = int | Sequence[int] | Callable[[Tensor], Tensor]
"""What a heat map speaks for: the number of a logit, the numbers of several classes together, or a function of the outputs."""

_AT_ONCE = 16


def grad_cam(maps: Tensor, gradient: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al., ICCV 2017): ``sum_k w_k A_k`` with ``w_k = mean_ij dY / dA_kij``.

    Args:
        maps: A, shape (n, k, h, w). ``gradient``: of the target Y with regard to them, the same shape.

    Returns:
        Shape (n, h, w), not yet cut off at zero.
    """
    return (gradient.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1)


def grad_cam_pp(maps: Tensor, gradient: Tensor) -> Tensor:
    """Grad-CAM++ (Chattopadhay et al., WACV 2018): ``sum_k w_k A_k`` with ``w_k = sum_ij a_kij relu(dY / dA_kij)``.

    Of exp(Y) in a network that is linear between its ReLUs the higher derivatives are powers g^2, g^3 of the gradient g (up to
    a factor that all maps of an image share), so that ``a = g^2 / (2 g^2 + g^3 sum_ij A_kij) = 1 / (2 + g sum_ij A_kij)``.
    This was derived for maps after a ReLU; what lies below zero in others counts as zero in that sum, else a could have any sign.
    """
    alpha = 1.0 / (2.0 + gradient.relu() * maps.relu().sum(dim=(2, 3), keepdim=True))
    weights = (alpha * gradient.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * maps).sum(dim=1)


def hires_cam(maps: Tensor, gradient: Tensor) -> Tensor:
    """HiRes-CAM (Draelos and Carin 2020): ``sum_k A_k * dY / dA_k``, place by place.

    Where the target is linear in the maps, its sum over all places is the target less its constant: what each place adds.
    """
    return (gradient * maps).sum(dim=1)


METHODS: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "grad_cam": grad_cam,
    "grad_cam_pp": grad_cam_pp,
    "hires_cam": hires_cam,
}


def require_method(method: str) -> str:
    """The method itself.

    Raises:
        ValueError: there is none of that name.
    """
    if method not in METHODS:
        raise ValueError(f"heat_maps.method={method}: there is no such method; choose from {', '.join(METHODS)}.")
    return method


def heat_maps(
    network: nn.Module,
    inputs: Tensor,
    further: Sequence[Tensor] = (),
    *,
    method: str = "grad_cam",
    outputs: Target = 0,
    layer: nn.Module | str | None = None,
    either_way: bool = False,
) -> NDArray[np.float32]:
    """A heat map of each image.

    What the method finds on the layer's grid is cut off at zero, enlarged to the size of the image and divided by its own
    maximum. A map thus says *where*, relative to its own image; it does not say how much, and two maps cannot be compared in
    strength.

    The network is run in eval mode and left exactly as it was: modes, gradients, ``requires_grad`` flags, running statistics
    and the random stream. Frozen parameters do not matter, because only the result of the layer is differentiated. Other
    threads may run a network that is in eval mode and not compiled meanwhile, with or without heat maps: see
    :func:`explain.layers.mine`.

    Args:
        network: gives logits of shape ``(n,)`` or ``(n, k)`` for ``network(inputs, *further)``.
        inputs: images as the network takes them (normalised), shape ``(n, channels, height, width)``, floating point.
        further: what else the network takes, for example metadata; each of n rows.
        method: a key of ``METHODS``.
        outputs: what the map speaks for. An int: that logit (0 where there is only one). Several ints: the log-odds of these
            classes together against all others, from a softmax. A function: from the network's outputs to shape ``(n,)``.
        layer: a module of the network or its name; by default :func:`explain.layers.default_layer`.
        either_way: of what speaks for and what speaks against the target, the stronger.

    Returns:
        Shape ``(n, height, width)``, float32 in [0, 1], always finite; all zero where nothing speaks for the target.

    Raises:
        NoMapsError: no layer's result lies over the image, or that of the given one does not.
        ValueError: no such method or layer; ``outputs`` names no class, or all of them.
    """
    require_method(method)
    if len(inputs) == 0:
        return np.zeros((0, *inputs.shape[2:]), dtype=np.float32)
    chosen = default_layer(network, inputs, further) if layer is None else layer
    module = named_layer(network, chosen) if isinstance(chosen, str) else chosen
    name = chosen if isinstance(chosen, str) else type(chosen).__name__
    found = []
    with undisturbed(network, inputs.device):
        for start in range(0, len(inputs), _AT_ONCE):
            piece = slice(start, start + _AT_ONCE)
            maps, gradient = _differentiated(
                network, module, name, inputs[piece], [part[piece] for part in further], outputs
            )
            found.append(_pictured(METHODS[method], maps, gradient, inputs.shape[2:], either_way))
    return np.concatenate(found)


def _differentiated(
    network: nn.Module, layer: nn.Module, name: str, inputs: Tensor, further: Sequence[Tensor], outputs: Target
) -> tuple[Tensor, Tensor]:
    """The layer's maps and the target's gradient with regard to them, both float64 (n, k, h, w)."""
    kept: list[Tensor] = []
    grids: list[Grid] = []
    prefixes = prefix_tokens(network)

    def cut(module: nn.Module, given: object, result: object) -> Tensor:
        """Let the gradient start here. The rest of the network gets a copy, which it may change in place."""
        grid = grid_of(result, inputs.shape, prefixes)
        if grid is None or not isinstance(result, Tensor):
            raise NoMapsError(f"layer {name}: its result does not lie over the image; choose another layer.")
        kept[:], grids[:] = [result.detach().requires_grad_()], [grid]
        torch.set_grad_enabled(True)
        return kept[0].clone()

    handle = layer.register_forward_hook(mine(cut))
    try:
        with torch.no_grad():  # up to the layer: nothing before it is differentiated, so nothing need be kept
            answer = network(inputs.clone() if inputs.is_inference() else inputs, *further)
    finally:
        handle.remove()
    if not kept:
        raise NoMapsError(f"layer {name} did not take part in the network's answer; choose another layer.")
    if not answer.requires_grad:
        raise NoMapsError(f"layer {name}: the answer does not depend on its result; choose an earlier layer.")
    (gradient,) = torch.autograd.grad(speaks_for(answer, outputs).sum(), kept)
    grid, gradient = grids[0], gradient.nan_to_num(0.0, 0.0, 0.0)
    slopes = grid.maps(gradient).double()
    if grid.prefix and not slopes.any() and gradient.any():
        raise NoMapsError(
            f"layer {name}: of its tokens only the class token reaches the answer, and that lies nowhere in the image; choose an "
            "earlier layer, for example the normalisation before the last attention."
        )
    return grid.maps(kept[0].detach()).double(), slopes  # double: sums of large maps with both signs


def _pictured(
    method: Callable[[Tensor, Tensor], Tensor], maps: Tensor, gradient: Tensor, size: Sequence[int], either_way: bool
) -> NDArray[np.float32]:
    heat = method(maps, gradient).nan_to_num(0.0, 0.0, 0.0)
    if either_way:
        against = method(maps, -gradient).nan_to_num(0.0, 0.0, 0.0)
        stronger = against.amax(dim=(1, 2), keepdim=True) > heat.amax(dim=(1, 2), keepdim=True)
        heat = torch.where(stronger, against, heat)
    heat = functional.interpolate(heat.relu()[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]
    highest = heat.amax(dim=(1, 2), keepdim=True)
    heat = torch.where(highest > 0, heat / highest.clamp_min(torch.finfo(heat.dtype).tiny), torch.zeros_like(heat))
    found: NDArray[np.float32] = heat.clamp(0.0, 1.0).float().cpu().numpy()
    return found


def speaks_for(answer: Tensor, outputs: Target) -> Tensor:
    """The target of each image, shape ``(n,)``, from the network's outputs; see :func:`heat_maps`."""
    if callable(outputs):
        return outputs(answer)
    logits = answer.float().reshape(len(answer), -1)
    if isinstance(outputs, int):
        return logits[:, outputs]
    chosen = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    chosen[list(outputs)] = True
    if chosen.all() or not chosen.any():
        raise ValueError(f"outputs={list(outputs)} must be some, but not all, of the {logits.shape[1]} classes")
    return logits[:, chosen].logsumexp(dim=1) - logits[:, ~chosen].logsumexp(dim=1)

"""Grad-CAM: where in an image a network finds what speaks for an answer. Works on any module with a convolutional map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import cv2
import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Target = int | Sequence[int] | Callable[[Tensor], Tensor]
"""What a heat map speaks for: the number of a logit, the numbers of several classes together, or a function of the outputs."""

COLOURS = "inferno"  # brighter is more, also in grey print and for every kind of colour vision
CONTOUR = 0.5  # the line is drawn at this share of the map's maximum
_AT_ONCE = 16
_PALE, _STRONG = 0.15, 0.70  # opacity of the colour where the map is 0 and where it is 1


class NoMapsError(ValueError):
    """A network that Grad-CAM has nothing to say about; the message says why and what to do."""


def grad_cam(
    network: nn.Module,
    inputs: Tensor,
    further: Sequence[Tensor] = (),
    *,
    outputs: Target = 0,
    layer: nn.Module | None = None,
) -> NDArray[np.float32]:
    """Grad-CAM (Selvaraju et al. 2017) of each image.

    The maps of a layer are added up, each weighted by the mean over space of the gradient that the target has with regard to
    it; what is below zero is cut off; the sum is enlarged to the size of the image and divided by its own maximum. A map thus
    says *where*, relative to its own image; it does not say how much, and two maps cannot be compared in strength.

    The network is run in eval mode and left exactly as it was: modes, gradients, ``requires_grad`` flags, running statistics
    and the random stream. Frozen parameters do not matter, because only the maps of the layer are differentiated.

    Args:
        network: gives logits of shape ``(n,)`` or ``(n, k)`` for ``network(inputs, *further)``.
        inputs: images as the network takes them (normalised), shape ``(n, channels, height, width)``, floating point.
        further: what else the network takes, for example metadata; each of n rows.
        outputs: what the map speaks for. An int: that logit (0 where there is only one). Several ints: the log-odds of these
            classes together against all others, from a softmax. A function: from the network's outputs to shape ``(n,)``.
        layer: whose maps are used; the last one that has any, see :func:`target_layer`, if None.

    Returns:
        Shape ``(n, height, width)``, float32 in [0, 1], always finite; all zero where nothing speaks for the target.

    Raises:
        NoMapsError: the network has no convolutional map at its end (transformers), or the layer gives none.
        ValueError: ``outputs`` names no class, or all of them.
    """
    return _maps(network, inputs, further, outputs, layer)


def target_layer(network: nn.Module, inputs: Tensor, further: Sequence[Tensor] = ()) -> nn.Module:
    """The last module that gives maps of the image, found by running one image through the network.

    Maps have shape ``(n, channels, h, w)``, more than one place, and the proportions of the image.

    Args:
        network, inputs, further: as in :func:`grad_cam`; one image is enough.

    Raises:
        NoMapsError: there is none, or the network goes on with tokens, as transformers do.
    """
    with undisturbed(network, inputs.device):
        return _target_layer(network, inputs[:1], [part[:1] for part in further])


def control(
    network: nn.Module,
    inputs: Tensor,
    maps: NDArray[np.float32],
    further: Sequence[Tensor] = (),
    *,
    outputs: Target = 0,
    draws: int = 3,
) -> list[float | None]:
    """How much of each heat map a network that has learnt nothing draws too (Adebayo et al. 2018).

    A map that looks the same without what was learnt shows the edges of the image or the architecture. Which way an untrained
    network leans means nothing, so its map is the one of what speaks for or against the target, whichever is stronger.

    Args:
        network, inputs, further, outputs: as in :func:`grad_cam`.
        maps: what it gave for them.
        draws: number of networks with random weights; always the same ones.

    Returns:
        For each image the mean correlation in [-1, 1] with the maps of these networks, about 0 if the map depends on what was
        learnt; None where none is defined.
    """
    found: list[list[float]] = [[] for _ in maps]
    for seed in range(draws):
        others = _maps(randomised(network, seed), inputs, further, outputs, None, either_way=True)
        for values, value in zip(found, agreement(maps, others), strict=True):
            values += [] if value is None else [value]
    return [float(np.mean(values)) if values else None for values in found]


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """A copy with random weights: normal ones around 0 of the same mean square; biases and normalisation stay.

    Args:
        network: is not changed.
        seed: of the weights; the global random stream is not used.
    """
    copy, generator = deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in copy.parameters():
            if parameter.ndim > 1:
                size = parameter.float().square().mean().sqrt().cpu()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
    return copy


def agreement(first: NDArray[np.float32], second: NDArray[np.float32]) -> list[float | None]:
    """Correlation of two heat maps of the same image, for each image.

    Args:
        first, second: shape ``(n, height, width)``.

    Returns:
        Pearson's r in [-1, 1]; None where a map is constant, so that there is nothing to correlate.
    """
    found: list[float | None] = []
    for one, other in zip(first, second, strict=True):
        a, b = (values.astype(np.float64).ravel() - values.mean(dtype=np.float64) for values in (one, other))
        scale = float(np.sqrt((a @ a) * (b @ b)))
        found.append(float(np.clip(a @ b / scale, -1.0, 1.0)) if scale > 1e-9 else None)
    return found


def overlay(image: NDArray[np.uint8], cam: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A heat map over its image: colour from dark to bright on the image in grey, and a white line at half the maximum.

    The line and the brightness carry the meaning without the colour, so that the picture can be printed in grey.

    Args:
        image: shape ``(height, width, 1 or 3)``, uint8, not normalised.
        cam: shape ``(height, width)``, in [0, 1]. An empty map (all 0) gives the plain grey image.

    Returns:
        Shape ``(height, width, 3)``, uint8 RGB.

    Raises:
        ValueError: the shapes do not fit.
    """
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.shape[:2] != cam.shape:
        raise ValueError(
            f"an overlay needs an image (height, width, 1 or 3) and its map, got {image.shape}, {cam.shape}"
        )
    grey = image[..., 0] if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    base = np.repeat(grey[..., None], 3, axis=2).astype(np.float64)
    if not cam.any():
        return base.astype(np.uint8)
    values = np.clip(cam.astype(np.float64), 0.0, 1.0)
    colour = matplotlib.colormaps[COLOURS](values)[..., :3] * 255.0
    opacity = (_PALE + (_STRONG - _PALE) * values)[..., None]
    mixed = np.round((1 - opacity) * base + opacity * colour).astype(np.uint8)
    lines, _ = cv2.findContours((values >= CONTOUR).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(mixed, lines, -1, (255, 255, 255), 1), dtype=np.uint8)


def _maps(
    network: nn.Module,
    inputs: Tensor,
    further: Sequence[Tensor],
    outputs: Target,
    layer: nn.Module | None,
    *,
    either_way: bool = False,
) -> NDArray[np.float32]:
    if len(inputs) == 0:
        return np.zeros((0, *inputs.shape[2:]), dtype=np.float32)
    with undisturbed(network, inputs.device):
        chosen = layer if layer is not None else _target_layer(network, inputs[:1], [part[:1] for part in further])
        found = []
        for start in range(0, len(inputs), _AT_ONCE):
            piece = slice(start, start + _AT_ONCE)
            found.append(_heat(network, chosen, inputs[piece], [part[piece] for part in further], outputs, either_way))
    return np.concatenate(found)


def _heat(
    network: nn.Module,
    layer: nn.Module,
    inputs: Tensor,
    further: Sequence[Tensor],
    outputs: Target,
    either_way: bool,
) -> NDArray[np.float32]:
    kept: list[Tensor] = []

    def cut(module: nn.Module, given: object, result: object) -> Tensor:
        """Let the gradient start here. The rest of the network gets a copy, which it may change in place."""
        if not isinstance(result, Tensor) or result.ndim != 4:
            raise NoMapsError(f"{type(layer).__name__} gives no maps (n, channels, h, w); choose another layer")
        kept[:] = [result.detach().requires_grad_()]
        return kept[0].clone()

    handle = layer.register_forward_hook(cut)
    try:
        answer = network(inputs, *further)
    finally:
        handle.remove()
    if not kept:
        raise NoMapsError(f"{type(layer).__name__} did not take part in the network's answer; choose another layer")
    (gradient,) = torch.autograd.grad(speaks_for(answer, outputs).sum(), kept)
    maps = kept[0].detach().double()  # sums of large maps with both signs
    weights = gradient.double().mean(dim=(2, 3), keepdim=True)
    heat = (weights * maps).sum(dim=1, keepdim=True).nan_to_num(0.0, 0.0, 0.0)
    if either_way:
        against = -heat.amin(dim=(2, 3), keepdim=True) > heat.amax(dim=(2, 3), keepdim=True)
        heat = torch.where(against, -heat, heat)
    heat = functional.interpolate(heat.relu(), size=inputs.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    highest = heat.amax(dim=(1, 2), keepdim=True)
    heat = torch.where(highest > 0, heat / highest.clamp_min(torch.finfo(heat.dtype).tiny), torch.zeros_like(heat))
    found: NDArray[np.float32] = heat.clamp(0.0, 1.0).float().cpu().numpy()
    return found


def speaks_for(answer: Tensor, outputs: Target) -> Tensor:
    """The target of each image, shape ``(n,)``, from the network's outputs; see :func:`grad_cam`."""
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


def _target_layer(network: nn.Module, inputs: Tensor, further: Sequence[Tensor]) -> nn.Module:
    seen: list[tuple[nn.Module, str]] = []

    def note(module: nn.Module, given: object, result: object) -> None:
        seen.append((module, _kind(result, inputs)))

    handles = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            network(inputs, *further)
    finally:
        for handle in handles:
            handle.remove()
    last = max((position for position, (_, kind) in enumerate(seen) if kind == "maps"), default=-1)
    if last < 0 or any(kind == "tokens" for _, kind in seen[last:]):
        raise NoMapsError(
            f"{type(network).__name__} has no convolutional map before its head, as a transformer has none, so Grad-CAM has "
            "nothing to weight. Set evaluation.heat_maps=false, or choose a convolutional network (model=resnet50)."
        )
    return seen[last][0]


def _kind(result: object, inputs: Tensor) -> str:
    """``maps`` of the image, ``tokens`` (a row of places, or maps with the channels last), or empty: one vector, a list."""
    if not isinstance(result, Tensor) or result.ndim not in (3, 4):
        return ""
    if result.ndim == 3:
        return "tokens"
    height, width = result.shape[2:]
    if height * width == 1:
        return ""
    # Paddings differ by a pixel or two; channels in the place of the width differ by far more.
    expected = height * inputs.shape[3] / inputs.shape[2]
    return "maps" if abs(width - expected) <= 2 else "tokens"


@contextmanager
def undisturbed(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Eval mode, float32 and gradients inside; everything as it was afterwards."""
    modules = list(network.modules())
    modes = [module.training for module in modules]
    compiled = [(module, module._compiled_call_impl) for module in modules if module._compiled_call_impl is not None]
    devices = [device.index or 0] if device.type == "cuda" else []
    network.eval()
    for module, _ in compiled:
        module._compiled_call_impl = None  # compiled code does not see hooks that are added later
    try:
        with (
            torch.random.fork_rng(devices=devices),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
        ):
            yield
    finally:
        # One by one: a network may hold some of its modules in eval mode while it trains.
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for module, call in compiled:
            module._compiled_call_impl = call

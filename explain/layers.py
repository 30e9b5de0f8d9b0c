"""Which layer a heat map is made of, and how the layer's result lies over the image: maps, or tokens of patches."""

from __future__ import annotations

import difflib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from explain.undisturbed import undisturbed

_MOST_PREFIX_TOKENS: Final = 16  # a class token, one of distillation, registers
_PADDED: Final = 2  # paddings move the edge of convolutional maps by a place or two


class NoMapsError(ValueError):
    """A network or layer that a heat map has nothing to say about; the message says why and what to do."""


@dataclass(frozen=True)
class Grid:
    """How a layer's result lies over the image.

    Attributes:
        order: ``channels_first`` (n, c, h, w), ``channels_last`` (n, h, w, c) or ``tokens`` (n, prefix + h * w, c).
        height, width: places; at least two together.
        prefix: tokens before the patches, which lie nowhere: the class token, registers.
    """

    order: Literal["channels_first", "channels_last", "tokens"]
    height: int
    width: int
    prefix: int = 0

    def maps(self, result: Tensor) -> Tensor:
        """The result as maps ``(n, c, height, width)``, without the tokens that lie nowhere."""
        if self.order == "channels_first":
            return result
        if self.order == "channels_last":
            return result.permute(0, 3, 1, 2)
        patches = result[:, self.prefix :].transpose(1, 2)
        return patches.reshape(len(result), -1, self.height, self.width)


def grid_of(result: object, images: Sequence[int], prefixes: Sequence[int] = ()) -> Grid | None:
    """The grid of a module's result; None where it does not lie over the image.

    Maps have the proportions of the image, and more than one place. Tokens are patches in rows, after ``prefixes`` others.

    Args:
        images: shape of the network's input, (n, channels, height, width).
        prefixes: numbers of tokens before the patches that the network is known to have, see :func:`prefix_tokens`; where it
            does not say, the smallest number that leaves a whole grid.
    """
    if not isinstance(result, Tensor) or result.ndim not in (3, 4) or len(result) != images[0]:
        return None
    wide = images[3] / images[2]
    if result.ndim == 3:
        return _token_grid(result.shape[1], wide, prefixes)
    height, width = result.shape[2:]
    if height * width > 1 and abs(width - height * wide) <= _PADDED:
        return Grid("channels_first", height, width)
    height, width = result.shape[1:3]
    if height > 1 and abs(width - height * wide) < 1:
        return Grid("channels_last", height, width)
    return None


def _token_grid(tokens: int, wide: float, prefixes: Sequence[int]) -> Grid | None:
    for prefix in (0, *prefixes) if prefixes else range(_MOST_PREFIX_TOKENS + 1):
        patches = tokens - prefix
        height = round(math.sqrt(max(patches, 0) / wide))
        for rows in (height, height - 1, height + 1):
            if rows > 0 and patches > 1 and patches % rows == 0 and abs(patches // rows - rows * wide) < 1:
                return Grid("tokens", rows, patches // rows, prefix)
    return None


def prefix_tokens(network: nn.Module) -> tuple[int, ...]:
    """The numbers of tokens before the patches that modules of the network name, as timm's ``num_prefix_tokens`` does."""
    named = (getattr(module, "num_prefix_tokens", None) for module in network.modules())
    return tuple(dict.fromkeys(int(number) for number in named if isinstance(number, int)))


def default_layer(network: nn.Module, inputs: Tensor, further: Sequence[Tensor] = ()) -> str:
    """Name of the last module whose places the answer is computed from, found by running the network once.

    Of a convolutional network these are the last maps before the pooling, of a Swin or ConvNeXt likewise. In a vision
    transformer that answers from its class token, the patches after the last attention do not reach the answer any more (their
    gradient is zero), so it is the normalisation before that attention. What lies inside an attention is no candidate: its
    queries, keys and heads are not the image's places.

    Args:
        network, inputs, further: as :func:`explain.grad_cam.heat_maps` takes them; one image is enough.

    Raises:
        NoMapsError: no module's result lies over the image.
    """
    with undisturbed(network, inputs.device):
        return _default_layer(network, inputs[:1], [part[:1] for part in further])


def _default_layer(network: nn.Module, inputs: Tensor, further: Sequence[Tensor]) -> str:
    # Noise beside the image: a dense layer may be silent for one image, and then nothing has a gradient.
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(inputs.shape, generator=generator).to(inputs)
    both = torch.cat([inputs.detach(), noise]).requires_grad_()
    beside = [torch.cat([part, part]) for part in further]
    prefixes, inside = prefix_tokens(network), _inside_attention(network)
    seen: list[tuple[str, Grid, Tensor]] = []

    def note(name: str) -> Callable[[nn.Module, object, object], None]:
        def noted(module: nn.Module, given: object, result: object) -> None:
            grid = grid_of(result, both.shape, prefixes)
            if grid is not None and isinstance(result, Tensor) and result.requires_grad:
                seen.append((name, grid, result))

        return noted

    with _hooks({name: note(name) for name, _ in network.named_modules() if name and name not in inside}, network):
        answer = network(both.clone(), *beside)  # a copy, because the first layer may work in place
    if not seen:
        raise NoMapsError(
            f"{type(network).__name__} has no layer whose result lies over the image, so there is nothing to weight. Set "
            "evaluation.heat_maps=false, or choose another network (model=resnet50)."
        )
    flat = answer.float().reshape(len(both), -1)
    signs = torch.randn(flat.shape[1], generator=generator).to(flat)  # one direction, in which logits do not cancel out
    gradients = torch.autograd.grad((flat @ signs).sum(), [result for _, _, result in seen], allow_unused=True)
    reached = [
        name
        for (name, grid, _), gradient in zip(seen, gradients, strict=True)
        if gradient is not None and bool(grid.maps(gradient).any())
    ]
    return reached[-1] if reached else seen[-1][0]


def _inside_attention(network: nn.Module) -> set[str]:
    """Names of the modules within an attention; the attention itself is a module of the row like any other."""
    attentions = [f"{name}." for name, module in network.named_modules() if "Att" in type(module).__name__]
    return {
        name
        for name, _ in network.named_modules()
        if any(name.startswith(start) for start in attentions if start != ".")
    }


def named_layer(network: nn.Module, name: str) -> nn.Module:
    """The module of this name.

    Raises:
        ValueError: there is none; names near ones, or what there is at the top.
    """
    known: dict[str, nn.Module] = {key: module for key, module in network.named_modules() if key}
    if name in known:
        return known[name]
    near = [key for key in known if key.endswith(f".{name}")] + difflib.get_close_matches(name, known, n=4, cutoff=0.6)
    shown = list(dict.fromkeys(near))[:5]
    lead = "nearest" if shown else "there are"
    shown = shown or [key for key in known if key.count(".") < 2][:20]
    raise ValueError(f"layer={name}: this network has no layer of that name; {lead}: {', '.join(shown)}.")


@contextmanager
def _hooks(hooks: dict[str, Callable[..., Any]], network: nn.Module) -> Iterator[None]:
    modules = dict(network.named_modules())
    handles = [modules[name].register_forward_hook(mine(hook)) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def mine(hook: Callable[..., Any]) -> Callable[..., Any]:
    """The hook for this thread only: the network may be scoring images in another one, which must not notice."""
    owner = threading.get_ident()

    def only_mine(module: nn.Module, given: object, result: object) -> Any:
        return hook(module, given, result) if threading.get_ident() == owner else None

    return only_mine

"""Architectures of timm as trunks: images in, pooled features out, parameters in named blocks."""

from __future__ import annotations

import contextlib
import difflib
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import nn

from models.blocks import HEAD, Block

POOLINGS = {"avg": "avg", "max": "max", "concat": "catavgmax"}  # ours: timm's
_BUILD_ERRORS = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


def check_architecture(name: str) -> None:
    """Raise a ValueError that lists the nearest names if timm has no such architecture (``resnet50`` or ``resnet50.a1_in1k``)."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        known = ["simple_cnn", *timm.list_models()]
        near = difflib.get_close_matches(architecture.lower(), known, n=5, cutoff=0.5) or ["simple_cnn", "resnet50"]
        raise ValueError(
            f"model.name={name}: there is no such architecture; nearest: {', '.join(near)}. "
            'All names: python -c "import timm; print(*timm.list_models())"'
        )
    if tag and name not in (known := timm.list_models(f"{architecture}.*", pretrained=True)):
        raise ValueError(
            f"model.name={name}: {architecture} has no weights of that name; there are: {', '.join(known)}"
        )


def pretrained_cfg(name: str) -> dict[str, Any]:
    """What timm knows of an architecture's weights: ``input_size, mean, std, interpolation, first_conv, hf_hub_id`` and so on."""
    check_architecture(name)
    found = timm.models.get_pretrained_cfg(name)
    return {} if found is None else dict(found.to_dict())  # type: ignore[no-untyped-call]


def build_trunk(name: str, channels: int, image_size: int, pooling: str = "auto") -> nn.Module:
    """An architecture without its classifier, with fresh weights.

    Args:
        name: in timm.
        channels: of the input.
        image_size: height and width in pixels; matters where the architecture has positions of a fixed number of patches.
        pooling: ``auto`` (the architecture's own), ``avg``, ``max`` or ``concat`` (average and maximum, twice the features).

    Returns:
        A module that gives ``(n, f)`` for ``(n, channels, image_size, image_size)``. Of VGG, whose two dense layers hold 90 % of
        the parameters, the convolutions alone: 512 features.

    Raises:
        ValueError: if there is no such architecture, or it cannot take this size or pooling; says what it can.
    """
    cfg = pretrained_cfg(name)
    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
    if str(cfg.get("architecture")).startswith("vgg"):
        options["mlp_ratio"] = (
            1 / 4096
        )  # of the dense layers, which are dropped below: makes building ten times as fast
    if cfg.get("fixed_input_size"):
        options["img_size"] = image_size
    if pooling != "auto":
        options["global_pool"] = POOLINGS[pooling]
    try:
        return _without_dense_layers(timm.create_model(name, pretrained=False, **options))
    except _BUILD_ERRORS as error:
        able = _possible_poolings(name, options) if pooling != "auto" else []
        if "auto" in able and pooling not in able:
            raise ValueError(f"model.pooling={pooling}: {name} can only do {', '.join(able)}") from error
        raise _size_error(name, image_size, cfg, error) from error


def feature_width(trunk: nn.Module, name: str, channels: int, image_size: int) -> int:
    """Number of features, found by running an image of zeros; neither the weights nor the random stream move.

    Raises:
        ValueError: if the trunk cannot take this image size.
    """
    was_training = trunk.training
    trunk.eval()  # else the running statistics of BatchNorm would move
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            features = trunk(torch.zeros(1, channels, image_size, image_size))
    except _BUILD_ERRORS as error:
        raise _size_error(name, image_size, pretrained_cfg(name), error) from error
    finally:
        trunk.train(was_training)
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        raise ValueError(f"model.name={name}: its features are not one vector an image; choose another architecture")
    return features.shape[1]


def trunk_blocks(trunk: nn.Module) -> list[Block]:
    """All parameters of a trunk in blocks from ``stem`` on, each parameter in exactly one.

    The blocks are those that timm groups for layer-wise rates; parameters of normalisation that timm puts in a group of their
    own (the last norm of a transformer, the BatchNorm layers of VGG) belong to the block before.
    """
    groups: list[list[str]] = []
    shapes = {name: parameter.ndim for name, parameter in trunk.named_parameters()}
    for names in _groups(trunk):
        if groups and all(shapes[name] <= 1 for name in names):
            groups[-1] += names
        else:
            groups.append(list(names))
    placed = {name for names in groups for name in names}
    if groups:
        groups[-1] += [name for name in shapes if name not in placed]
    blocks: list[Block] = []
    for number, names in enumerate(groups):
        others = [name for other in groups if other is not names for name in other]
        label = "stem" if number == 0 else _label(names, others)
        label = (
            "neck" if label == HEAD else label
        )  # what timm counts to its head: layers between the maps and the classifier
        taken = {block.name for block in blocks}
        blocks.append(Block(label if label not in taken else f"{label}.{number}", tuple(names)))
    return blocks


def _groups(trunk: nn.Module) -> list[list[str]]:
    """timm's coarse groups; where it has none, or takes all stages for one, the parts at the top and in their lists."""
    matcher = getattr(trunk, "group_matcher", None)
    found: list[list[str]] = []
    if matcher is not None:
        with contextlib.suppress(AssertionError, NotImplementedError):  # some architectures have fine groups only
            found = list(group_parameters(trunk, matcher(coarse=True)).values())
    if len(found) > 2:
        return found
    parts: dict[str, list[str]] = {}
    for name, _ in trunk.named_parameters():
        top, _, rest = name.partition(".")
        listed = isinstance(getattr(trunk, top), nn.Sequential | nn.ModuleList)
        parts.setdefault(f"{top}.{rest.partition('.')[0]}" if listed else top, []).append(name)
    return list(parts.values()) if len(parts) > len(found) else found


def _label(names: list[str], others: list[str]) -> str:
    """The shortest start of the first parameter's name that no other block shares: ``layer1``, ``blocks.3``."""
    parts = names[0].split(".")[:-1]
    for end in range(1, len(parts)):
        label = ".".join(parts[:end])
        if not any(f"{other}.".startswith(f"{label}.") for other in others):
            return label
    return ".".join(parts) or names[0]


def _without_dense_layers(trunk: nn.Module) -> nn.Module:
    if isinstance(trunk, timm.models.VGG):
        trunk.pre_logits = nn.Identity()  # type: ignore[assignment]
    return trunk


def _possible_poolings(name: str, options: dict[str, Any]) -> list[str]:
    able = []
    for ours, theirs in {"auto": None, **POOLINGS}.items():
        chosen = {key: value for key, value in options.items() if key != "global_pool"}
        if theirs is not None:
            chosen["global_pool"] = theirs
        try:
            with torch.device("meta"):  # nothing is computed
                timm.create_model(name, pretrained=False, **chosen)
        except _BUILD_ERRORS:
            continue
        able.append(ours)
    return able


def _size_error(name: str, image_size: int, cfg: dict[str, Any], reason: Exception) -> ValueError:
    own = cfg.get("input_size", (3, 224, 224))[-1]
    words = " ".join(str(reason).split())[:160]
    return ValueError(
        f"model.image_size={image_size}: {name} cannot take images of this size; it was made for {own}. "
        f"Set model.image_size={own}, or another architecture. ({words})"
    )

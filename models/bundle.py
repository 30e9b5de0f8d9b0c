"""The hand-over form of a trained model: weights as safetensors, everything else as JSON. No pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.blocks import BlockNetwork
from models.build import build_network

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


def save_bundle(network: nn.Module, description: dict[str, Any], folder: Path) -> str:
    """Write ``model.safetensors`` and ``model.json`` into a folder that is created for them.

    Args:
        network: the trained network.
        description: plain values: ``network`` (settings of :func:`build_network`), ``classes``, ``preprocessing``,
            ``threshold`` and so on. The weights' SHA-256 is added.

    Returns:
        SHA-256 of the weights file, hexadecimal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    beside = folder / f".{WEIGHTS}.{os.getpid()}"
    # One entry: safetensors writes several in an order that differs from process to process, and so would the hash.
    save_file(weights, beside, metadata={"notice": str(description.get("notice", ""))})
    digest = hashlib.sha256(beside.read_bytes()).hexdigest()
    text = json.dumps({**description, "weights_sha256": digest}, indent=2, allow_nan=False) + "\n"
    text_beside = folder / f".{DESCRIPTION}.{os.getpid()}"
    text_beside.write_text(text, encoding="utf-8")
    os.replace(beside, folder / WEIGHTS)
    os.replace(text_beside, folder / DESCRIPTION)
    return digest


def load_bundle(folder: Path) -> tuple[BlockNetwork, dict[str, Any]]:
    """The network (in eval mode) and the description that :func:`save_bundle` wrote.

    Raises:
        ValueError: if the weights are not those that the description was written with.
    """
    description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    if digest != description["weights_sha256"]:
        raise ValueError(
            f"{folder / WEIGHTS}: SHA-256 is {digest}, but {DESCRIPTION} names {description['weights_sha256']}. "
            "The file was changed after training; do not use it."
        )
    outputs = 1 if len(description["classes"]) == 2 else len(description["classes"])
    network = build_network(description["network"], outputs)
    weights: dict[str, Tensor] = load_file(folder / WEIGHTS)
    network.load_state_dict(weights)
    network.eval()
    return network, description


class Normalise(nn.Module):
    """Pixels 0 to 255 -> ``(pixels / 255 - mean) / std``, float32, in one pass where all channels have the same values.

    Args:
        mean, std: of pixels in [0, 1], one a channel or one for all; a plain number counts as one for all.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        means, stds = (torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1) for values in (mean, std))
        # Not persistent: they are settings, and a checkpoint should hold what was learnt.
        self.register_buffer("scale", (1.0 / (255.0 * stds)).float(), persistent=False)
        self.register_buffer("shift", (-means / stds).float(), persistent=False)
        self.plain = bool((means == 0).all() and (stds == 1).all())

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images on the device and in the memory layout of the given ones.

        Args:
            images: shape ``(n, channels, height, width)``, uint8 or (after mixing) float32 in 0 to 255; not changed.
        """
        scaled = images.to(torch.float32, copy=True)
        if self.plain:
            return scaled.mul_(1.0 / 255.0)
        return scaled.mul_(self.scale).add_(self.shift)


def to_input(images: Tensor, mean: float | Sequence[float], std: float | Sequence[float]) -> Tensor:
    """Pixels 0 to 255 -> float32 ``(pixels / 255 - mean) / std``, on the device where they are; see :class:`Normalise`.

    Args:
        images: uint8 or float32 pixels, shape ``(..., channels, height, width)``.
        mean, std: as in a bundle's ``network`` settings: one a channel or one for all; a plain number in version 0.1.
    """
    scaled: Tensor = Normalise(mean, std).to(images.device)(images)
    return scaled

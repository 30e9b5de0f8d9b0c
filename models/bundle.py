"""The hand-over form of a trained model: weights as safetensors, everything else as JSON. No pickle."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

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
    save_file(weights, beside, metadata={"format": "pt", "notice": str(description.get("notice", ""))})
    digest = hashlib.sha256(beside.read_bytes()).hexdigest()
    text = json.dumps({**description, "weights_sha256": digest}, indent=2, allow_nan=False) + "\n"
    text_beside = folder / f".{DESCRIPTION}.{os.getpid()}"
    text_beside.write_text(text, encoding="utf-8")
    os.replace(beside, folder / WEIGHTS)
    os.replace(text_beside, folder / DESCRIPTION)
    return digest


def load_bundle(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
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
    return network.eval(), description


def to_input(images: Tensor, mean: float, std: float) -> Tensor:
    """uint8 pixels 0 to 255 -> float32 ``(pixels / 255 - mean) / std``, on the device where the pixels are."""
    scaled = images.to(torch.float32).mul_(1.0 / 255.0)
    return scaled if mean == 0.0 and std == 1.0 else scaled.sub_(mean).div_(std)

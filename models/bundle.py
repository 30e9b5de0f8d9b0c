"""The hand-over form of a trained model: weights as safetensors, everything else as JSON. No pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as arrays_in
from safetensors.torch import load as tensors_in
from safetensors.torch import save_file
from torch import Tensor, nn

from models.blocks import BlockNetwork
from models.stored_settings import network_of
from models.views import VIEWS
from models.weights import file_sha256

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
OWN_HASH = "description_sha256"
_NEEDED = ("network", "classes", "weights_sha256")
_MOST_BYTES = 2**26  # of a description; the largest has some thousand


def save_bundle(
    network: nn.Module,
    description: dict[str, Any],
    folder: Path,
    extra: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
) -> str:
    """Write ``model.safetensors``, ``model.json`` and further arrays into a folder that is created for them.

    Args:
        network: the trained network.
        description: plain values: ``network`` (settings of :func:`build_network`), ``classes``, ``preprocessing``,
            ``threshold`` and so on. Added are the SHA-256 of the weights, of each further file, and of the description itself.
        extra: arrays by name, by the name of the safetensors file that they go to.

    Returns:
        SHA-256 of the weights file, hexadecimal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {WEIGHTS: {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}}
    for name, arrays in (extra or {}).items():
        tensors[name] = {key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in arrays.items()}
    beside, digests = {}, {}
    for name, held in tensors.items():
        beside[name] = folder / f".{name}.{os.getpid()}"
        # One entry: safetensors writes several in an order that differs from process to process, and so would the hash.
        save_file(held, beside[name], metadata={"notice": str(description.get("notice", ""))})
        digests[name] = file_sha256(beside[name])
    digest = digests.pop(WEIGHTS)
    content = {**description, "files": digests, "weights_sha256": digest}
    content[OWN_HASH] = description_sha256(content)
    beside[DESCRIPTION] = folder / f".{DESCRIPTION}.{os.getpid()}"
    beside[DESCRIPTION].write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    for name, path in beside.items():
        os.replace(path, folder / name)
    return digest


def description_sha256(description: Mapping[str, Any]) -> str:
    """SHA-256 of a description without its own hash, whatever its spaces and the order of its keys."""
    held = {name: value for name, value in description.items() if name != OWN_HASH}
    text = json.dumps(held, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def read_description(folder: Path, name: str = DESCRIPTION, needed: Sequence[str] = _NEEDED) -> dict[str, Any]:
    """``model.json``, checked to be as it was written.

    Args:
        name: another file that holds its own hash in the same way. ``needed``: keys that it must have.

    Raises:
        ValueError: if it is missing, is no JSON, lacks what a network is built from, or was changed after training.
    """
    path = folder / name
    if not path.is_file():
        raise ValueError(f"{path} is missing, so there is no model. Restore it, or train the run again.")
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than any description. Do not use this model.")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}). Restore it, or train the run again.") from error
    lacking = [key for key in needed if key not in description] if isinstance(description, dict) else list(needed)
    if lacking:
        raise ValueError(
            f"{path} lacks {', '.join(lacking)}, so it describes no model. Restore it, or train the run again."
        )
    stored = description.get(OWN_HASH)
    if stored is None and "files" in description:  # models of version 0.1 have neither
        raise ValueError(
            f"{path}: its {OWN_HASH} was taken away, so nobody knows what else was changed; do not use it."
        )
    if not isinstance(description.get("files", {}), dict):
        raise ValueError(f"{path}: files is {str(description['files'])[:60]!r}, expected a hash for each name.")
    if stored is not None and stored != (found := description_sha256(description)):
        raise ValueError(
            f"{path}: its content has the SHA-256 {found}, but it names {stored}. It was changed after training; do not use it."
        )
    return dict(description)


def extra_arrays(folder: Path, description: Mapping[str, Any], name: str) -> dict[str, NDArray[Any]] | None:
    """Arrays that :func:`save_bundle` wrote beside the weights; None where this model has none of that name.

    Raises:
        ValueError: if the file is missing or not the one that the description was written with.
    """
    digest = description.get("files", {}).get(name)
    if digest is None:
        return None
    try:
        return dict(arrays_in(_content(folder / name, digest)))
    except SafetensorError as error:
        raise ValueError(f"{folder / name} holds no arrays ({error}). Do not use this model.") from error


def _content(path: Path, digest: str) -> bytes:
    """The bytes of a file, read once, so that those which are used are those which were checked."""
    if not path.is_file():
        raise ValueError(f"{path} is missing. Restore it, or train the run again.")
    content = path.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise ValueError(
            f"{path}: SHA-256 is {found}, but {DESCRIPTION} names {str(digest)[:64]}. The file was changed after training; do "
            "not use it."
        )
    return content


def load_bundle(folder: Path) -> tuple[BlockNetwork, dict[str, Any]]:
    """The network (in eval mode) and the description that :func:`save_bundle` wrote.

    Raises:
        ValueError: if the description was changed or describes no network, or the weights are not those that it was written
            with.
    """
    description = read_description(folder)
    _require_plausible(folder / DESCRIPTION, description)
    outputs = 1 if len(description["classes"]) == 2 else len(description["classes"])
    try:
        weights: dict[str, Tensor] = tensors_in(_content(folder / WEIGHTS, description["weights_sha256"]))
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} holds no weights ({error}). Do not use this model.") from error
    return network_of(description["network"], outputs, weights, str(folder / DESCRIPTION)), description


def _require_plausible(path: Path, description: Mapping[str, Any]) -> None:
    """Classes and views are what they should be; settings of the network are looked at where it is built."""
    classes, positive = description["classes"], description.get("positive", description["classes"][:1])
    for name, held in (("classes", classes), ("positive", positive)):
        if not isinstance(held, list) or not all(isinstance(item, str) for item in held):
            raise ValueError(f"{path}: {name} is {str(held)[:60]!r}, expected a list of names.")
    if len(set(classes)) != len(classes) or len(classes) < 2 or not positive or not set(positive) < set(classes):
        raise ValueError(
            f"{path}: the positive classes {positive} must be some, but not all, of at least two different ones; classes are "
            f"{classes}."
        )
    kind, encoder = description.get("views", "none"), description.get("metadata")
    if not isinstance(kind, str) or kind not in VIEWS:
        raise ValueError(f"{path}: views is {str(kind)[:40]!r}, expected one of {list(VIEWS)}.")
    if encoder and not (isinstance(encoder, dict) and isinstance(encoder.get("outputs"), list)):
        raise ValueError(f"{path}: metadata is {str(encoder)[:60]!r}, expected how columns are encoded.")


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

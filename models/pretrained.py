"""Pretrained weights, and the preprocessing that travels with them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.blocks import BlockNetwork
from models.build import architecture_of
from models.weights import (
    SUFFIXES,
    TORCH_SUFFIXES,
    file_sha256,
    fit_trunk,
    hub_file,
    json_values,
    read_tensors,
    safetensors_metadata,
)

NONE, IMAGENET = "none", "imagenet"
_PLAIN_SIZE = 128  # of simple_cnn and of the baselines that need no network
_FRESH_SIZE = 224  # of an architecture without weights
_RESIZE = {
    "area": "squash, area averaging",
    "bilinear": "squash, bilinear with antialiasing",
    "bicubic": "squash, bicubic with antialiasing",
}


@dataclass(frozen=True)
class Preprocessing:
    """How images were prepared for some weights.

    Attributes:
        image_size: height and width in pixels.
        mean, std: of each channel, for pixels in [0, 1].
        interpolation: ``area``, ``bilinear`` or ``bicubic``.
        origin: of mean and std, in words.
        guessed: mean and std are the architecture's usual ones, because the file names none.
    """

    image_size: int
    mean: list[float]
    std: list[float]
    interpolation: str
    origin: str
    guessed: bool = False


def resolved_model(settings: dict[str, Any]) -> dict[str, Any]:
    """The model's settings with the nulls filled in as the weights were trained; called before images are decoded.

    An explicit value always wins. Without weights, ``image_size`` is 224 (of an architecture for one size only: that size).

    Args:
        settings: the plain ``model`` section.

    Returns:
        A copy with ``image_size``, ``mean`` and ``std`` (lists of 1 or ``channels`` values, for pixels in [0, 1]),
        ``interpolation`` (never ``auto``), and ``weights`` as an absolute path where it is one.

    Raises:
        ValueError: if there is no such architecture, the weights are not there, cannot be read or are of another architecture,
            or mean or std are no such values.
    """
    found = dict(settings)
    found["weights"] = _located(settings)
    own = _own_preprocessing(found)
    found["image_size"] = settings.get("image_size") or own.image_size
    channels = settings["channels"]
    for name, values in (("mean", own.mean), ("std", own.std)):
        given = settings.get(name)
        found[name] = channel_values(name, values if given is None else given, channels)
    chosen = settings.get("interpolation", "auto")
    found["interpolation"] = own.interpolation if chosen == "auto" else chosen
    return found


def channel_values(name: str, values: float | Sequence[float], channels: int) -> list[float]:
    """``model.mean`` or ``model.std`` as a list of 1 or ``channels`` values; three colours become their mean for grey images.

    Raises:
        ValueError: for another number of values, a mean outside [0, 1] or a std that is not above 0.
    """
    listed = [float(value) for value in (values if isinstance(values, Sequence) else [values])]
    if channels == 1 and len(listed) == 3:
        listed = [round(sum(listed) / 3, 6)]
    if len(listed) not in (1, channels):
        wanted = "1 or 3 values" if channels in (1, 3) else f"1 or {channels} values"
        raise ValueError(f"model.{name}={listed}: give {wanted}, images have model.channels={channels}")
    if name == "std" and not all(math.isfinite(value) and value > 0 for value in listed):
        raise ValueError(f"model.std={listed}: the pixels are divided by it; give values above 0")
    if name == "mean" and not all(0 <= value <= 1 for value in listed):
        raise ValueError(f"model.mean={listed}: pixels lie in [0, 1]; give values in that range (divide by 255)")
    return listed


def load_pretrained(network: BlockNetwork, settings: dict[str, Any]) -> list[str]:
    """Load the weights that ``settings["weights"]`` names into a network's trunk; the head stays as it is.

    Args:
        network: of :func:`models.build.build_network` for the same settings; is changed.
        settings: of :func:`resolved_model`.

    Returns:
        Sentences for the log: what was loaded and left, how grey and colour met, how pixels are normalised.

    Raises:
        ValueError: if the weights cannot be fetched or read, or a tensor of the trunk is missing or has another shape; the
            network is then as it was.
    """
    weights, architecture = settings["weights"], architecture_of(settings)
    if weights == NONE:
        return [f"{architecture} starts from random weights (model.weights=none)."]
    cfg = {} if architecture == "simple_cnn" else _cfg(architecture)
    path, place = _fetched(weights, architecture, cfg)
    fitted = fit_trunk(network.get_submodule("trunk"), read_tensors(path), cfg.get("first_conv"), place)
    said = [
        f"{architecture} starts from {place}: {fitted.loaded} tensors, every one of the trunk "
        f"(SHA-256 of the file {file_sha256(path)[:12]})."
    ]
    if fitted.left:
        shown = ", ".join(fitted.left[:4]) + (", ..." if len(fitted.left) > 4 else "")
        said.append(f"Left in the file, the head starts from random weights: {shown} ({len(fitted.left)} tensors).")
    if fitted.stem == "summed":
        said.append("The first layer was for colour, the images are grey: its weights are summed over the colours.")
    if fitted.stem == "repeated":
        said.append(
            "The first layer was for grey, the images are in colour: its weights are repeated and divided by 3."
        )
    if getattr(network, "repeat", False):
        said.append("The network takes colour, the images are grey: each is repeated in all three channels.")
    return [*said, _said_of_pixels(settings)]


def fetch_weights(settings: dict[str, Any]) -> None:
    """Fetch the weights of ``model.weights=imagenet`` into the hub's cache, so that a missing hub is known at once.

    Args:
        settings: of :func:`resolved_model`.

    Raises:
        ValueError: if they are in no cache and the hub cannot be reached within seconds; names what to fetch by hand.
    """
    if settings["weights"] == IMAGENET:
        architecture = architecture_of(settings)
        hub_file(architecture, _cfg(architecture))


def description_of(settings: dict[str, Any]) -> dict[str, Any]:
    """``preprocessing`` of model.json: all that somebody needs to prepare an image as in training.

    Args:
        settings: of :func:`resolved_model`.
    """
    return {
        "size": settings["image_size"],
        "channels": settings["channels"],
        "resize": _RESIZE[settings["interpolation"]],
        "scale": 1 / 255,
        "mean": settings["mean"],
        "std": settings["std"],
    }


def _fetched(weights: str, architecture: str, cfg: dict[str, Any]) -> tuple[Path, str]:
    """The file of the weights, and its name for the log and the report: without the folders of this machine."""
    if weights == IMAGENET:
        return hub_file(architecture, cfg)
    path = _weights_file(Path(weights))
    return path, path.name if path == Path(weights) else f"the run {Path(weights).name}"


def _said_of_pixels(settings: dict[str, Any]) -> str:
    own = _own_preprocessing(settings)
    used = [settings["mean"], settings["std"]]
    theirs = [channel_values(name, getattr(own, name), settings["channels"]) for name in ("mean", "std")]
    origin = own.origin if used == theirs else "set by model.mean and model.std"
    shown = [", ".join(f"{value:g}" for value in values) for values in used]
    said = f"Pixels in [0, 1] are normalised with mean {shown[0]} and std {shown[1]}: {origin}."
    if used == theirs and own.guessed:
        said += " If the weights were trained with others, set them: model.mean=[0.5] model.std=[0.5], for example."
    return said


def _own_preprocessing(settings: dict[str, Any]) -> Preprocessing:
    """How images are to be prepared for ``settings["weights"]``."""
    architecture, weights = architecture_of(settings), settings["weights"]
    if not architecture:
        raise ValueError(
            "model.backbone is empty; name an architecture of timm, for example model.backbone=mobilenetv2_100"
        )
    plain = Preprocessing(_PLAIN_SIZE, [0.0], [1.0], "area", "the pixels as they are")
    if architecture.startswith("baseline_"):
        return plain
    path = Path(weights)
    if weights not in (NONE, IMAGENET) and path.is_dir():
        return _of_run(path, architecture)
    own = plain if architecture == "simple_cnn" else _of_timm(architecture, fresh=weights == NONE)
    if weights in (NONE, IMAGENET):
        return own
    about = safetensors_metadata(path)
    if "mean" not in about or "std" not in about:
        usual = own.origin if architecture == "simple_cnn" else f"timm's values for {architecture}"
        return replace(own, origin=f"{usual}, because {path.name} names none", guessed=True)
    mean, std = (json_values(about[name], f"{path.name}: {name}") for name in ("mean", "std"))
    return replace(own, mean=mean, std=std, origin=f"as {path.name} says")


def _of_timm(architecture: str, *, fresh: bool) -> Preprocessing:
    cfg = _cfg(architecture)
    size = int(cfg.get("input_size", (3, _FRESH_SIZE, _FRESH_SIZE))[-1])
    if fresh and not cfg.get("fixed_input_size"):
        size = _FRESH_SIZE
    return Preprocessing(
        size,
        list(cfg.get("mean", (0.5,))),
        list(cfg.get("std", (0.5,))),
        "bilinear" if cfg.get("interpolation") == "bilinear" else "bicubic",
        f"timm's values for {architecture}",
    )


def _of_run(folder: Path, architecture: str) -> Preprocessing:
    network = _run_network(folder)
    if architecture_of(network) != architecture:
        raise ValueError(
            f"model.weights={folder}: that run trained {architecture_of(network)}, this one {architecture}. "
            f"Set model.name={architecture_of(network)}, or give other weights."
        )
    mean, std = (
        [float(value) for value in values] if isinstance(values := network[name], list) else [float(values)]
        for name in ("mean", "std")
    )
    # Runs of version 0.1 always averaged over areas and did not say so.
    return Preprocessing(network["image_size"], mean, std, network.get("interpolation", "area"), "as in that run")


def _run_network(folder: Path) -> dict[str, Any]:
    record = _bundle(folder) / "model.json"
    try:
        network: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))["network"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"model.weights={folder}: {record} cannot be read ({error}). Give another run.") from error
    return network


def _bundle(folder: Path) -> Path:
    return folder if (folder / "model.json").is_file() else folder / "model"


def _weights_file(path: Path) -> Path:
    return _bundle(path) / "model.safetensors" if path.is_dir() else path


def _located(settings: dict[str, Any]) -> str:
    """``settings["weights"]``, as an absolute path where it is one, after a look into the file."""
    weights, name = str(settings.get("weights", NONE)), settings["name"]
    if weights == NONE:
        return weights
    if name.startswith("baseline_") and name != "baseline_features":
        raise ValueError(f"model.weights={weights}: {name} has no network; leave model.weights=none")
    if weights == IMAGENET:
        if architecture_of(settings) == "simple_cnn":
            raise ValueError(
                "model.weights=imagenet: simple_cnn has none; leave model.weights=none, or choose a backbone"
            )
        return weights
    path = Path(weights).expanduser().absolute()
    if not path.exists():
        raise ValueError(
            f"model.weights={weights}: there is no such file or folder. "
            "Give none, imagenet, a .safetensors or .pth file, or the folder of a finished run."
        )
    file = _weights_file(path)
    if path.is_dir() and not (file.is_file() and (file.parent / "model.json").is_file()):
        raise ValueError(
            f"model.weights={weights}: no model/model.json in it. Give the folder of a run that has finished."
        )
    if file.suffix not in SUFFIXES:
        raise ValueError(f"model.weights={weights}: give a file that ends in .safetensors or .pth, not {file.suffix!r}")
    if file.suffix in TORCH_SUFFIXES:
        read_tensors(file)
    else:
        safetensors_metadata(file)
    return str(path)


def _cfg(architecture: str) -> dict[str, Any]:
    from models.backbones import pretrained_cfg  # here, so that simple_cnn does not wait seconds for timm

    return pretrained_cfg(architecture)

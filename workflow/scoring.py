"""A finished run or ensemble as something that scores pixels: its networks, its preprocessing, its locked threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from conf.output import short
from datamodules.metadata import MetadataEncoder
from datamodules.progress import Progress, silent
from evaluation.threshold import OperatingPoint
from models.blocks import BlockNetwork
from models.bundle import DESCRIPTION, Normalise, load_bundle
from models.exportable import mean_over_views
from models.views import views
from workflow.intact import object_in

# As many as the evaluation batches of a run with the usual data.batch_size: convolutions may round otherwise in other sizes.
_AT_ONCE = 64
_SAME = ("image_size", "channels", "interpolation")


@dataclass(frozen=True)
class ScoredBy:
    """One network of a scorer.

    Attributes:
        run: its folder. ``config``: config.yaml. ``description``: model/model.json.
        network: in eval mode, on the device, float32.
    """

    run: Path
    config: dict[str, Any]
    description: dict[str, Any]
    network: BlockNetwork

    def probabilities(self, images: Tensor, metadata: Tensor | None) -> NDArray[np.float64]:
        """The probabilities of :meth:`scored`."""
        return self.scored(images, metadata)[0]

    @torch.inference_mode()
    def scored(self, images: Tensor, metadata: Tensor | None) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Class probabilities of a batch and what the output layer saw of the images.

        Args:
            images: uint8, shape ``(n, channels, height, width)``, on the device. ``metadata``: float32 ``(n, m)`` or None.

        Returns:
            Probabilities, shape ``(n, classes)``: exact float32 values held as float64, averaged over the views. Embeddings of
            the images as they are (not of their other views), shape ``(n, e)``.
        """
        network, kind = self.description["network"], self.description.get("views", "none")
        normalise = Normalise(network["mean"], network["std"]).to(images.device)
        found, embeddings = [], torch.empty(0)
        for number, view in enumerate(views(images, kind)):
            features = self.network.features(normalise(view).contiguous(memory_format=torch.channels_last))
            logits, embedding = self.network.classify_and_embed(features, metadata)
            logits = logits.float()
            found.append(logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1))
            if number == 0:
                embeddings = embedding.float()
        seen = np.asarray(embeddings.cpu().numpy(), dtype=np.float32)
        scores = found[0] if len(found) == 1 else mean_over_views(torch.stack(found))
        values: NDArray[np.float64] = scores.cpu().numpy().astype(np.float64)
        if values.shape[1] > 1:
            return values, seen
        second = self.description["classes"][1] in self.description["positive"]
        return np.concatenate([1.0 - values, values] if second else [values, 1.0 - values], axis=1), seen


@dataclass(frozen=True)
class Scorer:
    """What scores images: one network, or several whose probabilities are averaged.

    Attributes:
        run: folder of the run or ensemble. ``record``: its run.json. ``config``: config.yaml (of an ensemble: of its first run).
        networks: at least one.
        point: the operating point of the run or ensemble, locked.
        device: where the networks are.
    """

    run: Path
    record: dict[str, Any]
    config: dict[str, Any]
    networks: tuple[ScoredBy, ...]
    point: OperatingPoint
    device: torch.device

    @property
    def name(self) -> str:
        """What a table calls it: the model's name and the number of its networks where there are several."""
        names = " + ".join(dict.fromkeys(str(part.config["model"]["name"]) for part in self.networks))
        return names if len(self.networks) == 1 else f"{names} (mean of {len(self.networks)})"

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the probabilities."""
        return tuple(self.config["task"]["classes"])

    @property
    def outcome(self) -> dict[str, Any]:
        """``positive``, ``positive_name`` and ``negative_name``, as :class:`evaluation.predictions.Predictions` takes them."""
        return {name: self.config["task"][name] for name in ("positive", "positive_name", "negative_name")}

    @property
    def decoding(self) -> dict[str, Any]:
        """``image_size``, ``channels`` and ``interpolation`` of the pixels that it takes."""
        network = self.networks[0].description["network"]
        return {name: network[name] for name in ("image_size", "channels", "interpolation")}

    @property
    def takes_metadata(self) -> bool:
        """Whether a network sees more than the image."""
        return any(part.description.get("metadata") for part in self.networks)

    def probabilities(
        self, pixels: NDArray[np.uint8], metadata: pd.DataFrame | None = None, progress: Progress = silent
    ) -> NDArray[np.float64]:
        """Class probabilities of images.

        Args:
            pixels: shape ``(n, height, width, channels)``, uint8, decoded as ``decoding`` says; may be memory-mapped.
            metadata: rows of a manifest, one an image, for networks that see metadata; raw values, encoded here.
            progress: shows how far it is.

        Returns:
            Shape ``(n, classes)``; those of the run's own test images are those of its predictions file (to 1e-6, and to the
            bit on the machine and with the batch size of the run).

        Raises:
            ValueError: pixels of another size, or metadata missing for a network that needs them.
        """
        return mean_scored(self.networks, pixels, metadata, self.device, progress)[0]


def mean_scored(
    networks: Sequence[ScoredBy],
    pixels: NDArray[np.uint8],
    metadata: pd.DataFrame | None,
    device: torch.device,
    progress: Progress = silent,
) -> tuple[NDArray[np.float64], list[NDArray[np.float32]]]:
    """Mean class probabilities of networks that take the same pixels, and the embeddings of each.

    Args:
        networks: on the device, at least one. The others as in :meth:`Scorer.probabilities`.

    Returns:
        Shape ``(n, classes)``, and for each network ``(n, e)`` as :meth:`ScoredBy.scored` gives them.

    Raises:
        ValueError: pixels of another size, or metadata missing for a network that needs them.
    """
    network, classes = networks[0].description["network"], networks[0].description["classes"]
    size, channels = network["image_size"], network["channels"]
    if pixels.ndim != 4 or pixels.shape[1:] != (size, size, channels):
        raise ValueError(
            f"pixels have the shape {pixels.shape}; {short(networks[0].run)} takes (n, {size}, {size}, {channels})."
        )
    tables = [encoded(part, metadata, len(pixels)) for part in networks]
    found = np.zeros((len(networks), len(pixels), len(classes)))
    seen: list[list[NDArray[np.float32]]] = [[] for _ in networks]
    with progress("scoring", len(pixels)) as advance:
        for start in range(0, len(pixels), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            images = torch.from_numpy(np.array(pixels[rows])).permute(0, 3, 1, 2).to(device)
            for number, (part, table) in enumerate(zip(networks, tables, strict=True)):
                beside = None if table is None else torch.from_numpy(table[rows]).to(device)
                found[number, rows], embeddings = part.scored(images, beside)
                seen[number].append(embeddings)
            advance(len(images))
    none = np.zeros((0, 0), dtype=np.float32)
    mean = np.asarray(found[0] if len(networks) == 1 else found.mean(axis=0))
    return mean, [np.concatenate(parts) if parts else none for parts in seen]


def encoded(part: ScoredBy, metadata: pd.DataFrame | None, n: int) -> NDArray[np.float32] | None:
    """Metadata as a network takes them, shape ``(n, m)``; None for one that sees the image alone.

    Raises:
        ValueError: metadata missing for a network that needs them.
    """
    described = part.description.get("metadata")
    if not described:
        return None
    if metadata is None or len(metadata) != n:
        raise ValueError(
            f"{short(part.run)} sees metadata beside the image ({', '.join(described['outputs'][:4])}, ...), and these images "
            "come without. Give data with the same columns, or a run without model.metadata."
        )
    return MetadataEncoder.from_description(described).encode(metadata)


def load_scorer(run: Path) -> Scorer:
    """Load a finished run, or an ensemble with all its runs.

    Args:
        run: folder of a run of a network, or one that ``ensemble.py`` made.

    Raises:
        ValueError: no finished run, a baseline, changed weights, or a run of an ensemble that is not there any more.
    """
    if not run.is_dir():
        raise ValueError(f"run={run}: there is no such folder.")
    record = _json(run / "run.json", "it is no run folder")
    if record.get("status") != "finished":
        raise ValueError(f"run={short(run)}: this run is not finished (status {record.get('status')}).")
    point = OperatingPoint.from_dict(_json(run / "threshold.json", "there is no locked threshold"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folders = _networks_of(run, record)
    networks = tuple(_loaded(folder, device) for folder in folders)
    for member, part in zip(record.get("members", []), networks, strict=False):
        _require_weights(run, member, part)
    require_alike(networks)
    return Scorer(run, record, networks[0].config, networks, point, device)


def _networks_of(run: Path, record: Mapping[str, Any]) -> list[Path]:
    """The run itself, or the runs of an ensemble where they are now."""
    if (run / "config.yaml").is_file():
        return [run]
    found = []
    for member in record.get("members", []):
        folder = Path(member["run"])
        if not folder.is_dir():
            raise ValueError(
                f"run={short(run)}: this ensemble averages {folder}, which is not there any more. An ensemble scores new images "
                "through its runs; put it back, or make the ensemble again."
            )
        found.append(folder)
    if not found:
        raise ValueError(f"run={short(run)}: neither config.yaml nor members; it is no run that can score images.")
    return found


def placed(
    network: BlockNetwork, description: dict[str, Any], folder: Path, config: dict[str, Any], device: torch.device
) -> ScoredBy:
    """A network ready to score: on the device, in float32 and eval mode, in the memory format that training used.

    Raises:
        ValueError: the description does not say how its pixels are prepared.
    """
    lacking = [name for name in ("mean", "std") if name not in description["network"]]
    if lacking:
        raise ValueError(
            f"{short(folder)}: the description of the network lacks {' and '.join(lacking)}. Train it again."
        )
    moved = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ScoredBy(folder, config, description, moved.float().eval())


def _loaded(folder: Path, device: torch.device) -> ScoredBy:
    if not (folder / "config.yaml").is_file():
        raise ValueError(f"{short(folder)}: config.yaml is missing, so this is no run that can score images.")
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    name = str(config["model"]["name"])
    if name.startswith("baseline_"):
        raise ValueError(
            f"{short(folder)} is the baseline {name.removeprefix('baseline_')}, which leaves predictions and no network, so it "
            "cannot score other images. Give a run of a network."
        )
    if not (folder / "model" / DESCRIPTION).is_file():
        raise ValueError(
            f"{short(folder)}: model/{DESCRIPTION} is missing, so there is no network. Train the run again."
        )
    network, description = load_bundle(folder / "model")
    return placed(network, description, folder, config, device)


def _require_weights(run: Path, member: Mapping[str, Any], part: ScoredBy) -> None:
    """The runs of an ensemble are those that it was made of."""
    stored, there = member.get("weights_sha256"), part.description["weights_sha256"]
    if stored is not None and stored != there:
        raise ValueError(
            f"{short(part.run)}: its weights ({there[:12]}) are not those that {short(run)} was made with ({stored[:12]}). "
            "Make the ensemble again."
        )


def require_alike(networks: Sequence[ScoredBy]) -> None:
    """Raise a ValueError unless all take the same pixels, which are decoded once, and name the same classes in one order."""
    first = networks[0]
    for other in networks[1:]:
        for name in ("classes", "positive"):
            ours, theirs = (part.description[name] for part in (first, other))
            if ours != theirs:
                raise ValueError(
                    f"the networks of this ensemble answer different questions: {name} are {ours} in {short(first.run)} and "
                    f"{theirs} in {short(other.run)}. Score them one by one."
                )
        for name in _SAME:
            ours, theirs = (part.description["network"][name] for part in (first, other))
            if ours != theirs:
                raise ValueError(
                    f"the runs of this ensemble take different pixels: model.{name} is {ours} in {short(first.run)} and {theirs} "
                    f"in {short(other.run)}. Score them one by one."
                )


def _json(path: Path, meaning: str) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"run={short(path.parent)}: {path.name} is missing, so {meaning}.")
    return object_in(path, ". Restore it, or train the run again.")

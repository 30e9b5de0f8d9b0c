"""A trained model ready for new images: of a run, of a hand-over folder, of an ensemble or of a checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from conf.output import short
from datamodules.appearance import Looked, look
from evaluation.borderline import borderline_of
from evaluation.input_check import InputCheck
from evaluation.predictions import read_predictions
from evaluation.recalibration import Calibrator
from evaluation.threshold import OperatingPoint
from models.bundle import DESCRIPTION, extra_arrays, load_bundle, read_description
from workflow.about import About, about_of, config_of
from workflow.agreement import members_in, require_agreement, require_below
from workflow.intact import object_in, undamaged
from workflow.scoring import ScoredBy, load_scorer, mean_scored, placed, require_alike

__all__ = ["ENSEMBLE", "INPUT_CHECK", "About", "Predictor", "Scored", "load_predictor"]

INPUT_CHECK: Final = "input_check.safetensors"
ENSEMBLE: Final = "ensemble.json"  # of a hand-over folder with several networks


@dataclass(frozen=True)
class Scored:
    """Scores of some images.

    Attributes:
        probabilities: shape (n, classes), float64, rows summing to 1.
        scores: shape (n,), of the positive classes together, in [0, 1]; what the threshold is compared with.
        embeddings: for each network ``(n, e)``, what its output layer saw.
    """

    probabilities: NDArray[np.float64]
    scores: NDArray[np.float64]
    embeddings: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class Predictor:
    """Networks with all that was locked at their training.

    Attributes:
        source: what was named on the command line.
        networks: at least one; their probabilities are averaged. All take the same pixels.
        classes: in the order of the probabilities. ``positive``: those whose recall the threshold keeps.
        point: the locked operating point. ``calibrator``: the locked recalibration.
        borderline_from: scores from here up to the threshold are called negative, but would be positive at a threshold for a
            stricter recall, see :func:`evaluation.borderline.borderline_of`; None where that is not known or there are none.
        checks: for each network what tells images it knows from others; None of a model that was trained without.
        lock: held while networks run, because heat maps hook into them.
    """

    source: Path
    networks: tuple[ScoredBy, ...]
    device: torch.device
    about: About
    classes: tuple[str, ...]
    positive: tuple[str, ...]
    point: OperatingPoint
    calibrator: Calibrator
    borderline_from: float | None
    checks: tuple[InputCheck | None, ...]
    lock: threading.RLock = field(default_factory=threading.RLock, compare=False, repr=False)

    @property
    def decoding(self) -> dict[str, Any]:
        """``image_size``, ``channels`` and ``interpolation`` of the pixels that it takes."""
        network = self.networks[0].description["network"]
        return {"interpolation": "area", **{name: network[name] for name in _DECODING if name in network}}

    def look(self, source: Path | bytes, name: str | None = None) -> Looked:
        """An image decoded for these networks, see :func:`datamodules.appearance.look`.

        Raises:
            UnreadableImageError: why it cannot be read; starts with its name.
        """
        decoding = self.decoding
        return look(source, name=name, size=decoding.pop("image_size"), **decoding)

    @property
    def metadata_columns(self) -> tuple[str, ...]:
        """Columns that a network sees beside the image; empty for most."""
        found = dict.fromkeys(
            name for part in self.networks for name in (part.description["network"].get("metadata") or ())
        )
        return tuple(found)

    @property
    def weights_sha256(self) -> tuple[str, ...]:
        """Of each network, hexadecimal."""
        return tuple(str(part.description["weights_sha256"]) for part in self.networks)

    def scored(self, pixels: NDArray[np.uint8], metadata: pd.DataFrame | None = None) -> Scored:
        """Scores of images; may be called from several threads.

        Args:
            pixels: shape ``(n, height, width, channels)``, uint8, as ``decoding`` says.
            metadata: raw values, one row an image, for networks that see them.

        Raises:
            ValueError: pixels of another size, or metadata missing for a network that needs them.
        """
        with self.lock:
            probabilities, embeddings = mean_scored(self.networks, pixels, metadata, self.device)
        return Scored(probabilities, self.scores_of(probabilities), tuple(embeddings))

    def scores_of(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of the positive classes, shape (n,), added up as :attr:`evaluation.predictions.Predictions.scores` does."""
        columns = [probabilities[:, number] for number, name in enumerate(self.classes) if name in self.positive]
        return columns[0] if len(columns) == 1 else np.clip(sum(columns[1:], start=columns[0]), 0.0, 1.0)


_DECODING: Final = ("image_size", "channels", "interpolation")


def load_predictor(source: Path, *, trust: bool = False) -> Predictor:
    """Load what was trained, and refuse what was changed since.

    Args:
        source: a run folder, its ``model/`` folder, a hand-over folder, an ensemble, or a checkpoint of ours.
        trust: read a checkpoint even though that may run code that is hidden in it.

    Raises:
        ValueError: nothing of the kind, damaged or changed files, or files that contradict each other.
    """
    try:
        source = source.expanduser()
        is_file, is_folder = source.is_file(), source.is_dir()
    except (OSError, RuntimeError):  # a name too long, no such user
        is_file, is_folder = False, False
    if not is_file and not is_folder:
        shown = str(source) if len(str(source)) <= 300 else f"{str(source)[:297]}..."
        raise ValueError(f"run={shown}: there is no such folder or file. Name the folder of a finished run.")
    with undamaged(source):
        return _of_checkpoint(source, trust) if is_file else _of_folder(source)


def _of_folder(source: Path) -> Predictor:
    if (source / "run.json").is_file():
        return _of_run(source)
    if (source / ENSEMBLE).is_file():
        return _of_handed_ensemble(source)
    if (source / DESCRIPTION).is_file():
        return _of_model(source)
    raise ValueError(
        f"run={short(source)}: neither run.json nor {DESCRIPTION} is there, so it is neither a run nor a model. Name the folder "
        "that train.py printed as the run folder, or its model/."
    )


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _of_run(run: Path) -> Predictor:
    scorer = load_scorer(run)
    parts = scorer.networks
    if len(parts) == 1:
        require_agreement(run, parts[0])
    stored = parts[0].description
    borderline = (
        stored["borderline_from"] if len(parts) == 1 and "borderline_from" in stored else _borderline(run, scorer)
    )
    calibration, card, record = run / "calibration.json", run / "data_card.json", scorer.record
    if "licence" not in stored and card.is_file():  # a run from before the model knew it
        stored = {**stored, "licence": object_in(card, ". Restore it.").get("licence")}
    return _assembled(
        run,
        parts,
        about_of(stored, scorer.config, str(record.get("title", "")), version=str(record.get("version") or "")),
        scorer.point,
        Calibrator.from_dict(object_in(calibration, ". Restore it.")) if calibration.is_file() else None,
        borderline,
    )


def _borderline(run: Path, scorer: Any) -> float | None:
    """Of an ensemble, or of a run from before it was stored: from the validation predictions."""
    path = run / "predictions" / "val.csv"
    if not path.is_file():
        return None
    predictions = read_predictions(path, scorer.classes, **scorer.outcome)
    return borderline_of(predictions, scorer.point)


def _of_model(folder: Path) -> Predictor:
    """A ``model/`` folder or a hand-over folder with one network."""
    network, description = load_bundle(folder)
    point = _point_of(description.get("threshold"), folder / DESCRIPTION)
    part = placed(network, description, folder, config_of(description), _device())
    about = about_of(description, config_of(description), str(description.get("title", "")))
    return _assembled(folder, (part,), about, point, _calibrator(description), description.get("borderline_from"))


def _of_handed_ensemble(folder: Path) -> Predictor:
    """A hand-over folder with several networks, each in a folder of its own."""
    description = read_description(folder, ENSEMBLE, needed=("members", "threshold", "classes"))
    parts = []
    for place, digest in members_in(folder / ENSEMBLE, description["members"]):
        network, own = load_bundle(place)
        if own["weights_sha256"] != digest:
            raise ValueError(f"{place}: its weights are not those that {ENSEMBLE} names. Do not use this model.")
        parts.append(placed(network, own, place, config_of(own), _device()))
    require_alike(parts)
    if description["classes"] != parts[0].description["classes"]:
        raise ValueError(
            f"{folder / ENSEMBLE}: classes are {description['classes']}, those of its networks "
            f"{parts[0].description['classes']}. Do not use this model."
        )
    about = about_of(
        {**parts[0].description, **description}, config_of(parts[0].description), str(description["title"])
    )
    point = _point_of(description["threshold"], folder / ENSEMBLE)
    return _assembled(folder, tuple(parts), about, point, _calibrator(description), description.get("borderline_from"))


def _of_checkpoint(path: Path, trust: bool) -> Predictor:
    from workflow.foreign_checkpoint import load_checkpoint

    network, description = load_checkpoint(path, trust)
    part = placed(network, description, path, config_of(description), _device())
    about = about_of(description, config_of(description), str(description.get("title", path.name)))
    point = _point_of(description.get("threshold"), path)
    return _assembled(path, (part,), about, point, _calibrator(description), description.get("borderline_from"))


def _assembled(
    source: Path,
    parts: tuple[ScoredBy, ...],
    about: About,
    point: OperatingPoint,
    calibrator: Calibrator | None,
    borderline_from: float | None,
) -> Predictor:
    description = parts[0].description
    require_below(source, borderline_from, point.threshold)
    return Predictor(
        source=source,
        networks=parts,
        device=_device(),
        about=about,
        classes=tuple(description["classes"]),
        positive=tuple(name for name in description["classes"] if name in description["positive"]),
        point=point,
        calibrator=calibrator or _calibrator(description),
        borderline_from=borderline_from,
        checks=tuple(_check(part) for part in parts),
    )


def _check(part: ScoredBy) -> InputCheck | None:
    described = part.description.get("input_check")
    if not described:
        return None
    folder = part.run if (part.run / DESCRIPTION).is_file() else part.run / "model"
    arrays = extra_arrays(folder, part.description, INPUT_CHECK)
    if arrays is None:
        raise ValueError(
            f"{folder / DESCRIPTION} describes an input check, but names no {INPUT_CHECK}. Do not use this model."
        )
    return InputCheck.from_parts(described, arrays)


def _point_of(content: Any, path: Path) -> OperatingPoint:
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: it holds no threshold, so it decides nothing. Use the folder of a finished run.")
    return OperatingPoint.from_dict(content)


def _calibrator(description: Mapping[str, Any]) -> Calibrator:
    stored = description.get("calibration")
    return Calibrator() if stored is None else Calibrator.from_dict(stored)

"""Baselines on a prepared data set: their predictions, remembered beside the split, and a baseline in place of a network."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.hog import hog_features
from datamodules.metadata import MetadataEncoder
from datamodules.pixel_source import identity_of
from datamodules.prepared import PreparedData
from datamodules.thumbnails import thumbnails
from evaluation.baselines import BASELINES, HELD, TITLES, BaselineInputs, baseline_scores
from evaluation.predictions import PREFIX, Predictions, write_predictions
from evaluation.threshold import OperatingPoint, choose_operating_point

Features = Mapping[str, NDArray[Any]]
"""Outputs of a frozen network: for ``train``, ``val`` and ``test`` an array of shape (images of the part, f)."""

# Columns that say who and where. Others (dx_type: how the diagnosis was made; subtype: a finer label) would tell the answer.
METADATA_COLUMNS: Final = ("age", "own_age", "sex", "localization", "site")
PARTS: Final = ("train", *HELD)
_VERSION: Final = 1  # raised when the same data would give other predictions
log = logging.getLogger("firstread")


def available_baselines(
    settings: dict[str, Any], prepared: PreparedData, features: Features | None = None
) -> list[str]:
    """The baselines of ``evaluation.baselines`` that can be made here, in the order of ``BASELINES``.

    Left out are ``metadata`` where the data set says neither age nor sex nor site, ``features`` where none are given, and
    the baseline that the run itself trains.

    Args:
        settings: the whole configuration as plain values.
        prepared: the data set.
        features: of a frozen network, if there are any.

    Raises:
        ValueError: an unknown name in ``evaluation.baselines``.
    """
    asked = settings["evaluation"]["baselines"]
    unknown = [name for name in asked if name not in BASELINES]
    if unknown:
        raise ValueError(f"evaluation.baselines holds {unknown[0]!r}; choose from {', '.join(BASELINES)}.")
    absent = {str(settings["model"]["name"]).removeprefix("baseline_")} if _is_baseline(settings) else set()
    absent |= {"metadata"} if not metadata_columns(prepared) else set()
    absent |= {"features"} if features is None else set()
    return [name for name in BASELINES if name in asked and name not in absent]


def metadata_columns(prepared: PreparedData) -> list[str]:
    """Columns of the manifest that the metadata baseline may see: age, sex and site, where known and not telling the label."""
    frame = prepared.manifest.frame
    known = [name for name in METADATA_COLUMNS if name in frame and frame[name].astype(str).nunique() > 1]
    return [name for name in known if _is_usable(name, frame.iloc[prepared.splits.rows("train")])]


def _is_usable(name: str, training: pd.DataFrame) -> bool:
    try:
        MetadataEncoder.fit(training, [name])
    except ValueError:  # it tells the label, or has no usable value in training
        return False
    return True


def baseline_predictions(
    name: str, settings: dict[str, Any], prepared: PreparedData, *, features: Features | None = None
) -> dict[str, NDArray[np.float64]]:
    """Class probabilities of one baseline on ``val`` and ``test``, each of shape (n, K) in the order of the split's rows.

    They are kept below ``prepared.task_folder`` under a name made from everything that they depend on, so that the next run
    on the same split only reads them.

    Args:
        name: one of ``BASELINES``.
        settings: the whole configuration as plain values; used are ``task``, ``split`` and ``model``.
        prepared: the data set.
        features: needed by ``features`` alone.

    Raises:
        ValueError: an unknown name, or a baseline that these data do not allow.
    """
    if name not in BASELINES:
        raise ValueError(f"baseline is {name!r}; choose from {', '.join(BASELINES)}.")
    path = prepared.task_folder / "baselines" / f"{name}-{_key(name, settings, prepared, features)}.npz"
    shapes = {part: (len(prepared.splits.rows(part)), len(prepared.manifest.classes)) for part in HELD}
    found = _read(path, shapes)
    if found is None:
        found = _computed(name, settings, prepared, features)
        _write(path, found)
    targets = prepared.manifest.targets[prepared.splits.rows("train")]
    counts = np.bincount(targets, minlength=len(prepared.manifest.classes))
    return {part: without_prior(scores, counts, _tau(settings)) for part, scores in found.items()}


def without_prior(scores: NDArray[np.float64], counts: NDArray[np.int64], tau: float) -> NDArray[np.float64]:
    """Probabilities divided by the class frequencies to the power of tau, as the network's loss corrects for them.

    A network that is told to treat rare classes like common ones would otherwise be compared with baselines that are not.

    Args:
        scores: shape (n, K). ``counts``: training images of each class, at least 1. ``tau``: 0 leaves the scores alone.
    """
    if tau == 0:
        return scores
    shifted = scores / (counts / counts.sum()) ** tau
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32).astype(np.float64)


def _tau(settings: dict[str, Any]) -> float:
    imbalance = settings["imbalance"]
    equal = imbalance["class_weights"] or imbalance["weighted_sampler"]
    return 1.0 if equal else float(imbalance["logit_adjustment"])


def _computed(
    name: str, settings: dict[str, Any], prepared: PreparedData, features: Features | None
) -> dict[str, NDArray[np.float64]]:
    started = time.perf_counter()
    manifest, rows = prepared.manifest, prepared.splits.rows("train")
    found = baseline_scores(
        name,
        _inputs(name, prepared, features),
        manifest.targets[rows],
        len(manifest.classes),
        positive=_positive(settings, prepared),
        seed=settings["split"]["seed"],
    )
    log.info("baseline %s: %s (%.1f s)", name, TITLES[name], time.perf_counter() - started)
    return found


def train_baseline(
    settings: dict[str, Any], prepared: PreparedData, folder: Path, *, features: Features | None = None
) -> OperatingPoint:
    """A baseline in place of the network (``model=baseline_...``): predictions, operating point, threshold.json.

    Args:
        settings: the whole configuration; ``model.name`` names the baseline.
        prepared: the data set.
        folder: the run; ``predictions/val.csv``, ``predictions/test.csv`` and ``threshold.json`` are written.
        features: needed by ``baseline_features`` alone.

    Returns:
        The operating point, fixed on validation by the rule of ``settings["threshold"]``.

    Raises:
        ValueError: no baseline is called so, or these data do not allow it.
    """
    name, task, rule = settings["model"]["name"], settings["task"], settings["threshold"]
    if not _is_baseline(settings):
        raise ValueError(f"model.name is {name!r}; a baseline is one of baseline_{', baseline_'.join(BASELINES)}.")
    found = baseline_predictions(name.removeprefix("baseline_"), settings, prepared, features=features)
    manifest = prepared.manifest
    held = {}
    for part, probabilities in found.items():
        frame = manifest.frame[["image_id", "group_id", "label", *manifest.subgroup_columns]]
        frame = frame.iloc[prepared.splits.rows(part)].reset_index(drop=True)
        frame = frame.assign(**{f"{PREFIX}{label}": probabilities[:, k] for k, label in enumerate(manifest.classes)})
        outcome = {key: task[key] for key in ("positive", "positive_name", "negative_name")}
        held[part] = Predictions(frame, manifest.classes, **outcome)
        write_predictions(folder / "predictions" / f"{part}.csv", frame)
    point = choose_operating_point(
        held["val"],
        **{("fixed" if key == "value" else key): value for key, value in rule.items()},
        group_name=task["group_name"],
        selection_optimistic=False,  # validation had no say in what was fitted
    )
    title = f"{'Phantom data - ' if prepared.phantom else ''}{task['title']}: {name}"
    _replace(folder / "threshold.json", (json.dumps({"title": title, **point.to_dict()}, indent=2) + "\n").encode())
    return point


def _is_baseline(settings: dict[str, Any]) -> bool:
    kind, _, name = str(settings["model"]["name"]).partition("_")
    return kind == "baseline" and name in BASELINES


def _positive(settings: dict[str, Any], prepared: PreparedData) -> int:
    """Number of the positive class; of several classes no baseline asks for it."""
    return prepared.manifest.classes.index(settings["task"]["positive"][0])


def _inputs(name: str, prepared: PreparedData, features: Features | None) -> BaselineInputs:
    """What a baseline sees of each part, read from the memory map image by image."""
    rows = {part: prepared.splits.rows(part) for part in PARTS}
    held: dict[str, NDArray[Any]]
    if name == "majority":
        held = {part: np.empty((len(rows[part]), 0), dtype=np.float32) for part in PARTS}
    elif name == "thumbnail":
        held = {part: thumbnails(prepared.pixels, rows[part]) for part in PARTS}
    elif name == "hog_svm":
        held = {part: hog_features(prepared.pixels, rows[part]) for part in PARTS}
    elif name == "metadata":
        held = _metadata(prepared, rows)
    else:
        held = _given(features, rows)
    groups = prepared.manifest.frame["group_id"].to_numpy(dtype=str)[rows["train"]]
    return BaselineInputs(held["train"], held["val"], held["test"], groups)


def _metadata(prepared: PreparedData, rows: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[Any]]:

    columns = metadata_columns(prepared)
    if not columns:
        raise ValueError(
            f"baseline metadata: none of the columns {', '.join(METADATA_COLUMNS)} is there with at least two values and without "
            "telling the label. Choose another model=baseline_..., or leave metadata out of evaluation.baselines."
        )
    frame = prepared.manifest.frame
    encoder = MetadataEncoder.fit(frame.iloc[rows["train"]], columns)
    return {part: encoder.encode(frame.iloc[rows[part]]) for part in PARTS}


def _given(features: Features | None, rows: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[Any]]:
    if features is None:
        raise ValueError("baseline features: it needs the outputs of a frozen network; none were given.")
    wrong = {part: np.shape(features.get(part, ())) for part in PARTS if len(features.get(part, ())) != len(rows[part])}
    if wrong:
        raise ValueError(
            f"baseline features: the shapes {wrong} do not fit the split of { {part: len(rows[part]) for part in PARTS} } images."
        )
    return {part: np.asarray(features[part], dtype=np.float32) for part in PARTS}


def _key(name: str, settings: dict[str, Any], prepared: PreparedData, features: Features | None) -> str:
    """Hash of everything that the predictions depend on."""
    splits, manifest = prepared.splits, prepared.manifest
    decides: list[Any] = [_VERSION, name, splits.sha256, manifest.sha256, settings["split"]["seed"]]
    decides += [list(manifest.classes), _positive(settings, prepared)]
    if name in ("thumbnail", "hog_svm"):
        decides += [list(prepared.pixels.shape), identity_of(prepared.pixels)]
    elif name == "metadata":
        columns = metadata_columns(prepared)
        decides += [columns, hashlib.sha256(manifest.frame[columns].to_csv(index=False).encode()).hexdigest()]
    elif name == "features" and features is not None:
        decides += [[part, _digest(features[part])] for part in sorted(features)]
    return hashlib.sha256(json.dumps(decides).encode(errors="surrogateescape")).hexdigest()[:16]


def _digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes() + str(array.shape).encode()).hexdigest()


def _read(path: Path, shapes: Mapping[str, tuple[int, int]]) -> dict[str, NDArray[np.float64]] | None:
    """What was kept; None where there is nothing, or nothing usable."""
    try:
        with np.load(path, allow_pickle=False) as held:
            found = {part: np.asarray(held[part], dtype=np.float64) for part in HELD}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return found if all(found[part].shape == shapes[part] for part in HELD) else None


def _write(path: Path, found: Mapping[str, NDArray[np.float64]]) -> None:
    content = io.BytesIO()
    np.savez(content, **found)  # type: ignore[arg-type]
    _replace(path, content.getvalue())


def _replace(path: Path, content: bytes) -> None:
    """Write beside the place and rename, so that no half file is ever read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    os.replace(beside, path)

"""A checkpoint file as a network with its description; nothing that the file brings along is run unless it is trusted."""

from __future__ import annotations

import json
import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
import yaml
from torch import Tensor

from conf.output import short
from conf.schema import RESEARCH_NOTICE
from evaluation.recalibration import Calibrator
from evaluation.threshold import fixed_point
from models.blocks import BlockNetwork
from models.pretrained import description_of
from models.stored_settings import network_of
from models.views import VIEWS
from models.weights import file_sha256

log = logging.getLogger("firstread")

SUFFIXES: Final = (".ckpt", ".pt", ".pth", ".bin")
_JUDGE = "To judge its scores, write them to a table: python evaluate.py predictions=FILE.csv."
_PICKLE = (
    "this is a pickle, which can run code while it is read, so it is not opened, trusted or not. Give a run folder, or a "
    f"checkpoint (.ckpt) of a run. {_JUDGE}"
)
_KERAS = f"models of Keras and TensorFlow are not read. Train the network here (model=simple_cnn is theirs). {_JUDGE}"
_INSTEAD: Final = {
    **dict.fromkeys((".pkl", ".pickle", ".joblib", ".dill"), _PICKLE),
    **dict.fromkeys((".h5", ".hdf5", ".keras", ".tflite", ".pb"), _KERAS),
    ".onnx": "an exported model is run by onnxruntime. Give the run that it was exported from.",
    ".safetensors": "these are weights alone. Give the folder around them, which holds model.json too.",
}
_CALLED = re.compile(r"GLOBAL (\S+)")
_MOST_BYTES: Final = 8 * 2**30
_CALIBRATION_METHODS = ("none", "temperature", "platt")


def load_checkpoint(path: Path, trust: bool = False) -> tuple[BlockNetwork, dict[str, Any]]:
    """Load a checkpoint that a run wrote (``checkpoints/best.ckpt``).

    The file is read with ``weights_only``: tensors and plain values, and no code of the file runs. Where it needs more, it is
    refused; only with ``trust`` is it read as a pickle, which is said in the log. It must then still hold what a checkpoint of
    this program holds.

    Args:
        path: of the file.
        trust: the user wrote ``trust=true``: code in the file may run.

    Returns:
        The network in eval mode, float32, on the CPU; and a description with the fields of ``model.json``. Its threshold is the
        number that the checkpoint holds: rule and certificate are in the folder of the run only. ``weights_sha256`` is that of
        the file, ``checkpoint`` its name.

    Raises:
        ValueError: with what is wrong, and what to give instead.
    """
    _require_kind(path)
    content = _read(path, trust)
    state, hyper = _parts(path, content)
    classes, positive = _classes(path, hyper)
    tensors = {name.removeprefix("network."): held for name, held in state.items() if name.startswith("network.")}
    outputs = 1 if len(classes) == 2 else len(classes)
    network = network_of(hyper["model"], outputs, tensors, f"run={short(path)}").float()
    settings = dict(hyper["model"])
    if settings.get("metadata_width"):
        raise ValueError(
            f"run={short(path)}: this network sees metadata beside the image, and how they are encoded is in model/ of its run, "
            "not in the checkpoint. Give the folder of the run."
        )
    return network, _description(path, settings, classes, positive, hyper, state)


def _require_kind(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"run={path}: there is no such file.")
    suffix = path.suffix.lower()
    if suffix in _INSTEAD:
        raise ValueError(f"run={short(path)}: {_INSTEAD[suffix]}")
    if suffix not in SUFFIXES:
        raise ValueError(
            f"run={short(path)}: this is no run folder and no checkpoint. Give the folder of a finished run, or a .ckpt file."
        )
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(
            f"run={short(path)}: {path.stat().st_size / 2**30:.0f} GiB are more than any checkpoint here has."
        )
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PK\x03\x04":
        _require_plain_archive(path)
    elif start[:1] != b"\x80":  # the older form of torch.save: a pickle of protocol 2
        raise ValueError(
            f"run={short(path)}: this is no checkpoint (it begins with {start!r}). Copy it again, or give the folder of the run."
        )


def _require_plain_archive(path: Path) -> None:
    """torch stores its parts as they are; packed ones could unpack to more than the memory holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(_damaged(path, error)) from error
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError(
            f"run={short(path)}: parts of this archive are compressed, which no checkpoint is. {_instead(path)}"
        )
    if sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError(f"run={short(path)}: its parts claim to be larger than the file. {_instead(path)}")


def _read(path: Path, trust: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of other protocols, which it then refuses anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not trust:
            raise ValueError(_refusal(path, error)) from error
    except Exception as error:  # a damaged file fails in many ways; none of them is a reason to read it unsafely
        raise ValueError(_damaged(path, error)) from error
    log.warning("%s is read as a pickle because of trust=true: code in it can run.", short(path))
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise ValueError(_damaged(path, error)) from error


def _refusal(path: Path, error: Exception) -> str:
    found = _CALLED.search(str(error))
    wants = f" (it asks for {found[1][:80]})" if found else ""
    return (
        f"run={short(path)}: this file holds more than tensors and plain values{wants}, and reading the rest can run any code, "
        "so it was not read. Checkpoints of this program need no such thing. If you know who made it and trust them, add "
        "trust=true; otherwise give the folder of a run."
    )


def _damaged(path: Path, error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (
        f"run={short(path)}: cannot be read as a checkpoint ({lines[0][:200] if lines else type(error).__name__}). Copy it "
        "again, or give the folder of the run."
    )


def _parts(path: Path, content: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights and buffers by name, and the settings that the network was made with."""
    if not isinstance(content, Mapping):
        raise ValueError(
            f"run={short(path)}: it holds a {type(content).__name__}, expected a checkpoint of this program. {_instead(path)}"
        )
    lacking = [name for name in ("state_dict", "hyper_parameters") if name not in content]
    if lacking:
        bare = (
            "weights alone, without classes, preprocessing and threshold" if _is_weights(content) else "no checkpoint"
        )
        raise ValueError(f"run={short(path)}: it lacks {' and '.join(lacking)}, so it is {bare}. {_instead(path)}")
    hyper, state = _plain(content["hyper_parameters"]), content["state_dict"]
    missing = [name for name in ("model", "classes", "positive") if name not in hyper]
    if missing:
        raise ValueError(
            f"run={short(path)}: its hyper_parameters lack {', '.join(missing)}, so it was not made by this program. "
            f"{_instead(path)}"
        )
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"run={short(path)}: its state_dict holds more than tensors. {_instead(path)}")
    hyper["model"] = _plain(hyper["model"])
    return {str(name): value for name, value in state.items()}, hyper


def _is_weights(content: Mapping[Any, Any]) -> bool:
    held = content.get("state_dict", content)
    return isinstance(held, Mapping) and any(isinstance(value, Tensor) for value in held.values())


def _plain(held: Any) -> dict[str, Any]:
    """Hyperparameters as a dictionary; a trusted file may hold a Namespace."""
    content = held if isinstance(held, Mapping) else getattr(held, "__dict__", {})
    return {str(name): value for name, value in content.items()}


def _instead(path: Path) -> str:
    return (
        "Give the folder of a run, or a checkpoint of one. Its weights can start a training: python train.py "
        f"model.weights={short(path)} model.name=ARCHITECTURE."
    )


def _classes(path: Path, hyper: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    classes, positive = hyper["classes"], hyper["positive"]
    for name, held in (("classes", classes), ("positive", positive)):
        if not isinstance(held, list | tuple) or not all(isinstance(item, str) for item in held):
            raise ValueError(f"run={short(path)}: {name} is {str(held)[:60]!r}, expected a list of names.")
    if len(classes) < 2 or len(set(classes)) < len(classes) or not positive or not set(positive) < set(classes):
        raise ValueError(
            f"run={short(path)}: positive={list(positive)} must be some, but not all, of at least two different classes, got "
            f"{list(classes)}."
        )
    return list(classes), list(positive)


def _description(
    path: Path,
    settings: dict[str, Any],
    classes: list[str],
    positive: list[str],
    hyper: Mapping[str, Any],
    state: Mapping[str, Tensor],
) -> dict[str, Any]:
    """What model.json of the run would say, as far as a checkpoint knows it."""
    views, beside = hyper.get("tta", "none"), _beside(path, classes)
    if views not in VIEWS:
        raise ValueError(f"run={short(path)}: tta is {str(views)[:40]!r}, expected one of {list(VIEWS)}.")
    settings = {"interpolation": "area", "mean": [0.0], "std": [1.0], **settings, "weights": "none"}
    return {
        # Where the file lies outside of its run, its data are not known either.
        "title": f"{settings['name']}, checkpoint {path.name}",
        "phantom": False,
        **beside,
        "notice": RESEARCH_NOTICE,
        "network": settings,
        "classes": classes,
        "positive": positive,
        "preprocessing": description_of(settings),
        "metadata": None,
        "views": views,
        "threshold": _threshold(path, state, _called(classes, positive, beside.get("task", {}))),
        "calibration": _calibration(path, state),
        "checkpoint": path.name,
        "weights_sha256": file_sha256(path),
    }


def _beside(path: Path, classes: list[str]) -> dict[str, Any]:
    """Title, task, and whether the data were drawn, where the checkpoint still lies in its run; nothing elsewhere."""
    run = path.absolute().parent.parent
    try:
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
        task = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["task"]
        if list(task["classes"]) != classes:
            return {}
        return {"title": str(record["title"]), "phantom": bool(record["phantom"]), "task": dict(task)}
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return {}


def _called(classes: list[str], positive: list[str], task: Mapping[str, Any]) -> tuple[str, str]:
    """What positives and negatives are called."""
    called = str(task.get("positive_name") or " + ".join(positive))
    others = [name for name in classes if name not in positive]
    return called, others[0] if len(others) == 1 else str(task.get("negative_name") or f"not {called}")


def _threshold(path: Path, state: Mapping[str, Tensor], called: tuple[str, str]) -> dict[str, Any]:
    value = _number(path, state, "threshold", 1)[0]
    if not 0.0 <= value <= 1.0:  # NaN too: not yet validated
        raise ValueError(
            f"run={short(path)}: its threshold is {value}, so it was saved before validation fixed one. Give a later checkpoint, "
            "or the folder of the finished run."
        )
    statement = (
        f"An image is called {called[0]} when its score is at least {value:.3g}, as the checkpoint says. The rule and the "
        "promise behind this number are in threshold.json of its run; the file alone promises nothing."
    )
    return {**fixed_point(value, *called).to_dict(), "statement": statement}


def _calibration(path: Path, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Slope, intercept and temperature; checkpoints from before there were any are not recalibrated."""
    slope, intercept, temperature = (
        _number(path, state, "calibration", 3) if "calibration" in state else [float("nan")] * 3
    )
    if slope != slope:  # NaN: never fitted
        return Calibrator(reason="The checkpoint holds no calibration.").to_dict()
    method = _CALIBRATION_METHODS[2 if intercept else int(slope != 1.0)]
    fitted = None if temperature != temperature else temperature
    try:
        return Calibrator(method, slope, intercept, fitted).to_dict()
    except ValueError as error:
        raise ValueError(f"run={short(path)}: {error}") from error


def _number(path: Path, state: Mapping[str, Tensor], name: str, n: int) -> list[float]:
    held = state.get(name)
    if held is None or held.numel() != n:
        raise ValueError(
            f"run={short(path)}: its state_dict has no {name} of {n} value{'s' * (n > 1)}, so it was not made by this program. "
            f"{_instead(path)}"
        )
    return [float(value) for value in held.double().reshape(-1).tolist()]

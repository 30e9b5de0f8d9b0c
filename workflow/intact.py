"""Whether a judged folder still is what it was when it was judged: its files whole, its scores and threshold unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from conf.output import short
from evaluation.metrics import auroc
from evaluation.predictions import Predictions
from evaluation.recalibration import Calibrator

# AUROC and Brier score are stored in full, so only the order of a sum may differ.
SAME: Final = 1e-9
# Taken again by every version in words of its own; they decide nothing.
_WORDS: Final = frozenset({"statement", "price"})


@contextmanager
def undamaged(folder: Path) -> Iterator[None]:
    """Around the reading of a judged folder: what its files lack, or hold in another form, becomes one message.

    Raises:
        ValueError: naming the folder.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, yaml.YAMLError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        missing = f"{what} is missing" if isinstance(error, KeyError) else what
        raise ValueError(
            f"{short(folder)} is damaged ({missing}). Restore its files, or train or judge it again."
        ) from error


def object_in(path: Path, remedy: str) -> dict[str, Any]:
    """The content of a JSON file that holds one object.

    Args:
        remedy: the end of the message, beginning with a sign: ``". Train it again."``, ``", so nothing is known."``

    Raises:
        ValueError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}){remedy}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged (it holds {str(content)[:40]!r}, not an object of fields){remedy}")
    return content


def calibration_of(folder: Path) -> Calibrator | None:
    """The calibration that a run stored; None for a run from before there was one."""
    path = folder / "calibration.json"
    remedy = ". Restore it, or train the run again."
    return Calibrator.from_dict(object_in(path, remedy)) if path.is_file() else None


def require_same_threshold(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Raise a ValueError where threshold.json and metrics.json speak of different operating points.

    A folder without threshold.json passes: the caller says so.
    """
    path = folder / "threshold.json"
    if not path.is_file():
        return
    held, judged = object_in(path, ". Restore it, or train or judge the run again."), metrics["threshold"]
    shared = [name for name in judged if name in held and name not in _WORDS]
    differing = [name for name in shared if held[name] != judged[name]]
    if "threshold" not in shared or differing:
        name = differing[0] if differing else "threshold"
        raise ValueError(
            f"{short(folder)}: {name} is {held.get(name)} in threshold.json and {judged.get(name)} in metrics.json, so one of "
            "them was changed since it was judged. Restore it, or train or judge the run again."
        )


def require_unchanged(path: Path, predictions: Predictions, summary: Mapping[str, Any]) -> None:
    """Raise a ValueError where a file of predictions is not the one that was judged.

    Args:
        path: of the file. ``summary``: of its part in metrics.json, whose counts, AUROC, Brier score and decisions at the
            threshold are taken anew.
    """
    found: dict[str, float] = {"n": len(predictions), "n_positive": int(predictions.labels.sum())}
    words = {"n": "images", "n_positive": "positive images"}
    for name, word in words.items():
        if found[name] != summary[name]:
            _changed(path, f"it holds {found[name]} {word}; metrics.json counted {summary[name]}")
    labels, scores = predictions.labels, predictions.scores
    ranked = {
        "AUROC": ("auroc", auroc(labels, scores)),
        "Brier score": ("brier", float(np.mean((scores - labels) ** 2))),
    }
    for word, (name, value) in ranked.items():
        judged = summary[name]["value"]
        if judged is not None and not abs(value - judged) <= SAME:
            _changed(path, f"its {word} is {value:.6g}; metrics.json has {judged:.6g}")
    at = summary["at_threshold"]
    if at.get("threshold") is None:  # of joined folds, each with its own
        return
    flagged = scores >= at["threshold"]
    counts = {"tp": int((flagged & (labels == 1)).sum()), "fp": int((flagged & (labels == 0)).sum())}
    if counts != {name: at[name] for name in counts}:
        _changed(
            path,
            f"at the threshold {at['threshold']:.6g} it has {counts['tp']} true and {counts['fp']} false positives; metrics.json "
            f"counted {at['tp']} and {at['fp']}",
        )


def _changed(path: Path, text: str) -> None:
    raise ValueError(
        f"{short(path)} is not what was judged: {text}. The file, or metrics.json, was changed since. Restore it, or judge the "
        "file on its own: python evaluate.py predictions=FILE.csv"
    )

"""A folder that holds judged predictions: a run, an ensemble, or a record of evaluate.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from conf.output import short
from evaluation.decided import Decided, decide
from evaluation.predictions import Predictions, positive_classes, read_predictions
from evaluation.threshold import OperatingPoint
from evaluation.wording import Worry, listed, plural, worry
from workflow.intact import object_in, require_same_threshold, require_unchanged, undamaged

_AGAIN: Final = ". Train or judge the run again."
CROSS_VALIDATION: Final = "out_of_fold"


@dataclass(frozen=True)
class JudgedFolder:
    """Predictions with the operating point that was fixed for them.

    Attributes:
        folder: as it was given. ``metrics``: metrics.json. ``record``: run.json; empty where there is none.
    """

    folder: Path
    metrics: dict[str, Any]
    record: dict[str, Any]

    @property
    def outcome(self) -> tuple[Any, ...]:
        """What the classes are: names in their order, the positive ones, and what positives and negatives are called."""
        return tuple(
            tuple(value) if isinstance(value, list) else value
            for value in (self.metrics[key] for key in ("classes", "positive", "positive_class", "negative_class"))
        )

    @property
    def test_part(self) -> str:
        """The predictions file of the test part: ``test``, or ``out_of_fold`` of a cross-validation."""
        return "test" if "splits" in self.metrics else CROSS_VALIDATION

    @property
    def summary(self) -> dict[str, Any]:
        """The test part of metrics.json; of a cross-validation the pooled folds."""
        held = self.metrics["splits"]["test"] if "splits" in self.metrics else self.metrics["pooled"]
        return dict(held)

    @property
    def threshold(self) -> float | None:
        """The locked threshold; None of a cross-validation, whose folds have thresholds of their own."""
        return float(self.metrics["threshold"]["threshold"]) if "splits" in self.metrics else None

    @property
    def name(self) -> str:
        """What the model is called in a comparison: its kind, and what tells it from its repetitions."""
        model, seeds, members = str(self.metrics["model"]), self.record.get("seeds") or {}, self.record.get("members")
        if members:
            kind = "folds" if "folds" in str(self.record.get("kind")) else "runs"
            return f"{model}, {len(members)} {kind} as one"
        seed = seeds.get("seed")
        return f"{model}, seed {seed}" if seed is not None else model

    def path(self, part: str) -> Path:
        """Where the predictions of one part lie."""
        return self.folder / "predictions" / f"{part}.csv"

    def has(self, part: str) -> bool:
        """Whether there are predictions of a part: ``val``, ``test``, or a baseline's ``thumbnail_test``."""
        return self.path(part).is_file()

    def predictions(self, part: str) -> Predictions:
        """Predictions of one part, checked."""
        classes, positive, positive_class, negative_class = self.outcome
        return read_predictions(self.path(part), classes, positive, positive_class, negative_class)

    @cached_property
    def test(self) -> Decided:
        """The test images with their decisions, each at the locked threshold or at that of its fold.

        Raises:
            ValueError: the predictions are not those that were judged.
        """
        held = self.predictions(self.test_part)
        with undamaged(self.folder):
            require_unchanged(self.path(self.test_part), held, self.summary)
        if self.threshold is not None:
            return decide(held, self.threshold)
        cut = np.asarray(self.summary["at_threshold"]["thresholds"], dtype=np.float64)
        return decide(held, held.scores >= cut[held.frame["fold"].to_numpy(dtype=np.int64)])


def promised(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Whether test bears out what the threshold promised, of recall and of specificity where that was certified too.

    Args:
        metrics: of metrics.json.

    Returns:
        ``kept`` and a ``sentence``, of what was not kept where one of both was not; None where nothing was promised.
    """
    recall = metrics.get("promise")
    if recall is None:
        return None
    both = [held for held in (recall, recall.get("specificity")) if held is not None]
    shown = [held for held in both if not held["kept"]] or both
    return {"kept": shown[0]["kept"], "sentence": " ".join(str(held["sentence"]) for held in shown)}


def promise_worries(promises: Mapping[str, Mapping[str, Any] | None]) -> list[Worry]:
    """An alarm that names everybody whose promise was not kept; empty where all were kept.

    Args:
        promises: of :func:`promised`, by what the run is called.
    """
    broken = {name: held for name, held in promises.items() if held is not None and not held["kept"]}
    if not broken:
        return []
    names, first = list(broken), next(iter(broken.values()))
    title = listed(names) if len(names) < 4 else f"{len(names)} of {plural(len(promises), 'run')}"
    text = f"{names[0]}: {first['sentence']}" if len(promises) > 1 else str(first["sentence"])
    return [worry("alarm", f"What the threshold promised is not kept: {title}", text)]


def read_judged(folder: Path, key: str = "compare") -> JudgedFolder:
    """Read a folder with judged predictions.

    Args:
        key: of the command line, for messages.

    Raises:
        ValueError: if it is none, or of a run that is not finished; says why and what to do.
    """
    if not folder.is_dir():
        raise ValueError(f"{key}: {folder}: there is no such folder.")
    record = object_in(folder / "run.json", _AGAIN) if (folder / "run.json").is_file() else {}
    if record.get("status", "finished") != "finished":
        raise ValueError(
            f"{key}: {short(folder)}: this run is not finished (status {record['status']}). Finish it with "
            f"python train.py resume={short(folder)}"
        )
    if not (folder / "metrics.json").is_file():
        raise ValueError(
            f"{key}: {short(folder)}: metrics.json is missing, so nothing was judged here. Give the folder of a finished run, "
            "of an ensemble, or of a record of evaluate.py."
        )
    found = JudgedFolder(folder, object_in(folder / "metrics.json", _AGAIN), record)
    needed = ("classes", "positive", "positive_class", "negative_class", "threshold", "model", "task", "bootstrap")
    lacking = [name for name in needed if name not in found.metrics]
    if lacking or not {"splits", "pooled"} & set(found.metrics):
        raise ValueError(
            f"{folder / 'metrics.json'} is no judged run ({', '.join(lacking) or 'splits'} missing). Judge it again."
        )
    with undamaged(folder):
        require_same_threshold(folder, found.metrics)
        _require_fields(found)
    if not found.has(found.test_part):
        raise ValueError(f"{key}: {short(folder)}: predictions/{found.test_part}.csv is missing. Judge the run again.")
    return found


def _require_fields(found: JudgedFolder) -> None:
    """Touch what every reader takes from the files, so that a gap is found before anything is computed."""
    metrics, summary = found.metrics, found.summary
    positive_classes(list(metrics["classes"]), metrics["positive"])
    point = OperatingPoint.from_dict(metrics["threshold"])
    int(metrics["bootstrap"]["resamples"]), int(metrics["bootstrap"]["seed"]), float(metrics["confidence"])
    {item["title"] for item in metrics["worries"]}
    for split in metrics.get("splits", {"pooled": summary}).values():
        split["n"] + split["n_positive"], split["auroc"]["value"], split["brier"]["value"]
        at = split["at_threshold"]
        at["tp"] + at["fp"]
        if "splits" in metrics and at["threshold"] != point.threshold:
            raise ValueError(
                f"{found.folder / 'metrics.json'} speaks of two thresholds, {at['threshold']} and {point.threshold}, so it was "
                "changed since it was judged. Restore it, or train or judge the run again."
            )
    (found.record.get("seeds") or {}).get("seed")

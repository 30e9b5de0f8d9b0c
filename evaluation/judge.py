"""From the predictions files of a run to its metrics.json, beside the thumbnail baseline on the same split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.baseline import domain_auc, thumbnail_scores
from evaluation.predictions import Predictions, read_predictions, write_predictions
from evaluation.summary import evaluate_run
from evaluation.threshold import OperatingPoint


@dataclass(frozen=True)
class Thumbnails:
    """What a trivial model sees of one part of the data.

    Attributes:
        pixels: 16 x 16 grey thumbnails, shape (n, 256), in the order of the part's predictions file.
        targets: class numbers, shape (n,).
        groups: group names, shape (n,).
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]
    groups: NDArray[np.str_]

    def of_class(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
        """Pixels and groups of one class."""
        mine = self.targets == number
        return self.pixels[mine], self.groups[mine]


def judge_run(
    folder: Path,
    point: OperatingPoint,
    parts: Mapping[str, Thumbnails],
    *,
    classes: tuple[str, ...],
    positive: str,
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """Read the predictions, train and write the baseline, and compute every figure.

    Args:
        folder: the run; ``predictions/val.csv`` and ``test.csv`` are read, ``thumbnail_val.csv`` and ``_test.csv`` written.
        point: the locked operating point.
        parts: thumbnails of ``train``, ``val`` and ``test``.
        classes, positive: of the task.
        seed: of folds and resamples.
        options: passed on to :func:`evaluation.summary.evaluate_run`.

    Returns:
        The content of metrics.json.
    """
    train, number = parts["train"], classes.index(positive)
    model: dict[str, Predictions] = {}
    baseline: dict[str, Predictions] = {}
    for part in ("val", "test"):
        model[part] = read_predictions(folder / "predictions" / f"{part}.csv", classes, positive)
        scores = thumbnail_scores(train.pixels, train.targets == number, parts[part].pixels)
        frame = model[part].frame.copy()
        for name in classes:
            frame[f"prob_{name}"] = scores if name == positive else 1.0 - scores
        write_predictions(folder / "predictions" / f"thumbnail_{part}.csv", frame)
        baseline[part] = Predictions(frame, classes, positive)
    domain = {}
    for index, name in enumerate(classes):
        (ours, our_groups), (theirs, their_groups) = train.of_class(index), parts["test"].of_class(index)
        domain[name] = domain_auc(ours, theirs, our_groups, their_groups, seed=seed)
    return evaluate_run(
        model["val"],
        model["test"],
        point,
        baseline_val=baseline["val"],
        baseline_test=baseline["test"],
        domain_aucs=domain,
        seed=seed,
        **options,
    )

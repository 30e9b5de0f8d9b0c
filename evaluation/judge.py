"""From the predictions files of a run to its metrics.json, beside the thumbnail baseline on the same split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.baseline import domain_auc, thumbnail_scores
from evaluation.predictions import Predictions, positive_classes, read_predictions, write_predictions
from evaluation.summary import evaluate_run
from evaluation.threshold import OperatingPoint


@dataclass(frozen=True)
class Thumbnails:
    """What a trivial model sees of one part of the data.

    Attributes:
        pixels: 16 x 16 thumbnails, grey or in three colours, shape (n, pixels), in the order of the part's predictions
            file.
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
    positive: str | Sequence[str],
    positive_name: str = "",
    negative_name: str = "",
    seed: int = 0,
    leak: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Read the predictions, train and write the baseline, and compute every figure.

    Args:
        folder: the run; ``predictions/val.csv`` and ``test.csv`` are read, ``thumbnail_val.csv`` and ``_test.csv``
            written with a probability for each class.
        point: the locked operating point.
        parts: thumbnails of ``train``, ``val`` and ``test``.
        classes: of the task. ``positive``, ``positive_name``, ``negative_name``: as in
            :class:`evaluation.predictions.Predictions`.
        seed: of folds and resamples.
        leak: of a split that was made to leak, see :func:`evaluation.summary.evaluate_run`.
        options: passed on to :func:`evaluation.summary.evaluate_run`.

    Returns:
        The content of metrics.json.
    """
    names = (positive, positive_name, negative_name)
    model: dict[str, Predictions] = {}
    baseline: dict[str, Predictions] = {}
    for part in ("val", "test"):
        model[part] = read_predictions(folder / "predictions" / f"{part}.csv", classes, *names)
    scores = _baseline_scores(parts, classes, positive)
    for part, held in scores.items():
        frame = model[part].frame.copy()
        for number, name in enumerate(classes):
            frame[f"prob_{name}"] = held[:, number]
        write_predictions(folder / "predictions" / f"thumbnail_{part}.csv", frame)
        baseline[part] = model[part].with_frame(frame)
    domain = {}
    for index, name in enumerate(classes):
        (ours, our_groups), (theirs, their_groups) = parts["train"].of_class(index), parts["test"].of_class(index)
        domain[name] = domain_auc(ours, theirs, our_groups, their_groups, seed=seed)
    return evaluate_run(
        model["val"],
        model["test"],
        point,
        baseline_val=baseline["val"],
        baseline_test=baseline["test"],
        domain_aucs=domain,
        seed=seed,
        leak=leak,
        **options,
    )


def _baseline_scores(
    parts: Mapping[str, Thumbnails], classes: tuple[str, ...], positive: str | Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Probabilities of the baseline on ``val`` and ``test``, each of shape (n, number of classes)."""
    train, held = parts["train"], {part: parts[part].pixels for part in ("val", "test")}
    if len(classes) == 2:
        number = classes.index(positive_classes(classes, positive)[0])
        found = {part: thumbnail_scores(train.pixels, train.targets == number, held[part]) for part in held}
        return {part: np.stack([s, 1.0 - s][:: 1 - 2 * number], axis=1) for part, s in found.items()}
    both = thumbnail_scores(train.pixels, train.targets, np.concatenate(list(held.values())), len(classes))
    return dict(zip(held, np.split(both, [len(held["val"])]), strict=True))

"""From the predictions files of a run to its metrics.json, beside baselines on the same split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.baseline import domain_auc
from evaluation.baselines import BaselineInputs, baseline_scores
from evaluation.predictions import PREFIX, Predictions, positive_classes, read_predictions, write_predictions
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
    baselines: Mapping[str, Mapping[str, NDArray[np.float64]]] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Read the predictions, write those of the baselines, and compute every figure.

    Args:
        folder: the run; ``predictions/val.csv`` and ``test.csv`` are read, ``<baseline>_val.csv`` and ``_test.csv`` written
            with a probability for each class.
        point: the locked operating point.
        parts: thumbnails of ``train``, ``val`` and ``test``.
        classes: of the task. ``positive``, ``positive_name``, ``negative_name``: as in
            :class:`evaluation.predictions.Predictions`.
        seed: of folds and resamples.
        leak: of a split that was made to leak, see :func:`evaluation.summary.evaluate_run`.
        baselines: by name, for ``val`` and ``test`` class probabilities of shape (images, classes), in the order of the
            part's predictions file. None trains the thumbnail baseline on ``parts`` and no other.
        options: passed on to :func:`evaluation.summary.evaluate_run`, ``interval`` and ``prevalences`` among them.

    Returns:
        The content of metrics.json.
    """
    names = (positive, positive_name, negative_name)
    model: dict[str, Predictions] = {}
    for part in ("val", "test"):
        model[part] = read_predictions(folder / "predictions" / f"{part}.csv", classes, *names)
    if baselines is None:
        baselines = {"thumbnail": _thumbnail_scores(parts, classes, positive)}
    held = {}
    for name, scores in baselines.items():
        pair = [_written(folder / "predictions", name, part, model[part], scores[part]) for part in ("val", "test")]
        held[name] = (pair[0], pair[1])
    domain = {}
    for index, name in enumerate(classes):
        (ours, our_groups), (theirs, their_groups) = parts["train"].of_class(index), parts["test"].of_class(index)
        domain[name] = domain_auc(ours, theirs, our_groups, their_groups, seed=seed)
    return evaluate_run(
        model["val"],
        model["test"],
        point,
        baselines=held,
        domain_aucs=domain,
        seed=seed,
        leak=leak,
        **options,
    )


def _written(folder: Path, name: str, part: str, model: Predictions, scores: NDArray[np.float64]) -> Predictions:
    """The predictions of a baseline on the images of the model, checked and on disk."""
    if np.shape(scores) != (len(model), len(model.classes)):
        raise ValueError(
            f"baseline {name}: the scores of {part} have shape {np.shape(scores)}; expected {(len(model), len(model.classes))}."
        )
    frame = model.frame.assign(**{f"{PREFIX}{label}": scores[:, k] for k, label in enumerate(model.classes)})
    write_predictions(folder / f"{name}_{part}.csv", frame)
    return model.with_frame(frame)


def _thumbnail_scores(
    parts: Mapping[str, Thumbnails], classes: tuple[str, ...], positive: str | Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Probabilities of the thumbnail baseline on ``val`` and ``test``, each of shape (n, number of classes)."""
    train = parts["train"]
    inputs = BaselineInputs(train.pixels, parts["val"].pixels, parts["test"].pixels, train.groups)
    number = classes.index(positive_classes(classes, positive)[0])
    return baseline_scores("thumbnail", inputs, train.targets, len(classes), positive=number)

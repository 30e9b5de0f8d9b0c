"""Figures of the arg-max decision among three or more classes, and of each class against the rest, with intervals."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import Bootstrap, Resampling, Seed, draws_within, exact_type
from evaluation.intervals import share_interval, without_ends
from evaluation.metrics import SMALLEST, Ranking
from evaluation.predictions import Predictions

OVERALL: Final = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "kappa",
    "macro_auroc",
    "macro_average_precision",
    "log_loss",
    "brier",
)
PER_CLASS: Final = ("recall", "precision", "f1", "auroc", "average_precision")

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


def multiclass_of(predictions: Predictions, how: Resampling) -> tuple[dict[str, Any], Bootstrap]:
    """The ``multiclass`` part of a split in metrics.json, and the draws behind it for differences in pairs.

    An image is called the class of its highest probability; no threshold plays a part. Every figure over classes is the
    plain mean of those that the split holds.

    Args:
        predictions: of three or more classes.
        how: resamples, confidence, seed.

    Returns:
        A dictionary and the resamples. Its intervals have the keys of :class:`evaluation.intervals.Interval`, all None
        where a figure is not defined:

        - ``accuracy``; ``balanced_accuracy``: mean recall, the figure of ISIC 2018 and 2019; ``macro_f1``; ``kappa``:
          Cohen's, without weights; ``macro_auroc`` and ``macro_average_precision``: mean of one class against the rest;
          ``log_loss``: mean of -log p(true class), in nats; ``brier``: mean squared distance of the probabilities from
          the truth, 0 to 2. All are intervals.
        - ``classes``: for each class ``class``, ``n``, ``n_groups``, ``called`` (images called so), and the intervals
          ``recall``, ``precision`` (None if nothing is called so), ``f1``, ``auroc``, ``average_precision``.
        - ``confusion``: images by true class (rows) and called class (columns).
        - ``absent``: names of the classes without an image.
    """
    resampled = multiclass_bootstrap(
        predictions.targets, predictions.probabilities, predictions.groups, how.resamples, how.seed
    )
    targets, decisions, groups = predictions.targets, predictions.decisions, predictions.groups
    n_classes = len(predictions.classes)
    matrix = _confusion(targets, decisions, n_classes)
    groups_of = [len(np.unique(groups[targets == number])) for number in range(n_classes)]
    fewest = min(count for count in groups_of if count)
    summary: dict[str, Any] = {}
    for name in OVERALL:
        interval = resampled.interval(name, how.confidence)
        if name == "accuracy":
            summary[name] = share_interval(interval, len(predictions.group_names), how.confidence).to_dict()
        else:
            summary[name] = without_ends(interval, fewest).to_dict()
    rows = []
    for number, name in enumerate(predictions.classes):
        n_called = len(np.unique(groups[decisions == number]))
        row: dict[str, Any] = {"class": name, "n": int(matrix[number].sum()), "n_groups": groups_of[number]}
        row["called"] = int(matrix[:, number].sum())
        for figure in PER_CLASS:
            interval = resampled.interval(f"{figure}/{number}", how.confidence)
            if figure in ("recall", "precision"):
                units = groups_of[number] if figure == "recall" else n_called
                row[figure] = share_interval(interval, units, how.confidence).to_dict()
            else:
                row[figure] = without_ends(interval, groups_of[number]).to_dict()
        rows.append(row)
    summary["classes"] = rows
    summary["confusion"] = matrix.tolist()
    summary["absent"] = [name for name, row in zip(predictions.classes, rows, strict=True) if not row["n"]]
    return summary, resampled


def multiclass_bootstrap(
    targets: Whole, probabilities: Floats, groups: Whole, resamples: int = 2000, seed: Seed = 0
) -> Bootstrap:
    """All figures on the data and in resamples of whole groups.

    Groups are drawn with replacement separately among those that share their rarest class, so that hardly any resample
    loses a class. Counts come from one matrix product of draws and per-group sums, ranks from one sort a class.

    Args:
        targets: shape (n,), class numbers. ``probabilities``: shape (n, classes). ``groups``: shape (n,), codes from 0.
        resamples: at least 1. ``seed``: one whole number or several.

    Returns:
        Names are those of ``OVERALL`` and ``<figure>/<class number>`` for ``PER_CLASS``. NaN where a figure is not
        defined, and in a resample that lost a class which the data have and which the figure rests on.
    """
    n_classes = probabilities.shape[1]
    counts = np.bincount(targets, minlength=n_classes)
    table = _group_table(targets, probabilities, groups)
    rankings = {
        number: Ranking((targets == number).astype(np.uint8), np.ascontiguousarray(probabilities[:, number]), groups)
        for number in range(n_classes)
        if 0 < counts[number] < len(targets)
    }
    present = counts > 0
    whole = _evaluate(np.ones((1, len(table))), table, rankings, present)
    parts = [
        _evaluate(weights.astype(exact_type(len(targets)), copy=False), table, rankings, present)
        for weights in draws_within(_strata(targets, groups, counts), len(table), resamples, seed)
    ]
    return Bootstrap(
        values={name: float(value[0]) for name, value in whole.items()},
        draws={name: np.concatenate([part[name] for part in parts]) for name in whole},
        counts={},
    )


def _strata(targets: Whole, groups: Whole, counts: Whole) -> list[Whole]:
    """Groups by the rarest class among their images."""
    rank = np.argsort(np.argsort(counts, kind="stable"), kind="stable")
    rarest = np.full(int(groups.max()) + 1, len(counts), dtype=np.int64)
    np.minimum.at(rarest, groups, rank[targets])
    return [np.flatnonzero(rarest == place) for place in range(len(counts))]


def _group_table(targets: Whole, probabilities: Floats, groups: Whole) -> Floats:
    """Sums within each group: the cells of the confusion matrix row by row, log losses, squared distances."""
    n, n_classes = probabilities.shape
    size, square = int(groups.max()) + 1, n_classes * n_classes
    cells = targets * n_classes + probabilities.argmax(axis=1)
    counts = np.bincount(groups * square + cells, minlength=size * square).reshape(size, square)
    true = probabilities[np.arange(n), targets]
    losses = -np.log(np.clip(true, SMALLEST, 1.0 - SMALLEST))
    distances = np.square(probabilities).sum(axis=1) - 2.0 * true + 1.0
    sums = [np.bincount(groups, weights=values, minlength=size) for values in (losses, distances)]
    return np.column_stack([counts, *sums])


def _evaluate(
    weights: NDArray[np.floating], table: Floats, rankings: dict[int, Ranking], present: NDArray[np.bool_]
) -> dict[str, Floats]:
    """Figures under each row of group weights, shape (b, number of groups)."""
    # einsum stays on one core: products this small lose more to waking threads than they gain.
    sums, n_classes = np.einsum("bg,gk->bk", weights.astype(np.float64), table), len(present)
    matrices = sums[:, :-2].reshape(-1, n_classes, n_classes)
    images, true, called = matrices.sum(axis=(1, 2)), matrices.sum(axis=2), matrices.sum(axis=1)
    right = np.diagonal(matrices, axis1=1, axis2=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall, precision = right / true, right / called
        f1 = np.where(true > 0, 2 * right / (true + called), np.nan)
        agreed, by_chance = right.sum(axis=1) / images, (true * called).sum(axis=1) / images**2
        kappa = (agreed - by_chance) / (1.0 - by_chance)
    ranks = np.full((2, len(weights), n_classes), np.nan)
    for number, ranking in rankings.items():
        ranks[0, :, number], ranks[1, :, number] = ranking.evaluate(weights)
    found = {
        "accuracy": agreed,
        "balanced_accuracy": recall[:, present].mean(axis=1),
        "macro_f1": f1[:, present].mean(axis=1),
        "kappa": np.where(by_chance < 1.0, kappa, np.nan),
        "macro_auroc": ranks[0][:, present].mean(axis=1),
        "macro_average_precision": ranks[1][:, present].mean(axis=1),
        "log_loss": sums[:, -2] / images,
        "brier": sums[:, -1] / images,
    }
    for name, values in zip(PER_CLASS, (recall, precision, f1, *ranks), strict=True):
        found |= {f"{name}/{number}": values[:, number] for number in range(n_classes)}
    return found


def _confusion(targets: Whole, decisions: Whole, n_classes: int) -> Whole:
    cells = np.bincount(targets * n_classes + decisions, minlength=n_classes * n_classes)
    return cells.reshape(n_classes, n_classes).astype(np.int64)

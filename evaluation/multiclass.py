"""Figures of the arg-max decision among three or more classes, and of each class against the rest, with intervals."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.bca import blocks_left_out
from evaluation.bootstrap import Bootstrap, Resampling, Seed, draws_within, pairing_of, weighted_sums
from evaluation.intervals import share_interval, with_width
from evaluation.metrics import SMALLEST
from evaluation.predictions import Predictions
from evaluation.ranking import RANKS, Ranking

OVERALL: Final = (
    "accuracy",
    "balanced_accuracy",
    "balanced_accuracy_isic",
    "macro_f1",
    "kappa",
    "mcc",
    "macro_auroc",
    "macro_average_precision",
    "log_loss",
    "brier",
)
PER_CLASS: Final = ("recall", "specificity", "precision", "f1", "auroc", "average_precision")

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

        - ``accuracy``; ``balanced_accuracy``: mean recall; ``balanced_accuracy_isic``: the same as the scorer of ISIC 2018
          and 2019 has it, to which an image without one most probable class is wrong; ``macro_f1``; ``kappa``: Cohen's,
          without weights; ``mcc``: Matthews' correlation of several classes (Gorodkin 2004); ``macro_auroc`` and
          ``macro_average_precision``: mean of one class against the rest; ``log_loss``: mean of -log p(true class), in
          nats; ``brier``: mean squared distance of the probabilities from the truth, 0 to 2. All are intervals.
        - ``classes``: for each class ``class``, ``n``, ``n_groups``, ``called`` (images called so), and the intervals
          ``recall``, ``specificity``, ``precision`` (None if nothing is called so), ``f1``, ``auroc``, ``average_precision``.
        - ``confusion``: images by true class (rows) and called class (columns).
        - ``absent``: names of the classes without an image.
    """
    resampled = multiclass_bootstrap(
        predictions.targets, predictions.probabilities, predictions.groups, how.resamples, how.seed, how.interval
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
            summary[name] = share_interval(
                interval, len(predictions.group_names), how.confidence, len(predictions)
            ).to_dict()
        else:
            summary[name] = with_width(interval, fewest).to_dict()
    rows = []
    for number, name in enumerate(predictions.classes):
        row: dict[str, Any] = {"class": name, "n": int(matrix[number].sum()), "n_groups": groups_of[number]}
        row["called"] = int(matrix[:, number].sum())
        shares = {"recall": targets == number, "specificity": targets != number, "precision": decisions == number}
        for figure in PER_CLASS:
            interval = resampled.interval(f"{figure}/{number}", how.confidence)
            if figure in shares:
                held = groups[shares[figure]]
                row[figure] = share_interval(interval, len(np.unique(held)), how.confidence, len(held)).to_dict()
            else:
                row[figure] = with_width(interval, groups_of[number]).to_dict()
        rows.append(row)
    summary["classes"] = rows
    summary["confusion"] = matrix.tolist()
    summary["absent"] = [name for name, row in zip(predictions.classes, rows, strict=True) if not row["n"]]
    return summary, resampled


def multiclass_bootstrap(
    targets: Whole,
    probabilities: Floats,
    groups: Whole,
    resamples: int = 2000,
    seed: Seed = 0,
    interval: str = "percentile",
) -> Bootstrap:
    """All figures on the data and in resamples of whole groups.

    Groups are drawn with replacement separately among those that share their rarest class, so that hardly any resample
    loses a class. Counts come from one matrix product of draws and per-group sums, ranks from one sort a class.

    Args:
        targets: shape (n,), class numbers. ``probabilities``: shape (n, classes). ``groups``: shape (n,), codes from 0.
        resamples: at least 1. ``seed``: one whole number or several.
        interval: ``percentile``, or ``bca`` as in :func:`evaluation.bootstrap.bootstrap`.

    Returns:
        Names are those of ``OVERALL`` and ``<figure>/<class number>`` for ``PER_CLASS``. NaN where a figure is not
        defined, and in a resample that lost a class which the data have and which the figure rests on.
    """
    n_classes = probabilities.shape[1]
    counts = np.bincount(targets, minlength=n_classes)
    table, present = _group_table(targets, probabilities, groups), counts > 0
    rankings = {
        number: Ranking((targets == number).astype(np.uint8), np.ascontiguousarray(probabilities[:, number]), groups)
        for number in range(n_classes)
        if 0 < counts[number] < len(targets)
    }

    def evaluate(weights: NDArray[np.floating]) -> dict[str, Floats]:
        return _of_sums(weighted_sums(weights, table), present) | _ranks(rankings, weights.astype(np.int32), present)

    whole, strata = evaluate(np.ones((1, len(table)))), _strata(targets, groups, counts)
    parts = [evaluate(weights) for weights in draws_within(strata, len(table), resamples, seed)]
    left_out: dict[str, tuple[Floats, ...]] = {}
    if interval == "bca":
        without = [_of_sums(table.sum(axis=0) - table[members], present) for members in strata]
        ranked = [_ranks(rankings, weights, present) for weights in blocks_left_out(strata, len(table))]
        left_out = {name: tuple(part[name] for part in side) for side in (without, ranked) for name in side[0]}
    return Bootstrap(
        values={name: float(value[0]) for name, value in whole.items()},
        draws={name: np.concatenate([part[name] for part in parts]) for name in whole},
        counts={},
        left_out=left_out,
        pairing=pairing_of(strata, len(table), resamples, seed),
    )


def _strata(targets: Whole, groups: Whole, counts: Whole) -> list[Whole]:
    """Groups by the rarest class among their images."""
    rank = np.argsort(np.argsort(counts, kind="stable"), kind="stable")
    rarest = np.full(int(groups.max()) + 1, len(counts), dtype=np.int64)
    np.minimum.at(rarest, groups, rank[targets])
    return [np.flatnonzero(rarest == place) for place in range(len(counts))]


def _group_table(targets: Whole, probabilities: Floats, groups: Whole) -> Floats:
    """Sums within each group: the cells of the confusion matrix row by row, right calls without a tie for each class, log
    losses, squared distances."""
    n, n_classes = probabilities.shape
    size, square = int(groups.max()) + 1, n_classes * n_classes
    cells = targets * n_classes + probabilities.argmax(axis=1)
    counts = np.bincount(groups * square + cells, minlength=size * square).reshape(size, square)
    true = probabilities[np.arange(n), targets]
    clear = (probabilities >= true[:, None]).sum(axis=1) == 1
    decided = np.bincount((groups * n_classes + targets)[clear], minlength=size * n_classes).reshape(size, n_classes)
    losses = -np.log(np.clip(true, SMALLEST, 1.0 - SMALLEST))
    distances = np.square(probabilities).sum(axis=1) - 2.0 * true + 1.0
    sums = [np.bincount(groups, weights=values, minlength=size) for values in (losses, distances)]
    return np.column_stack([counts, decided, *sums])


def _of_sums(sums: Floats, present: NDArray[np.bool_]) -> dict[str, Floats]:
    """Figures of weighted sums of a :func:`_group_table`, shape (b, columns)."""
    n_classes = len(present)
    square = n_classes * n_classes
    matrices, decided = sums[:, :square].reshape(-1, n_classes, n_classes), sums[:, square:-2]
    images, true, called = matrices.sum(axis=(1, 2)), matrices.sum(axis=2), matrices.sum(axis=1)
    right = np.diagonal(matrices, axis1=1, axis2=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall, precision = right / true, right / called
        others = images[:, None] - true
        specificity = (others - called + right) / others
        f1 = np.where(true > 0, 2 * right / (true + called), np.nan)
        agreed, by_chance = right.sum(axis=1) / images, (true * called).sum(axis=1) / images**2
        kappa = (agreed - by_chance) / (1.0 - by_chance)
        found = {
            "accuracy": agreed,
            "balanced_accuracy": recall[:, present].mean(axis=1),
            "balanced_accuracy_isic": (decided / true)[:, present].mean(axis=1),
            "macro_f1": f1[:, present].mean(axis=1),
            "kappa": np.where(by_chance < 1.0, kappa, np.nan),
            "mcc": _correlation(images, true, called, right),
            "log_loss": sums[:, -2] / images,
            "brier": sums[:, -1] / images,
        }
    for name, values in zip(PER_CLASS, (recall, specificity, precision, f1), strict=False):
        found |= {f"{name}/{number}": values[:, number] for number in range(n_classes)}
    return found


def _correlation(images: Floats, true: Floats, called: Floats, right: Floats) -> Floats:
    """Matthews' correlation: 0 where all images are called one class, NaN where all are of one class."""
    spread_true, spread_called = images**2 - (true**2).sum(axis=1), images**2 - (called**2).sum(axis=1)
    together = right.sum(axis=1) * images - (true * called).sum(axis=1)
    known: Floats = np.where(spread_called > 0, together / np.sqrt(spread_true * spread_called), 0.0)
    return np.where(spread_true > 0, known, np.nan)


def _ranks(rankings: dict[int, Ranking], weights: NDArray[np.integer], present: NDArray[np.bool_]) -> dict[str, Floats]:
    """Each class against the rest, and the means over the classes that are there."""
    ranks = np.full((2, len(weights), len(present)), np.nan)
    for number, ranking in rankings.items():
        ranks[0, :, number], ranks[1, :, number] = ranking.evaluate(weights)
    found = {f"macro_{name}": ranks[place][:, present].mean(axis=1) for place, name in enumerate(RANKS)}
    for place, name in enumerate(RANKS):
        found |= {f"{name}/{number}": ranks[place, :, number] for number in range(len(present))}
    return found


def _confusion(targets: Whole, decisions: Whole, n_classes: int) -> Whole:
    cells = np.bincount(targets * n_classes + decisions, minlength=n_classes * n_classes)
    return cells.reshape(n_classes, n_classes).astype(np.int64)

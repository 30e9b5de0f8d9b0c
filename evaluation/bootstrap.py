"""A bootstrap that resamples whole groups: images of one patient are not independent evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import Interval, percentile_interval
from evaluation.metrics import Counts, Ranking, log_losses, outcomes, rates, squared_errors

# Resamples that share one random stream and are evaluated together. A constant, so that results depend on the seed
# alone, and small, so that the arrays of one block stay near the processor.
BLOCK: Final = 16
# Sums of whole numbers in float32 are exact up to 2^24; resampled totals stay below four times the number of images.
_EXACT_IN_FLOAT32: Final = 2**22

Floats = NDArray[np.float64]
Seed = int | Sequence[int]


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: number of resamples (at least 1), confidence in (0, 1), seed."""

    resamples: int = 2000
    confidence: float = 0.95
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.resamples < 1 or not 0.0 < self.confidence < 1.0:
            raise ValueError(
                f"{self.resamples} resamples and a confidence of {self.confidence!r}; expected at least 1 resample and "
                "a confidence between 0 and 1."
            )


@dataclass(frozen=True)
class Bootstrap:
    """Every metric on the data and in every resample.

    Names are ``auroc``, ``average_precision``, ``brier``, ``log_loss`` and ``<threshold name>/<rate>``. Two of these
    made from the same groups, labels and seed rest on the same resamples: their draws may be subtracted in pairs.

    Attributes:
        values: NaN where a metric is not defined.
        draws: each of shape (resamples,); NaN marks a resample that is dropped.
        counts: confusion counts on the data, by threshold name.
    """

    values: dict[str, float]
    draws: dict[str, Floats]
    counts: dict[str, Counts]

    def interval(self, name: str, confidence: float = 0.95) -> Interval:
        """Estimate and percentile interval of one metric."""
        return percentile_interval(self.values[name], self.draws[name], confidence)


def difference_interval(name: str, first: Bootstrap, second: Bootstrap, confidence: float = 0.95) -> Interval:
    """Interval of ``first - second``: paired when both rest on the same resamples, else of independent samples."""
    value = first.values[name] - second.values[name]
    return percentile_interval(value, first.draws[name] - second.draws[name], confidence)


def group_draws(
    groups: NDArray[np.int64], labels: NDArray[np.uint8], resamples: int, seed: Seed
) -> Iterator[NDArray[np.float32]]:
    """How often each group is drawn in each resample, block by block.

    Groups are drawn with replacement, as many as there are, separately among groups with a positive image and groups
    without one.

    Args:
        groups: shape (n,), codes from 0. ``labels``: shape (n,), 1 = positive.
        resamples: number of resamples. ``seed``: one whole number or several, none negative.

    Returns:
        Arrays of shape (at most 16, number of groups): whole numbers.
    """
    sizes = np.bincount(groups)
    positive = np.bincount(groups, weights=labels) > 0
    strata = [np.flatnonzero(positive & (sizes > 0)), np.flatnonzero(~positive & (sizes > 0))]
    return draws_within(strata, len(sizes), resamples, seed)


def draws_within(
    strata: Sequence[NDArray[np.int64]], n_groups: int, resamples: int, seed: Seed
) -> Iterator[NDArray[np.float32]]:
    """As :func:`group_draws`, with replacement within each stratum: codes of its groups, no group in two."""
    root = np.random.SeedSequence(seed)
    for start in range(0, resamples, BLOCK):
        generator = np.random.Generator(np.random.PCG64(root.spawn(1)[0]))
        weights = np.zeros((BLOCK, n_groups), dtype=np.float32)
        for members in strata:
            size = len(members)
            if size:
                drawn = generator.integers(0, size, size=(BLOCK, size))
                drawn += np.arange(BLOCK)[:, None] * size
                weights[:, members] = np.bincount(drawn.ravel(), minlength=BLOCK * size).reshape(BLOCK, size)
        yield weights[: resamples - start]


def bootstrap(
    labels: NDArray[np.uint8],
    scores: Floats,
    groups: NDArray[np.int64],
    thresholds: Mapping[str, float],
    resamples: int = 2000,
    seed: Seed = 0,
    *,
    ranked: bool = True,
) -> Bootstrap:
    """All metrics on the data and in resamples of whole groups.

    Rates come from one matrix product of draws and per-group sums, ranks from one sort. Memory is bounded by a block of
    resamples.

    Args:
        labels: shape (n,), 1 = positive. ``scores``: shape (n,), in [0, 1]. ``groups``: shape (n,), codes from 0.
        thresholds: by name; positive if and only if score >= threshold.
        resamples: at least 1. ``seed``: one whole number or several.
        ranked: also AUROC and average precision.

    Returns:
        A resample that lost a class which the data have is NaN in every metric.

    Raises:
        ValueError: no image, scores that are not finite, or arrays of different lengths.
    """
    if not len(labels) == len(scores) == len(groups) or len(labels) == 0:
        raise ValueError(
            f"{len(labels)} labels, {len(scores)} scores, {len(groups)} groups: expected equally many, not 0."
        )
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinity; nothing can be computed from them.")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; expected at least 1.")
    table, names = _group_table(labels, scores, groups, thresholds), tuple(thresholds)
    ranking = Ranking(labels, scores, groups) if ranked else None
    whole = _evaluate(np.ones((1, len(table))), table, names, ranking)
    dtype = exact_type(len(labels))
    parts = [
        _evaluate(weights.astype(dtype, copy=False), table, names, ranking)
        for weights in group_draws(groups, labels, resamples, seed)
    ]
    cells = table[:, 4:].sum(axis=0).reshape(-1, 4)
    return Bootstrap(
        values={name: float(value[0]) for name, value in whole.items()},
        draws={name: np.concatenate([part[name] for part in parts]) for name in whole},
        counts={name: Counts(*(round(count) for count in row)) for name, row in zip(names, cells, strict=True)},
    )


def exact_type(n: int) -> type[np.floating]:
    """The shortest type in which resampled counts of ``n`` images add up exactly."""
    return np.float32 if n < _EXACT_IN_FLOAT32 else np.float64


def _group_table(
    labels: NDArray[np.uint8], scores: Floats, groups: NDArray[np.int64], thresholds: Mapping[str, float]
) -> Floats:
    """Sums within each group: images, positives, squared errors, log losses, then tp, fn, fp, tn of each threshold."""
    columns = [
        np.ones(len(labels)),
        labels.astype(np.float64),
        squared_errors(labels, scores),
        log_losses(labels, scores),
    ]
    for threshold in thresholds.values():
        columns.extend(outcomes(labels, scores, threshold).astype(np.float64).T)
    return np.stack([np.bincount(groups, weights=column) for column in columns], axis=1)


def _evaluate(
    weights: NDArray[np.floating], table: Floats, names: tuple[str, ...], ranking: Ranking | None
) -> dict[str, Floats]:
    """Metrics under each row of group weights, shape (b, number of groups)."""
    sums = weights.astype(np.float64) @ table
    images, positives = sums[:, 0], sums[:, 1]
    found = {"brier": sums[:, 2] / images, "log_loss": sums[:, 3] / images}
    for place, name in enumerate(names):
        cells = sums[:, 4 + 4 * place : 8 + 4 * place].T
        found |= {f"{name}/{rate}": value for rate, value in rates(*cells).items()}
    if ranking is not None:
        found["auroc"], found["average_precision"] = ranking.evaluate(weights)
    n_images, n_positives = table[:, 0].sum(), table[:, 1].sum()
    lost = ((positives == 0) & (n_positives > 0)) | ((positives == images) & (n_positives < n_images))
    for value in found.values():
        value[lost] = np.nan
    return found

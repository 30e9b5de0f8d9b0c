"""A bootstrap that resamples whole groups: images of one patient are not independent evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray

from evaluation.bca import bca_interval, blocks_left_out
from evaluation.intervals import Interval, percentile_interval
from evaluation.metrics import BETA, Counts, log_losses, npv_at, outcomes, ppv_at, rates, squared_errors
from evaluation.ranking import Ranking

# Resamples that share one random stream and are evaluated together. A constant, so that results depend on the seed
# alone, and small, so that the arrays of one block stay near the processor.
BLOCK: Final = 16
INTERVALS: Final = ("percentile", "bca")

Floats = NDArray[np.float64]
Seed = int | Sequence[int]
Strata = Sequence[NDArray[np.int64]]


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: number of resamples (at least 1), confidence in (0, 1), seed, and how their ends are read.

    Attributes:
        interval: ``percentile``, or ``bca`` (corrected for bias and skewness).
    """

    resamples: int = 2000
    confidence: float = 0.95
    seed: Seed = 0
    interval: str = "percentile"

    def __post_init__(self) -> None:
        if self.resamples < 1 or not 0.0 < self.confidence < 1.0:
            raise ValueError(
                f"{self.resamples} resamples and a confidence of {self.confidence!r}; expected at least 1 resample and "
                "a confidence between 0 and 1."
            )
        if self.interval not in INTERVALS:
            raise ValueError(f"interval is {self.interval!r}; expected one of {list(INTERVALS)}.")


@dataclass(frozen=True)
class Bootstrap:
    """Every metric on the data and in every resample.

    Names are ``brier``, ``log_loss``, those of :meth:`evaluation.ranking.Ranking.figures` (``auroc``, ...),
    ``<threshold name>/<rate>`` and ``<threshold name>/ppv@<prevalence>``, ``npv@<prevalence>``. Two of these made from the
    same groups, labels and seed rest on the same resamples: their draws may be subtracted in pairs.

    Attributes:
        values: NaN where a metric is not defined.
        draws: each of shape (resamples,); NaN marks a resample that is dropped.
        counts: confusion counts on the data, by threshold name.
        left_out: for BCa intervals, by metric and stratum the values without one group (or block of groups); empty where
            intervals are percentiles.
        pairing: the same text for two bootstraps that rest on the same resamples.
    """

    values: dict[str, float]
    draws: dict[str, Floats]
    counts: dict[str, Counts]
    left_out: dict[str, tuple[Floats, ...]] = field(default_factory=dict)
    pairing: str = ""

    def interval(self, name: str, confidence: float = 0.95) -> Interval:
        """Estimate and interval of one metric: BCa if made for it, else percentile."""
        if name in self.left_out:
            return bca_interval(self.values[name], self.draws[name], self.left_out[name], confidence)
        return percentile_interval(self.values[name], self.draws[name], confidence)


def difference_interval(name: str, first: Bootstrap, second: Bootstrap, confidence: float = 0.95) -> Interval:
    """Interval of ``first - second``: paired when both rest on the same resamples, else of independent samples.

    BCa where both were made for it.
    """
    value, draws = first.values[name] - second.values[name], first.draws[name] - second.draws[name]
    if name not in first.left_out or name not in second.left_out:
        return percentile_interval(value, draws, confidence)
    ours, theirs = first.left_out[name], second.left_out[name]
    if first.pairing == second.pairing:
        return bca_interval(value, draws, [mine - other for mine, other in zip(ours, theirs, strict=True)], confidence)
    return bca_interval(value, draws, [*ours, *(-other for other in theirs)], confidence)


def group_strata(groups: NDArray[np.int64], labels: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Codes of the groups with a positive image, and of those without one."""
    sizes = np.bincount(groups)
    positive = np.bincount(groups, weights=labels) > 0
    return [np.flatnonzero(positive & (sizes > 0)), np.flatnonzero(~positive & (sizes > 0))]


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
    return draws_within(group_strata(groups, labels), int(groups.max()) + 1, resamples, seed)


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


def weighted_sums(weights: NDArray[np.floating], table: Floats) -> Floats:
    """Sums over groups: weights of shape (b, groups), per-group sums of shape (groups, columns) -> (b, columns)."""
    # einsum stays on one core: products this small lose more to waking threads than they gain.
    sums: Floats = np.einsum("bg,gk->bk", weights.astype(np.float64), table)
    return sums


def pairing_of(strata: Strata, n_groups: int, resamples: int, seed: Seed) -> str:
    """The same text for draws that are the same: same groups in the same strata, same seed."""
    held = sha256(repr((n_groups, resamples, np.atleast_1d(seed).tolist())).encode())
    for members in strata:
        held.update(members.astype(np.int64).tobytes() + b"|")
    return held.hexdigest()


def bootstrap(
    labels: NDArray[np.uint8],
    scores: Floats,
    groups: NDArray[np.int64],
    thresholds: Mapping[str, float],
    resamples: int = 2000,
    seed: Seed = 0,
    *,
    ranked: bool = True,
    full: bool = False,
    interval: str = "percentile",
    beta: float = BETA,
    prevalences: Sequence[float] = (),
) -> Bootstrap:
    """All metrics on the data and in resamples of whole groups.

    Rates come from one matrix product of draws and per-group sums, ranks from one sort. Memory is bounded by a block of
    resamples.

    Args:
        labels: shape (n,), 1 = positive. ``scores``: shape (n,), in [0, 1]. ``groups``: shape (n,), codes from 0.
        thresholds: by name; positive if and only if score >= threshold.
        resamples: at least 1. ``seed``: one whole number or several.
        ranked: also AUROC and average precision. ``full``: also partial AUC and rates at a fixed other rate.
        interval: ``bca`` also keeps what BCa intervals need: rates, Brier score and log loss without each group in turn,
            ranks without each of at most 200 blocks of groups.
        beta: of F-beta. ``prevalences``: in (0, 1), for which PPV and NPV are also stated.

    Returns:
        A resample that lost a class which the data have is NaN in every metric.

    Raises:
        ValueError: no image, scores that are not finite, or arrays of different lengths.
    """
    _check(labels, scores, groups, resamples)
    plan = _Plan(tuple(thresholds), beta, tuple(prevalences))
    table = _group_table(labels, scores, groups, thresholds)
    ranking = Ranking(labels, scores, groups) if ranked else None

    def evaluate(weights: NDArray[np.floating]) -> dict[str, Floats]:
        found = plan.of_sums(weighted_sums(weights, table), table)
        if ranking is not None:
            ranks = ranking.figures(weights.astype(np.int32), full=full)
            lost = np.isnan(found["brier"])
            found |= {name: np.where(lost, np.nan, values) for name, values in ranks.items()}
        return found

    whole = evaluate(np.ones((1, len(table))))
    strata = group_strata(groups, labels)
    parts = [evaluate(weights) for weights in draws_within(strata, len(table), resamples, seed)]
    left_out: dict[str, tuple[Floats, ...]] = {}
    if interval == "bca":
        sums = [plan.of_sums(table.sum(axis=0) - table[members], table) for members in strata]
        left_out = {name: tuple(part[name] for part in sums) for name in sums[0]}
        left_out |= ranks_left_out(ranking, strata, len(table), full)
    cells = table[:, 4:].sum(axis=0).reshape(-1, 4)
    return Bootstrap(
        values={name: float(value[0]) for name, value in whole.items()},
        draws={name: np.concatenate([part[name] for part in parts]) for name in whole},
        counts={name: Counts(*(round(count) for count in row)) for name, row in zip(plan.names, cells, strict=True)},
        left_out=left_out,
        pairing=pairing_of(strata, len(table), resamples, seed),
    )


def ranks_left_out(
    ranking: Ranking | None, strata: Strata, n_groups: int, full: bool = False
) -> dict[str, tuple[Floats, ...]]:
    """By figure and stratum, the ranks without each block of groups (see :func:`evaluation.bca.blocks_left_out`)."""
    if ranking is None:
        return {}
    parts = [ranking.figures(weights, full=full) for weights in blocks_left_out(strata, n_groups)]
    return {name: tuple(part[name] for part in parts) for name in parts[0]}


def _check(labels: NDArray[np.uint8], scores: Floats, groups: NDArray[np.int64], resamples: int) -> None:
    if not len(labels) == len(scores) == len(groups) or len(labels) == 0:
        raise ValueError(
            f"{len(labels)} labels, {len(scores)} scores, {len(groups)} groups: expected equally many, not 0."
        )
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinity; nothing can be computed from them.")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; expected at least 1.")


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


@dataclass(frozen=True)
class _Plan:
    """What is made of the sums: rates at the thresholds of these names."""

    names: tuple[str, ...]
    beta: float
    prevalences: tuple[float, ...]

    def of_sums(self, sums: Floats, table: Floats) -> dict[str, Floats]:
        """Metrics of weighted sums of a :func:`_group_table`, shape (b, columns); NaN where a class of the table is lost."""
        images, positives = sums[:, 0], sums[:, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            found = {"brier": sums[:, 2] / images, "log_loss": sums[:, 3] / images}
        for place, name in enumerate(self.names):
            tp, fn, fp, tn = sums[:, 4 + 4 * place : 8 + 4 * place].T
            at = rates(tp, fn, fp, tn, self.beta)
            for prevalence in self.prevalences:
                both = at["sensitivity"], at["specificity"]
                at[prevalence_name("ppv", prevalence)] = ppv_at(*both, prevalence)
                at[prevalence_name("npv", prevalence)] = npv_at(*both, prevalence)
            found |= {f"{name}/{rate}": value for rate, value in at.items()}
        n_images, n_positives = table[:, 0].sum(), table[:, 1].sum()
        lost = ((positives == 0) & (n_positives > 0)) | ((positives == images) & (n_positives < n_images))
        for value in found.values():
            value[lost] = np.nan
        return found


def prevalence_name(rate: str, prevalence: float) -> str:
    """What a resample calls PPV or NPV at a prevalence: ``ppv@0.05``."""
    return f"{rate}@{prevalence:g}"

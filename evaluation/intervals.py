"""Intervals: Wilson, Clopper-Pearson, and a bootstrap that resamples whole groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm

from evaluation.metrics import Ranking, log_losses, outcomes, rates, squared_errors

BOOTSTRAP: Final = "group bootstrap"
WILSON: Final = "wilson"
# Resamples that share one random stream. A constant, so that results depend on the seed and on nothing else.
_BLOCK: Final = 16
_FEWEST_RESAMPLES: Final = 20
_EXACT_IN_FLOAT32: Final = 2**22

Floats = NDArray[np.float64]
Seed = int | Sequence[int]


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval; None where there is none.

    Attributes:
        dropped: resamples in which the metric was not defined.
    """

    value: float | None
    low: float | None
    high: float | None
    method: str = BOOTSTRAP
    dropped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def wilson(hits: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided Wilson score interval of a proportion (Wilson 1927).

    Args:
        hits: 0 to ``n``; need not be whole. ``n``: above 0. ``confidence``: in (0, 1).
    """
    if not 0 <= hits <= n or n <= 0:
        raise ValueError(f"{hits} hits of {n}: expected 0 <= hits <= n and n > 0.")
    z = float(norm.ppf(0.5 + confidence / 2))
    centre = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * float(np.sqrt(hits * (n - hits) / n + z * z / 4))
    # The exact ends are 0 and 1 there; rounding must not move them.
    return (0.0 if hits == 0 else max(0.0, centre - half)), (1.0 if hits == n else min(1.0, centre + half))


def wilson_interval(hits: int, n: int, confidence: float = 0.95) -> Interval:
    """A proportion of independent units with its Wilson interval; all None for n = 0."""
    if n == 0:
        return Interval(None, None, None, WILSON)
    return Interval(hits / n, *wilson(hits, n, confidence), WILSON)


def clopper_pearson_lower(hits: int, n: int, confidence: float = 0.95) -> float:
    """One-sided exact lower bound of a proportion: the (1 - confidence) quantile of Beta(hits, n - hits + 1)."""
    if not 0 <= hits <= n or n <= 0:
        raise ValueError(f"{hits} hits of {n}: expected 0 <= hits <= n and n > 0.")
    return 0.0 if hits == 0 else float(beta.ppf(1 - confidence, hits, n - hits + 1))


def percentile_interval(value: float, draws: Floats, confidence: float = 0.95) -> Interval:
    """The percentile interval of bootstrap draws.

    Args:
        value: the estimate on the data themselves; NaN if it is not defined there.
        draws: shape (resamples,); NaN marks a resample to drop.
    """
    kept = draws[np.isfinite(draws)]
    dropped = len(draws) - len(kept)
    if not np.isfinite(value):
        return Interval(None, None, None, dropped=dropped)
    if len(kept) < _FEWEST_RESAMPLES:
        return Interval(float(value), None, None, dropped=dropped)
    low, high = np.quantile(kept, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(value), float(low), float(high), dropped=dropped)


def group_draws(
    groups: NDArray[np.int64], labels: NDArray[np.uint8], resamples: int, seed: Seed
) -> Iterator[NDArray[np.float32]]:
    """How often each group is drawn in each resample, block by block.

    Groups are drawn with replacement, as many as there are, separately among groups with a positive image and groups
    without one.

    Args:
        groups: shape (n,), codes 0 to g - 1. ``labels``: shape (n,), 1 = positive.
        resamples: number of resamples. ``seed``: one whole number or several; 0 is a seed like any other.

    Yields:
        Arrays of shape (at most 16, g): whole numbers. The first resamples are the same however many are asked for.
    """
    sizes = np.bincount(groups)
    positive = np.bincount(groups, weights=labels) > 0
    strata = [np.flatnonzero(positive & (sizes > 0)), np.flatnonzero(~positive & (sizes > 0))]
    root = np.random.SeedSequence(seed)
    for start in range(0, resamples, _BLOCK):
        generator = np.random.Generator(np.random.PCG64(root.spawn(1)[0]))
        weights = np.zeros((_BLOCK, len(sizes)), dtype=np.float32)
        for members in strata:
            size = len(members)
            if size:
                drawn = generator.integers(0, size, size=(_BLOCK, size))
                drawn += np.arange(_BLOCK)[:, None] * size
                weights[:, members] = np.bincount(drawn.ravel(), minlength=_BLOCK * size).reshape(_BLOCK, size)
        yield weights[: min(_BLOCK, resamples - start)]


@dataclass(frozen=True)
class Bootstrap:
    """Every metric on the data (``values``) and in every resample (``draws``, each of shape (resamples,)).

    Names are ``auroc``, ``average_precision``, ``brier``, ``log_loss`` and ``<threshold name>/<rate>``. Two of these made
    from the same groups, labels and seed rest on the same resamples, so that their draws may be subtracted.
    """

    values: dict[str, float]
    draws: dict[str, Floats]
    counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def interval(self, name: str, confidence: float = 0.95) -> Interval:
        """Estimate and percentile interval of one metric."""
        return percentile_interval(self.values[name], self.draws[name], confidence)


def difference_interval(name: str, first: Bootstrap, second: Bootstrap, confidence: float = 0.95) -> Interval:
    """Interval of ``first - second``: paired when both rest on the same resamples, independent otherwise."""
    value = first.values[name] - second.values[name]
    return percentile_interval(value, first.draws[name] - second.draws[name], confidence)


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

    Args:
        labels: shape (n,), 1 = positive. ``scores``: shape (n,), in [0, 1]. ``groups``: shape (n,), codes from 0.
        thresholds: by name; positive if and only if score >= threshold.
        ranked: also AUROC, average precision, Brier score and log loss.

    Returns:
        Rates from one matrix product over groups, ranks from one sort. A resample that lost a class which the data have
        is NaN in every metric.

    Raises:
        ValueError: no image, scores that are not finite, or arrays of different lengths.
    """
    if not len(labels) == len(scores) == len(groups) or len(labels) == 0:
        raise ValueError(
            f"{len(labels)} labels, {len(scores)} scores, {len(groups)} groups: expected equally many, not 0."
        )
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinity; nothing can be computed from them.")
    table = _group_table(labels, scores, groups, thresholds)
    ranking = Ranking(labels, scores, groups) if ranked else None
    parts: list[dict[str, Floats]] = []
    dtype = np.float32 if len(labels) < _EXACT_IN_FLOAT32 else np.float64
    for weights in group_draws(groups, labels, resamples, seed):
        parts.append(_evaluate(weights.astype(dtype, copy=False), table, ranking, tuple(thresholds)))
    whole = _evaluate(np.ones((1, table.shape[0])), table, ranking, tuple(thresholds))
    cells = table.sum(axis=0)[3:].round().astype(np.int64).reshape(-1, 4)
    return Bootstrap(
        values={name: float(value[0]) for name, value in whole.items()},
        draws={name: np.concatenate([part[name] for part in parts]) for name in whole},
        counts=dict(zip(thresholds, cells, strict=True)),
    )


def _group_table(
    labels: NDArray[np.uint8], scores: Floats, groups: NDArray[np.int64], thresholds: Mapping[str, float]
) -> Floats:
    """Sums within each group: positives, squared errors, log losses, then tp, fn, fp, tn of each threshold."""
    columns = [labels.astype(np.float64), squared_errors(labels, scores), log_losses(labels, scores)]
    for threshold in thresholds.values():
        columns.extend(outcomes(labels, scores, threshold).astype(np.float64).T)
    n_groups = int(groups.max()) + 1
    table = np.stack([np.bincount(groups, weights=column, minlength=n_groups) for column in columns], axis=1)
    sizes = np.bincount(groups, minlength=n_groups)
    return np.concatenate([table[:, :1], table[:, 1:3], table[:, 3:]], axis=1) if len(sizes) else table


def _evaluate(
    weights: NDArray[np.floating], table: Floats, ranking: Ranking | None, names: tuple[str, ...]
) -> dict[str, Floats]:
    raise NotImplementedError

"""Folds of whole groups with the classes spread evenly."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.errors import DataError

_QUICK = 5_000  # groups up to which scikit-learn's search, whose time grows with their number, takes about a second


def grouped_folds(strata: pd.Series, groups: pd.Series, count: int, seed: int) -> NDArray[np.int64]:
    """Number of the fold of each row, 0 to ``count - 1``; no group is split.

    Args:
        strata: what should be equally frequent in all folds, shape (n,).
        groups: patient or lesion of each row, shape (n,).
        count: number of folds, at least 2.
        seed: of the shuffling.
    """
    if groups.nunique() > _QUICK:
        return _dealt(strata, groups, count, seed)
    from sklearn.model_selection import StratifiedGroupKFold  # seconds to load, and most runs find their split made

    fold = np.empty(len(strata), dtype=np.int64)
    splitter = StratifiedGroupKFold(n_splits=count, shuffle=True, random_state=seed)
    for number, (_, held) in enumerate(splitter.split(np.zeros(len(strata)), strata, groups)):
        fold[held] = number
    return fold


def _dealt(strata: pd.Series, groups: pd.Series, count: int, seed: int) -> NDArray[np.int64]:
    """Deal groups like cards: those with the same strata in the same numbers are interchangeable, so they go round in turn.

    Takes time in proportion to the rows; a million take seconds. Folds differ by at most about one group of each kind.
    """
    generator = np.random.default_rng([seed, count])
    group, _ = pd.factorize(groups)
    stratum, names = pd.factorize(strata, sort=True)
    # A sum of random numbers, one a stratum, tells kinds of groups apart: two kinds collide with probability 2**-64.
    weights = generator.integers(2**63, size=len(names), dtype=np.uint64)
    kind = np.zeros(group.max() + 1, dtype=np.uint64)
    np.add.at(kind, group, weights[stratum])
    order = generator.permutation(len(kind))
    order = order[np.argsort(kind[order], kind="stable")]
    fold = np.empty(len(kind), dtype=np.int64)
    fold[order] = generator.permutation(count)[np.arange(len(order)) % count]
    return fold[group]


def finest_strata(pool: pd.DataFrame, count: int) -> pd.Series:
    """Label and sub-type where each combination is frequent enough for ``count`` folds, else the label."""
    if "subtype" not in pool:
        return pool["label"]
    strata = pool["label"] + "/" + pool["subtype"]
    return strata.where(strata.map(strata.value_counts()) >= count, pool["label"])


def scarce_classes(labels: pd.Series, groups: pd.Series, count: int) -> dict[str, int]:
    """Classes with fewer than ``count`` groups, so that some fold would get none, with their number of groups."""
    per_class = groups.groupby(labels.to_numpy()).nunique()
    return {str(name): int(number) for name, number in per_class.items() if number < count}


def too_few_groups(
    scarce: dict[str, int], key: str, value: float, count: int, group_name: str, *, hopeless: bool = False
) -> DataError:
    """The error of a class that cannot be cut as asked, with what would work.

    Args:
        scarce: of :func:`scarce_classes`.
        key, value: the setting that asked for ``count`` groups.
        group_name: what a group is called.
        hopeless: fewer than two classes would be left to be judged without these.
    """
    name, fewest = min(scarce.items(), key=lambda item: item[1])
    others = f" (and {len(scarce) - 1} more classes)" if len(scarce) > 1 else ""
    text = (
        f"class {name} has only {fewest} {group_name}{'' if fewest == 1 else 's'} to split{others}; {key}={value:g} needs at "
        f"least {count}. What works: "
    )
    ways = ["more images of it"]
    if not hopeless:
        ways.append("split.rare_classes=train (it is then trained on, but not judged)")
    if fewest >= 2:
        larger = f"{fewest}" if key == "split.folds" else f"{1 / fewest:.3g}"
        ways.insert(0, f"{key}={larger}")
    return DataError(text + ", or ".join(ways) + ".")

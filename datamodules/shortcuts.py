"""What tells the classes or the parts apart without looking at the disease: file facts, subgroups, sixteen pixels."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

FOLDS = 5
FEWEST_GROUPS = 2 * FOLDS  # of a class or side; with fewer, a cross-validated figure is noise
FILE_FACTS = {"bytes": "file size", "size": "image size", "mode": "colour mode", "all": "file facts together"}

_MOST_ROWS = 20_000  # more make the figures no surer than they are, and cost minutes
_TREES = 40
_SMALLEST_LEAF = 20
_STRENGTH = 0.01  # of the logistic regression, C
_UNKNOWN = "unknown"
_MOST_VALUES = 12
_CHANCE = 0.001
_FEWEST_OF_A_MODE = 3


def shortcut_aucs(rows: pd.DataFrame, *, seed: int = 0) -> dict[str, Any]:
    """How well file facts alone tell the classes: AUC of a forest in cross-validation that splits no group.

    Args:
        rows: one row an image: ``label``, ``joined_group``, ``bytes``, ``width``, ``height``, ``mode``.
        seed: of folds, forest and, beyond 20,000 rows, of the choice of groups.

    Returns:
        ``n``, ``classes`` (those with at least 10 groups), ``left_out_classes``, and ``facts``: for each of
        ``FILE_FACTS`` a dictionary of ``auc`` (macro average, one class against the rest; None with ``why``),
        ``standard_error`` (Hanley and McNeil 1982, on groups) and ``by_class``; ``modes_of_one_class``: colour modes that
        only one class has, each with ``class`` and ``images``.
    """
    groups = rows.groupby("label")["joined_group"].nunique()
    classes = sorted(str(name) for name in groups.index[groups >= FEWEST_GROUPS])
    used = _subset(rows[rows["label"].isin(classes)], seed)
    result: dict[str, Any] = {
        "n": len(used),
        "classes": classes,
        "left_out_classes": sorted(str(name) for name in groups.index[groups < FEWEST_GROUPS]),
        "facts": {},
        "modes_of_one_class": _modes_of_one_class(rows) if len(classes) > 1 else {},
    }
    features = _file_facts(used)
    varying = [name for name in FILE_FACTS if (np.ptp(features[name], axis=0) > 0).any()] if len(used) else []
    for name in FILE_FACTS:
        if len(classes) < 2:
            result["facts"][name] = _untold(f"fewer than two classes have {FEWEST_GROUPS} groups")
        elif name not in varying:
            result["facts"][name] = _untold("the same in every image")
        elif name == "all" and len(varying) == 2:  # itself and one more
            result["facts"][name] = result["facts"][varying[0]]
        else:
            told = _told_apart(features[name], used["label"], used["joined_group"], classes, seed)
            result["facts"][name] = told or _untold("a class is missing in a fold")
    return result


def _modes_of_one_class(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Colour modes (``L``, ``RGB``) that occur in one class only, where there is more than one mode."""
    modes = rows["mode"].str.split(",").str[0]
    if modes.nunique() < 2:
        return {}
    held = rows["label"].groupby(modes.to_numpy())
    return {
        str(mode): {"class": str(labels.iloc[0]), "images": len(labels)}
        for mode, labels in held
        if labels.nunique() == 1 and len(labels) >= _FEWEST_OF_A_MODE
    }


def domain_auc(small: NDArray[np.uint8], sides: ArrayLike, groups: ArrayLike, *, seed: int = 0) -> dict[str, Any]:
    """How well 16 x 16 pixels tell one set of images from another: logistic regression, 5 folds, no group split.

    Args:
        small: pictures, shape ``(n, 32, 32)``. ``sides``: shape (n,), True for the second set. ``groups``: shape (n,).
        seed: of folds and, beyond 20,000 images, of the choice of groups.

    Returns:
        ``auc`` (about 0.5 if the sets are alike, 1 if they can always be told apart; None where a set has fewer
        than 10 groups), ``standard_error`` (on groups), ``n_first``, ``n_second``.
    """
    frame = pd.DataFrame({"side": np.asarray(sides, dtype=bool), "joined_group": np.asarray(groups).astype(str)})
    chosen = _subset(frame, seed)
    sixteen = small[chosen.index].reshape(len(chosen), 16, 2, 16, 2).mean(axis=(2, 4)).reshape(len(chosen), 256)
    target = chosen["side"].to_numpy()
    counts = [chosen["joined_group"][target == side].nunique() for side in (False, True)]
    result = {"n_first": int((~frame["side"]).sum()), "n_second": int(frame["side"].sum())}
    scores = None
    if min(counts) >= FEWEST_GROUPS:
        scores = _cross_validated(_regression(), sixteen, target, chosen["joined_group"], seed)
    if scores is None:
        return {**result, "auc": None, "standard_error": None}
    auc = _auc(target, scores[:, 1])
    return {**result, "auc": auc, "standard_error": _standard_error(auc, *counts)}


def association(labels: pd.Series, values: pd.Series) -> dict[str, Any]:
    """How a subgroup column goes with the label.

    Args:
        labels: class of each image. ``values``: subgroup of each image; missing ones become "unknown", numbers with
            more than 12 distinct values become five bands of equal counts, and rare values beyond the 12th "other".

    Returns:
        ``table`` (value -> class -> images), ``cramers_v`` (0 to 1, bias-corrected, Bergsma 2013; None where there is
        one value or class), ``always`` (class -> the one value that all its images have), ``decides`` (value -> the one
        class that all its images have; both only where chance would hardly do that), ``refines`` (True if every value
        belongs to one class: a finer label), ``unknown`` (images without a value).
    """
    values = _banded(values)
    table = pd.crosstab(values, labels.astype(str))
    telling = min(table.shape, default=0) > 1
    pure = (table > 0).sum(axis=1) == 1
    return {
        "table": {str(value): {str(k): int(v) for k, v in row.items()} for value, row in table.iterrows()},
        "cramers_v": _cramers_v(table.to_numpy(dtype=np.float64)) if telling else None,
        "always": _only(table.T) if telling else {},
        "decides": _only(table) if telling else {},
        "refines": bool(telling and pure[pure.index != _UNKNOWN].all()),
        "unknown": int((values == _UNKNOWN).sum()),
    }


def _only(table: pd.DataFrame) -> dict[str, str]:
    """Rows whose counts all lie in one column, and which column, unless the other rows make that likely."""
    found = {}
    for name, row in table.iterrows():
        only = str(row.idxmax())
        others = table.drop(index=name).sum()
        share = float(others[only] / max(others.sum(), 1))
        if (row > 0).sum() == 1 and share ** int(row.sum()) < _CHANCE:
            found[str(name)] = only
    return found


def _file_facts(rows: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    width, height, size = (np.log(rows[name].to_numpy(dtype=float).clip(1)) for name in ("width", "height", "bytes"))
    modes = pd.get_dummies(rows["mode"].astype(str)).to_numpy(dtype=float)
    facts = {"bytes": size[:, None], "size": np.stack([width, height, width - height], axis=1), "mode": modes}
    return {**facts, "all": np.concatenate(list(facts.values()), axis=1)}


def _untold(why: str) -> dict[str, Any]:
    return {"auc": None, "standard_error": None, "by_class": {}, "why": why}


def _told_apart(
    features: NDArray[np.float64], labels: pd.Series, groups: pd.Series, classes: list[str], seed: int
) -> dict[str, Any] | None:
    from sklearn.ensemble import RandomForestClassifier

    leaf = max(1, min(_SMALLEST_LEAF, len(features) // 40))
    forest = RandomForestClassifier(_TREES, min_samples_leaf=leaf, random_state=seed, class_weight="balanced")
    # Numbers, not names: scikit-learn would read a class called "0" as a number.
    number_of = {name: number for number, name in enumerate(classes)}
    scores = _cross_validated(forest, features, labels.map(number_of).to_numpy(dtype=np.int64), groups, seed)
    if scores is None:
        return None
    by_class = {name: _auc(labels.to_numpy() == name, scores[:, number]) for number, name in enumerate(classes)}
    auc = float(np.mean(list(by_class.values())))
    fewest = int(groups.groupby(labels).nunique().min())
    # A group may have images of several classes; it then counts on both sides.
    error = _standard_error(auc, fewest, max(1, groups.nunique() - fewest))
    return {"auc": round(auc, 4), "standard_error": error, "by_class": by_class}


def _cross_validated(
    model: Any, features: NDArray[np.float64], target: NDArray[Any], groups: pd.Series, seed: int
) -> NDArray[np.float64] | None:
    """Probabilities of every image from folds that hold none of its group; None if a fold lacks a class."""
    from sklearn.base import clone
    from sklearn.exceptions import ConvergenceWarning

    classes = np.unique(target)
    scores = np.empty((len(target), len(classes)))
    fold_of = _folds(target, groups, seed)
    for fold in range(FOLDS):
        held = fold_of == fold
        if len(np.unique(target[~held])) < len(classes):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # Newton's method then goes on with the default solver
            scores[held] = clone(model).fit(features[~held], target[~held]).predict_proba(features[held])
    return scores


def _folds(target: NDArray[Any], groups: pd.Series, seed: int) -> NDArray[np.int64]:
    """Fold of every image: the groups of a class are dealt out in turn, the largest first, otherwise shuffled.

    scikit-learn's StratifiedGroupKFold does the same better and takes a minute where there are 10,000 groups.
    """
    numbers, names = pd.factorize(groups)
    sizes = np.bincount(numbers, minlength=len(names))
    label = np.empty(len(names), dtype=np.int64)
    label[numbers[::-1]] = np.unique(target, return_inverse=True)[1][::-1]  # of the first image of each group
    shuffled = np.random.default_rng(seed).permutation(len(names))
    fold = np.empty(len(names), dtype=np.int64)
    fold[np.lexsort((shuffled, -sizes, label))] = np.arange(len(names)) % FOLDS
    return fold[numbers]


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Newton's method finds the same optimum as the default solver, for 256 pixels many times as fast.
    return make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, solver="newton-cholesky"))


def _auc(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    from sklearn.metrics import roc_auc_score

    return round(float(roc_auc_score(positive, scores)), 4)


def _standard_error(auc: float, positives: int, negatives: int) -> float:
    """Of an AUC (Hanley and McNeil 1982). Groups are counted, not images: images of one group are one piece of news."""
    above = max(auc, 1 - auc)
    both, twice = above / (2 - above), 2 * above**2 / (1 + above)
    spread = above * (1 - above) + (positives - 1) * (both - above**2) + (negatives - 1) * (twice - above**2)
    return round(math.sqrt(max(spread, 0.0) / (positives * negatives)), 4)


def _subset(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Whole groups in random order, until there are enough rows."""
    rows = rows.reset_index(drop=True)
    if len(rows) <= _MOST_ROWS:
        return rows
    sizes = rows["joined_group"].value_counts(sort=False).sample(frac=1.0, random_state=seed).cumsum()
    return rows[rows["joined_group"].isin(set(sizes.index[sizes <= _MOST_ROWS]))]


def _banded(values: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > _MOST_VALUES:
        bands = pd.qcut(values, 5, duplicates="drop")
        named = bands.map(lambda band: f"{band.left:g} to {band.right:g}", na_action="ignore").astype(object)
        return named.where(values.notna(), _UNKNOWN)
    text = values.astype(object).where(values.notna(), "").astype(str).replace("", _UNKNOWN)
    common = text.value_counts().index
    return text if len(common) <= _MOST_VALUES else text.where(text.isin(set(common[:_MOST_VALUES])), "other")


def _cramers_v(counts: NDArray[np.float64]) -> float:
    total = counts.sum()
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / total
    squared = float(((counts - expected) ** 2 / expected).sum() / total)
    rows, columns = counts.shape
    bias = (rows - 1) * (columns - 1) / max(total - 1, 1)
    smaller = min(rows - (rows - 1) ** 2 / max(total - 1, 1), columns - (columns - 1) ** 2 / max(total - 1, 1))
    return round(math.sqrt(max(0.0, squared - bias) / max(smaller - 1, 1e-9)), 4) if smaller > 1 else 0.0

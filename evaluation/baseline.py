"""A model that sees 16 x 16 pixels: what a network has to beat, and how far two sets of images lie apart."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.metrics import auroc

_STRENGTH: Final = 0.01
_FOLDS: Final = 5
_FEWEST_GROUPS: Final = 2 * _FOLDS


def thumbnail_scores(
    train_x: ArrayLike, train_y: ArrayLike, other_x: ArrayLike, n_classes: int = 2
) -> NDArray[np.float64]:
    """Probabilities of a logistic regression (C = 0.01) on standardised pixels; multinomial for several classes.

    Args:
        train_x: shape (n, pixels), in any one scale. ``train_y``: shape (n,), 1 or True = positive; class numbers where
            there are more than two classes.
        other_x: shape (k, pixels), in the same scale.
        n_classes: at least 2.

    Returns:
        Shape (k,) for two classes, the positive one's; else (k, n_classes), with 0 for a class that training lacks. In
        [0, 1]: exact float32 values, as a network's.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, class numbers out of range, or training images
            of one class only.
    """
    train, other = _pixels(train_x, "training"), _pixels(other_x, "other")
    labels = np.asarray(train_y).astype(np.int64 if n_classes > 2 else bool)
    if labels.shape != (len(train),) or train.shape[1] != other.shape[1]:
        raise ValueError(
            f"shapes {train.shape}, {labels.shape} and {other.shape} of pixels, labels and other pixels do not fit."
        )
    known = np.unique(labels).astype(np.int64)
    if len(known) < 2:
        needs = "both" if n_classes == 2 else "at least two"
        raise ValueError(f"all {len(labels)} training images are of one class; the baseline needs {needs}.")
    if known[0] < 0 or known[-1] >= n_classes:
        raise ValueError(f"class numbers run from {known[0]} to {known[-1]}; expected 0 to {n_classes - 1}.")
    if len(other) == 0:
        return np.empty(0) if n_classes == 2 else np.empty((0, n_classes))
    found = _regression().fit(train, labels).predict_proba(other)
    if n_classes == 2:
        return np.asarray(found[:, 1], dtype=np.float32).astype(np.float64)
    scores = np.zeros((len(other), n_classes))
    scores[:, known] = np.asarray(found, dtype=np.float32)
    return scores


def domain_auc(a: ArrayLike, b: ArrayLike, groups_a: ArrayLike, groups_b: ArrayLike, seed: int = 0) -> float | None:
    """How well thumbnails tell set ``a`` from set ``b``: AUROC of a logistic regression in 5-fold cross-validation.

    Args:
        a, b: thumbnails, shapes (n, pixels) and (k, pixels). ``groups_a``, ``groups_b``: group of each image; no group is
            split between folds. ``seed``: of the folds.

    Returns:
        About 0.5 if the sets are alike, 1 if they can always be told apart; None if a set has fewer than 10 groups.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = [np.asarray(side).astype(str) for side in (groups_a, groups_b)]
    if min(len(np.unique(side)) for side in groups) < _FEWEST_GROUPS:
        return None
    pixels = np.concatenate([_pixels(a, "first"), _pixels(b, "second")])
    members = np.concatenate(groups)
    if len(pixels) != len(members):
        raise ValueError(f"{len(pixels)} thumbnails, but {len(members)} groups.")
    labels = np.repeat(np.array([0, 1], dtype=np.uint8), [len(side) for side in groups])
    scores = np.empty(len(labels))
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    for train, held in folds.split(pixels, labels, members):
        if len(np.unique(labels[train])) < 2:
            return None
        scores[held] = _regression().fit(pixels[train], labels[train]).decision_function(pixels[held])
    return auroc(labels, scores)


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=1000))


def _pixels(values: ArrayLike, name: str) -> NDArray[np.float64]:
    pixels = np.asarray(values, dtype=np.float64)
    if pixels.ndim != 2:
        raise ValueError(f"{name} thumbnails have shape {pixels.shape}; expected (images, pixels).")
    if not np.isfinite(pixels).all():
        raise ValueError(f"{name} thumbnails hold NaN or infinity.")
    return pixels

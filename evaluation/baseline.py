"""A model that sees 16 x 16 grey pixels: what a network has to beat, and how far two sets of images lie apart."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.metrics import auroc

_STRENGTH: Final = 0.01
_FOLDS: Final = 5
_FEWEST_GROUPS: Final = 2 * _FOLDS


def thumbnail_scores(train_x: ArrayLike, train_y: ArrayLike, other_x: ArrayLike) -> NDArray[np.float64]:
    """Probabilities of a logistic regression (C = 0.01) on standardised pixels.

    Args:
        train_x: shape (n, 256), pixels in any one scale. ``train_y``: shape (n,), 1 or True = positive.
        other_x: shape (k, 256), in the same scale.

    Returns:
        Shape (k,), in [0, 1]: exact float32 values, as a network's.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, or training images of one class only.
    """
    train, other = _pixels(train_x, "training"), _pixels(other_x, "other")
    labels = np.asarray(train_y).astype(bool)
    if len(labels) != len(train) or train.shape[1] != other.shape[1]:
        raise ValueError(
            f"shapes {train.shape}, {labels.shape} and {other.shape} of pixels, labels and other pixels do not fit."
        )
    if labels.all() or not labels.any():
        raise ValueError(f"all {len(labels)} training images are of one class; the baseline needs both.")
    if len(other) == 0:
        return np.empty(0)
    scores = _regression().fit(train, labels).predict_proba(other)[:, 1]
    return np.asarray(scores, dtype=np.float32).astype(np.float64)


def domain_auc(a: ArrayLike, b: ArrayLike, groups_a: ArrayLike, groups_b: ArrayLike, seed: int = 0) -> float | None:
    """How well thumbnails tell set ``a`` from set ``b``: AUROC of a logistic regression in 5-fold cross-validation.

    Args:
        a, b: thumbnails, shapes (n, 256) and (k, 256). ``groups_a``, ``groups_b``: group of each image; no group is
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

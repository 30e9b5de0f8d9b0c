"""What a trivial model achieves, and whether a trivial model can tell train from test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

_FOLDS = 5


def thumbnail_scores(
    train: NDArray[np.uint8], train_labels: NDArray[np.bool_], other: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Probability of the positive class by logistic regression on thumbnails (C = 0.01, standardised pixels).

    Args:
        train: thumbnails of the training part, shape (n, 256), 0 to 255.
        train_labels: True = positive, shape (n,); both classes must occur.
        other: thumbnails to score, shape (k, 256).

    Returns:
        Shape (k,), float32 values held as float64, in [0, 1].
    """
    model = _thumbnail_model().fit(train.astype(np.float64), train_labels)
    probabilities: NDArray[np.float64] = model.predict_proba(other.astype(np.float64))[:, 1]
    return probabilities.astype(np.float32).astype(np.float64)


def domain_auc(
    ours: NDArray[np.uint8],
    theirs: NDArray[np.uint8],
    our_groups: NDArray[np.str_],
    their_groups: NDArray[np.str_],
    seed: int = 0,
) -> float | None:
    """How well a logistic regression on thumbnails tells two samples of one class apart: 0.5 = alike, 1 = different.

    Cross-validated over groups in 5 folds, so it cannot recognise a patient. A high value on training against test images means
    that the test part is not a sample of the same population.

    Args:
        ours, theirs: thumbnails, shapes (n, 256) and (k, 256).
        our_groups, their_groups: their groups, shapes (n,) and (k,).

    Returns:
        AUROC of the out-of-fold scores; None if either side has fewer than 25 groups.
    """
    if min(len(set(our_groups.tolist())), len(set(their_groups.tolist()))) < 5 * _FOLDS:
        return None
    pixels = np.concatenate([ours, theirs]).astype(np.float64)
    side = np.concatenate([np.zeros(len(ours), dtype=int), np.ones(len(theirs), dtype=int)])
    groups = np.concatenate([our_groups, their_groups])
    scores = np.empty(len(side))
    folds = StratifiedGroupKFold(n_splits=_FOLDS, shuffle=True, random_state=seed)
    for kept, held in folds.split(pixels, side, groups):
        scores[held] = _thumbnail_model().fit(pixels[kept], side[kept]).predict_proba(pixels[held])[:, 1]
    return float(roc_auc_score(side, scores))


def _thumbnail_model() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))

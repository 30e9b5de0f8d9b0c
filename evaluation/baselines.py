"""Baselines: what a network has to beat. Each learns from the training rows only and gives class probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from evaluation.baseline import thumbnail_scores

BASELINES: Final = ("majority", "thumbnail", "metadata", "hog_svm", "features")
TITLES: Final[dict[str, str]] = {
    "majority": "constant answer (the class frequencies of training)",
    "thumbnail": "logistic regression on 16x16 thumbnails",
    "metadata": "logistic regression on metadata alone",
    "hog_svm": "linear SVM on histograms of oriented gradients",
    "features": "logistic regression on the features of a frozen network",
}
HELD: Final = ("val", "test")
# Inverse strengths of the L2 penalty among which grouped cross-validation inside training chooses; the middle one is used
# where training has too few groups for that. The thumbnail baseline keeps its fixed C = 0.01.
STRENGTHS: Final[dict[str, tuple[float, ...]]] = {
    "metadata": (0.01, 0.1, 1.0),
    "features": (0.0001, 0.001, 0.01),
    "hog_svm": (0.00001, 0.0001, 0.001),
}
_COMPONENTS: Final = 256  # principal components that the SVM sees: of thousands of HOG values, which repeat each other
_FOLDS: Final = 3

Floats = NDArray[np.float64]
Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


@dataclass(frozen=True)
class BaselineInputs:
    """What a baseline sees of the three parts.

    Attributes:
        train, val, test: shape (images of the part, inputs), finite: thumbnails, encoded metadata, HOG or network features.
            Of ``majority`` only the number of rows counts.
        groups: group of each training image, shape (n,); no group is split between the folds of cross-validation.
    """

    train: NDArray[Any]
    val: NDArray[Any]
    test: NDArray[Any]
    groups: NDArray[Any]


def baseline_scores(
    name: str, inputs: BaselineInputs, targets_train: ArrayLike, n_classes: int, *, positive: int = 1, seed: int = 0
) -> dict[str, Floats]:
    """Class probabilities of a baseline on validation and test.

    Args:
        name: one of ``BASELINES``.
        inputs: what it sees.
        targets_train: class numbers of the training rows, shape (n,).
        n_classes: at least 2.
        positive: the class number that a two-class regression models; the other is its complement.
        seed: of the folds.

    Returns:
        For ``val`` and ``test`` an array of shape (images, n_classes) in [0, 1] whose rows sum to 1 up to float32; 0 for a
        class that training lacks. The same inputs give the same numbers.

    Raises:
        ValueError: an unknown name, arrays that do not fit, values that are not finite, or (except for ``majority``)
            training images of one class only.
    """
    if name not in BASELINES:
        raise ValueError(f"baseline is {name!r}; choose from {', '.join(BASELINES)}.")
    targets = np.asarray(targets_train, dtype=np.int64)
    _check(name, inputs, targets, n_classes)
    sizes = [len(inputs.val), len(inputs.test)]
    # One thread: products this small lose more to waking threads than they gain, and sums keep their order.
    with threadpool_limits(1):
        if name == "majority":
            found = np.tile(np.bincount(targets, minlength=n_classes) / len(targets), (sum(sizes), 1))
        elif name == "thumbnail":
            found = _thumbnail(inputs, targets, n_classes, positive)
        else:
            found = _learnt(name, inputs, targets, n_classes, seed)
    exact = _rounded(found, positive if n_classes == 2 else None)
    return dict(zip(HELD, np.split(exact, [sizes[0]]), strict=True))


def _check(name: str, inputs: BaselineInputs, targets: NDArray[np.int64], n_classes: int) -> None:
    shapes = {part: np.shape(getattr(inputs, part)) for part in ("train", *HELD)}
    wrong = [f"{part} {shape}" for part, shape in shapes.items() if len(shape) != 2 or shape[1] != shapes["train"][-1]]
    if wrong or not len(targets) == len(inputs.groups) == shapes["train"][0] or len(targets) == 0:
        raise ValueError(
            f"baseline {name}: {len(targets)} targets and {len(inputs.groups)} groups for inputs of shapes "
            f"{list(shapes.values())}; expected (images, inputs) with as many training rows as targets and groups."
        )
    if targets.min() < 0 or targets.max() >= n_classes:
        raise ValueError(
            f"baseline {name}: class numbers run from {targets.min()} to {targets.max()}; expected 0 to {n_classes - 1}."
        )
    for part in () if name == "majority" else ("train", *HELD):
        if not np.isfinite(getattr(inputs, part)).all():
            raise ValueError(
                f"baseline {name}: the inputs of {part} hold NaN or infinity. Leave {name} out of evaluation.baselines."
            )
    if name != "majority" and len(np.unique(targets)) < 2:
        raise ValueError(
            f"baseline {name}: all {len(targets)} training images are of one class; it needs at least two."
        )


def _rounded(found: Floats, positive: int | None) -> Floats:
    """Exact float32 values, as a network's; of two classes the second is the complement of the first, to the bit."""
    exact = found.astype(np.float32).astype(np.float64)
    if positive is not None:
        exact[:, 1 - positive] = 1.0 - exact[:, positive]
    return exact


def _thumbnail(inputs: BaselineInputs, targets: NDArray[np.int64], n_classes: int, positive: int) -> Floats:
    held = np.concatenate([inputs.val, inputs.test])
    if n_classes > 2:
        return thumbnail_scores(inputs.train, targets, held, n_classes)
    scores = thumbnail_scores(inputs.train, targets == positive, held)
    return np.stack([scores, 1.0 - scores][:: 1 if positive == 0 else -1], axis=1)


def _learnt(name: str, inputs: BaselineInputs, targets: NDArray[np.int64], n_classes: int, seed: int) -> Floats:
    """Fit on training, with a strength chosen there; scores of validation and test, one below the other."""
    known, codes = np.unique(targets, return_inverse=True)
    folds = _folds(codes, np.asarray(inputs.groups).astype(str), seed)
    train, held = _scaled(inputs)
    if name == "hog_svm":
        train, held = _components(train, held)
    fit: Callable[..., Floats] = _svm if name == "hog_svm" else _logistic
    scores = np.zeros((len(held), n_classes))
    scores[:, known] = fit(train, codes, held, STRENGTHS[name], folds)
    return scores


def _folds(codes: NDArray[np.int64], groups: NDArray[np.str_], seed: int) -> Folds:
    """Folds by whole groups, with every class on the training side of each; empty where there are too few groups."""
    from sklearn.model_selection import StratifiedGroupKFold

    fewest = min(len(np.unique(groups[codes == code])) for code in np.unique(codes))
    if fewest < _FOLDS:
        return []
    cutter = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    folds = list(cutter.split(np.zeros(len(codes)), codes, groups))
    whole = all(len(np.unique(codes[train])) == codes.max() + 1 for train, _ in folds)
    return folds if whole else []


def _scaled(inputs: BaselineInputs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Training and other rows with the mean and deviation of training; a constant input becomes 0 everywhere."""
    train = np.asarray(inputs.train, dtype=np.float32)
    mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = train.std(axis=0, dtype=np.float64).astype(np.float32)
    scale = np.where(deviation > 1e-6 * (1.0 + np.abs(mean)), deviation, np.inf).astype(np.float32)
    held = np.concatenate([np.asarray(inputs.val, dtype=np.float32), np.asarray(inputs.test, dtype=np.float32)])
    return (train - mean) / scale, (held - mean) / scale


def _components(
    train: NDArray[np.float32], held: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    from sklearn.decomposition import PCA

    n = min(_COMPONENTS, *train.shape)
    pca = PCA(n, svd_solver="covariance_eigh" if len(train) >= train.shape[1] else "full").fit(train)
    return pca.transform(train), pca.transform(held)


def _logistic(
    train: NDArray[np.float32],
    codes: NDArray[np.int64],
    held: NDArray[np.float32],
    strengths: tuple[float, ...],
    folds: Folds,
) -> Floats:
    """Logistic regression; the strength with the lowest log loss over the folds."""
    losses = []
    for strength in strengths if folds else ():
        apart = np.empty((len(codes), codes.max() + 1))
        for inside, outside in folds:
            apart[outside] = _regression(strength).fit(train[inside], codes[inside]).predict_proba(train[outside])
        losses.append(_log_loss(codes, apart))
    best = strengths[int(np.argmin(losses))] if losses else strengths[len(strengths) // 2]
    return np.asarray(_regression(best).fit(train, codes).predict_proba(held), dtype=np.float64)


def _svm(
    train: NDArray[np.float32],
    codes: NDArray[np.int64],
    held: NDArray[np.float32],
    strengths: tuple[float, ...],
    folds: Folds,
) -> Floats:
    """Linear SVM, its decision values turned into probabilities by a logistic regression (Platt 1999).

    That regression is fitted on decision values of images that the SVM of their fold has not seen; without folds on those
    of training itself, which keeps the ranking of two classes and makes probabilities too sure.
    """
    best, lowest, kept = strengths[len(strengths) // 2], np.inf, None
    for strength in strengths if folds else ():
        apart = np.empty((len(codes), codes.max() + 1 if codes.max() > 1 else 1))
        for inside, outside in folds:
            machine = _machine(strength).fit(train[inside], codes[inside])
            apart[outside] = _decisions(machine, train[outside])
        sigmoid = _regression(1.0).fit(apart, codes)
        loss = _log_loss(codes, sigmoid.predict_proba(apart))
        if loss < lowest:
            best, lowest, kept = strength, loss, sigmoid
    machine = _machine(best).fit(train, codes)
    if kept is None:
        kept = _regression(1.0).fit(_decisions(machine, train), codes)
    return np.asarray(kept.predict_proba(_decisions(machine, held)), dtype=np.float64)


def _regression(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=1000)


def _machine(strength: float) -> Any:
    from sklearn.svm import LinearSVC

    # The primal problem of the squared hinge is solved without chance; the dual solver draws random numbers.
    return LinearSVC(C=strength, dual=False, max_iter=1000)


def _decisions(machine: Any, rows: NDArray[np.float32]) -> Floats:
    return np.asarray(machine.decision_function(rows), dtype=np.float64).reshape(len(rows), -1)


def _log_loss(codes: NDArray[np.int64], probabilities: Floats) -> float:
    return float(-np.log(np.maximum(probabilities[np.arange(len(codes)), codes], 1e-12)).mean())

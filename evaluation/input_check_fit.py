"""Fitting an input check: distances from training images, calibrated on validation images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.input_check import FEATURES, PARTS, InputCheck, Part
from evaluation.input_check_limits import Limit
from evaluation.input_check_space import Floats

FEWEST: Final = 20  # training images; with fewer there is no distance to speak of
_HELD_OUT: Final = 4  # every fourth training image sets the scale and is not in the reference
_LEAST_SCALE: Final = 0.05  # of a logarithm: 5 % of the distance


def fit_input_check(
    train: Mapping[str, Floats], val: Mapping[str, Floats], alpha: float, limits: Sequence[Limit] = ()
) -> InputCheck:
    """Fit all parts.

    Args:
        train: ``features`` ``(m, e)``, ``layout`` and ``texture`` of training images in random order, float32.
        val: the same of validation images, one a group: those of one patient are alike, so that they are no further evidence.
        alpha: share of images like those of validation that are turned away, in (0, 1).

    Raises:
        ValueError: too few images, or alpha outside its range.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is {alpha!r}; expected a number between 0 and 1.")
    n_train, n_val = len(train[FEATURES]), len(val[FEATURES])
    if n_train < FEWEST or n_val < 1:
        raise ValueError(f"{n_train} training and {n_val} validation images; expected at least {FEWEST} and 1.")
    held_out = np.arange(n_train) % _HELD_OUT == _HELD_OUT - 1
    parts = []
    for key, kind in PARTS.items():
        space: Any = kind.of(train[key][~held_out])
        distances = np.log(np.maximum(space.distances(train[key][held_out]), 1e-12))
        middle = float(np.median(distances))
        scale = max(float(np.quantile(distances, 0.95)) - middle, _LEAST_SCALE)
        bare = Part(key, space, middle, scale, np.empty(0))
        parts.append(Part(key, space, middle, scale, bare.strangeness(val[key])))
    return InputCheck(float(alpha), tuple(parts), tuple(limits))


def one_a_group(groups: Sequence[str], rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of one image of each group, drawn at random, in the order of the images."""
    order = rng.permutation(len(groups))
    _, first = np.unique(np.asarray(groups, dtype=str)[order], return_index=True)
    return np.sort(order[first]).astype(np.int64)

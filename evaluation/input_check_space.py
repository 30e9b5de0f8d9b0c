"""Distances from training images: of a network's features, and of what a picture looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS: Final = 10
SHARE: Final = 0.95  # of the variance that the principal subspace holds
WIDEST: Final = 2048  # features; wider ones are added up
BUCKETS: Final = 512
_LEAST_SPREAD: Final = 2.0  # grey levels; a pixel that is black in all training images may be nearly black elsewhere
_AT_ONCE: Final = 256  # images compared with the reference at a time

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Subspace:
    """Distance from the principal subspace of training features: how much of an image they cannot express.

    It is the reconstruction error of a principal component analysis, part of ViM (Wang et al. 2022, arXiv 2203.10807). Unlike a
    Mahalanobis distance it needs no inverse of a covariance, which fewer images than features do not have.

    Attributes:
        centre: mean, float32 ``(f,)``. ``axes``: orthonormal columns, float32 ``(f, k)``, k < f.
        width: e, features of an embedding; where it is above ``WIDEST``, f is ``BUCKETS``.
    """

    centre: Floats
    axes: Floats
    width: int

    @classmethod
    def of(cls, embeddings: Floats) -> Subspace:
        """The subspace of training images, float32 ``(m, e)``, that holds 95 % of their variance."""
        placed = _narrow(embeddings)
        centre = placed.mean(axis=0)
        _, lengths, rows = np.linalg.svd(placed - centre, full_matrices=False)
        variance = lengths.astype(np.float64) ** 2
        held = int(np.searchsorted(np.cumsum(variance), SHARE * variance.sum())) + 1 if variance.sum() > 0.0 else 0
        kept = min(held, placed.shape[1] - 1, len(rows))
        return cls(centre, np.ascontiguousarray(rows[:kept].T), embeddings.shape[1])

    def distances(self, embeddings: Floats) -> Doubles:
        """Distance of each of ``(n, e)`` embeddings from the subspace, shape ``(n,)``; infinite where one is not finite."""
        found = np.full(len(embeddings), np.inf)
        finite = np.isfinite(embeddings).all(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):  # huge ones overflow, and are as far away as can be
            away = _narrow(embeddings[finite]) - self.centre
            distances = np.linalg.norm(away - (away @ self.axes) @ self.axes.T, axis=1)
        found[finite] = np.where(np.isnan(distances), np.inf, distances)
        return found

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored."""
        return {"centre": self.centre, "axes": self.axes, "width": np.array([self.width], dtype=np.int64)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Subspace:
        """The subspace of :attr:`arrays`; ValueError where they do not fit together, KeyError where one is missing."""
        centre, axes, width = _numbers(arrays, "centre", 1), _numbers(arrays, "axes", 2), _numbers(arrays, "width", 1)
        if len(width) != 1 or axes.shape[0] != len(centre) or len(centre) != _placed_width(int(width[0])):
            raise ValueError(
                f"centre {centre.shape}, axes {axes.shape} and width {width.tolist()[:3]} do not fit together"
            )
        return cls(centre, axes, int(width[0]))


@dataclass(frozen=True, eq=False)
class Cloud:
    """Mean distance to the nearest training images, each number in units of its spread over them.

    Attributes:
        reference: of training images, float16 ``(m, f)``, in these units.
        centre, spread: float32 ``(f,)``.
    """

    reference: NDArray[np.float16]
    centre: Floats
    spread: Floats

    @classmethod
    def of(cls, values: Floats) -> Cloud:
        """The cloud of training images, float32 ``(m, f)``."""
        centre, spread = values.mean(axis=0), np.maximum(values.std(axis=0), np.float32(_LEAST_SPREAD))
        return cls(((values - centre) / spread).astype(np.float16), centre, spread)

    @property
    def width(self) -> int:
        """f, numbers an image."""
        return len(self.centre)

    def distances(self, values: Floats) -> Doubles:
        """Mean Euclidean distance of each of ``(n, f)`` to its ten nearest training images, shape ``(n,)``."""
        reference, lengths = self._unpacked
        nearest = min(NEIGHBOURS, len(reference))
        found = np.empty(len(values))
        for start in range(0, len(values), _AT_ONCE):
            some = (values[start : start + _AT_ONCE] - self.centre) / self.spread
            squares = np.clip((some**2).sum(axis=1)[:, None] + lengths - 2.0 * some @ reference.T, 0.0, None)
            closest = np.partition(squares, nearest - 1, axis=1)[:, :nearest]
            found[start : start + _AT_ONCE] = np.sqrt(closest.astype(np.float64)).mean(axis=1)
        return found

    @cached_property
    def _unpacked(self) -> tuple[Floats, Floats]:
        """The reference in float32 and its squared lengths; a prediction asks for them with every batch."""
        reference = self.reference.astype(np.float32)
        return reference, (reference**2).sum(axis=1)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored."""
        return {"reference": self.reference, "centre": self.centre, "spread": self.spread}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Cloud:
        """The cloud of :attr:`arrays`; ValueError where they do not fit together, KeyError where one is missing."""
        reference, centre = _numbers(arrays, "reference", 2), _numbers(arrays, "centre", 1)
        spread = _numbers(arrays, "spread", 1)
        if not len(reference) or reference.shape[1:] != centre.shape or spread.shape != centre.shape:
            raise ValueError(
                f"reference {reference.shape}, centre {centre.shape} and spread {spread.shape} do not fit together"
            )
        if spread.min() <= 0.0:
            raise ValueError("a spread is not above 0")
        return cls(reference, centre, spread)


def _numbers(arrays: Mapping[str, NDArray[Any]], name: str, dimensions: int) -> NDArray[Any]:
    """One stored array; ValueError where it has another number of dimensions or holds what is no finite number."""
    found = arrays[name]
    if found.ndim != dimensions or not np.isfinite(found).all():
        raise ValueError(f"{name} has the shape {found.shape}; expected {dimensions} dimensions and finite numbers")
    return found


def _placed_width(width: int) -> int:
    return width if width <= WIDEST else BUCKETS


def _narrow(embeddings: Floats) -> Floats:
    """Wide embeddings added up with random signs in 512 sums (feature hashing, Weinberger et al. 2009), which keeps distances."""
    values = np.asarray(embeddings, dtype=np.float32)
    width = values.shape[1]
    if width <= WIDEST:
        return values
    order, signs = _shuffled(width)
    starts = np.linspace(0, width, BUCKETS, endpoint=False).astype(np.int64)
    return np.asarray(np.add.reduceat((values * signs)[:, order], starts, axis=1), dtype=np.float32)


@cache
def _shuffled(width: int) -> tuple[NDArray[np.int64], Floats]:
    """Order and signs of the sums of :func:`_narrow`: the same at training and ever after."""
    random = np.random.default_rng(width)
    return random.permutation(width), random.choice(np.array([-1.0, 1.0], dtype=np.float32), width)

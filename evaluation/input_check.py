"""Is this image what the model knows? Plain facts of the file first, then a distance from the training images, with a p-value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.input_check_limits import Limit, outside
from evaluation.input_check_space import Cloud, Doubles, Floats, Subspace

FEATURES: Final = "features"
PARTS: Final[dict[str, type[Subspace] | type[Cloud]]] = {FEATURES: Subspace, "layout": Cloud, "texture": Cloud}
MEANING: Final = {
    FEATURES: "in what the network sees",
    "layout": "in what is where in the picture",
    "texture": "in tones, colours or fine structure",
}
_FLOOR: Final = -1.0  # an image that is very usual in one respect does not make up for being strange in another
_LEAST, _MOST = 1e-12, 1e12  # distances whose logarithms are taken
_DIGITS: Final = 4  # beyond, distances differ with the number of images that are compared at once


@dataclass(frozen=True)
class Verdict:
    """What the check says of one image.

    Attributes:
        p_value: share of validation images at least as strange as this one, this one counted among them:
            ``(1 + #{validation >= this}) / (n + 1)``. Small: unlike what the model knows.
        reasons: sentences why the model should not answer; empty where nothing speaks against it.
        strangeness: what the p-value is of.
        features: strangeness of the network's features alone. ``features_p_value``: the p-value of these.
        outside: how many facts of the file are outside their limits.
    """

    p_value: float
    reasons: tuple[str, ...] = ()
    strangeness: float = 0.0
    features: float = 0.0
    features_p_value: float = 1.0
    outside: int = 0


@dataclass(frozen=True, eq=False)
class Part:
    """One respect in which an image can be strange.

    Attributes:
        key: one of ``PARTS``. ``space``: distances in it.
        middle, scale: of the logarithms of the distances of training images that ``space`` was not made of: their median, and
            from there to their 95 % quantile.
        calibration: strangeness of the validation images, float64 ``(n,)``, one a group, in one order for all parts.
    """

    key: str
    space: Subspace | Cloud
    middle: float
    scale: float
    calibration: Doubles

    def strangeness(self, values: Floats) -> Doubles:
        """0: as far as half of the training images. 1: as far as one of twenty. Shape ``(n,)``; large for what is no number."""
        distances = np.clip(self.space.distances(values), _LEAST, _MOST)
        return np.asarray(np.round((np.log(distances) - self.middle) / self.scale, _DIGITS))


@dataclass(frozen=True, eq=False)
class InputCheck:
    """What was fixed at training, before the test was scored.

    Attributes:
        alpha: share of images like those of validation that are turned away, in (0, 1).
        parts: whose strangeness is added up.
        limits: what the files of training and validation looked like.
    """

    alpha: float
    parts: tuple[Part, ...]
    limits: tuple[Limit, ...] = ()

    @property
    def n(self) -> int:
        """Validation images that a p-value compares with."""
        return len(self.parts[0].calibration)

    @property
    def can_abstain(self) -> bool:
        """Whether a distance can turn an image away: with n images the smallest p-value is 1 / (n + 1)."""
        return 1.0 / (self.n + 1) <= self.alpha

    @property
    def calibration(self) -> Doubles:
        """Strangeness of the validation images, all parts together, sorted, shape ``(n,)``."""
        return np.sort(_added([part.calibration for part in self.parts]))

    def judge(self, embeddings: Floats, appearances: Sequence[Mapping[str, Any]], *, of: int = 1) -> list[Verdict]:
        """A verdict on each image, in order.

        Args:
            embeddings: what the output layer sees, float32 ``(n, e)``.
            appearances: of each file, as :meth:`datamodules.appearance.Appearance.to_dict` gives them; facts that limits are
                for may be missing, ``layout`` and ``texture`` may not.
            of: networks that are asked about the same image; each p-value counts this often (Bonferroni), at most 1.

        Raises:
            ValueError: not one appearance an image, or numbers of another width.
        """
        values = self._values(embeddings, appearances)
        each = {part.key: part.strangeness(values[part.key]) for part in self.parts}
        total = _added([each[part.key] for part in self.parts])
        p_values = self._p_values(total, self.calibration, of)
        by_features = self._p_values(each[FEATURES], self._part(FEATURES).calibration, of)
        verdicts = []
        for row, facts in enumerate(appearances):
            broken = outside(self.limits, facts)
            reasons = list(broken)
            if p_values[row] <= self.alpha:
                strangest = max(each, key=lambda key: float(each[key][row]))
                reasons.append(self._unlike(float(p_values[row]) / of, strangest))
            verdicts.append(
                Verdict(
                    float(p_values[row]),
                    tuple(reasons),
                    float(total[row]),
                    float(each[FEATURES][row]),
                    float(by_features[row]),
                    len(broken),
                )
            )
        return verdicts

    def _values(self, embeddings: Floats, appearances: Sequence[Mapping[str, Any]]) -> dict[str, Floats]:
        if len(appearances) != len(embeddings):
            raise ValueError(f"{len(embeddings)} embeddings, but {len(appearances)} appearances; expected one each.")
        found = {FEATURES: np.asarray(embeddings, dtype=np.float32)}
        for part in self.parts:
            if part.key != FEATURES:
                rows = [np.asarray(facts[part.key], dtype=np.float32) for facts in appearances]
                found[part.key] = np.stack(rows) if rows else np.empty((0, part.space.width), dtype=np.float32)
            shape = found[part.key].shape
            if len(shape) != 2 or shape[1] != part.space.width:
                raise ValueError(
                    f"{part.key} have the shape {shape}; this input check takes (n, {part.space.width}). Use it with the network "
                    "that it was fitted with."
                )
        return found

    def _part(self, key: str) -> Part:
        return next(part for part in self.parts if part.key == key)

    def _p_values(self, found: Doubles, calibration: Doubles, of: int) -> Doubles:
        ordered = np.sort(calibration)
        at_least = len(ordered) - np.searchsorted(ordered, found, side="left")
        return np.asarray(np.minimum(of * (1.0 + at_least) / (len(ordered) + 1.0), 1.0))

    def _unlike(self, p: float, strangest: str) -> str:
        farther = round(p * (self.n + 1)) - 1
        those = f"only {farther:,} of {self.n:,}" if farther else f"none of {self.n:,}"
        return f"unlike the training images, most of all {MEANING[strangest]}: {those} validation images are as strange"

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored beside the weights."""
        found: dict[str, NDArray[Any]] = {}
        for part in self.parts:
            found |= {f"{part.key}.{name}": array for name, array in part.space.arrays.items()}
            found[f"{part.key}.calibration"] = part.calibration
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, plain values for JSON."""
        return {
            "alpha": self.alpha,
            "n_calibration": self.n,
            "parts": {part.key: {"middle": part.middle, "scale": part.scale} for part in self.parts},
            "limits": [limit.to_dict() for limit in self.limits],
        }

    @classmethod
    def from_parts(cls, description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> InputCheck:
        """The check that :meth:`to_dict` and :attr:`arrays` described.

        Raises:
            ValueError: a part is missing or unknown, arrays do not fit together, a number is none or out of its range.
        """
        try:
            if unknown := set(description["parts"]) - set(PARTS):
                raise ValueError(f"{str(sorted(unknown))[:60]} is no part that this version knows")
            held = {key: cls._stored(key, description["parts"][key], arrays) for key in PARTS}
            limits = tuple(Limit.from_dict(limit) for limit in description["limits"])
            alpha = float(description["alpha"])
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"the stored input check lacks a part ({error}). Train the run again.") from error
        except ValueError as error:
            raise ValueError(f"the stored input check is damaged: {error}. Train the run again.") from error
        lengths = {key: len(part.calibration) for key, part in held.items()}
        if not 0.0 < alpha < 1.0 or min(lengths.values()) < 1 or len(set(lengths.values())) > 1:
            raise ValueError(
                f"the stored input check is damaged: alpha is {alpha}, its parts were calibrated on {lengths} images. Train the "
                "run again."
            )
        return cls(alpha, tuple(held.values()), limits)

    @staticmethod
    def _stored(key: str, described: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Part:
        own = {name.removeprefix(f"{key}."): array for name, array in arrays.items() if name.startswith(f"{key}.")}
        part = Part(
            key,
            PARTS[key].from_arrays(own),
            float(described["middle"]),
            float(described["scale"]),
            np.asarray(own["calibration"], dtype=np.float64),
        )
        if not (np.isfinite([part.middle, part.scale]).all() and part.scale > 0.0):
            raise ValueError(f"{key}: middle {part.middle} and scale {part.scale}")
        if part.calibration.ndim != 1 or not np.isfinite(part.calibration).all():
            raise ValueError(f"{key}: calibration has the shape {part.calibration.shape} or holds what is no number")
        return part


def _added(each: Sequence[Doubles]) -> Doubles:
    # Sums of rounded numbers are rounded again, so that equal ones stay equal.
    return np.asarray(np.round(np.sum(np.maximum(each, _FLOOR), axis=0), _DIGITS))

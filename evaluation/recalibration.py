"""From scores to probabilities that can be read as risks: fitted on validation, never changing the order of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit

from evaluation.logistic import Line, fit_line
from evaluation.metrics import SMALLEST
from evaluation.predictions import Predictions
from evaluation.rate_intervals import groups_of
from evaluation.wording import plural

METHODS: Final = ("platt", "temperature", "none")
# Fewer groups than this of either class say too little about a slope.
FEWEST_GROUPS: Final = 10
# Temperatures outside these are no finding but a likelihood without a maximum.
_COLDEST, _HOTTEST = 0.02, 50.0
OPTIMISTIC: Final = (
    "Fitted on the images that also fixed the threshold (in training the epoch too): there it looks too good."
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibrator:
    """How scores become probabilities; the fields of ``calibration.json``.

    The score p of the positive classes becomes ``expit(slope * logit(p) + intercept)`` with a slope above 0: Platt scaling
    (Platt 1999), or binary temperature scaling, where the slope is 1 / T and the intercept 0 (Guo 2017). The probabilities
    of all classes become ``softmax(log p / temperature)``. Scores are kept off 0 and 1 by the precision of float32.

    Attributes:
        method: ``platt``, ``temperature`` or ``none``, of the score of the positive classes.
        slope: above 0; 1 for ``none``. ``intercept``: 0 unless the method is ``platt``.
        temperature: of the probabilities of all classes, above 0; None where no temperature could be fitted.
        n, n_positive: validation images it was fitted on, and the positive ones. ``n_groups``: their groups.
        reason: why the method is not ``platt``; empty if it is.
        note: what to hold against it.
    """

    method: str = "none"
    slope: float = 1.0
    intercept: float = 0.0
    temperature: float | None = None
    n: int = 0
    n_positive: int = 0
    n_groups: int = 0
    reason: str = ""
    note: str = OPTIMISTIC

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"calibration method is {self.method!r}; expected one of {list(METHODS)}.")
        if not (np.isfinite(self.slope) and self.slope > 0 and np.isfinite(self.intercept)):
            raise ValueError(
                f"calibration slope is {self.slope!r} and intercept {self.intercept!r}; expected a finite slope above 0 "
                "and a finite intercept. Fit the calibration again."
            )
        if self.temperature is not None and not (np.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"calibration temperature is {self.temperature!r}; expected a finite number above 0.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibrator:
        """The calibrator that :meth:`to_dict` described.

        Raises:
            ValueError: a field is missing or outside its range.
        """
        names = [item.name for item in fields(cls)]
        lacking = [name for name in names if name not in content]
        if lacking:
            raise ValueError(f"the stored calibration lacks {lacking}. Fit the calibration again.")
        return cls(**{name: content[name] for name in names})

    @property
    def prevalence(self) -> float | None:
        """Share of positive images that it was fitted at; None where it was fitted on nothing."""
        return self.n_positive / self.n if self.n else None

    @property
    def acts(self) -> bool:
        """Whether it changes anything: the score of the positive classes or the probabilities of all."""
        return self.method != "none" or self.temperature is not None

    def scores(self, scores: ArrayLike) -> Floats:
        """Recalibrated scores of the positive classes, in the shape that came in.

        Within a call no two images change places: equal scores stay equal, and a higher score never becomes the lower.

        Args:
            scores: in [0, 1], any shape.
        """
        held = np.asarray(scores, dtype=np.float64)
        if self.method == "none":
            return held.copy()
        distinct, place = np.unique(held, return_inverse=True)
        moved = expit(self.slope * logit(distinct) + self.intercept)
        # Logarithms are rounded: the running maximum keeps neighbours in order to the last bit.
        return np.asarray(np.maximum.accumulate(moved)[place].reshape(held.shape), dtype=np.float64)

    def probabilities(self, probabilities: ArrayLike) -> Floats:
        """Probabilities of all classes at the fitted temperature; the most probable class stays the same.

        Args:
            probabilities: shape (n, classes), in [0, 1], rows summing to 1.

        Returns:
            Shape (n, classes), rows summing to 1.
        """
        held = np.asarray(probabilities, dtype=np.float64)
        if self.temperature is None or self.temperature == 1.0:
            return held.copy()
        scaled = _softmax(np.log(np.maximum(held, SMALLEST)) / self.temperature)
        best, rows = held.argmax(axis=1), np.arange(len(held))
        # Two probabilities that differ in the last bit may come out equal: the first place stays with its owner.
        moved = rows[scaled.argmax(axis=1) != best]
        scaled[moved, best[moved]] = np.nextafter(scaled[moved].max(axis=1), 2.0)
        return scaled


def logit(scores: ArrayLike) -> Floats:
    """``log(p / (1 - p))``, with p kept off 0 and 1 by the precision of float32; any shape, within +-15.95."""
    clipped = np.clip(np.asarray(scores, dtype=np.float64), SMALLEST, 1.0 - SMALLEST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def prior_shift(scores: ArrayLike, prevalence_from: float, prevalence_to: float) -> Floats:
    """Probabilities for another prevalence: ``logit p + logit prevalence_to - logit prevalence_from``.

    It holds where positives look like positives and negatives like negatives in both places and only their shares differ.

    Args:
        scores: calibrated at ``prevalence_from``, in [0, 1], any shape.
        prevalence_from, prevalence_to: in (0, 1).

    Raises:
        ValueError: a prevalence is not between 0 and 1.
    """
    for share in (prevalence_from, prevalence_to):
        if not 0.0 < share < 1.0:
            raise ValueError(f"a prevalence is {share!r}; expected a share between 0 and 1.")
    held = np.asarray(scores, dtype=np.float64)
    odds = prevalence_to / (1.0 - prevalence_to) * ((1.0 - prevalence_from) / prevalence_from)
    return np.asarray(odds * held / (odds * held + (1.0 - held)))


def fit_calibrator(val: Predictions) -> Calibrator:
    """Fit on validation by maximum likelihood over its images.

    Platt scaling where it can be fitted; temperature where the classes are separable or Platt's slope is not above 0;
    none where that has no maximum either, or where there are fewer than 10 groups of a class.
    """
    labels, z = val.labels, logit(val.scores)
    held: dict[str, Any] = {
        "n": len(val),
        "n_positive": int(labels.sum()),
        "n_groups": len(val.group_names),
        "temperature": fit_temperature(val.targets, val.probabilities),
    }
    groups = groups_of(val)
    fewest = min(groups.get(0, 0), groups.get(1, 0))
    if fewest < FEWEST_GROUPS:
        reason = (
            f"Not recalibrated: validation has {plural(groups.get(1, 0), 'positive group')} and "
            f"{plural(groups.get(0, 0), 'negative group')}; at least {FEWEST_GROUPS} of each are needed."
        )
        return Calibrator(**{**held, "temperature": None}, reason=reason)
    line = fit_line(labels, z)
    if line is not None and line.slope > 0.0:
        return Calibrator("platt", line.slope, line.intercept, **held)
    return _temperature_only(labels, z, _why_no_line(labels, z, line), held)


def fit_temperature(targets: NDArray[np.int64], probabilities: Floats) -> float | None:
    """The temperature T of ``softmax(log p / T)`` with the highest likelihood; None where there is no maximum.

    There is none where the true class is the most probable of every image (the colder the better), or where it is no more
    probable than the others on the whole (the hotter the better).

    Args:
        targets: class numbers, shape (n,). ``probabilities``: shape (n, classes).
    """
    logs = np.log(np.maximum(probabilities, SMALLEST))
    rows = np.arange(len(targets))
    true = logs[rows, targets]
    if (true >= logs.max(axis=1)).all() or (true - logs.mean(axis=1)).mean() <= 0.0:
        return None

    def loss(log_temperature: float) -> float:
        scaled = logs / np.exp(log_temperature)
        top = scaled.max(axis=1)
        total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((total - true / np.exp(log_temperature)).mean())

    low, high = np.log(_COLDEST), np.log(_HOTTEST)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-7})
    at_a_bound = min(found.x - low, high - found.x) < 1e-3
    return None if at_a_bound else float(np.exp(found.x))


def _why_no_line(labels: NDArray[np.uint8], z: Floats, line: Line | None) -> str:
    """Why Platt scaling is not used; ``line`` is what was fitted, if anything."""
    if line is not None:
        return f"Platt's slope is {line.slope:.3f}, which would turn the order of images around"
    if z.min() == z.max():
        return "All validation scores are equal"
    if z[labels == 1].min() >= z[labels != 1].max():
        return "The scores separate both classes of validation completely, so that Platt's slope has no finite value"
    return "Platt's slope cannot be fitted"


def _temperature_only(labels: NDArray[np.uint8], z: Floats, reason: str, held: Mapping[str, Any]) -> Calibrator:
    """The score's own temperature; none where the likelihood has no maximum in it."""
    positive = expit(z)
    temperature = fit_temperature(labels.astype(np.int64), np.stack([1.0 - positive, positive], axis=1))
    if temperature is None:
        return Calibrator(**held, reason=f"Not recalibrated. {reason}; and no temperature fits best.")
    return Calibrator("temperature", 1.0 / temperature, 0.0, **held, reason=f"{reason}; a temperature is used instead.")


def _softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))

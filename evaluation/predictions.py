"""Predictions on disk: one row an image, with its group, its label and a probability for each class."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

REQUIRED = ("image_id", "group_id", "label")
PREFIX = "prob_"
SUM_TOLERANCE = 1e-4


class PredictionsError(ValueError):
    """Predictions that cannot be judged; the message says where and why."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Checked predictions of one split; an object of this class holds no NaN, no unknown label and no image twice.

    Attributes:
        frame: one row an image: ``image_id``, ``group_id``, ``label``, ``prob_<class>`` in [0, 1] for each class, and
            any further columns that describe the image.
        classes: at least two class names in their fixed order.
        positive: the classes whose recall matters, one name or several but not all; held as a tuple in class order. All
            other classes together are the negatives.
        positive_name: what the positive classes together are called; by default their names joined by `` + ``.
        negative_name: what the others together are called; used only where there are more than two classes.

    Raises:
        PredictionsError: the frame breaks one of these rules.
    """

    frame: pd.DataFrame
    classes: tuple[str, ...]
    positive: str | Sequence[str]
    positive_name: str = ""
    negative_name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "positive", positive_classes(self.classes, self.positive))
        object.__setattr__(self, "positive_name", self.positive_name or " + ".join(self.positive))
        _check_columns(self.frame, self.classes)
        _check_rows(self.frame, self.classes)
        _check_probabilities(self.frame, [PREFIX + name for name in self.classes])
        _check_sums(self.frame, [PREFIX + name for name in self.classes])

    def __len__(self) -> int:
        return len(self.frame)

    def with_frame(self, frame: pd.DataFrame) -> Predictions:
        """Predictions of the same classes with another frame, checked again."""
        return replace(self, frame=frame)

    @property
    def positive_class(self) -> str:
        """What the positives are called: ``positive_name``."""
        return self.positive_name

    @property
    def negative_class(self) -> str:
        """What the negatives are called: the other class; of several, ``negative_name`` or ``not <positive>``."""
        others = [name for name in self.classes if name not in self.positive]
        if len(self.classes) == 2:
            return others[0]
        return self.negative_name or f"not {self.positive_name}"

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """Shape (n,); 1 = one of the positive classes."""
        return np.isin(self.frame["label"].to_numpy(dtype=str), list(self.positive)).astype(np.uint8)

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """Shape (n,); probability of the positive classes together, in [0, 1]: of one class exactly its column."""
        columns = [self.frame[PREFIX + name].to_numpy(dtype=np.float64) for name in self.positive]
        return columns[0] if len(columns) == 1 else np.clip(sum(columns[1:], start=columns[0]), 0.0, 1.0)

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """Shape (n,); number of the true class in ``classes``."""
        codes = pd.Categorical(self.frame["label"].astype(str), categories=list(self.classes)).codes
        return np.asarray(codes, dtype=np.int64)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """Shape (n, number of classes), in the order of ``classes``."""
        columns = [PREFIX + name for name in self.classes]
        return np.asarray(self.frame[columns].to_numpy(dtype=np.float64))

    @cached_property
    def decisions(self) -> NDArray[np.int64]:
        """Shape (n,); number of the most probable class, the first of equals. It knows no threshold."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @cached_property
    def _coded(self) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        codes, names = pd.factorize(self.frame["group_id"].astype(str).to_numpy(dtype=object), sort=True)
        return codes.astype(np.int64), tuple(str(name) for name in names)

    @property
    def groups(self) -> NDArray[np.int64]:
        """Shape (n,); index into ``group_names``, so that equal group ids give equal codes in any row order."""
        return self._coded[0]

    @property
    def group_names(self) -> tuple[str, ...]:
        """The group ids, sorted, each once."""
        return self._coded[1]


def positive_classes(classes: Sequence[str], positive: str | Sequence[str]) -> tuple[str, ...]:
    """The positive classes in class order, each once.

    Args:
        classes: all class names, at least two. ``positive``: one of them or several, not all.

    Raises:
        PredictionsError: classes that are not different, no positive class, an unknown one, or no class left.
    """
    named = (positive,) if isinstance(positive, str) else tuple(positive)
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise PredictionsError(f"classes are {list(classes)}; expected at least two different names.")
    unknown = [name for name in named if name not in classes]
    if unknown or not named:
        shown = repr(named[0]) if len(named) == 1 else str(list(named))
        raise PredictionsError(f"positive class is {shown}; expected one or several of {list(classes)}.")
    if set(named) == set(classes):
        raise PredictionsError(f"all classes {list(classes)} are positive; leave at least one as the negative.")
    return tuple(name for name in classes if name in named)


def read_predictions(
    path: Path,
    classes: Sequence[str],
    positive: str | Sequence[str],
    positive_name: str = "",
    negative_name: str = "",
) -> Predictions:
    """Read a predictions file exactly: every probability is the double that was written.

    Args:
        path: CSV file in UTF-8.
        classes: class names in their fixed order.
        positive, positive_name, negative_name: as in :class:`Predictions`.

    Raises:
        PredictionsError: the file is missing, empty, or breaks a rule of :class:`Predictions`.
    """
    path = Path(path)
    columns = _header(path)
    text = [name for name in columns if name in REQUIRED or name.startswith(PREFIX)]
    gaps = {name: [""] for name in columns if name not in text}
    try:
        frame = pd.read_csv(
            path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=gaps, encoding="utf-8"
        )
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise PredictionsError(f"{path} is no readable CSV file: {error}. Predict the split again.") from error
    try:
        for name in text:
            if name.startswith(PREFIX):
                # Python's float is exact where pandas' own fast parser may be off by one unit in the last place.
                frame[name] = _numbers(frame, name)
        return Predictions(frame, tuple(classes), positive, positive_name, negative_name)
    except PredictionsError as error:
        raise PredictionsError(f"{path}: {error}") from error


def write_predictions(path: Path, frame: pd.DataFrame) -> None:
    """Write a predictions file atomically; every probability is written so that it reads back as the same double.

    Args:
        path: the file; its folder is created.
        frame: as in :class:`Predictions`. float32 probabilities keep their exact value.

    Raises:
        PredictionsError: a required column is missing, an image occurs twice, or a probability is outside [0, 1].
    """
    path = Path(path)
    probabilities = [str(name) for name in frame.columns if str(name).startswith(PREFIX)]
    try:
        _require([*REQUIRED, *(probabilities or [f"{PREFIX}<class>"])], frame)
        _check_ids(frame)
        _check_probabilities(frame, probabilities)
    except PredictionsError as error:
        raise PredictionsError(f"{path} was not written: {error}") from error
    exact = frame.astype(dict.fromkeys(probabilities, np.float64))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        exact.to_csv(beside, index=False, lineterminator="\n", encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _header(path: Path) -> list[str]:
    if not path.is_file():
        raise PredictionsError(f"{path} is missing. Predict the split first.")
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return next(csv.reader(file))
        except StopIteration:
            raise PredictionsError(f"{path} is empty. Predict the split again.") from None
        except UnicodeDecodeError as error:
            raise PredictionsError(f"{path} is no text in UTF-8: {error}. Predict the split again.") from error


def _numbers(frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    texts = frame[column].tolist()
    try:
        return np.array([float(text) for text in texts], dtype=np.float64)
    except (TypeError, ValueError):
        for row, text in enumerate(texts):
            try:
                float(text)
            except (TypeError, ValueError):
                raise PredictionsError(f"{column} is {text!r} in {_row(frame, row)}; expected a number.") from None
        raise


def _row(frame: pd.DataFrame, row: int) -> str:
    name = f" ({frame['image_id'].iloc[row]})" if "image_id" in frame else ""
    return f"row {row + 1}{name}"


def _require(columns: Sequence[str], frame: pd.DataFrame) -> None:
    lacking = [name for name in columns if name not in frame.columns]
    if lacking:
        raise PredictionsError(f"columns {lacking} are missing; found {[str(name) for name in frame.columns]}.")
    if frame.empty:
        raise PredictionsError("there is no row. Predict the split again.")


def _check_columns(frame: pd.DataFrame, classes: tuple[str, ...]) -> None:
    expected = [PREFIX + name for name in classes]
    _require([*REQUIRED, *expected], frame)
    unknown = [str(n) for n in frame.columns if str(n).startswith(PREFIX) and n not in expected]
    if unknown:
        raise PredictionsError(f"columns {unknown} belong to none of the classes {list(classes)}.")


def _check_ids(frame: pd.DataFrame) -> None:
    for name in REQUIRED:
        empty = (frame[name].isna() | (frame[name].astype(str) == "")).to_numpy(dtype=bool)
        if empty.any():
            raise PredictionsError(f"{name} is empty in {_row(frame, int(np.argmax(empty)))}.")
    twice = frame["image_id"].duplicated().to_numpy(dtype=bool)
    if twice.any():
        first, names = frame["image_id"].iloc[int(np.argmax(twice))], frame["image_id"][twice].nunique()
        more = {1: "", 2: ", and so does one other"}.get(names, f", and so do {names - 1} others")
        raise PredictionsError(
            f"image_id {first!r} occurs more than once{more}; each image is scored once. Predict on one device, or remove "
            "the repeats."
        )


def _check_rows(frame: pd.DataFrame, classes: tuple[str, ...]) -> None:
    _check_ids(frame)
    known = frame["label"].isin(classes).to_numpy(dtype=bool)
    if not known.all():
        row = int(np.argmin(known))
        raise PredictionsError(
            f"label {frame['label'].iloc[row]!r} in {_row(frame, row)} is unknown; expected one of {list(classes)}."
        )


def _check_probabilities(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    for column in columns:
        try:
            values = frame[column].to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise PredictionsError(f"{column} holds something other than numbers: {error}.") from error
        good = (values >= 0.0) & (values <= 1.0)  # False for NaN
        if not good.all():
            row = int(np.argmin(good))
            raise PredictionsError(
                f"{column} is {float(values[row])!r} in {_row(frame, row)} and wrong in {int((~good).sum())} rows in all; "
                "expected a probability from 0 to 1."
            )


def _check_sums(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    total = frame[list(columns)].to_numpy(dtype=np.float64).sum(axis=1)
    wrong = np.abs(total - 1.0) > SUM_TOLERANCE
    if wrong.any():
        row = int(np.argmax(wrong))
        raise PredictionsError(
            f"the probabilities of {_row(frame, row)} sum to {total[row]:.6g}, expected 1; "
            f"{int(wrong.sum())} rows are wrong in all."
        )

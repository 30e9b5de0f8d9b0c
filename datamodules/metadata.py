"""Columns of the metadata as numbers: what a head sees beside the image, and what the metadata baseline sees alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.listing import present
from datamodules.manifest import REQUIRED

# Each of these is the label, or comes with it: how a diagnosis was confirmed, its finer name, what the file is like.
LEAKING = frozenset(
    {
        *(
            "dx",
            "dx_type",
            "subtype",
            "diagnosis",
            "diagnosis_1",
            "diagnosis_2",
            "diagnosis_3",
            "diagnosis_4",
            "diagnosis_5",
        ),
        *("diagnosis_confirm_type", "benign_malignant", "melanocytic", "concomitant_biopsy", "mel_thick_mm"),
    }
)
_OF_FILES = frozenset({*REQUIRED, "size", "width", "height", "mode", "lesion_id", "patient_id", "patient"})
_READ_AS = {"localization": "site", "anatom_site_general": "site", "age_approx": "age"}  # names of the publishers
_MOST_VALUES = 100  # more different words than this are identifiers or free text
_ENOUGH = 10  # images a value; fewer may agree with the label by chance
OTHER = "other or unknown"


@dataclass(frozen=True)
class _Number:
    """A numeric column: standardised, and whether it is missing."""

    name: str
    mean: float
    std: float

    @property
    def outputs(self) -> list[str]:
        return [self.name, f"{self.name} missing"]

    def encode(self, column: pd.Series) -> NDArray[np.float32]:
        values = _numbers(column)
        scaled = (values - self.mean) / self.std
        return np.stack([np.nan_to_num(scaled, nan=0.0), np.isnan(values)], axis=1).astype(np.float32)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "kind": "number", "mean": self.mean, "std": self.std}


@dataclass(frozen=True)
class _Text:
    """A column of words: one of the values of training, or none of them."""

    name: str
    values: tuple[str, ...]

    @property
    def outputs(self) -> list[str]:
        return [f"{self.name} {value}" for value in (*self.values, OTHER)]

    def encode(self, column: pd.Series) -> NDArray[np.float32]:
        number = {value: index for index, value in enumerate(self.values)}
        index = _words(column).map(number).fillna(len(self.values)).to_numpy(dtype=np.int64)
        return np.eye(len(self.values) + 1, dtype=np.float32)[index]

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "kind": "text", "values": list(self.values)}


@dataclass(frozen=True)
class MetadataEncoder:
    """Turns columns into numbers in the way that the training rows fixed.

    A column whose values are all numbers gives two outputs: the value minus the mean, over the standard deviation, both of
    the training rows, and 0 where it is missing; and 1 where it is missing, else 0. Any other column gives one output, 0 or
    1, for each value that training rows have (in lower case), and a last one for every other value and for missing ones.

    Attributes:
        columns: one encoder a column, in the order asked for. Made by :meth:`fit` or :meth:`from_description`.
    """

    columns: tuple[_Number | _Text, ...]

    @classmethod
    def fit(cls, frame: pd.DataFrame, columns: list[str] | tuple[str, ...]) -> MetadataEncoder:
        """Learn means, deviations and values.

        Args:
            frame: the training rows of a manifest.
            columns: ``model.metadata``: names of columns; publishers' names of age and site are understood.

        Raises:
            ValueError: if there is no such column, it tells the label, or it has no usable values.
        """
        repeated = sorted({name for name in columns if list(columns).count(name) > 1})
        if repeated:
            raise ValueError(f"model.metadata={list(columns)}: {repeated[0]} is named twice. Name every column once.")
        return cls(tuple(_fitted(frame, name) for name in columns))

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> MetadataEncoder:
        """The encoder that :meth:`describe` wrote down.

        Raises:
            ValueError: if the description is not one of an encoder.
        """
        try:
            return cls(tuple(_described(entry) for entry in description["columns"]))
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"the description of the metadata is damaged ({error!r}): {description}. Take model.json from the run again."
            ) from error

    def describe(self) -> dict[str, Any]:
        """Plain values for ``model.json``: ``columns`` as fitted, and ``outputs``, the name of every number in order."""
        return {"columns": [column.describe() for column in self.columns], "outputs": self.outputs}

    @property
    def outputs(self) -> list[str]:
        """Name of every number that a row gives: ``age``, ``age missing``, ``sex female``, ..."""
        return [name for column in self.columns for name in column.outputs]

    @property
    def width(self) -> int:
        """How many numbers a row gives."""
        return len(self.outputs)

    def encode(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        """All rows as numbers, shape ``(n, width)``.

        Raises:
            ValueError: if a column is missing.
        """
        parts = [column.encode(frame[_found(frame, column.name)]) for column in self.columns]
        return np.concatenate([np.zeros((len(frame), 0), dtype=np.float32), *parts], axis=1)


def usable_columns(frame: pd.DataFrame) -> list[str]:
    """Columns of a manifest that :meth:`MetadataEncoder.fit` takes by their name; one that tells the label may be among them."""
    return [name for name in frame.columns if name not in LEAKING | _OF_FILES]


def _found(frame: pd.DataFrame, name: str) -> str:
    """The column that a name means."""
    if name in LEAKING:
        raise ValueError(
            f"model.metadata: {name} tells the label and can never become an input. Take it out; {_choice(frame)}"
        )
    found = name if name in frame.columns else _READ_AS.get(name, name)
    if found not in usable_columns(frame):
        what = "describes the file and not the patient" if found in frame.columns else "is no column of this data set"
        raise ValueError(f"model.metadata: {name} {what}. Choose others; {_choice(frame)}")
    return found


def _choice(frame: pd.DataFrame) -> str:
    names = usable_columns(frame)
    return f"there are: {', '.join(names)}." if names else "this data set has none: set model.metadata=[]."


def _fitted(frame: pd.DataFrame, name: str) -> _Number | _Text:
    found = _found(frame, name)
    words = _words(frame[found])
    values, numbers = sorted(set(words) - {""}), _numbers(frame[found])
    numeric = bool((pd.to_numeric(words, errors="coerce").notna() | (words == "")).all())
    if not values or (numeric and np.isnan(numbers).all()):
        raise ValueError(f"model.metadata: {name} is empty in all {len(frame):,} training images. Take it out.")
    if _tells_the_label(frame, words):
        raise ValueError(
            f"model.metadata: {name} tells the label of every training image and can never become an input. Take it out; "
            f"{_choice(frame)}"
        )
    if numeric:
        mean, std = float(np.nanmean(numbers)), float(np.nanstd(numbers))
        return _Number(name, mean, std if std > 1e-6 * max(1.0, abs(mean)) else 1.0)  # of a constant, std is rounding
    if len(values) > _MOST_VALUES:
        raise ValueError(
            f"model.metadata: {name} has {len(values):,} different values in the training images, more than {_MOST_VALUES}: "
            "identifiers and free text cannot be inputs. Take it out."
        )
    return _Text(name, tuple(values))


def _tells_the_label(frame: pd.DataFrame, words: pd.Series) -> bool:
    """Whether each value comes with one label only, in enough images that this is no accident."""
    if "label" not in frame.columns or frame["label"].nunique() < 2 or len(frame) < _ENOUGH * words.nunique():
        return False
    return int(frame["label"].groupby(words.to_numpy()).nunique().max()) == 1


def _described(entry: dict[str, Any]) -> _Number | _Text:
    if entry["kind"] == "number":
        return _Number(str(entry["name"]), float(entry["mean"]), float(entry["std"]))
    return _Text(str(entry["name"]), tuple(str(value) for value in entry["values"]))


def _words(column: pd.Series) -> pd.Series:
    """Text in lower case, empty where it is missing."""
    return present(column.astype(object)).str.lower()


def _numbers(column: pd.Series) -> NDArray[np.float64]:
    """Numbers, NaN where there is none."""
    values = pd.to_numeric(_words(column), errors="coerce").to_numpy(dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)

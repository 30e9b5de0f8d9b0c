"""Predictions that another tool wrote: their columns guessed and named, their values checked, never mended in silence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.foreign_classes import Outcome, outcome_of
from evaluation.foreign_table import Table, read_table
from evaluation.predictions import PREFIX, REQUIRED, Predictions, PredictionsError
from evaluation.wording import Worry, listed, plural, worry

USUAL: Final[dict[str, tuple[str, ...]]] = {
    "id": (
        *(
            "image_id",
            "image",
            "image_name",
            "filename",
            "file_name",
            "file",
            "path",
            "image_path",
            "filepath",
            "file_path",
        ),
        *("isic_id", "img", "img_id", "id", "name"),
    ),
    "label": (
        *("label", "y_true", "target", "truth", "ground_truth", "gt", "true_label", "y", "class", "diagnosis", "dx"),
        *("true_class", "label_name"),
    ),
    "group": (
        *("group_id", "patient_id", "patient", "patientid", "lesion_id", "lesion", "subject_id", "subject", "case_id"),
        *("study_id", "group"),
    ),
    "split": ("split", "part", "subset", "set"),
}
"""Usual names of each column, the most telling first; compared without capitals, spaces and dashes."""
_PARTS: Final = {
    **dict.fromkeys(("val", "valid", "validation", "dev", "tune", "calibration", "calib", "cal"), "val"),
    **dict.fromkeys(("test", "testing", "holdout", "eval"), "test"),
    **dict.fromkeys(("train", "training"), "train"),
}
# What stands for a value that is not known.
_UNKNOWN: Final = frozenset({"", "unknown", "nan", "na", "n/a", "none", "null", "?", "-"})
# Columns that repeat the outcome or the decision; a subgroup of them would say nothing.
_DECISIONS: Final = frozenset(
    {"pred", "prediction", "predicted", "y_pred", "predicted_label", "predicted_class", "decision", "correct", "fold"}
)
# What the groups are, by the name of their column.
_GROUP: Final = re.compile(r"(?P<name>patient|lesion|subject|case)(_?id)?")
_AGE: Final = frozenset({"age", "age_years", "patient_age", "age_approx"})
FEWEST_VALUES, MOST_VALUES = 2, 12


@dataclass(frozen=True, eq=False)
class ForeignPredictions:
    """What a file holds.

    Attributes:
        predictions: to be judged. ``validation``: rows that a split column calls validation, or None.
        notes: what was assumed or left out, each as a worry.
        subgroups: further columns with 2 to 12 values. ``grouped``: whether there is a column of groups.
        group_name: what a group is called.
    """

    predictions: Predictions
    notes: list[Worry]
    validation: Predictions | None = None
    subgroups: list[str] = field(default_factory=list)
    grouped: bool = True
    group_name: str = "group"


def read_foreign(
    path: Path,
    *,
    columns: Mapping[str, str | None] | None = None,
    classes: Sequence[str] | None = None,
    positive: Sequence[str] | None = None,
    positive_name: str = "",
    negative_name: str = "",
    group_name: str | None = None,
) -> ForeignPredictions:
    """Read a CSV file of predictions.

    Args:
        path: one line an image: its name, its true label, and a probability for each class or one of the positive class.
        columns: names of columns by role (``id``, ``group``, ``label``, ``score``, ``split``), where they are not the usual
            ones; None: no such column is to be used.
        classes: class names, in the order of the labels 0, 1, ...
        positive: the classes whose recall matters. Needed unless the labels are 0 and 1 or say it themselves.
        positive_name, negative_name: of more than two classes, what the positive ones and the others are called together.
        group_name: what a group is called; None: as its column is called, where that is a usual name.

    Raises:
        PredictionsError: naming the file, the column, the line and the remedy.
    """
    table = read_table(path)
    notes: list[Worry] = []
    roles = _roles(table, dict(columns or {}), notes)
    parts = _parts(table, roles, dict(columns or {}), notes)
    if parts is not None:
        table, parts = table.part(parts != "train"), parts[parts != "train"]
    called = group_name or _called(roles["group"])
    taken = [name for name in roles.values() if name]
    outcome = outcome_of(table, roles["label"] or "", roles["score"], taken, classes, positive)
    notes += outcome.notes
    frame = _identity(table, roles, called, notes)
    frame["label"] = outcome.labels
    used = {*outcome.columns, *taken}
    further = _further(table, used, notes)
    frame = pd.concat([frame, further, outcome.probabilities], axis=1)
    whole = _checked(table, frame, outcome, positive_name, negative_name)
    notes.append(_reading(table, roles, outcome))
    grouped, subgroups = roles["group"] is not None, [str(name) for name in further]
    if parts is None or "val" not in parts:
        return ForeignPredictions(whole, notes, None, subgroups, grouped, called)
    sides = [
        whole.with_frame(pd.DataFrame(frame.loc[parts == part]).reset_index(drop=True)) for part in ("test", "val")
    ]
    return ForeignPredictions(sides[0], notes, sides[1], subgroups, grouped, called)


def plain(name: str) -> str:
    """A column's name without capitals, spaces and dashes."""
    return re.sub(r"[\s\-.]+", "_", name.strip().lower())


def _called(column: str | None) -> str:
    """``patient`` for ``Patient ID``; ``group`` where the column's name says nothing."""
    match = _GROUP.fullmatch(plain(column or ""))
    return match["name"] if match else "group"


def _roles(table: Table, given: dict[str, str | None], notes: list[Worry]) -> dict[str, str | None]:
    """The column of each role; the score's only where it was named."""
    for role, name in given.items():
        if name is not None and name not in table.names:
            table.fail(f"columns.{role}={name}: there is no such column; found {table.names}.")
    found: dict[str, str | None] = {"score": given.get("score")}
    taken = {name for name in given.values() if name}
    for role, usual in USUAL.items():
        if role in given:
            found[role] = given[role]
            continue
        fitting = [name for like in usual for name in table.names if plain(name) == like and name not in taken]
        found[role] = fitting[0] if fitting else None
        if len(fitting) > 1 and role != "split":
            text = f"The {role} is read from {fitting[0]!r}, not from {listed(fitting[1:])}; columns.{role}=NAME changes that."
            notes.append(worry("note", f"Two columns could be the {role}", text))
        taken |= {fitting[0]} if fitting else set()
    for role, remedy in (("id", ", or columns.id=none to number the lines"), ("label", "")):
        if found[role] is None and role not in given:
            for other, name in given.items():
                if name is not None and plain(name) in USUAL[role]:
                    what = "image" if role == "id" else "true label"
                    table.fail(
                        f"columns.{other}={name} took {name!r}, and no other column is called like the {what}; found "
                        f"{table.names}. Say which it is: columns.{role}=NAME{remedy}."
                    )
            table.fail(
                f"no column is called like the {'image' if role == 'id' else 'true label'} ({', '.join(USUAL[role][:6])}, ...); "
                f"found {table.names}. Say which it is: columns.{role}=NAME{remedy}."
            )
    return found


def _parts(
    table: Table, roles: dict[str, str | None], given: dict[str, str | None], notes: list[Worry]
) -> NDArray[np.str_] | None:
    """``val``, ``test`` or ``train`` of every row; None where no column says so."""
    column = roles["split"]
    if column is None:
        return None
    texts = table.frame[column].str.lower()
    strange = sorted(set(texts) - set(_PARTS))
    if "split" not in given and not set(texts) & set(_PARTS):
        roles["split"] = None  # another use of the same word; it may still be a subgroup
        return None
    if strange:
        row = int(np.argmax((texts == strange[0]).to_numpy()))
        table.fail(
            f"{column} is {strange[0]!r} in line {table.lines[row]}; expected val or test (train is left out). To judge "
            "all lines: columns.split=none."
        )
    parts = texts.map(_PARTS).to_numpy(dtype=str)
    if "test" not in parts:
        named = listed(sorted({str(part) for part in parts}))
        table.fail(f"{column} names no test line, only {named}. To judge all lines: columns.split=none.")
    if "train" in parts:
        text = f"{plural(int((parts == 'train').sum()), 'line')} of the training part, by the column {column!r}, are not judged."
        notes.append(worry("note", "Training images left out", text))
    return parts


def _identity(table: Table, roles: Mapping[str, str | None], group_name: str, notes: list[Worry]) -> pd.DataFrame:
    """``image_id`` and ``group_id``."""
    column = roles["id"]
    if column is None:
        ids = pd.Series([f"{table.path.name}:{line}" for line in table.lines], dtype=object)
        text = "Images are numbered by their lines, so nothing would show that one is there twice."
        notes.append(worry("note", "No column of image names", text))
    else:
        ids = table.frame[column].reset_index(drop=True)
        _check_names(table, column, ids)
    frame = pd.DataFrame({"image_id": ids})
    group = roles["group"]
    if group is None:
        text = (
            f"Every image is taken as a {group_name} of its own. If several images show the same patient or lesion, the "
            "intervals are too narrow and a certified recall is not one; name the column: columns.group=NAME."
        )
        notes.append(worry("caution", "No groups are known", text))
        return frame.assign(group_id=ids)
    groups = table.frame[group].reset_index(drop=True)
    unknown = groups.str.lower().isin(_UNKNOWN).to_numpy(dtype=bool)
    if unknown.any():
        row = int(np.argmax(unknown))
        shown = repr(groups.iloc[row]) if groups.iloc[row] else "empty"
        table.fail(
            f"{group} is {shown} in line {table.lines[row]}, and unknown in {plural(int(unknown.sum()), 'line')} in all. "
            f"Images of unknown {group_name}s may belong together: fill the cells in, remove these lines, or take every image "
            "on its own with columns.group=none."
        )
    return frame.assign(group_id=groups)


def _check_names(table: Table, column: str, ids: pd.Series[str]) -> None:
    empty = (ids == "").to_numpy(dtype=bool)
    if empty.any():
        table.fail(f"{column} is empty in line {table.lines[int(np.argmax(empty))]}. Every image needs its name.")
    twice = ids.duplicated().to_numpy(dtype=bool)
    if twice.any():
        second = int(np.argmax(twice))
        first = int(np.argmax((ids == ids.iloc[second]).to_numpy(dtype=bool)))
        table.fail(
            f"{column} {ids.iloc[second]!r} is in line {table.lines[first]} and in line {table.lines[second]}; "
            f"repeats in all: {int(twice.sum()):,}. Each image is scored once: remove the repeats, or average them."
        )


def _further(table: Table, used: set[str], notes: list[Worry]) -> pd.DataFrame:
    """Columns that describe the image and have few values; ages in bands."""
    kept: dict[str, pd.Series[str]] = {}
    left_out = []
    for name in table.names:
        values = table.frame[name].reset_index(drop=True)
        if name in used or plain(name) in _DECISIONS or name in REQUIRED or name.startswith(PREFIX):
            continue
        if plain(name) in _AGE and table.is_numeric(name) and values.nunique() > MOST_VALUES:
            kept["age_band"] = _age_bands(table, name)
            continue
        known = {value for value in values.unique() if value.lower() not in _UNKNOWN}
        if FEWEST_VALUES <= len(known) <= MOST_VALUES:
            kept[name] = values.mask(values.str.lower().isin(_UNKNOWN), "")
        elif len(known) > MOST_VALUES:
            left_out.append(name)
    if left_out:
        text = f"{listed(left_out)}: more than {MOST_VALUES} different values, so no subgroups were made of them."
        notes.append(worry("note", "Columns not used", text))
    return pd.DataFrame(kept, index=range(len(table.frame)))


def _age_bands(table: Table, name: str) -> pd.Series[str]:
    """``<30``, ``30-60``, ``>60``, both ends of the middle band included; empty where the age is not known."""
    texts = table.frame[name]
    ages = pd.to_numeric(texts.str.replace(",", ".") if table.decimal_comma else texts, errors="coerce").to_numpy()
    bands = np.select([ages < 30, ages <= 60, ages > 60], ["<30", "30-60", ">60"], default="")
    return pd.Series(bands, dtype=object)


def _checked(
    table: Table, frame: pd.DataFrame, outcome: Outcome, positive_name: str, negative_name: str
) -> Predictions:
    if len(outcome.classes) == 2 and (positive_name or negative_name):
        table.fail(
            f"positive_name={positive_name} and negative_name={negative_name} are for more than two classes; these are "
            f"{list(outcome.classes)}. Name them with classes=[NEGATIVE,POSITIVE]."
        )
    try:
        return Predictions(frame, outcome.classes, outcome.positive, positive_name, negative_name)
    except PredictionsError as error:
        table.fail(str(error))


def _reading(table: Table, roles: Mapping[str, str | None], outcome: Outcome) -> Worry:
    """How the columns were understood, so that a wrong guess is seen."""
    parts = [f"true label: {roles['label']}", f"score: {', '.join(outcome.columns)}"]
    parts += [f"image: {roles['id']}"] if roles["id"] else []
    parts += [f"group: {roles['group']}"] if roles["group"] else []
    parts += [f"part: {roles['split']}"] if roles["split"] else []
    return worry("note", f"How {table.path.name} was read", f"Columns: {'; '.join(parts)}. {outcome.sentence}")

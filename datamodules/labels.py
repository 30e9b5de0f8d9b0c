"""Label policies: from the labels that a data set writes to the classes of a task."""

from __future__ import annotations

import re
import shlex

import pandas as pd

from datamodules.errors import DataError
from datamodules.manifest import LeftOut


def apply_policy(
    frame: pd.DataFrame, policy: dict[str, list[str]], column: str = "label", where: str = "data set"
) -> tuple[pd.DataFrame, list[LeftOut], dict[str, dict[str, int]]]:
    """Replace the labels of a data set by class names; labels are compared without regard to case.

    Args:
        frame: rows of a reader.
        policy: class name -> labels that belong to it.
        column: where the labels are. ``where``: the data set's folder, for messages.

    Returns:
        The rows with a class in ``label``, those left out because the policy has no class for them, and for each class how
        many rows each of its labels has.

    Raises:
        DataError: if a label belongs to two classes, or a class gets no image; says which labels there are.
    """
    class_of: dict[str, str] = {}
    for name, labels in policy.items():
        for label in labels:
            if class_of.setdefault(_plain(label), name) != name:
                raise DataError(f"label policy: {label!r} belongs to two classes, {class_of[_plain(label)]} and {name}")
    if column not in frame.columns:
        raise DataError(
            f"label policy: this data set has no column {column!r}; it has {', '.join(map(str, frame.columns))}"
        )
    plain = frame[column].map(_plain)
    classes = plain.map(class_of)
    empty = [name for name in policy if not (classes == name).any()]
    if empty:
        wanted = "; ".join(f"{name}: {', '.join(policy[name])}" for name in empty)
        found = counted(frame[column])
        raise DataError(
            f"{where}: no image of class {' or '.join(empty)} (expected labels {wanted}). Labels found: {found}."
        )
    out = classes.isna()
    reasons = [
        LeftOut(path, f"its label '{label}' belongs to no class of the task")
        for path, label in zip(frame["path"][out], frame[column][out], strict=True)
    ]
    kept = frame[~out].assign(label=classes[~out])
    counts = {
        name: {label: int(((plain == _plain(label)) & ~out).sum()) for label in labels}
        for name, labels in policy.items()
    }
    if column == "label" and any(labels != [name] for name, labels in policy.items()) and "subtype" not in frame:
        kept["subtype"] = plain[~out]  # the finer label stays known, for stratified splits and subgroup figures
    return kept.reset_index(drop=True), reasons, counts


def counted(labels: pd.Series, most: int = 12) -> str:
    """``benign 360, malignant 300``: the values of a column with their counts, most frequent first."""
    counts = labels.value_counts()
    text = ", ".join(f"{name} {number:,}" for name, number in counts.head(most).items())
    return text + (f" and {len(counts) - most} more" if len(counts) > most else "")


def ask_for_classes(labels: pd.Series, root: str) -> DataError:
    """The error where a task of one's own names no classes: what was found, and the line to type."""
    names = sorted(set(labels))
    if len(names) < 2:
        return DataError(f"{root}: at least two classes are needed; labels found: {counted(labels)}.")
    return DataError(
        f"{root}: which classes, in which order, and which of them must not be missed? Labels found: {counted(labels)}.\n"
        f"Say it with  {overrides_for(names, ['WHAT_MUST_NOT_BE_MISSED'])}"
    )


def overrides_for(classes: list[str], positive: list[str]) -> str:
    """The two settings as they are typed in a shell."""
    texts = (f"{key}=[{','.join(map(_typed, names))}]" for key, names in (("classes", classes), ("positive", positive)))
    return " ".join(
        f"'{text}'" if "'" not in text else shlex.quote(text) for text in (f"task.{text}" for text in texts)
    )


def _typed(name: str) -> str:
    """A name as Hydra reads it back as text: quoted unless it can be nothing else than a word."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_ -]*", name) and name.lower() not in ("null", "true", "false", "nan", "inf"):
        return name
    escaped = re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + (r"\"" if match[2] else ""), name)
    return f'"{escaped}"'


def _plain(label: object) -> str:
    return str(label).strip().lower()

"""Which classes a file of another tool is about: from its labels, its columns of scores and what the user says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.foreign_scores import probabilities_of, summing_to_one
from evaluation.foreign_table import Table
from evaluation.predictions import PREFIX
from evaluation.wording import Worry, listed, worry

SCORES: Final = (
    *("score", "prob", "probability", "proba", "y_score", "y_prob", "y_proba", "p", "prediction_score", "pred_prob"),
    *("positive_probability", "y_hat", "y_pred", "pred", "prediction", "output"),
)
"""Usual names of the one column with the probability of the positive class, the most telling first."""
POSITIVE: Final = frozenset(
    {
        *("1", "positive", "pos", "true", "yes", "malignant", "abnormal", "disease", "diseased", "case"),
        *("cancer", "melanoma", "pneumonia", "tumor", "tumour", "sick"),
    }
)
"""Labels that say themselves that they are the positive one of two."""
# Beside 2 or any other label, 1 is only a number.
_ONE_OF_TWO: Final = frozenset({"-1", "0", "1"})
_PREFIXED: Final = re.compile(
    r"(?P<prefix>probability|proba|prob|softmax|y_prob|y_score|score|pred|p)_(?P<name>.+)", re.I
)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Labels and probabilities in our terms.

    Attributes:
        labels: class name of each row. ``probabilities``: ``prob_<class>``, a column for each class.
        columns: of the file, that hold scores. ``sentence``: what was understood.
    """

    labels: NDArray[np.object_]
    probabilities: pd.DataFrame
    classes: tuple[str, ...]
    positive: tuple[str, ...]
    columns: list[str]
    sentence: str
    notes: list[Worry] = field(default_factory=list)


def outcome_of(
    table: Table,
    label: str,
    score: str | None,
    taken: Sequence[str],
    classes: Sequence[str] | None,
    positive: Sequence[str] | None,
) -> Outcome:
    """Understand labels and scores.

    Args:
        label: column of the true label. ``score``: column of the positive class's probability, if the user named one.
        taken: columns that are something else.
        classes, positive: as the user gave them, or None.

    Raises:
        PredictionsError: a column is missing or ambiguous, or a value is no probability.
    """
    texts = table.frame[label].map(_whole)
    empty = (texts == "").to_numpy(dtype=bool)
    if empty.any():
        table.fail(f"{label} is empty in line {table.lines[int(np.argmax(empty))]}. Every image needs its true label.")
    if score is None:
        named = _class_columns(table, set(texts), taken, classes, positive)
        if len(named) > 1:
            return _several(table, texts, label, named, classes, positive)
        single = next(iter(named.values()), None) or _usual_score(table, taken)
        if named and positive is None and classes is None:
            positive = _matching(next(iter(named)), set(texts))
        score = single
    return _single(table, texts, label, score, classes, positive)


def _whole(text: str) -> str:
    """``1`` for ``1.0``, so that a column of floats holds the same labels as one of whole numbers."""
    return text[:-2] if re.fullmatch(r"-?\d+\.0", text) else text


def _class_columns(
    table: Table,
    labels: set[str],
    taken: Sequence[str],
    classes: Sequence[str] | None,
    positive: Sequence[str] | None,
) -> dict[str, str]:
    """Column of each class by class name: ``prob_<class>`` and its like, or columns called like the classes."""
    # A spoilt cell must not hide its column: the next column would be judged in its place.
    free = [name for name in table.names if name not in taken and table.has_number(name)]
    wanted = set(classes) if classes else labels
    families: dict[str, dict[str, str]] = {}
    for column in free:
        match = _PREFIXED.fullmatch(column)
        if match:
            families.setdefault(match["prefix"].lower(), {})[match["name"]] = column
    for family in sorted(families.values(), key=len, reverse=True):
        if _covers(family, wanted, positive or (), ordered=classes is not None):
            return family
    plainly = {column: column for column in free}
    found = {
        name: column for name, column in plainly.items() if name.casefold() in {item.casefold() for item in wanted}
    }
    return found if len(found) > 1 and _covers(found, wanted, ()) else {}


def _covers(family: dict[str, str], wanted: set[str], positive: Sequence[str], *, ordered: bool = False) -> bool:
    """Whether the names are those of the labels: as text, by number, or one of two, which no label need show.

    Args:
        ordered: the user named the classes in the order of their numbers.
    """
    names = {name.casefold() for name in family}
    there = {name.casefold() for name in wanted}
    numbered = all(name.isdigit() and int(name) < len(family) for name in wanted) and len(family) > 1
    numbered = numbered or (ordered and len(wanted) == len(family) and all(name.isdigit() for name in family))
    single = there | {name.casefold() for name in positive} | {"1", "positive", "pos"}
    return there <= names or numbered or (len(family) == 1 and names <= single)


def _matching(name: str, labels: set[str]) -> tuple[str, ...] | None:
    same = [label for label in labels if label.casefold() == name.casefold()]
    return (same[0],) if same else None


def _usual_score(table: Table, taken: Sequence[str]) -> str:
    free = {
        name.strip().lower().replace(" ", "_").replace("-", "_"): name
        for name in reversed(table.names)
        if name not in taken
    }
    found = [free[name] for name in SCORES if name in free and table.has_number(free[name])]
    if not found:
        text = [free[name] for name in SCORES if name in free]
        if text:
            table.numbers(text[0])  # names the line that is no number
        of_class = [name for name in free.values() if _PREFIXED.fullmatch(name)]
        if of_class:
            table.fail(
                f"{of_class[-1]!r} is like the scores of a class, but the labels do not say of which, or it holds no number. "
                f"Name the classes, classes=[NEGATIVE,POSITIVE], or the column: columns.score=NAME; found {table.names}."
            )
        table.fail(
            f"no column holds scores: expected prob_<class> for each class, or one of {', '.join(SCORES[:5])} with the "
            f"probability of the positive class; found {table.names}. Say which it is: columns.score=NAME."
        )
    return found[0]


def _several(
    table: Table,
    texts: pd.Series[str],
    label: str,
    columns: dict[str, str],
    classes: Sequence[str] | None,
    positive: Sequence[str] | None,
) -> Outcome:
    """A column of probabilities for each class."""
    names, numbered = list(columns), False
    if classes is not None:
        folded = {name.casefold(): column for name, column in columns.items()}
        lacking = [name for name in classes if name.casefold() not in folded]
        if lacking and not (all(name.isdigit() for name in columns) and len(columns) == len(classes)):
            table.fail(
                f"classes={list(classes)}: no column holds the scores of {listed(lacking)}; found {table.names}."
            )
        found = [folded[name.casefold()] for name in classes] if not lacking else []
        if lacking:
            numbers = sorted(columns, key=int)
            found = [columns[number] for number in numbers]
            if numbers[0] != "0":  # the labels count as the columns do
                texts = texts.replace(dict(zip(numbers, classes, strict=True)))
        columns, names = dict(zip(classes, found, strict=True)), list(classes)
    elif set(names) == {"0", "1"}:
        names = ["negative", "positive"]
        columns = {"negative": columns["0"], "positive": columns["1"]}
        positive = positive and [dict(enumerate(names))[int(name)] if name in ("0", "1") else name for name in positive]
        numbered = positive is None
    labels, called = _labels_of(table, texts, label, names)
    chosen = _positive_of(table, names, positive, label)
    values = np.column_stack([probabilities_of(table, columns[name], len(names)) for name in names])
    values, notes = summing_to_one(table, values, list(columns.values()))
    frame = pd.DataFrame({f"{PREFIX}{name}": values[:, number] for number, name in enumerate(names)})
    sentence = f"{listed(chosen)} {'is' if len(chosen) == 1 else 'are'} positive{_assumed(positive)}.{called}"
    if numbered:
        sentence = "Label 1 is positive, label 0 negative."
    return Outcome(labels, frame, tuple(names), chosen, list(columns.values()), sentence, notes)


def _labels_of(table: Table, texts: pd.Series[str], label: str, names: list[str]) -> tuple[NDArray[np.object_], str]:
    """Class name of each row, from names or from the numbers 0, 1, ..., and a sentence where they are numbers."""
    known = {name.casefold(): name for name in names}
    if set(texts.str.casefold()) <= set(known):
        return texts.str.casefold().map(known).to_numpy(dtype=object), ""
    numbers = {str(number): name for number, name in enumerate(names)}
    if set(texts) <= set(numbers):
        shown = ", ".join(f"{number} = {name}" for number, name in numbers.items())
        return texts.map(numbers).to_numpy(
            dtype=object
        ), f" The labels are numbers: {shown}; classes=[...] changes the order."
    row = int(np.argmin(texts.str.casefold().isin(known).to_numpy()))
    table.fail(f"{label} is {texts.iloc[row]!r} in line {table.lines[row]}; the scores are of {names}.")


def _positive_of(table: Table, names: list[str], positive: Sequence[str] | None, label: str) -> tuple[str, ...]:
    if positive is not None:
        known = {name.casefold(): name for name in names}
        strange = [name for name in positive if name.casefold() not in known]
        if strange:
            table.fail(f"positive={strange[0]}: this is none of the classes {names}.")
        if len(set(positive)) >= len(names):
            table.fail(f"positive={list(positive)}: leave at least one class as the negative.")
        return tuple(known[name.casefold()] for name in positive)
    telling = [name for name in names if name.casefold() in POSITIVE and (name != "1" or set(names) <= _ONE_OF_TWO)]
    if len(names) == 2 and len(telling) == 1:
        return (telling[0],)
    table.fail(
        f"the classes are {names} ({label}), and nothing says whose recall matters. Say it: positive={names[-1]}, or several in "
        "brackets."
    )


def _single(
    table: Table,
    texts: pd.Series[str],
    label: str,
    score: str,
    classes: Sequence[str] | None,
    positive: Sequence[str] | None,
) -> Outcome:
    """One column with the probability of the positive class, or of several positive classes together."""
    if classes is not None and len(classes) != 2:
        table.fail(f"classes={list(classes)}: the one column {score!r} is of two classes, positive and negative.")
    is_positive, names, sentence = _two_classes(table, texts, label, classes, positive)
    values = probabilities_of(table, score, 1)
    notes = []
    if len(values) and set(np.unique(values)) <= {0.0, 1.0}:
        text = (
            f"{score} holds only 0 and 1. Such decisions have no ranking: AUROC, calibration and the choice of a threshold mean "
            "little; give probabilities."
        )
        notes.append(worry("caution", "The scores are decisions", text))
    frame = pd.DataFrame({f"{PREFIX}{names[0]}": 1.0 - values, f"{PREFIX}{names[1]}": values})
    labels = np.where(is_positive, names[1], names[0]).astype(object)
    return Outcome(labels, frame, names, (names[1],), [score], sentence, notes)


def _two_classes(
    table: Table,
    texts: pd.Series[str],
    label: str,
    classes: Sequence[str] | None,
    positive: Sequence[str] | None,
) -> tuple[NDArray[np.bool_], tuple[str, str], str]:
    """Which rows are positive, the names of negative and positive, and what was understood."""
    there = sorted(set(texts))
    if set(there) <= {"0", "1"} and (positive is None or not set(positive) <= {"0", "1"}):
        ones = (texts == "1").to_numpy(dtype=bool)
        if classes is None:
            name = " + ".join(positive) if positive else "positive"
            said = f": {name}, as positive= calls it" if positive else ""
            return (
                ones,
                (f"not {name}" if positive else "negative", name),
                f"Label 1 is positive{said}, label 0 negative.",
            )
        named = _positive_of(table, list(classes), positive or (classes[1],), label)[0]
        other = next(name for name in classes if name != named)
        rows = ones if named == classes[1] else ~ones
        return rows, (other, named), f"Label 0 is {classes[0]}, label 1 is {classes[1]}; {named} is positive."
    spellings = {name.casefold(): name for name in reversed(there)}  # Malignant and malignant are one class
    known = list(classes) if classes is not None else sorted(spellings.values())
    labels = {name.casefold(): name for name in known}
    strange = [name for name in there if name.casefold() not in labels]
    if strange:
        row = int(np.argmax((texts == strange[0]).to_numpy()))
        table.fail(f"{label} is {strange[0]!r} in line {table.lines[row]}; expected one of {known}.")
    if len(known) == 1 and positive is None:
        table.fail(f"{label} is {known[0]!r} everywhere. Name both classes: classes=[NEGATIVE,POSITIVE].")
    chosen = tuple(positive or ()) if len(known) == 1 else _positive_of(table, known, positive, label)
    rows = texts.str.casefold().isin({name.casefold() for name in chosen}).to_numpy(dtype=bool)
    others = [name for name in known if name not in chosen]
    together = " + ".join(chosen)
    negative = others[0] if len(others) == 1 else f"not {together}"
    rest = f"{listed(others)} together are negative." if len(others) > 1 else f"{negative} is negative."
    sentence = f"{together} is positive{_assumed(positive)}, and the score is its probability. {rest}"
    return rows, (negative, together), sentence


def _assumed(positive: Sequence[str] | None) -> str:
    return "" if positive is not None else " (assumed from its name; positive=NAME changes that)"

"""One answer as one row: the columns of predictions.csv, which the server's table has too."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from workflow.answers import Answer
from workflow.predictor import Predictor

PROBABILITY, CALIBRATED, CALIBRATED_CLASS = "prob_", "calibrated_", "calibrated_prob_"
TEXTS: Final = ("image_id", "path", "group_id", "decision", "most_probable", "abstained_because", "error")
"""Columns of words; ``borderline`` is a truth, all others are numbers."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table of answers.

    Attributes:
        classes: in the order of the probabilities. ``positive``: what the positive classes together are called.
        grouped: whether there is a column of groups.
    """

    classes: tuple[str, ...]
    positive: str
    grouped: bool = False

    @classmethod
    def of(cls, predictor: Predictor, *, grouped: bool = False) -> Columns:
        """Those of the answers of a predictor."""
        return cls(predictor.classes, predictor.about.positive_called, grouped)

    @property
    def names(self) -> list[str]:
        """Names of the columns, in their order."""
        several = len(self.classes) > 2
        return [
            *("image_id", "path"),
            *(["group_id"] if self.grouped else []),
            *(PROBABILITY + name for name in self.classes),
            *("score", CALIBRATED + self.positive),
            *([CALIBRATED_CLASS + name for name in self.classes] if several else []),
            "decision",
            *(["most_probable"] if several else []),
            *("borderline", "p_value", "abstained_because", "error"),
        ]

    def values(self, answer: Answer) -> list[Any]:
        """The row of an answer: texts, numbers, a truth, and None where nothing is known, in the order of ``names``."""
        several, unread = len(self.classes) > 2, (None,) * len(self.classes)
        return [
            *(answer.image_id, answer.path),
            *([answer.group] if self.grouped else []),
            *(answer.probabilities or unread),
            *(answer.score, answer.calibrated),
            *((answer.calibrated_probabilities or unread) if several else ()),
            answer.decision,
            *([answer.most_probable] if several else []),
            None if answer.error is not None else answer.borderline,
            *(answer.p_value, "; ".join(answer.reasons) or None, answer.error),
        ]


def csv_lines(columns: Columns, answers: Iterable[Answer]) -> Iterator[str]:
    """The lines of predictions.csv with their ends, the header first; every number reads back as the same double."""
    yield csv_line(columns.names)
    for answer in answers:
        yield csv_line(columns.values(answer))


def csv_line(values: Iterable[Any]) -> str:
    """One line of a table: None is an empty cell, a truth is ``true`` or ``false``."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_cell(value) for value in values])
    return line.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(float(value)) if isinstance(value, float) else str(value)

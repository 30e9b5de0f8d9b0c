"""Scores that another tool wrote: probabilities that are checked, and divided by their sum where they were rounded."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from evaluation.foreign_table import Table
from evaluation.predictions import SUM_TOLERANCE
from evaluation.wording import Worry, plural, worry


def probabilities_of(table: Table, column: str, of_classes: int) -> NDArray[np.float64]:
    """The values of a column, shape (rows,), which must lie between 0 and 1.

    Args:
        of_classes: how many columns of scores there are, for the remedy.

    Raises:
        PredictionsError: a cell that is no number, or outside 0 to 1; names the line.
    """
    values = table.numbers(column)
    wrong = (values < 0.0) | (values > 1.0)
    if not wrong.any():
        return values
    row, lines = int(np.argmax(wrong)), plural(int(wrong.sum()), "line")
    start = f"{column} is {values[row]:.6g} in line {table.lines[row]}, and outside 0 to 1 in {lines} in all"
    if values.min() >= 0.0 and values.max() <= 100.0 and values.max() > 20.0:
        table.fail(f"{start}; these look like percent. Divide them by 100.")
    remedy = "1 / (1 + exp(-x)) for each (sigmoid)" if of_classes <= 2 else "a softmax over the classes"
    table.fail(f"{start}; probabilities are needed. If these are logits, turn them into probabilities first: {remedy}.")


def summing_to_one(
    table: Table, values: NDArray[np.float64], columns: list[str]
) -> tuple[NDArray[np.float64], list[Worry]]:
    """Probabilities of all classes, shape (rows, classes), divided by their sum where rounding alone keeps that from 1.

    Returns:
        Them, and a note where they were divided.

    Raises:
        PredictionsError: they do not sum to 1 by more than their decimals explain.
    """
    total = values.sum(axis=1)
    off = np.abs(total - 1.0)
    if off.max() <= SUM_TOLERANCE:
        return values, []
    decimals = max(len(re.split(r"[.,]", text)[-1]) for name in columns for text in table.frame[name])
    rounding = 0.51 * len(columns) * 10.0**-decimals
    if off.max() > rounding:
        wrong = off > max(SUM_TOLERANCE, rounding)
        row = int(np.argmax(wrong))
        table.fail(
            f"the scores in line {table.lines[row]} sum to {total[row]:.6g}, expected 1, and wrongly in "
            f"{plural(int(wrong.sum()), 'line')} in all. Independent scores (sigmoid) are judged one class at "
            "a time: columns.score=NAME positive=CLASS."
        )
    span = f"{total.min():.4g} to {total.max():.4g}"
    text = f"The probabilities are rounded to {decimals} decimals; each line was divided by its sum, {span}."
    return values / total[:, None], [worry("note", f"Rounded probabilities in {table.path.name}", text)]

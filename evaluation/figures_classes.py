"""Three or more classes at a glance: the confusion matrix of the most probable class, and each class against the rest."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from evaluation.figures_style import (
    BLUE,
    INK,
    MUTED,
    PAPER,
    SMALL_SIZE,
    VERMILLION,
    WIDTH,
    add_axes,
    name_beside,
    new_figure,
    write,
)

_LETTERS: Final = 18  # of a class name on one line
_ROOM: Final = 45  # letters that fit over all columns together
_ROW: Final = 0.36  # inches per class of the dot plot


def confusion_matrix(
    matrix: ArrayLike, classes: Sequence[str], *, title: str = "Confusion matrix", phantom: bool = False
) -> Figure:
    """Numbers of images by true class (rows) and most probable class (columns).

    The depth of colour is the share of the row: blue on the diagonal, where both agree, vermillion elsewhere. Names that
    do not fit over a column are replaced by the number of their row.

    Args:
        matrix: shape (k, k), counts. ``classes``: k names in the order of rows and columns.

    Raises:
        ValueError: the shape does not fit the names.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    k = len(classes)
    if counts.shape != (k, k):
        raise ValueError(f"a matrix of shape {counts.shape} does not fit {k} classes.")
    longest = max(len(name) for name in classes)
    named = k * max(longest, 4) <= _ROOM
    left = 0.16 + 0.07 * longest if named else 1.42
    side = WIDTH - left - 0.04
    subtitle = "Rows: true class. Columns: most probable class. Colour: share of the row"
    figure = new_figure(title, subtitle, side + 0.78, phantom=phantom)
    axes = add_axes(figure, left, 0.04, side, side)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 11.0 if k <= 4 else 8.5 if k <= 7 else 7.5 if k <= 9 else 5.0
    for row in range(k):
        for column in range(k):
            _cell(axes, (row, column), int(counts[row, column]), float(shares[row, column]), size, percent=k <= 5)
    axes.set(xlim=(0, k), ylim=(k, 0), aspect="equal")
    axes.grid(visible=False)
    middle = np.arange(k) + 0.5
    ticks = list(classes) if named else [str(number + 1) for number in range(k)]
    axes.xaxis.tick_top()
    axes.set_xticks(middle, ticks, fontsize=SMALL_SIZE, parse_math=False)
    axes.set_yticks(middle, ticks, fontsize=SMALL_SIZE, parse_math=False)
    for place, name in zip(middle, [] if named else classes, strict=False):
        name_beside(axes, _wrapped(name), place)
    axes.tick_params(length=0, pad=3, labelcolor=INK)
    return figure


def class_dots(
    rows: Sequence[Mapping[str, Any]],
    positive: Sequence[str],
    *,
    title: str = "Each class on test",
    phantom: bool = False,
) -> Figure:
    """Recall and AUROC of each class with intervals, side by side; the mean over classes as a line.

    Args:
        rows: ``classes`` of the multiclass part of metrics.json.
        positive: names of the positive classes, drawn in vermillion.
    """
    height = _ROW * len(rows)
    subtitle = f"Dot: estimate. Band: its interval. Line: mean. Vermillion: {_several(len(positive))}"
    figure = new_figure(title, subtitle, height + 1.06, phantom=phantom)
    left, width = 1.26, 1.36
    for place, (metric, name) in enumerate((("recall", "recall"), ("auroc", "AUROC against the rest"))):
        axes = add_axes(figure, left + place * (width + 0.18), 0.26, width, height)
        _dots(axes, rows, metric, positive)
        axes.set_yticks(
            range(len(rows)),
            [_wrapped(row["class"]) for row in rows] if place == 0 else [""] * len(rows),
            fontsize=SMALL_SIZE,
            color=INK,
            parse_math=False,
            linespacing=0.95,
        )
        axes.annotate(
            name,
            (0, 1),
            (0, 5),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=SMALL_SIZE,
            color=MUTED,
            parse_math=False,
        )
    return figure


def _dots(axes: Axes, rows: Sequence[Mapping[str, Any]], metric: str, positive: Sequence[str]) -> None:
    known = [row[metric]["value"] for row in rows if row[metric]["value"] is not None]
    if known:
        axes.axvline(float(np.mean(known)), color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    for index, row in enumerate(rows):
        interval, color = row[metric], VERMILLION if row["class"] in positive else BLUE
        if interval["value"] is None:
            write(
                axes,
                0.02,
                index,
                "not defined",
                size=SMALL_SIZE,
                color=MUTED,
                va="center",
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.5},
            )
            continue
        if interval["low"] is not None:
            ends = [interval["low"], interval["high"]]
            axes.plot(ends, [index] * 2, color=color, linewidth=3.4, alpha=0.38, solid_capstyle="round", zorder=2)
        axes.plot(
            [interval["value"]],
            [index],
            marker="o",
            markersize=5.5,
            color=color,
            markeredgecolor=PAPER,
            linestyle="none",
            zorder=3,
        )
    lows = [row[metric]["low"] if row[metric]["low"] is not None else row[metric]["value"] for row in rows]
    start = 0.5 if metric == "auroc" and min((low for low in lows if low is not None), default=0.0) >= 0.5 else 0.0
    room = 0.03 * (1.0 - start)
    axes.set(xlim=(start - room, 1 + room), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xticks(
        [start, (1 + start) / 2, 1], [f"{start:g}".lstrip("0") or "0", f"{(1 + start) / 2:g}".lstrip("0"), "1"]
    )


def _cell(axes: Axes, place: tuple[int, int], count: int, share: float, size: float, *, percent: bool) -> None:
    row, column = place
    corner, color = (column + 0.03, row + 0.03), BLUE if row == column else VERMILLION
    axes.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=PAPER, edgecolor="none"))
    axes.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=color, alpha=0.05 + 0.5 * share, linewidth=0))
    centred: Any = {"ha": "center", "va": "center"}
    bold = "bold" if row == column else "normal"
    height = row + (0.42 if percent else 0.5)
    ink = INK if count else MUTED
    write(axes, column + 0.5, height, f"{count:,}", size=size, color=ink, fontweight=bold, **centred)
    if percent and count:
        write(axes, column + 0.5, row + 0.72, f"{100 * share:.0f} %", size=SMALL_SIZE, **centred)


def _wrapped(name: str) -> str:
    """At most two lines; the end of a longer name is cut."""
    lines = textwrap.wrap(name, _LETTERS) or [name]
    if len(lines) <= 2:
        return "\n".join(lines)
    return "\n".join([lines[0], textwrap.shorten(" ".join(lines[1:]), _LETTERS, placeholder="\u2026")])


def _several(count: int) -> str:
    return "the positive class" if count == 1 else "positive classes"

"""What a threshold does: confusion matrices and score distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from evaluation.figures_style import (
    BLUE,
    INK,
    LABEL_SIZE,
    MUTED,
    PAPER,
    SMALL_SIZE,
    VERMILLION,
    add_axes,
    axis_names,
    new_figure,
    write,
)
from evaluation.wording import short

_BINS: Final = 44
_PROBABILITIES: Final = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
_LOGIT_LIMIT: Final = 10.0
_ROOM: Final = 12  # letters of a class name that fit beside a cell


def confusion(
    point: Mapping[str, Any], classes: Sequence[str], *, title: str = "Confusion matrix", phantom: bool = False
) -> Figure:
    """Counts at one threshold, each with its share of the true class.

    Args:
        point: POINT of metrics.json (`threshold`, `tp`, `fn`, `fp`, `tn`).
        classes: (negative class, positive class).
    """
    figure = new_figure(title, f"Threshold {short(point['threshold'])}; shares of the true class", 4.2, phantom=phantom)
    _matrix(add_axes(figure, 0.3, 0.1, 3.3, 3.3), point, classes, size=15)
    return figure


def confusion_pair(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    classes: Sequence[str],
    *,
    phantom: bool = False,
) -> Figure:
    """Two confusion matrices of the same images side by side: at 0.5 and at the locked threshold."""
    figure = new_figure("Confusion matrices", "Number of images and share of the true class", 2.95, phantom=phantom)
    for index, (point, name) in enumerate(((first, "At"), (second, "Locked:"))):
        axes = add_axes(figure, 0.22 + 2.04 * index, 0.04, 1.92, 1.92)
        _matrix(axes, point, classes, size=12.5, rows=index == 0)
        axes.annotate(
            f"{name} {short(point['threshold'])}",
            (0, 1),
            (1, 27),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=LABEL_SIZE,
            fontweight="bold",
            color=INK,
            parse_math=False,
        )
    return figure


def score_histogram(
    labels: NDArray[np.uint8],
    scores: NDArray[np.float64],
    threshold: float,
    classes: Sequence[str],
    *,
    title: str = "Scores",
    beside: NDArray[np.float64] | None = None,
    phantom: bool = False,
) -> Figure:
    """Scores of both classes on a logit axis, positives upwards and negatives downwards, errors in full colour.

    Args:
        labels: (n,) 1 for the positive class, 0 otherwise.
        scores: (n,) probability of the positive class in [0, 1].
        threshold: Decision threshold in [0, 1]; positive if and only if score >= threshold.
        classes: (negative class, positive class).
        beside: Scores of a figure shown beside this one; both then have the same axis.
    """
    positive = labels.astype(bool)
    alarm = scores >= threshold
    figure = new_figure(title, "Share of the class per bin; full colour: wrong side", 3.05, phantom=phantom)
    axes = add_axes(figure, 0.4, 0.42, 3.76, 2.0)
    logits = _logit(scores)
    cut = float(_logit(np.array([threshold]))[0])
    reach = logits if beside is None else np.concatenate([logits, _logit(beside)])
    low, high = min(float(reach.min()), cut, -1.0) - 0.15, max(float(reach.max()), cut, 1.0) + 0.15
    width = (high - low) / _BINS
    edges = np.arange(cut - np.ceil((cut - low) / width) * width, high + width, width)
    top = 0.0
    for mine, direction, color in ((positive, 1, VERMILLION), (~positive, -1, BLUE)):
        for side in (True, False):
            chosen = mine & (alarm == side)
            # The edge at the cut can differ from the cut in the last bit, so that each side is counted by itself.
            inner = cut + width / 2 if side else cut - width / 2
            held = np.maximum(logits[chosen], inner) if side else np.minimum(logits[chosen], inner)
            share = np.histogram(held, edges)[0] / max(int(mine.sum()), 1)
            wrong = side != (direction == 1)
            axes.stairs(direction * share, edges, fill=True, color=color, alpha=1.0 if wrong else 0.38, linewidth=0)
            top = max(top, float(share.max(initial=0.0)))
    top = max(top, 0.02) * 1.12
    _score_axes(axes, edges, top)
    axes.axvline(cut, color=INK, linewidth=1.1, zorder=4)
    _score_labels(axes, cut, threshold, positive, alarm, classes)
    return figure


def _matrix(axes: Axes, point: Mapping[str, Any], classes: Sequence[str], *, size: float, rows: bool = True) -> None:
    """Draw a 2 x 2 matrix: truth downwards, decision to the right; colour is the share of the row."""
    negative, positive = (name if len(name) <= _ROOM else f"{name[: _ROOM - 1]}\u2026" for name in classes)
    cells = (
        (0, 0, point["tn"], "cleared", BLUE),
        (0, 1, point["fp"], "false alarms", VERMILLION),
        (1, 0, point["fn"], "missed", VERMILLION),
        (1, 1, point["tp"], "found", BLUE),
    )
    totals = (point["tn"] + point["fp"], point["fn"] + point["tp"])
    for row, column, count, word, color in cells:
        share = count / totals[row] if totals[row] else 0.0
        corner = (column + 0.02, row + 0.02)
        axes.add_patch(Rectangle(corner, 0.96, 0.96, facecolor=PAPER, edgecolor=color, linewidth=0.6))
        axes.add_patch(Rectangle(corner, 0.96, 0.96, facecolor=color, alpha=0.07 + 0.38 * share, linewidth=0))
        centred: Any = {"ha": "center", "va": "center"}
        write(axes, column + 0.5, row + 0.35, f"{count:,}", size=size, fontweight="bold", **centred)
        write(axes, column + 0.5, row + 0.6, f"{100 * share:.1f} %", size=SMALL_SIZE, **centred)
        write(axes, column + 0.5, row + 0.76, word, size=SMALL_SIZE, **centred)
    axes.set(xlim=(0, 2), ylim=(2, 0), aspect="equal")
    axes.grid(visible=False)
    axes.set_xticks([0.5, 1.5], [f"called\n{negative}", f"called\n{positive}"], fontsize=SMALL_SIZE, parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=2, labelcolor=MUTED)
    names = [f"is {negative}", f"is {positive}"] if rows else ["", ""]
    axes.set_yticks([0.5, 1.5], names, fontsize=SMALL_SIZE, rotation=90, va="center", parse_math=False)


def _logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        logits = np.log(scores) - np.log1p(-scores)
    return np.asarray(np.clip(logits, -_LOGIT_LIMIT, _LOGIT_LIMIT), dtype=np.float64)


def _score_axes(axes: Axes, edges: NDArray[np.float64], top: float) -> None:
    places = _logit(np.array(_PROBABILITIES))
    inside = [
        (place, f"{p:g}".lstrip("0"))
        for place, p in zip(places, _PROBABILITIES, strict=True)
        if edges[0] <= place <= edges[-1]
    ]
    axes.set_xticks([place for place, _ in inside], [text for _, text in inside])
    axes.set(xlim=(edges[0], edges[-1]), ylim=(-top, top))
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0) if top / s <= 3 or s == 1.0)
    ticks = np.arange(-np.floor(top / step), np.floor(top / step) + 1) * step
    axes.set_yticks(ticks, [f"{100 * abs(tick):.0f} %" for tick in ticks])
    axes.axhline(0, color=MUTED, linewidth=0.7, zorder=3)
    axis_names(axes, "score: probability of the positive class (logit scale)", "")


def _score_labels(
    axes: Axes,
    cut: float,
    threshold: float,
    positive: NDArray[np.bool_],
    alarm: NDArray[np.bool_],
    classes: Sequence[str],
) -> None:
    """Name both halves with their errors, in the corners that a useful model leaves empty."""
    low, high = axes.get_xlim()
    missed, found = int((positive & ~alarm).sum()), int(positive.sum())
    false_alarms, negatives = int((~positive & alarm).sum()), int((~positive).sum())
    for corner, lines in (
        ((0.012, 0.97, "left", "top"), (f"{classes[1]}: {found:,}", f"{missed:,} missed")),
        ((0.988, 0.03, "right", "bottom"), (f"{classes[0]}: {negatives:,}", f"{false_alarms:,} false alarms")),
    ):
        x, y, ha, va = corner
        step = -0.085 if va == "top" else 0.085
        ordered = lines if va == "top" else lines[::-1]
        for index, text in enumerate(ordered):
            bold = "bold" if text == lines[0] else "normal"
            axes.text(
                x,
                y + step * index,
                text,
                transform=axes.transAxes,
                ha=ha,
                va=va,
                fontsize=LABEL_SIZE,
                fontweight=bold,
                color=INK,
                parse_math=False,
                bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.7, "pad": 0.8},
                zorder=5,
            )
    left = cut > (low + high) / 2
    axes.annotate(
        f"threshold {short(threshold)}",
        (cut, 1),
        (0, 5),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right" if left else "left",
        fontsize=LABEL_SIZE,
        color=INK,
        parse_math=False,
    )

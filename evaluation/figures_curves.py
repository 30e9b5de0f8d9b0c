"""Curves over epochs and over thresholds: learning curves, ROC, precision-recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from evaluation.figures_style import (
    BLUE,
    INK,
    LINE,
    MUTED,
    ORANGE,
    PAPER,
    SMALL_SIZE,
    add_axes,
    axis_names,
    legend,
    new_figure,
    spread,
    unit_square,
)

Role = Literal["test", "validation", "baseline"]

_LINES: Final[dict[Role, dict[str, Any]]] = {
    "test": {"color": BLUE, "linestyle": "-", "linewidth": LINE + 0.4, "zorder": 4},
    "validation": {"color": BLUE, "linestyle": (0, (4, 2)), "linewidth": LINE - 0.5, "zorder": 3},
    "baseline": {"color": ORANGE, "linestyle": (0, (1, 1.4)), "linewidth": LINE, "zorder": 2},
}
_CHANCE: Final[dict[str, Any]] = {"color": MUTED, "linewidth": 0.9, "linestyle": (0, (1, 2)), "zorder": 1}
_MARKERS: Final[tuple[dict[str, Any], ...]] = (
    {"marker": "o", "markersize": 6.5, "markerfacecolor": INK, "markeredgecolor": PAPER, "markeredgewidth": 1.0},
    {"marker": "s", "markersize": 5.0, "markerfacecolor": PAPER, "markeredgecolor": INK, "markeredgewidth": 1.2},
)


@dataclass(frozen=True)
class Curve:
    """Scores to be drawn as one curve.

    Attributes:
        name: What the key says, e.g. `test 0.953 (0.936-0.968)`.
        labels: (n,) 1 for the positive class, 0 otherwise; both must occur.
        scores: (n,) higher means more positive.
        role: Decides colour and line style.
    """

    name: str
    labels: NDArray[np.uint8]
    scores: NDArray[np.float64]
    role: Role


def learning_curves(history: pd.DataFrame, *, best_epoch: int | None = None, phantom: bool = False) -> Figure:
    """Loss and AUROC over the epochs, one above the other, with the best epoch marked.

    Args:
        history: One row an epoch: `epoch`, `train/loss`, `val/loss`, `val/auroc`, optionally `train/auroc` and `stage`;
            gaps (NaN) are skipped. A thin line marks where a stage begins.
        best_epoch: Value of `epoch` whose weights were kept; the first epoch of the highest `val/auroc` if None.

    Raises:
        ValueError: `history` has no row with a `val/auroc`.
    """
    scored = history.dropna(subset=["val/auroc"])
    if scored.empty:
        raise ValueError("history.csv holds no epoch with a val/auroc: nothing to draw. Train at least one epoch.")
    if best_epoch is None:
        best_epoch = int(scored["epoch"].to_numpy()[int(np.argmax(scored["val/auroc"].to_numpy()))])
    begins = stage_starts(history)
    figure = new_figure(
        "Learning curves",
        f"{len(history)} epoch{'s' if len(history) != 1 else ''}; the weights of epoch {best_epoch} were kept"
        + ("; thin lines: a stage begins" if begins else ""),
        4.25,
        phantom=phantom,
    )
    upper = add_axes(figure, 0.4, 2.2, 2.66, 1.4)
    lower = add_axes(figure, 0.4, 0.42, 2.66, 1.4)
    losses = _epoch_lines(upper, history, {"train/loss": "training", "val/loss": "validation"})
    aurocs = _epoch_lines(lower, history, {"train/auroc": "training", "val/auroc": "validation"})
    upper.set_ylim(0, 1.15 * max(float(history[["train/loss", "val/loss"]].max().max()), 1e-6))
    lowest = float(history[[c for c in ("train/auroc", "val/auroc") if c in history]].min().min())
    lower.set_ylim(min(lowest - 0.02, 0.9), 1.0 + 0.1 * (1.0 - min(lowest - 0.02, 0.9)))
    _name_ends(upper, losses)
    _name_ends(lower, aurocs)
    axis_names(upper, "", "loss")
    axis_names(lower, "epoch", "AUROC")
    upper.tick_params(labelbottom=False)
    for axes in (upper, lower):
        _epoch_ticks(axes, history["epoch"].to_numpy(dtype=float))
        for start in begins:
            axes.axvline(start, color=MUTED, linewidth=0.7, zorder=1)
        axes.axvline(best_epoch, color=INK, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    best = scored.loc[scored["epoch"] == best_epoch, "val/auroc"]
    if not best.empty:
        lower.plot([best_epoch], [float(best.iloc[0])], color=BLUE, zorder=6, **_MARKERS[0])
    _note_best(upper, best_epoch)
    return figure


def stage_starts(history: pd.DataFrame) -> list[float]:
    """Where each stage after the first begins, half an epoch before its first one; empty without a column `stage`."""
    if "stage" not in history:
        return []
    rows = history.dropna(subset=["stage"])
    changed = rows["stage"].astype(str).ne(rows["stage"].astype(str).shift())
    return [float(epoch) - 0.5 for epoch in rows.loc[changed, "epoch"]][1:]


def roc(curves: Sequence[Curve], points: Mapping[str, Mapping[str, Any]], *, phantom: bool = False) -> Figure:
    """ROC curves with operating points of the test curve.

    Args:
        curves: Curves to draw, later ones on top where roles are equal.
        points: Name -> POINT of metrics.json; the first is drawn filled (the locked threshold), a second one hollow.
    """
    figure = new_figure("ROC curve", "Sensitivity against false alarms, at every threshold", 4.68, phantom=phantom)
    axes = add_axes(figure, 0.36, 0.44, 3.6, 3.6)
    for curve in curves:
        true, false = cumulative_counts(curve.labels, curve.scores)
        axes.plot(false / false[-1], true / true[-1], label=curve.name, **_LINES[curve.role])
    for (name, point), style in zip(points.items(), _MARKERS, strict=False):
        x, y = 1 - _value(point, "specificity"), _value(point, "sensitivity")
        axes.plot([x], [y], label=name, linestyle="none", zorder=6, **style)
    axes.plot([0, 1], [0, 1], label="chance", **_CHANCE)
    unit_square(axes)
    axis_names(axes, "1 - specificity (false alarms)", "sensitivity")
    legend(axes, "lower right")
    return figure


def precision_recall(
    curves: Sequence[Curve], points: Mapping[str, Mapping[str, Any]], *, phantom: bool = False
) -> Figure:
    """Precision-recall curves with operating points of the test curve and the prevalence as the floor.

    Args:
        curves: Curves to draw; the floor is the prevalence of the first curve of role `test`, else of the first.
        points: Name -> POINT of metrics.json; the first is drawn filled (the locked threshold), a second one hollow.
    """
    figure = new_figure(
        "Precision-recall curve", "What share of the alarms is real, at every sensitivity", 4.68, phantom=phantom
    )
    axes = add_axes(figure, 0.36, 0.44, 3.6, 3.6)
    reference = next((curve for curve in curves if curve.role == "test"), curves[0])
    prevalence = float(np.mean(reference.labels))
    for curve in curves:
        true, false = (counts[1:] for counts in cumulative_counts(curve.labels, curve.scores))
        recall, precision = true / true[-1], true / (true + false)
        axes.plot(np.append(0.0, recall), np.append(precision[0], precision), label=curve.name, **_LINES[curve.role])
    for (name, point), style in zip(points.items(), _MARKERS, strict=False):
        x, y = _value(point, "sensitivity"), _value(point, "ppv")
        axes.plot([x], [y], label=name, linestyle="none", zorder=6, **style)
    axes.plot([0, 1], [prevalence] * 2, label=f"chance: prevalence {prevalence:.3f}", **_CHANCE)
    unit_square(axes)
    axis_names(axes, "sensitivity (recall)", "positive predictive value (precision)")
    legend(axes, "best")
    return figure


def cumulative_counts(
    labels: NDArray[np.uint8], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """True and false positives while the threshold falls through the distinct scores.

    Args:
        labels: (n,) 1 for the positive class, 0 otherwise.
        scores: (n,) higher means more positive.

    Returns:
        Two (k + 1,) arrays of counts for k distinct scores, starting at 0 and 0 (no image called positive).

    Raises:
        ValueError: A class is absent.
    """
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    true = np.cumsum(labels[order], dtype=np.float64)[last_of_tie]
    false = last_of_tie + 1.0 - true
    if true[-1] == 0 or false[-1] == 0:
        raise ValueError(f"A curve needs both classes; got {true[-1]:.0f} positives and {false[-1]:.0f} negatives.")
    return np.append(0.0, true), np.append(0.0, false)


def _epoch_lines(axes: Axes, history: pd.DataFrame, columns: Mapping[str, str]) -> list[tuple[float, str, str]]:
    """Draw the columns that exist; returns last value, name with value, and colour of each line."""
    ends: list[tuple[float, str, str]] = []
    for column, name in columns.items():
        if column not in history or history[column].notna().sum() == 0:
            continue
        rows = history.dropna(subset=[column])
        color = BLUE if name == "validation" else MUTED
        style: Any = "-" if name == "validation" else (0, (4, 2))
        alone = "o" if len(rows) == 1 else None
        axes.plot(rows["epoch"], rows[column], color=color, linestyle=style, linewidth=LINE, marker=alone, zorder=3)
        last = float(rows[column].iloc[-1])
        ends.append((last, f"{name} {last:.3f}", color))
    return ends


def _name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write names and last values beside the lines, apart from each other; the limits must be final."""
    low, high = axes.get_ylim()
    heights = spread([end[0] for end in ends], (high - low) * 0.115)
    for (_, text, color), height in zip(ends, heights, strict=True):
        axes.annotate(
            text,
            (1, height),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=SMALL_SIZE + 0.25,
            color=color,
            annotation_clip=False,
            parse_math=False,
        )


def _epoch_ticks(axes: Axes, epochs: NDArray[np.float64]) -> None:
    first, last = float(epochs.min()), float(epochs.max())
    step = max(1, int(np.ceil((last - first + 1) / 8)))
    axes.set_xticks(np.arange(first, last + 1, step))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    axes.set_xlim(first - 0.02 * (last - first) - 0.05, last + 0.02 * (last - first) + 0.05)


def _note_best(axes: Axes, best_epoch: int) -> None:
    left, right = axes.get_xlim()
    early = (best_epoch - left) < 0.6 * (right - left)
    axes.annotate(
        f"kept: epoch {best_epoch}",
        (best_epoch, 1),
        (4 if early else -4, -3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="left" if early else "right",
        va="top",
        fontsize=SMALL_SIZE,
        color=INK,
        parse_math=False,
    )


def _value(point: Mapping[str, Any], metric: str) -> float:
    value = point[metric]["value"]
    return float("nan") if value is None else float(value)

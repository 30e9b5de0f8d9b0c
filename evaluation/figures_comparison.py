"""Two models on the same images: differences with intervals, both ROC curves, and the scores of one against the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from evaluation.figures_curves import cumulative_counts
from evaluation.figures_style import (
    BLUE,
    INK,
    LINE,
    MUTED,
    ORANGE,
    PAPER,
    SMALL_SIZE,
    VERMILLION,
    add_axes,
    axis_names,
    beside,
    legend,
    new_figure,
    unit_square,
)

_ROW: Final = 0.44  # inches per row of the forest
_MOST_DOTS: Final = 1500
_STYLES: Final[tuple[dict[str, Any], ...]] = (
    {"color": ORANGE, "linestyle": (0, (1, 1.2)), "linewidth": LINE + 0.2},
    {"color": BLUE, "linestyle": "-", "linewidth": LINE + 0.2},
)
_POINTS: Final[tuple[dict[str, Any], ...]] = (
    {"marker": "s", "markersize": 6.0, "markerfacecolor": ORANGE},
    {"marker": "o", "markersize": 6.5, "markerfacecolor": BLUE},
)

Floats = NDArray[np.float64]


def difference_forest(rows: Sequence[Mapping[str, Any]], names: tuple[str, str], *, phantom: bool = False) -> Figure:
    """Second minus first model, one row a figure, zero marked, values written out on the right.

    Args:
        rows: of ``differences`` of a comparison, in all of which higher is better; rows without a value are skipped.
        names: of the two models, short.

    Raises:
        ValueError: no row has a value.
    """
    rows = [row for row in rows if row["difference"]["value"] is not None]
    if not rows:
        raise ValueError("No difference to draw: every one is null. Both classes must occur in the predictions.")
    height = 1.0 + _ROW * len(rows)
    title = f"{names[1]} minus {names[0]}"
    figure = new_figure(
        title, "Dot: difference. Line: its interval, in pairs on the same images", height, phantom=phantom
    )
    axes = add_axes(figure, 0.11, 0.42, 2.29, _ROW * len(rows))
    ends = [abs(end) for row in rows for end in row["difference"].values() if isinstance(end, float)]
    edge = max(0.01, 1.12 * max(ends, default=0.0))
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
    for place, row in enumerate(rows):
        held = row["difference"]
        color = {"a": ORANGE, "b": BLUE, None: MUTED}[row["favours"]]
        marker = {"a": "s", "b": "o", None: "D"}[row["favours"]]
        if held["low"] is not None:
            axes.plot([held["low"], held["high"]], [place, place], color=color, linewidth=2.8, alpha=0.45, zorder=2)
        axes.plot([held["value"]], [place], marker=marker, markersize=5.5, color=color, markeredgecolor=PAPER, zorder=4)
        beside(axes, row["label"], (0, place), (-7.5, 10))
        beside(axes, _signed(held), (1, place), (9, 0))
    axes.set(ylim=(len(rows) - 0.6, -0.75), xlim=(-edge, edge))
    step = _step(edge)
    ticks = [-step, 0.0, step]
    axes.set_xticks(ticks, [_tick(value) for value in ticks])
    axes.set_yticks([])
    for edge_at, text, side in (
        (0.0, f"\u2190 {names[0]} better", "left"),
        (1.0, f"{names[1]} better \u2192", "right"),
    ):
        axes.annotate(
            text,
            (edge_at, 0),
            (0, -24),
            xycoords="axes fraction",
            textcoords="offset points",
            ha=side,
            fontsize=SMALL_SIZE,
            color=MUTED,
            parse_math=False,
        )
    return figure


def _step(edge: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that lies inside the axis."""
    power = 10.0 ** np.floor(np.log10(edge))
    return float(max(factor * power for factor in (1, 2, 5) if factor * power <= edge))


def _tick(value: float) -> str:
    return "0" if value == 0 else f"{value:+.3g}".replace("-", "\u2212")


def _signed(held: Mapping[str, Any]) -> str:
    value, low, high = (held[key] for key in ("value", "low", "high"))
    texts = ["0.000" if abs(end) < 0.0005 else f"{end:+.3f}" for end in (value, low, high) if end is not None]
    text = texts[0] if len(texts) < 3 else f"{texts[0]} ({texts[1]} to {texts[2]})"
    return text.replace("-", "\u2212")


def roc_pair(
    labels: NDArray[np.uint8],
    scores: tuple[Floats, Floats],
    names: tuple[str, str],
    points: Sequence[tuple[float | None, float | None]],
    *,
    phantom: bool = False,
) -> Figure:
    """Both ROC curves, each with its locked operating point.

    Args:
        labels: shape (n,), 1 = positive, both classes there. ``scores``: of both models, shape (n,).
        names: what the key says. ``points``: sensitivity and specificity of each model at its own threshold.
    """
    subtitle = "Sensitivity against false alarms; marks: each at its own locked threshold"
    figure = new_figure("ROC curves", subtitle, 4.68, phantom=phantom)
    axes = add_axes(figure, 0.36, 0.44, 3.6, 3.6)
    for place, (values, name, style, mark) in enumerate(zip(scores, names, _STYLES, _POINTS, strict=True)):
        true, false = cumulative_counts(labels, values)
        sensitivity, specificity = points[place]
        axes.plot(false / false[-1], true / true[-1], label=name, zorder=3 + place, **style)
        if sensitivity is not None and specificity is not None:
            axes.plot(
                [1 - specificity],
                [sensitivity],
                linestyle="none",
                markeredgecolor=INK,
                markeredgewidth=1.0,
                zorder=6,
                **mark,
            )
    axes.plot([0, 1], [0, 1], label="chance", color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
    unit_square(axes)
    axis_names(axes, "1 - specificity (false alarms)", "sensitivity")
    legend(axes, "lower right")
    return figure


def score_scatter(
    labels: NDArray[np.uint8],
    scores: tuple[Floats, Floats],
    thresholds: tuple[float | None, float | None],
    names: tuple[str, str],
    classes: tuple[str, str],
    *,
    phantom: bool = False,
) -> Figure:
    """The score of each image from both models; off the diagonal they disagree, and so they do between the threshold lines.

    Args:
        labels: shape (n,), 1 = positive. ``scores``: shape (n,) each, in [0, 1]. ``thresholds``: None is not drawn.
        names: of the models, for the axes. ``classes``: what positives and negatives are called.
    """
    n = len(labels)
    shown = np.arange(n)
    if n > _MOST_DOTS:  # more would hide one another and make the page large
        shown = np.sort(np.random.default_rng(0).choice(n, _MOST_DOTS, replace=False))
    what = f"{n:,} images" if n <= _MOST_DOTS else f"{_MOST_DOTS:,} of {n:,} images, drawn at random"
    figure = new_figure(f"Scores of {names[0]} and {names[1]}", f"{what}; lines: thresholds", 4.68, phantom=phantom)
    axes = add_axes(figure, 0.36, 0.44, 3.6, 3.6)
    for value, name, color, marker in ((0, classes[1], BLUE, "o"), (1, classes[0], VERMILLION, "^")):
        own = shown[labels[shown] == value]
        axes.plot(
            scores[0][own],
            scores[1][own],
            linestyle="none",
            marker=marker,
            markersize=3.6,
            markerfacecolor="none",
            markeredgecolor=color,
            markeredgewidth=0.8,
            alpha=0.75,
            label=name,
            zorder=3,
        )
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
    if thresholds[0] is not None:
        axes.axvline(thresholds[0], color=INK, linewidth=0.9, zorder=2)
    if thresholds[1] is not None:
        axes.axhline(thresholds[1], color=INK, linewidth=0.9, zorder=2)
    unit_square(axes)
    axis_names(axes, f"score of {names[0]}", f"score of {names[1]}")
    legend(axes, "best")
    return figure

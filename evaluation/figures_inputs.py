"""How strange images are to a model: its own kind and foreign ones, one strip a set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures_style import (
    BLUE,
    INK,
    LABEL_SIZE,
    MUTED,
    SMALL_SIZE,
    VERMILLION,
    WIDTH,
    add_axes,
    name_beside,
    new_figure,
    write,
)

_ROW: Final = 0.27  # inches
_LEFT: Final = 1.42
_WHOLE, _WIDE, _NARROW = (0, 6), (1, 5), (2, 4)  # pairs among the seven quantiles


def inputs_figure(content: Mapping[str, Any]) -> Figure:
    """The strips of what input_check.json or foreign.json holds."""
    known = [("validation", content["val"]), ("test images", content["test"])]
    foreign = [(str(entry["name"]), entry) for entry in content["sets"]]
    return input_strips(known, foreign, content["threshold"], phantom=bool(content["phantom"]))


def input_strips(
    known: Sequence[tuple[str, Mapping[str, Any]]],
    foreign: Sequence[tuple[str, Mapping[str, Any]]],
    threshold: float | None,
    *,
    phantom: bool,
) -> Figure:
    """One strip a set on the axis of strangeness: median, middle half, 5 to 95 %, and all.

    Args:
        known, foreign: what a set is called, and its entry in input_check.json (``strangeness``: seven quantiles).
        threshold: from which images are turned away for their distance; None where none are.
    """
    rows = [*((name, entry, BLUE) for name, entry in known), *((name, entry, VERMILLION) for name, entry in foreign)]
    height = 1.1 + _ROW * len(rows)
    subtitle = "dot: median; thick: middle half; thin: 5 to 95 %; line: all"
    figure = new_figure("How strange images are to the model", subtitle, height, phantom=phantom)
    axes = add_axes(figure, _LEFT, 0.42, WIDTH - _LEFT - 0.12, _ROW * len(rows))
    for place, (name, entry, color) in enumerate(rows):
        _strip(axes, place, [float(value) for value in entry["strangeness"]], color)
        name_beside(axes, name, place, points=6, size=LABEL_SIZE)
    axes.set_xscale("symlog", linthresh=10.0, linscale=1.6)
    values = [float(value) for _, entry, _ in rows for value in entry["strangeness"]]
    low, high = min(*values, -3.0), max(*values, threshold or 0.0, 4.0)
    axes.set(xlim=(low - 0.4, high * 1.25), ylim=(len(rows) - 0.45, -0.55))
    axes.set_yticks([])
    ticks = [tick for tick in (-2, 0, 2, 4, 6, 8, 10, 30, 100) if tick <= high * 1.1]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("strangeness (from 10 on logarithmic)", fontsize=SMALL_SIZE, color=MUTED, labelpad=3)
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1.0, linestyle=(0, (4, 2)), zorder=2)
        write(
            axes,
            threshold,
            -0.62,
            "turned away from here ",
            size=SMALL_SIZE,
            color=INK,
            va="bottom",
            ha="center" if threshold < 0.6 * high else "right",
        )
    return figure


def _strip(axes: Axes, place: int, quantiles: Sequence[float], color: str) -> None:
    for (first, last), width, alpha in ((_WHOLE, 0.9, 1.0), (_WIDE, 3.2, 0.55), (_NARROW, 7.0, 0.55)):
        axes.plot(
            [quantiles[first], quantiles[last]],
            [place, place],
            color=color,
            linewidth=width,
            alpha=alpha,
            solid_capstyle="butt",
            zorder=3,
        )
    axes.plot([np.median(quantiles)], [place], "o", color=INK, markersize=3.6, zorder=4)

"""Runs of several configurations on one axis: a dot a run, the mean, and the interval of the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures_style import BLUE, INK, MUTED, PAPER, add_axes, beside, new_figure

_ROW: Final = 0.46  # inches per configuration
_MOST_LETTERS: Final = 58


def configuration_dots(
    rows: Sequence[Mapping[str, Any]],
    runs: Sequence[Mapping[str, Any]],
    metric: str,
    part: str = "test",
    *,
    best: int | None = None,
    phantom: bool = False,
) -> Figure:
    """One metric of every run on one part, by configuration.

    Args:
        rows: ``configurations`` of aggregate.json. ``runs``: its ``runs``.
        metric: a name among ``figures``. ``part``: ``test`` or ``val``.
        best: number of the configuration that is best on validation; its dots are coloured, those of others grey.

    Raises:
        ValueError: no run has a value.
    """
    values = {
        row["number"]: [
            float(run[part][metric]["value"])
            for run in runs
            if run["configuration"] == row["number"] and run[part][metric]["value"] is not None
        ]
        for row in rows
    }
    known = [row for row in rows if values[row["number"]]]
    if not known:
        raise ValueError(f"No {metric} to draw: it is null in every run. Both classes must occur in the predictions.")
    height = 0.86 + _ROW * len(known)
    where = {"test": "on test", "val": "on validation"}[part]
    title = f"{metric[0].upper()}{metric[1:]} {where}"
    figure = new_figure(title, "Dot: a run. Bar: mean. Line: interval of the whole", height, phantom=phantom)
    axes = add_axes(figure, 0.11, 0.26, 2.49, _ROW * len(known))
    ends: list[float] = []
    for place, row in enumerate(known):
        color = BLUE if best is None or row["number"] == best else MUTED
        ends += _row(axes, place, row, values[row["number"]], metric, part, color)
    low, high = min(ends), max(ends)
    edge = max(0.15 * (high - low), 0.004)
    axes.set(ylim=(len(known) - 0.6, -0.75), xlim=(low - edge, min(high + edge, 1.0 + edge)))
    ticks = [low, high] if high - low > 1e-9 else [low]
    axes.set_xticks(ticks, [f"{tick:.3f}" for tick in ticks])
    axes.set_yticks([])
    return figure


def _row(
    axes: Axes, place: int, row: Mapping[str, Any], values: Sequence[float], metric: str, part: str, color: str
) -> list[float]:
    """Draw one configuration; returns everything that the axis must hold."""
    held = row["pooled"][part]["figures"]
    interval = held[metric] if held else {"value": None, "low": None, "high": None}
    mean = row[part][metric]["mean"]
    ends = [*values, mean]
    if interval["low"] is not None:
        axes.plot([interval["low"], interval["high"]], [place, place], color=color, linewidth=2.8, alpha=0.4, zorder=2)
        ends += [interval["low"], interval["high"]]
    if len(values) > 1:
        axes.plot([mean, mean], [place - 0.2, place + 0.2], color=INK, linewidth=1.4, zorder=3)
    dots: dict[str, Any] = {"marker": "o", "markersize": 5, "linestyle": "none", "markeredgecolor": PAPER}
    axes.plot(list(values), [place] * len(values), color=color, markeredgewidth=0.7, zorder=4, **dots)
    name = str(row["name"])
    name = name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}\u2026"
    spread = row[part][metric]["sd"]
    shown = f"{mean:.3f}" if spread is None else f"{mean:.3f} (sd {spread:.3f})"
    for text, where, offset in ((name, 0, (-7.5, 11)), (shown, 1, (10, 0))):
        beside(axes, text, (where, place), offset)
    return ends

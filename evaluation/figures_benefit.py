"""The decision curve: net benefit of acting on the model, on all and on none, against the threshold probability."""

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
    LINE,
    MUTED,
    ORANGE,
    PAPER,
    SMALL_SIZE,
    add_axes,
    axis_names,
    new_figure,
)
from evaluation.wording import percent, short

_TICKS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.95, 0.99)


def benefit_figure(metrics: Mapping[str, Any], phantom: bool = False) -> Figure:
    """Decision curve on test; the horizontal axis is even in the odds' logarithm, so that low thresholds have room.

    Args:
        metrics: metrics.json with its part ``decision_curve``.
    """
    curve = metrics["decision_curve"]
    kind = "recalibrated scores" if curve["recalibrated"] else "raw scores"
    subtitle = f"Test, {kind}; higher is better, none is 0"
    figure = new_figure("Decision curve", subtitle, 4.25, phantom=phantom)
    axes = add_axes(figure, 0.44, 0.96, 3.62, 2.62)
    _curves(axes, curve)
    axis_names(axes, "threshold probability", "net benefit")
    _legend(axes)
    return figure


def _legend(axes: Axes) -> None:
    """Beneath the axes, where no curve can be."""
    box: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (-0.03, -0.17), "ncols": 2, "frameon": False}
    key = axes.legend(**box, fontsize=LABEL_SIZE, labelcolor=INK, handlelength=2.1, columnspacing=1.6)
    for text in key.get_texts():
        text.set_parse_math(False)


def _curves(axes: Axes, curve: Mapping[str, Any]) -> None:
    places = _log_odds(curve["thresholds"])
    # Where no resample differs from the estimate there is no interval, and the band has no width.
    low, high = (_filled(curve[side], curve["model"]) for side in ("low", "high"))
    axes.fill_between(places, low, high, color=BLUE, alpha=0.2, linewidth=0, zorder=2)
    axes.plot(places, curve["model"], color=BLUE, linewidth=LINE + 0.4, label="act on the model", zorder=4)
    axes.plot(places, curve["all"], color=ORANGE, linewidth=LINE, linestyle=(0, (4, 2)), label="act on all", zorder=3)
    axes.axhline(0.0, color=MUTED, linewidth=LINE - 0.6, linestyle=(0, (1, 1.4)), label="act on none", zorder=2)
    left, right = float(places[0]), float(places[-1])
    top = max(curve["prevalence"], *curve["model"]) * 1.12
    bottom = -0.35 * top
    locked = curve["locked"]
    if locked is not None:
        place, value = float(_log_odds([locked["threshold"]])[0]), locked["model"]["value"]
        inside = left <= place <= right and value >= bottom
        # What lies beyond the axes stands at their edge as a triangle.
        shape = "o" if inside else "v" if value < bottom else "<" if place < left else ">"
        mark: dict[str, Any] = {"marker": shape, "markersize": 6.5, "markeredgecolor": PAPER, "linestyle": "none"}
        at = min(max(place, left), right), max(value, bottom * 0.96)
        name = f"{locked['name']}: {percent(float(short(locked['threshold'])))}" + ("" if inside else " (outside)")
        axes.plot(at[:1], at[1:], color=INK, label=name, zorder=6, **mark)
    axes.set(xlim=(left - 0.1, right + 0.1), ylim=(bottom, top))
    ticks = [tick for tick in _TICKS if curve["thresholds"][0] <= tick <= curve["thresholds"][-1]]
    axes.set_xticks(_log_odds(ticks), [f"{100 * tick:g} %" for tick in ticks], fontsize=SMALL_SIZE)


def _filled(ends: Sequence[float | None], values: Sequence[float]) -> list[float]:
    return [value if end is None else end for end, value in zip(ends, values, strict=True)]


def _log_odds(thresholds: Any) -> Any:
    held = np.asarray(thresholds, dtype=np.float64)
    return np.log(held / (1.0 - held))

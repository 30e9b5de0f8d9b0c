"""Estimates with their intervals: model against baseline, validation against test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures_style import (
    BLUE,
    INK,
    LABEL_SIZE,
    LINE,
    ORANGE,
    PAPER,
    SMALL_SIZE,
    add_axes,
    beside,
    new_figure,
    spread,
)

_ROW: Final = 0.4  # inches per row of the forest


@dataclass(frozen=True)
class Estimate:
    """One row of a forest plot: a name, an INTERVAL of metrics.json and whether the row is a baseline."""

    name: str
    interval: Mapping[str, Any]
    baseline: bool = False


@dataclass(frozen=True)
class SlopePanel:
    """One metric of the shift figure: INTERVALs of metrics.json on validation and test; the baseline's if known."""

    metric: str
    val: Mapping[str, Any]
    test: Mapping[str, Any]
    baseline_val: Mapping[str, Any] | None = None
    baseline_test: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _Line:
    val: Mapping[str, Any]
    test: Mapping[str, Any]
    color: str
    marker: str
    style: Any


def auroc_forest(
    estimates: Sequence[Estimate],
    *,
    title: str = "AUROC, model and baseline",
    subtitle: str = "Dot: estimate. Line: its interval",
    phantom: bool = False,
) -> Figure:
    """AUROC with intervals, one row an estimate, values written out on the right. Rows without a value are skipped."""
    rows = [row for row in estimates if row.interval["value"] is not None]
    if not rows:
        raise ValueError("No AUROC to draw: every estimate is null. Both classes must occur in the predictions.")
    height = 0.86 + _ROW * len(rows)
    figure = new_figure(title, subtitle, height, phantom=phantom)
    axes = add_axes(figure, 0.11, 0.26, 2.59, _ROW * len(rows))
    lows = [float(row.interval["low"] if row.interval["low"] is not None else row.interval["value"]) for row in rows]
    floor = next((edge for edge in (0.9, 0.8, 0.7, 0.6, 0.5) if edge <= min(lows)), 0.0)
    for index, row in enumerate(rows):
        color, marker = (ORANGE, "s") if row.baseline else (BLUE, "o")
        _whisker(axes, ([row.interval["low"], row.interval["high"]], [index, index]), color)
        axes.plot(
            [row.interval["value"]],
            [index],
            marker=marker,
            markersize=6,
            color=color,
            markeredgecolor=PAPER,
            linestyle="none",
            zorder=4,
        )
        beside(axes, row.name, (0, index), (-7.5, 7.5))
        beside(axes, _written(row.interval), (1, index), (10, 0))
    axes.set(ylim=(len(rows) - 0.65, -0.65), xlim=(floor - 0.01 * (1 - floor), 1 + 0.01 * (1 - floor)))
    ticks = [floor, (floor + 1) / 2, 1.0]
    axes.set_xticks(ticks, [f"{tick:.2f}".rstrip("0").rstrip(".") for tick in ticks])
    axes.set_yticks([])
    return figure


def shift_slope(panels: Sequence[SlopePanel], *, baseline: str = "thumbnails", phantom: bool = False) -> Figure:
    """From validation to test, one narrow panel a metric, all on the same axis from 0 to 1; the baseline, called so, dashed."""
    named = any(panel.baseline_val is not None for panel in panels)
    subtitle = f"Circles: the model. Squares: {baseline}" if named else "With intervals"
    figure = new_figure("From validation to test", subtitle, 3.3, phantom=phantom)
    width = 4.02 / max(len(panels), 1)
    for index, panel in enumerate(panels):
        axes = add_axes(figure, 0.14 + width * index + 0.36, 0.26, width - 0.74, 2.3)
        lines = [_Line(panel.val, panel.test, BLUE, "o", "-")]
        if panel.baseline_val is not None and panel.baseline_test is not None:
            lines.append(_Line(panel.baseline_val, panel.baseline_test, ORANGE, "s", (0, (3, 1.5))))
        _slopes(axes, lines)
        axes.set(xlim=(-0.12, 1.12), ylim=(-0.02, 1.02))
        axes.set_xticks([0, 1], ["validation", "test"])
        axes.set_yticks([0, 0.5, 1.0], ["0", ".5", "1"] if index == 0 else [""] * 3)
        axes.tick_params(axis="y", pad=29)
        axes.grid(visible=False, axis="x")
        axes.annotate(
            panel.metric,
            (0.5, 1),
            (0, 13),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            fontsize=LABEL_SIZE,
            fontweight="bold",
            color=INK,
            parse_math=False,
        )
    return figure


def _slopes(axes: Axes, lines: Sequence[_Line]) -> None:
    """Draw val -> test lines with whiskers, values beside the ends, kept apart from each other."""
    known = [line for line in lines if line.val["value"] is not None and line.test["value"] is not None]
    for place, line in enumerate(known):
        shift = 0.05 * place
        ends = [line.val["value"], line.test["value"]]
        axes.plot([shift, 1 - shift], ends, color=line.color, linestyle=line.style, linewidth=LINE, zorder=3)
        for x, interval in ((shift, line.val), (1 - shift, line.test)):
            _whisker(axes, ([x, x], [interval["low"], interval["high"]]), line.color)
        dots: dict[str, Any] = {"marker": line.marker, "markersize": 5.5, "markeredgecolor": PAPER, "linestyle": "none"}
        axes.plot([shift, 1 - shift], ends, color=line.color, zorder=4, **dots)
    for x, offset, ha in ((0.0, -7, "right"), (1.0, 7, "left")):
        values = [float((line.test if x else line.val)["value"]) for line in known]
        for value, height in zip(values, spread(values, 0.06), strict=True):
            axes.annotate(
                f"{value:.3f}",
                (x, height),
                (offset, 0),
                textcoords="offset points",
                ha=ha,
                va="center",
                fontsize=SMALL_SIZE,
                color=INK,
                annotation_clip=False,
            )


def _whisker(axes: Axes, ends: tuple[Sequence[Any], Sequence[Any]], color: str) -> None:
    if None not in ends[0] and None not in ends[1]:
        axes.plot(*ends, color=color, linewidth=2.8, alpha=0.4, solid_capstyle="round", zorder=2)


def _written(interval: Mapping[str, Any]) -> str:
    if interval["low"] is None or interval["high"] is None:
        return f"{interval['value']:.3f}"
    return f"{interval['value']:.3f} ({interval['low']:.3f}\u2013{interval['high']:.3f})"

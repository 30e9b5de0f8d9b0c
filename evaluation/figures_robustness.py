"""Metric against strength, one small panel a corruption; and models trained on one data set and tested on another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures_style import (
    BLUE,
    INK,
    LABEL_SIZE,
    LINE,
    MUTED,
    PAPER,
    SMALL_SIZE,
    VERMILLION,
    WIDTH,
    add_axes,
    new_figure,
    write,
)

_PANEL: Final = 1.28  # inches from one row of panels to the next
_LINES: Final[dict[str, tuple[str, str, Any, str]]] = {
    "sensitivity": ("sensitivity", VERMILLION, "-", "o"),
    "specificity": ("specificity", BLUE, (0, (4, 1.6)), "s"),
    "auroc": ("AUROC", INK, (0, (1, 1.3)), "^"),
}


def robustness_panels(clean: Mapping[str, Any], kinds: Sequence[Mapping[str, Any]], *, phantom: bool = False) -> Figure:
    """Sensitivity, specificity and AUROC against strength, two panels in a row.

    Args:
        clean: INTERVALs of the clean images: strength 0, and a thin line across each panel.
        kinds: entries of ``kinds`` in robustness.json.
    """
    lines = [name for name in _LINES if clean[name]["value"] is not None]
    rows = -(-len(kinds) // 2)
    height = 0.95 + _PANEL * rows
    what = "Against strength; 0 is the clean image. Thin lines: clean level"
    figure = new_figure("What corruptions do", what, height, phantom=phantom)
    _key(figure, lines, height)
    for number, item in enumerate(kinds):
        row, column = divmod(number, 2)
        axes = add_axes(figure, 0.3 + 2.08 * column, height - 0.74 - _PANEL * (row + 1) + 0.32, 1.68, _PANEL - 0.5)
        _panel(axes, clean, item, lines, last=number >= len(kinds) - 2, first=column == 0)
    return figure


def _key(figure: Figure, lines: Sequence[str], height: float) -> None:
    """What the lines are, above all panels, by colour, dash and marker."""
    handles = [
        Line2D([], [], color=color, linestyle=dash, linewidth=LINE, marker=marker, markersize=4, label=name)
        for name, color, dash, marker in (_LINES[line] for line in lines)
    ]
    figure.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(-0.02, 1 - 0.5 / height),
        ncols=len(handles),
        frameon=False,
        fontsize=LABEL_SIZE,
        labelcolor=INK,
        handlelength=2.4,
        columnspacing=1.4,
    )


def _panel(
    axes: Axes, clean: Mapping[str, Any], item: Mapping[str, Any], lines: Sequence[str], *, last: bool, first: bool
) -> None:
    for line in lines:
        _, color, dash, marker = _LINES[line]
        cells = [(0, clean[line]), *((cell["strength"], cell[line]) for cell in item["cells"])]
        held = [(place, cell) for place, cell in cells if cell["value"] is not None]
        sure = [(place, cell) for place, cell in held if cell["low"] is not None]
        axes.axhline(clean[line]["value"], color=color, linewidth=0.6, zorder=1)
        axes.fill_between(
            [place for place, _ in sure],
            [cell["low"] for _, cell in sure],
            [cell["high"] for _, cell in sure],
            color=color,
            alpha=0.13,
            linewidth=0,
            zorder=2,
        )
        axes.plot(
            [place for place, _ in held],
            [cell["value"] for _, cell in held],
            color=color,
            linestyle=dash,
            linewidth=LINE - 0.2,
            marker=marker,
            markersize=3.4,
            markeredgecolor=PAPER,
            markeredgewidth=0.5,
            zorder=4,
        )
    axes.set(xlim=(-0.15, 5.15), ylim=(-0.03, 1.03))
    axes.set_xticks(range(6), [str(place) for place in range(6)] if last else [""] * 6)
    axes.set_yticks([0, 0.5, 1.0], ["0", ".5", "1"] if first else [""] * 3)
    if last:
        axes.set_xlabel("strength", fontsize=SMALL_SIZE, color=MUTED, labelpad=2)
    axes.annotate(
        str(item["title"]),
        (0, 1),
        (0, 4),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=LABEL_SIZE,
        fontweight="bold",
        color=INK,
        parse_math=False,
    )


def transfer_dots(rows: Sequence[Mapping[str, Any]], *, external: str, phantom: bool = False) -> Figure:
    """Own test part and external data side by side: AUROC, sensitivity and specificity of each model with intervals.

    Args:
        rows: one a model: ``name``, and under ``own`` and ``external`` the INTERVALs ``auroc``, ``sensitivity``, ``specificity``.
        external: what the other data set is called.
    """
    metrics = {name: _LINES[name][0] for name in ("auroc", "sensitivity", "specificity")}
    block = 0.36 * len(rows) + 0.42
    height = 0.5 + block * len(metrics)
    subtitle = f"Circle: own test part. Square: {external}. Lines: intervals"
    figure = new_figure("Own and external test", subtitle, height, phantom=phantom)
    for number, (metric, title) in enumerate(metrics.items()):
        bottom = height - 0.62 - block * (number + 1) + 0.3
        axes = add_axes(figure, 0.1, bottom, WIDTH - 0.3, block - 0.42)
        for place, row in enumerate(rows):
            _dots(axes, row, metric, place, several=len(rows) > 1)
        axes.set(xlim=(-0.01, 1.01), ylim=(len(rows) - 0.35, -0.65))
        axes.set_yticks([])
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", ".25", ".5", ".75", "1"])
        name = title[0].upper() + title[1:]
        axes.annotate(
            name, (0, 1), (0, 5), xycoords="axes fraction", textcoords="offset points", fontsize=LABEL_SIZE, color=INK
        )
    return figure


def _dots(axes: Axes, row: Mapping[str, Any], metric: str, place: int, *, several: bool) -> None:
    for side, color, marker, offset in (("own", BLUE, "o", -0.14), ("external", VERMILLION, "s", 0.14)):
        interval = None if row[side] is None else row[side][metric]
        if interval is None or interval["value"] is None:
            continue
        if interval["low"] is not None:
            axes.plot(
                [interval["low"], interval["high"]], [place + offset] * 2, color=color, linewidth=LINE + 1.2, alpha=0.4
            )
        axes.plot(
            [interval["value"]],
            [place + offset],
            marker=marker,
            color=color,
            markersize=6,
            markeredgecolor=PAPER,
            linestyle="none",
            zorder=4,
        )
    if several:
        write(axes, 0.0, place - 0.34, str(row["name"]), size=SMALL_SIZE, color=MUTED, va="center")

"""The result as a figure: images per second of every contender, case by case, on a scale of its own."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke

from benchmarks.speed.cases import CEILING, CONTENDERS
from benchmarks.speed.results import Result, Row, rounds_in_words, rows_of
from evaluation.figures_style import (
    BLUE,
    INK,
    LABEL_SIZE,
    MUTED,
    SMALL_SIZE,
    add_axes,
    name_beside,
    new_figure,
    write,
)

_ROW, _GAP, _TOP, _BOTTOM = 0.19, 0.42, 0.36, 0.12  # inches
_WIDTH, _NAMES, _WORDS = 7.2, 1.95, 1.75
_PALE = "#b6c2cd"  # what is compared with
_CEILING = "#5a6673"


def draw(result: Result, target: Path, device: str) -> None:
    """Write the figure.

    Args:
        target: a file that ends in .png or .svg.
        device: the machine, in words.
    """
    by_case: dict[str, list[Row]] = {}
    for row in rows_of(result):
        by_case.setdefault(row.case, []).append(row)
    height = _TOP + _BOTTOM + sum(_GAP + _ROW * len(rows) for rows in by_case.values())
    phantom = all(case["phantom"] for case in result["cases"].values())
    figure = new_figure(
        "Training speed: images per second from epoch 2 on",
        f"{rounds_in_words(result)}; lines: lowest to highest. {device}",
        height,
        phantom=phantom,
    )
    figure.set_size_inches(_WIDTH, height)
    top = height - _TOP
    for case, rows in by_case.items():
        top -= _GAP
        bottom = top - _ROW * len(rows)
        title = result["cases"][case]["title"]
        figure.text(0, (top + 0.12) / height, title, fontsize=LABEL_SIZE, fontweight="bold", color=INK)
        axes = add_axes(figure, _NAMES, bottom, _WIDTH - _NAMES - _WORDS, _ROW * len(rows))
        _bars(axes, rows)
        top = bottom
    FigureCanvasAgg(figure)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=150, bbox_inches="tight", pad_inches=0.12)


def _bars(axes: Axes, rows: list[Row]) -> None:
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    # Kept features are so much faster that every other bar would vanish: their bar ends at the border, their number says more.
    shown = [row.high for row in rows if row.contender != "firstread_features"]
    limit = 1.02 * max(shown, default=1.0) or 1.0
    axes.set(xlim=(0, limit), ylim=(len(rows) - 0.5, -0.5))
    for place, row in enumerate(rows):
        name_beside(axes, CONTENDERS[row.contender], place, points=6)
        words = _words(row)
        if row.speed is not None:
            ours = row.contender.startswith("firstread")
            colour = BLUE if ours else _CEILING if row.contender.startswith(CEILING) else _PALE
            axes.barh(place, min(row.speed, limit), height=0.72, color=colour)
            if row.high <= limit:
                # Edged in white, to be seen on a dark bar and beside it.
                line = axes.plot([row.low, row.high], [place, place], color=INK, linewidth=0.9)[0]
                line.set_path_effects([withStroke(linewidth=2.4, foreground="#ffffff")])
        write(
            axes,
            limit * 1.02 if row.speed is not None else 0.0,
            place,
            words,
            size=SMALL_SIZE,
            color=INK if row.speed is not None else MUTED,
            va="center",
            clip_on=False,
        )


def _words(row: Row) -> str:
    """Beside the bar: the speed, and how many times as fast firstread is."""
    if row.speed is None:
        return "failed"
    speed = f"{row.speed:,.0f}" if row.speed >= 20 else f"{row.speed:.1f}"
    if row.ratio is None or row.contender == "firstread":
        return speed
    if row.contender.startswith("ceiling"):
        return f"{speed}   firstread: {row.ratio:.2f} of it"
    if row.contender == "firstread_features":
        return f"{speed}   {1 / row.ratio:,.0f} times without"
    return f"{speed}   firstread: {row.ratio:.1f} times"

"""A profile as tables and as a figure: shares of the epoch, and the stacks that they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks.speed.machine import in_words
from evaluation.figures_style import (
    BLUE,
    INK,
    LABEL_SIZE,
    MUTED,
    ORANGE,
    PAPER,
    SMALL_SIZE,
    VERMILLION,
    add_axes,
    new_figure,
)

_WIDTH, _ROW = 7.2, 0.2  # inches
_SMALLEST = 0.004  # of the epoch; narrower boxes are not drawn
_OWN = 0.25  # a box has a colour where at least this share of its time is its own
_LETTERS = 0.0105  # width of a letter, as a share of the figure
_COLOURS = (
    ("forward", BLUE),
    ("backward", "#4f9fd0"),
    ("optimiser", ORANGE),
    ("loss", "#7fb8dc"),
    ("metrics", VERMILLION),
    ("callbacks", VERMILLION),
    ("Lightning", "#9aa7b4"),
    ("augmentation", "#3f8f6b"),
    ("batch", "#6fb393"),
    ("waiting", "#c9a3c0"),
)


def as_markdown(result: dict[str, Any]) -> str:
    """Two tables: shares of the epoch by what is done, and the operators of torch that took longest."""
    about = result["case"]
    lines = [
        f"{about['title']}, {about['images']:,} images in {result['seconds']:.1f} s on {in_words(result['machine'])}; "
        f"{result['samples']:,} samples of the main thread.",
        "",
        "| in the training loop | share of the epoch |",
        "|---|---:|",
    ]
    lines += [f"| {name} | {100 * share:.1f} % |" for name, share in result["main"].items()]
    lines += [
        f"| beside it, in another thread: {name} | {100 * share:.1f} % |" for name, share in result["others"].items()
    ]
    lines += ["", "| operator | calls | own time, ms | share of all operators |", "|---|---:|---:|---:|"]
    total = sum(row["milliseconds"] for row in result["operators"]) or 1.0
    lines += [
        f"| `{row['name']}` | {row['calls']:,} | {row['milliseconds']:,.0f} | {100 * row['milliseconds'] / total:.1f} % |"
        for row in result["operators"][:12]
    ]
    return "\n".join(lines) + "\n"


@dataclass
class Box:
    """A frame of the flame graph, with what it called."""

    name: str
    count: int = 0
    inside: dict[str, Box] = field(default_factory=dict)

    def add(self, names: list[str], count: int) -> None:
        """Count a stack below this frame."""
        self.count += count
        if names:
            self.inside.setdefault(names[0], Box(names[0])).add(names[1:], count)

    def depth(self, least: float) -> int:
        """Rows that are drawn, where boxes below ``least`` samples are left out."""
        return 1 + max((box.depth(least) for box in self.inside.values() if box.count >= least), default=0)


def tree_of(stacks: dict[str, int]) -> Box:
    """The flame graph of folded stacks (``a;b;c``: count)."""
    root = Box("epoch")
    for name, count in stacks.items():
        root.add(name.split(";") if name else [], count)
    return root


def draw(result: dict[str, Any], target: Path) -> None:
    """A bar of shares above the flame graph; widths are shares of the epoch."""
    root = tree_of(result["stacks"])
    rows = root.depth(_SMALLEST * root.count)
    height = 1.8 + _ROW * rows
    about = result["case"]
    figure = new_figure(
        "Where the time of one training epoch goes",
        f"{about['title']}: {about['images'] / result['seconds']:,.0f} images/s. {in_words(result['machine'])}",
        height,
        phantom=about["phantom"],
    )
    figure.set_size_inches(_WIDTH, height)
    _bar(add_axes(figure, 0.0, height - 1.55, _WIDTH, 0.95), result["main"])
    axes = add_axes(figure, 0.0, 0.08, _WIDTH, _ROW * rows)
    axes.set(xlim=(0, 1), ylim=(rows, 0))
    _bare(axes)
    _boxes(axes, root, 0.0, 0, root.count)
    FigureCanvasAgg(figure)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=150, bbox_inches="tight", pad_inches=0.12)


def _bar(axes: Axes, parts: dict[str, float]) -> None:
    _bare(axes)
    axes.set(xlim=(0, 1), ylim=(3.4, -0.1))
    left = 0.0
    names: list[tuple[str, str]] = []
    for name, share in parts.items():
        colour = _colour(name)
        axes.barh(0.45, share, left=left, height=0.9, color=colour, edgecolor=PAPER, linewidth=0.8)
        if share >= 0.05:
            axes.text(
                left + share / 2,
                0.45,
                f"{100 * share:.0f} %",
                ha="center",
                va="center",
                fontsize=SMALL_SIZE,
                color=PAPER,
            )
        names.append((f"{name} {100 * share:.1f} %", colour))
        left += share
    x, row = 0.0, 0
    for words, colour in names:
        width = 0.02 + _LETTERS * len(words)
        if x + width > 1:
            x, row = 0.0, row + 1
        if row > 2:
            break
        axes.plot([x + 0.005], [1.5 + 0.72 * row], "s", color=colour, markersize=5)
        axes.text(x + 0.015, 1.5 + 0.72 * row, words, va="center", fontsize=SMALL_SIZE, color=INK)
        x += width


def _boxes(axes: Axes, box: Box, left: float, row: int, total: int) -> None:
    width = box.count / total
    own = box.count - sum(inner.count for inner in box.inside.values())
    colour = _colour(box.name) if own >= _OWN * box.count else _PLAIN
    axes.barh(row + 0.5, width, left=left, height=0.94, color=colour, edgecolor=PAPER, linewidth=0.6)
    room = int(width / _LETTERS) - 1
    if room >= 4:
        words = box.name if len(box.name) <= room else box.name[: room - 1] + "\u2026"
        ink = INK if colour == _PLAIN else PAPER
        axes.text(left + 0.004, row + 0.5, words, va="center", fontsize=SMALL_SIZE, color=ink)
    for inner in sorted(box.inside.values(), key=lambda item: -item.count):
        if inner.count >= _SMALLEST * total:
            _boxes(axes, inner, left, row + 1, total)
        left += inner.count / total


_PLAIN = "#e3e8ed"


def _colour(name: str) -> str:
    """By what is done; boxes of the flame graph carry names of files, which say it too."""
    kinds = {"conv": "forward", "pooling": "forward", "linear": "forward", "simple_cnn": "forward", "timm": "forward"}
    kinds |= {"batchnorm": "forward", "activation": "forward", "torchmetrics": "metrics", "batches": "batch"}
    file = name.split(".")[0]
    word = kinds.get(file, name)
    return next((colour for start, colour in _COLOURS if word.startswith(start)), _PLAIN)


def _bare(axes: Axes) -> None:
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(labelsize=LABEL_SIZE, labelcolor=MUTED)

"""One visual language for every figure of a run, and its way into a page: palette, type scale, axes, inline SVG."""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Sequence
from typing import Final, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

INK: Final = "#17212b"
MUTED: Final = "#5a6673"
GRID: Final = "#dfe4e9"
PAPER: Final = "#ffffff"
BLUE: Final = "#0072b2"  # Okabe-Ito blue: the model; negatives
ORANGE: Final = "#c07a00"  # Okabe-Ito orange, darkened to 3:1 on white: the baseline
VERMILLION: Final = "#d55e00"  # Okabe-Ito vermillion: positives; errors

VARIABLES: Final[dict[str, str]] = {
    INK: "--fig-ink",
    MUTED: "--fig-muted",
    GRID: "--fig-grid",
    PAPER: "--fig-paper",
    BLUE: "--fig-blue",
    ORANGE: "--fig-orange",
    VERMILLION: "--fig-vermillion",
}
DARK: Final[dict[str, str]] = {
    INK: "#e6ebf0",
    MUTED: "#9fabb8",
    GRID: "#2d3843",
    PAPER: "#151c23",
    BLUE: "#5bb0ea",
    ORANGE: "#e6b24a",
    VERMILLION: "#ff8b4a",
}

TITLE_SIZE: Final = 10.0  # points; the whole type scale: title, label, small
LABEL_SIZE: Final = 8.5
SMALL_SIZE: Final = 7.75
LINE: Final = 1.6
WIDTH: Final = 4.2  # inches; every figure is one column wide, so that its text stays readable on a phone

_SHARED_RULES: Final = "svg *{stroke-linejoin:round;stroke-linecap:butt}text{font-family:system-ui,sans-serif}"


def new_figure(title: str, subtitle: str, height: float, *, phantom: bool) -> Figure:
    """An empty one-column figure with its title; `height` in inches. The title of phantom data says so first."""
    figure = Figure(figsize=(WIDTH, height), facecolor=PAPER)
    heading = f"Phantom data - {title}" if phantom else title
    figure.set_label(f"{heading}. {subtitle}")
    top = 1 - 0.1 / height
    figure.text(0.0, top, heading, fontsize=TITLE_SIZE, fontweight="bold", color=INK, va="center", parse_math=False)
    below = top - 0.2 / height
    figure.text(0.0, below, subtitle, fontsize=SMALL_SIZE, color=MUTED, va="center", parse_math=False)
    return figure


def mark_leaky(figure: Figure) -> None:
    """Put LEAKY before the title of a figure of :func:`new_figure`, whose split puts a group on both sides."""
    heading = figure.texts[0]
    heading.set_text(f"LEAKY - {heading.get_text()}")
    figure.set_label(f"LEAKY - {figure.get_label()}")


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes in inches from the lower left corner: light grid, no box, quiet ticks."""
    total_width, total_height = figure.get_size_inches()
    box = (left / total_width, bottom / total_height, width / total_width, height / total_height)
    axes = figure.add_axes(box, facecolor="none")
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=4, labelsize=SMALL_SIZE, labelcolor=MUTED)
    return axes


def write(
    axes: Axes, x: float, y: float, text: str, *, size: float = LABEL_SIZE, color: str = INK, **options: object
) -> Text:
    """Text in data coordinates, taken literally: a dollar sign in a class name is no formula."""
    return axes.text(x, y, text, fontsize=size, color=color, parse_math=False, **options)  # type: ignore[arg-type]


def beside(axes: Axes, text: str, place: tuple[float, float], offset: tuple[float, float]) -> None:
    """Text at a fraction of the width and a row, moved by points; it hides the grid line that it crosses."""
    axes.annotate(
        text,
        place,
        offset,
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        fontsize=LABEL_SIZE,
        color=INK,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.4},
        parse_math=False,
    )


def axis_names(axes: Axes, x: str, y: str) -> None:
    """Name both axes; the vertical one horizontally above the axis, where it reads without turning the head."""
    axes.set_xlabel(x, fontsize=LABEL_SIZE, color=MUTED, labelpad=5, parse_math=False)
    axes.annotate(
        y,
        (0, 1),
        (0, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=LABEL_SIZE,
        color=MUTED,
        parse_math=False,
    )


def unit_square(axes: Axes) -> None:
    """Both axes from 0 to 1 with equal aspect and the same ticks, as ROC and precision-recall curves need."""
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, ["0", ".25", ".5", ".75", "1"])
    axes.set(xlim=(-0.012, 1.012), ylim=(-0.012, 1.012))
    axes.set_aspect("equal")


def legend(axes: Axes, corner: Literal["lower right", "best"]) -> None:
    """A frameless key in a corner that the curves leave empty; `best` looks for one."""
    key = axes.legend(
        loc=corner,
        fontsize=LABEL_SIZE,
        labelcolor=INK,
        facecolor=PAPER,
        edgecolor="none",
        framealpha=0.9,
        handlelength=2.1,
        labelspacing=0.55,
        borderaxespad=0.6,
    )
    for text in key.get_texts():
        text.set_parse_math(False)


def spread(positions: Sequence[float], gap: float) -> NDArray[np.float64]:
    """Move label positions apart to at least `gap`, keeping their order and their common centre.

    Neighbours that are too close form a block; a block is centred on the mean of its members' wishes.
    """
    wishes = np.asarray(positions, dtype=np.float64)
    order = np.argsort(wishes, kind="stable")
    blocks: list[list[int]] = []

    def centre(block: list[int]) -> float:
        return float(wishes[block].mean())

    for index in order:
        blocks.append([int(index)])
        while len(blocks) > 1:
            lower, upper = blocks[-2], blocks[-1]
            needed = gap * (len(lower) + len(upper)) / 2
            if centre(upper) - centre(lower) >= needed:
                break
            blocks[-2:] = [lower + upper]
    placed = np.empty_like(wishes)
    for block in blocks:
        offsets = (np.arange(len(block)) - (len(block) - 1) / 2) * gap
        placed[block] = centre(block) + offsets
    return placed


def svg(figure: Figure) -> str:
    """The figure as inline SVG for an HTML page.

    Text stays text in the page's own font, every colour of the palette becomes a CSS variable (`--fig-ink`, ...), so
    that one drawing serves light and dark mode, and ids are unique per figure. The same figure gives the same bytes.

    Returns:
        One `<svg>` element without XML header, namespaces or outside references, labelled for screen readers.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "firstread", "path.simplify": True}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    view_box = _one(r'viewBox="([^"]+)"', text)
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^\";]*(?:'[^']*'[^\";]*)*;?\s?", "", body)
    body = re.sub(r"\s*\n\s*", " ", body).replace("> <", "><").replace("xlink:href", "href")
    body = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d{2})\d+", r"\1", tag[0]), body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    body = _own_ids(body)
    label = html.escape(str(figure.get_label()), quote=True)
    return f'<svg class="chart" viewBox="{view_box}" role="img" aria-label="{label}">{body.strip()}</svg>\n'


def standalone_svg(figure: Figure) -> str:
    """The same drawing as a file of its own: namespace and colours included, light or dark as the viewer prefers."""
    light = "".join(f"{variable}:{colour};" for colour, variable in VARIABLES.items())
    dark = "".join(f"{variable}:{DARK[colour]};" for colour, variable in VARIABLES.items())
    rules = f"<style>{_SHARED_RULES}:root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}</style>"
    inline = svg(figure).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    opening = inline.index(">") + 1
    return f"{inline[:opening]}{rules}{inline[opening:]}"


def _one(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"matplotlib wrote an SVG without {pattern!r}; check the installed matplotlib version.")
    return found.group(1)


def _own_ids(body: str) -> str:
    """Drop ids that nothing refers to and prefix the others with a hash of the drawing: pages hold many figures."""
    prefix = "f" + hashlib.sha256(body.encode()).hexdigest()[:8] + "-"
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', body))
    names = {first or second for first, second in used}
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in names else "", body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", body)
    return re.sub(r'href="#([^"]+)"', rf'href="#{prefix}\1"', body)


def name_beside(axes: Axes, name: str, row: float, *, points: float = 14, size: float = SMALL_SIZE) -> None:
    """A name to the left of the axes, at a row; it may have several lines.

    Args:
        points: between name and axes. ``size``: of the letters, in points.
    """
    axes.annotate(
        name,
        (0, row),
        (-points, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=size,
        linespacing=0.95,
        color=INK,
        parse_math=False,
    )

"""Reliability diagrams: what share of the images with a score turned out positive, and how many images there were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from evaluation.calibration_bins import equal_mass
from evaluation.figures_style import (
    BLUE,
    LINE,
    MUTED,
    ORANGE,
    PAPER,
    SMALL_SIZE,
    VERMILLION,
    add_axes,
    axis_names,
    legend,
    new_figure,
    unit_square,
    write,
)
from evaluation.intervals import wilson

_HEIGHT: Final = 5.5
_BARS: Final = 20

Row = Mapping[str, Any]


def reliability(
    labels: NDArray[np.uint8],
    scores: NDArray[np.float64],
    *,
    title: str = "Reliability",
    phantom: bool = False,
    bins: int = 10,
) -> Figure:
    """One reliability diagram with the scores beneath it; intervals are Wilson's, which take images as independent.

    Args:
        labels: shape (n,), 1 = positive; n at least 1. ``scores``: shape (n,), in [0, 1].
        bins: wanted number of equally filled bins.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    held = equal_mass(labels, scores, bins)
    rows = []
    for n, mean, rate in zip(held.n.tolist(), held.mean.tolist(), held.rate.tolist(), strict=True):
        low, high = wilson(rate * n, n)
        rows.append({"n": n, "mean": mean, "rate": rate, "rate_low": low, "rate_high": high})
    places = np.minimum((scores * _BARS).astype(np.int64), _BARS - 1)
    counts = [np.bincount(places[labels == side], minlength=_BARS).tolist() for side in (0, 1)]
    figure = new_figure(title, f"{len(rows)} equally filled bins; line: 95 % interval", _HEIGHT, phantom=phantom)
    _diagram(figure, [("scores", rows, BLUE, "o")], counts)
    return figure


def calibration_figure(metrics: Mapping[str, Any], phantom: bool = False) -> Figure:
    """Reliability on test, raw and recalibrated, with the histogram of the raw scores.

    Args:
        metrics: metrics.json with its part ``calibration``.
    """
    test = metrics["calibration"]["splits"]["test"]
    raw, again = test["raw"], test["recalibrated"]
    series = [("raw", raw["bins"], BLUE, "o")]
    moved = again is not None and metrics["calibration"]["calibrator"]["method"] != "none"
    if moved:
        series.append(("recalibrated on validation", again["bins"], ORANGE, "s"))
    level = f"{100 * float(metrics.get('confidence', 0.95)):g}"
    subtitle = f"{len(raw['bins'])} equally filled bins; line: {level} % interval"
    figure = new_figure("Reliability on test", subtitle, _HEIGHT, phantom=phantom)
    _diagram(figure, series, [raw["histogram"]["negative"], raw["histogram"]["positive"]])
    return figure


def _diagram(
    figure: Figure, series: Sequence[tuple[str, Sequence[Row], str, str]], counts: Sequence[Sequence[int]]
) -> None:
    axes = add_axes(figure, 0.36, 1.5, 3.3, 3.3)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), label="perfect", zorder=1)
    for name, rows, color, marker in series:
        means, rates = [row["mean"] for row in rows], [row["rate"] for row in rows]
        for row in rows:
            if row["rate_low"] is not None:
                ends = [row["rate_low"], row["rate_high"]]
                axes.plot([row["mean"]] * 2, ends, color=color, linewidth=2.6, alpha=0.35, zorder=2)
        axes.plot(means, rates, color=color, linewidth=LINE - 0.8, zorder=3)
        dots: dict[str, Any] = {"marker": marker, "markersize": 5.5, "markeredgecolor": PAPER, "linestyle": "none"}
        axes.plot(means, rates, color=color, label=name, zorder=4, **dots)
    unit_square(axes)
    axis_names(axes, "", "share that is positive")
    axes.tick_params(labelbottom=False)
    legend(axes, "best")
    _histogram(add_axes(figure, 0.36, 0.44, 3.3, 0.86), counts)


def _histogram(axes: Axes, counts: Sequence[Sequence[int]]) -> None:
    """Images by score, one class above the other; the counts of the two ends are written out."""
    edges = np.linspace(0.0, 1.0, len(counts[0]) + 1)
    negative, positive = (np.asarray(side, dtype=np.float64) for side in counts)
    total = negative + positive
    axes.stairs(negative, edges, fill=True, color=BLUE, alpha=0.38, linewidth=0)
    axes.stairs(total, edges, baseline=negative, fill=True, color=VERMILLION, alpha=0.7, linewidth=0)
    top = max(float(total.max()), 1.0) * 1.22
    axes.set(xlim=(-0.012, 1.012), ylim=(0, top))
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    axes.set_xticks(ticks, ["0", ".25", ".5", ".75", "1"])
    axes.set_yticks([])
    axes.grid(visible=False)
    for place, ha in ((0, "left"), (len(total) - 1, "right")):
        x = 0.0 if ha == "left" else 1.0
        write(axes, x, total[place] + 0.03 * top, f"{int(total[place]):,}", size=SMALL_SIZE, color=MUTED, ha=ha)
    axis_names(axes, "score", "")

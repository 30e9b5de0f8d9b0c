"""What every threshold would do: recall, specificity and F1 against the threshold."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from evaluation.figures_curves import cumulative_counts
from evaluation.figures_style import (
    BLUE,
    INK,
    LINE,
    MUTED,
    ORANGE,
    SMALL_SIZE,
    VERMILLION,
    add_axes,
    axis_names,
    legend,
    new_figure,
)
from evaluation.wording import short

_POINTS: Final = 401
_LIMIT: Final = 10.0  # logits beyond it are drawn at the edge, as in the score histograms
_NARROW: Final = 5.0  # of a span below it, finer ticks are written
_WIDE_TICKS: Final = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
_FINE_TICKS: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def threshold_sweep(
    labels: NDArray[np.uint8],
    scores: NDArray[np.float64],
    threshold: float,
    *,
    title: str = "Threshold sweep",
    phantom: bool = False,
) -> Figure:
    """Recall, specificity and F1 of images against the threshold, with the locked threshold marked.

    The axis of the threshold is the logit, as in the score histograms, over the range of the scores: a certified threshold
    often lies close to 0.

    Args:
        labels: (n,) 1 for the positive class, 0 otherwise; both must occur.
        scores: (n,) probability of the positive class in [0, 1].
        threshold: the locked one, in [0, 1]; positive if and only if score >= threshold. NaN before there is one.
        title: of the figure. ``phantom``: generated data, which the title says.

    Raises:
        ValueError: A class is absent.
    """
    known = bool(np.isfinite(threshold))
    places = _places(np.append(scores, threshold) if known else scores)
    rates = rates_at(labels, scores, 1 / (1 + np.exp(-places)))
    figure = new_figure(title, _subtitle(labels, scores, threshold), 3.3, phantom=phantom)
    axes = add_axes(figure, 0.36, 0.44, 3.7, 2.2)
    styles = {"recall": (VERMILLION, "-"), "specificity": (BLUE, (0, (4, 2))), "F1": (ORANGE, (0, (1, 1.2)))}
    for name, (colour, line) in styles.items():
        axes.plot(places, rates[name], color=colour, linestyle=line, linewidth=LINE, label=name, zorder=3)
    axes.axvline(0.0, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    if known:
        _mark(axes, float(_logit(np.array([threshold]))[0]), threshold, places)
    pad = 0.015 * (places[-1] - places[0])
    axes.set(xlim=(places[0] - pad, places[-1] + pad), ylim=(-0.012, 1.03))
    chosen = _WIDE_TICKS if places[-1] - places[0] > _NARROW else _FINE_TICKS
    ticks = [
        (place, f"{value:g}") for value in chosen if places[0] <= (place := np.log(value / (1 - value))) <= places[-1]
    ]
    axes.xaxis.set_ticks([place for place, _ in ticks], [text for _, text in ticks])
    axes.yaxis.set_ticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0", ".25", ".5", ".75", "1"])
    axis_names(axes, "threshold (logit scale)", "share")
    legend(axes, "best")
    return figure


def rates_at(
    labels: NDArray[np.uint8], scores: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """``recall``, ``specificity`` and ``F1`` at each threshold, each of the shape of ``thresholds``.

    Args:
        labels, scores: as in :func:`threshold_sweep`. ``thresholds``: in any order; positive if score >= threshold.

    Raises:
        ValueError: A class is absent.
    """
    true, false = cumulative_counts(labels, scores)
    levels = np.unique(scores)[::-1]  # true[k] and false[k] count what is at or above the k highest distinct scores
    above = np.searchsorted(-levels, -np.asarray(thresholds, dtype=np.float64), side="right")
    tp, fp = true[above], false[above]
    return {
        "recall": tp / true[-1],
        "specificity": 1.0 - fp / false[-1],
        "F1": 2 * tp / (tp + fp + true[-1]),  # 2 TP / (2 TP + FP + FN); the positives are TP + FN
    }


def _places(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits from the lowest score to the highest, at least from 0.27 to 0.73."""
    ends = _logit(np.array([scores.min(), scores.max()]))
    return np.linspace(min(float(ends[0]), -1.0), max(float(ends[1]), 1.0), _POINTS)


def _logit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    edge = 1 / (1 + np.exp(_LIMIT))
    inside = np.clip(values, edge, 1 - edge)
    return np.log(inside / (1 - inside))


def _mark(axes: Axes, place: float, threshold: float, places: NDArray[np.float64]) -> None:
    """A line at the locked threshold, with its value on the side where there is room."""
    right = place < places[0] + 0.6 * (places[-1] - places[0])
    axes.axvline(place, color=INK, linewidth=1.1, zorder=2)
    axes.annotate(
        f"locked {short(threshold)}",
        (place, 1),
        (4 if right else -4, 3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="left" if right else "right",
        va="bottom",
        fontsize=SMALL_SIZE,
        color=INK,
        parse_math=False,
    )


def _subtitle(labels: NDArray[np.uint8], scores: NDArray[np.float64], threshold: float) -> str:
    """The numbers at the locked threshold, so that nobody has to read them off the lines."""
    if not np.isfinite(threshold):
        return "Images; dotted line: 0.5"
    here = {name: float(values[0]) for name, values in rates_at(labels, scores, np.array([threshold])).items()}
    return "Images; at the locked threshold " + ", ".join(f"{name} {value:.3f}" for name, value in here.items())

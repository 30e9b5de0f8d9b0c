"""Does a rule keep the recall that it promises? Many validation sets, with the true recall of every threshold known exactly.

python benchmarks/certified_recall.py [FIGURE.png]

Scores of positive groups are normal with mean 2 and sd 1, those of negative groups with mean 0 (AUROC 0.921), so that the true
recall of a threshold t is P(N(2, 1) >= t) and its false positive rate P(N(0, 1) >= t). Rules see n positive scores and must
keep a recall of 0.95.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from evaluation.group_scores import ValidationScores
from evaluation.intervals import wilson
from evaluation.rules import Infeasible, Request, choose

RECALL, CONFIDENCE, SEPARATION = 0.95, 0.95, 2.0
RULES = ("certified", "wilson", "crc", "empirical")
SIZES = (50, 100, 300)
DRAWS = 2000
Floats = NDArray[np.float64]


def simulate(
    n: int, draws: int = DRAWS, seed: int = 0, rules: Sequence[str] = RULES
) -> dict[str, dict[str, Any] | None]:
    """What each rule does on ``draws`` validation sets of n positive groups; None for a rule that n makes infeasible.

    Returns:
        By rule: ``misses`` (allowed), ``recall`` and ``fpr`` (true ones of each draw, shape (draws,)), ``kept`` (share of
        draws with a true recall of at least the target).
    """
    ordered = np.sort(np.random.default_rng([seed, n]).normal(SEPARATION, 1.0, (draws, n)), axis=1)
    found: dict[str, dict[str, Any] | None] = {}
    for rule in rules:
        try:
            chosen = [_threshold(rule, scores) for scores in ordered]
        except Infeasible:
            found[rule] = None
            continue
        thresholds = np.array([threshold for threshold, _ in chosen])
        recall = norm.sf(thresholds - SEPARATION)
        found[rule] = {
            "misses": chosen[0][1],
            "recall": recall,
            "fpr": norm.sf(thresholds),
            "kept": float((recall >= RECALL).mean()),
        }
    return found


def _threshold(rule: str, scores: Floats) -> tuple[float, int]:
    if rule == "wilson":
        misses = wilson_misses(len(scores))
        return float(scores[misses]), misses
    none = np.empty(0)
    held = ValidationScores(scores, none, scores, none, "positive", "negative", "group")
    choice = choose(rule, held, Request(rule, RECALL, CONFIDENCE))
    return choice.threshold, choice.misses


@functools.cache
def wilson_misses(n: int) -> int:
    """The most misses of n at which the one-sided Wilson bound, an approximation, still says 0.95.

    Raises:
        Infeasible: not even without a miss.
    """
    enough = [m for m in range(n) if wilson(n - m, n, 2 * CONFIDENCE - 1)[0] >= RECALL]
    if not enough:
        raise Infeasible("The Wilson bound of no miss is too low.", "Take more groups.", n, None, 0.0)
    return max(enough)


def table(results: Mapping[int, Mapping[str, dict[str, Any] | None]]) -> str:
    """The results in Markdown."""
    lines = [
        "| positive groups | rule | misses allowed | mean recall | draws with recall >= 0.95 | mean false positive rate |",
        "|---|---|---|---|---|---|",
    ]
    for n, rules in results.items():
        for rule, held in rules.items():
            if held is None:
                lines.append(f"| {n} | {rule} | infeasible | | | |")
                continue
            figures = f"{held['recall'].mean():.3f} | {100 * held['kept']:.1f} % | {held['fpr'].mean():.3f}"
            lines.append(f"| {n} | {rule} | {held['misses']} | {figures} |")
    return "\n".join(lines)


def draw(target: Path, results: Mapping[int, Mapping[str, dict[str, Any] | None]]) -> None:
    """The spread of the true recall: a line from the 5 % to the 95 % quantile, a dot at the mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from evaluation.figures_style import BLUE, GRID, INK, LABEL_SIZE, MUTED, TITLE_SIZE, VERMILLION

    shown = [(n, rule, held) for n, rules in results.items() for rule, held in rules.items() if rule != "wilson"]
    figure, axis = plt.subplots(figsize=(7.2, 0.34 * len(shown) + 1.0), layout="constrained")
    axis.axvline(RECALL, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    names = []
    for row, (n, rule, held) in enumerate(shown):
        names.append(f"{rule}, n = {n}")
        if held is None:
            axis.text(
                RECALL + 0.002, row, "infeasible: at least 59 needed", va="center", fontsize=LABEL_SIZE, color=MUTED
            )
            continue
        low, high = np.quantile(held["recall"], [0.05, 0.95])
        colour = BLUE if rule == "certified" else VERMILLION if rule == "empirical" else MUTED
        axis.plot([low, high], [row, row], color=colour, linewidth=2.4, solid_capstyle="butt")
        axis.plot(held["recall"].mean(), row, "o", color=colour, markersize=6)
        axis.text(1.004, row, f"{100 * held['kept']:.0f} % keep it", va="center", fontsize=LABEL_SIZE, color=INK)
    axis.set_yticks(range(len(shown)), names, fontsize=LABEL_SIZE, color=INK)
    axis.set_ylim(len(shown) - 0.5, -0.5)
    axis.set_xlim(0.872, 1.032)
    axis.set_xticks([0.88, 0.90, 0.92, 0.94, 0.95, 0.96, 0.98, 1.0])
    axis.tick_params(length=0, labelsize=LABEL_SIZE, labelcolor=MUTED)
    axis.grid(axis="x", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("true recall of the chosen threshold: 5 % to 95 % of draws, mean", fontsize=LABEL_SIZE, color=MUTED)
    axis.set_title(
        f"How often a threshold keeps a recall of {RECALL:g}: {DRAWS:,} validation sets each",
        fontsize=TITLE_SIZE,
        fontweight="bold",
        color=INK,
        loc="left",
    )
    figure.savefig(target, dpi=150)
    plt.close(figure)


def main(target: Path | None = None) -> None:
    """Print the table; draw the figure if a file is named."""
    results = {n: simulate(n) for n in SIZES}
    print(f"{DRAWS:,} draws, binormal scores with d' = {SEPARATION:g}, confidence {CONFIDENCE:g}\n")
    print(table(results))
    if target is not None:
        draw(target, results)
        print(f"\nfigure: {target}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)

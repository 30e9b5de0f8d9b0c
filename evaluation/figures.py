"""The figures of a run: pure functions from numbers to a matplotlib `Figure` (object interface, nothing global).

Every function takes `phantom`: true for generated data, whose figures say so in their title.
"""

from __future__ import annotations

from evaluation.figures_classes import class_dots, confusion_matrix
from evaluation.figures_curves import Curve, learning_curves, precision_recall, roc
from evaluation.figures_decisions import confusion, confusion_pair, score_histogram
from evaluation.figures_intervals import Estimate, SlopePanel, auroc_forest, shift_slope
from evaluation.figures_style import mark_leaky, standalone_svg, svg

__all__ = [
    "Curve",
    "Estimate",
    "SlopePanel",
    "auroc_forest",
    "class_dots",
    "confusion",
    "confusion_matrix",
    "confusion_pair",
    "learning_curves",
    "mark_leaky",
    "precision_recall",
    "roc",
    "score_histogram",
    "shift_slope",
    "standalone_svg",
    "svg",
]

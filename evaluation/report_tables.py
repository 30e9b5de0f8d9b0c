"""The numbers of the curves and of the score histograms as tables, for everyone who cannot read them off a picture."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from evaluation.predictions import Predictions
from evaluation.report_files import RunFiles
from evaluation.report_parts import baseline_called
from evaluation.wording import short

_LEVELS: Final = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
_EDGES: Final = (0.0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)


def curve_tables(run: RunFiles) -> list[dict[str, Any]]:
    """One table a curve: ``name`` and ``rows`` as of :func:`operating_points`; none for a set of one class only."""
    cut, baseline = float(run.threshold["threshold"]), baseline_called(run.metrics)
    sources: list[tuple[str, str, tuple[float, ...]]] = [
        ("test", "Test", (cut, 0.5)),
        ("val", "Validation", (cut, 0.5)),
        ("baseline_test", f"{baseline[:1].upper()}{baseline[1:]}, test", ()),  # it has a threshold of its own
    ]
    tables = []
    for key, name, cuts in sources:
        held = run.scores.get(key)
        if held is not None and 0 < held.labels.sum() < len(held):
            tables.append({"name": name, "rows": operating_points(held, cuts)})
    return tables


def operating_points(predictions: Predictions, cuts: tuple[float, ...] = ()) -> list[dict[str, Any]]:
    """Points of the curves, the highest threshold first.

    Args:
        predictions: images of both classes.
        cuts: thresholds that have a row in any case; the first one is marked ``chosen``.

    Returns:
        ``threshold``, ``sensitivity``, ``specificity`` and ``ppv`` (None where nothing is called positive) at the cuts and
        at the highest threshold that finds 20, 40, ... 100 % of the positive images.
    """
    positive = np.sort(predictions.scores[predictions.labels == 1])
    negative = np.sort(predictions.scores[predictions.labels == 0])
    # The small amount undoes a product such as 0.95 * 40 that lies above its whole number.
    wanted = {float(positive[-math.ceil(level * len(positive) - 1e-9)]) for level in _LEVELS}
    rows = []
    for threshold in sorted(wanted | set(cuts), reverse=True):
        tp = len(positive) - int(np.searchsorted(positive, threshold, side="left"))
        fp = len(negative) - int(np.searchsorted(negative, threshold, side="left"))
        rows.append(
            {
                "threshold": threshold,
                "sensitivity": tp / len(positive),
                "specificity": 1.0 - fp / len(negative),
                "ppv": tp / (tp + fp) if tp + fp else None,
                "chosen": threshold == next(iter(cuts), None),
            }
        )
    return rows


def score_table(run: RunFiles) -> dict[str, Any]:
    """Images by score and class, with the threshold among the edges, so that the rows of each side add up to the decisions.

    Returns:
        ``parts`` (test, then validation where it is there), ``rows``: ``range``, ``alarm`` (at or above the threshold) and
        ``counts``, for each part the positive and the negative images; empty ranges are left out. ``totals``: the same sums.
    """
    cut = float(run.threshold["threshold"])
    edges = sorted({*_EDGES, *([cut] if 0.0 < cut < 1.0 else [])})
    named = [f"{edge:g}" if edge in _EDGES else short(edge) for edge in edges]
    held = {name: run.scores[key] for key, name in (("test", "Test"), ("val", "Validation")) if key in run.scores}
    columns = [np.histogram(part.scores[part.labels == label], edges)[0] for part in held.values() for label in (1, 0)]
    rows = []
    for number in range(len(edges) - 1):
        counts = [int(column[number]) for column in columns]
        if any(counts):
            text = f"{named[number]}\u2013{named[number + 1]}"
            rows.append({"range": text, "alarm": edges[number] >= cut, "counts": counts})
    return {"parts": list(held), "rows": rows, "totals": [int(column.sum()) for column in columns]}

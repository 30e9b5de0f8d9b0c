"""The same figures with one score and one label for each group: did the model find the patient, not the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import Bootstrap, Resampling, bootstrap
from evaluation.intervals import auroc_interval, with_width
from evaluation.metrics import BETA
from evaluation.predictions import Predictions
from evaluation.rate_intervals import intervals_at


def one_per_group(predictions: Predictions, score: str = "max") -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Label and score of each group, both of shape (number of groups,), in the order of the group names.

    A group is positive if any of its images is.

    Args:
        score: ``max``: flagged if any image is; ``min``: flagged only if all are. Of all its images, whatever their label.

    Raises:
        ValueError: another way to score a group.
    """
    if score not in ("max", "min"):
        raise ValueError(f"group score is {score!r}; expected max or min.")
    n = len(predictions.group_names)
    labels = (np.bincount(predictions.groups, weights=predictions.labels, minlength=n) > 0).astype(np.uint8)
    scores = np.full(n, -np.inf if score == "max" else np.inf)
    (np.maximum if score == "max" else np.minimum).at(scores, predictions.groups, predictions.scores)
    return labels, scores


def group_level_of(
    predictions: Predictions,
    thresholds: Mapping[str, float],
    how: Resampling,
    score: str = "max",
    beta: float = BETA,
) -> tuple[dict[str, Any] | None, Bootstrap | None]:
    """The ``groups`` part of a split in metrics.json, and the draws behind it.

    Args:
        thresholds: by name, those of the images. ``score``: as in :func:`one_per_group`.

    Returns:
        None and None where every image is a group of its own. Else ``n`` groups, ``n_positive``, ``score``, intervals of
        ``auroc``, ``average_precision`` and ``brier``, and for each threshold counts and rates of groups. The groups are
        independent of each other, so that proportions have Wilson's interval.
    """
    n = len(predictions.group_names)
    if n == len(predictions):
        return None, None
    labels, scores = one_per_group(predictions, score)
    units = np.arange(n, dtype=np.int64)
    resampled = bootstrap(labels, scores, units, thresholds, how.resamples, how.seed, interval=how.interval, beta=beta)
    fewest = min(count for count in (int(labels.sum()), int(n - labels.sum())) if count)
    summary: dict[str, Any] = {"n": n, "n_positive": int(labels.sum()), "score": score}
    summary["auroc"] = auroc_interval(resampled.interval("auroc", how.confidence), fewest, how.confidence).to_dict()
    for name in ("average_precision", "brier"):
        summary[name] = with_width(resampled.interval(name, how.confidence), fewest).to_dict()
    for name, threshold in thresholds.items():
        rates = intervals_at(labels, scores, units, resampled, name, threshold, how.confidence)
        summary[name] = {
            "threshold": float(threshold),
            **asdict(resampled.counts[name]),
            **{rate: interval.to_dict() for rate, interval in rates.items()},
        }
    return summary, resampled

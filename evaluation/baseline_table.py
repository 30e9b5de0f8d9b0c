"""The model beside several baselines: the ``baseline`` and ``baselines`` parts of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from evaluation.baselines import BASELINES, TITLES
from evaluation.bootstrap import Resampling, difference_interval
from evaluation.comparison import argmax_differences, argmax_text, baseline_of, baseline_sentence
from evaluation.intervals import difference_of_shown
from evaluation.metrics import auroc
from evaluation.predictions import Predictions
from evaluation.split_summary import Judged, judge
from evaluation.subgroups import HALF, LOCKED
from evaluation.threshold import OperatingPoint, choose_operating_point

# As figures and tables call them, and as a sentence on what the model did not beat does.
SHORT: Final[dict[str, str]] = {
    "majority": "constant answer",
    "thumbnail": "thumbnails",
    "metadata": "metadata alone",
    "hog_svm": "HOG and SVM",
    "features": "frozen features",
}
BEYOND: Final[dict[str, str]] = {
    "majority": "a constant answer",
    "thumbnail": "a thumbnail baseline",
    "metadata": "the metadata alone",
    "hog_svm": "a HOG and SVM baseline",
    "features": "the features of a frozen network",
}
_NO_ENDS: Final[dict[str, Any]] = {"low": None, "high": None}
Pair = tuple[Predictions, Predictions]
"""Predictions of one baseline on validation and on test."""


def compare_with_baselines(
    model: Judged, baselines: Mapping[str, Pair], point: OperatingPoint, how: Mapping[str, Resampling]
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Judge every baseline like the model.

    Args:
        model: on test.
        baselines: by name; images in any order. Each gets a threshold of its own, chosen on validation by the rule that the
            model's was asked to follow.
        point: the model's operating point.
        how: of ``val`` and ``test``; the model's own, so that differences are paired.

    Returns:
        ``baseline``: the thumbnail baseline in full, or without it the one with the highest AUROC on validation; None without
        any. ``baselines``: one row each, in the order of ``BASELINES``: ``name``, ``title``, figures on test, the paired
        difference of the model to it, ``clears`` (that interval lies above 0), ``best`` (highest AUROC on validation, where
        the choice costs nothing), ``constant`` (one score for all images: AUROC is 0.5 by definition and has no interval).
    """
    if not baselines:
        return None, []
    names = sorted(baselines, key=lambda name: (BASELINES.index(name) if name in BASELINES else len(BASELINES), name))
    before = {name: auroc(baselines[name][0].labels, baselines[name][0].scores) for name in names}
    best = max(names, key=lambda name: -1.0 if np.isnan(before[name]) else before[name])
    headline = "thumbnail" if "thumbnail" in baselines else best
    confidence = how["test"].confidence
    rows: list[dict[str, Any]] = []
    full: dict[str, Any] | None = None
    for name in names:
        val, test = baselines[name]
        own = _point_of(val, point)
        held = _judged(_in_order(test, model.predictions), own, how["test"])
        row = _row(name, model, held, confidence)
        value = before[name]
        rows.append({**row, "val_auroc": None if np.isnan(value) else float(value), "best": name == best})
        if name == headline:
            title = TITLES.get(name, name)
            full = {"key": name, **baseline_of(model, _judged(val, own, how["val"]), held, confidence, title)}
    return full, rows


def _point_of(val: Predictions, point: OperatingPoint) -> OperatingPoint:
    return choose_operating_point(val, **point.rule_arguments(), selection_optimistic=False)


def _judged(predictions: Predictions, point: OperatingPoint, how: Resampling) -> Judged:
    """As :func:`judge`; the AUROC of a constant score loses its interval, which has no width and would look like certainty."""
    held = judge(predictions, point, how, full=False)
    if not _is_constant(predictions):
        return held
    return replace(held, summary={**held.summary, "auroc": {**held.summary["auroc"], **_NO_ENDS}})


def _is_constant(predictions: Predictions) -> bool:
    return bool((np.ptp(predictions.probabilities, axis=0) == 0.0).all())


def _row(name: str, model: Judged, held: Judged, confidence: float) -> dict[str, Any]:
    several = held.summary.get("multiclass") or {}
    # The most probable class: for two classes the one with at least 0.5.
    decided = several or held.summary[HALF]
    difference = difference_interval("auroc", model.resampled, held.resampled, confidence).to_dict()
    if model.summary["auroc"]["low"] is None:
        difference |= _NO_ENDS
    elif held.summary["auroc"]["low"] is not None:
        difference = difference_of_shown(difference, model.summary["auroc"], held.summary["auroc"])
    title = TITLES.get(name, name)
    names = ("balanced_accuracy", "macro_auroc") if several else ("balanced_accuracy",)
    constant, argmax = _is_constant(held.predictions), argmax_differences(model, held, confidence)
    return {
        "name": name,
        "title": title,
        "short": SHORT.get(name, name),
        "auroc": held.summary["auroc"],
        "accuracy": decided["accuracy"],
        **{key: {**decided[key], **(_NO_ENDS if constant else {})} for key in names},
        "sensitivity": held.summary[LOCKED]["sensitivity"],
        "specificity": held.summary[LOCKED]["specificity"],
        "difference": {"auroc": difference, **argmax},
        "clears": difference["low"] is not None and difference["low"] > 0,
        "constant": constant,
        "sentence": baseline_sentence(model.summary["auroc"], held.summary["auroc"], difference, title),
        **argmax_text(model, held, argmax),
    }


def _in_order(predictions: Predictions, like: Predictions) -> Predictions:
    """The same images in the order of ``like``."""
    frame = predictions.frame.set_index("image_id", drop=False).loc[like.frame["image_id"]].reset_index(drop=True)
    return predictions.with_frame(frame)

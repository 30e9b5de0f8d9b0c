"""From predictions and an operating point to metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import pandas as pd

from evaluation.baseline_table import Pair, compare_with_baselines
from evaluation.bootstrap import Resampling
from evaluation.comparison import promise_of, shift_of
from evaluation.intervals import format_interval
from evaluation.predictions import REQUIRED, Predictions
from evaluation.split_summary import judge
from evaluation.threshold import OperatingPoint
from evaluation.worries import worries_of

__all__ = ["SCHEMA", "evaluate_run", "format_interval"]

SCHEMA: Final = 1
TEST_KINDS: Final = ("official", "cut")


def evaluate_run(
    val: Predictions,
    test: Predictions,
    operating_point: OperatingPoint,
    *,
    baselines: Mapping[str, Pair] = MappingProxyType({}),
    domain_aucs: Mapping[str, float | None],
    title: str,
    task: str,
    model: str,
    phantom: bool,
    group_name: str = "group",
    bootstrap: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    subgroup_columns: Sequence[str] = (),
    test_kind: str = "official",
    leak: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that a run's predictions say, as plain values for JSON: None where a number is not defined, never NaN.

    Args:
        val, test: the model's predictions; no image may be in both.
        operating_point: fixed on ``val``. It is only applied here.
        baselines: for each baseline by its name (``thumbnail``, ``majority``, ...) its predictions on validation and on test,
            of the same images in any order.
        domain_aucs: for each class, AUROC of telling its test images from its training images, or None.
        title, task, model: for the report.
        phantom: whether the images were generated.
        group_name: what a group is called: patient, lesion.
        bootstrap: resamples for each interval. ``confidence``: of the intervals. ``seed``: of the resamples.
        subgroup_columns: columns of the predictions whose values are reported apart.
        test_kind: ``official`` (the data set's own test part) or ``cut`` (taken from the data by group).
        leak: of a split that ignores groups on purpose: ``grouping``, ``test_images``, ``test_images_with_group_in_train``,
            ``share`` (0 to 1) and ``unit`` (lesion, patient). It becomes the first alarm.

    Returns:
        The content of metrics.json. Where there are more than two classes, each split has a part ``multiclass``, see
        :func:`evaluation.multiclass.multiclass_of`; everything else is of the positive classes against the rest.

    Raises:
        ValueError: the predictions do not belong together, or a value is outside its range.
    """
    if test_kind not in TEST_KINDS:
        raise ValueError(f"test_kind is {test_kind!r}; expected one of {list(TEST_KINDS)}.")
    _check_classes([val, test, *(part for pair in baselines.values() for part in pair)], operating_point)
    _check_images(val, test, baselines)
    # Seeds apart for each split, because differences between splits take their resamples as independent.
    how = {side: Resampling(bootstrap, confidence, (seed, number)) for number, side in enumerate(("val", "test"))}
    parts = {"val": val, "test": test}
    sides = {name: judge(part, operating_point, how[name], subgroup_columns) for name, part in parts.items()}
    baseline, rows = compare_with_baselines(sides["test"], baselines, operating_point, how)
    metrics: dict[str, Any] = {
        **{"schema": SCHEMA, "title": title, "phantom": bool(phantom), "task": task, "model": model},
        **_names(test, group_name),
        "test_kind": test_kind,
        "leak": None if leak is None else dict(leak),
        "confidence": float(confidence),
        "bootstrap": {"resamples": int(bootstrap), "unit": group_name, "method": "percentile", "seed": int(seed)},
        "threshold": operating_point.to_dict(),
        "splits": {name: side.summary for name, side in sides.items()},
        "shift": shift_of(sides["val"], sides["test"], domain_aucs, confidence, cut=test_kind == "cut"),
        "baseline": baseline,
        "baselines": rows,
        "promise": promise_of(operating_point, sides["test"], group_name),
    }
    metrics["worries"] = worries_of(metrics, sides["val"], sides["test"])
    return metrics


def _names(predictions: Predictions, group_name: str) -> dict[str, Any]:
    return {
        "classes": list(predictions.classes),
        "positive_class": predictions.positive_class,
        "negative_class": predictions.negative_class,
        "positive": list(predictions.positive),
        "group_name": group_name,
    }


def _check_classes(parts: Sequence[Predictions], point: OperatingPoint) -> None:
    for part in parts:
        found = (part.classes, part.positive, part.positive_class)
        if found != (parts[0].classes, parts[0].positive, point.positive_class):
            raise ValueError(
                f"predictions are of classes {list(part.classes)} with {list(part.positive)} positive, called "
                f"{part.positive_class!r}; expected {list(parts[0].classes)} with {point.positive_class!r}, as the "
                "threshold was chosen for."
            )


def _check_images(val: Predictions, test: Predictions, baselines: Mapping[str, Pair]) -> None:
    shared = set(val.frame["image_id"]) & set(test.frame["image_id"])
    if shared:
        first = min(str(name) for name in shared)
        raise ValueError(f"{len(shared)} images are on validation and on test, first {first!r}. Split again by group.")
    for name, pair in baselines.items():
        for part, ours, theirs in zip(("val", "test"), (val, test), pair, strict=True):
            if not _identities(ours).equals(_identities(theirs)):
                raise ValueError(
                    f"the {part} predictions of baseline {name} are not of the model's images: {len(theirs)} rows and "
                    f"{len(ours)}, or other groups or labels. Score the baseline on the same split."
                )


def _identities(predictions: Predictions) -> pd.DataFrame:
    return predictions.frame[list(REQUIRED)].astype(str).sort_values("image_id").reset_index(drop=True)

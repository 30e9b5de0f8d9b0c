"""From predictions and an operating point to metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from evaluation.bootstrap import Resampling
from evaluation.comparison import baseline_of, promise_of, shift_of
from evaluation.intervals import format_interval
from evaluation.predictions import REQUIRED, Predictions
from evaluation.split_summary import Judged, judge
from evaluation.threshold import OperatingPoint, choose_operating_point
from evaluation.worries import worries_of

__all__ = ["SCHEMA", "evaluate_run", "format_interval"]

SCHEMA: Final = 1
TEST_KINDS: Final = ("official", "cut")


def evaluate_run(
    val: Predictions,
    test: Predictions,
    operating_point: OperatingPoint,
    *,
    baseline_val: Predictions | None,
    baseline_test: Predictions | None,
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
        baseline_val, baseline_test: the thumbnail baseline on the same images, in any order; both or neither.
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
    _check_classes([val, test, baseline_val, baseline_test], operating_point)
    _check_images(val, test, baseline_val, baseline_test)
    # Seeds apart for each split, because differences between splits take their resamples as independent.
    how = {side: Resampling(bootstrap, confidence, (seed, number)) for number, side in enumerate(("val", "test"))}
    parts = {"val": val, "test": test}
    sides = {name: judge(part, operating_point, how[name], subgroup_columns) for name, part in parts.items()}
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
        "baseline": _baseline(sides["test"], baseline_val, baseline_test, operating_point, how),
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


def _baseline(
    model: Judged,
    val: Predictions | None,
    test: Predictions | None,
    point: OperatingPoint,
    how: Mapping[str, Resampling],
) -> dict[str, Any] | None:
    """The baseline at a threshold of its own, chosen on validation by the rule that the model's was asked to follow."""
    if val is None or test is None:
        return None
    own = choose_operating_point(
        val,
        rule=point.requested_rule,
        recall=point.target_recall,
        confidence=point.confidence,
        group_score=point.group_score,
        fixed=point.threshold if point.requested_rule == "fixed" else 0.5,
        selection_optimistic=False,
    )
    sides = [judge(part, own, how[name]) for name, part in (("val", val), ("test", _in_order(test, model.predictions)))]
    return baseline_of(model, sides[0], sides[1], how["test"].confidence)


def _in_order(predictions: Predictions, like: Predictions) -> Predictions:
    """The same images in the order of ``like``."""
    frame = predictions.frame.set_index("image_id", drop=False).loc[like.frame["image_id"]].reset_index(drop=True)
    return predictions.with_frame(frame)


def _check_classes(parts: Sequence[Predictions | None], point: OperatingPoint) -> None:
    given = [part for part in parts if part is not None]
    for part in given:
        found = (part.classes, part.positive, part.positive_class)
        if found != (given[0].classes, given[0].positive, point.positive_class):
            raise ValueError(
                f"predictions are of classes {list(part.classes)} with {list(part.positive)} positive, called "
                f"{part.positive_class!r}; expected {list(given[0].classes)} with {point.positive_class!r}, as the "
                "threshold was chosen for."
            )


def _check_images(
    val: Predictions, test: Predictions, baseline_val: Predictions | None, baseline_test: Predictions | None
) -> None:
    shared = set(val.frame["image_id"]) & set(test.frame["image_id"])
    if shared:
        first = min(str(name) for name in shared)
        raise ValueError(f"{len(shared)} images are on validation and on test, first {first!r}. Split again by group.")
    if (baseline_val is None) != (baseline_test is None):
        raise ValueError("the baseline was given for one split only; give it for both or for neither.")
    for name, ours, theirs in (("val", val, baseline_val), ("test", test, baseline_test)):
        if theirs is not None and not _identities(ours).equals(_identities(theirs)):
            raise ValueError(
                f"the baseline's {name} predictions are not of the model's images: {len(theirs)} rows and {len(ours)}, "
                "or other groups or labels. Score the baseline on the same split."
            )


def _identities(predictions: Predictions) -> pd.DataFrame:
    return predictions.frame[list(REQUIRED)].astype(str).sort_values("image_id").reset_index(drop=True)

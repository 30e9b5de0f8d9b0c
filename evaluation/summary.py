"""From predictions and an operating point to metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import pandas as pd

from evaluation.baseline_table import Pair, compare_with_baselines
from evaluation.bootstrap import Resampling
from evaluation.calibration import calibration_section
from evaluation.comparison import shift_of
from evaluation.decision_curve import decision_curve_of
from evaluation.intervals import format_interval
from evaluation.predictions import REQUIRED, Predictions
from evaluation.promise import promise_of
from evaluation.recalibration import Calibrator, fit_calibrator
from evaluation.split_summary import Judged, judge
from evaluation.threshold import OperatingPoint
from evaluation.worries import worries_of

__all__ = ["SCHEMA", "evaluate_run", "format_interval"]

SCHEMA: Final = 2
TEST_KINDS: Final = ("official", "cut", "given", "external")
PREVALENCES: Final = (0.01, 0.05, 0.2)


def evaluate_run(
    val: Predictions | None,
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
    interval: str = "percentile",
    prevalences: Sequence[float] = PREVALENCES,
    beta: float = 2.0,
    calibrator: Calibrator | None = None,
) -> dict[str, Any]:
    """Everything that a run's predictions say, as plain values for JSON: None where a number is not defined, never NaN.

    Args:
        val, test: the model's predictions; no image may be in both. Without ``val`` nothing is said of shift or of simpler
            methods, and ``splits`` holds ``test`` alone.
        operating_point: fixed on ``val``, or by hand. It is only applied here.
        baselines: for each baseline by its name (``thumbnail``, ``majority``, ...) its predictions on validation and on test,
            of the same images in any order.
        domain_aucs: for each class, AUROC of telling its test images from its training images, or None.
        title, task, model: for the report.
        phantom: whether the images were generated.
        group_name: what a group is called: patient, lesion.
        bootstrap: resamples for each interval. ``confidence``: of the intervals. ``seed``: of the resamples.
        subgroup_columns: columns of the predictions whose values are reported apart.
        test_kind: ``official`` (the data set's own test part), ``cut`` (taken from the data by group), ``given`` (a file of
            predictions) or ``external`` (another data set than the one of training).
        leak: of a split that ignores groups on purpose: ``grouping``, ``test_images``, ``test_images_with_group_in_train``,
            ``share`` (0 to 1) and ``unit`` (lesion, patient). It becomes the first alarm.
        interval: ``percentile`` or ``bca``. ``prevalences``: at which PPV and NPV are stated too. ``beta``: of F-beta.
        calibrator: fitted earlier on other images; None fits one on ``val``.

    Returns:
        The content of metrics.json. Where there are more than two classes, each split has a part ``multiclass``, see
        :func:`evaluation.multiclass.multiclass_of`; everything else is of the positive classes against the rest.

    Raises:
        ValueError: the predictions do not belong together, or a value is outside its range.
    """
    if test_kind not in TEST_KINDS:
        raise ValueError(f"test_kind is {test_kind!r}; expected one of {list(TEST_KINDS)}.")
    parts = {"test": test} if val is None else {"val": val, "test": test}
    _check_classes([*parts.values(), *(part for pair in baselines.values() for part in pair)], operating_point)
    _check_images(val, test, baselines)
    # Seeds apart for each split, because differences between splits take their resamples as independent.
    numbered = enumerate(("val", "test"))
    how = {side: Resampling(bootstrap, confidence, (seed, number), interval) for number, side in numbered}
    sides = {
        name: judge(part, operating_point, how[name], subgroup_columns, beta=beta, prevalences=prevalences)
        for name, part in parts.items()
    }
    baseline, rows = compare_with_baselines(sides["test"], baselines, operating_point, how)
    metrics: dict[str, Any] = {
        **{"schema": SCHEMA, "title": title, "phantom": bool(phantom), "task": task, "model": model},
        **_names(test, group_name),
        "test_kind": test_kind,
        "leak": None if leak is None else dict(leak),
        "confidence": float(confidence),
        "beta": float(beta),
        "bootstrap": {"resamples": int(bootstrap), "unit": group_name, "method": interval, "seed": int(seed)},
        "threshold": operating_point.to_dict(),
        "splits": {name: side.summary for name, side in sides.items()},
        "shift": _shift(sides, domain_aucs, confidence, test_kind),
        "baseline": baseline,
        "baselines": rows,
        "promise": promise_of(operating_point, sides["test"], group_name),
        # Of somebody else's predictions without validation the threshold was set by hand.
        **_as_risks(val, test, how, calibrator, operating_point, locked=val is not None or test_kind != "given"),
    }
    metrics["worries"] = worries_of(metrics, sides.get("val"), sides["test"])
    return metrics


def _as_risks(
    val: Predictions | None,
    test: Predictions,
    how: Mapping[str, Resampling],
    calibrator: Calibrator | None,
    operating_point: OperatingPoint,
    *,
    locked: bool,
) -> dict[str, Any]:
    """What the scores say as probabilities, with a calibrator fitted on ``val`` where none is given."""
    if calibrator is None and val is not None:
        calibrator = fit_calibrator(val)
    calibration = calibration_section(val, test, how, calibrator=calibrator)
    curve = decision_curve_of(
        test,
        how["test"],
        calibrator=calibrator,
        threshold=operating_point.threshold,
        calibration=calibration,
        locked=locked,
    )
    return {"calibration": calibration, "decision_curve": curve}


def _shift(
    sides: Mapping[str, Judged], domain_aucs: Mapping[str, float | None], confidence: float, test_kind: str
) -> dict[str, Any] | None:
    if "val" not in sides:
        return None
    return shift_of(sides["val"], sides["test"], domain_aucs, confidence, cut=test_kind == "cut")


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


def _check_images(val: Predictions | None, test: Predictions, baselines: Mapping[str, Pair]) -> None:
    if val is None:
        if baselines:
            raise ValueError("baselines need validation predictions: each gets a threshold of its own there.")
        return
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

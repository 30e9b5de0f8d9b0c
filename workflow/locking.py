"""What the test may not change, on disk before the test is scored: operating point, calibration, the model itself."""

from __future__ import annotations

import importlib.metadata
import logging
from pathlib import Path
from typing import Any

import numpy as np

from callbacks.checkpoints import store_fixed
from callbacks.trainer import RunCallbacks
from conf.output import write_json
from conf.schema import RESEARCH_NOTICE, EvaluationConfig
from datamodules.prepared import PreparedData
from evaluation.borderline import borderline_of
from evaluation.input_check import InputCheck
from evaluation.predictions import read_predictions
from evaluation.promise import advance_of
from evaluation.recalibration import Calibrator, fit_calibrator
from evaluation.rules import Infeasible, check_feasible
from evaluation.threshold import OperatingPoint
from lightning_modules import ImageClassifier
from models.bundle import save_bundle
from models.pretrained import description_of
from workflow.data import title_of
from workflow.input_checking import INPUT_CHECK, fitted
from workflow.subjects import subject_of

log = logging.getLogger("firstread")


def require_feasible(settings: dict[str, Any], prepared: PreparedData) -> None:
    """Say before hours of training that validation cannot certify what was asked for, or stop there.

    Raises:
        Infeasible: where ``threshold.infeasible`` is ``refuse``; says what could be certified, and with how many groups.
    """
    threshold = settings["threshold"]
    positive_called, negative_called = called(settings)
    positive, negative = groups_of(settings, prepared, "val")
    try:
        check_feasible(
            positive,
            negative,
            threshold["rule"],
            positive_class=positive_called,
            negative_class=negative_called,
            recall=threshold["recall"],
            confidence=threshold["confidence"],
            min_specificity=threshold["min_specificity"],
            group_name=settings["task"]["group_name"],
        )
    except Infeasible as error:
        if threshold["infeasible"] == "refuse":
            raise
        log.warning("threshold: %s", error)


def called(settings: dict[str, Any]) -> tuple[str, str]:
    """What the positive classes together are called, and what the others are."""
    task = settings["task"]
    positive = str(task["positive_name"] or " + ".join(task["positive"]))
    others = [name for name in task["classes"] if name not in task["positive"]]
    return positive, others[0] if len(others) == 1 else str(task["negative_name"] or f"not {positive}")


def groups_of(settings: dict[str, Any], prepared: PreparedData, part: str) -> tuple[int, int]:
    """Number of groups with a positive image in this part, and of groups without one."""
    frame = prepared.manifest.frame.iloc[prepared.splits.rows(part)]
    positive = frame["label"].isin(settings["task"]["positive"]).to_numpy(dtype=bool)
    groups = frame["group_id"].to_numpy(dtype=str)
    found = len(np.unique(groups[positive]))
    return found, len(np.unique(groups)) - found


def lock(
    settings: dict[str, Any],
    folder: Path,
    prepared: PreparedData,
    module: ImageClassifier,
    kept: RunCallbacks,
    metadata: dict[str, Any] | None,
) -> str:
    """Write ``model/``, ``calibration.json`` and ``threshold.json``, which are fixed from here on.

    Args:
        module: with the best weights, just validated.
        metadata: description of the encoder, for a head that takes metadata.

    Returns:
        SHA-256 of the weights in ``model/``.
    """
    point, calibrator = kept.tuning.operating_point, kept.calibration.calibrator
    assert point is not None and calibrator is not None
    store_fixed(folder / "checkpoints" / "best.ckpt", module)
    title = title_of(settings, prepared)
    check = _input_check(settings, prepared, module)
    borderline_from = _borderline(settings, folder, prepared, point)
    description = {
        "title": title,
        "notice": RESEARCH_NOTICE,
        # Where the weights came from is in run.json; here it would be a path of another machine.
        "network": {**settings["model"], "weights": "none"},
        "classes": settings["task"]["classes"],
        "positive": settings["task"]["positive"],
        "preprocessing": description_of(settings["model"]),
        "metadata": metadata,
        "views": settings["evaluation"]["tta"],
        "threshold": point.to_dict(),
        "calibration": calibrator.to_dict(),
        "manifest_sha256": prepared.manifest.sha256,
        "split_sha256": prepared.splits.sha256,
        "phantom": prepared.phantom,
        "borderline_from": borderline_from,
        "input_check": None if check is None else check.to_dict(),
        **_about(settings, prepared),
    }
    extra = {} if check is None else {INPUT_CHECK: check.arrays}
    digest = save_bundle(module.network, description, folder / "model", extra)
    write_calibration(calibrator, folder, title)
    log.info("threshold %.4g, %s rule: %s", point.threshold, point.rule, point.statement)
    if point.fallback_reason:
        log.warning("the %s rule fell back to the empirical one: %s", point.requested_rule, point.fallback_reason)
    if point.unmet:
        log.warning("threshold.min_specificity: %s", point.unmet)
    write_threshold(settings, folder, prepared, point, digest, borderline_from)
    return digest


def _input_check(settings: dict[str, Any], prepared: PreparedData, module: ImageClassifier) -> InputCheck | None:
    alpha = settings["evaluation"].get("abstain", EvaluationConfig().abstain)  # a resumed run may be from before
    if alpha is None:
        return None
    return fitted(module.network, settings["model"], prepared, alpha, settings["seed"])


def _borderline(settings: dict[str, Any], folder: Path, prepared: PreparedData, point: OperatingPoint) -> float | None:
    """Where the borderline region begins, from the validation predictions on disk."""
    task = settings["task"]
    outcome = [task[name] for name in ("positive", "positive_name", "negative_name")]
    held = read_predictions(folder / "predictions" / "val.csv", prepared.manifest.classes, *outcome)
    return borderline_of(held, point)


def _about(settings: dict[str, Any], prepared: PreparedData) -> dict[str, Any]:
    """What whoever uses the model elsewhere is told about it: its task, and whose data it was made from."""
    task, about = settings["task"], prepared.listing.about
    named = ("name", "title", "dataset", "group_name", "positive_name", "negative_name")
    return {
        "task": {**{name: task[name] for name in named}, "subject": subject_of(task)},
        "licence": "generated by firstread, free to use" if prepared.phantom else about.licence,
        "citation": "" if prepared.phantom else about.citation,
        "version": _version(),
    }


def _version() -> str:
    try:
        return importlib.metadata.version("firstread")
    except importlib.metadata.PackageNotFoundError:  # used from a folder that was never installed
        return ""


def write_threshold(
    settings: dict[str, Any],
    folder: Path,
    prepared: PreparedData,
    point: OperatingPoint,
    weights: str | None,
    borderline_from: float | None = None,
) -> None:
    """Write ``threshold.json``: the point, what it was fixed on, and what the test should show if its promise holds.

    Args:
        weights: SHA-256 of the weights; None for a baseline.
        borderline_from: as :func:`evaluation.borderline.borderline_of` gives it.
    """
    advance = advance_of(point, groups_of(settings, prepared, "test")[0], settings["task"]["group_name"])
    if advance is not None:
        log.info("in advance: %s", advance["sentence"])
    content = {
        "title": title_of(settings, prepared),
        "notice": RESEARCH_NOTICE,
        **point.to_dict(),
        "borderline_from": borderline_from,
        "advance": advance,
        "manifest_sha256": prepared.manifest.sha256,
        "split_sha256": prepared.splits.sha256,
        "weights_sha256": weights,
    }
    write_json(content, folder / "threshold.json")


def lock_baseline(settings: dict[str, Any], folder: Path, prepared: PreparedData, point: OperatingPoint) -> Calibrator:
    """As :func:`lock`, for a baseline whose predictions are on disk; returns its calibration."""
    task = settings["task"]
    outcome = [task[name] for name in ("positive", "positive_name", "negative_name")]
    calibrator = fit_calibrator(
        read_predictions(folder / "predictions" / "val.csv", prepared.manifest.classes, *outcome)
    )
    write_calibration(calibrator, folder, title_of(settings, prepared))
    write_threshold(settings, folder, prepared, point, None, _borderline(settings, folder, prepared, point))
    return calibrator


def write_calibration(calibrator: Calibrator, folder: Path, title: str) -> None:
    """Write ``calibration.json``."""
    write_json({"title": title, "notice": RESEARCH_NOTICE, **calibrator.to_dict()}, folder / "calibration.json")

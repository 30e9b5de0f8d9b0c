"""What is fixed before the test part is scored."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from callbacks.calibration import CalibrationFit
from callbacks.predictions import predictions_of
from evaluation.recalibration import fit_calibrator
from evaluation.rules import Infeasible
from evaluation.threshold import choose_operating_point
from tests.conftest import composed_settings
from workflow.intact import calibration_of
from workflow.locking import groups_of, require_feasible, write_calibration, write_threshold

CLASSES = ("NORMAL", "PNEUMONIA")


def data(patients: int, negatives: int = 40) -> Any:
    """Validation and test with so many positive patients, each with two images; every test patient has a healthy image too."""
    rows = []
    for part in ("val", "test"):
        for number in range(patients):
            rows += [(f"{part}{number}", "PNEUMONIA", part)] * 2
            rows += [(f"{part}{number}", "NORMAL", part)] if part == "test" else []
        rows += [(f"{part}-n{number}", "NORMAL", part) for number in range(negatives)]
    frame = pd.DataFrame(rows, columns=["group_id", "label", "part"])
    frame["image_id"] = [f"i{row}" for row in range(len(frame))]
    manifest = SimpleNamespace(frame=frame, classes=CLASSES, subgroup_columns=[], sha256="m" * 64)
    splits = SimpleNamespace(rows=lambda part: np.flatnonzero(frame["part"] == part), sha256="s" * 64)
    return SimpleNamespace(manifest=manifest, splits=splits, phantom=False)


def module_of(prepared: Any) -> Any:
    """Something that has scored validation: positives about 0.7, negatives about 0.3."""
    rows = prepared.splits.rows("val")
    labels = (prepared.manifest.frame["label"].iloc[rows] == "PNEUMONIA").to_numpy()
    noise = np.random.default_rng(0).normal(0.0, 0.15, len(rows))
    scores = np.clip(0.3 + 0.4 * labels + noise, 0.01, 0.99)
    return SimpleNamespace(
        collected=lambda: (rows, np.stack([1 - scores, scores], axis=1)),
        calibration=torch.full((3,), float("nan"), dtype=torch.float64),
    )


def test_groups_are_counted_by_whether_they_hold_a_positive_image() -> None:
    settings = composed_settings("task=pneumonia")
    assert groups_of(settings, data(30, 12), "val") == (30, 12)
    assert groups_of(settings, data(30, 12), "test") == (30, 12)


def test_what_cannot_be_certified_is_said_or_refused_before_training(caplog: pytest.LogCaptureFixture) -> None:
    few, enough = data(58), data(59)
    with caplog.at_level(logging.WARNING, logger="firstread"):
        require_feasible(composed_settings("task=pneumonia", "threshold.infeasible=refuse"), enough)
        assert not caplog.records
        require_feasible(composed_settings("task=pneumonia"), few)
    assert "58" in caplog.text and "59" in caplog.text
    with pytest.raises(Infeasible, match="59"):
        require_feasible(composed_settings("task=pneumonia", "threshold.infeasible=refuse"), few)
    with pytest.raises(Infeasible, match="specificity"):
        require_feasible(
            composed_settings("task=pneumonia", "threshold.infeasible=refuse", "threshold.min_specificity=0.99"),
            data(80),
        )


def test_the_threshold_file_says_in_advance_what_the_test_should_show(tmp_path: Path) -> None:
    prepared, settings = data(100), composed_settings("task=pneumonia")
    fit = CalibrationFit({"positive": ["PNEUMONIA"]})
    module, trainer = module_of(prepared), SimpleNamespace(sanity_checking=False, datamodule=prepared)
    fit.on_validation_epoch_end(trainer, module)  # type: ignore[arg-type]
    assert fit.calibrator is not None
    val = predictions_of(prepared, *module.collected(), {"positive": ["PNEUMONIA"]})
    point = choose_operating_point(val, group_name="patient")
    write_threshold(settings, tmp_path, prepared, point, "w" * 64)
    content = json.loads((tmp_path / "threshold.json").read_text())
    assert (content["rule"], content["n_groups"], content["misses_allowed"]) == ("certified", 100, 1)
    assert content["advance"]["test_positive_groups"] == 100
    assert content["advance"]["expected_misses"] == pytest.approx(100 * 2 / 101)
    assert [content[f"{name}_sha256"][0] for name in ("manifest", "split", "weights")] == ["m", "s", "w"]


def test_the_calibration_is_fitted_on_validation_and_read_back(tmp_path: Path) -> None:
    prepared = data(60)
    fit, module = CalibrationFit({"positive": ["PNEUMONIA"]}), module_of(prepared)
    trainer = SimpleNamespace(sanity_checking=True, datamodule=prepared)
    fit.on_validation_epoch_end(trainer, module)  # type: ignore[arg-type]
    assert fit.calibrator is None and bool(module.calibration.isnan().all())
    trainer.sanity_checking = False
    fit.on_validation_epoch_end(trainer, module)  # type: ignore[arg-type]
    expected = fit_calibrator(predictions_of(prepared, *module.collected(), {"positive": ["PNEUMONIA"]}))
    assert fit.calibrator == expected and expected.method == "platt"
    assert module.calibration[:2].tolist() == [expected.slope, expected.intercept]
    assert calibration_of(tmp_path) is None
    write_calibration(expected, tmp_path, "title")
    assert calibration_of(tmp_path) == expected

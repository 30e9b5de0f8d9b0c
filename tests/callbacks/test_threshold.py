from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from callbacks.threshold import ThresholdTuning
from conf.schema import ThresholdConfig

CLASSES = ("NORMAL", "PNEUMONIA")
SCORES = np.linspace(0.01, 0.99, 120)


def tuned(**change: Any) -> tuple[ThresholdTuning, Any]:
    """One validation epoch of 60 patients of each class, whose scores overlap; every key of the configuration is passed."""
    tuning = ThresholdTuning(
        **{**vars(ThresholdConfig()), **change}, outcome={"positive": ["PNEUMONIA"]}, group_name="patient"
    )
    names = [f"i{row}" for row in range(120)]
    frame = pd.DataFrame({"image_id": names, "group_id": names, "label": ["NORMAL", "PNEUMONIA"] * 60})
    manifest = SimpleNamespace(frame=frame, classes=CLASSES, subgroup_columns=[])
    trainer: Any = SimpleNamespace(sanity_checking=False, datamodule=SimpleNamespace(manifest=manifest))
    module: Any = SimpleNamespace(
        threshold=torch.tensor(math.nan, dtype=torch.float64),
        collected=lambda: (np.arange(120), np.stack([1 - SCORES, SCORES], axis=1)),
    )
    tuning.on_validation_epoch_end(trainer, module)
    return tuning, module


@pytest.mark.parametrize("rule", ["certified", "crc", "empirical", "youden", "fbeta", "cost", "fixed"])
def test_every_rule_of_the_configuration_fixes_a_threshold(rule: str) -> None:
    tuning, module = tuned(rule=rule, beta=1.0, miss_cost=3.0)
    point = tuning.operating_point
    assert point is not None and point.rule == rule and (point.beta, point.miss_cost) == (1.0, 3.0)
    assert float(module.threshold) == point.threshold
    assert point.selection_optimistic == (rule != "fixed")


def test_a_specificity_that_early_scores_cannot_reach_does_not_end_the_run() -> None:
    tuning, module = tuned(min_specificity=0.9, infeasible="refuse")
    assert tuning.operating_point is not None and tuning.operating_point.unmet is not None
    assert math.isfinite(float(module.threshold))

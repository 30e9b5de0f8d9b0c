"""The borderline region: below the threshold, as wide as five times fewer misses ask for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evaluation.borderline import borderline_of, stricter_recall
from evaluation.predictions import Predictions
from evaluation.threshold import choose_operating_point, fixed_point


def validation(positive: list[float], negative: list[float]) -> Predictions:
    scores = np.array([*positive, *negative])
    frame = pd.DataFrame(
        {
            "image_id": [str(number) for number in range(len(scores))],
            "group_id": [str(number) for number in range(len(scores))],
            "label": ["ill"] * len(positive) + ["well"] * len(negative),
            "prob_well": 1 - scores,
            "prob_ill": scores,
        }
    )
    return Predictions(frame, ("well", "ill"), "ill")


def test_it_begins_where_a_stricter_recall_would_put_the_threshold() -> None:
    assert stricter_recall(0.95) == 0.99
    held = validation([round(0.001 * (number + 1), 3) for number in range(200)], [0.0, 0.1])
    point = choose_operating_point(held, "empirical", 0.95)
    assert point.threshold == 0.011  # 10 of 200 may be missed
    assert borderline_of(held, point) == 0.003  # 2 of 200


def test_an_empty_region_is_none() -> None:
    held = validation([0.5, 0.6, 0.7], [0.1])
    assert borderline_of(held, choose_operating_point(held, "empirical", 0.95)) is None
    assert borderline_of(held, fixed_point(0.4, "ill", "well")) is None
    assert borderline_of(held, fixed_point(0.55, "ill", "well")) == pytest.approx(0.5)

"""The tables under the curves and the score histograms hold what the pictures show."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from evaluation.predictions import Predictions
from evaluation.report_tables import curve_tables, operating_points, score_table
from tests.evaluation.test_report_given import draw, page_of, text_of

CLASSES = ("negative", "positive")


def held(positive: list[float], negative: list[float]) -> Predictions:
    scores = [*positive, *negative]
    frame = pd.DataFrame({"image_id": [f"i{k}" for k in range(len(scores))], "prob_positive": scores})
    frame["group_id"] = frame["image_id"]
    frame["label"] = ["positive"] * len(positive) + ["negative"] * len(negative)
    frame["prob_negative"] = 1.0 - frame["prob_positive"]
    return Predictions(frame, CLASSES, CLASSES[1:], "positive", "negative")


def run(**scores: Predictions) -> Any:
    return SimpleNamespace(scores=scores, threshold={"threshold": 0.3}, metrics={})


def test_points_of_a_curve_that_can_be_counted_by_hand() -> None:
    rows = operating_points(held([0.9, 0.8, 0.7, 0.6, 0.2], [0.75, 0.5, 0.1, 0.1]), (0.3, 0.95))
    assert [row["threshold"] for row in rows] == [0.95, 0.9, 0.8, 0.7, 0.6, 0.3, 0.2]
    found = {row["threshold"]: (row["sensitivity"], row["specificity"], row["ppv"]) for row in rows}
    assert found[0.95] == (0.0, 1.0, None)  # nothing is called positive
    assert found[0.7] == pytest.approx((0.6, 0.75, 0.75))
    assert found[0.3] == pytest.approx((0.8, 0.5, 4 / 6))
    assert found[0.2][0] == 1.0
    assert [row["threshold"] for row in rows if row["chosen"]] == [0.3]


def test_a_score_at_the_threshold_is_above_it_in_both_tables() -> None:
    part = held([0.3, 0.29, 0.9], [0.3, 0.0, 1.0])
    row = next(row for row in operating_points(part, (0.3,)) if row["chosen"])
    assert row["sensitivity"] == pytest.approx(2 / 3) and row["specificity"] == pytest.approx(1 / 3)
    table = score_table(run(test=part))
    above = [sum(row["counts"][side] for row in table["rows"] if row["alarm"]) for side in (0, 1)]
    assert above == [2, 2] and table["totals"] == [3, 3] and table["parts"] == ["Test"]
    assert [row["range"] for row in table["rows"]][-1] == "0.999\u20131"
    assert all(any(row["counts"]) for row in table["rows"])


def test_one_class_only_has_no_curve() -> None:
    assert curve_tables(run(test=held([0.3, 0.9], []))) == []


def test_the_page_holds_both_tables_and_their_rows_add_up(tmp_path: Path) -> None:
    page = page_of(tmp_path, draw("t"), "given", draw("v", 400))
    curves = text_of(page.split('<section id="curves"')[1].split("</section>")[0])
    assert "Points of the curves as tables" in curves and "PPV" in curves and "used" in curves
    scores = page.split('<section id="scores"')[1].split("</section>")[0]
    cells = [
        [int(number.replace(",", "")) for number in re.findall(r'<td class="n">([\d,]+)</td>', row)]
        for row in re.findall(r"<tr.*?</tr>", scores, flags=re.DOTALL)
    ]
    rows = [row for row in cells if row]
    assert [sum(column) for column in zip(*rows[:-1], strict=True)] == rows[-1] == [64, 96, 160, 240]

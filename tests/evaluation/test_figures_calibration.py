"""Reliability and decision curves as figures, and the parts of the page around them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from evaluation.bootstrap import Resampling
from evaluation.calibration import calibration_section
from evaluation.decision_curve import decision_curve_of
from evaluation.figures_benefit import benefit_figure
from evaluation.figures_calibration import calibration_figure, reliability
from evaluation.figures_style import svg
from evaluation.pages import environment
from evaluation.recalibration import Calibrator, fit_calibrator
from tests.evaluation.test_calibration import drawn, of_classes, predictions

HOW = Resampling(60, 0.95, 0)


def metrics_of(val: Any, test: Any, threshold: float = 0.2, prevalence: float | None = None) -> dict[str, Any]:
    section = calibration_section(val, test, HOW)
    calibrator = None if section["calibrator"] is None else Calibrator.from_dict(section["calibrator"])
    curve = decision_curve_of(test, HOW, calibrator=calibrator, threshold=threshold, prevalence=prevalence)
    names = {
        "positive_class": test.positive_class,
        "negative_class": test.negative_class,
        "classes": list(test.classes),
    }
    return {**names, "group_name": "patient", "confidence": 0.95, "calibration": section, "decision_curve": curve}


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


def assert_all_inside(figure: Figure) -> None:
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    width, height = figure.get_size_inches() * figure.dpi
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text.get_text():
            box = text.get_window_extent(renderer)
            assert box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1, text.get_text()


def page_of(template: str, metrics: Mapping[str, Any]) -> str:
    figures = {"calibration": "<svg></svg>", "benefit": "<svg></svg>"}
    return environment().get_template(template).render(m=metrics, figures=figures)


def test_reliability_of_one_epoch() -> None:
    held = drawn()
    figure = reliability(held.labels, held.scores, title="Epoch 3", phantom=True)
    assert_all_inside(figure)
    assert "Phantom data - Epoch 3" in words(figure) and "perfect" in words(figure)
    dots = next(line for line in figure.axes[0].lines if line.get_label() == "scores")
    assert len(np.atleast_1d(dots.get_xdata())) == 10


@pytest.mark.parametrize(
    ("labels", "scores"),
    [([1], [0.4]), ([0, 0, 0], [0.0, 0.5, 1.0]), ([1, 1], [1.0, 1.0]), ([0, 1] * 20, [0.5] * 40)],
)  # fmt: skip
def test_reliability_of_very_little(labels: list[int], scores: list[float]) -> None:
    assert_all_inside(reliability(np.array(labels, dtype=np.uint8), np.array(scores)))


def test_both_series_and_all_counts_are_drawn() -> None:
    metrics = metrics_of(drawn(seed=1), drawn(seed=2))
    figure = calibration_figure(metrics, True)
    assert_all_inside(figure)
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert "raw" in labels and "recalibrated on validation" in labels
    test = metrics["calibration"]["splits"]["test"]["raw"]
    ends = [test["histogram"]["positive"][k] + test["histogram"]["negative"][k] for k in (0, -1)]
    assert all(f"{end:,}" in words(figure) for end in ends)
    assert "Phantom data - Reliability on test" in words(figure)
    bare = calibration_figure(metrics_of(None, drawn()))
    assert "recalibrated on validation" not in [line.get_label() for line in bare.axes[0].lines]


@pytest.mark.parametrize(("threshold", "where"), [(0.2, ""), (0.9999, " (outside)"), (0.00001, " (outside)")])
def test_the_locked_threshold_is_drawn_or_said_to_be_outside(threshold: float, where: str) -> None:
    figure = benefit_figure(metrics_of(None, drawn(), threshold))
    assert_all_inside(figure)
    named = [text for text in words(figure) if text.startswith("locked: ")]
    assert len(named) == 1 and named[0].endswith(f"%{where}")
    assert {"act on the model", "act on all", "act on none"} <= set(words(figure))


def test_a_threshold_set_by_hand_is_not_called_locked() -> None:
    held = drawn()
    curve = decision_curve_of(held, HOW, calibrator=None, threshold=0.5, locked=False)
    metrics = {**metrics_of(None, held), "decision_curve": curve}
    assert "threshold: 50 %" in words(benefit_figure(metrics))
    page = page_of("report_benefit.html.j2", metrics)
    assert "threshold: score 0.5" in page and "locked" not in page


def test_a_curve_without_band_and_without_locked_threshold() -> None:
    metrics = metrics_of(None, predictions(np.array([1, 0, 0]), np.array([0.8, 0.1, 0.2])), 0.0)
    figure = benefit_figure(metrics, phantom=True)
    assert_all_inside(figure)
    assert not any(text.startswith("locked") for text in words(figure))
    assert svg(figure).startswith("<svg")


def test_the_page_says_every_number_of_the_figure() -> None:
    metrics = metrics_of(drawn(seed=1), drawn(seed=2))
    page = page_of("report_calibration.html.j2", metrics)
    assert page.count('<section id="calibration">') == 1
    for kind in ("raw", "recalibrated"):
        cal = metrics["calibration"]["splits"]["test"][kind]
        for row in cal["bins"]:
            assert f"{row['rate']:.3f}" in page
        assert f"{cal['slope']['value']:.3f}" in page
    assert metrics["calibration"]["sentence"] in page
    assert "Validation, recalibrated" in page and "Platt scaling with slope" in page
    assert "class-wise" not in page


def test_the_page_without_validation_and_of_several_classes() -> None:
    bare = page_of("report_calibration.html.j2", metrics_of(None, drawn()))
    assert "Validation" not in re.sub(r"validation predictions", "", bare) and "nothing could be fitted" in bare
    several = page_of("report_calibration.html.j2", metrics_of(of_classes(seed=1), of_classes(seed=2)))
    assert "class-wise, mean over classes" in several and "all 3 classes are recalibrated by one temperature" in several


def test_the_page_of_one_class_only() -> None:
    held = predictions(np.zeros(30), np.linspace(0.1, 0.9, 30))
    page = page_of("report_calibration.html.j2", {**metrics_of(held, held), "decision_curve": None})
    assert "Not recalibrated" in page


def test_the_page_of_the_decision_curve() -> None:
    metrics = metrics_of(drawn(seed=1), drawn(seed=2), 0.2, prevalence=0.02)
    page = page_of("report_benefit.html.j2", metrics)
    assert metrics["decision_curve"]["sentence"].split(";")[0] in page
    for point in [*metrics["decision_curve"]["points"], metrics["decision_curve"]["locked"]]:
        assert f"{point['model']['value']:.3f}".replace("-", "\u2212") in page
    assert "locked: score 0.200" in page and "Where 2.0\u202f% are ill" in page
    plain = page_of("report_benefit.html.j2", metrics_of(None, drawn(), 0.0))
    assert "locked: score" not in plain and "not recalibrated" in plain


def test_the_page_says_that_recalibration_is_left_out_where_it_hurts() -> None:
    val, test = drawn(1500, 1.0, 2.0, seed=1), drawn(1500, 1.0, -0.3, seed=2)
    metrics, calibrator = metrics_of(val, test), fit_calibrator(val)
    section = metrics["calibration"]
    curve = decision_curve_of(test, HOW, calibrator=calibrator, threshold=0.2, calibration=section)
    page = page_of("report_benefit.html.j2", {**metrics, "decision_curve": curve})
    assert "not recalibrated, as that makes them worse on this test set" in page and "locked" not in page
    figure = benefit_figure({**metrics, "decision_curve": curve})
    assert "Test, raw scores; higher is better, none is 0" in words(figure)


def test_hostile_class_names_are_escaped() -> None:
    metrics = {**metrics_of(drawn(seed=1), drawn(seed=2)), "positive_class": "<b>$x$", "negative_class": "&"}
    for template in ("report_calibration.html.j2", "report_benefit.html.j2"):
        page = page_of(template, metrics)
        assert "<b>$x$" not in page and "&lt;b&gt;$x$" in page

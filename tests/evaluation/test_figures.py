"""The figures: what they say, and that they can stand in any page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from matplotlib.text import Text
from sklearn.metrics import precision_recall_curve, roc_curve

from evaluation.figures import (
    Curve,
    Estimate,
    SlopePanel,
    auroc_forest,
    confusion,
    confusion_pair,
    learning_curves,
    precision_recall,
    roc,
    score_histogram,
    shift_slope,
    standalone_svg,
    svg,
)
from evaluation.figures_curves import cumulative_counts
from evaluation.figures_style import DARK, VARIABLES, spread

CLASSES = ("NORMAL", "PNEUMONIA")


def interval(value: float | None, half: float = 0.02) -> dict[str, Any]:
    if value is None:
        return {"value": None, "low": None, "high": None, "method": "group bootstrap", "dropped": 0}
    return {"value": value, "low": value - half, "high": value + half, "method": "group bootstrap", "dropped": 0}


def point(threshold: float, tp: int, fn: int, fp: int, tn: int) -> dict[str, Any]:
    return {
        "threshold": threshold,
        "tp": tp,
        "fn": fn,
        "fp": fp,
        "tn": tn,
        "sensitivity": interval(tp / (tp + fn)),
        "specificity": interval(tn / (tn + fp)),
        "ppv": interval(tp / (tp + fp)),
    }


def scores(n: int = 400, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.6).astype(np.uint8)
    return labels, 1 / (1 + np.exp(-rng.normal(2.0 * labels - 1.0, 1.5)))


def history() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "epoch": [0, 1, 2, 3],
            "train/loss": [0.6, 0.3, 0.2, 0.1],
            "val/loss": [0.5, 0.4, 0.3, 0.35],
            "val/auroc": [0.8, 0.9, 0.95, 0.94],
            "train/auroc": [0.7, 0.9, np.nan, 0.99],
        }
    )


def curves() -> list[Curve]:
    test, other = scores(seed=1), scores(seed=2)
    return [Curve("test 0.861", *test, role="test"), Curve("thumbnails 0.597", *other, role="baseline")]


LOCKED, HALF = point(0.3546, 371, 19, 124, 110), point(0.5, 353, 37, 97, 137)
POINTS = {"locked threshold 0.355": LOCKED, "threshold 0.5": HALF}
PANELS = [
    SlopePanel("AUROC", interval(0.98), interval(0.861), interval(0.84), interval(0.6)),
    SlopePanel("specificity", interval(0.888), interval(0.47)),
]
FIGURES: dict[str, Callable[[bool], Figure]] = {
    "learning_curves": lambda phantom: learning_curves(history(), phantom=phantom),
    "roc": lambda phantom: roc(curves(), POINTS, phantom=phantom),
    "precision_recall": lambda phantom: precision_recall(curves(), POINTS, phantom=phantom),
    "confusion": lambda phantom: confusion(LOCKED, CLASSES, phantom=phantom),
    "confusion_pair": lambda phantom: confusion_pair(HALF, LOCKED, CLASSES, phantom=phantom),
    "score_histogram": lambda phantom: score_histogram(*scores(), 0.3546, CLASSES, phantom=phantom),
    "auroc_forest": lambda phantom: auroc_forest([Estimate("model, test", interval(0.861))], phantom=phantom),
    "shift_slope": lambda phantom: shift_slope(PANELS, phantom=phantom),
}


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


@pytest.mark.parametrize("name", FIGURES)
def test_title_names_phantom_data_only_where_it_is(name: str) -> None:
    real, phantom = FIGURES[name](False), FIGURES[name](True)
    assert phantom.texts[0].get_text() == f"Phantom data - {real.texts[0].get_text()}"
    assert not any("Phantom" in text for text in words(real))


@pytest.mark.parametrize("name", FIGURES)
def test_inline_svg_fits_any_page(name: str) -> None:
    before = dict(matplotlib.rcParams)
    drawing = svg(FIGURES[name](True))
    assert dict(matplotlib.rcParams) == before
    assert drawing == svg(FIGURES[name](True))
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b(?!-)", re.sub(r'(url\(#|href="#)[^)"]+', "", drawing))
    assert "http" not in drawing and "<style" not in drawing and "font-family" not in drawing
    assert "var(--fig-ink)" in drawing and ">Phantom data - " in drawing
    root = ElementTree.fromstring(drawing)
    assert root.get("role") == "img" and str(root.get("aria-label")).startswith("Phantom data - ")
    ids = re.findall(r' id="([^"]+)"', drawing)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', drawing)) <= {(i, "") for i in ids} | {
        ("", i) for i in ids
    }


def test_ids_differ_between_figures_of_one_page() -> None:
    drawings = [svg(build(False)) for build in FIGURES.values()]
    ids = [found for drawing in drawings for found in re.findall(r' id="([^"]+)"', drawing)]
    assert ids and len(ids) == len(set(ids))


def test_numbers_in_the_text_keep_their_digits() -> None:
    assert ">0.861 (0.841\u20130.881)<" in svg(FIGURES["auroc_forest"](False))


def test_standalone_svg_carries_its_colours() -> None:
    drawing = standalone_svg(FIGURES["roc"](False))
    assert ElementTree.fromstring(drawing).tag == "{http://www.w3.org/2000/svg}svg"
    for colour, variable in VARIABLES.items():
        assert f"{variable}:{colour}" in drawing and f"{variable}:{DARK[colour]}" in drawing


def test_learning_curves_mark_the_first_best_epoch_and_skip_gaps() -> None:
    text = words(FIGURES["learning_curves"](False))
    assert "kept: epoch 2" in text and "validation 0.940" in text and "training 0.990" in text
    assert "kept: epoch 1" in words(learning_curves(history(), best_epoch=1))
    alone = learning_curves(history().head(1).drop(columns="train/auroc"))
    assert "validation 0.800" in words(alone)
    with pytest.raises(ValueError, match="no epoch with a val/auroc"):
        learning_curves(history().assign(**{"val/auroc": np.nan}))


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])), min_size=2, max_size=40))
def test_counts_agree_with_scikit_learn(rows: list[tuple[bool, float]]) -> None:
    labels = np.array([label for label, _ in rows], dtype=np.uint8)
    values = np.array([value for _, value in rows])
    if labels.min() == labels.max():
        with pytest.raises(ValueError, match="both classes"):
            cumulative_counts(labels, values)
        return
    true, false = cumulative_counts(labels, values)
    false_rate, true_rate, _ = roc_curve(labels, values, drop_intermediate=False)
    np.testing.assert_allclose(true / true[-1], true_rate)
    np.testing.assert_allclose(false / false[-1], false_rate)
    precision, recall, _ = precision_recall_curve(labels, values)
    np.testing.assert_allclose((true[1:] / (true[1:] + false[1:]))[::-1], precision[:-1])
    np.testing.assert_allclose((true[1:] / true[-1])[::-1], recall[:-1])


def test_operating_points_lie_where_the_numbers_say() -> None:
    for figure, expected in (
        (FIGURES["roc"](False), (124 / 234, 371 / 390)),
        (FIGURES["precision_recall"](False), (371 / 390, 371 / 495)),
    ):
        axes = figure.axes[0]
        line = next(line for line in axes.lines if line.get_label() == "locked threshold 0.355")
        assert (line.get_xdata()[0], line.get_ydata()[0]) == pytest.approx(expected)  # type: ignore[index]
        assert axes.get_aspect() == 1.0 and axes.get_xlim() == axes.get_ylim()


def test_confusion_states_counts_and_shares() -> None:
    text = words(FIGURES["confusion_pair"](False))
    for expected in ("At 0.5", "Locked: 0.355", "371", "95.1 %", "19", "4.9 %", "missed", "called\nNORMAL"):
        assert expected in text
    empty = point(0.5, 1, 0, 0, 1) | {"tn": 0}
    assert "0.0 %" in words(confusion(empty, CLASSES))


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.9999, 1.0])
def test_histogram_loses_no_image_and_splits_at_the_threshold(threshold: float) -> None:
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0], dtype=np.uint8)
    values = np.array([0.0, 0.2, 0.9999, 1.0, 0.0, 0.2, 0.19999999, 1.0])
    figure = score_histogram(labels, values, threshold, CLASSES)
    steps = [patch.get_data()[0] for patch in figure.axes[0].patches if isinstance(patch, StepPatch)]
    heights = np.concatenate(steps).tolist()
    assert sum(height for height in heights if height > 0) == pytest.approx(1)
    assert sum(height for height in heights if height < 0) == pytest.approx(-1)
    text = words(figure)
    assert f"{int((values[:4] < threshold).sum())} missed" in text
    assert f"{int((values[4:] >= threshold).sum())} false alarms" in text


def test_forest_skips_estimates_without_a_value() -> None:
    text = words(auroc_forest([Estimate("model, test", interval(0.861)), Estimate("thumbnails", interval(None))]))
    assert "model, test" in text and "thumbnails" not in text
    with pytest.raises(ValueError, match="Both classes"):
        auroc_forest([Estimate("model", interval(None))])


def test_slopes_write_both_ends() -> None:
    text = words(FIGURES["shift_slope"](False))
    assert {"0.980", "0.861", "0.840", "0.600", "0.888", "0.470", "AUROC", "specificity"} <= set(text)
    assert shift_slope([SlopePanel("AUROC", interval(None), interval(0.8))]).axes


def test_class_names_are_taken_literally() -> None:
    drawing = svg(confusion(LOCKED, ("$x^2$", "<b>&")))
    assert "$x^2$" in drawing and "&lt;b&gt;&amp;" in drawing and "<b>" not in drawing


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_labels_are_spread_apart_in_order(wishes: list[float]) -> None:
    placed = spread(wishes, 0.1)
    order = np.argsort(wishes, kind="stable")
    assert np.all(np.diff(placed[order]) >= 0.1 - 1e-9)
    assert placed.mean() == pytest.approx(np.mean(wishes))

"""Recalibration: the fit of reference software, the order of images to the last bit, and what cannot be fitted."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax
from sklearn.linear_model import LogisticRegression

from evaluation.metrics import SMALLEST, log_losses
from evaluation.predictions import Predictions
from evaluation.recalibration import Calibrator, fit_calibrator, fit_temperature, logit, prior_shift

CLASSES = ("akiec", "bcc", "mel", "nv")


def two_classes(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None) -> Predictions:
    held, found = np.asarray(labels), np.asarray(scores, dtype=float)
    named = np.arange(len(held)) if groups is None else np.asarray(groups)
    frame = pd.DataFrame({"image_id": [f"i{k}" for k in range(len(held))], "group_id": [f"g{k}" for k in named]})
    frame["label"] = np.where(held == 1, "ill", "well")
    return Predictions(frame.assign(prob_ill=found, prob_well=1.0 - found), ("ill", "well"), "ill")


def several_classes(n: int = 500, sharpness: float = 3.0) -> Predictions:
    rng = np.random.default_rng(2)
    targets = rng.choice(4, n, p=[0.15, 0.2, 0.25, 0.4])
    logits = rng.normal(size=(n, 4)) + 1.2 * np.eye(4)[targets]
    scores = np.exp(log_softmax(sharpness * logits, axis=1))
    frame = pd.DataFrame({"image_id": [f"i{k}" for k in range(n)], "group_id": [f"g{k}" for k in range(n)]})
    frame["label"] = np.array(CLASSES)[targets]
    frame[[f"prob_{name}" for name in CLASSES]] = scores
    return Predictions(frame, CLASSES, ("mel", "bcc"), "malignant", "benign")


def drawn(n: int = 600, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Labels whose true risk is ``expit(0.5 * logit(score) - 0.4)``."""
    rng = np.random.default_rng(seed)
    z = 2.5 * rng.normal(size=n)
    return (rng.random(n) < expit(0.5 * z - 0.4)).astype(np.uint8), expit(z)


def test_platt_equals_unpenalised_logistic_regression() -> None:
    labels, scores = drawn()
    found = fit_calibrator(two_classes(labels, scores, np.arange(600) // 2))
    reference = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(logit(scores)[:, None], labels)
    assert found.method == "platt" and found.reason == ""
    assert found.slope == pytest.approx(reference.coef_[0, 0], abs=1e-5)
    assert found.intercept == pytest.approx(reference.intercept_[0], abs=1e-5)
    assert (found.n, found.n_positive, found.n_groups) == (600, int(labels.sum()), 300)
    assert found.prevalence == pytest.approx(labels.mean())
    assert log_losses(labels, found.scores(scores)).mean() < log_losses(labels, scores).mean()


def test_after_platt_the_mean_score_is_the_rate() -> None:
    """The likelihood's own condition: residuals add up to zero."""
    labels, scores = drawn(seed=4)
    assert fit_calibrator(two_classes(labels, scores)).scores(scores).mean() == pytest.approx(labels.mean(), abs=1e-9)


def test_temperature_has_the_highest_likelihood() -> None:
    held = several_classes()
    found = fit_calibrator(held)
    logs = np.log(held.probabilities)

    def loss(value: NDArray[np.float64]) -> float:
        return -float(log_softmax(logs / np.exp(value[0]), axis=1)[np.arange(len(held)), held.targets].mean())

    best = float(np.exp(minimize(loss, [0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14}).x[0]))
    assert found.temperature == pytest.approx(best, rel=1e-4)
    assert best > 2.0
    calibrated = found.probabilities(held.probabilities)
    assert calibrated.sum(axis=1) == pytest.approx(1.0)
    np.testing.assert_array_equal(calibrated.argmax(axis=1), held.decisions)


def test_the_score_of_the_positive_classes_is_not_moved_by_their_temperature() -> None:
    held = several_classes()
    found = fit_calibrator(held)
    assert found.method == "platt"
    moved = found.scores(held.scores)
    assert moved == pytest.approx(expit(found.slope * logit(held.scores) + found.intercept))


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30),
    slope=st.floats(0.02, 40.0),
    intercept=st.floats(-20.0, 20.0),
)
def test_no_two_images_change_places(scores: list[float], slope: float, intercept: float) -> None:
    base = np.array(scores)
    near = np.concatenate([base, np.nextafter(base, 1.0), np.nextafter(base, 0.0), base, [0.0, 1.0]])
    moved = Calibrator("platt", slope, intercept).scores(near)
    assert ((moved >= 0.0) & (moved <= 1.0)).all()
    order = np.argsort(near, kind="stable")
    assert (np.diff(moved[order]) >= 0.0).all()
    for value in np.unique(near):
        assert len(np.unique(moved[near == value])) == 1


def test_clearly_different_scores_stay_different() -> None:
    scores = np.linspace(0.001, 0.999, 5000)
    moved = Calibrator("platt", 0.3, 1.0).scores(scores)
    assert (np.diff(moved) > 0.0).all()


def test_probabilities_keep_the_most_probable_class_among_neighbours() -> None:
    upper = np.nextafter(0.4, 1.0)
    rows = np.array([[0.4, upper, 1 - 0.4 - upper], [upper, 0.4, 1 - 0.4 - upper], [0.4, 0.4, 0.2], [0.0, 0.0, 1.0]])
    for temperature in (0.05, 1.0, 3.7, 49.0):
        moved = Calibrator(temperature=temperature).probabilities(rows)
        np.testing.assert_array_equal(moved.argmax(axis=1), rows.argmax(axis=1))
        assert moved[2, 0] == moved[2, 1]
        assert moved.sum(axis=1) == pytest.approx(1.0)


def test_separable_scores_get_a_temperature() -> None:
    labels = np.repeat([0, 1], 20)
    scores = np.concatenate([np.linspace(0.01, 0.6, 20), np.linspace(0.61, 0.99, 20)])
    found = fit_calibrator(two_classes(labels, scores))
    assert found.method == "temperature" and "separate" in found.reason
    assert found.intercept == 0.0 and found.slope == pytest.approx(1.0 / (found.temperature or 0.0))


@pytest.mark.parametrize(
    ("labels", "scores", "words"),
    [
        (np.repeat([0, 1], 20), np.repeat([0.2, 0.8], 20), "separate both classes of validation completely"),
        (np.repeat([0, 1], 20), np.concatenate([np.linspace(0.4, 0.95, 20), np.linspace(0.05, 0.6, 20)]), "slope is -"),
        (np.repeat([0, 1], 20), np.repeat([0.8, 0.2], 20), "Platt's slope cannot be fitted"),
        (np.repeat([0, 1], 20), np.full(40, 0.5), "All validation scores are equal"),
        (np.repeat([0, 1], [40, 9]), np.linspace(0, 1, 49), "9 positive groups and 40 negative groups"),
        (np.zeros(30), np.linspace(0, 1, 30), "0 positive groups"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_left_alone_with_a_reason(
    labels: NDArray[np.int64], scores: NDArray[np.float64], words: str
) -> None:
    found = fit_calibrator(two_classes(labels, scores))
    assert found.method == "none" and found.slope == 1.0 and not found.acts
    assert words in found.reason and found.reason.startswith("Not recalibrated")
    np.testing.assert_array_equal(found.scores(scores), scores)


def test_images_of_one_group_are_no_independent_evidence() -> None:
    labels, scores = drawn(200)
    groups = np.where(labels == 1, np.arange(200) % 5, 100 + np.arange(200))
    assert "5 positive groups" in fit_calibrator(two_classes(labels, scores, groups)).reason


def test_scores_of_exactly_0_and_1_cost_a_finite_amount() -> None:
    labels = np.tile([0, 1, 1, 0], 20)
    scores = np.tile([0.0, 1.0, 0.0, 1.0], 20)
    scores[:30] = np.linspace(0.1, 0.9, 30)
    found = fit_calibrator(two_classes(labels, scores))
    assert np.isfinite([found.slope, found.intercept]).all()
    assert logit([0.0, 1.0]) == pytest.approx([-np.log((1 - SMALLEST) / SMALLEST), np.log((1 - SMALLEST) / SMALLEST)])


def test_it_goes_through_json_exactly() -> None:
    labels, scores = drawn()
    found = fit_calibrator(two_classes(labels, scores))
    content = json.loads(json.dumps({"title": "other", **found.to_dict()}, allow_nan=False))
    again = Calibrator.from_dict(content)
    assert again == found
    np.testing.assert_array_equal(again.scores(scores), found.scores(scores))
    with pytest.raises(ValueError, match="lacks \\['slope'\\]"):
        Calibrator.from_dict({name: value for name, value in content.items() if name != "slope"})


@pytest.mark.parametrize(
    "values",
    [
        {"slope": 0.0},
        {"slope": -1.0},
        {"slope": float("nan")},
        {"intercept": float("inf")},
        {"method": "isotonic"},
        {"temperature": 0.0},
    ],
)
def test_a_calibrator_that_could_turn_the_order_around_cannot_be_made(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="calibration"):
        Calibrator(**values)  # type: ignore[arg-type]


def test_prior_shift_is_the_offset_of_logits() -> None:
    scores = np.array([0.01, 0.3, 0.5, 0.97])
    moved = prior_shift(scores, 0.5, 0.02)
    assert logit(moved) == pytest.approx(logit(scores) + np.log(0.02 / 0.98) - np.log(0.5 / 0.5))
    assert prior_shift(moved, 0.02, 0.5) == pytest.approx(scores)
    np.testing.assert_array_equal(prior_shift([0.0, 1.0], 0.5, 0.02), [0.0, 1.0])
    for pair in ((0.0, 0.5), (0.5, 1.0)):
        with pytest.raises(ValueError, match="between 0 and 1"):
            prior_shift(scores, *pair)


def test_prior_shift_mends_a_set_with_another_prevalence() -> None:
    """Scores calibrated in a population, of which only every fifth negative is kept."""
    rng = np.random.default_rng(1)
    scores = rng.beta(0.6, 3.0, 40_000)
    labels = rng.random(40_000) < scores
    kept = labels | (rng.random(40_000) < 0.2)
    moved = prior_shift(scores[kept], float(labels.mean()), float(labels[kept].mean()))
    assert moved.mean() == pytest.approx(labels[kept].mean(), abs=0.015)
    assert abs(scores[kept].mean() - labels[kept].mean()) > 0.1


def test_a_temperature_without_a_maximum_is_none() -> None:
    right = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert fit_temperature(np.array([0, 1]), right) is None
    assert fit_temperature(np.array([1, 0]), right) is None

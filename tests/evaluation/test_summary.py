from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import betabinom
from sklearn.metrics import roc_auc_score

from evaluation.intervals import wilson
from evaluation.predictions import Predictions
from evaluation.recalibration import fit_calibrator
from evaluation.summary import evaluate_run, format_interval
from evaluation.threshold import OperatingPoint, choose_operating_point, fixed_point

CLASSES = ("NORMAL", "PNEUMONIA")
INTERVAL = {"value", "low", "high", "method", "dropped"}
RATES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv", "f1", "mcc", "group_recall")


def split(
    part: str, seed: int, *, n: int = 120, separation: float = 2.5, shift: float = 0.0, positives: int | None = None
) -> Predictions:
    """``n`` positive and ``n`` negative patients, 1 to 3 images each; ``shift`` moves the negatives upwards."""
    images = np.random.default_rng(sum(part.encode()))  # groups are the same for the model and the baseline
    noise = np.random.default_rng(seed)
    rows = []
    for label, count in ((0, n), (1, n if positives is None else positives)):
        for group in range(count):
            latent = (separation if label else -separation + shift) + noise.normal(0, 1.2)
            kind = ("bacteria" if group % 3 else "virus") if label else "normal"
            for image in range(int(images.integers(1, 4))):
                score = float(np.float32(1 / (1 + np.exp(-latent - noise.normal(0, 0.6)))))
                name = f"{part}-{kind}-{group}"
                rows.append((f"{name}-{image}", name, CLASSES[label], kind, 1 - score, score))
    names = ["image_id", "group_id", "label", "subtype", "prob_NORMAL", "prob_PNEUMONIA"]
    return Predictions(pd.DataFrame(rows, columns=names), CLASSES, "PNEUMONIA")


def run(
    val: Predictions | None, test: Predictions, weak: tuple[Predictions, Predictions] | None = None, **change: Any
) -> dict[str, Any]:
    point = change.pop("point", None)
    if val is not None and point is None:
        point = choose_operating_point(val, group_name="patient")
    settings: dict[str, Any] = {
        "domain_aucs": {"NORMAL": 0.55, "PNEUMONIA": None},
        "title": "Pneumonia on chest X-rays: simple_cnn",
        "task": "pneumonia",
        "model": "simple_cnn",
        "phantom": False,
        "group_name": "patient",
        "bootstrap": 200,
        "subgroup_columns": ["subtype"],
    }
    if val is not None and weak is None:
        weak = (split("val", 11, separation=0.8), split("test", 12, separation=0.8))
    settings |= {"baselines": {} if weak is None else {"thumbnail": weak}}
    return evaluate_run(val, test, point, **(settings | change))


@pytest.fixture(scope="module")
def calm() -> dict[str, Any]:
    return run(split("val", 1), split("test", 2))


@pytest.fixture(scope="module")
def shifted() -> dict[str, Any]:
    weak = split("val", 11, separation=1.5), split("test", 12, separation=1.5, shift=2.0)
    return run(split("val", 1), split("test", 2, shift=3.0), weak, domain_aucs={"NORMAL": 0.917, "PNEUMONIA": 0.6})


def titles(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    return [(worry["level"], worry["title"]) for worry in metrics["worries"]]


def test_structure(calm: dict[str, Any]) -> None:
    assert list(calm) == [
        "schema", "title", "phantom", "task", "model", "classes", "positive_class", "negative_class", "positive",
        "group_name", "test_kind", "leak", "confidence", "beta", "bootstrap", "threshold", "splits", "shift", "baseline",
        "baselines", "promise", "calibration", "decision_curve", "worries",
    ]  # fmt: skip
    assert calm["bootstrap"] == {"resamples": 200, "unit": "patient", "method": "percentile", "seed": 0}
    for side in (*calm["splits"].values(), calm["baseline"]["val"], calm["baseline"]["test"]):
        for name in ("auroc", "average_precision", "brier", "log_loss"):
            assert set(side[name]) == INTERVAL
        for name in ("at_0.5", "at_threshold"):
            assert set(side[name]) >= {"threshold", "tp", "fn", "fp", "tn", *RATES}
            assert all(set(side[name][rate]) == INTERVAL for rate in RATES)
    assert [row["metric"] for row in calm["shift"]["table"]] == ["AUROC", "sensitivity", "specificity"]


def test_is_json_without_nan_and_reproducible(calm: dict[str, Any]) -> None:
    text = json.dumps(calm, allow_nan=False)
    assert json.loads(text) == calm
    assert json.dumps(run(split("val", 1), split("test", 2)), allow_nan=False) == text
    assert json.dumps(run(split("val", 1), split("test", 2), seed=1), allow_nan=False) != text


def test_figures_of_a_split(calm: dict[str, Any]) -> None:
    test, side = split("test", 2), calm["splits"]["test"]
    assert (side["n"], side["n_positive"]) == (len(test), int(test.labels.sum()))
    assert (side["n_groups"], side["n_positive_groups"]) == (240, 120)
    assert side["prevalence"] == pytest.approx(test.labels.mean())
    assert side["auroc"]["value"] == pytest.approx(roc_auc_score(test.labels, test.scores))
    assert side["auroc"]["low"] <= side["auroc"]["value"] <= side["auroc"]["high"]
    point = side["at_threshold"]
    assert point["threshold"] == calm["threshold"]["threshold"]
    assert point["tp"] + point["fn"] + point["fp"] + point["tn"] == len(test)
    assert point["sensitivity"]["value"] == point["tp"] / (point["tp"] + point["fn"])
    best = pd.Series(test.scores[test.labels == 1]).groupby(test.groups[test.labels == 1]).max()
    recall = point["group_recall"]
    assert recall["value"] == (best >= point["threshold"]).mean()
    assert recall["method"] == "wilson"
    assert (recall["low"], recall["high"]) == pytest.approx(wilson(int((best >= point["threshold"]).sum()), 120))


def test_a_calm_run_has_only_the_note_on_selection(calm: dict[str, Any]) -> None:
    assert titles(calm) == [
        ("note", "Raw scores are only roughly risks"),
        ("note", "Validation chose the epoch and the threshold"),
    ]
    assert not calm["shift"]["detected"]
    assert calm["baseline"]["clears"]
    assert "better than the baseline" in calm["baseline"]["sentence"]
    assert format_interval(calm["splits"]["test"]["auroc"]) in calm["baseline"]["sentence"]
    assert calm["promise"]["kept"]


def test_shift_is_the_first_alarm_with_its_figures(shifted: dict[str, Any]) -> None:
    worry = shifted["worries"][0]
    assert (worry["level"], worry["title"]) == ("alarm", "The test set is shifted")
    before, after = (shifted["splits"][side]["at_threshold"]["specificity"]["value"] for side in ("val", "test"))
    assert f"from {before:.3f} (" in worry["text"] and f"to {after:.3f} (" in worry["text"]
    baseline = [shifted["baseline"][side]["at_threshold"]["specificity"]["value"] for side in ("val", "test")]
    assert "thumbnail baseline" in worry["text"] and "shows the same" in worry["text"]
    assert all(f"{value:.3f}" in worry["text"] for value in baseline)
    assert "NORMAL test images from NORMAL training images with an AUROC of 0.917" in worry["text"]
    assert "0.600" not in worry["text"]
    assert shifted["shift"]["detected"]
    row = shifted["shift"]["table"][2]
    assert row["difference"]["value"] == pytest.approx(after - before)
    assert row["difference"]["high"] < 0


def test_parts_cut_from_the_same_images_cannot_be_shifted() -> None:
    weak = split("val", 11, separation=1.5), split("test", 12, separation=1.5, shift=2.0)
    metrics = run(
        split("val", 1),
        split("test", 2, shift=3.0),
        weak,
        domain_aucs={"NORMAL": 0.917, "PNEUMONIA": 0.6},
        test_kind="cut",
    )
    assert not metrics["shift"]["detected"]
    found = {worry["title"]: (worry["level"], worry["text"]) for worry in metrics["worries"]}
    assert "The test set is shifted" not in found
    level, text = found["Validation was optimistic"]
    assert level == "caution"
    assert "this is no shift" in text
    assert metrics["shift"]["domain_auc"], "the figures stay in the table"


def test_splits_are_resampled_independently_of_each_other() -> None:
    """The same images under other names: no difference, but not with certainty."""
    val = split("val", 1)
    renamed = {name: "other-" + val.frame[name] for name in ("image_id", "group_id")}
    test = Predictions(val.frame.assign(**renamed), CLASSES, "PNEUMONIA")
    for row in run(val, test, (val, test))["shift"]["table"]:
        assert row["difference"]["value"] == 0.0
        assert row["difference"]["low"] < 0.0 < row["difference"]["high"]


def test_a_telling_domain_alone_is_a_caution() -> None:
    metrics = run(split("val", 1), split("test", 2), domain_aucs={"NORMAL": 0.9, "PNEUMONIA": 0.5})
    assert ("caution", "Test and validation differ") in titles(metrics)
    assert metrics["shift"]["detected"]


def test_a_model_like_its_baseline_shows_no_skill() -> None:
    metrics = run(split("val", 1), split("test", 2), (split("val", 1), split("test", 2)))
    difference = metrics["baseline"]["difference"]["auroc"]
    assert (difference["value"], difference["low"], difference["high"]) == (0.0, 0.0, 0.0)
    assert not metrics["baseline"]["clears"]
    assert ("alarm", "No evidence of skill beyond a thumbnail baseline") in titles(metrics)


def test_a_model_at_chance_below_its_baseline() -> None:
    weak = split("val", 1, separation=0.0), split("test", 2, separation=0.0)
    metrics = run(*weak, (split("val", 1), split("test", 2)))
    assert metrics["baseline"]["difference"]["auroc"]["high"] < 0
    assert "worse than the baseline" in metrics["baseline"]["sentence"]
    assert ("alarm", "No better than chance") in titles(metrics)


def test_the_order_of_the_baseline_does_not_matter(calm: dict[str, Any]) -> None:
    weak = split("val", 11, separation=0.8), split("test", 12, separation=0.8)
    val, test = (Predictions(part.frame.iloc[::-1].reset_index(drop=True), CLASSES, "PNEUMONIA") for part in weak)
    found = run(split("val", 1), split("test", 2), (val, test))["baseline"]["difference"]["auroc"]
    assert found == pytest.approx(calm["baseline"]["difference"]["auroc"])


def test_fallback_few_groups_and_phantom_are_named() -> None:
    metrics = run(
        split("val", 1, n=30), split("test", 2, n=30), (split("val", 11, n=30), split("test", 12, n=30)), phantom=True
    )
    found = titles(metrics)
    assert ("caution", "The recall is not certified") in found
    assert ("caution", "Few patients in the test set") in found
    assert ("note", "Phantom data") in found
    assert metrics["promise"] is None
    assert metrics["worries"][-1]["text"] == "Phantom data: generated images, says nothing about patients."
    levels = [level for level, _ in found]
    assert levels == sorted(levels, key=("alarm", "caution", "note").index)


def test_promise(calm: dict[str, Any]) -> None:
    promise, threshold = calm["promise"], calm["threshold"]
    n, allowed = threshold["n_groups"], threshold["misses_allowed"]
    assert promise["test_positive_groups"] == 120
    assert promise["expected_misses"] == pytest.approx(120 * (allowed + 1) / (n + 1))
    assert promise["misses_99"] == betabinom.ppf(0.99, 120, allowed + 1, n - allowed)
    assert promise["probability_test_meets_target"] == pytest.approx(betabinom.cdf(6, 120, allowed + 1, n - allowed))


def test_a_broken_promise_is_an_alarm() -> None:
    metrics = run(split("val", 1), split("test", 2, separation=-0.5), (split("val", 11), split("test", 12)))
    assert not metrics["promise"]["kept"]
    assert ("alarm", "The promised recall was not kept") in titles(metrics)
    assert "was not kept" in metrics["promise"]["sentence"]


def test_subgroups_and_their_suppression(calm: dict[str, Any]) -> None:
    rows = {row["value"]: row for row in calm["splits"]["test"]["by"]["subtype"]}
    assert set(rows) == {"bacteria", "normal", "virus"}
    assert set(rows["bacteria"]) >= {"sensitivity", "group_recall"} and "specificity" not in rows["bacteria"]
    assert "specificity" in rows["normal"] and "sensitivity" not in rows["normal"]
    assert (rows["bacteria"]["n_groups"], rows["virus"]["n_groups"]) == (80, 40)
    assert not rows["virus"]["suppressed"]
    few = run(split("val", 1), split("test", 2, positives=24), (split("val", 11), split("test", 12, positives=24)))
    virus = next(row for row in few["splits"]["test"]["by"]["subtype"] if row["value"] == "virus")
    assert virus["suppressed"] and virus["n_groups"] == 8
    assert virus["sensitivity"]["value"] is None


def test_subgroup_columns() -> None:
    val, test = split("val", 1), split("test", 2)
    for part in (val, test):
        part.frame["age"] = np.arange(len(part)) % 90
        part.frame["serial"] = np.arange(len(part))
        part.frame["sex"] = ["F" if row % 2 else None for row in range(len(part))]
    metrics = run(val, test, subgroup_columns=["serial", "age", "sex"])
    assert list(metrics["splits"]["test"]["by"]) == ["age", "sex"]
    assert {row["value"] for row in metrics["splits"]["test"]["by"]["age"]} == {"<30", "30-60", ">60"}
    assert {row["value"] for row in metrics["splits"]["test"]["by"]["sex"]} == {"F", "unknown"}
    for column in ("nonsense", "label", "prob_NORMAL"):
        with pytest.raises(ValueError, match=f"subgroup column '{column}'"):
            run(val, test, subgroup_columns=[column])


def test_an_error_free_share_is_not_called_certain() -> None:
    metrics = run(split("val", 1, separation=9.0), split("test", 2, separation=9.0))
    side = metrics["splits"]["test"]["at_0.5"]
    assert side["sensitivity"]["value"] == 1.0
    assert side["sensitivity"]["method"] == "wilson"
    assert side["sensitivity"]["low"] == pytest.approx(wilson(120, 120)[0])
    assert side["accuracy"]["low"] == pytest.approx(wilson(240, 240)[0])
    assert ("caution", "The ranking is perfect") in titles(metrics)


@pytest.mark.parametrize(("n", "positives"), [(1, 1), (2, 1), (0, 3), (3, 0)])
def test_tiny_and_one_sided_test_sets(n: int, positives: int) -> None:
    weak = split("val", 11), split("test", 12, n=n, positives=positives)
    metrics = run(split("val", 1), split("test", 2, n=n, positives=positives), weak)
    json.dumps(metrics, allow_nan=False)
    assert any(title == "Few patients in the test set" for _, title in titles(metrics))
    if n == 0 or positives == 0:
        assert metrics["splits"]["test"]["auroc"]["value"] is None
        assert ("caution", "One class is missing") in titles(metrics)
        assert not metrics["baseline"]["clears"]
    if positives == 0:
        assert metrics["promise"] is None
    if n == 1:  # one group drawn again and again shows no uncertainty
        auroc = metrics["splits"]["test"]["auroc"]
        assert auroc["value"] is not None and auroc["low"] is None and auroc["high"] is None
        assert metrics["baseline"]["difference"]["auroc"]["low"] is None


def test_without_a_baseline() -> None:
    metrics = run(split("val", 1), split("test", 2), baselines={}, domain_aucs={})
    assert metrics["baseline"] is None and metrics["baselines"] == []
    assert ("caution", "No baseline to compare with") in titles(metrics)


def test_a_patient_on_both_sides_is_an_alarm() -> None:
    val, test = split("val", 1), split("test", 2)
    shared = {test.frame["group_id"].iloc[0]: val.frame["group_id"].iloc[0]}
    both = [
        Predictions(part.frame.assign(group_id=part.frame["group_id"].replace(shared)), CLASSES, "PNEUMONIA")
        for part in (test, split("test", 12))
    ]
    metrics = run(val, both[0], (split("val", 11), both[1]))
    assert ("alarm", "A patient is on both sides of the split") in titles(metrics)
    assert "1 patient (val-normal-0)" in metrics["worries"][0]["text"]


def test_predictions_that_do_not_belong_together() -> None:
    val, test = split("val", 1), split("test", 2)
    with pytest.raises(ValueError, match="images are on validation and on test"):
        run(val, val)
    with pytest.raises(ValueError, match="test predictions of baseline thumbnail are not of the model's images"):
        run(val, test, (split("val", 11), split("test", 12, n=119)))
    with pytest.raises(ValueError, match=r"expected.*NORMAL"):
        run(val, Predictions(test.frame, CLASSES, "NORMAL"))
    with pytest.raises(ValueError, match="expected at least 1 resample"):
        run(val, test, bootstrap=0)


def test_fixed_rule_goes_to_the_baseline_too() -> None:
    val = split("val", 1)
    point: OperatingPoint = choose_operating_point(val, rule="fixed", fixed=0.25)
    metrics = run(val, split("test", 2), point=point)
    assert metrics["baseline"]["test"]["at_threshold"]["threshold"] == 0.25
    assert metrics["promise"] is None


def test_without_validation_nothing_is_said_that_needs_it() -> None:
    test = split("test", 2)
    point = fixed_point(0.5, test.positive_class, test.negative_class)
    metrics = run(None, test, point=point, test_kind="given")
    json.dumps(metrics, allow_nan=False)
    assert list(metrics["splits"]) == ["test"]
    assert metrics["shift"] is metrics["baseline"] is metrics["promise"] is metrics["calibration"]["calibrator"] is None
    assert metrics["splits"]["test"]["auroc"]["value"] == pytest.approx(roc_auc_score(test.labels, test.scores))
    assert ("caution", "No validation predictions") in titles(metrics)
    outside = run(None, test, point=point, test_kind="external")
    assert {"No validation predictions", "No baseline to compare with"}.isdisjoint(
        title for _, title in titles(outside)
    )
    with pytest.raises(ValueError, match="baselines need validation"):
        run(None, test, (test, test), point=point)


def test_a_threshold_set_by_hand_is_not_called_locked() -> None:
    """And nothing is read into it where the scores are far from risks."""
    test = split("test", 2)
    risks = fit_calibrator(test).scores(test.scores)
    held = (test.frame.assign(prob_PNEUMONIA=p, prob_NORMAL=1.0 - p) for p in (risks, (1.0 + risks) / 2))
    good, far = (Predictions(frame, CLASSES, "PNEUMONIA") for frame in held)
    point = fixed_point(0.5, test.positive_class, test.negative_class)
    for kind, name in (("given", "threshold"), ("external", "locked")):
        assert run(None, good, point=point, test_kind=kind)["decision_curve"]["locked"]["name"] == name
    metrics = run(None, far, point=point, test_kind="given")
    assert metrics["calibration"]["worry"]["level"] == "caution" and metrics["decision_curve"]["locked"] is None


def test_intervals_prevalences_and_beta_are_as_asked_for() -> None:
    plain = run(split("val", 1), split("test", 2))
    other = run(split("val", 1), split("test", 2), interval="bca", prevalences=(0.02,), beta=0.5)
    assert other["bootstrap"]["method"] == "bca" and other["beta"] == 0.5
    ours, theirs = (metrics["splits"]["test"]["at_threshold"] for metrics in (other, plain))
    assert [row["prevalence"] for row in ours["prevalence"]] == [0.02]
    assert ours["f_beta"]["value"] != theirs["f_beta"]["value"]
    assert other["splits"]["test"]["auroc"]["value"] == plain["splits"]["test"]["auroc"]["value"]
    assert other["splits"]["test"]["auroc"]["low"] != plain["splits"]["test"]["auroc"]["low"]


def test_a_calibrator_that_was_fitted_elsewhere_is_used_as_it_is() -> None:
    calibrator = fit_calibrator(split("val", 7))
    metrics = run(split("val", 1), split("test", 2), calibrator=calibrator)
    assert metrics["calibration"]["calibrator"]["slope"] == calibrator.slope
    assert metrics["calibration"]["calibrator"]["slope"] != fit_calibrator(split("val", 1)).slope


def test_a_perfect_small_validation_part_raises_no_alarm_of_shift() -> None:
    few = split("val", 1, n=12, separation=9.0)
    metrics = run(few, split("test", 2, separation=1.6), (few, split("test", 2, separation=1.6)))
    rows = {row["metric"]: row["difference"] for row in metrics["shift"]["table"]}
    assert rows["AUROC"]["method"] == "newcombe"
    assert rows["AUROC"]["low"] < rows["AUROC"]["value"] < rows["AUROC"]["high"]


def test_scores_of_the_other_class_are_called_that() -> None:
    test = split("test", 2)
    frame = test.frame.rename(columns={"prob_NORMAL": "prob_PNEUMONIA", "prob_PNEUMONIA": "prob_NORMAL"})
    metrics = run(None, test.with_frame(frame), point=fixed_point(0.5, "PNEUMONIA", "NORMAL"), test_kind="given")
    text = next(worry["text"] for worry in metrics["worries"] if worry["title"] == "No better than chance")
    assert "below chance" in text and "does not exclude" not in text


def test_groups_that_all_hold_both_classes_have_corrected_intervals_too() -> None:
    test = split("test", 2)
    frame = test.frame.copy()
    frame["group_id"] = [f"g{number % 60}" for number in range(len(frame))]
    assert frame.groupby("group_id")["label"].nunique().min() == 2
    metrics = run(
        None, test.with_frame(frame), point=fixed_point(0.5, "PNEUMONIA", "NORMAL"), test_kind="given", interval="bca"
    )
    auroc = metrics["splits"]["test"]["auroc"]
    assert auroc["low"] < auroc["value"] < auroc["high"]

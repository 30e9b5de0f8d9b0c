"""The input check: p-values that mean what they say, whatever is stored, and figures that do not flatter."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.input_check import InputCheck, Verdict
from evaluation.input_check_figures import of_foreign, of_known, sentences, threshold_of
from evaluation.input_check_fit import fit_input_check, one_a_group
from evaluation.input_check_limits import limits_of, outside
from evaluation.input_check_space import BUCKETS, WIDEST, Cloud, Subspace

Floats = NDArray[np.float32]


def seen(rng: np.random.Generator, n: int, shift: float = 0.0) -> dict[str, Floats]:
    """Features on a plane in 12 dimensions, and a layout and a texture; all moved off by ``shift``."""
    plane = np.random.default_rng(0).standard_normal((3, 12))
    features = rng.standard_normal((n, 3)) @ plane + 0.1 * rng.standard_normal((n, 12)) + shift
    layout, texture = (128 + 20 * rng.standard_normal((n, width)) + 20 * shift for width in (16, 9))
    return {
        name: np.asarray(values, np.float32)
        for name, values in (("features", features), ("layout", layout), ("texture", texture))
    }


def judged(check: InputCheck, values: dict[str, Floats], **more: int) -> list[Verdict]:
    facts = [{"layout": a, "texture": b} for a, b in zip(values["layout"], values["texture"], strict=True)]
    return check.judge(values["features"], facts, **more)


@pytest.fixture(scope="module")
def check() -> InputCheck:
    rng = np.random.default_rng(1)
    return fit_input_check(seen(rng, 400), seen(rng, 300), 0.05)


def test_images_like_validation_are_turned_away_as_often_as_asked(check: InputCheck) -> None:
    verdicts = judged(check, seen(np.random.default_rng(2), 2000))
    p_values = np.array([verdict.p_value for verdict in verdicts])
    for level in (0.05, 0.2, 0.5):
        # Binomial noise of 2,000 new and of 300 validation images, three standard deviations.
        slack = 3 * np.sqrt(level * (1 - level) * (1 / 2000 + 1 / 300))
        assert abs(float((p_values <= level).mean()) - level) < slack
    assert sum(bool(verdict.reasons) for verdict in verdicts) == int((p_values <= 0.05).sum())


def test_foreign_images_are_turned_away_with_a_sentence(check: InputCheck) -> None:
    verdicts = judged(check, seen(np.random.default_rng(3), 50, shift=3.0))
    assert all(verdict.p_value == pytest.approx(1 / 301) for verdict in verdicts)
    assert all("none of 300 validation images are as strange" in verdict.reasons[0] for verdict in verdicts)


def test_the_p_value_is_the_rank_among_validation(check: InputCheck) -> None:
    verdicts = judged(check, seen(np.random.default_rng(4), 40))
    for verdict in verdicts:
        at_least = int((check.calibration >= verdict.strangeness).sum())
        assert verdict.p_value == (1 + at_least) / 301


def test_several_networks_count_each_p_value_as_often(check: InputCheck) -> None:
    values = seen(np.random.default_rng(5), 30)
    once, thrice = judged(check, values), judged(check, values, of=3)
    assert [verdict.p_value for verdict in thrice] == pytest.approx([min(3 * v.p_value, 1.0) for v in once])


def test_one_image_gets_what_it_gets_among_many(check: InputCheck) -> None:
    values = seen(np.random.default_rng(6), 64)
    together = judged(check, values)
    alone = [judged(check, {name: rows[i : i + 1] for name, rows in values.items()})[0] for i in range(64)]
    assert [verdict.p_value for verdict in alone] == [verdict.p_value for verdict in together]


def test_what_is_stored_judges_the_same(check: InputCheck) -> None:
    again = InputCheck.from_parts(json.loads(json.dumps(check.to_dict())), check.arrays)
    values = seen(np.random.default_rng(7), 20, shift=0.3)
    assert judged(again, values) == judged(check, values)
    with pytest.raises(ValueError, match="lacks a part"):
        InputCheck.from_parts(check.to_dict(), {})


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("alpha",), 1.5),
        (("alpha",), float("nan")),
        (("parts", "layout", "scale"), 0.0),
        (("parts", "features", "middle"), float("inf")),
        (("parts", "colours"), {"middle": 0.0, "scale": 1.0}),
        (("limits",), [{"name": "age", "low": 0.0, "high": 1.0, "usual_low": 0.0, "usual_high": 1.0}]),
        (("limits",), [{"name": "side", "low": float("nan"), "high": None, "usual_low": 0.0, "usual_high": 1.0}]),
    ],
)
def test_a_description_that_cannot_be_is_refused(check: InputCheck, where: tuple[str, ...], value: object) -> None:
    described = json.loads(json.dumps(check.to_dict()))
    held = described
    for key in where[:-1]:
        held = held[key]
    held[where[-1]] = value
    with pytest.raises(ValueError, match=r"stored input check is damaged.*Train the run again"):
        InputCheck.from_parts(described, check.arrays)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("features.axes", np.zeros((5, 2), np.float32)),
        ("features.width", np.array([5000])),
        ("features.centre", np.full(12, np.nan, np.float32)),
        ("features.calibration", np.zeros(7)),
        ("layout.calibration", np.zeros((300, 1))),
        ("texture.calibration", np.full(300, np.inf)),
        ("layout.reference", np.zeros((0, 16), np.float16)),
        ("texture.spread", np.zeros(9, np.float32)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(check: InputCheck, name: str, array: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match=r"stored input check is damaged.*Train the run again"):
        InputCheck.from_parts(check.to_dict(), {**check.arrays, name: array})


def test_of_many_networks_each_needs_more_validation_images(check: InputCheck) -> None:
    strange = seen(
        np.random.default_rng(3), 5, shift=3.0
    )  # of 300 images and at 5 %, 15 / 301 is the most that is enough
    assert all(verdict.reasons for verdict in judged(check, strange, of=15))
    assert not any(verdict.reasons for verdict in judged(check, strange, of=16))
    assert threshold_of(check.calibration, check.alpha / 15) is not None
    assert threshold_of(check.calibration, check.alpha / 16) is None


def test_features_that_are_no_numbers_or_huge_are_foreign(check: InputCheck) -> None:
    values = seen(np.random.default_rng(8), 3)
    values["features"][0, 0], values["features"][1, 0], values["features"][2] = np.nan, np.inf, 3e38
    verdicts = judged(check, values)
    assert all(verdict.reasons and np.isfinite(verdict.strangeness) for verdict in verdicts)


def test_too_small_a_validation_part_turns_nothing_away() -> None:
    rng = np.random.default_rng(9)
    check = fit_input_check(seen(rng, 60), seen(rng, 15), 0.05)
    assert not check.can_abstain
    assert threshold_of(check.calibration, 0.05) is None
    assert not any(verdict.reasons for verdict in judged(check, seen(rng, 10, shift=5.0)))


def test_the_threshold_is_where_the_p_value_turns_images_away(check: InputCheck) -> None:
    cut = threshold_of(check.calibration, check.alpha)
    assert cut is not None
    for verdict in judged(check, seen(np.random.default_rng(10), 300, shift=0.2)):
        assert (verdict.strangeness > cut) <= (verdict.p_value <= check.alpha) <= (verdict.strangeness >= cut)


def test_wrong_shapes_are_refused(check: InputCheck) -> None:
    values = seen(np.random.default_rng(11), 3)
    with pytest.raises(ValueError, match="features have the shape"):
        judged(check, {**values, "features": values["features"][:, :5]})
    with pytest.raises(ValueError, match="expected one each"):
        check.judge(values["features"], [])
    with pytest.raises(ValueError, match="alpha is 1"):
        fit_input_check(values, values, 1.0)
    with pytest.raises(ValueError, match="at least 20"):
        fit_input_check(values, values, 0.1)


def test_the_subspace_keeps_wide_features_apart() -> None:
    rng = np.random.default_rng(12)
    width = WIDEST + 3000
    directions = rng.standard_normal((4, width)).astype(np.float32)
    known = rng.standard_normal((80, 4)).astype(np.float32) @ directions
    space = Subspace.of(known)
    assert len(space.centre) == BUCKETS
    foreign = rng.standard_normal((20, width)).astype(np.float32)
    assert space.distances(foreign).min() > 10 * max(float(space.distances(known).max()), 1e-3)


def test_the_cloud_is_the_mean_distance_to_the_nearest() -> None:
    rng = np.random.default_rng(13)
    reference, asked = (rng.normal(100, 30, (n, 5)).astype(np.float32) for n in (40, 7))
    cloud = Cloud.of(reference)
    scaled = (reference - reference.mean(0)) / reference.std(0)
    moved = (asked - reference.mean(0)) / reference.std(0)
    plain = np.sort(np.linalg.norm(moved[:, None] - scaled[None], axis=2), axis=1)[:, :10].mean(axis=1)
    assert cloud.distances(asked) == pytest.approx(plain, rel=2e-3)


def test_limits_speak_in_sentences() -> None:
    grey = limits_of({"chroma": np.array([0.0, 0.5]), "aspect": np.array([0.8, 1.2]), "side": np.array([200.0, 900.0])})
    assert outside(grey, {"chroma": 3.0, "aspect": 1.9, "side": 60.0}) == []
    assert outside(grey, {"chroma": 38.0}) == ["in colour (mean chroma 38 of 255); the training images are grey"]
    assert "unusual shape" in outside(grey, {"aspect": 4.0})[0]
    assert "only 20 pixels" in outside(grey, {"side": 20.0})[0]
    colour = limits_of({"chroma": np.array([30.0, 90.0]), "contrast": np.array([15.0, 60.0])})
    assert "without colour" in outside(colour, {"chroma": 0.0})[0]
    assert "more colourful" in outside(colour, {"chroma": 120.0})[0]
    assert "hardly any contrast" in outside(colour, {"contrast": 1.0})[0]
    assert outside(colour, {}) == []


def test_one_image_a_group_and_every_group() -> None:
    groups = ["b", "a", "b", "c", "a", "b"]
    drawn = {tuple(one_a_group(groups, np.random.default_rng(seed))) for seed in range(30)}
    assert len(drawn) > 1
    assert all(sorted(groups[place] for place in rows) == ["a", "b", "c"] for rows in drawn)


def test_the_figures_show_where_the_features_alone_fail() -> None:
    known = [Verdict(0.5, strangeness=float(i), features=float(i)) for i in range(100)]
    # The features take these for the most usual of all; the file gives them away.
    foreign = [Verdict(0.9, ("in colour",), strangeness=-1.0, features=-1.0, outside=1) for _ in range(10)]
    found = of_foreign(foreign, known, 0.01)
    assert found["features"] == {"auroc": 0.0, "fpr95": 1.0}
    assert found["checks"] == {"auroc": 1.0, "fpr95": 0.0}
    assert (found["abstain"], found["by_file"], found["by_distance"], found["by_features"]) == (1.0, 1.0, 0.0, 0.0)
    said = sentences([{"name": "skin", **found}], of_known(known, 0.01), 0.01, 0.005)
    assert said[0].startswith("0.0 % of the 100 test images")
    assert "features alone do not tell skin" in said[1]


def test_too_small_a_validation_part_is_said_and_what_is_left_of_the_check() -> None:
    known = [Verdict(0.5, strangeness=float(i), features=float(i)) for i in range(100)]
    foreign = of_foreign([Verdict(0.03, ("in colour",), strangeness=999.0, features=-1.0, outside=1)] * 4, known, 0.01)
    said = sentences([{"name": "skin", **foreign}], of_known(known, 0.01), 0.01, 0.028)
    assert "no p-value is below 2.8 %" in said[1] and "only for what its file shows" in said[1]
    assert said[2].endswith("what protects there is the look of the file.")


def test_what_passes_is_said() -> None:
    known = [Verdict(0.5, strangeness=float(i), features=float(i)) for i in range(100)]
    passing = of_foreign([Verdict(0.5, strangeness=50.0, features=99.0)] * 4, known, 0.01)
    said = sentences([{"name": "films", **passing}], of_known(known, 0.01), 0.01, 0.005)
    assert "Fewer than half are turned away of: films (0.0 %)" in said[-1]

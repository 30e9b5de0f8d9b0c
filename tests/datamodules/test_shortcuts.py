from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from datamodules import shortcuts
from datamodules.shortcuts import association, domain_auc, shortcut_aucs


def rows(count: int = 200, seed: int = 0, images_per_group: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "label": np.where(np.arange(count) // images_per_group % 2, "ill", "well"),
            "joined_group": [f"p{number // images_per_group}" for number in range(count)],
            "bytes": random.integers(5_000, 9_000, count),
            "width": 100,
            "height": 80,
            "mode": "L",
        }
    )


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(count, 32, 32), dtype=np.uint8)


def test_file_size_that_gives_the_label_away_is_found() -> None:
    frame = rows()
    frame["bytes"] += np.where(frame["label"] == "ill", 6_000, 0)
    facts = shortcut_aucs(frame)["facts"]
    assert facts["bytes"]["auc"] > 0.99
    assert facts["size"] == {"auc": None, "standard_error": None, "by_class": {}, "why": "the same in every image"}
    assert facts["all"] == facts["bytes"]


def test_a_size_in_the_middle_is_found_too() -> None:
    frame = rows(300)
    extremes = np.random.default_rng(1).choice([-60, 60], 300)
    frame["width"] += np.where(frame["label"] == "ill", extremes, 0)
    assert shortcut_aucs(frame)["facts"]["size"]["auc"] > 0.95  # no straight line tells them apart


def test_colour_mode_is_found() -> None:
    frame = rows()
    frame.loc[frame["label"] == "ill", "mode"] = "RGB"
    assert shortcut_aucs(frame)["facts"]["mode"]["auc"] == 1.0


def test_facts_that_say_nothing_stay_near_chance() -> None:
    fact = shortcut_aucs(rows(400))["facts"]["bytes"]
    assert abs(fact["auc"] - 0.5) < 4 * fact["standard_error"]


def test_groups_are_not_split_between_folds() -> None:
    # Every patient has a file size of its own: with a patient on both sides of a fold it could be recognised.
    frame = rows(400, images_per_group=20)
    frame["bytes"] = np.random.default_rng(3).permutation(20)[np.arange(400) // 20] * 1_000 + 5_000
    assert shortcut_aucs(frame)["facts"]["bytes"]["auc"] < 0.9


def test_many_classes_are_averaged() -> None:
    frame = rows(300)
    frame["label"] = [("a", "b", "c")[number % 3] for number in range(300)]
    frame["bytes"] += np.where(frame["label"] == "a", 20_000, 0)
    fact = shortcut_aucs(frame)["facts"]["bytes"]
    assert fact["by_class"]["a"] > 0.99
    assert fact["auc"] == pytest.approx(np.mean(list(fact["by_class"].values())), abs=1e-3)


def test_a_class_of_few_groups_is_left_out() -> None:
    frame = rows()
    frame.loc[:4, "label"] = "rare"
    result = shortcut_aucs(frame)
    assert result["classes"] == ["ill", "well"] and result["left_out_classes"] == ["rare"]


@pytest.mark.parametrize("count", [0, 1, 12])
def test_small_sets_get_a_reason_instead_of_a_figure(count: int) -> None:
    facts = shortcut_aucs(rows(count))["facts"]
    assert {fact["auc"] for fact in facts.values()} == {None}
    assert "fewer than two classes" in facts["bytes"]["why"]


def test_the_same_seed_gives_the_same_figure() -> None:
    assert shortcut_aucs(rows(), seed=3) == shortcut_aucs(rows(), seed=3)


def test_large_sets_are_thinned_by_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "_MOST_ROWS", 100)
    result = shortcut_aucs(rows(400, images_per_group=4))
    assert 90 <= result["n"] <= 100 and result["n"] % 4 == 0


def test_alike_sets_cannot_be_told_apart() -> None:
    found = domain_auc(noise(300), np.arange(300) % 2 == 0, np.arange(300))
    assert abs(found["auc"] - 0.5) < 4 * found["standard_error"]
    assert (found["n_first"], found["n_second"]) == (150, 150)


def test_a_brighter_corner_tells_two_sets_apart() -> None:
    small = noise(200) // 4
    side = np.arange(200) >= 120
    small[side, :16, :16] += 60
    assert domain_auc(small, side, np.arange(200))["auc"] > 0.98


def test_few_groups_of_a_side_give_no_figure() -> None:
    side = np.arange(200) >= 100
    groups = np.where(side, np.arange(200) % 9, np.arange(200) + 100)
    assert domain_auc(noise(200), side, groups)["auc"] is None
    assert domain_auc(noise(0), [], [])["auc"] is None


def test_constant_pictures_are_at_chance() -> None:
    small = np.full((60, 32, 32), 7, dtype=np.uint8)
    assert domain_auc(small, np.arange(60) % 2 == 0, np.arange(60))["auc"] == 0.5


def test_the_standard_error_is_that_of_hanley_and_mcneil() -> None:
    # Their formula by hand for AUC 0.8, 50 positives and 100 negatives.
    q1, q2 = 0.8 / 1.2, 2 * 0.64 / 1.8
    expected = np.sqrt((0.16 + 49 * (q1 - 0.64) + 99 * (q2 - 0.64)) / 5000)
    assert shortcuts._standard_error(0.8, 50, 100) == pytest.approx(expected, abs=1e-4)


def test_folds_keep_groups_together_and_classes_even() -> None:
    target = np.repeat(["a", "b"], [300, 60])
    groups = pd.Series([f"{label}{number // 3}" for number, label in enumerate(target)])
    folds = shortcuts._folds(target, groups, 0)
    assert groups.groupby(groups).transform("size").eq(3).all()
    assert pd.Series(folds).groupby(groups.to_numpy()).nunique().max() == 1
    assert pd.crosstab(folds, target).to_numpy().tolist() == [[60, 12]] * 5


def test_a_value_that_always_goes_with_a_class_is_told() -> None:
    labels = pd.Series(["mel"] * 40 + ["nv"] * 60)
    values = pd.Series(["histo"] * 40 + ["histo", "follow_up"] * 30)
    found = association(labels, values)
    assert found["always"] == {"mel": "histo"} and found["decides"] == {"follow_up": "nv"}
    assert not found["refines"] and found["table"]["histo"] == {"mel": 40, "nv": 30}


def test_a_finer_label_is_recognised() -> None:
    labels = pd.Series(["normal"] * 50 + ["pneumonia"] * 50)
    values = pd.Series(["none"] * 50 + ["bacteria", "virus"] * 25)
    found = association(labels, values)
    assert found["refines"] and found["cramers_v"] == pytest.approx(1.0, abs=0.02)


def test_a_few_images_of_one_value_are_no_rule() -> None:
    labels = pd.Series(["a", "b"] * 50)
    values = pd.Series(["x"] * 97 + ["y"] * 3)
    found = association(labels, values)
    assert found["always"] == {} and found["decides"] == {} and found["cramers_v"] < 0.1


def test_missing_values_are_counted_and_numbers_banded() -> None:
    labels = pd.Series(["a", "b"] * 100)
    ages = pd.Series([float(number % 80) for number in range(198)] + [np.nan, np.nan])
    found = association(labels, ages)
    assert found["unknown"] == 2 and len(found["table"]) == 6


def test_rare_values_are_put_together() -> None:
    values = pd.Series([f"site {number % 40}" for number in range(400)])
    found = association(pd.Series(["a", "b"] * 200), values)
    assert len(found["table"]) == 13 and "other" in found["table"]


@pytest.mark.parametrize("values", [["x"] * 20, [None] * 20, []])
def test_one_value_is_no_association(values: list[str | None]) -> None:
    labels = pd.Series((["a", "b"] * 10)[: len(values)], dtype=object)
    found = association(labels, pd.Series(values, dtype=object))
    assert found["cramers_v"] is None and found["always"] == {} and not found["refines"]


def test_a_colour_mode_that_one_class_alone_has_is_named() -> None:
    labels = ["a", "b"] * 30
    rows = pd.DataFrame({"label": labels, "joined_group": [f"g{number}" for number in range(60)], "bytes": 1000})
    rows = rows.assign(width=10, height=10, mode="L")
    assert shortcut_aucs(rows)["modes_of_one_class"] == {}
    rows.loc[[1, 3, 5, 7], "mode"] = "RGB"
    rows.loc[[0, 1, 2, 3], "mode"] = rows.loc[[0, 1, 2, 3], "mode"] + ", page 1 of 2"
    assert shortcut_aucs(rows)["modes_of_one_class"] == {"RGB": {"class": "b", "images": 4}}
    rows.loc[8, "mode"] = "RGB"
    assert shortcut_aucs(rows)["modes_of_one_class"] == {}

"""What is said about single classes, and in which order subgroups are reported."""

from __future__ import annotations

from typing import Any

import pytest

from evaluation.class_worries import class_worries
from evaluation.subgroups import subgroup_order
from evaluation.wording import test_part_of as part_of


def row(name: str, n: int = 40, n_groups: int = 20, called: int = 30) -> dict[str, Any]:
    return {"class": name, "n": n, "n_groups": n_groups, "called": called}


def metrics(rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    absent = [item["class"] for item in rows if not item["n"]]
    test = {"multiclass": {"classes": rows, "absent": absent}}
    return {"splits": {"test": test}, "group_name": "lesion", "baselines": [], **changes}


def said(content: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(item["level"], item["title"], item["text"]) for item in class_worries(content) if item]


def baseline(low: float | None, clears: bool = True) -> dict[str, Any]:
    difference = {"value": 0.01, "low": low, "high": None if low is None else 0.05}
    better = {"value": 0.2, "low": 0.1, "high": 0.3}
    differences = {"auroc": better, "macro_auroc": better, "balanced_accuracy": difference}
    return {"title": "linear SVM", "clears": clears, "difference": differences}


def test_nothing_to_say_for_enough_images_and_for_two_classes() -> None:
    assert said(metrics([row("mel"), row("nv")], baselines=[baseline(0.001)])) == []
    assert said({"splits": {"test": {}}, "group_name": "lesion", "baselines": [baseline(0.001)]}) == []


def test_absent_rare_and_never_called_classes_are_named() -> None:
    rows = [row("akiec", 0, 0, 0), row("df", 12, 9, 3), row("vasc", 9, 1, 0), row("nv")]
    found = said(metrics(rows))
    assert [level for level, _, _ in found] == ["caution"] * 3
    absent, rare, never = (text for _, _, text in found)
    assert "no image of akiec" in absent and "leave it out" in absent
    assert "df (9 lesions) and vasc (1 lesion)" in rare and "akiec" not in rare
    assert "has vasc as its most probable class" in never and "akiec" not in never


@pytest.mark.parametrize(
    ("low", "clears", "warned"), [(-0.01, True, True), (None, True, True), (0.01, True, False), (-0.01, False, False)]
)
def test_a_baseline_that_is_cleared_for_the_positive_classes_only(
    low: float | None, clears: bool, warned: bool
) -> None:
    found = said(metrics([row("mel"), row("nv")], baselines=[baseline(low, clears)]))
    assert bool(found) is warned
    if warned:
        assert "balanced accuracy differs by 0.010" in found[0][2] and "macro AUROC" not in found[0][2]
        assert "from a linear SVM." in found[0][2]


@pytest.mark.parametrize(
    "names",
    [
        ["<20", "20-39", "40-59", "80+", "100-119", "unknown"],
        ["under 30", "30 to 60", "over 60", "unknown"],
        ["0", "5.0", "45.0", "100"],
        ["abdomen", "back", "3D scan", "4 other values", "unknown"],
        ["female", "male", "unknown"],
    ],
)
def test_subgroups_stand_in_the_order_that_a_reader_expects(names: list[str]) -> None:
    shuffled = sorted(names, reverse=True)
    if "3D scan" in names:  # a word that begins with a digit is a word
        names = ["3D scan", *[name for name in names if name != "3D scan"]]
    assert sorted(shuffled, key=subgroup_order) == names


def test_the_test_part_is_only_called_official_when_it_is() -> None:
    held = {"group_name": "lesion", "leak": None}
    assert part_of(held) == ""
    assert part_of(held | {"test_kind": "official"}) == "official, locked test part"
    assert part_of(held | {"test_kind": "cut"}) == "test part cut by lesion, locked"
    assert part_of(held | {"test_kind": "cut", "leak": {"share": 0.1}}) == "test part cut image by image, LEAKY"

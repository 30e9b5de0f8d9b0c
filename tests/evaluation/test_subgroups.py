from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.bootstrap import Resampling
from evaluation.predictions import Predictions
from evaluation.subgroups import age_bands, subgroup_gap, subgroup_worries, subgroups_of
from evaluation.threshold import fixed_point

CLASSES = ("benign", "malignant")
HOW = Resampling(resamples=50)
POINT = fixed_point(0.5, "malignant", "benign")


def predictions(**sizes: tuple[int, int, float]) -> Predictions:
    """For each site: malignant and benign lesions of one image, and the share of the malignant ones that is found."""
    rows = []
    for site, (positives, negatives, share) in sizes.items():
        found = round(share * positives)
        rows += [(site, "malignant", 0.75 if k < found else 0.25) for k in range(positives)]
        rows += [(site, "benign", 0.125 if k % 2 else 0.625) for k in range(negatives)]
    frame = pd.DataFrame(rows, columns=["site", "label", "prob_malignant"])
    frame["prob_benign"] = 1 - frame["prob_malignant"]
    frame["image_id"] = frame["group_id"] = [f"i{k}" for k in range(len(frame))]
    return Predictions(frame, CLASSES, "malignant")


def rows_of(held: Predictions, column: str = "site") -> dict[str, dict[str, Any]]:
    found = subgroups_of(held, column, POINT, HOW)
    assert found is not None
    return {row["value"]: row for row in found}


def test_figures_of_each_kind_need_twenty_groups_of_that_kind() -> None:
    rows = rows_of(predictions(back=(20, 20, 0.9), chest=(19, 40, 1.0), face=(40, 19, 1.0), foot=(10, 9, 1.0)))
    assert {name: row["suppressed"] for name, row in rows.items()} == dict(
        back=False, chest=False, face=False, foot=True
    )
    back, chest, face, foot = (rows[name] for name in ("back", "chest", "face", "foot"))
    assert back["sensitivity"]["value"] == back["group_recall"]["value"] == 0.9
    assert back["specificity"]["value"] == 0.5 and back["auroc"]["value"] is not None and back["reason"] == ""
    assert [chest[kind]["value"] for kind in ("sensitivity", "group_recall", "auroc")] == [None] * 3
    assert chest["specificity"]["value"] == 0.5 and chest["reason"] == "fewer than 20 groups with malignant"
    assert face["sensitivity"]["value"] == 1.0 and face["specificity"]["value"] is face["auroc"]["value"] is None
    assert all(foot[kind]["value"] is None for kind in ("sensitivity", "group_recall", "specificity", "auroc"))
    assert foot["reason"] == "fewer than 20 groups"
    assert [row["prevalence"] for row in rows.values()] == pytest.approx([0.5, 19 / 59, 40 / 59, 10 / 19])
    assert (chest["n"], chest["n_positive_groups"], chest["n_negative_groups"]) == (59, 19, 40)


def test_groups_count_and_not_images() -> None:
    held = predictions(back=(40, 40, 1.0))
    paired = held.frame.assign(group_id=[f"g{k // 8}" for k in range(80)])
    assert rows_of(held.with_frame(paired))["back"]["suppressed"]


def test_one_kind_alone() -> None:
    rows = rows_of(predictions(back=(30, 0, 0.9), chest=(0, 30, 1.0), face=(25, 25, 1.0)))
    assert rows["back"]["reason"] == "malignant only" and "specificity" not in rows["back"]
    assert rows["chest"]["reason"] == "benign only" and "sensitivity" not in rows["chest"]
    assert rows["back"]["prevalence"] == 1.0


def test_the_gap_names_the_worst_and_the_best() -> None:
    held = predictions(back=(40, 40, 0.9), chest=(40, 40, 0.5), face=(10, 40, 0.0), unknown=(40, 40, 0.1))
    gap = subgroup_gap(list(rows_of(held).values()))
    assert gap is not None
    # face has too few malignant lesions, unknown is no group of people.
    assert (gap["worst"]["value"], gap["best"]["value"], gap["gap"]) == ("chest", "back", pytest.approx(0.4))
    assert subgroup_gap([]) is None
    assert subgroup_gap([rows_of(predictions(back=(40, 40, 0.9)))["back"]]) is None


def metrics_of(held: Predictions) -> dict[str, Any]:
    overall = float((held.scores[held.labels == 1] >= POINT.threshold).mean())
    test = {"at_threshold": {"sensitivity": {"value": overall}}, "by": {"site": list(rows_of(held).values())}}
    return {"splits": {"test": test}, "positive_class": "malignant", "group_name": "lesion"}


def test_a_subgroup_with_clearly_fewer_found_is_a_caution() -> None:
    weak = subgroup_worries(metrics_of(predictions(back=(100, 40, 0.95), chest=(60, 40, 0.5))))
    assert [item["level"] for item in weak] == ["caution"]
    for part in ("site is chest", "0.500 (", "60 malignant lesions", "0.781", "site is back"):
        assert part in weak[0]["text"]
    assert "chest" in weak[0]["title"]
    assert subgroup_worries(metrics_of(predictions(back=(100, 40, 0.9), chest=(60, 40, 0.85)))) == []
    assert subgroup_worries(metrics_of(predictions(back=(100, 40, 0.9)))) == []
    lacking = metrics_of(predictions(back=(100, 40, 0.95), chest=(60, 40, 0.5)))
    lacking["splits"]["test"].pop("by")
    assert subgroup_worries(lacking) == []


def test_ages_become_bands() -> None:
    ages = pd.Series(["29", "29.9", "30", "60", "60.5", "", None, "84"])
    assert age_bands(ages).tolist() == ["<30", "<30", "30-60", "30-60", ">60", "", "", ">60"]
    named = pd.Series(["young", "70"])
    assert age_bands(named).tolist() == ["young", "70"]
    held = predictions(back=(60, 60, 0.9))
    years = held.with_frame(held.frame.assign(age=np.arange(120) % 80 + 10))
    assert list(rows_of(years, "age")) == ["<30", "30-60", ">60"]
    few = held.with_frame(held.frame.assign(age=np.array([35, 45])[np.arange(120) % 2]))
    assert list(rows_of(few, "age")) == ["35", "45"]


def test_a_column_that_is_no_description_is_refused() -> None:
    for name in ("colour", "label", "prob_benign"):
        with pytest.raises(ValueError, match=name):
            subgroups_of(predictions(back=(30, 30, 1.0)), name, POINT, HOW)

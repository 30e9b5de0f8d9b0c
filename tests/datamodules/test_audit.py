from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from datamodules import shortcuts
from datamodules.audit import audit_dataset, describe_audit
from datamodules.fingerprints import small_images
from datamodules.index import index_files
from datamodules.near_duplicates import near_duplicates

CLASSES = ["ill", "well"]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "_TREES", 4)  # the figures are tested in test_shortcuts.py


def picture(seed: int) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(0, 256, size=(12, 12), dtype=np.uint8)
    return cv2.resize(blocks, (32, 32), interpolation=cv2.INTER_CUBIC)


def a_listing(count: int = 80) -> pd.DataFrame:
    """A sound data set: one image a patient, every fifth in the official test part, a tenth in validation."""
    number = np.arange(count)
    official = np.where(number % 5 == 0, "test", "train")
    return pd.DataFrame(
        {
            "image_id": [f"{i}.png" for i in number],
            "path": [f"folder/{i}.png" for i in number],
            "label": np.where(number % 2, "ill", "well"),
            "group_id": [f"p{i}" for i in number],
            "joined_group": [f"p{i}" for i in number],
            "official": official,
            "part": np.where(number % 10 == 1, "val", official),
            "reason": "",
            "sha256": [f"{i:064x}" for i in number],
            "bytes": 5_000 + number * 37 % 1_000,
            "width": 200,
            "height": 150,
            "mode": "L",
            "error": "",
        }
    )


def audited(listed: pd.DataFrame, *, columns: list[str] | None = None) -> dict[str, Any]:
    contents = list(dict.fromkeys(content for content in listed["sha256"] if content))
    small = (
        np.stack([picture(int(content, 16)) for content in contents]) if contents else np.empty((0, 32, 32), np.uint8)
    )
    audit = audit_dataset(
        listed,
        small,
        near_duplicates(small),
        classes=CLASSES,
        group_name="patient",
        subgroup_columns=columns or [],
    )
    json.dumps(audit, allow_nan=False)  # plain values only
    return audit


def levels(audit: dict[str, Any]) -> dict[str, str]:
    return {finding["id"]: finding["level"] for finding in audit["findings"]}


def text_of(audit: dict[str, Any], name: str) -> str:
    return next(str(finding["text"]) for finding in audit["findings"] if finding["id"] == name)


def test_a_sound_data_set_raises_nothing() -> None:
    audit = audited(a_listing())
    assert set(levels(audit).values()) == {"fine"}
    assert {"parts", "contradictions", "across_official", "official_groups", "near_duplicates", "unreadable"} <= set(
        levels(audit)
    )
    assert audit["counts"]["parts"]["test"]["well"] == {"images": 8, "groups": 8}
    assert describe_audit(audit) == [f"{len(audit['findings'])} checks found nothing to report."]


def test_identical_images_under_two_labels_are_counted_by_pair_of_classes() -> None:
    listed = a_listing()
    for first, second in ((1, 2), (3, 4), (7, 6)):
        listed.loc[second, "sha256"] = listed.loc[first, "sha256"]
        listed.loc[[first, second], ["part", "reason"]] = ["left out", "two labels"]
    audit = audited(listed)
    assert audit["contradictions"]["by_classes"] == [{"first": "ill", "second": "well", "images": 3, "within": 3}]
    assert text_of(audit, "contradictions").startswith("3 identical images are labelled both ill and well. At least")
    assert "None of these files is used." in text_of(audit, "contradictions")
    assert levels(audit)["contradictions"] == "alarm"
    assert [pair["kind"] for pair in audit["pictures"]] == ["contradiction"] * 3
    assert audit["counts"]["left_out"] == {"two labels": 6}


def test_contradictions_that_are_still_used_are_said() -> None:
    listed = a_listing()
    listed.loc[2, "sha256"] = listed.loc[1, "sha256"]
    assert "2 of these 2 files are still used" in text_of(audited(listed), "contradictions")


def test_an_unlabelled_copy_contradicts_nothing() -> None:
    listed = a_listing()
    listed.loc[2, ["sha256", "label", "part"]] = [listed.loc[1, "sha256"], "", "left out"]
    assert levels(audited(listed))["contradictions"] == "fine"


def test_test_images_that_are_in_train_are_found_with_their_other_label() -> None:
    listed = a_listing()
    listed.loc[5, "sha256"] = listed.loc[7, "sha256"]  # both ill
    listed.loc[10, "sha256"] = listed.loc[11, "sha256"]  # well and ill
    audit = audited(listed)
    assert (audit["across_official"]["n_test"], audit["across_official"]["other_label"]) == (2, 1)
    assert {"first": "test", "second": "train", "images": 2} in audit["exact_duplicates"]["by_official"]
    assert "1 of them under another label" in text_of(audit, "across_official")
    assert {pair["kind"] for pair in audit["pictures"]} == {"contradiction", "across"}


def test_a_triple_counts_once_for_each_pair_of_classes() -> None:
    listed = a_listing()
    listed.loc[[3, 4], "sha256"] = listed.loc[1, "sha256"]
    by_classes = audited(listed)["exact_duplicates"]["by_classes"]
    assert sorted((entry["first"], entry["second"], entry["images"]) for entry in by_classes) == [
        ("ill", "ill", 1),
        ("ill", "well", 1),
    ]


def test_a_source_group_in_official_train_and_test_is_an_alarm() -> None:
    listed = a_listing()
    listed.loc[5, "group_id"] = "p6"
    audit = audited(listed)
    assert levels(audit)["official_groups"] == "alarm" and levels(audit)["parts"] == "fine"
    expected = "1 patient of the official test part (1 image) also has images outside it: p6."
    assert text_of(audit, "official_groups") == expected


def test_a_joined_group_in_two_parts_is_an_alarm() -> None:
    listed = a_listing()
    listed.loc[[5, 6], "joined_group"] = "both"
    audit = audited(listed)
    assert levels(audit)["parts"] == "alarm" and audit["group_overlap"]["parts"] == {"n": 1, "list": ["both"]}


def test_near_duplicates_across_splits_labels_and_groups_are_alarms() -> None:
    listed = a_listing()
    small = np.stack([picture(row) for row in range(80)])
    small[10] = np.clip(small[11].astype(int) + 3, 0, 255)  # test and val, well and ill
    small[2] = small[4][:, ::-1]  # train and train, well
    pairs = near_duplicates(small)
    audit = audit_dataset(listed, small, pairs, classes=CLASSES, group_name="patient", subgroup_columns=[])
    near = audit["near_duplicates"]
    assert (near["n"], near["different_groups"], near["across_official"], near["across_parts"]) == (2, 2, 1, 1)
    assert [entry["transform"] for entry in near["list"]] == ["identity", "flip"]
    found = levels(audit)
    assert found["near_across_parts"] == found["near_across_official"] == found["near_different_labels"] == "alarm"
    assert found["near_different_groups"] == "caution"
    assert [pair["kind"] for pair in audit["pictures"]] == ["across", "groups"]
    assert "10.png and 11.png (well and ill)" in text_of(audit, "near_different_labels")


def test_near_duplicates_within_a_group_are_a_note() -> None:
    listed = a_listing()
    listed.loc[3, ["group_id", "joined_group"]] = ["p7", "p7"]
    small = np.stack([picture(row) for row in range(80)])
    small[3] = np.clip(small[7].astype(int) + 3, 0, 255)
    pairs = near_duplicates(small)
    audit = audit_dataset(listed, small, pairs, classes=CLASSES, group_name="patient", subgroup_columns=[])
    assert {name: level for name, level in levels(audit).items() if level != "fine"} == {"near_same_group": "note"}


def test_unreadable_files_are_listed_and_not_compared() -> None:
    listed = a_listing()
    listed.loc[[8, 9], ["sha256", "error", "part"]] = ["", "truncated or corrupt", "left out"]
    audit = audited(listed)
    assert audit["unreadable"]["n"] == 2 and audit["counts"]["readable"] == 78
    assert levels(audit)["unreadable"] == "caution"
    assert "folder/8.png: truncated or corrupt" in text_of(audit, "unreadable")
    assert audit["exact_duplicates"]["n_groups"] == 0  # no hash is not the same hash


def test_file_facts_that_tell_the_class_are_told() -> None:
    listed = a_listing()
    listed["width"] += np.where(listed["label"] == "ill", 300, 0)
    listed["bytes"] += np.where(listed["label"] == "ill", 9_000, 0)
    found = levels(audited(listed))
    assert found["shortcut_size"] == "alarm" and found["shortcut_bytes"] == "caution"
    assert "shortcut_all" not in found


def test_a_shifted_test_part_is_found() -> None:
    listed = a_listing(200)
    small = np.stack([picture(row) // 3 for row in range(200)])
    small[(listed["official"] == "test").to_numpy()] += 100
    pairs = near_duplicates(small)
    audit = audit_dataset(listed, small, pairs, classes=CLASSES, group_name="patient", subgroup_columns=[])
    assert levels(audit)["shift"] == "alarm" and audit["shift"]["split"] == "official"
    assert all(entry["auc"] > 0.9 for entry in audit["shift"]["by_class"].values())


def test_subgroups_that_give_the_label_away_are_a_caution_and_finer_labels_a_note() -> None:
    listed = a_listing()
    ill = listed["label"] == "ill"
    listed["dx_type"] = np.where(ill, "histo", np.where(np.arange(80) % 4 == 0, "histo", "follow_up"))
    listed["subtype"] = np.where(ill, np.where(np.arange(80) % 3 == 0, "bacteria", "virus"), "none")
    listed["sex"] = np.where(np.arange(80) % 4 < 2, "f", "m")
    audit = audited(listed, columns=["dx_type", "subtype", "sex", "absent"])
    found = levels(audit)
    assert found["subgroup_dx_type"] == "caution" and found["subgroup_subtype"] == "note"
    assert "subgroup_sex" not in found and set(audit["subgroups"]) == {"dx_type", "subtype", "sex"}
    assert "ill always has histo" in text_of(audit, "subgroup_dx_type")


def test_findings_are_ordered_by_importance() -> None:
    listed = a_listing()
    listed.loc[2, "sha256"] = listed.loc[1, "sha256"]
    listed.loc[9, ["sha256", "error", "part"]] = ["", "empty", "left out"]
    order = [finding["level"] for finding in audited(listed)["findings"]]
    assert order == sorted(order, key=["alarm", "caution", "note", "fine"].index)
    assert describe_audit(audited(listed))[0].startswith("ALARM: 1 image under two labels. 1 identical image")


def test_without_official_parts_the_own_split_is_looked_at() -> None:
    listed = a_listing().assign(official="")
    audit = audited(listed)
    assert audit["shift"]["split"] == "own" and "across_official" not in levels(audit)


def test_without_a_test_part_nothing_is_said_of_a_shift() -> None:
    listed = a_listing().assign(official="train", part="train")
    audit = audited(listed)
    assert {entry["auc"] for entry in audit["shift"]["by_class"].values()} == {None}
    assert not {"shift", "parts", "across_official"} & set(levels(audit))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_tiny_sets_are_audited(count: int) -> None:
    audit = audited(a_listing(count))
    assert audit["counts"]["listed"] == count
    assert levels(audit)["shortcuts"] == "note"


def test_long_lists_are_cut_and_totals_kept() -> None:
    listed = a_listing(600)
    listed["sha256"] = listed["sha256"].iloc[np.arange(600) // 2].to_numpy()
    audit = audited(listed)
    assert audit["exact_duplicates"]["n_groups"] == 300 and len(audit["exact_duplicates"]["list"]) == 200
    assert len(audit["pictures"]) <= 40


def test_missing_values_in_the_listing_are_empty_text() -> None:
    listed = a_listing()
    listed["official"] = None
    listed.loc[0, "reason"] = np.nan
    assert audited(listed)["counts"]["official_test"] == 0


def test_a_missing_column_and_missing_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="joined_group"):
        audited(a_listing().drop(columns="joined_group"))
    with pytest.raises(ValueError, match="1 pictures, but 80"):
        audit_dataset(
            a_listing(),
            np.zeros((1, 32, 32), np.uint8),
            near_duplicates(np.zeros((1, 32, 32), np.uint8)),
            classes=CLASSES,
            group_name="patient",
            subgroup_columns=[],
        )


def test_the_listing_is_not_changed() -> None:
    listed = a_listing()
    before = listed.copy()
    audited(listed)
    pd.testing.assert_frame_equal(listed, before)


@pytest.mark.realdata
def test_the_known_defects_of_the_nine_class_set_are_found(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "isic9"
    paths = sorted(root.rglob("*.jpg"))
    ids = [path.relative_to(root).as_posix() for path in paths]
    facts = index_files(root, ids, tmp_path / "index.csv")
    listed = facts.rename(columns={"size": "bytes"}).assign(
        path=ids,
        label=[path.parent.name for path in paths],
        group_id=[path.stem for path in paths],
        joined_group=[path.stem for path in paths],
        official=[path.parent.parent.name.lower() for path in paths],
        reason="",
    )
    listed["part"] = listed["official"]
    distinct = listed.drop_duplicates("sha256")
    small = small_images([root / path for path in distinct["path"]], distinct["sha256"].tolist(), tmp_path / "small")
    audit = audit_dataset(
        listed,
        small,
        near_duplicates(small),
        classes=sorted(set(listed["label"])),
        group_name="lesion",
        subgroup_columns=[],
    )
    within = {(e["first"], e["second"]): e["within"] for e in audit["contradictions"]["by_classes"]}
    assert within == {("melanoma", "seborrheic keratosis"): 75, ("actinic keratosis", "nevus"): 62}
    assert (audit["across_official"]["n_test"], audit["across_official"]["other_label"]) == (18, 18)

"""Every kind of split keeps groups whole, keeps classes even, and says what it did; the one that does not is stamped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.errors import DataError, LeakError
from datamodules.folds import _dealt, grouped_folds
from datamodules.manifest import Manifest, build_manifest, one_patient_for_all
from datamodules.split_files import obtain_splits, own_splits
from datamodules.splits import SplitPlan, leak_of, make_splits

CLASSES = ("a", "b", "c")


def manifest_of(groups: int = 150, parts: bool = False, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> Manifest:
    """Groups of one to four images; with ``parts``, every fifth group is test and every tenth validation."""
    generator = np.random.default_rng(seed)
    rows = []
    for group in range(groups):
        label = classes[group % len(classes)]
        part = "" if not parts else "test" if group % 5 == 4 else "val" if group % 10 == 3 else "train"
        for image in range(int(generator.integers(1, 5))):
            name = f"g{group}-{image}"
            rows.append((name, name, label, f"g{group}", part, f"sha-{name}"))
    return Manifest(pd.DataFrame(rows, columns=["image_id", "path", "label", "group_id", "split", "sha256"]), classes)


plans = st.builds(
    SplitPlan,
    kind=st.sampled_from(["random", "kfold"]),
    test_fraction=st.sampled_from([0.1, 0.2, 0.3]),
    val_fraction=st.sampled_from([0.1, 0.2]),
    folds=st.just(4),
    fold=st.integers(0, 3),
    seed=st.integers(0, 99),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans)
def test_shares_are_kept_and_classes_are_even(plan: SplitPlan) -> None:
    manifest = manifest_of(300)
    frame = make_splits(manifest, plan).frame
    wanted = 0.25 if plan.kind == "kfold" else plan.test_fraction
    assert (frame["split"] == "test").mean() == pytest.approx(wanted, abs=0.05)
    rest = frame[frame["split"] != "test"]
    assert (rest["split"] == "val").mean() == pytest.approx(plan.val_fraction, abs=0.05)
    for part in ("train", "val", "test"):
        shares = frame[frame["split"] == part]["label"].value_counts(normalize=True)
        whole = frame["label"].value_counts(normalize=True)
        assert (shares - whole).abs().max() < 0.15


def test_the_default_without_official_parts_is_72_8_20() -> None:
    splits = make_splits(manifest_of(600), SplitPlan())
    shares = splits.frame["split"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.72, abs=0.01)
    assert shares["val"] == pytest.approx(0.08, abs=0.01)
    assert shares["test"] == pytest.approx(0.20, abs=0.01)
    assert splits.settings["kind"] == "random"


def test_every_image_is_tested_in_exactly_one_fold() -> None:
    manifest = manifest_of()
    tested = [make_splits(manifest, SplitPlan(kind="kfold", folds=5, fold=fold)).rows("test") for fold in range(5)]
    assert sorted(np.concatenate(tested).tolist()) == list(range(len(manifest)))


def test_official_parts_are_kept_and_the_locked_test_part_is_unused_by_other_kinds() -> None:
    manifest = manifest_of(parts=True)
    official = manifest.frame["split"].to_numpy()
    whole = make_splits(manifest, SplitPlan())
    assert whole.settings["kind"] == "predefined"
    assert (whole.frame["split"].to_numpy() == official).all()
    test_only = make_splits(manifest, SplitPlan(kind="official"))
    assert ((test_only.frame["split"] == "test").to_numpy() == (official == "test")).all()
    random = make_splits(manifest, SplitPlan(kind="random"))
    assert set(random.frame["split"][official == "test"]) == {"unused"}
    pooled = make_splits(manifest, SplitPlan(kind="random", pool="all"))
    assert "unused" not in set(pooled.frame["split"])


def test_parts_that_are_not_there_are_an_error_with_a_way_on() -> None:
    with pytest.raises(DataError, match=r"no parts of its own. Use split.kind=random"):
        make_splits(manifest_of(), SplitPlan(kind="official"))


def test_an_image_level_split_is_named_leaky_and_its_leak_is_counted() -> None:
    manifest = manifest_of(400)
    splits = make_splits(manifest, SplitPlan(grouping="none"))
    assert "LEAKY" in splits.settings["method"]
    assert "LEAKY" in SplitPlan(kind="random", grouping="none").name
    leak = leak_of(manifest, splits, "lesion")
    assert leak is not None
    groups = manifest.frame["group_id"].to_numpy()
    train = set(groups[splits.rows("train")])
    by_hand = np.mean([group in train for group in groups[splits.rows("test")]])
    assert leak["share"] == pytest.approx(by_hand)
    assert leak["share"] > 0.3
    assert leak_of(manifest, make_splits(manifest, SplitPlan()), "lesion") is None


def test_a_rare_class_is_an_error_that_says_what_works_or_stays_in_training() -> None:
    frame = manifest_of(300).frame
    few = frame[frame["label"] != "c"]
    rare = frame[frame["label"] == "c"].drop_duplicates("group_id").head(4)
    manifest = Manifest(pd.concat([few, rare], ignore_index=True), CLASSES)
    with pytest.raises(
        DataError,
        match=r"class c has only 4 groups.*split.test_fraction=0.2 needs at least 5.*=0.25.*rare_classes=train",
    ):
        make_splits(manifest, SplitPlan())
    works = make_splits(manifest, SplitPlan(test_fraction=0.25, val_fraction=0.5))
    assert set(works.frame["label"][works.frame["split"] == "test"]) == set(CLASSES)
    with pytest.raises(DataError, match=r"split.folds=5 needs at least 5. What works: split.folds=4"):
        make_splits(manifest, SplitPlan(kind="kfold"))
    kept = make_splits(manifest, SplitPlan(rare_classes="train"))
    assert set(kept.frame["split"][kept.frame["label"] == "c"]) == {"train"}
    assert kept.settings["rare"] == ["c"]


def test_a_fraction_of_the_groups_of_each_class_is_trained_on() -> None:
    manifest = manifest_of(300)
    whole, part = (make_splits(manifest, SplitPlan(fraction=share)) for share in (None, 0.25))
    assert (part.rows("val") == whole.rows("val")).all()
    assert (part.rows("test") == whole.rows("test")).all()
    for name in CLASSES:
        groups = [
            set(side.frame.loc[(side.frame["split"] == "train") & (side.frame["label"] == name), "group_id"])
            for side in (whole, part)
        ]
        assert len(groups[1]) == round(0.25 * len(groups[0]))


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(0, 99), st.integers(60, 400))
def test_dealt_folds_are_whole_even_and_repeatable(count: int, seed: int, groups: int) -> None:
    frame = manifest_of(groups, seed=seed).frame
    fold = _dealt(frame["label"], frame["group_id"], count, seed)
    assert (fold == _dealt(frame["label"], frame["group_id"], count, seed)).all()
    assert (pd.Series(fold).groupby(frame["group_id"].to_numpy()).nunique() == 1).all()
    members = pd.DataFrame({"fold": fold, "label": frame["label"], "group": frame["group_id"]}).drop_duplicates("group")
    dealt = pd.crosstab(members["label"], members["fold"]).reindex(columns=range(count), fill_value=0)
    # Groups of one kind (label and size: at most four sizes) differ by at most one between folds.
    assert (dealt.max(axis=1) - dealt.min(axis=1) <= 4).all()
    other = _dealt(frame["label"], frame["group_id"], count, seed + 1)
    assert (fold != other).any()


def test_many_groups_are_dealt_and_few_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = manifest_of(60).frame
    searched = grouped_folds(frame["label"], frame["group_id"], 3, 0)
    monkeypatch.setattr("datamodules.folds._QUICK", 10)
    dealt = grouped_folds(frame["label"], frame["group_id"], 3, 0)
    assert set(searched) == set(dealt) == {0, 1, 2}
    assert (searched != dealt).any()


def write_own(path: Path, manifest: Manifest, parts: np.ndarray | list[str]) -> Path:
    pd.DataFrame({"image_id": manifest.frame["image_id"], "split": parts}).to_csv(path, index=False)
    return path


def by_group(manifest: Manifest) -> np.ndarray:
    number = manifest.frame["group_id"].str[1:].astype(int)
    return np.where(number < 90, "train", np.where(number < 120, "Validation", "TEST"))


def test_ones_own_split_file_is_used_and_checked(tmp_path: Path) -> None:
    manifest = manifest_of()
    good = own_splits(
        manifest,
        write_own(tmp_path / "own.csv", manifest, np.char.replace(by_group(manifest), "Validation", "val")),
        "train",
    )
    assert {part: len(good.rows(part)) > 0 for part in ("train", "val", "test")} == dict.fromkeys(
        ("train", "val", "test"), True
    )
    parts = by_group(manifest)
    parts[0] = "TEST"
    first = manifest.frame["group_id"].iloc[0]
    assert (manifest.frame["group_id"] == first).sum() > 1, "one image alone cannot leak"
    with pytest.raises(LeakError, match=f"{first} in test and train"):
        own_splits(manifest, write_own(tmp_path / "leak.csv", manifest, parts), "train")
    with pytest.raises(DataError, match="'somewhere' in line 2"):
        own_splits(manifest, write_own(tmp_path / "odd.csv", manifest, ["somewhere"] * len(manifest)), "train")
    with pytest.raises(DataError, match="no image of class"):
        own_splits(manifest, write_own(tmp_path / "empty.csv", manifest, ["train"] * len(manifest)), "train")
    (tmp_path / "columns.csv").write_text("id,part\n1,train\n")
    with pytest.raises(DataError, match="needs the columns image_id and split"):
        own_splits(manifest, tmp_path / "columns.csv", "train")
    (tmp_path / "strange.csv").write_text("image_id,split\nnobody,train\n")
    with pytest.raises(DataError, match=r"not in the data set, the first is nobody. Ids look like g0-0"):
        own_splits(manifest, tmp_path / "strange.csv", "train")


def test_ones_own_file_may_not_train_on_the_official_test_part_unnoticed(tmp_path: Path) -> None:
    manifest = manifest_of(parts=True)
    path = write_own(tmp_path / "own.csv", manifest, np.char.replace(by_group(manifest), "Validation", "val"))
    with pytest.raises(DataError, match=r"split\.pool=all"):
        own_splits(manifest, path, "train")
    assert own_splits(manifest, path, "all").settings["kind"] == "file"


def test_plans_are_stored_apart_and_found_again(tmp_path: Path) -> None:
    manifest = manifest_of()
    plans = [SplitPlan(), SplitPlan(seed=1), SplitPlan(kind="kfold", fold=1), SplitPlan(fraction=0.5)]
    first = [obtain_splits(manifest, tmp_path, plan).sha256 for plan in plans]
    assert len({path.name for path in tmp_path.glob("*.csv")}) == 4
    assert [obtain_splits(manifest, tmp_path, plan).sha256 for plan in plans] == first


def facts_of(listing: pd.DataFrame, contents: list[str], patients: list[str] | None = None) -> pd.DataFrame:
    columns = {"image_id": listing["image_id"], "sha256": contents, "width": 1, "height": 1, "mode": "L", "error": ""}
    return pd.DataFrame({**columns, "patient": patients or [""] * len(listing)})


def test_near_duplicates_and_dicom_patients_join_groups() -> None:
    names = list("pqrstuvw")
    listing = pd.DataFrame({"image_id": names, "path": names, "label": ["a", "b"] * 4, "group_id": names, "split": ""})
    facts = facts_of(listing, [f"c{name}" for name in names], ["", "x", "x", "", "", "", "", ""])
    manifest = build_manifest(listing, facts, ("a", "b"), [], pairs=[("cp", "cw"), ("cw", "cgone")], locked=())
    groups = manifest.frame.set_index("image_id")["group_id"]
    assert groups["p"] == groups["w"] == "p"
    assert groups["q"] == groups["r"] == "q"
    assert groups["s"] == "s"
    assert not any("x" in str(value) for value in manifest.frame.to_numpy().ravel()), "the patient's hash is never kept"


@pytest.mark.parametrize(("conflicts", "left"), [("drop", 4), ("keep", 6), ("error", None)])
def test_contradictory_labels_are_dropped_kept_or_an_error(conflicts: str, left: int | None) -> None:
    names = list("pqrstu")
    listing = pd.DataFrame({"image_id": names, "path": names, "label": ["a", "b"] * 3, "group_id": names, "split": ""})
    facts = facts_of(listing, ["same", "same", "c1", "c2", "c3", "c4"])
    if left is None:
        with pytest.raises(DataError, match=r"p \(a\) and q \(b\)"):
            build_manifest(listing, facts, ("a", "b"), [], conflicts=conflicts, locked=())
        return
    manifest = build_manifest(listing, facts, ("a", "b"), [], conflicts=conflicts, locked=())
    assert len(manifest) == left
    assert manifest.frame["group_id"].nunique() == (4 if left == 4 else 5)


def test_the_test_part_may_lack_one_of_many_classes_but_not_one_of_two() -> None:
    names = [f"i{number}" for number in range(9)]
    listing = pd.DataFrame({"image_id": names, "path": names, "label": list("abcabcaba"), "group_id": names})
    listing["split"] = ["train"] * 6 + ["test"] * 3
    facts = facts_of(listing, names)
    assert len(build_manifest(listing, facts, ("a", "b", "c"), [])) == 9
    two = listing[listing["label"].isin(["a", "b"])].assign(
        split=lambda rows: np.where(rows["label"] == "b", "train", rows["split"])
    )
    with pytest.raises(DataError, match="class b in the test part"):
        build_manifest(two.reset_index(drop=True), facts, ("a", "b"), [])


def test_one_patient_name_for_nearly_all_dicom_files_is_no_key() -> None:
    assert one_patient_for_all(pd.Series(["anonymous"] * 15 + ["other"] * 5))
    assert not one_patient_for_all(pd.Series([f"p{number // 2}" for number in range(20)]))
    assert not one_patient_for_all(pd.Series(["same"] * 6))
    assert not one_patient_for_all(pd.Series([""] * 40))

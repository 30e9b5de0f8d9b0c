"""Splits cannot leak, are stable for a seed, and are obeyed once written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.errors import DataChangedError, DataError, LeakError
from datamodules.manifest import Manifest
from datamodules.split_files import obtain_splits, read_splits
from datamodules.splits import SplitPlan, Splits, make_splits

CLASSES = ("NORMAL", "PNEUMONIA")


def manifest_of(sizes: list[int], seed: int = 0, positive_share: float = 0.6) -> Manifest:
    """One group per entry of ``sizes``, with that many images; every fifth group is the official test part."""
    generator = np.random.default_rng(seed)
    rows = []
    for group, size in enumerate(sizes):
        label = CLASSES[int(generator.random() < positive_share)] if group >= 80 else CLASSES[group % 2]
        part = "test" if group % 5 == 4 else "train"
        for image in range(size):
            name = f"g{group}-{image}"
            rows.append((name, name, label, f"g{group}", part, f"sha-{name}"))
    return Manifest(pd.DataFrame(rows, columns=["image_id", "path", "label", "group_id", "split", "sha256"]), CLASSES)


sizes = st.lists(st.integers(1, 6), min_size=100, max_size=200)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sizes=sizes, seed=st.integers(0, 1000), fraction=st.sampled_from([0.1, 0.15, 0.2, 0.3]))
def test_no_group_is_in_two_parts_and_nothing_is_lost(sizes: list[int], seed: int, fraction: float) -> None:
    manifest = manifest_of(sizes, seed)
    splits = make_splits(manifest, SplitPlan(val_fraction=fraction, seed=seed))
    parts = splits.frame.groupby("group_id")["split"].nunique()
    assert (parts == 1).all()
    assert splits.frame["image_id"].tolist() == manifest.frame["image_id"].tolist()
    assert ((splits.frame["split"] == "test") == (manifest.frame["split"] == "test")).all()
    rows = np.concatenate([splits.rows(part) for part in ("train", "val", "test")])
    assert sorted(rows.tolist()) == list(range(len(manifest)))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1000))
def test_validation_is_stratified(seed: int) -> None:
    manifest = manifest_of([1, 2, 1, 1, 3] * 80, seed)
    frame = make_splits(manifest, SplitPlan(val_fraction=0.1, seed=seed)).frame
    pool = frame[frame["split"] != "test"]
    held = pool[pool["split"] == "val"]
    assert abs(len(held) / len(pool) - 0.1) < 0.03
    assert abs((held["label"] == "PNEUMONIA").mean() - (pool["label"] == "PNEUMONIA").mean()) < 0.1


def test_seed_zero_is_a_seed() -> None:
    manifest = manifest_of([1, 2] * 80)
    first, again = (make_splits(manifest, SplitPlan(val_fraction=0.1, seed=0)) for _ in range(2))
    other = make_splits(manifest, SplitPlan(val_fraction=0.1, seed=1))
    assert first.sha256 == again.sha256
    assert first.sha256 != other.sha256


@settings(max_examples=10, deadline=None)
@given(wanted=st.integers(5, 60), seed=st.integers(0, 99))
def test_per_class_takes_whole_groups_and_the_exact_number(wanted: int, seed: int) -> None:
    manifest = manifest_of([1, 1, 2, 3] * 60)
    whole = make_splits(manifest, SplitPlan(val_fraction=0.1, seed=seed))
    part = make_splits(manifest, SplitPlan(val_fraction=0.1, seed=seed, per_class=wanted))
    counts = part.frame[part.frame["split"] == "train"]["label"].value_counts()
    assert counts.to_dict() == {"NORMAL": wanted, "PNEUMONIA": wanted}
    assert part.rows("val").tolist() == whole.rows("val").tolist()
    assert part.rows("test").tolist() == whole.rows("test").tolist()


def test_per_class_says_what_there_is() -> None:
    with pytest.raises(DataError, match=r"per_class=5000.*has only \d+ training images"):
        make_splits(manifest_of([1] * 200), SplitPlan(val_fraction=0.1, seed=0, per_class=5000))


def test_too_few_groups_say_what_would_work() -> None:
    with pytest.raises(DataError, match=r"only \d+ groups.*at least 10"):
        make_splits(manifest_of([1] * 15), SplitPlan(val_fraction=0.1, seed=0))


def test_a_leaking_object_cannot_exist() -> None:
    splits = make_splits(manifest_of([2] * 100), SplitPlan(val_fraction=0.1, seed=0))
    frame = splits.frame.copy()
    row = int(splits.rows("train")[0])
    frame.loc[row, "split"] = "test"
    with pytest.raises(LeakError, match=frame.loc[row, "group_id"]):
        Splits(frame, splits.manifest_sha256, {})


def obtain(manifest: Manifest, folder: Path, refresh: bool = False) -> Splits:
    return obtain_splits(manifest, folder, SplitPlan(val_fraction=0.1, seed=0), refresh=refresh)


def test_the_written_split_is_obeyed(tmp_path: Path) -> None:
    manifest = manifest_of([1] * 150)
    first = obtain(manifest, tmp_path)
    path = tmp_path / SplitPlan(kind="official").name
    frame = pd.read_csv(path)
    moved = frame.index[frame["split"] == "train"][0]
    frame.loc[moved, "split"] = "val"
    frame.to_csv(path, index=False)
    again = obtain(manifest, tmp_path)
    assert len(again.rows("val")) == len(first.rows("val")) + 1
    assert again.sha256 != first.sha256
    assert again.settings["method"].startswith("edited by hand")
    assert not first.settings["method"].startswith("edited")
    frame.loc[frame["split"] == "val", "split"] = "train"
    frame.to_csv(path, index=False)
    with pytest.raises(DataError, match="the val part has no image of class NORMAL and PNEUMONIA"):
        obtain(manifest, tmp_path)


def test_per_class_smaller_than_every_group_is_an_error() -> None:
    with pytest.raises(DataError, match=r"per_class=3: the smallest group of class \w+ has 4"):
        make_splits(manifest_of([4] * 120), SplitPlan(val_fraction=0.1, seed=0, per_class=3))


def test_a_split_without_its_record_is_made_again(tmp_path: Path) -> None:
    manifest = manifest_of([1] * 150)
    first = obtain(manifest, tmp_path)
    (tmp_path / SplitPlan(kind="official").name).unlink()  # killed between the two writes
    assert obtain(manifest, tmp_path).sha256 == first.sha256


def test_an_edited_split_file_may_not_leak_or_touch_the_test_part(tmp_path: Path) -> None:
    manifest = manifest_of([2] * 100)
    obtain(manifest, tmp_path)
    path = tmp_path / SplitPlan(kind="official").name
    frame = pd.read_csv(path)
    for part, error, words in (("val", LeakError, "more than one split"), ("test", DataError, "locked")):
        edited = frame.copy()
        edited.loc[edited.index[edited["split"] == "train"][0], "split"] = part
        edited.to_csv(path, index=False)
        with pytest.raises(error, match=words):
            read_splits(path, manifest)


def test_changed_data_are_refused_with_the_reason(tmp_path: Path) -> None:
    manifest = manifest_of([1] * 150)
    obtain(manifest, tmp_path)
    frame = manifest.frame.iloc[1:].copy()
    frame.iloc[0, frame.columns.get_loc("sha256")] = "other"
    changed = Manifest(frame.reset_index(drop=True), CLASSES)
    with pytest.raises(DataChangedError) as caught:
        obtain(changed, tmp_path)
    text = str(caught.value)
    assert "1 removed (for example g0-0)" in text
    assert "1 with other content (for example g1-0)" in text
    assert "split.refresh=true" in text
    fresh = obtain(changed, tmp_path, refresh=True)
    assert fresh.manifest_sha256 == changed.sha256
    kept = sorted(path.name for path in tmp_path.glob("*old1*"))
    stem = SplitPlan(kind="official").name.removesuffix(".csv")
    assert kept == [f"{stem}.old1.csv", f"{stem}.old1.json"]
    assert json.loads((tmp_path / kept[1]).read_text())["manifest_sha256"] == manifest.sha256


def test_a_damaged_split_file_is_named(tmp_path: Path) -> None:
    manifest = manifest_of([1] * 150)
    obtain(manifest, tmp_path)
    path = tmp_path / SplitPlan(kind="official").name
    path.with_suffix(".json").write_text("{")
    with pytest.raises(DataError, match=path.name):
        read_splits(path, manifest)

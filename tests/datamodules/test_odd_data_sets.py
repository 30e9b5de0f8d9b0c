"""Data sets as they should not be: nothing is counted twice, lost in silence, or ends in a stack trace."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from datamodules.card import data_card
from datamodules.errors import DataError
from datamodules.folders import list_folders
from datamodules.listing import Listing
from datamodules.manifest import Manifest
from datamodules.prepared import PreparedData, prepare, reasons
from datamodules.split_files import obtain_splits
from datamodules.splits import SplitPlan, make_splits
from datamodules.table import list_table
from tests.conftest import composed_settings, write_image
from tests.datamodules.test_readers import COLUMNS, make_folders, make_table


def prepared_folder(root: Path, home: Path, classes: str = "[a,b]", positive: str = "[b]", *more: str) -> PreparedData:
    folders = (f"data.root={root}", f"data.prepared={home / 'prepared'}", "model.image_size=16")
    own = (f"task.classes={classes}", f"task.positive={positive}")
    return prepare(composed_settings("task=folder", *own, *folders, *more))


def test_classes_may_be_called_by_numbers(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "digits", [""], ["0", "1"], images=20)
    prepared = prepared_folder(root, tmp_path, '["0","1"]', '["1"]')
    assert prepared.manifest.classes == ("0", "1")


def test_patients_with_images_of_both_classes_are_one_group_each(tmp_path: Path) -> None:
    root, seed = tmp_path / "mixed", 0
    for patient in range(40):
        for name in ("a", "b"):
            seed += 1
            write_image(root / name / f"p{patient:02d}.png", seed)
    pattern = r"task.group_pattern='(?P<group>p\d\d)'"
    prepared = prepared_folder(root, tmp_path, "[a,b]", "[b]", pattern)
    card = data_card(prepared, composed_settings("task=folder")["task"])
    assert card["parts"]["all"] == {"images": 80, "groups": 40}
    assert sum(card["parts"][part]["groups"] for part in ("train", "val", "test")) == 40
    assert "fits 80 of 80 files" in card["group_rule"]


def rare_manifest(rare_groups: int = 2, mixed: bool = False) -> Manifest:
    rows = [(f"i{n}", f"g{n}", "abc"[n % 2]) for n in range(60)]
    rows += [(f"r{n}", f"r{n}", "c") for n in range(rare_groups)]
    if mixed:  # all but a few groups of b also hold an image of the rare class
        rows += [(f"m{n}", f"g{n}", "c") for n in range(1, 52, 2)][:1] + [
            (f"x{n}", f"r{n % rare_groups}", "b") for n in range(2)
        ]
    frame = pd.DataFrame(rows, columns=["image_id", "group_id", "label"])
    return Manifest(frame.assign(path=frame["image_id"], split="", sha256="s-" + frame["image_id"]), ("a", "b", "c"))


@pytest.mark.parametrize("kind", ["random", "kfold"])
def test_a_stored_split_with_a_rare_class_is_read_again(tmp_path: Path, kind: str) -> None:
    plan = SplitPlan(kind=kind, rare_classes="train")
    first = obtain_splits(rare_manifest(), tmp_path, plan)
    assert first.settings["rare"] == ["c"]
    assert obtain_splits(rare_manifest(), tmp_path, plan).sha256 == first.sha256


def test_every_class_that_is_not_judged_is_named_as_rare() -> None:
    splits = make_splits(rare_manifest(mixed=True), SplitPlan(rare_classes="train"))
    frame = splits.frame
    for part in ("val", "test"):
        assert set(frame["label"][frame["split"] == part]) | set(splits.settings["rare"]) >= {"a", "b", "c"}


def test_nothing_left_to_cut_is_an_error_that_does_not_propose_itself() -> None:
    frame = rare_manifest().frame.head(8)
    manifest = Manifest(frame, ("a", "b", "c"))
    with pytest.raises(DataError, match=r"split.test_fraction=0.2 needs at least 5") as caught:
        make_splits(manifest, SplitPlan(rare_classes="train"))
    assert "rare_classes=train" not in str(caught.value)


@pytest.mark.parametrize("groups", range(2, 10))
def test_a_proposed_fraction_works(groups: int) -> None:
    rows = [(f"i{n}", "a") for n in range(60)] + [(f"r{n}", "b") for n in range(2 * groups)]
    frame = pd.DataFrame(rows, columns=["image_id", "label"])
    names = frame["image_id"]
    manifest = Manifest(frame.assign(path=names, split="", sha256=names, group_id=names), ("a", "b"))
    plan = SplitPlan(test_fraction=0.5)  # leaves half of the rare class for validation to be cut from
    with pytest.raises(
        DataError, match=r"split.val_fraction=0.1 needs at least 10. What works: split.val_fraction="
    ) as caught:
        make_splits(manifest, plan)
    proposed = float(str(caught.value).split("What works: split.val_fraction=")[1].split(",")[0])
    splits = make_splits(manifest, SplitPlan(test_fraction=0.5, val_fraction=proposed))
    assert set(splits.frame["label"][splits.frame["split"] == "val"]) == {"a", "b"}


def test_a_table_of_groups_that_knows_no_image_is_refused(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "own", [""], ["a", "b"], images=5)
    table = tmp_path / "known.csv"
    table.write_text("image_id,patient_id\n1.jpg,P1\n2.jpg,P1\n")  # with the suffix
    with pytest.raises(DataError, match="without suffix"):
        list_folders(root, "my_images", group_table=str(table))
    table.write_text("image_id,patient_id\n1,P1\n2,P1\n3,NA\n4,nan\n")
    listing = list_folders(root, "my_images", group_table=str(table))
    assert listing.frame["group_id"].nunique() == 9
    assert "knows 4 of 10 files" in listing.about.group_rule


def reasons_of(listing: Listing) -> dict[str, str]:
    return {item.path: item.reason for item in listing.left_out}


def test_what_lies_beside_the_classes_or_behind_a_link_is_listed(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "own", ["train", "test"], ["a", "b"])
    make_folders(tmp_path / "elsewhere", [""], ["more"])
    write_image(root / "stray.png", 1)
    write_image(root / "train" / "stray.jpg", 2)
    write_image(root / "extra" / "c" / "1.jpg", 3)
    os.symlink(tmp_path / "elsewhere" / "more", root / "train" / "a" / "linked")
    assert reasons_of(list_folders(root, "my_images")) == {
        "stray.png": "an image outside the class folders",
        "train/stray.jpg": "an image outside the class folders",
        "extra/": "a folder beside train and test is not read",
        "train/a/linked/": "a linked folder is not followed",
    }


def test_a_training_part_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none for training"):
        list_folders(make_folders(tmp_path, ["val", "test"], ["a", "b"]), "my_images")
    root = make_folders(tmp_path / "two", ["train", "val"], ["a", "b"], images=12)
    with pytest.raises(DataError, match=r"no test part. Use split.kind=random"):
        prepared_folder(root, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_stops(tmp_path: Path) -> None:
    root = make_folders(tmp_path, [""], ["a", "b"])
    closed = root / "a" / "closed"
    closed.mkdir(mode=0o000)
    with pytest.raises(DataError, match="closed"):
        list_folders(root, "my_images")
    closed.chmod(0o700)


def test_one_file_under_two_spellings_is_one_image(tmp_path: Path) -> None:
    text = "path,label\nimg/0.png,a\n./img/0.png,a\nimg/../img/1.png,b\n"
    assert list_table(make_table(tmp_path, text), COLUMNS).frame["image_id"].tolist() == ["img/0.png", "img/1.png"]


def test_words_for_a_missing_group_join_nobody(tmp_path: Path) -> None:
    text = "path,label,who\nimg/0.png,a,NA\nimg/1.png,b,nan\nimg/2.png,a,unknown\nimg/3.png,b,\n"
    assert list_table(make_table(tmp_path, text), {**COLUMNS, "group": "who"}).frame["group_id"].nunique() == 4


def test_odd_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a header and no rows"):
        list_table(make_table(tmp_path, "path,label\n"), COLUMNS)
    spaced = list_table(make_table(tmp_path, "path, label ,\nimg/0.png,a,\nimg/1.png,b,\n"), COLUMNS)
    assert spaced.frame["label"].tolist() == ["a", "b"]
    columns: dict[str, Any] = {**COLUMNS, "group": "patient", "subgroups": ["patient", "error"]}
    listing = list_table(
        make_table(tmp_path, "path,label,patient,error\nimg/0.png,a,p1,x\nimg/1.png,b,p2,y\n"), columns
    )
    assert {"own_patient", "own_error"} <= set(listing.frame.columns)


def test_a_changed_subgroup_is_audited_again(tmp_path: Path) -> None:
    rows = [f"img/{n}.png,{'ab'[n % 2]},{'fm'[n // 2 % 2]}" for n in range(60)]
    root = make_table(tmp_path / "mine", "path,label,sex\n" + "\n".join(rows) + "\n", images=60)
    more = [
        f"data.root={root}",
        f"data.prepared={tmp_path / 'prepared'}",
        "model.image_size=16",
        "table.subgroups=[sex]",
    ]
    settings = composed_settings("task=table", "task.classes=[a,b]", "task.positive=[b]", *more)
    first = prepare(settings).audit
    rows = [f"img/{n}.png,{'ab'[n % 2]},{'fm'[n % 2]}" for n in range(60)]
    (root / "images.csv").write_text("path,label,sex\n" + "\n".join(rows) + "\n")
    again = prepare(settings).audit
    assert first["subgroups"] != again["subgroups"]


def test_damaged_notes_of_earlier_work_are_made_again(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "mine", [""], ["a", "b"], images=20)
    prepared = prepared_folder(root, tmp_path)
    damaged = [*prepared.folder.rglob("near-duplicates*.csv"), *(prepared.folder / "cache").glob("*.json")]
    damaged += prepared.task_folder.glob("audit/*.json")
    assert len(damaged) == 3
    for file in damaged:
        file.write_text("")
    assert prepared_folder(root, tmp_path).audit == prepared.audit


def test_a_prepared_folder_inside_the_data_is_refused(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "mine", [""], ["a", "b"], images=12)
    before = sorted(root.rglob("*"))
    with pytest.raises(DataError, match="lies inside the data set"):
        prepare(
            composed_settings(
                "task=folder",
                "task.classes=[a,b]",
                "task.positive=[b]",
                f"data.root={root}",
                f"data.prepared={root}/prepared",
            )
        )
    assert sorted(root.rglob("*")) == before


def test_reasons_are_counted_by_kind() -> None:
    from datamodules.manifest import LeftOut

    texts = [
        *("its label 'x' belongs to no class of the task", "its label 'y' belongs to no class of the task"),
        *("unreadable: truncated (x)", "unreadable: empty", "a copy that a file manager made (of b.jpg)"),
    ]
    counted = reasons(tuple(LeftOut(str(number), text) for number, text in enumerate(texts)))
    assert counted == {
        "its label ... belongs to no class of the task": 2,
        "unreadable": 2,
        "a copy that a file manager made": 1,
    }


def test_absolute_paths_stay_out_of_ids_and_every_pair_of_copies_is_listed(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "disk" / "ward", [""], ["a", "b"], images=20)
    files = sorted(root.rglob("*.jpg"))
    shutil.copy(files[0], files[0].with_name("again.jpg"))
    lines = [f"{file},{file.parent.name}" for file in sorted(root.rglob("*.jpg"))]
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    more = [
        f"data.root={tmp_path}",
        f"data.prepared={tmp_path.parent / (tmp_path.name + '-home')}",
        "model.image_size=16",
    ]
    prepared = prepare(composed_settings("task=table", "task.classes=[a,b]", "task.positive=[b]", *more))
    ids = prepared.manifest.frame["image_id"]
    assert len(ids) == 41
    assert all(image_id.startswith(("a/", "b/")) for image_id in ids)
    assert prepared.copies["kind"].tolist() == ["identical"]
    assert {prepared.copies["first_path"][0], prepared.copies["second_path"][0]} == {
        str(files[0]),
        str(files[0].with_name("again.jpg")),
    }

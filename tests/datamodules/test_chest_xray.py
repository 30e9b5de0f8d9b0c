"""The reader of the Kermany folders: names, patients, layouts and what is wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from datamodules.chest_xray import find_root, list_chest_xray, patient_of
from datamodules.errors import DataError
from datamodules.labels import apply_policy
from datamodules.missing import require_folder
from datamodules.prepared import prepare
from tests.conftest import composed_settings, make_chest_xray, write_image

CLASSES = ("NORMAL", "PNEUMONIA")


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("person12_bacteria_34", ("bacteria-12", "bacteria")),
        ("person12_virus_34", ("virus-12", "virus")),
        ("person447_virus_921_1", ("virus-447", "virus")),
        ("IM-0115-0001", ("IM-0115", "normal")),
        ("NORMAL2-IM-0115-0001", ("NORMAL2-IM-0115", "normal")),
        ("IM-0033-0001-0001", ("IM-0033", "normal")),
        ("BACTERIA-1008087-0001", ("BACTERIA-1008087", "bacteria")),
        ("NORMAL-1003233-0001", ("NORMAL-1003233", "normal")),
        ("holiday", None),
    ],
)
def test_patients(stem: str, expected: tuple[str, str] | None) -> None:
    assert patient_of(stem) == expected


def test_nested_layout_and_macosx(tmp_path: Path) -> None:
    plain = make_chest_xray(tmp_path / "plain")
    nested = tmp_path / "nested"
    shutil.copytree(plain, nested / "chest_xray" / "chest_xray")
    shutil.copytree(plain, nested / "chest_xray" / "__MACOSX" / "train")
    ids = list_chest_xray(plain).frame["image_id"].tolist()
    assert list_chest_xray(nested).frame["image_id"].tolist() == ids
    # A second copy one level deeper must not double the data.
    shutil.copytree(plain, plain / "chest_xray")
    assert find_root(plain) == plain
    assert list_chest_xray(plain).frame["image_id"].tolist() == ids


def test_val_joins_train_and_test_is_kept(chest_xray: Path) -> None:
    write_image(chest_xray / "val" / "NORMAL" / "IM-0900-0001.jpeg", 900)
    frame = list_chest_xray(chest_xray).frame.set_index("image_id")
    assert frame.loc["val/NORMAL/IM-0900-0001.jpeg", "split"] == "train"
    assert set(frame.loc[frame.index.str.startswith("test/"), "split"]) == {"test"}


def test_other_files_are_left_out_by_name(chest_xray: Path) -> None:
    (chest_xray / "train" / "NORMAL" / "notes.txt").write_text("hello")
    (chest_xray / "train" / "NORMAL" / ".DS_Store").write_text("x")
    write_image(chest_xray / "train" / "COVID" / "1.jpeg", 1)
    write_image(chest_xray / "train" / "NORMAL" / "person1_virus_7.jpeg", 2)
    listing = list_chest_xray(chest_xray)
    reasons = {item.path: item.reason for item in listing.left_out}
    assert set(reasons) == {"train/NORMAL/notes.txt", "train/NORMAL/person1_virus_7.jpeg"}
    assert "file name says virus" in reasons["train/NORMAL/person1_virus_7.jpeg"]
    _, no_class, _ = apply_policy(listing.frame, {"NORMAL": ["normal"], "PNEUMONIA": ["PNEUMONIA"]})
    assert [item.path for item in no_class] == ["train/COVID/1.jpeg"]


@pytest.mark.parametrize("task", ["pneumonia", "ham10000_binary", "isic9", "isic_archive", "folder"])
def test_a_missing_folder_is_said_in_the_same_words_before_anything_is_loaded(task: str, tmp_path: Path) -> None:
    settings = composed_settings(f"task={task}", f"data.root={tmp_path / 'none'}", f"data.prepared={tmp_path / 'kept'}")
    with pytest.raises(DataError) as early:
        require_folder(settings["task"], tmp_path / "none")
    with pytest.raises(DataError) as late:
        prepare(settings)
    assert str(early.value) == str(late.value)
    require_folder(settings["task"], tmp_path)


def test_missing_data_names_the_three_ways_on(tmp_path: Path) -> None:
    for folder, found in (
        (tmp_path / "nothing", "does not exist"),
        (tmp_path / "empty", "is empty"),
        (tmp_path, "no folder 'train'"),
    ):
        if found == "is empty":
            folder.mkdir()
        with pytest.raises(DataError) as caught:
            prepare(composed_settings(f"data.root={folder}", f"data.prepared={tmp_path / 'prepared'}"))
        text = str(caught.value)
        for part in (str(folder.resolve()), found, "data.root=", "1,235,512,464", "data.source=phantom"):
            assert part in text


@pytest.mark.parametrize("part", ["train", "test"])
def test_one_class_only(chest_xray: Path, part: str) -> None:
    shutil.rmtree(chest_xray / part / "PNEUMONIA")
    with pytest.raises(DataError, match=rf"no readable image of class PNEUMONIA in the {part} part"):
        prepare(composed_settings(f"data.root={chest_xray}", f"data.prepared={chest_xray.parent / 'prepared'}"))

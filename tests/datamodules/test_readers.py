"""Every data set is read in the forms in which people have it; what is not used is listed with its reason."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from datamodules.errors import DataError
from datamodules.folders import list_folders
from datamodules.ham10000 import list_ham10000
from datamodules.isic_archive import list_isic_archive
from datamodules.listing import age_band
from datamodules.missing import MissingDataError
from datamodules.table import list_table
from tests.conftest import write_image

HAM = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
COLUMNS: dict[str, Any] = {"file": "", "path": "path", "label": "label", "group": "", "split": "", "subgroups": []}


def ham_rows(count: int = 6) -> list[list[str]]:
    kinds = ("nv", "mel", "bcc")
    return [
        [f"HAM_{number // 2:07d}", f"ISIC_{number:07d}", kinds[number // 2 % 3], "histo", "45.0", "male", "back"]
        for number in range(count)
    ]


def make_ham(root: Path, rows: list[list[str]], *, separator: str = ",", name: str = "HAM10000_metadata.csv") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    lines = [separator.join(row) for row in [HAM, *rows]]
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for number, row in enumerate(rows):
        write_image(root / f"HAM10000_images_part_{number % 2 + 1}" / f"{row[1]}.jpg", number)
    return root


@pytest.mark.parametrize(("separator", "name"), [(",", "HAM10000_metadata.csv"), ("\t", "HAM10000_metadata.tab")])
def test_ham10000_is_read_from_two_folders_and_both_tables(tmp_path: Path, separator: str, name: str) -> None:
    listing = list_ham10000(make_ham(tmp_path / "ham", ham_rows(), separator=separator, name=name))
    assert listing.left_out == []
    row = listing.frame.set_index("image_id").loc["ISIC_0000003"]
    assert row["path"] == "HAM10000_images_part_2/ISIC_0000003.jpg"
    assert (row["label"], row["group_id"], row["age_band"]) == ("mel", "HAM_0000001", "40-59")
    assert "6 images; 10,015 were published" in listing.about.notes[0]


def test_ham10000_lists_rows_without_image_images_without_row_and_foreign_rows(tmp_path: Path) -> None:
    root = make_ham(tmp_path / "ham", ham_rows())
    (root / "HAM10000_images_part_1" / "ISIC_0000000.jpg").unlink()
    write_image(root / "extra" / "ISIC_0099999.jpg", 9)
    write_image(root / "ham10000_images_part_1" / "ISIC_0000002.jpg", 10)  # some copies hold everything twice
    with (root / "HAM10000_metadata.csv").open("a") as file:
        file.write("user_added,ISIC_0000077,nv,histo,1,male,back\n")
    left_out = {item.path: item.reason for item in list_ham10000(root).left_out}
    assert left_out["ISIC_0000000"] == "the metadata has a row, but there is no image"
    assert left_out["extra/ISIC_0099999.jpg"] == "no row in the metadata"
    assert "second file of this name" in left_out["ham10000_images_part_1/ISIC_0000002.jpg"]
    assert "not a row of HAM10000" in left_out["ISIC_0000077"]
    assert len(left_out) == 4


def test_ham10000_refuses_a_table_that_contradicts_itself(tmp_path: Path) -> None:
    rows = ham_rows()
    rows[1][2] = "bkl"
    with pytest.raises(DataError, match="HAM_0000000 has several diagnoses"):
        list_ham10000(make_ham(tmp_path / "a", rows))
    rows = [*ham_rows(), [*ham_rows()[0][:4], "50.0", "male", "back"]]
    with pytest.raises(DataError, match="ISIC_0000000 has several different rows"):
        list_ham10000(make_ham(tmp_path / "b", rows))
    with pytest.raises(MissingDataError, match="no metadata table"):
        list_ham10000(tmp_path / "b" / "HAM10000_images_part_1")


def test_the_richer_of_two_tables_is_used(tmp_path: Path) -> None:
    root = make_ham(tmp_path / "ham", ham_rows())
    table = pd.read_csv(root / "HAM10000_metadata.csv", dtype=str).assign(dataset="vidir_modern")
    table.to_csv(root / "HAM10000_metadata_with_source_site.csv", index=False)
    assert set(list_ham10000(root).frame["source_site"]) == {"vidir_modern"}


def make_folders(root: Path, parts: list[str], classes: list[str], images: int = 2) -> Path:
    seed = 0
    for part in parts:
        for name in classes:
            for _number in range(images):
                seed += 1
                write_image(root / part / name / f"{seed}.jpg", seed)
    return root


def test_folders_with_and_without_parts_in_any_letter_case(tmp_path: Path) -> None:
    plain = list_folders(make_folders(tmp_path / "plain", [""], ["cat", "dog"]), "my_images").frame
    assert set(plain["split"]) == {""}
    assert set(plain["label"]) == {"cat", "dog"}
    parted = list_folders(make_folders(tmp_path / "parted", ["Train", "VALID", "test"], ["a", "b"]), "my_images").frame
    assert parted["split"].value_counts().to_dict() == {"train": 4, "val": 4, "test": 4}


def test_only_one_of_two_nested_copies_is_read(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "skin", ["train", "test"], ["benign", "malignant"])
    make_folders(root / "data", ["train", "test"], ["benign", "malignant"])
    assert len(list_folders(root, "skin_cancer").frame) == 8
    wrapped = make_folders(tmp_path / "x" / "Skin cancer ISIC", ["Train", "Test"], ["nevus", "melanoma"])
    assert len(list_folders(tmp_path / "x", "isic9").frame) == 8
    make_folders(tmp_path / "x" / "again", ["Train", "Test"], ["nevus", "melanoma"])
    with pytest.raises(DataError, match="both hold train and test"):
        list_folders(wrapped.parent, "isic9")


def test_two_folders_of_the_same_part_are_refused(tmp_path: Path) -> None:
    make_folders(tmp_path, ["train", "Training", "test"], ["a", "b"])
    with pytest.raises(DataError, match="same part"):
        list_folders(tmp_path, "my_images")


def test_copies_of_a_file_manager_and_other_files_are_listed(tmp_path: Path) -> None:
    root = make_folders(tmp_path, ["Train", "Test"], ["nevus", "melanoma"])
    first = next((root / "Train" / "nevus").glob("*.jpg"))
    shutil.copy(first, first.with_stem(f"{first.stem}(1)"))
    write_image(first.with_stem(f"{first.stem} (2)"), 99)  # another picture of a series that is named so
    write_image(root / "Train" / "nevus" / "lone (2).jpg", 98)
    (root / "Train" / "nevus" / "notes.txt").write_text("x")
    (root / "Train" / "nevus" / ".DS_Store").write_text("x")
    left_out = {item.path: item.reason for item in list_folders(root, "isic9").left_out}
    copy = f"Train/nevus/{first.stem}(1).jpg"
    assert set(left_out) == {copy, "Train/nevus/notes.txt"}
    assert f"(of {first.name})" in left_out[copy]


def test_groups_come_from_a_pattern_or_a_table(tmp_path: Path) -> None:
    root = tmp_path / "own"
    for name in ("p1_a", "p1_b", "p2_a", "odd"):
        write_image(root / "benign" / f"{name}.png", hash(name) % 1000)
        write_image(root / "malignant" / f"x{name}.png", hash(name) % 1000 + 1)
    listing = list_folders(root, "my_images", group_pattern=r"/x?(?P<group>p\d+)_")
    groups = listing.frame.set_index("path")["group_id"]
    assert groups["benign/p1_a.png"] == groups["benign/p1_b.png"] == groups["malignant/xp1_a.png"] == "p1"
    assert groups["benign/odd.png"] == "benign/odd.png"
    table = tmp_path / "known.csv"
    table.write_text("image_id,lesion_id,patient_id\np1_a,L1,P1\np2_a,L2,P1\nxodd,L3,\n")
    joined = list_folders(root, "my_images", group_table=str(table)).frame.set_index("path")["group_id"]
    assert joined["benign/p1_a.png"] == joined["benign/p2_a.png"]
    assert joined["benign/p1_b.png"] == "benign/p1_b.png"
    for pattern, words in (
        ("(", "not a regular expression"),
        ("p\\d+", "a part named group"),
        ("(?P<group>z9)", "none of the"),
    ):
        with pytest.raises(DataError, match=words):
            list_folders(root, "my_images", group_pattern=pattern)


ISIC_NEW = (
    "isic_id,attribution,copyright_license,age_approx,anatom_site_1,diagnosis_1,diagnosis_3,sex,lesion_id,patient_id,"
    "image_manipulation\n"
    "ISIC_1,x,CC-BY-NC,50,Trunk,Benign,Nevus,male,IL_1,IP_1,\n"
    "ISIC_2,x,CC-0,,,Malignant,Melanoma Invasive,,IL_2,IP_1,\n"
    "ISIC_3,x,CC-0,30,Trunk,Indeterminate,Solar or actinic keratosis,female,IL_3,,\n"
    "ISIC_4,x,CC-0,30,Trunk,Malignant,Basal cell carcinoma,female,,,\n"
    "ISIC_5,x,CC-0,30,Trunk,Benign,Nevus,female,,,altered\n"
    "ISIC_6,x,CC-0,30,Trunk,,,female,,,\n"
    "ISIC_7,x,CC-0,30,Trunk,Benign,Nevus,female,IL_1,IP_9,\n"
    "ISIC_8,x,CC-0,30,Trunk,Benign,Nevus,female,,,\n"
)
ISIC_OLD = (
    "isic_id,benign_malignant,diagnosis,age_approx,anatom_site_general,sex\n"
    "ISIC_1,benign,nevus,45,anterior torso,male\n"
    "ISIC_2,,basal cell carcinoma,,,\n"
    "ISIC_3,benign,,50,head/neck,male\n"
    "ISIC_4,malignant,melanoma,50,head/neck,male\n"
    "ISIC_5,,actinic keratosis,50,head/neck,male\n"
)


def make_isic(root: Path, text: str, images: list[int]) -> Path:
    root.mkdir(parents=True)
    (root / "metadata.csv").write_text(text)
    for number in images:
        write_image(root / "images" / f"ISIC_{number}.jpg", number)
    return root


def test_isic_new_schema(tmp_path: Path) -> None:
    listing = list_isic_archive(make_isic(tmp_path / "new", ISIC_NEW, [1, 2, 3, 4, 5, 6, 7, 9]))
    frame = listing.frame.set_index("image_id")
    assert frame["label"].to_dict() == {
        **{
            "ISIC_1": "benign",
            "ISIC_2": "malignant",
            "ISIC_3": "indeterminate",
            "ISIC_4": "malignant",
            "ISIC_7": "benign",
        }
    }
    # One patient with two lesions, and a lesion that is said to belong to two patients: all three are one group.
    assert frame.loc["ISIC_1", "group_id"] == frame.loc["ISIC_2", "group_id"] == frame.loc["ISIC_7", "group_id"]
    assert frame.loc["ISIC_4", "group_id"] == "ISIC_4"
    assert (frame.loc["ISIC_2", "site"], frame.loc["ISIC_2", "age_band"], frame.loc["ISIC_2", "sex"]) == (
        "unknown",
    ) * 3
    reasons = {item.path: item.reason for item in listing.left_out}
    assert "altered" in reasons["ISIC_5"]
    assert "no diagnosis" in reasons["ISIC_6"]
    assert "no image" in reasons["ISIC_8"]
    assert reasons["images/ISIC_9.jpg"] == "no row in the metadata"
    assert any("1 lesion ids belong to several patients" in note for note in listing.about.notes)
    assert any("CC-0 4" in note for note in listing.about.notes)


def test_isic_old_schema_takes_the_label_from_the_diagnosis_and_never_from_benign_malignant(tmp_path: Path) -> None:
    listing = list_isic_archive(make_isic(tmp_path / "old", ISIC_OLD, [1, 2, 3, 4, 5]))
    labels = listing.frame.set_index("image_id")["label"].to_dict()
    assert labels == {"ISIC_1": "benign", "ISIC_2": "malignant", "ISIC_4": "malignant", "ISIC_5": "indeterminate"}
    assert [item.path for item in listing.left_out] == ["ISIC_3"]
    only = "isic_id,benign_malignant\nISIC_1,benign\n"
    with pytest.raises(DataError, match="never from benign_malignant alone"):
        list_isic_archive(make_isic(tmp_path / "only", only, [1]))


def make_table(root: Path, text: str, images: int = 4) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "images.csv").write_text(text)
    for number in range(images):
        write_image(root / "img" / f"{number}.png", number)
    return root


def test_a_table_with_group_split_and_subgroups(tmp_path: Path) -> None:
    text = (
        "file,dx,who,part,Sex\nimg/0.png,a,p1,train,F\nimg\\1.png,b,,Validation,\nimg/2.png,a,p2,TEST,M\n"
        "img/9.png,b,p3,train,M\n"
    )
    columns = {**COLUMNS, "path": "file", "label": "dx", "group": "who", "split": "part", "subgroups": ["Sex"]}
    listing = list_table(make_table(tmp_path, text), columns)
    frame = listing.frame.set_index("image_id")
    assert frame["split"].to_dict() == {"img/0.png": "train", "img/1.png": "val", "img/2.png": "test"}
    assert frame.loc["img/1.png", "group_id"] == "image-img/1.png"
    assert frame["Sex"].tolist() == ["f", "unknown", "m"]
    assert [(item.path, "no such file" in item.reason) for item in listing.left_out] == [("img/9.png", True)]


def test_a_table_with_mistakes_is_refused_with_the_line(tmp_path: Path) -> None:
    cases = [
        ("path,lable\nimg/0.png,a\n", {}, "no column 'label'.*Did you mean 'lable'"),
        ("path,label\nimg/0.png,a\n,b\n", {}, "path is empty in line 3"),
        ("path,label,split\nimg/0.png,a,train\nimg/1.png,b,held\n", {"split": "split"}, "'held' in line 3"),
        ("path,label\nimg/0.png,a\nimg/0.png,b\n", {}, "img/0.png is listed several times"),
        ("path,label\nimg/77.png,a\n", {}, "no file such as img/77.png"),
    ]
    for text, more, words in cases:
        with pytest.raises(DataError, match=words):
            list_table(make_table(tmp_path, text), {**COLUMNS, **more})
    (tmp_path / "second.csv").write_text("path,label\n")
    with pytest.raises(MissingDataError, match=r"2 tables.*table.file"):
        list_table(tmp_path, COLUMNS)


def test_repeated_equal_rows_are_used_once(tmp_path: Path) -> None:
    listing = list_table(make_table(tmp_path, "path,label\nimg/0.png,a\nimg/0.png,a\nimg/1.png,b\n"), COLUMNS)
    assert len(listing.frame) == 2
    assert "more than once" in listing.left_out[0].reason


def test_age_bands() -> None:
    ages = pd.Series(["0", "19.0", "20", "79", "80.0", "85", "", "unknown"])
    assert age_band(ages).tolist() == ["0-19", "0-19", "20-39", "60-79", "80+", "80+", "unknown", "unknown"]

"""Folders and tables of the phantom skin data sets: names, counts, groups, determinism, atomic writing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from datamodules.phantom_layouts import (
    write_phantom_ham10000,
    write_phantom_isic9,
    write_phantom_isic_archive,
    write_phantom_skin_cancer,
)

Writer = Callable[..., None]
WRITERS: dict[str, tuple[Writer, int]] = {
    "ham10000": (write_phantom_ham10000, 300),
    "isic9": (write_phantom_isic9, 300),
    "skin_cancer": (write_phantom_skin_cancer, 120),
    "isic_archive": (write_phantom_isic_archive, 300),
}
NINE = {
    *("actinic keratosis", "basal cell carcinoma", "dermatofibroma", "melanoma", "nevus", "pigmented benign keratosis"),
    *("seborrheic keratosis", "squamous cell carcinoma", "vascular lesion"),
}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four layouts at their smallest, 32 px."""
    root = tmp_path_factory.mktemp("phantoms")
    for writer, fewest in WRITERS.values():
        writer(root, images=fewest, size=32)
    write_phantom_isic_archive(root / "old", images=300, size=32, schema="old")
    return root


def _content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


@pytest.mark.parametrize("name", WRITERS)
def test_number_of_images_is_exact_and_all_can_be_read(phantoms: Path, name: str) -> None:
    files = sorted((phantoms / name).rglob("*.jpg"))
    assert len(files) == WRITERS[name][1]
    for path in files[::40]:
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert picture is not None and picture.shape == (32, 32, 3)


def test_nothing_but_the_data_sets_is_left(phantoms: Path) -> None:
    assert {path.name for path in phantoms.iterdir()} == {*WRITERS, "old"}


@pytest.mark.parametrize("images", [300, 331])
def test_ham10000_has_the_published_columns_and_values(tmp_path: Path, images: int) -> None:
    write_phantom_ham10000(tmp_path, images=images, size=32)
    rows = _table(tmp_path / "ham10000" / "HAM10000_metadata.csv")
    assert list(rows) == ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    assert len(rows) == images
    assert {f"{name}.jpg" for name in rows["image_id"]} == {
        path.name for path in (tmp_path / "ham10000" / "images").iterdir()
    }
    assert rows["lesion_id"].str.fullmatch(r"HAM_\d{7}").all() and rows["image_id"].str.fullmatch(r"ISIC_00\d{5}").all()
    assert (rows["dx_type"][rows["dx"].isin(["mel", "bcc", "akiec"])] == "histo").all()
    assert set(rows["dx_type"]) <= {"histo", "follow_up", "consensus", "confocal"}
    ages = rows["age"][rows["age"] != ""].astype(float)
    assert (ages % 5 == 0).all() and ages.between(0, 85).all()
    assert (rows["age"] == "").any() and (rows["localization"] == "unknown").any()
    lesions = rows.groupby("lesion_id")
    assert (lesions[["dx", "age", "sex", "localization"]].nunique() == 1).all(axis=None)
    assert lesions.size().between(1, 6).all() and lesions.size().max() > 3
    assert (rows.groupby("dx")["lesion_id"].nunique() >= 15).all() and rows["dx"].nunique() == 7
    assert 0.58 < (rows["dx"] == "nv").mean() < 0.68  # 0.67 as published, less what the rare classes are lent


def test_image_ids_do_not_give_the_class_away(phantoms: Path) -> None:
    rows = _table(phantoms / "ham10000" / "HAM10000_metadata.csv").sort_values("image_id")
    nevus = (rows["dx"] == "nv").to_numpy()
    assert 0.4 < nevus[:150].sum() / nevus.sum() < 0.6


def test_isic9_has_nine_class_folders_and_a_small_test_part(phantoms: Path) -> None:
    root = phantoms / "isic9"
    assert {path.name for path in root.iterdir()} == {"Train", "Test"}
    counts = {
        part: {path.name: len(list(path.iterdir())) for path in (root / part).iterdir()} for part in ("Train", "Test")
    }
    assert set(counts["Train"]) == set(counts["Test"]) == NINE
    assert min(counts["Train"].values()) >= 10 and min(counts["Test"].values()) >= 2
    assert sum(counts["Test"].values()) < 30
    names = [path.name for path in root.rglob("*.jpg")]
    assert len(set(names)) == len(names)


def test_skin_cancer_keeps_the_shares_of_parts_and_classes(phantoms: Path) -> None:
    counts = {
        f"{part}/{label}": len(list((phantoms / "skin_cancer" / part / label).iterdir()))
        for part in ("train", "test")
        for label in ("benign", "malignant")
    }
    assert counts == {"train/benign": 52, "train/malignant": 44, "test/benign": 13, "test/malignant": 11}
    assert all(path.stem.isdigit() for path in (phantoms / "skin_cancer").rglob("*.jpg"))


@pytest.mark.parametrize(("folder", "schema"), [(".", "new"), ("old", "old")])
def test_archive_lacks_some_rows_some_images_and_some_values(phantoms: Path, folder: str, schema: str) -> None:
    root = phantoms / folder / "isic_archive"
    rows = _table(root / "metadata.csv")
    files, listed = {path.stem for path in (root / "images").iterdir()}, set(rows["isic_id"])
    assert len(files - listed) == 3 and len(listed - files) == 3 and len(listed) == len(rows)
    for column in ("age_approx", "sex", "lesion_id", "patient_id"):
        assert 0 < (rows[column] == "").mean() < 0.5, column
    site = rows["anatom_site_general" if schema == "old" else "anatom_site_1"]
    assert 0 < (site == "").mean() < 0.2
    assert ("diagnosis_1" in rows, "benign_malignant" in rows) == (schema == "new", schema == "old")


def test_archive_schemas_tell_the_same_and_bcc_has_no_old_label(phantoms: Path) -> None:
    new, old = (
        _table(phantoms / "isic_archive" / "metadata.csv"),
        _table(phantoms / "old" / "isic_archive" / "metadata.csv"),
    )
    assert new["isic_id"].equals(old["isic_id"]) and new["patient_id"].equals(old["patient_id"])
    carcinoma = old["diagnosis"] == "basal cell carcinoma"
    assert carcinoma.any() and (old["benign_malignant"][carcinoma] == "").all()
    assert (new["diagnosis_1"][carcinoma] == "Malignant").all()
    assert (old["benign_malignant"][~carcinoma] == new["diagnosis_1"][~carcinoma].str.lower()).all()
    assert _content(phantoms / "isic_archive" / "images") == _content(phantoms / "old" / "isic_archive" / "images")


def test_archive_patients_own_whole_lesions_and_are_one_person(phantoms: Path) -> None:
    rows = _table(phantoms / "isic_archive" / "metadata.csv")
    owned = rows[(rows["lesion_id"] != "") & (rows["patient_id"] != "")]
    assert (owned.groupby("lesion_id")["patient_id"].nunique() == 1).all()
    patients = rows[rows["patient_id"] != ""].groupby("patient_id")
    assert (patients[["age_approx", "sex"]].nunique() == 1).all(axis=None)
    assert patients["lesion_id"].nunique().max() > 1, "some patients have several lesions"


@pytest.mark.parametrize("name", WRITERS)
def test_same_arguments_give_the_same_bytes_and_another_seed_other_images(
    tmp_path: Path, phantoms: Path, name: str
) -> None:
    writer, fewest = WRITERS[name]
    writer(tmp_path / "again", images=fewest, size=32)
    assert _content(tmp_path / "again" / name) == _content(phantoms / name)
    writer(tmp_path / "other", images=fewest, size=32, seed=1)
    first, other = (set(_content(root / name).values()) for root in (phantoms, tmp_path / "other"))
    assert not first & other


def test_no_image_lies_in_two_data_sets_or_twice_in_one(phantoms: Path) -> None:
    contents = [data for name in WRITERS for path, data in _content(phantoms / name).items() if path.endswith(".jpg")]
    assert len(set(contents)) == len(contents)


@pytest.mark.parametrize("name", WRITERS)
def test_progress_counts_and_an_interrupt_leaves_nothing(tmp_path: Path, name: str) -> None:
    writer, fewest = WRITERS[name]
    seen: list[int] = []

    def stop(done: int) -> None:
        seen.append(done)
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer(tmp_path, images=fewest, size=32, on_image=stop)
    assert seen == [1, 2, 3, 4, 5]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", WRITERS)
def test_existing_data_are_refused_and_untouched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="delete it or choose another root"):
        WRITERS[name][0](tmp_path, images=WRITERS[name][1], size=32)
    assert [path.name for path in tmp_path.rglob("*")] == [name, "mine.txt"]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("wrong", ["images", "size", "seed"])
def test_impossible_arguments_are_refused(tmp_path: Path, name: str, wrong: str) -> None:
    writer, fewest = WRITERS[name]
    value = {"images": fewest - 1, "size": 31, "seed": -1}[wrong]
    with pytest.raises(ValueError, match=f"{wrong}={value}"):
        writer(tmp_path / "new", **{"images": fewest, wrong: value})
    assert not (tmp_path / "new").exists()


def test_unknown_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="use one of new, old"):
        write_phantom_isic_archive(tmp_path, images=300, schema="newest")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_root_is_made(tmp_path: Path) -> None:
    write_phantom_skin_cancer(tmp_path / "a" / "b", images=120, size=32)
    assert np.isin(["train", "test"], [path.name for path in (tmp_path / "a/b/skin_cancer").iterdir()]).all()

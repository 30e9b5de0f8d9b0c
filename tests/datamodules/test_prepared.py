"""From files to a prepared data set: what the pieces do together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from datamodules.card import data_card, describe, write_metadata
from datamodules.prepared import prepare
from tests.conftest import composed_settings, write_image
from tests.datamodules.odd_dicom import SECRET, plain
from tests.datamodules.test_readers import ham_rows, make_ham


def own_settings(root: Path, home: Path, *more: str) -> dict[str, Any]:
    folders = (f"data.root={root}", f"data.prepared={home / 'prepared'}", "model.image_size=16")
    return composed_settings("task=folder", "task.classes=[a,b]", "task.positive=[b]", *folders, *more)


def test_dicom_patients_group_their_films_and_no_identity_leaves_the_index(tmp_path: Path) -> None:
    root, generator = tmp_path / "films", np.random.default_rng(0)
    for number in range(40):
        folder = root / ("a" if number % 4 < 2 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        film = generator.integers(0, 4096, size=(40, 48)).astype(np.uint16)
        # Suffixes are often missing; two films a patient.
        name = f"film{number}.dcm" if number % 3 else f"film{number}"
        (folder / name).write_bytes(plain(film, PatientID=f"{SECRET}-{number // 2}"))
    prepared = prepare(own_settings(root, tmp_path, "split.test_fraction=0.2", "split.val_fraction=0.2"))
    frame = prepared.manifest.frame
    assert len(frame) == 40
    number = frame["path"].str.extract(r"film(\d+)")[0].astype(int) // 2
    assert frame["group_id"].nunique() == 20
    assert (frame.groupby(number.to_numpy())["group_id"].nunique() == 1).all()
    hashes = set(pd.read_csv(prepared.folder / "index.csv", dtype=str)["patient"].dropna())
    assert len(hashes) == 20
    for file in prepared.task_folder.rglob("*"):
        if file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")
            assert SECRET not in text
            assert not any(known in text for known in hashes), file


def test_a_mirrored_and_a_reencoded_copy_stay_with_their_original(tmp_path: Path) -> None:
    root, generator = tmp_path / "mine", np.random.default_rng(1)
    for number in range(40):
        picture = cv2.GaussianBlur(generator.integers(0, 256, size=(96, 96, 3)).astype(np.uint8), (0, 0), 2)
        picture = cv2.normalize(picture, picture, 0, 255, cv2.NORM_MINMAX)
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture)
        if number == 6:
            cv2.imwrite(str(path.with_name("mirrored.png")), picture[:, ::-1])
        if number == 8:
            cv2.imwrite(str(path.with_name("again.jpg")), picture, [cv2.IMWRITE_JPEG_QUALITY, 60])
    groups = prepare(own_settings(root, tmp_path)).manifest.frame.set_index("path")["group_id"]
    assert groups["a/6.png"] == groups["a/mirrored.png"]
    assert groups["a/8.png"] == groups["a/again.jpg"]
    assert groups.nunique() == 40
    apart = prepare(own_settings(root, tmp_path, "data.near_duplicates=false")).manifest.frame
    assert apart["group_id"].nunique() == 42


def test_metadata_is_filled_from_the_training_part_only_and_says_nothing_of_how_a_diagnosis_was_made(
    tmp_path: Path,
) -> None:
    rows = ham_rows(120)
    for number, row in enumerate(rows):
        row[4] = "" if number % 10 == 0 else str(5.0 * (number % 17))
        row[6] = "" if number % 12 == 0 else "back"
    root = make_ham(tmp_path / "ham", rows)
    folders = (f"data.root={root}", f"data.prepared={tmp_path / 'prepared'}", "model.image_size=16")
    prepared = prepare(composed_settings("task=ham10000_binary", "task.labels=mel", *folders))
    write_metadata(prepared)
    filled = pd.read_csv(prepared.task_folder / "metadata.csv")
    assert list(filled.columns) == ["image_id", "age", "age_missing", "sex", "site"]
    frame = prepared.manifest.frame
    train = pd.to_numeric(frame["age"].iloc[prepared.splits.rows("train")], errors="coerce")
    missing = pd.to_numeric(frame["age"], errors="coerce").isna().to_numpy()
    assert (filled.loc[missing, "age"] == train.median()).all()
    assert filled["age_missing"].tolist() == missing.astype(int).tolist()
    assert set(filled["site"]) == {"back", "unknown"}
    assert "age" not in prepared.manifest.subgroup_columns
    card = data_card(prepared, composed_settings("task=ham10000_binary", "task.labels=mel")["task"])
    other = {"akiec": 0, "bcc": 40, "bkl": 0, "df": 0, "nv": 40, "vasc": 0}
    assert card["label_policy"]["classes"] == {"other": other, "melanoma": {"mel": 40}}
    assert any("labels by the policy mel" in line for line in describe(card))


def test_the_audit_is_computed_once_for_a_split(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    for number in range(40):
        write_image(root / "ab"[number % 2] / f"{number}.png", number)
    prepared = prepare(own_settings(root, tmp_path))
    stored = list((prepared.task_folder / "audit").glob("*.json"))
    assert [json.loads(path.read_text()) for path in stored] == [prepared.audit]
    stored[0].write_text(json.dumps({**prepared.audit, "marker": 1}))
    assert prepare(own_settings(root, tmp_path)).audit["marker"] == 1
    assert "marker" not in prepare(own_settings(root, tmp_path, "split.seed=1")).audit

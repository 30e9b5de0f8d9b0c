"""Which names of groups mean the same in two data sets."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from datamodules.prepared import PreparedData
from workflow.scoring import Scorer
from workflow.seen_images import Seen, seen_by


def settings_of(dataset: str, root: Path) -> dict[str, Any]:
    return {"task": {"dataset": dataset}, "data": {"source": "files", "root": str(root)}}


def found(place: Path, dataset: str, root: Path, *, picture: bool = False, sha256: str = "new") -> Seen:
    """What a run on ``place/a`` with patient 1 in training has seen of patients 1 and 2 in another folder."""
    used = {"image_id": ["a"], "group_id": ["1"], "sha256": ["old"], "split": ["train"]}
    pd.DataFrame(used).to_csv(place / "splits.csv", index=False)
    scorer = SimpleNamespace(networks=[SimpleNamespace(run=place)], config=settings_of(dataset, place / "a"))
    frame = pd.DataFrame({"image_id": ["x", "y", "z"], "group_id": ["1", "2", "3"], "sha256": [sha256, "n2", "n3"]})
    prepared = SimpleNamespace(manifest=SimpleNamespace(frame=frame))
    with pytest.MonkeyPatch.context() as patch:
        alike = np.array([False, False, picture])
        patch.setattr("workflow.seen_images._same_pictures", lambda *_: alike)
        return seen_by(cast(Scorer, scorer), cast(PreparedData, prepared), np.arange(3), settings_of(dataset, root))


def test_equal_patient_names_in_two_hospitals_are_two_patients(tmp_path: Path) -> None:
    assert not found(tmp_path, "my_images", tmp_path / "b").mask.any()


@pytest.mark.parametrize(("dataset", "folder"), [("my_images", "b/../a"), ("chest_xray", "b")])
def test_the_same_folder_or_a_named_data_set_has_one_name_for_one_patient(
    tmp_path: Path, dataset: str, folder: str
) -> None:
    (tmp_path / "b").mkdir()
    seen = found(tmp_path, dataset, tmp_path / folder)
    assert seen.mask.tolist() == [True, False, False] and seen.by_group == 1


def test_one_known_image_makes_two_folders_one_data_set(tmp_path: Path) -> None:
    seen = found(tmp_path, "my_images", tmp_path / "b", picture=True)
    assert seen.mask.tolist() == [True, False, True] and (seen.by_picture, seen.by_group) == (1, 1)
    assert found(tmp_path, "my_images", tmp_path / "b", sha256="old").by_content == 1

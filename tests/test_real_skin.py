"""The real dermoscopy sets: counts, defects and the leak of image-level splits, found with no help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.ham10000 import list_ham10000
from datamodules.labels import apply_policy
from datamodules.manifest import Manifest
from datamodules.prepared import prepare
from datamodules.splits import SplitPlan, leak_of, make_splits
from tests.conftest import composed_settings

pytestmark = pytest.mark.realdata


@pytest.fixture
def ham10000(real_data: Path) -> Path:
    if not (real_data / "ham10000").is_dir():
        pytest.skip(f"no real images: {real_data / 'ham10000'} does not exist")
    return real_data / "ham10000"


def test_ham10000_counts_and_the_share_of_leaking_test_images(ham10000: Path) -> None:
    listing = list_ham10000(ham10000)
    assert listing.left_out == []
    assert listing.frame["group_id"].nunique() == 7_470
    counts = {"nv": 6705, "mel": 1113, "bkl": 1099, "bcc": 514, "akiec": 327, "vasc": 142, "df": 115}
    assert listing.frame["label"].value_counts().to_dict() == counts
    policy = composed_settings("task=ham10000_binary")["task"]["policies"]["mel_bcc_akiec"]["classes"]
    frame, left_out, _ = apply_policy(listing.frame, policy)
    assert left_out == []
    assert (frame["label"] == "malignant").sum() == 1_954
    manifest = Manifest(frame.assign(sha256=frame["image_id"]), ("benign", "malignant"))
    leaks = [
        leak_of(manifest, make_splits(manifest, SplitPlan(grouping="none", seed=seed)), "lesion") for seed in range(5)
    ]
    shares = [leak["share"] for leak in leaks if leak is not None]
    assert np.mean(shares) == pytest.approx(0.359, abs=0.015)  # 35.9 %, the mean of 20 simulated splits
    assert leak_of(manifest, make_splits(manifest, SplitPlan()), "lesion") is None


def test_isic9_contradictions_and_test_images_in_training(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "isic9"
    if not root.is_dir():
        pytest.skip(f"no real images: {root} does not exist")
    prepared = prepare(
        composed_settings("task=isic9", f"data.root={root}", f"data.prepared={tmp_path}", "model.image_size=16")
    )
    frame = prepared.manifest.frame
    assert len(frame) == 2_046
    assert frame["sha256"].nunique() == 2_044  # two images are there twice under one label
    reasons = [item.reason for item in prepared.manifest.left_out]
    assert sum("another label" in reason for reason in reasons) == 2 * 155
    texts = {item["id"]: item["text"] for item in prepared.audit["findings"]}
    joined = " ".join(texts.values())
    assert (
        "78 identical images are labelled both melanoma and seborrheic keratosis (75 of them inside one official part)"
        in joined
    )
    assert "77 both actinic keratosis and nevus (62 of them inside one official part)" in joined
    assert (
        "18 images of the official test part are identical to a training image, all of them under another label"
        in joined
    )
    assert prepared.splits.settings["rare"] == ["seborrheic keratosis"]

"""The real chest X-rays: counts, patients and defects that were measured on them, and one short training."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from datamodules.card import data_card
from datamodules.prepared import PreparedData, prepare
from datamodules.thumbnails import thumbnails
from evaluation.baseline import domain_auc
from tests.conftest import composed_settings, run_train

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    named = os.environ.get("FIRSTREAD_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "chest_xray" / "train").is_dir():
        pytest.skip(f"no real images: {folder / 'chest_xray'} does not exist; set FIRSTREAD_DATA to have this test run")
    folders = (f"data.root={folder / 'chest_xray'}", f"data.prepared={tmp_path_factory.mktemp('home')}")
    return prepare(composed_settings(*folders, "data.on_bad_image=error", "model.image_size=32"))


def test_counts_patients_and_duplicates(prepared: PreparedData) -> None:
    frame = prepared.manifest.frame
    counts = frame.groupby(["split", "label", "subtype"]).size().to_dict()
    assert counts == {
        ("train", "NORMAL", "normal"): 1_349,
        ("train", "PNEUMONIA", "bacteria"): 2_538,
        ("train", "PNEUMONIA", "virus"): 1_345,
        ("test", "NORMAL", "normal"): 234,
        ("test", "PNEUMONIA", "bacteria"): 242,
        ("test", "PNEUMONIA", "virus"): 148,
    }
    assert prepared.manifest.left_out == ()
    # 428 keys in test; two of them share an identical film and are one patient.
    assert frame[frame["split"] == "test"]["group_id"].nunique() == 427
    card = data_card(prepared, composed_settings()["task"])
    assert card["duplicates"] == {"groups": 30, "files": 62}
    assert card["unknown_names"] == 0


def test_no_patient_crosses_and_validation_is_stratified(prepared: PreparedData) -> None:
    frame = prepared.manifest.frame.assign(part=prepared.splits.frame["split"].to_numpy())
    assert (frame.groupby("group_id")["part"].nunique() == 1).all()
    pool, held = frame[frame["part"] != "test"], frame[frame["part"] == "val"]
    assert len(held) / len(pool) == pytest.approx(0.1, abs=0.01)
    for subtype in ("normal", "bacteria", "virus"):
        assert (held["subtype"] == subtype).mean() == pytest.approx((pool["subtype"] == subtype).mean(), abs=0.03)


def test_the_shift_of_the_official_test_part_is_found(prepared: PreparedData) -> None:
    frame = prepared.manifest.frame
    found = {}
    for label in ("NORMAL", "PNEUMONIA"):
        sides = [
            frame.index[(frame["split"] == part) & (frame["label"] == label)].to_numpy() for part in ("train", "test")
        ]
        pixels = [thumbnails(prepared.pixels, rows) for rows in sides]
        groups = [frame["group_id"].to_numpy(dtype=str)[rows] for rows in sides]
        found[label] = domain_auc(pixels[0], pixels[1], groups[0], groups[1], seed=0)
    assert found["NORMAL"] is not None
    assert found["PNEUMONIA"] is not None
    assert found["NORMAL"] > 0.85
    assert found["PNEUMONIA"] < 0.75


@pytest.mark.slow
def test_one_short_training_and_its_report(real_data: Path, tmp_path: Path) -> None:
    done = run_train(
        f"data.root={real_data / 'chest_xray'}",
        "data.per_class=200",
        "model.image_size=64",
        "trainer.max_epochs=2",
        "evaluation.bootstrap=200",
        "hydra.run.dir=run",
        home=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["splits"]["val"]["auroc"]["value"] > 0.85
    assert metrics["splits"]["test"]["n"] == 624
    assert metrics["threshold"]["rule"] == "certified"
    assert metrics["threshold"]["n_groups"] == 243
    assert metrics["phantom"] is False
    assert "shift" in (tmp_path / "run" / "report.html").read_text()
    assert "Traceback" not in done.stderr

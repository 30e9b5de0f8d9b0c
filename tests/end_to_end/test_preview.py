"""python preview.py as a user types it, and what its page holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import pytest
from PIL import Image

from datamodules.augmentation import Augmentation
from datamodules.prepared import PreparedData, prepare
from datamodules.preview_page import VERSIONS, chosen_rows, describe_augmentation, preview_of, write_preview_page
from preview import preview
from tests.conftest import composed_settings, make_chest_xray, run_command

SMALL = ["model.image_size=16", "split.val_fraction=0.2"]
PHANTOM = ["data.source=phantom", "data.phantom_images=150", "model.image_size=32", "split.val_fraction=0.3"]


def settings_of(home: Path, *more: str) -> dict[str, Any]:
    return composed_settings(f"data.root={home / 'chest_xray'}", f"data.prepared={home / 'prepared'}", *SMALL, *more)


def assert_self_contained(page: str) -> None:
    sources = re.findall(r'(?:src|href|action)="([^"]*)"', page)
    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"https?://|url\(|@import|<script|<link", page)


def test_the_command_leaves_a_page_and_a_picture(tmp_path: Path) -> None:
    more = ["augmentation=strong", "augmentation.mixup=0.4", "trainer.progress_bar=false"]
    done = run_command("preview.py", "task=pneumonia", *PHANTOM, *more, home=tmp_path, warm=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "preview/pneumonia-phantom-strong.html" in done.stdout
    assert "  turned by up to 20 degrees\n" in done.stdout
    page = (tmp_path / "preview" / "pneumonia-phantom-strong.html").read_text(encoding="utf-8")
    assert_self_contained(page)
    assert "<strong>Phantom data.</strong>" in page and "<title>Phantom data - " in page
    assert "blended with another image (mixup, alpha 0.4)" in page
    assert "Mixed images" in page and "One change at a time" in page
    assert "augmentation.mixup=0.4" in page, "the command that shows it again"
    with Image.open(tmp_path / "preview" / "pneumonia-phantom-strong.png") as picture:
        assert picture.width >= 9 * 128 and picture.height >= 7 * 128
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prepared", "preview"]


def test_no_data_ends_in_one_message(tmp_path: Path) -> None:
    done = run_command("preview.py", "task=ham10000", f"data.root={tmp_path / 'no_data'}", *SMALL, home=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: data set not found")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "preview").exists()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, which is prepared once for all tests of this file."""
    folder = tmp_path_factory.mktemp("preview")
    make_chest_xray(folder / "chest_xray")
    return folder


@pytest.fixture(scope="module")
def prepared(home: Path) -> PreparedData:
    return prepare(settings_of(home))


def test_images_are_training_images_of_all_classes_and_different_patients(prepared: PreparedData) -> None:
    rows = chosen_rows(prepared, 0)
    frame = prepared.manifest.frame.iloc[rows]
    assert frame["label"].tolist() == ["NORMAL"] * 3 + ["PNEUMONIA"] * 3
    assert frame["group_id"].nunique() == 6
    assert set(rows) <= set(prepared.splits.rows("train"))
    assert chosen_rows(prepared, 0).tolist() == rows.tolist() != chosen_rows(prepared, 1).tolist()


def test_versions_are_what_training_makes_of_the_pixels(prepared: PreparedData, home: Path) -> None:
    shown = preview_of(prepared, settings_of(home))
    rows = chosen_rows(prepared, 0)
    assert len(shown.strips) == len(rows) == 6
    for row, strip in zip(rows, shown.strips, strict=True):
        assert (strip.images[0] == prepared.pixels[row]).all()
        assert len(strip.images) == len(strip.captions) == VERSIONS + 1
        assert all((image != strip.images[0]).any() for image in strip.images[1:])
        assert len({image.tobytes() for image in strip.images}) == VERSIONS + 1
    assert [strip.title for strip in shown.alone] == ["rotate", "translate", "scale", "brightness", "contrast"]
    brighter = [image.astype(int) - shown.alone[3].images[0] for image in shown.alone[3].images[1:]]
    assert all(abs(change).max() <= 39 for change in brighter), "0.15 of the range and nothing else"


def test_without_augmentation_there_is_one_image_a_row(prepared: PreparedData, home: Path, tmp_path: Path) -> None:
    shown = preview_of(prepared, settings_of(home, "augmentation=none"))
    assert not shown.words and not shown.alone
    assert all(len(strip.images) == 1 for strip in shown.strips)
    write_preview_page(shown, tmp_path / "page" / "none.html")
    page = (tmp_path / "page" / "none.html").read_text(encoding="utf-8")
    assert "Nothing is changed" in page and "Phantom" not in page
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["none.html"], "nothing is left beside it"


def test_names_from_the_data_set_are_text_on_the_page(prepared: PreparedData, home: Path, tmp_path: Path) -> None:
    settings = settings_of(home)
    settings["task"]["title"] = "<b>X & Y</b>"
    write_preview_page(preview_of(prepared, settings, "python preview.py 'a=<i>'"), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;X &amp; Y&lt;/b&gt;" in page and "<b>X" not in page and "<i>" not in page


def test_a_page_is_replaced_and_other_presets_are_kept(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "preview"
    first = preview(settings_of(home, "augmentation.cutmix=1"), folder)
    assert "a patch of another image put in" in first.read_text(encoding="utf-8")
    second = preview(settings_of(home), folder)
    assert first == second and "a patch of another image" not in second.read_text(encoding="utf-8")
    preview(settings_of(home, "augmentation=none"), folder)
    assert len(list(folder.iterdir())) == 4
    assert cv2.imread(str(second.with_suffix(".png"))) is not None


def test_words() -> None:
    settings = {
        "rotate": 8.0,
        "shear": 2.5,
        "border": "nearest",
        "gamma": 0.25,
        "hue": 0.05,
        "crop": 1.0,
        "noise": 0.015,
    }
    assert describe_augmentation(settings, 1) == [
        "turned by up to 8 degrees",
        "sheared by up to 2.5 degrees",
        "border filled with the nearest pixel",
        "exposure changed, gamma between 0.80 and 1.25",
        "hue turned by up to 5 % of the circle (no effect on grey images)",
        "noise with a standard deviation of up to 1.5 % of the range",
    ]
    assert describe_augmentation({"name": "none", "crop": 1.0, "quarter_turns": False}, 3) == []
    assert not Augmentation({"name": "none", "crop": 1.0, "quarter_turns": False, "mixup": 0.4}).active

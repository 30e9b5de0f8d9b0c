"""The phantom data set: layout, determinism, atomic writing, and that brightness alone does not solve it."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from datamodules.phantom import PHANTOM_VERSION, write_phantom

_NAMES = {
    "PNEUMONIA": re.compile(r"(?P<patient>person\d+)_(bacteria|virus)_\d+\.jpeg"),
    "NORMAL": re.compile(r"(?:NORMAL2-)?(?P<patient>IM-\d{4})-\d{4}\.jpeg"),
}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default 900 images, drawn at 64 px to stay quick."""
    root = tmp_path_factory.mktemp("phantom")
    write_phantom(root, size=64)
    return root


def _files(root: Path) -> list[Path]:
    return sorted((root / "chest_xray").rglob("*.jpeg"))


def _patient(path: Path) -> str:
    match = _NAMES[path.parent.name].fullmatch(path.name)
    assert match, f"unexpected name {path.name}"
    return match["patient"]


def _content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in _files(root)}


def test_layout_counts_and_names(phantom: Path) -> None:
    folders = Counter(path.parent.relative_to(phantom).as_posix() for path in _files(phantom))
    assert folders == {
        "chest_xray/train/NORMAL": 252,
        "chest_xray/train/PNEUMONIA": 378,
        "chest_xray/test/NORMAL": 108,
        "chest_xray/test/PNEUMONIA": 162,
    }
    assert [path.name for path in phantom.iterdir()] == ["chest_xray"], "the scratch folder must be gone"
    names = [path.name for path in _files(phantom)]
    for pattern in ("_bacteria_", "_virus_", "NORMAL2-IM-"):
        assert sum(pattern in name for name in names) > 50
    assert sum(name.startswith("IM-") for name in names) > 50
    assert len(set(names)) == len(names)
    assert isinstance(PHANTOM_VERSION, int)


def test_patients_have_one_to_four_images_and_one_split(phantom: Path) -> None:
    images = Counter(_patient(path) for path in _files(phantom))
    assert set(images.values()) == {1, 2, 3, 4}
    splits: dict[str, set[str]] = {}
    for path in _files(phantom):
        splits.setdefault(_patient(path), set()).add(path.parents[1].name)
    assert all(len(parts) == 1 for parts in splits.values())


def test_images_of_a_patient_share_anatomy_but_differ(phantom: Path) -> None:
    by_patient: dict[str, list[NDArray[np.float64]]] = {}
    for path in _files(phantom):
        by_patient.setdefault(_patient(path), []).append(_thumbnail(path))
    several = [films for films in by_patient.values() if len(films) > 1]
    own = [np.corrcoef(films[0], films[1])[0, 1] for films in several]
    other = [np.corrcoef(films[0], following[1])[0, 1] for films, following in itertools.pairwise(several)]
    assert max(own) < 1
    assert np.mean(own) > np.mean(other)


def test_files_are_grey_jpegs_of_the_size_asked_for(tmp_path: Path) -> None:
    write_phantom(tmp_path, images=10, size=96)
    for path in _files(tmp_path):
        film = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert film is not None and film.shape == (96, 96) and film.dtype == np.uint8
        assert film.std() > 20


def test_seed_decides_every_byte(tmp_path: Path) -> None:
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        write_phantom(tmp_path / name, images=16, size=48, seed=seed)
    first, again, other = (_content(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    assert not set(first.values()) & set(other.values())


def test_image_does_not_depend_on_how_many_are_drawn(tmp_path: Path) -> None:
    write_phantom(tmp_path / "few", images=20, size=48)
    write_phantom(tmp_path / "many", images=60, size=48)
    few, many = _content(tmp_path / "few"), _content(tmp_path / "many")
    shared = set(few) & set(many)
    assert any("train/NORMAL" in name for name in shared)
    assert all(few[name] == many[name] for name in shared)


def test_progress_counts_every_image_once(tmp_path: Path) -> None:
    seen: list[int] = []
    write_phantom(tmp_path, images=12, size=32, on_image=seen.append)
    assert seen == list(range(1, 13))


def test_existing_data_are_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "chest_xray").mkdir()
    (tmp_path / "chest_xray" / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="delete it or choose another root"):
        write_phantom(tmp_path, images=10, size=32)
    assert [path.name for path in tmp_path.rglob("*")] == ["chest_xray", "mine.txt"]


def test_nothing_is_left_when_interrupted(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path, images=40, size=32, on_image=stop)
    assert list(tmp_path.iterdir()) == []
    write_phantom(tmp_path, images=40, size=32)
    assert len(_files(tmp_path)) == 40


@pytest.mark.parametrize("wrong", [{"images": 9}, {"size": 31}, {"seed": -1}])
def test_impossible_arguments_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        write_phantom(tmp_path / "new", **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def _thumbnail(path: Path) -> NDArray[np.float64]:
    film = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert film is not None
    return np.asarray(cv2.resize(film, (16, 16), interpolation=cv2.INTER_AREA).ravel() / 255.0, np.float64)


def test_thumbnails_do_not_solve_it(phantom: Path) -> None:
    """Coarse brightness must help a little (an opacity is dense) and stay far below what shape gives."""
    pixels: dict[str, list[NDArray[np.float64]]] = {"train": [], "test": []}
    labels: dict[str, list[bool]] = {"train": [], "test": []}
    for path in _files(phantom):
        pixels[path.parents[1].name].append(_thumbnail(path))
        labels[path.parents[1].name].append(path.parent.name == "PNEUMONIA")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)).fit(
        pixels["train"], labels["train"]
    )
    auroc = roc_auc_score(labels["test"], model.decision_function(pixels["test"]))
    assert 0.6 < auroc < 0.85

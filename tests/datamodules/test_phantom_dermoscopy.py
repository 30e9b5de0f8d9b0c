"""Drawn lesions: what a picture depends on, and that colour on a coarse grid does not give the kind away."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from datamodules.phantom_dermoscopy import PHANTOM_SKIN_VERSION, draw_dermoscopy
from datamodules.phantom_lesion import KINDS, Kind, draw_lesion
from datamodules.phantom_thorax import Canvas

MALIGNANT = ("melanoma", "bcc", "scc", "ak")


def _pictures(kind: Kind, number: int, count: int = 1, size: int = 64, seed: int = 0) -> list[NDArray[np.uint8]]:
    return list(draw_dermoscopy(kind, number, count, size=size, seed=seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [32, 75, 160])
def test_every_kind_is_drawn_at_every_size_as_colourful_rgb(kind: Kind, size: int) -> None:
    for picture in _pictures(kind, 1, 2, size):
        assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
        assert picture.std() > 8
        assert picture[..., 0].mean() > picture[..., 1].mean(), "skin is redder than green"


def test_picture_depends_on_its_own_lesion_and_index_alone() -> None:
    alone, several = _pictures("nevus", 7, 1), _pictures("nevus", 7, 4)
    assert np.array_equal(alone[0], several[0])
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(several, 2))


@pytest.mark.parametrize("other", [{"seed": 1}, {"number": 8}, {"kind": "df"}])
def test_seed_number_and_kind_each_change_the_picture(other: dict[str, object]) -> None:
    asked = {"kind": "nevus", "number": 7, "seed": 0}
    first, changed = _pictures(**asked), _pictures(**{**asked, **other})  # type: ignore[arg-type]
    assert not np.array_equal(first[0], changed[0])


def test_images_of_a_lesion_are_recognisable_but_not_copies() -> None:
    def histogram(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)[16:48, 16:48]
        return np.asarray([lab[..., k].std() for k in range(3)] + [np.ptp(lab[..., 0]) / 4])

    pairs = [[histogram(picture) for picture in _pictures(kind, number, 2)] for kind in KINDS for number in range(1, 9)]
    own = np.mean([np.abs(a - b).sum() for a, b in pairs])
    other = np.mean([np.abs(a - following[1]).sum() for (a, _), following in itertools.pairwise(pairs)])
    assert 0 < own < 0.75 * other


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_finite_and_not_negative(kind: Kind) -> None:
    for seed in range(4):
        layers = draw_lesion(kind, np.random.default_rng(seed), Canvas(60))
        for picture in (layers.melanin, layers.deep, layers.blood, layers.white, layers.keratin):
            assert picture.shape == (60, 60) and picture.dtype == np.float32
            assert np.isfinite(picture).all() and picture.min() >= 0


def test_thumbnails_do_not_solve_it() -> None:
    """Coarse colour may help, but must stay far below what structure gives."""
    pixels: list[NDArray[np.float64]] = []
    kinds: list[Kind] = []
    for kind in KINDS:
        for number in range(1, 46):
            small = cv2.resize(_pictures(kind, number)[0], (16, 16), interpolation=cv2.INTER_AREA)
            pixels.append(small.ravel() / 255.0)
            kinds.append(kind)
    x, labels = np.stack(pixels), np.array(kinds)
    malignant = np.isin(labels, MALIGNANT)
    held = np.arange(len(x)) % 3 == 0
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    scores = model.fit(x[~held], malignant[~held]).decision_function(x[held])
    assert 0.5 < roc_auc_score(malignant[held], scores) < 0.85
    found = model.fit(x[~held], labels[~held]).predict(x[held])
    assert 1.2 / len(KINDS) < balanced_accuracy_score(labels[held], found) < 0.6


def test_version_is_an_integer_for_cache_keys() -> None:
    assert isinstance(PHANTOM_SKIN_VERSION, int) and PHANTOM_SKIN_VERSION >= 1

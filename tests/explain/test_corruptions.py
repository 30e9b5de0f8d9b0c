"""Corruptions: the same bytes for the same seed, stronger from step to step, and what their parameters say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from explain.corruptions import MEANING, PARAMETERS, STRENGTHS, TITLES, corrupt, kinds_for, parameter_text

KINDS = tuple(PARAMETERS)
SEEDED = ("gaussian_noise", "brightness", "rotation", "hair", "ink", "exposure", "grid")


def scenes(n: int = 4, size: int = 96, channels: int = 3) -> NDArray[np.uint8]:
    """Smooth pictures with a dark disc and fine texture; the same scene at every size."""
    rows, columns = np.mgrid[:size, :size] / size
    pictures = []
    for number in range(n):
        disc = ((rows - 0.45) ** 2 + (columns - 0.5) ** 2) < (0.15 + 0.02 * number) ** 2
        grey = 150 + 40 * np.sin(9 * rows + number) * np.cos(7 * columns) - 70 * disc
        shades = [grey * shade for shade in (1.0, 0.85, 0.75)[:channels]]
        pictures.append(np.stack(shades, axis=2))
    return np.asarray(np.clip(np.stack(pictures), 0, 255), dtype=np.uint8)


def changed_by(images: NDArray[np.uint8], kind: str, strength: int, seed: int = 0) -> float:
    """Mean absolute change of a pixel in grey levels."""
    return float(np.abs(corrupt(images, kind, strength, seed).astype(float) - images).mean())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_shape_type_and_original_are_kept(kind: str, channels: int) -> None:
    images = scenes(channels=channels)
    before = images.copy()
    done = corrupt(images, kind, 5)
    assert done.shape == images.shape and done.dtype == np.uint8
    assert np.array_equal(images, before)
    assert not np.array_equal(done, images)
    assert np.array_equal(corrupt(images, kind, 0), images)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bytes(kind: str) -> None:
    images = scenes()
    assert np.array_equal(corrupt(images, kind, 3, 7), corrupt(images, kind, 3, 7))


@pytest.mark.parametrize("kind", SEEDED)
def test_another_seed_or_image_number_draws_something_else(kind: str) -> None:
    images = np.repeat(scenes(1), 12, axis=0)
    done = corrupt(images, kind, 4, 0)
    assert any(not np.array_equal(done[0], other) for other in done[1:])
    assert not np.array_equal(done, corrupt(images, kind, 4, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gets_what_the_whole_set_would(kind: str) -> None:
    images = scenes(5)
    whole = corrupt(images, kind, 3, 2)
    assert np.array_equal(corrupt(images[3:], kind, 3, 2, numbers=[3, 4]), whole[3:])


@pytest.mark.parametrize("kind", KINDS)
def test_each_strength_changes_more_than_the_one_before(kind: str) -> None:
    images = scenes(8)
    changes = [changed_by(images, kind, strength) for strength in STRENGTHS]
    assert changes == sorted(changes) and changes[0] < changes[-1] / 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_strongest_still_shows_the_picture(kind: str) -> None:
    images = scenes(6)
    before = images.reshape(6, -1).astype(float)
    after = corrupt(images, kind, 5).reshape(6, -1).astype(float)
    alike = [np.corrcoef(one, other)[0, 1] for one, other in zip(before, after, strict=True)]
    assert min(alike) > 0.4


@pytest.mark.parametrize("kind", ["gaussian_blur", "hair", "ink", "rotation", "grid"])
def test_lengths_are_shares_of_the_side(kind: str) -> None:
    small, large = (changed_by(scenes(12, size), kind, 4) for size in (96, 192))
    assert small == pytest.approx(large, rel=0.25)


def test_parameters_mean_what_the_table_says() -> None:
    grey = np.full((20, 64, 64, 1), 128, dtype=np.uint8)
    noise = corrupt(grey, "gaussian_noise", 3).astype(float) - 128
    assert noise.std() == pytest.approx(255 * PARAMETERS["gaussian_noise"][2], rel=0.03)
    shifts = {int(image.mean()) - 128 for image in corrupt(grey, "brightness", 2)}
    assert shifts == {31, -31}  # 12 % of 255, up or down
    images = scenes(1).astype(float)
    flat = corrupt(scenes(1), "contrast", 3).astype(float)
    assert flat.std(axis=(1, 2)) == pytest.approx(PARAMETERS["contrast"][2] * images.std(axis=(1, 2)), rel=0.02)
    assert flat.mean(axis=(1, 2)) == pytest.approx(images.mean(axis=(1, 2)), abs=0.5)
    gamma = PARAMETERS["exposure"][4]
    levels = {int(image[0, 0, 0]) for image in corrupt(grey, "exposure", 5)}
    assert levels == {round(255 * (128 / 255) ** power) for power in (gamma, 1 / gamma)}


def test_more_strength_keeps_the_hairs_that_were_there() -> None:
    image = np.full((1, 96, 96, 3), 220, dtype=np.uint8)
    few, many = (corrupt(image, "hair", strength)[0, ..., 0] < 160 for strength in (2, 4))
    assert (few & many).sum() > 0.95 * few.sum() and many.sum() > 2 * few.sum()


def test_hair_is_dark_and_thin_and_ink_stays_at_the_rim() -> None:
    image = np.full((30, 96, 96, 3), 220, dtype=np.uint8)
    covered = (corrupt(image, "hair", 5) < 150).any(axis=3).mean()
    assert 0.03 < covered < 0.35
    blot = (corrupt(image, "ink", 3) != 220).any(axis=3)[:, 40:56, 40:56]
    assert blot.mean() < 0.02


def test_turned_corners_are_black_on_films_and_skin_on_skin() -> None:
    film, skin = np.full((1, 64, 64, 1), 90, np.uint8), np.full((1, 64, 64, 3), (200, 150, 130), np.uint8)
    assert corrupt(film, "rotation", 5)[0, 0, 0, 0] == 0
    assert np.array_equal(corrupt(skin, "rotation", 5), skin)


def test_each_kind_of_image_has_its_corruptions() -> None:
    assert set(kinds_for("any")) == set(kinds_for("skin")) & set(kinds_for("xray"))
    assert {"hair", "ink"} == set(kinds_for("skin")) - set(kinds_for("any"))
    assert {"exposure", "grid"} == set(kinds_for("xray")) - set(kinds_for("any"))
    assert set(TITLES) == set(MEANING) == set(PARAMETERS)
    assert all(len(values) == len(STRENGTHS) for values in PARAMETERS.values())
    assert parameter_text("jpeg", 5) == "quality 9" and parameter_text("exposure", 1) == "gamma 1.15 or 0.87"
    with pytest.raises(ValueError, match="choose from any, skin, xray"):
        kinds_for("retina")


def test_what_cannot_be_corrupted_is_refused() -> None:
    images = scenes(2)
    with pytest.raises(ValueError, match="corruption is 'fog'; choose from gaussian_blur"):
        corrupt(images, "fog", 1)
    with pytest.raises(ValueError, match="strength is 6"):
        corrupt(images, "jpeg", 6)
    with pytest.raises(ValueError, match="expected uint8"):
        corrupt(images / 255.0, "jpeg", 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3 numbers for 2 images"):
        corrupt(images, "jpeg", 1, numbers=[1, 2, 3])

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from datamodules import near_duplicates as module
from datamodules.fingerprints import small_images
from datamodules.near_duplicates import TRANSFORMS, moved, near_duplicates


def scene(seed: int, height: int = 200, width: int = 260) -> Image.Image:
    """A picture with the falling spectrum of natural ones, all scales present."""
    random = np.random.default_rng(seed)
    canvas = np.zeros((height, width))
    for cells in (3, 6, 12, 24, 48):
        noise = random.normal(size=(cells, cells)).astype(np.float32)
        canvas += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / np.sqrt(cells)
    scaled = (canvas - canvas.min()) / (canvas.max() - canvas.min())
    return Image.fromarray((scaled * 220 + 15).astype(np.uint8))


def chest(seed: int) -> Image.Image:
    """Pictures that differ in their fine structure only: the same body, other noise."""
    body = np.asarray(scene(1000), dtype=np.float64)
    own = np.asarray(scene(seed), dtype=np.float64)
    return Image.fromarray((0.68 * body + 0.32 * own).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue()))


def shrunk(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((int(image.width * factor), int(image.height * factor)), Image.Resampling.BILINEAR)


def small_of(images: list[Image.Image], folder: Path) -> NDArray[np.uint8]:
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    return small_images(paths, [str(number) for number in range(len(images))], folder / "memory")


COPIES: dict[str, tuple[Callable[[Image.Image], Image.Image], str]] = {
    "JPEG quality 90": (lambda image: jpeg(image, 90), "identity"),
    "JPEG quality 30": (lambda image: jpeg(image, 30), "identity"),
    "half the size": (lambda image: shrunk(image, 0.5), "identity"),
    "a third of the size, JPEG 75": (lambda image: jpeg(shrunk(image, 0.34), 75), "identity"),
    "twice the size": (lambda image: shrunk(image, 2.0), "identity"),
    "other aspect ratio": (lambda image: image.resize((200, 200)), "identity"),
    "brighter": (lambda image: ImageEnhance.Brightness(image).enhance(1.1), "identity"),
    "less contrast": (lambda image: ImageEnhance.Contrast(image).enhance(0.7), "identity"),
    "colour": (lambda image: image.convert("RGB"), "identity"),
    "mirrored": (lambda image: jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 60), "flip"),
    "upside down": (lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), "flip_rot180"),
    "turned left": (lambda image: jpeg(shrunk(image.transpose(Image.Transpose.ROTATE_90), 0.5), 60), "rot270"),
    "turned right": (lambda image: image.transpose(Image.Transpose.ROTATE_270), "rot90"),
    "turned twice": (lambda image: image.transpose(Image.Transpose.ROTATE_180), "rot180"),
    "transposed": (lambda image: image.transpose(Image.Transpose.TRANSPOSE), "flip_rot90"),
    "transversed": (lambda image: image.transpose(Image.Transpose.TRANSVERSE), "flip_rot270"),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_with_its_move_and_nothing_else_is(name: str, tmp_path: Path) -> None:
    change, move = COPIES[name]
    originals = [scene(seed) for seed in range(6)]
    pairs = near_duplicates(small_of([*originals, change(originals[2])], tmp_path))
    assert pairs[["first", "second", "transform"]].to_numpy().tolist() == [[2, 6, move]]
    assert 0.91 <= pairs["similarity"][0] <= 1.0


def test_the_move_makes_the_second_look_like_the_first() -> None:
    picture = np.asarray(scene(3).resize((32, 32)))
    for name in TRANSFORMS:
        other = moved(picture, name)
        (found,) = near_duplicates(np.stack([picture, other])).itertuples(index=False)
        np.testing.assert_array_equal(moved(other, found[3]), picture)


def test_alike_bodies_are_not_copies(tmp_path: Path) -> None:
    small = small_of([chest(seed) for seed in range(12)], tmp_path)
    plain = np.corrcoef(small.reshape(12, -1).astype(float))
    assert np.median(plain[np.triu_indices(12, 1)]) > 0.85  # a plain correlation would take them for copies
    assert near_duplicates(small).empty


def test_a_common_dark_frame_does_not_make_copies(tmp_path: Path) -> None:
    y, x = np.mgrid[:200, :200] - 100
    frame = x**2 + y**2 > 95**2
    images = []
    for seed in range(8):
        pixels = 150 + 0.25 * np.asarray(scene(seed, 200, 200), dtype=float)
        images.append(Image.fromarray(np.where(frame, 5, pixels).astype(np.uint8)))
    pairs = near_duplicates(small_of([*images, jpeg(images[0], 60)], tmp_path))
    assert pairs[["first", "second"]].to_numpy().tolist() == [[0, 8]]


def test_a_spot_on_plain_skin_does_not_make_copies(tmp_path: Path) -> None:
    y, x = np.mgrid[:200, :200] - 100
    images = []
    for seed in range(8):
        shape = 1 + 0.1 * np.sin((2 + seed % 3) * np.arctan2(y, x) + seed)
        spot = 1 / (1 + np.exp((np.hypot(x, y) - 22 * shape) / 3))
        skin = 190 + 0.12 * np.asarray(scene(seed, 200, 200), dtype=float)
        images.append(Image.fromarray(np.clip(skin - 150 * spot, 0, 255).astype(np.uint8)))
    pairs = near_duplicates(small_of([*images, jpeg(images[3], 60)], tmp_path))
    assert pairs[["first", "second"]].to_numpy().tolist() == [[3, 8]]


def test_flat_pictures_are_in_no_pair() -> None:
    random = np.random.default_rng(0)
    flat = np.stack([np.full((32, 32), grey, dtype=np.uint8) for grey in (0, 0, 128, 128, 255)])
    nearly = (random.random((5, 32, 32)) < 0.02).astype(np.uint8)
    ramp = np.tile(np.linspace(100, 104, 32).astype(np.uint8), (2, 32, 1))
    with np.errstate(all="raise"):
        assert near_duplicates(np.concatenate([flat, nearly, ramp])).empty


def test_black_pictures_with_noise_or_a_mark_are_in_no_pair() -> None:
    random = np.random.default_rng(0)
    noisy = random.integers(0, 12, size=(30, 32, 32), dtype=np.uint8)
    marked = np.zeros((30, 32, 32), dtype=np.uint8)
    marked[:, 2:5, 2:4] = 255
    assert near_duplicates(np.concatenate([noisy, marked, noisy + marked // 2])).empty


def test_a_symmetric_picture_is_told_with_the_plainest_move() -> None:
    quarter = np.asarray(scene(5).resize((16, 16)))
    half = np.concatenate([quarter, quarter[:, ::-1]], axis=1)
    whole = np.concatenate([half, half[::-1]])
    pairs = near_duplicates(np.stack([whole, whole]))
    assert pairs["transform"].tolist() == ["identity"]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    originals = np.stack([np.asarray(scene(seed).resize((32, 32))) for seed in range(9)])
    small = np.concatenate([originals, moved(originals[::2], "rot90"), originals[1:4]])
    expected = near_duplicates(small)
    monkeypatch.setattr(module, "_ROWS", 4)
    monkeypatch.setattr(module, "_COLUMNS", 3)
    monkeypatch.setattr(module, "_PAIRS", 1)
    steps: list[int] = []
    blocked = near_duplicates(small, on_image=steps.append)
    assert len(expected) == 9 and sum(steps) == len(small)
    assert blocked.drop(columns="similarity").equals(expected.drop(columns="similarity"))
    np.testing.assert_allclose(blocked["similarity"], expected["similarity"], atol=1e-5)


def test_rows_are_ordered_and_each_pair_occurs_once() -> None:
    picture = np.asarray(scene(1).resize((32, 32)))
    pairs = near_duplicates(np.stack([picture] * 5))
    assert pairs[["first", "second"]].to_numpy().tolist() == [[a, b] for a in range(5) for b in range(a + 1, 5)]


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare_gives_an_empty_table(count: int) -> None:
    pairs = near_duplicates(np.zeros((count, 32, 32), dtype=np.uint8))
    assert pairs.empty and list(pairs.columns) == ["first", "second", "similarity", "transform"]
    assert pairs["first"].dtype == np.int64


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        near_duplicates(np.zeros((2, 16, 16), dtype=np.uint8))


@pytest.mark.realdata
def test_the_missed_duplicate_lesion_of_ham10000_is_found(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "ham10000" / "images"
    names = ["ISIC_0030074", "ISIC_0025226", *(f"ISIC_00{number}" for number in range(24306, 24366))]
    paths = [folder / f"{name}.jpg" for name in names]
    pairs = near_duplicates(small_images(paths, names, tmp_path))
    assert [0, 1] in pairs[["first", "second"]].to_numpy().tolist()

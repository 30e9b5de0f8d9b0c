"""Decoding is complete or refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.errors import UnreadableImageError
from datamodules.images import inspect_image, read_image
from tests.conftest import write_image


def test_facts(tmp_path: Path) -> None:
    path = tmp_path / "a.jpeg"
    write_image(path, 0, size=40)
    facts = inspect_image(path)
    assert (facts.width, facts.height, facts.mode) == (40, 40, "L")
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_truncated_jpeg_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jpeg"
    write_image(path, 0, size=300)
    path.write_bytes(path.read_bytes()[:-400])
    assert cv2.imread(str(path)) is not None, "OpenCV reads it without complaint, which is why it is not used here"
    for attempt in (lambda: inspect_image(path), lambda: read_image(path, 32, 1)):
        with pytest.raises(UnreadableImageError, match="truncated"):
            attempt()


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"not an image at all", "not an image")])
def test_no_image_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.jpeg"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=reason):
        inspect_image(path)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (12_000, 9_000)).save(path)
    with pytest.raises(UnreadableImageError, match="pixels"):
        inspect_image(path)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_colour_modes(tmp_path: Path, mode: str, channels: int) -> None:
    gradient = np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (64, 1))
    path = tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png")
    if mode == "I;16":
        Image.fromarray(gradient.astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(gradient).convert(mode).save(path)
    pixels = read_image(path, 32, channels)
    assert pixels.shape == (32, 32, channels)
    assert pixels.dtype == np.uint8
    expected = cv2.resize(gradient, (32, 32), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(pixels.astype(int) - expected[..., None]).max() <= 4


@pytest.mark.parametrize(("bits", "kind"), [(10, np.uint16), (12, np.uint16), (16, np.uint16), (0, np.float32)])
def test_deep_images_do_not_turn_black(tmp_path: Path, bits: int, kind: type) -> None:
    ramp = np.tile(np.linspace(0.0, 1.0, 64), (64, 1))
    pixels = (ramp * (2**bits - 1 if bits else 1.0)).astype(kind)
    path = tmp_path / "a.tif"
    Image.fromarray(pixels).save(path)
    found = read_image(path, 64, 1)[..., 0].astype(float)
    assert np.abs(found - ramp * 255).max() <= 2


@pytest.mark.parametrize("channels", [1, 3])
def test_lab_is_read(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "lab.tif"
    Image.new("LAB", (8, 8), (255, 128, 128)).save(path)
    assert inspect_image(path).mode == "LAB"
    assert read_image(path, 8, channels).min() > 200


def test_a_conversion_that_fails_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def impossible(*args: object, **kwargs: object) -> None:
        raise ValueError("conversion not supported")

    path = tmp_path / "odd.png"
    write_image(path, 0)
    monkeypatch.setattr(Image.Image, "convert", impossible)
    for attempt in (lambda: inspect_image(path), lambda: read_image(path, 8, 3)):
        with pytest.raises(UnreadableImageError, match=r"odd\.png"):
            attempt()


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    half = np.zeros((64, 64), dtype=np.uint8)
    half[:32] = 255
    exif = Image.Exif()
    exif[274] = 3  # upside down
    path = tmp_path / "a.jpeg"
    Image.fromarray(half).save(path, exif=exif)
    pixels = read_image(path, 16, 1)
    assert pixels[:6].mean() < 10
    assert pixels[10:].mean() > 245


def test_scaled_jpeg_decoding_stays_close_to_exact(tmp_path: Path) -> None:
    smooth = cv2.resize(
        np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8), (900, 900), interpolation=cv2.INTER_CUBIC
    )
    path = tmp_path / "a.jpeg"
    cv2.imwrite(str(path), smooth, [cv2.IMWRITE_JPEG_QUALITY, 98])
    exact = cv2.resize(smooth, (128, 128), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(read_image(path, 128, 1)[..., 0].astype(int) - exact).mean() < 1.0

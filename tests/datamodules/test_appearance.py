"""What a file looks like, and that looking never changes the pixels that a network gets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.appearance import described, look
from datamodules.errors import UnreadableImageError
from datamodules.images import read_image


def picture(path: Path, *, colour: bool, size: tuple[int, int] = (120, 90), mode: str = "RGB") -> Path:
    """A smooth picture, width x height, reddish or grey."""
    ramp = np.linspace(40, 200, size[0], dtype=np.float32)[None].repeat(size[1], axis=0)
    channels = [ramp, ramp * (0.4 if colour else 1.0), ramp * (0.4 if colour else 1.0)]
    Image.fromarray(np.stack(channels, axis=2).astype(np.uint8)).convert(mode).save(path)
    return path


@pytest.mark.parametrize("interpolation", ["area", "bilinear"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp"])
def test_pixels_are_those_that_training_saw(tmp_path: Path, name: str, channels: int, interpolation: str) -> None:
    path = picture(tmp_path / name, colour=True)
    expected = read_image(path, 24, channels, interpolation)
    for source in (path, path.read_bytes()):
        looked = look(source, size=24, channels=channels, interpolation=interpolation)
        assert (looked.pixels == expected).all()
        assert looked.pixels.shape == (24, 24, channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_colour_is_measured_also_for_a_network_of_grey_images(tmp_path: Path, name: str, channels: int) -> None:
    found = {
        colour: look(
            picture(tmp_path / name, colour=colour), size=24, channels=channels, interpolation="area"
        ).appearance
        for colour in (True, False)
    }
    assert found[True].chroma == pytest.approx(0.6 * 120, abs=3)
    assert found[False].chroma < 1
    assert (found[True].width, found[True].height, found[True].side) == (120, 90, 90)
    assert found[True].aspect == pytest.approx(4 / 3)


def without_jfif(content: bytes) -> bytes:
    """A JPEG file without its first segment, as cameras write it that have only EXIF."""
    assert content[2:4] == b"\xff\xe0"
    return content[:2] + content[4 + int.from_bytes(content[4:6], "big") :]


@pytest.mark.parametrize("size", [16, 40, 300])
@pytest.mark.parametrize("kind", ["ycbcr", "rgb", "no jfif", "progressive", "full colours", "cmyk"])
def test_every_kind_of_jpeg_has_its_grey_pixels_and_its_colours(kind: str, size: int, tmp_path: Path) -> None:
    blocks = np.random.default_rng(3).integers(0, 256, (12, 15, 3)).astype(np.uint8)
    image = Image.fromarray(blocks.repeat(32, axis=0).repeat(32, axis=1))
    if kind == "cmyk":
        image = image.convert("CMYK")
    path = tmp_path / "a.jpg"
    how = {"rgb": {"keep_rgb": True}, "progressive": {"progressive": True}, "full colours": {"subsampling": 0}}
    image.save(path, quality=95, **how.get(kind, {}))
    if kind == "no jfif":
        path.write_bytes(without_jfif(path.read_bytes()))
    with Image.open(path) as opened:
        plain = np.asarray(opened.convert("RGB")).astype(float)
        assert ("jfif" in opened.info) == (kind in ("ycbcr", "progressive", "full colours"))
    looked = look(path, size=size, channels=1, interpolation="area")
    assert (looked.pixels == read_image(path, size, 1, "area")).all()
    if kind != "cmyk":  # which Pillow takes for inverted
        assert looked.appearance.chroma == pytest.approx((plain.max(axis=2) - plain.min(axis=2)).mean(), abs=6)


@pytest.mark.parametrize("mode", ["L", "1", "I", "F", "LA"])
def test_files_without_colours_have_none(tmp_path: Path, mode: str) -> None:
    path = picture(tmp_path / "a.tiff", colour=False, mode=mode)
    assert look(path, size=24, channels=1, interpolation="area").appearance.chroma == 0.0


def test_a_palette_has_colours(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", colour=True, mode="P")
    assert look(path, size=24, channels=1, interpolation="area").appearance.chroma > 30


def test_a_picture_that_is_turned_upright_has_its_upright_shape(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.open(picture(tmp_path / "a.png", colour=False)).save(tmp_path / "a.jpg", exif=exif)
    seen = look(tmp_path / "a.jpg", size=24, channels=1, interpolation="area").appearance
    assert (seen.width, seen.height) == (90, 120)


def test_errors_start_with_the_name_that_was_given(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"^upload\.jpg: the file is empty"):
        look(b"", name="upload.jpg", size=24, channels=1, interpolation="area")
    (tmp_path / "note.jpg").write_text("this is only a text, and a long one")
    with pytest.raises(UnreadableImageError, match=r"^note\.jpg: not an image file: it is text"):
        look(tmp_path / "note.jpg", size=24, channels=1, interpolation="area")
    with pytest.raises(UnreadableImageError, match=r"^image: "):
        look(b"nothing at all", size=24, channels=1, interpolation="area")


def test_texture_tells_grains_from_slopes_and_layout_tells_where() -> None:
    rng = np.random.default_rng(0)
    slope = np.linspace(0, 255, 48, dtype=np.uint8)[None].repeat(48, axis=0)[..., None]
    noise = rng.permutation(slope.ravel()).reshape(slope.shape)  # the same tones
    mirrored = slope[:, ::-1]
    layout, texture = described(np.stack([slope, noise, mirrored]))
    assert np.isfinite(layout).all() and np.isfinite(texture).all()
    assert np.abs(texture[0, :13] - texture[1, :13]).max() < 1  # tones
    assert texture[1, 13] - texture[0, 13] > 50  # finest structure
    assert np.abs(layout[0] - layout[2]).mean() > 50 and np.abs(texture[0] - texture[2]).max() < 1
    assert described(np.zeros((1, 8, 8, 3), np.uint8))[1].shape == (1, 32)


def test_layout_is_the_picture_in_small() -> None:
    image = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    small = cv2.resize(image[0], (16, 16), interpolation=cv2.INTER_AREA)
    assert (described(image)[0].reshape(16, 16, 3) == small).all()

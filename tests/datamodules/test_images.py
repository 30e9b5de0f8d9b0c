"""Decoding is complete or refused."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.errors import UnreadableImageError
from datamodules.images import inspect_image, read_image
from datamodules.index import COLUMNS, index_files
from tests.conftest import write_image
from tests.datamodules import odd_files
from tests.datamodules.odd_dicom import plain
from tests.datamodules.odd_files import ALPHA, GREY, RGB, saved, scene


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


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_interpolation_is_pillows(interpolation: str, mode: str, channels: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (150, 90, 3), dtype=np.uint8)
    image = Image.fromarray(noise).convert(mode)
    path = tmp_path / "a.png"
    image.save(path)
    for size in (32, 200):
        exact = image.resize((size, size), Image.Resampling[interpolation.upper()])
        found = read_image(path, size, channels, interpolation)
        assert found.shape == (size, size, channels)
        assert (found == np.asarray(exact).reshape(size, size, channels)).all()
    assert (found != read_image(path, 200, channels)).any()


@pytest.mark.parametrize("interpolation", ["area", "bilinear", "bicubic"])
def test_every_interpolation_averages_what_is_too_fine(interpolation: str, tmp_path: Path) -> None:
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(board).save(path)
    inner = read_image(path, 32, 1, interpolation)[1:-1, 1:-1].astype(int)
    assert np.abs(inner - 127).max() <= 2


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_scaled_jpeg_decoding_stays_close_in_every_interpolation(interpolation: str, tmp_path: Path) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8)
    smooth = cv2.resize(blocks, (900, 900), interpolation=cv2.INTER_CUBIC)
    path = tmp_path / "a.jpeg"
    cv2.imwrite(str(path), smooth, [cv2.IMWRITE_JPEG_QUALITY, 98])
    exact = Image.fromarray(smooth).resize((128, 128), Image.Resampling[interpolation.upper()])
    found = read_image(path, 128, 1, interpolation)[..., 0].astype(int)
    assert np.abs(found - np.asarray(exact).astype(int)).mean() < 1.0


def decoded(tmp_path: Path, content: bytes, channels: int = 1) -> np.ndarray:
    """A file of 48 x 40 pixels, squashed to 48 x 48 like ``expected`` below."""
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    return read_image(path, 48, channels).squeeze().astype(int)


def expected(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(np.asarray(pixels), (48, 48), interpolation=cv2.INTER_LINEAR).astype(int)


def odd(name: str, tmp_path: Path, channels: int = 1) -> np.ndarray:
    path = tmp_path / name
    next(file for file in odd_files.odd_files() if file.name == name).write(path)
    return read_image(path, 48, channels).squeeze().astype(int)


@pytest.mark.parametrize(
    "name",
    [
        "interlaced.png",
        "grey_16bit.png",
        "deep_deflate.tif",
        "trailing.jpg",
        "pages.tif",
        "loop.tif",
        "really_png.jpg",
        "float.tif",
    ],
)
def test_the_same_picture_comes_out_of_every_container(name: str, tmp_path: Path) -> None:
    picture = RGB.convert("L") if name == "trailing.jpg" else GREY
    assert np.abs(odd(name, tmp_path) - expected(np.asarray(picture))).mean() < 2


@pytest.mark.parametrize(("bits", "step"), [(1, 255), (2, 85), (4, 17)])
def test_few_bits_span_black_to_white(bits: int, step: int, tmp_path: Path) -> None:
    assert (odd(f"grey_{bits}bit.png", tmp_path) == expected((scene() >> (8 - bits)) * step)).all()


@pytest.mark.parametrize("name", ["cmyk.jpg", "cmyk_plain.jpg", "ycck.jpg"])
def test_inverted_and_plain_cmyk_give_the_same_colours(name: str, tmp_path: Path) -> None:
    assert np.abs(odd(name, tmp_path, 3) - expected(np.asarray(RGB))).mean() < 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation: int, kind: str, tmp_path: Path) -> None:
    moves = Image.Transpose
    stored = {  # how an upright picture has to be stored, so that the tag turns it back
        2: moves.FLIP_LEFT_RIGHT, 3: moves.ROTATE_180, 4: moves.FLIP_TOP_BOTTOM, 5: moves.TRANSPOSE, 6: moves.ROTATE_90,
        7: moves.TRANSVERSE, 8: moves.ROTATE_270,
    }.get(orientation)  # fmt: skip
    picture = GREY if stored is None else GREY.transpose(stored)
    exif = Image.Exif()
    exif[274] = orientation
    content = saved(picture, kind, **({"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": exif}))
    assert np.abs(decoded(tmp_path, content) - expected(scene())).mean() < 3


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_transparent_is_black(mode: str, channels: int, tmp_path: Path) -> None:
    picture = Image.merge("LA", [Image.new("L", (48, 40), 200), GREY.point(lambda value: 255 * (value == 250))])
    kind = "TIFF" if mode == "PA" else "PNG"
    found = decoded(tmp_path, saved(picture.convert(mode) if mode != "PA" else picture, kind), channels)
    assert np.abs(found[:8, :8] - 200).max() <= 1
    assert (found[20:, 20:] == 0).all(), "the hidden colour shows"


def test_half_transparent_is_half_as_bright(tmp_path: Path) -> None:
    assert np.abs(decoded(tmp_path, saved(ALPHA, "PNG")) - expected(scene() / 255 * 128)).max() <= 2


def test_a_transparent_value_of_a_deep_png_is_black(tmp_path: Path) -> None:
    assert (odd("key_16bit.png", tmp_path)[:8, :8] == 0).all()


def test_deep_tiffs_that_count_from_white_are_inverted(tmp_path: Path) -> None:
    assert np.abs(odd("white_is_zero.tif", tmp_path) - expected(255 - scene())).max() <= 1


def test_negative_values_are_kept_apart(tmp_path: Path) -> None:
    low, high = int(scene().min()), int(scene().max())
    assert np.abs(odd("signed.tif", tmp_path) - expected((scene() - low) / (high - low) * 255)).max() <= 1


@pytest.mark.parametrize("name", ["pages.tif", "animated.webp", "stereo.jpg"])
def test_it_is_said_that_only_the_first_page_is_used(name: str, tmp_path: Path) -> None:
    odd(name, tmp_path)
    assert ", page 1 of " in inspect_image(tmp_path / name).mode


def folder_of_files(root: Path) -> list[str]:
    root.mkdir()
    (root / "a.dcm").write_bytes(plain())
    (root / "b.dcm").write_bytes(plain(PatientID="other"))
    (root / "c.png").write_bytes(saved(GREY, "PNG"))
    (root / "d.png").write_bytes(b"no image")
    return ["a.dcm", "b.dcm", "c.png", "d.png"]


def test_index_tells_patients_apart_and_keeps_its_salt_secret(tmp_path: Path) -> None:
    ids = folder_of_files(tmp_path / "root")
    read: list[int] = []
    first = index_files(tmp_path / "root", ids, tmp_path / "kept" / "index.csv", read.append)
    assert list(first.columns) == COLUMNS
    assert first["patient"].str.len().tolist() == [16, 16, 0, 0]
    assert first["patient"][0] != first["patient"][1]
    salt = tmp_path / "kept" / "patient_salt"
    assert len(salt.read_bytes()) == 32
    if os.name == "posix":
        assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    assert index_files(tmp_path / "root", ids, tmp_path / "kept" / "index.csv", read.append).equals(first)
    assert len(read) == 4
    elsewhere = index_files(tmp_path / "root", ids, tmp_path / "elsewhere" / "index.csv")
    assert elsewhere["patient"][0] != first["patient"][0], "salts of two folders are equal"


def test_index_reads_again_for_another_salt(tmp_path: Path) -> None:
    ids = folder_of_files(tmp_path / "root")
    one, two, again = (
        index_files(tmp_path / "root", ids, tmp_path / "i.csv", salt=salt) for salt in (b"1", b"2", b"1")
    )
    assert one["patient"][0] != two["patient"][0]
    assert again.equals(one)
    assert not (tmp_path / "patient_salt").exists()


@pytest.mark.parametrize("version", [2, 99])
def test_index_reads_again_for_another_decoder(version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = folder_of_files(tmp_path / "root")
    read: list[int] = []
    first = index_files(tmp_path / "root", ids, tmp_path / "i.csv")
    monkeypatch.setattr("datamodules.index.DECODER_VERSION", version)
    assert index_files(tmp_path / "root", ids, tmp_path / "i.csv", read.append).equals(first)
    assert len(read) == 4


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\0", b"image_id,size\na.dcm,1\n", b"a,b\n1,2,3\n", b"image_id,size,mtime_ns,sha256,width,height,mode,error\n"
     b"a.dcm,1,1,00,1,1,L,\n"],
)  # fmt: skip
def test_index_survives_a_damaged_or_older_memory(content: bytes, tmp_path: Path) -> None:
    ids = folder_of_files(tmp_path / "root")
    expected_facts = index_files(tmp_path / "root", ids, tmp_path / "good.csv", salt=b"x")
    (tmp_path / "i.csv").write_bytes(content)
    assert index_files(tmp_path / "root", ids, tmp_path / "i.csv", salt=b"x").equals(expected_facts)


def test_index_keeps_what_was_read_before_an_interruption(tmp_path: Path) -> None:
    ids = folder_of_files(tmp_path / "root")
    read: list[int] = []

    def stop_at_the_third(count: int) -> None:
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(count)

    with pytest.raises(KeyboardInterrupt):
        index_files(tmp_path / "root", ids, tmp_path / "i.csv", stop_at_the_third)
    read.clear()
    index_files(tmp_path / "root", ids, tmp_path / "i.csv", read.append)
    assert len(read) == 1


def test_index_of_strange_names_and_absent_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder_of_files(root)
    names = ['comma, "quote".png', "line\nbreak.png", "NA", "007"]
    if os.name == "posix" and os.uname().sysname == "Linux":
        names.append(os.fsdecode(b"latin\xe9.png"))
    for name in names:
        (root / name).write_bytes(saved(GREY, "PNG"))
    read: list[int] = []
    for _ in range(2):
        facts = index_files(root, [*names, "absent.png"], tmp_path / "i.csv", read.append)
        assert facts["image_id"].tolist() == [*names, "absent.png"]
        assert (facts["error"][: len(names)] == "").all()
        assert "cannot be read" in facts["error"].iloc[-1]
    assert len(read) == len(names) + 2, "only the absent file is tried again"


def test_index_of_nothing(tmp_path: Path) -> None:
    assert len(index_files(tmp_path, [], tmp_path / "i.csv")) == 0

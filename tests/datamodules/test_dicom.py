"""DICOM pixels are shown as the standard says; patients are told by a salted hash alone."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid

from datamodules import dicom, dicom_worker
from datamodules.errors import UnreadableImageError
from datamodules.images import ImageFacts, inspect_image, looks_like_image, read_image
from tests.datamodules.odd_dicom import (
    BYTE,
    GREY_JPEG,
    ODD_DICOM,
    SECRET,
    SIGNED,
    colours,
    compressed,
    framed,
    lut,
    plain,
    ramp,
)
from tests.datamodules.odd_files import scene

ODD: dict[str, Callable[[], bytes]] = {name: content for name, _, _, content in ODD_DICOM}


def shown(content: bytes) -> np.ndarray:
    return dicom.decode(dicom.read_header(content))


def facts(tmp_path: Path, salt: bytes = b"salt", **elements: Any) -> ImageFacts:
    path = tmp_path / "a.dcm"
    path.write_bytes(plain(**elements))
    return inspect_image(path, salt)


def levels(stored: np.ndarray, low: float, high: float) -> np.ndarray:
    return (np.clip((stored.astype(float) - low) / (high - low), 0, 1) * 255).round()


@pytest.mark.parametrize(
    "name",
    [
        "explicit.dcm", "implicit.dcm", "big_endian.dcm", "deflated.dcm", "rle.dcm", "jpeg_lossless.dcm", "jpeg_ls.dcm",
        "jpeg_2000.dcm", "jpeg_2000_signed.dcm", "no_preamble.dcm", "unused_bits.dcm", "signed.dcm",
    ],
)  # fmt: skip
def test_every_lossless_way_of_storing_gives_the_same_picture(name: str) -> None:
    top = int(ramp().max())
    assert np.abs(shown(ODD[name]()) - levels(ramp(), 0, top)).max() <= 1


def test_jpeg_baseline_is_close_to_what_was_stored() -> None:
    assert np.abs(shown(ODD["jpeg.dcm"]()).astype(int) - scene()).mean() < 2


def test_mono1_is_the_inverse_of_mono2() -> None:
    for stored, bits in ((BYTE, 8), (ramp(), 12)):
        light, dark = (shown(plain(stored, bits=bits, PhotometricInterpretation=f"MONOCHROME{n}")) for n in (1, 2))
        assert np.abs(light.astype(int) + dark - 255).max() <= 1
        assert light[0, 0] > 250 > 5 > dark[0, 0]


def test_eight_bits_without_a_window_stay_as_they_are() -> None:
    assert (shown(plain(BYTE // 2, bits=8)) == BYTE // 2).all()


def test_linear_window() -> None:
    found = shown(plain(WindowCenter=2048, WindowWidth=1024))
    assert (found == levels(ramp(), 2048 - 0.5 - 1023 / 2, 2048 - 0.5 + 1023 / 2)).all()  # PS3.3 C.11.2.1.2.1


def test_exact_linear_window() -> None:
    found = shown(plain(WindowCenter=2048, WindowWidth=1024, VOILUTFunction="LINEAR_EXACT"))
    assert np.abs(found - levels(ramp(), 1536, 2560)).max() <= 1


def test_sigmoid_window() -> None:
    found = shown(plain(WindowCenter=2048, WindowWidth=900, VOILUTFunction="SIGMOID"))
    expected = 255 / (1 + np.exp(-4 * (ramp().astype(float) - 2048) / 900))
    assert np.abs(found - expected).max() <= 1


def test_the_window_is_applied_after_the_rescale() -> None:
    found = shown(plain(SIGNED, RescaleSlope=2, RescaleIntercept=4096, WindowCenter=4096, WindowWidth=2048))
    assert np.abs(found - levels(ramp() * 2.0, 4096 - 1024, 4096 + 1023)).max() <= 1


def test_the_first_of_several_windows_is_used_and_said() -> None:
    two = plain(WindowCenter=[2048, 10], WindowWidth=[4096, 5])
    assert (shown(two) == shown(plain(WindowCenter=2048, WindowWidth=4096))).all()
    assert dicom.describe(dicom.read_header(two)) == (48, 40, "MONOCHROME2 12 bit, window 1 of 2")


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_a_voi_table_goes_before_a_window(syntax: str) -> None:
    squares = (np.arange(4096.0) ** 2 / 4096).astype(np.uint16)
    found = shown(plain(syntax=syntax, VOILUTSequence=lut(squares, 0, 12), WindowCenter=5, WindowWidth=2))
    assert np.abs(found - squares[ramp()] / 4095 * 255).max() <= 1


def test_values_beyond_a_table_take_its_ends() -> None:
    found = shown(plain(VOILUTSequence=lut(np.arange(100, 300), 1000, 9)))
    assert found.min() == round(100 / 511 * 255)
    assert found.max() == round(299 / 511 * 255)


def test_a_table_of_bytes_is_read() -> None:
    table = lut(np.arange(256)[::-1].astype(np.uint8).view("<u2"), 0, 8)
    table[0].LUTDescriptor = [256, 0, 8]
    assert (shown(plain(BYTE, bits=8, VOILUTSequence=table)) == 255 - BYTE).all()


def test_modality_table() -> None:
    falling = np.arange(4096)[::-1]
    assert (
        np.abs(
            shown(plain(ModalityLUTSequence=lut(falling, 0, 12)))
            - levels(4095 - ramp(), 4095 - int(ramp().max()), 4095)
        ).max()
        <= 1
    )


def test_padding_is_black_and_does_not_squeeze_the_grey_scale() -> None:
    stored = (ramp() // 4).astype(np.uint16)
    stored[:5] = 4095
    inside = levels(stored[5:], stored[5:].min(), stored[5:].max())
    for photometric, expected in (("MONOCHROME2", inside), ("MONOCHROME1", 255 - inside)):
        found = shown(plain(stored, PixelPaddingValue=4095, PhotometricInterpretation=photometric))
        assert (found[:5] == 0).all()
        assert np.abs(found[5:] - expected).max() <= 1


def test_padding_may_be_a_range() -> None:
    stored = ramp()
    found = shown(plain(stored, PixelPaddingValue=4000, PixelPaddingRangeLimit=4095))
    assert (found[stored >= 4000] == 0).all()


@pytest.mark.parametrize("name", ["rgb.dcm", "rgb_planes.dcm", "ybr.dcm", "ybr_422.dcm"])
def test_colour(name: str) -> None:
    assert np.abs(shown(ODD[name]()).astype(int) - colours()).mean() < 4


def test_palette() -> None:
    found = shown(ODD["palette.dcm"]())
    assert found.shape == (40, 48, 3)
    assert np.abs(found[..., 0].astype(int) - BYTE).max() <= 1
    assert (found[..., 2] == 0).all()


def test_channels_fit_what_is_asked_for(tmp_path: Path) -> None:
    for name, content in (("grey", plain()), ("colour", ODD["rgb.dcm"]())):
        path = tmp_path / name
        path.write_bytes(content)
        assert read_image(path, 20, 1).shape == (20, 20, 1)
        assert read_image(path, 20, 3).shape == (20, 20, 3)


def test_a_flat_picture_is_no_error() -> None:
    assert (shown(plain(np.full((40, 48), 77, np.uint16))) == 0).all()


def test_the_same_patient_has_the_same_hash_and_no_other(tmp_path: Path) -> None:
    first = facts(tmp_path).patient
    assert len(first) == 16
    assert int(first, 16)
    assert facts(tmp_path, Modality="CR", PatientID=f"{SECRET}-7  ").patient == first
    others = [facts(tmp_path, PatientID="8"), facts(tmp_path, IssuerOfPatientID="B"), facts(tmp_path, salt=b"other")]
    assert len({first, *(other.patient for other in others)}) == 4


@pytest.mark.parametrize("blank", [None, "", "   "])
def test_no_patient_id_is_no_patient(tmp_path: Path, blank: str | None) -> None:
    assert facts(tmp_path, PatientID=blank).patient == ""


@pytest.mark.parametrize(
    "name", [name for name, _, outcome, _ in ODD_DICOM if outcome != "read" and name != "small.dcm"]
)
def test_an_error_carries_no_text_of_the_header(name: str) -> None:
    with pytest.raises(UnreadableImageError) as caught:
        dicom.decode(dicom.read_header(ODD[name]()))
    error: BaseException | None = caught.value
    assert SECRET.encode() not in pickle.dumps(str(error))
    assert error is not None
    assert error.__context__ is None, "a chained error would be printed with it"


def test_another_patient_text_is_not_even_kept() -> None:
    header = dicom.read_header(plain())
    assert "PatientName" not in header
    assert "StudyDescription" not in header


def test_a_wrong_size_inside_is_refused_before_decoding() -> None:
    with pytest.raises(UnreadableImageError, match="disagree"):
        shown(framed(GREY_JPEG, uid.JPEGBaseline8Bit, ramp(255, np.uint8, width=50), bits=8))


def test_names_without_suffix_are_looked_into(tmp_path: Path) -> None:
    for name, content, expected in (
        ("1.2.840.7", plain(), True),
        ("IM0001", plain(), True),
        ("README", b"text", False),
    ):
        (tmp_path / name).write_bytes(content)
        assert looks_like_image(tmp_path / name) is expected
    assert not looks_like_image(tmp_path)
    assert not looks_like_image(tmp_path / "absent")
    assert looks_like_image(tmp_path / "A.DCM")
    assert not looks_like_image(tmp_path / "a.gif")


def test_a_decoder_that_dies_costs_one_file_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = shown(ODD["jpeg_ls.dcm"]())
    deadly = tmp_path / "deadly.py"
    deadly.write_text("import os\nos.abort()\n", encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(dicom_worker, "__file__", str(deadly))
        patched.setattr(dicom_worker, "_idle", [])
        with pytest.raises(UnreadableImageError, match="corrupt"):
            shown(ODD["jpeg_ls.dcm"]())
        assert dicom_worker._idle == []
    for _, worker in dicom_worker._idle:
        worker.kill()
    assert (shown(ODD["jpeg_ls.dcm"]()) == good).all()


def test_a_decoder_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = tmp_path / "hanging.py"
    hanging.write_text("import time\ntime.sleep(60)\n", encoding="utf-8")
    monkeypatch.setattr(dicom_worker, "__file__", str(hanging))
    monkeypatch.setattr(dicom_worker, "_idle", [])
    monkeypatch.setattr(dicom_worker, "_PATIENCE", 0.2)
    with pytest.raises(UnreadableImageError, match="corrupt"):
        shown(ODD["jpeg_lossless.dcm"]())


def test_threads_do_not_get_each_others_pictures() -> None:
    files = [
        ODD["jpeg_lossless.dcm"](),
        compressed(uid.JPEGLSLossless, ramp(1000)),
        compressed(uid.JPEGLSLossless, BYTE, bits=8),
    ]
    alone = [shown(content) for content in files]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(shown, files * 8))
    assert all((found == alone[row % 3]).all() for row, found in enumerate(together))


@pytest.mark.realdata
def test_real_files(real_data: Path) -> None:
    folder = real_data / "dicom"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist")
    light, dark = (
        read_image(folder / f"siim_8bit_jpegbaseline_{kind}.dcm", 512, 1) for kind in ("relabelled_mono1", "mono2")
    )
    assert np.abs(light.astype(int) + dark - 255).max() <= 1, "the same stored pixels, once called inverted"
    for name in ("cr_16bit_jpeglossless_mono1", "nih_8bit_implicitvr_mono2", "siim_8bit_jpegbaseline_mono2"):
        pixels = read_image(folder / f"{name}.dcm", 256, 1)[..., 0].astype(float)
        assert pixels[:, 118:138].mean() > pixels[60:160, 60:90].mean(), "the spine is brighter than the right lung"
        assert len(inspect_image(folder / f"{name}.dcm").patient) == (0 if name.startswith("cr") else 16)

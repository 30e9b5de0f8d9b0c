"""Odd DICOM files for ``odd_files.py``. Every one carries a name and an id that must never appear in any output."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.processing import convert_color_space

from tests.datamodules.odd_files import GREY, RGB, huge_jpeg, saved

SECRET = "S3CR3T"  # part of every text in the headers
READ = "read"
_BIG = 300_000_000


def ramp(top: int = 4095, dtype: Any = np.uint16, width: int = 48, height: int = 40) -> np.ndarray:
    """A smooth ramp from 0 at the upper left to ``top`` at the lower right."""
    return (np.add.outer(np.linspace(0, 0.5, height), np.linspace(0, 0.5, width)) * top).round().astype(dtype)


def dataset(pixels: np.ndarray, *, bits: int = 12, **elements: Any) -> Dataset:
    """A digital radiograph (or what ``elements`` make of it); an element that is None is left out."""
    colour = pixels.ndim == 3
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    values = {
        "SOPClassUID": uid.SecondaryCaptureImageStorage, "SOPInstanceUID": "1.2.3", "Modality": "DX",
        "PatientName": f"{SECRET}^NAME", "PatientID": f"{SECRET}-7", "StudyDescription": SECRET,
        "Rows": pixels.shape[0], "Columns": pixels.shape[1], "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2", "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.tobytes(),
    }  # fmt: skip
    for name, value in (values | ({"PlanarConfiguration": 0} if colour else {}) | elements).items():
        if value is not None:
            setattr(header, name, value)
    if "PixelData" in header:
        header["PixelData"].VR = "OB" if header.BitsAllocated == 8 else "OW"
    return header


def written(header: Dataset, syntax: str = uid.ExplicitVRLittleEndian, **options: Any) -> bytes:
    header.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    header.save_as(file, enforce_file_format=True, **options)
    return file.getvalue()


def plain(pixels: np.ndarray | None = None, syntax: str = uid.ExplicitVRLittleEndian, **elements: Any) -> bytes:
    return written(dataset(ramp() if pixels is None else pixels, **elements), syntax)


def compressed(syntax: str, pixels: np.ndarray | None = None, **elements: Any) -> bytes:
    header = dataset(ramp() if pixels is None else pixels, **elements)
    header.compress(syntax, generate_instance_uid=False)
    return written(header, syntax)


def framed(frame: bytes, syntax: str, pixels: np.ndarray, **elements: Any) -> bytes:
    """Any bytes as the one frame of compressed pixel data."""
    header = dataset(pixels, **elements)
    header.PixelData = encapsulate([frame])
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = True
    return written(header, syntax)


def lossless_jpeg() -> bytes:
    """JPEG lossless, which pydicom cannot write: by hand, predictor 1, every difference in its own Huffman category."""
    pixels = ramp().astype(np.int64)
    predicted = np.zeros_like(pixels)
    predicted[:, 1:], predicted[1:, 0], predicted[0, 0] = pixels[:, :-1], pixels[:-1, 0], 2048
    bits = ""
    for difference in (pixels - predicted).ravel().tolist():
        category = abs(difference).bit_length()  # the table below gives category c the 5 bit code c
        coded = difference if difference > 0 else difference + (1 << category) - 1
        bits += f"{category:05b}" + (f"{coded:0{category}b}" if category else "")
    bits += "1" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    table = bytes([0, *[0, 0, 0, 0, 17], *[0] * 11, *range(17)])
    head = bytes([12, *divmod(40, 256), *divmod(48, 256), 1, 1, 0x11, 0])
    segments = [(0xC4, table), (0xC3, head), (0xDA, bytes([1, 1, 0, 1, 0, 0]))]
    marked = b"".join(bytes([0xFF, kind, *divmod(len(data) + 2, 256)]) + data for kind, data in segments)
    return b"\xff\xd8" + marked + body + b"\xff\xd9"


def deflated(extra: int = 0, cut: int = 0) -> bytes:
    content = plain(syntax=uid.DeflatedExplicitVRLittleEndian)
    if not extra and not cut:
        return content
    meta_end = 144 + int.from_bytes(content[140:144], "little")
    body = zlib.decompress(content[meta_end:], -zlib.MAX_WBITS)
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(body) + packer.compress(bytes(extra)) + packer.flush()
    return content[:meta_end] + packed[: len(packed) - cut]


def without_preamble() -> bytes:
    file = io.BytesIO()
    header = dataset(ramp(), SOPClassUID=None, SOPInstanceUID=None, InstanceCreationDate="20200101")
    del header.file_meta
    header.save_as(file, implicit_vr=True, little_endian=True)
    return file.getvalue()


def lut(entries: np.ndarray, first: int, bits: int) -> list[Dataset]:
    item = Dataset()
    item.LUTDescriptor = [entries.size % 65536, first, bits]
    item.LUTData = entries.astype("<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    item.LUTExplanation = SECRET
    return [item]


def palette() -> dict[str, Any]:
    rising = (np.arange(256, dtype="<u2") * 257).tobytes()
    tables = {"Red": rising, "Green": rising[::-1], "Blue": bytes(512)}
    made: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, table in tables.items():
        made[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        made[f"{colour}PaletteColorLookupTableData"] = table
    return made


def nested(depth: int) -> bytes:
    """Sequences of undefined length within each other, before the modality."""
    content = plain()
    start = content.index(b"\x08\0\x60\0CS")
    opening = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return content[:start] + opening * depth + content[start:]


def colours(size: int = 255) -> np.ndarray:
    grey = ramp(size, np.uint8)
    return np.stack([grey, size - grey, grey // 2], axis=-1)


def halved(colour: np.ndarray) -> bytes:
    """YBR_FULL_422: two lumas, then the chroma that they share."""
    pairs = colour.reshape(colour.shape[0], -1, 2, 3)
    shared = [pairs[:, :, 0, 0], pairs[:, :, 1, 0], pairs[:, :, 0, 1], pairs[:, :, 0, 2]]
    return np.stack(shared, axis=-1).tobytes()


def cut_pixels(by: int) -> bytes:
    return plain(PixelData=ramp().tobytes()[:-by])


def frame_of(syntax: str) -> bytes:
    return get_frame(dcmread(io.BytesIO(compressed(syntax))).PixelData, 0, number_of_frames=1)


CORRUPT = "its pixel data are truncated or corrupt ({})"
DAMAGED = "its DICOM header is damaged"
SIZES = "its header and its pixel data disagree in width or height"
GREY_JPEG = saved(GREY, "JPEG", quality=95)
SIGNED = (ramp().astype(np.int16) - 2048).astype(np.int16)
YBR = convert_color_space(colours(), "RGB", "YBR_FULL")
BYTE = ramp(255, np.uint8)

ODD_DICOM: list[tuple[str, str, str, Callable[[], bytes]]] = [
    ("explicit.dcm", "DICOM, explicit VR", READ, plain),
    ("implicit.dcm", "DICOM, implicit VR", READ, lambda: plain(syntax=uid.ImplicitVRLittleEndian)),
    ("big_endian.dcm", "DICOM, big endian (retired)", READ, lambda: plain(ramp().astype(">u2"), syntax=uid.ExplicitVRBigEndian)),
    ("deflated.dcm", "DICOM, deflated", READ, deflated),
    ("rle.dcm", "DICOM, RLE", READ, lambda: compressed(uid.RLELossless)),
    ("jpeg.dcm", "DICOM, JPEG baseline", READ, lambda: framed(GREY_JPEG, uid.JPEGBaseline8Bit, BYTE, bits=8)),
    ("jpeg_colour.dcm", "DICOM, JPEG baseline in colour", READ, lambda: framed(
        saved(RGB, "JPEG", quality=95), uid.JPEGBaseline8Bit, colours(),
        bits=8, Modality="XC", PhotometricInterpretation="YBR_FULL_422")),
    ("jpeg_lossless.dcm", "DICOM, JPEG lossless", READ, lambda: framed(lossless_jpeg(), uid.JPEGLosslessSV1, ramp())),
    ("jpeg_ls.dcm", "DICOM, JPEG-LS", READ, lambda: compressed(uid.JPEGLSLossless)),
    ("jpeg_2000.dcm", "DICOM, JPEG 2000", READ, lambda: compressed(uid.JPEG2000Lossless)),
    ("jpeg_2000_signed.dcm", "DICOM, JPEG 2000 of signed pixels", READ, lambda: compressed(uid.JPEG2000Lossless, SIGNED)),
    ("1.2.840.99.7", "DICOM without a suffix, named by its UID", READ, plain),
    ("really_dicom.png", "DICOM named .png", READ, plain),
    ("no_preamble.dcm", "DICOM without preamble and file meta information", READ, without_preamble),
    ("one_frame.dcm", "one frame, said so", READ, lambda: plain(NumberOfFrames=1)),
    ("mono1.dcm", "MONOCHROME1: inverted", READ, lambda: plain(PhotometricInterpretation="MONOCHROME1")),
    ("signed.dcm", "signed pixels with a rescale intercept", READ, lambda: plain(SIGNED, RescaleSlope=1, RescaleIntercept=2048)),
    ("unused_bits.dcm", "12 of 16 bits used, the others not empty", READ, lambda: plain(ramp() | 0xF000)),
    ("window.dcm", "a window", READ, lambda: plain(WindowCenter=2048, WindowWidth=4096)),
    ("windows.dcm", "two windows: the first", READ, lambda: plain(WindowCenter=[2048, 60], WindowWidth=[4096, 20])),
    ("sigmoid.dcm", "a sigmoid window", READ, lambda: plain(WindowCenter=2048, WindowWidth=900, VOILUTFunction="SIGMOID")),
    ("no_width.dcm", "a window of width 0: as if there were none", READ, lambda: plain(WindowCenter=9, WindowWidth=0)),
    ("voi_lut.dcm", "VOI look-up table", READ, lambda: plain(VOILUTSequence=lut(np.arange(4096)[::-1], 0, 12))),
    ("modality_lut.dcm", "modality look-up table", READ, lambda: plain(ModalityLUTSequence=lut(np.arange(4096) * 2, 0, 13))),
    ("padding.dcm", "pixel padding: black, and no part of the grey scale", READ, lambda: plain(
        np.where(ramp() > 4000, 0xFFF, ramp() // 4).astype(np.uint16), PixelPaddingValue=0xFFF)),
    ("rgb.dcm", "RGB", READ, lambda: plain(colours(), bits=8, Modality="ES")),
    ("rgb_planes.dcm", "RGB in planes", READ, lambda: plain(
        colours(), bits=8, Modality="XC", PlanarConfiguration=1, PixelData=np.moveaxis(colours(), 2, 0).tobytes())),
    ("ybr.dcm", "YBR_FULL", READ, lambda: plain(YBR, bits=8, Modality="XC", PhotometricInterpretation="YBR_FULL")),
    ("ybr_422.dcm", "YBR_FULL_422", READ, lambda: plain(
        YBR, bits=8, Modality="XC", PhotometricInterpretation="YBR_FULL_422", PixelData=halved(YBR))),
    ("palette.dcm", "PALETTE COLOR", READ, lambda: plain(BYTE, bits=8, Modality="OT", **palette())),
    ("ct.dcm", "CT", "modality CT (computed tomography) is no still radiograph or photograph", lambda: plain(Modality="CT")),
    ("mr.dcm", "MR", "modality MR (magnetic resonance) is no still radiograph or photograph", lambda: plain(Modality="MR")),
    ("us.dcm", "ultrasound", "modality US (ultrasound) is no still radiograph or photograph", lambda: plain(Modality="US")),
    ("report.dcm", "report", "modality SR (report) is no still radiograph or photograph",
        lambda: plain(Modality="SR", PixelData=None)),
    ("modality.dcm", "free text as modality", "its modality is not one that is known", lambda: plain(Modality=SECRET)),
    ("no_modality.dcm", "no modality", "its modality is not stated", lambda: plain(Modality=None)),
    ("no_pixels.dcm", "no pixel data", "it holds no pixel data", lambda: plain(PixelData=None)),
    ("empty_pixels.dcm", "empty pixel data", "its pixel data are empty", lambda: plain(PixelData=b"")),
    ("few_pixels.dcm", "pixel data cut", CORRUPT.format("Explicit VR Little Endian"), lambda: cut_pixels(100)),
    ("cut.dcm", "file cut in its pixel data", CORRUPT.format("Explicit VR Little Endian"), lambda: plain()[:-500]),
    ("cut_jpeg.dcm", "JPEG in DICOM, cut", CORRUPT.format("JPEG Baseline (Process 1)"),
        lambda: framed(GREY_JPEG[:-60], uid.JPEGBaseline8Bit, BYTE, bits=8)),
    ("cut_lossless.dcm", "JPEG lossless in DICOM, cut",
        CORRUPT.format("JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])"),
        lambda: framed(lossless_jpeg()[:-60], uid.JPEGLosslessSV1, ramp())),
    ("wrong_lossless.dcm", "JPEG lossless in DICOM, damaged",
        CORRUPT.format("JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])"),
        lambda: framed(lossless_jpeg().replace(bytes(range(17)), bytes(17)), uid.JPEGLosslessSV1, ramp())),
    ("cut_j2k.dcm", "JPEG 2000 in DICOM, cut", CORRUPT.format("JPEG 2000 Image Compression (Lossless Only)"),
        lambda: framed(frame_of(uid.JPEG2000Lossless)[:-60], uid.JPEG2000Lossless, ramp())),
    ("cut_header.dcm", "file cut in its header", "it holds no pixel data", lambda: plain()[:-3900]),
    ("magic_only.dcm", "preamble and magic only", DAMAGED, lambda: bytes(128) + b"DICM"),
    ("garbage.dcm", "noise after the magic", DAMAGED, lambda: bytes(128) + b"DICM" + bytes(range(255, 0, -1)) * 20),
    ("nested.dcm", "thousands of sequences in each other", DAMAGED, lambda: nested(5000)),
    ("film.dcm", "ten frames", "it is a sequence of 10 frames, and only single pictures are read", lambda: plain(
        NumberOfFrames=10, PixelData=ramp().tobytes() * 10)),
    ("frames_text.dcm", "number of frames that is no number", DAMAGED, lambda: plain(NumberOfFrames=1).replace(
        b"\x28\0\x08\0IS\x02\x001 ", b"\x28\0\x08\0IS\x02\0S3")),
    ("photometric.dcm", "unknown photometric interpretation", "photometric interpretation is missing or unknown", lambda: plain(
        PhotometricInterpretation=SECRET)),
    ("cmyk.dcm", "CMYK (retired)", "photometric interpretation CMYK is not read",
        lambda: plain(PhotometricInterpretation="CMYK")),
    ("samples.dcm", "grey with three samples", "3 samples per pixel do not fit photometric interpretation MONOCHROME2",
        lambda: plain(colours(), bits=8, PhotometricInterpretation="MONOCHROME2")),
    ("deep.dcm", "32 bit", "pixels of 32 bits in 32 are not read, only up to 16 bits in 8 or 16", lambda: plain(
        ramp(dtype=np.uint32), bits=32)),
    ("floats.dcm", "float pixels", "its pixels are floats, which are not read", lambda: plain(
        PixelData=None, FloatPixelData=ramp(dtype=np.float32).tobytes())),
    ("no_rows.dcm", "no rows", "it has no rows or no columns", lambda: plain(Rows=0)),
    ("small.dcm", "5 x 4 pixels", "5 x 4 pixels are too small to be an image of a patient",
        lambda: plain(ramp(width=5, height=4))),
    ("huge.dcm", "30,000 x 30,000 pixels", "too many pixels: 30000 x 30000 is more than 80,000,000", lambda: plain(
        Rows=30_000, Columns=30_000)),
    ("huge_inside.dcm", "a JPEG of 30,000 x 30,000 pixels inside", SIZES, lambda: framed(
        huge_jpeg(), uid.JPEGBaseline8Bit, BYTE, bits=8)),
    ("inflates.dcm", "deflated, and 300 MB when inflated", "it inflates to more than any picture needs", lambda: deflated(_BIG)),
    ("deflated_cut.dcm", "deflated and cut", "its deflated data are truncated", lambda: deflated(cut=50)),
    ("rle_long.dcm", "RLE of more bytes than pixels", "its pixel data are longer than its size allows", lambda: framed(
        frame_of(uid.RLELossless) + bytes(50_000), uid.RLELossless, ramp())),
    ("video.dcm", "MPEG-4 film", "transfer syntax MPEG-4 AVC/H.264 High Profile / Level 4.1 is not read", lambda: framed(
        bytes(500), uid.MPEG4HP41, BYTE, bits=8)),
    ("syntax.dcm", "unknown transfer syntax", "its transfer syntax is missing or unknown", lambda: framed(
        bytes(500), uid.JPEGBaseline8Bit, BYTE, bits=8).replace(uid.JPEGBaseline8Bit.encode(), b"1.2.840.99999.9.9.9.99")),
    ("window_text.dcm", "a window that is text", DAMAGED, lambda: plain(
        WindowCenter=111, WindowWidth=22).replace(b"DS\x06\x00111.0 ", b"DS\x06\0" + SECRET.encode())),
    ("blind.dcm", "a window far from all pixels", "its window or look-up table hides every difference between its pixels",
        lambda: plain(WindowCenter=60_000, WindowWidth=10)),
    ("nan_window.dcm", "a window that is no number", "its rescale or window is no number", lambda: plain(
        WindowCenter=111, WindowWidth=22).replace(b"DS\x06\x00111.0 ", b"DS\x06\0nan   ")),
]  # fmt: skip

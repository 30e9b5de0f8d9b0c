"""Decoding of DICOM files: one still picture, as its header says it should be looked at.

No text of a header leaves this module: reasons name standard terms only, and a patient is told by a salted hash.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import TypeVar

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import get_expected_length

from datamodules import dicom_worker
from datamodules.dicom_grey import as_bytes, numbers, to_grey
from datamodules.errors import UnreadableImageError

T = TypeVar("T")

# Still pictures: projection radiographs, and visible light (endoscopy, photograph, dermoscopy, microscopy, eye), and "other".
MODALITIES = frozenset(["CR", "DX", "DR", "RF", "MG", "RG", "PX", "IO", "ES", "XC", "DMS", "GM", "OP", "OT"])
_OTHERS = {
    "CT": "computed tomography", "MR": "magnetic resonance", "US": "ultrasound", "NM": "nuclear medicine",
    "PT": "positron emission", "XA": "angiography", "SM": "slide microscopy", "OPT": "ophthalmic tomography",
    "OCT": "optical coherence tomography", "IVUS": "intravascular ultrasound", "SR": "report", "DOC": "document",
    "SEG": "segmentation", "PR": "presentation state", "KO": "key objects", "REG": "registration", "ECG": "electrocardiogram",
    "RTSTRUCT": "radiotherapy structures", "RTPLAN": "radiotherapy plan", "RTDOSE": "radiotherapy dose",
    "RTIMAGE": "radiotherapy image", "BMD": "bone densitometry", "HD": "haemodynamics",
}  # fmt: skip
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_OTHER_PHOTOMETRIC = ("YBR_PARTIAL_422", "YBR_PARTIAL_420", "HSV", "ARGB", "CMYK", "XYB")
_KEPT = [  # everything else of the header is passed over unread
    "SpecificCharacterSet", "PatientID", "IssuerOfPatientID", "Modality", "Rows", "Columns", "SamplesPerPixel",
    "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept",
    "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth", "PixelData", "FloatPixelData",
    "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
    *(f"{colour}PaletteColorLookupTable{part}" for colour in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
]  # fmt: skip
_PLUGIN = {  # each refuses what is cut off; named, so that other installed libraries change no pixel
    uid.JPEGBaseline8Bit: "pillow", uid.JPEGExtended12Bit: "pillow", uid.RLELossless: "pydicom",
    uid.JPEG2000Lossless: "pillow", uid.JPEG2000: "pillow",
    **dict.fromkeys([uid.UID(syntax) for syntax in dicom_worker.DECODER_DEPENDENCIES], "worker"),
}  # fmt: skip
_MAX_INFLATED = 250_000_000  # bytes; more than any picture below the pixel limit needs

# Messages of these libraries may quote a header.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")

for _syntax in dicom_worker.DECODER_DEPENDENCIES:
    if "worker" not in get_decoder(_syntax).available_plugins:
        get_decoder(_syntax).add_plugin("worker", (dicom_worker.__name__, "decode_frame"))


def read_header(content: bytes) -> pydicom.Dataset:
    """Parse a file and refuse what is not one still picture; pixels are not decoded.

    Raises:
        UnreadableImageError: with the reason, without a file name.
    """
    header = _attempt("its DICOM header is damaged", lambda: _parsed(content))
    _attempt("its DICOM header is damaged", lambda: [header.get(name) for name in _KEPT])
    if not any(name in header for name in ("Modality", "Rows", "PixelData")):
        raise UnreadableImageError("its DICOM header is damaged")
    modality = str(header.get("Modality") or "").strip().upper()
    if modality in _OTHERS:
        raise UnreadableImageError(f"modality {modality} ({_OTHERS[modality]}) is no still radiograph or photograph")
    if modality not in MODALITIES:
        raise UnreadableImageError(f"its modality is {'not one that is known' if modality else 'not stated'}")
    if "PixelData" not in header:
        floats = "FloatPixelData" in header or "DoubleFloatPixelData" in header
        raise UnreadableImageError("its pixels are floats, which are not read" if floats else "it holds no pixel data")
    if not header["PixelData"].value:
        raise UnreadableImageError("its pixel data are empty")
    _attempt("its DICOM header is damaged", lambda: int(header.get("NumberOfFrames") or 1))
    if (frames := int(header.get("NumberOfFrames") or 1)) > 1:
        raise UnreadableImageError(f"it is a sequence of {frames} frames, and only single pictures are read")
    _check_layout(header)
    _attempt("its DICOM header is damaged", lambda: (describe(header), patient_hash(header, b"")))
    return header


def describe(header: pydicom.Dataset) -> tuple[int, int, str]:
    """Width, height and, in words, how pixels are stored and which of several windows is used."""
    photometric, bits = header.PhotometricInterpretation, header.BitsStored
    luts, windows = len(header.get("VOILUTSequence") or []), len(numbers(header, "WindowCenter"))
    chosen = f", VOI LUT 1 of {luts}" if luts > 1 else f", window 1 of {windows}" if windows > 1 and not luts else ""
    return int(header.Columns), int(header.Rows), f"{photometric} {bits} bit{chosen if photometric in _GREY else ''}"


def patient_hash(header: pydicom.Dataset, salt: bytes) -> str:
    """HMAC-SHA256 of the issuer and the patient id, first 16 hexadecimal digits; empty if the file has no patient id."""
    patient, issuer = (str(header.get(name) or "").strip(" \0") for name in ("PatientID", "IssuerOfPatientID"))
    if not patient:
        return ""
    return hmac.new(salt, f"{issuer}\0{patient}".encode(errors="replace"), hashlib.sha256).hexdigest()[:16]


def decode(header: pydicom.Dataset) -> NDArray[np.uint8]:
    """Pixels for display: grey of shape ``(height, width)``, or RGB of shape ``(height, width, 3)``, 0 to 255, black is 0.

    Raises:
        UnreadableImageError: with the reason, without a file name.
    """
    return _attempt("its pixel data are damaged", lambda: _decoded(header))


def _decoded(header: pydicom.Dataset) -> NDArray[np.uint8]:
    syntax = uid.UID(str(header.file_meta.get("TransferSyntaxUID", "")))
    if syntax.name == str(syntax):  # no standard one
        raise UnreadableImageError("its transfer syntax is missing or unknown")
    decoder = _attempt(f"transfer syntax {syntax.name} is not read", lambda: get_decoder(syntax))
    if not decoder.is_available:
        raise UnreadableImageError(f"transfer syntax {syntax.name} is not read")
    _check_coded_size(header, syntax)
    corrupt = f"its pixel data are truncated or corrupt ({syntax.name})"
    stored, found = _attempt(
        corrupt, lambda: decoder.as_array(header, index=0, decoding_plugin=_PLUGIN.get(syntax, ""))
    )
    photometric = str(found["photometric_interpretation"])
    wanted = (header.Rows, header.Columns) + ((3,) if header.SamplesPerPixel == 3 else ())
    if stored.shape != wanted or (stored.ndim == 3 and photometric != "RGB"):
        raise UnreadableImageError(corrupt)
    if stored.ndim == 3:
        return as_bytes(stored.astype(np.float32) / (2.0 ** int(header.BitsStored) - 1))
    if photometric == "PALETTE COLOR":
        coloured = _attempt("its palette is damaged", lambda: apply_color_lut(stored, header))
        return as_bytes(coloured[..., :3].astype(np.float32) / float(np.iinfo(coloured.dtype).max))
    return _attempt("its grey scale (rescale, look-up table or window) is damaged", lambda: to_grey(stored, header))


def _attempt(reason: str, action: Callable[[], T]) -> T:
    """What ``action`` returns; its failure, whose text may quote the header, is replaced and not chained."""
    try:
        return action()
    except UnreadableImageError:
        raise
    except Exception:  # hostile headers raise anything, RecursionError included
        pass
    raise UnreadableImageError(reason)


def _parsed(content: bytes) -> pydicom.Dataset:
    file = BytesIO(content)
    if content[128:132] == b"DICM":
        file.seek(132)
        meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
        if meta.get("TransferSyntaxUID") == uid.DeflatedExplicitVRLittleEndian:
            return _inflated(content[file.tell() :])
        file.seek(0)
    header = pydicom.dcmread(file, force=True, specific_tags=_KEPT)
    if "TransferSyntaxUID" not in header.file_meta:
        implicit = header.original_encoding[0]
        header.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
    return header


def _inflated(deflated: bytes) -> pydicom.Dataset:
    """As pydicom does it, but with an end: a small file may inflate to a thousand times its size."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflater.decompress(deflated, _MAX_INFLATED)
    if inflater.unconsumed_tail:
        raise UnreadableImageError("it inflates to more than any picture needs")
    if not inflater.eof:
        raise UnreadableImageError("its deflated data are truncated")
    header = pydicom.Dataset(
        read_dataset(BytesIO(plain), False, True, specific_tags=[pydicom.tag.Tag(n) for n in _KEPT])
    )
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    return header


def _check_layout(header: pydicom.Dataset) -> None:
    """Refuse layouts of pixels that are not decoded here; afterwards all numbers of the layout are plain integers."""
    photometric = str(header.get("PhotometricInterpretation") or "").strip().upper()
    if photometric not in (*_GREY, *_COLOUR, "PALETTE COLOR"):
        named = f"{photometric} is not read" if photometric in _OTHER_PHOTOMETRIC else "is missing or unknown"
        raise UnreadableImageError(f"photometric interpretation {named}")
    names = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation")
    rows, columns, samples, allocated, stored, sign = _attempt(
        "its DICOM header lacks the size or the depth of the pixels",
        lambda: [int(header[name].value) for name in names],
    )
    if min(rows, columns) < 1:
        raise UnreadableImageError("it has no rows or no columns")
    if samples != (3 if photometric in _COLOUR else 1):
        raise UnreadableImageError(f"{samples} samples per pixel do not fit photometric interpretation {photometric}")
    if allocated not in (8, 16) or not 1 < stored <= allocated or sign not in (0, 1):
        raise UnreadableImageError(
            f"pixels of {stored} bits in {allocated} are not read, only up to 16 bits in 8 or 16"
        )
    header.PhotometricInterpretation = photometric


def _check_coded_size(header: pydicom.Dataset, syntax: uid.UID) -> None:
    """Refuse pixel data of another size than the header says, before a decoder allocates what they ask for."""
    if not syntax.is_encapsulated:
        return
    frame = _attempt("its pixel data are not in frames", lambda: get_frame(header.PixelData, 0, number_of_frames=1))
    size = _jpeg2000_size(frame) if syntax in uid.JPEG2000TransferSyntaxes else _jpeg_size(frame)
    if size is not None and size != (header.Columns, header.Rows):
        raise UnreadableImageError("its header and its pixel data disagree in width or height")
    if syntax == uid.RLELossless and len(frame) > 2 * get_expected_length(header) + 64:
        raise UnreadableImageError("its pixel data are longer than its size allows")


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height of the frame header (SOF, also that of JPEG-LS) of a JPEG; None where there is none."""
    at = 2
    while frame[:2] == b"\xff\xd8" and at + 9 <= len(frame):
        marker = frame[at + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return int.from_bytes(frame[at + 7 : at + 9], "big"), int.from_bytes(frame[at + 5 : at + 7], "big")
        at += 1 if marker == 0xFF else 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def _jpeg2000_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height of the SIZ segment, the first of a JPEG 2000 code stream; None where there is none."""
    start = frame.find(b"\xff\x4f\xff\x51")
    if start < 0:
        return None
    right, bottom, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in range(start + 8, start + 24, 4))
    return right - left, bottom - top

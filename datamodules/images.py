"""Decoding of image files: complete or not at all. docs/reference/image-files.md lists what is read and what is refused."""

from __future__ import annotations

import ctypes
import hashlib
import io
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, _imaging

from datamodules.errors import UnreadableImageError
from datamodules.file_kinds import why_no_image
from datamodules.pixels import as_uint8, resized, thinned, with_channels

if TYPE_CHECKING:
    from pydicom import Dataset

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".dcm", ".dicom"})
MAX_PIXELS = 80_000_000  # a radiograph has at most some 20 million; more is a mistake or a decompression bomb
MAX_BYTES = 512_000_000  # no image of so few pixels needs more
MIN_SIDE = 8  # pixels; a tracking pixel or a strip is no image of a patient

# Bumped when the same file would give other pixels, so that no cache outlives a change of this module or of dicom.py.
DECODER_VERSION = 3

READ_ERROR = "cannot be read"  # the operating system's failure, not the file's
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")  # Pillow knows more; some of those start other programs
_MAX_SCANS = 100  # of a progressive JPEG; usual are 10, and each of a thousand empty ones costs a pass over all pixels
_COLOURLESS = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")  # modes of files that hold no colours

ImageFile.LOAD_TRUNCATED_IMAGES = False
Image.MAX_IMAGE_PIXELS = (
    None  # _check_size does it for all formats, as a refusal; Pillow's own limit begins with a warning
)
warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks on metadata; what matters is refused
with suppress(
    OSError, AttributeError, TypeError
):  # where Pillow's copy of libtiff can be reached: it prints, nameless, to stderr
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


@dataclass(frozen=True)
class ImageFacts:
    """What one complete pass over a file finds.

    Attributes:
        sha256: of the file's bytes, hexadecimal.
        width, height: in pixels, before EXIF orientation.
        mode: Pillow's colour mode of the file, for example ``L`` or ``RGB``; of DICOM ``MONOCHROME2 12 bit``. It says so when
            only the first of several pages or windows is used: ``L, page 1 of 3``.
        patient: salted hash of a DICOM file's patient id, 16 hexadecimal digits; empty for all other files.
    """

    sha256: str
    width: int
    height: int
    mode: str
    patient: str = ""


def looks_like_image(path: Path) -> bool:
    """Whether a name promises an image, or a file named without or with a numeric suffix (a DICOM UID) holds DICOM."""
    suffix = path.suffix.lower()
    if suffix and not suffix[1:].isdigit():
        return suffix in IMAGE_SUFFIXES
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def inspect_image(path: Path, salt: bytes = b"") -> ImageFacts:
    """Read and decode a file once, to know that training will not stumble over it.

    Args:
        path: the file; what it is, is told by its content, not by its name.
        salt: key of the hash that stands for a DICOM patient.

    Raises:
        UnreadableImageError: if the file is no image or of a kind that is not read, is truncated or corrupt, or has fewer
            than ``MIN_SIDE`` pixels on a side or more than ``MAX_PIXELS`` in all.
    """
    with _named(path):
        content = read_content(path)
        sha256 = hashlib.sha256(content).hexdigest()
        if _is_dicom(content, path):
            header = _dicom_header(content)
            from datamodules import dicom

            facts = ImageFacts(sha256, *dicom.describe(header), dicom.patient_hash(header, salt))
            dicom.decode(header)
            return facts
        with _opened(content) as image:
            facts = ImageFacts(sha256, image.width, image.height, image.mode + _pages(image))
            # The smallest scale still reads every byte of a JPEG, at a fraction of the cost.
            image.draft(image.mode, (1, 1))
            _load(image, content)
            as_uint8(image, 1)
        return facts


@dataclass(frozen=True)
class Decoded:
    """A decoded file before it is resized.

    Attributes:
        pixels: uint8, upright, shape ``(height, width)`` for one channel, else ``(height, width, 3)``; a JPEG may be decoded
            at a smaller scale.
        width, height: of the whole image in pixels, upright.
        colours: a small RGB version, uint8 ``(h, w, 3)``; None for a file without colours, and where it was not asked for.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    colours: NDArray[np.uint8] | None = None


def read_image(
    source: Path | bytes, size: int, channels: int, interpolation: str = "area", name: str | None = None
) -> NDArray[np.uint8]:
    """Decode a file and resize it to a square; the aspect ratio is not kept, as in the source documents.

    Args:
        source: the image file, or its bytes.
        size: height and width of the result in pixels.
        channels: 1 for grey, 3 for RGB.
        interpolation: ``area`` averages over areas; ``bilinear`` and ``bicubic`` are Pillow's, with antialiasing, as most
            pretrained networks saw their images.
        name: what an error calls the file; of a path its own name.

    Returns:
        Array of shape ``(size, size, channels)``, values 0 to 255. What is transparent is black, like the rim of a
        radiograph or of a dermoscope's view; of several pages, the first.

    Raises:
        UnreadableImageError: as :func:`inspect_image`.
    """
    return resized(decoded(source, size, channels, name).pixels, size, channels, interpolation)


def decoded(
    source: Path | bytes, size: int, channels: int, name: str | None = None, *, colours: bool = False
) -> Decoded:
    """Decode a file, not smaller than twice ``size`` unless it is smaller; arguments and errors as :func:`read_image`.

    Args:
        colours: give a small version in colour too, whatever ``channels`` is.
    """
    called = Path(name or ("image" if isinstance(source, bytes) else source))
    with _named(called):
        content = source if isinstance(source, bytes) else read_content(source)
        if not content:
            raise UnreadableImageError("the file is empty")
        if _is_dicom(content, called if isinstance(source, bytes) else source):
            native = _dicom_native(content)
            height, width = native.shape[:2]
            small = thinned(native) if colours and native.ndim == 3 else None
            return Decoded(with_channels(native, channels), width, height, small)
        with _opened(content) as image:
            width, height = image.size
            # Twice the wanted size is enough for every interpolation; JPEG can be decoded at that scale directly. Its grey
            # picture is the Y of its YCbCr, which takes hardly longer and keeps the colours.
            grey = "YCbCr" if colours and _holds_ycbcr(image) else "L"
            image.draft(grey if channels == 1 else "RGB", (2 * size, 2 * size))
            _load(image, content)
            pixels = as_uint8(image, channels)
            if (pixels.shape[1] > pixels.shape[0]) != (image.width > image.height):  # turned upright
                width, height = height, width
            small = _colours(image, content, pixels, max(width, height)) if colours else None
        return Decoded(pixels, width, height, small)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file's name before the reason; below, nobody knows it."""
    try:
        yield
    except UnreadableImageError as error:
        reason = str(error)
    else:
        return
    raise UnreadableImageError(f"{path.name}: {reason}")


def read_content(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        UnreadableImageError: if it is no file, is empty or too large, or the system cannot read it. The error does not name it.
    """
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):  # opening a pipe would wait for ever
            kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe, socket or device"
            raise UnreadableImageError(f"it is {kind}, not a file")
        if about.st_size > MAX_BYTES:
            raise UnreadableImageError(f"{about.st_size:,} bytes are more than the {MAX_BYTES:,} that are read")
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"{READ_ERROR} ({error.strerror})") from error
    if not content:
        raise UnreadableImageError("the file is empty")
    return content


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(f"too many pixels: {width} x {height} is more than {MAX_PIXELS:,}")
    if min(width, height) < MIN_SIDE:
        raise UnreadableImageError(f"{width} x {height} pixels are too small to be an image of a patient")


def _is_dicom(content: bytes, path: Path) -> bool:
    if content[128:132] == b"DICM":
        return True
    bare = content[:2] == b"\x08\x00" and content[3:4] == b"\x00"  # group 8 comes first in a file without preamble
    return bare and path.suffix.lower() in (".dcm", ".dicom")


def _dicom_header(content: bytes) -> Dataset:
    # gdcm, which pydicom imports, looks for a module of Python 2 and would take a folder `dl` beside train.py for it.
    sys.modules.setdefault("dl", None)  # type: ignore[arg-type]
    from datamodules import dicom  # here, so that data sets without DICOM do not wait for its libraries

    header = dicom.read_header(content)
    _check_size(header.Columns, header.Rows)
    return header


def _dicom_native(content: bytes) -> NDArray[np.uint8]:
    header = _dicom_header(content)
    from datamodules import dicom

    return dicom.decode(header)


def _holds_ycbcr(image: ImageFile.ImageFile) -> bool:
    """Whether the colours of a JPEG are stored as YCbCr, by the rules of libjpeg; from RGB it cannot make YCbCr."""
    if "jfif" in image.info:
        return True
    if "adobe" in image.info:
        return image.info.get("adobe_transform") == 1
    return [layer[0] for layer in getattr(image, "layer", ())] == [1, 2, 3]


def _colours(
    image: ImageFile.ImageFile, content: bytes, pixels: NDArray[np.uint8], longer: int
) -> NDArray[np.uint8] | None:
    """A small RGB version of a loaded image, whose file is ``longer`` pixels on its longer side; None without colours."""
    if pixels.ndim == 3:
        return thinned(pixels)
    if image.format == "JPEG" and image.mode == "YCbCr":
        # To an eighth of the file, the mean of each of its blocks: colours are the same whatever scale it was decoded at.
        return thinned(np.asarray(image.reduce(max(1, 8 * max(image.size) // longer)).convert("RGB")))
    with _opened(content) as again:
        if again.mode in _COLOURLESS:
            return None
        if image.format != "JPEG" or image.mode != "L":
            return thinned(as_uint8(image, 3))
        again.draft("RGB", (1, 1))  # its colours were dropped while decoding
        _load(again, content)
        return thinned(as_uint8(again, 3))


def _opened(content: bytes) -> ImageFile.ImageFile:
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except Exception as error:  # Pillow's plugins raise many kinds on malformed headers
        raise UnreadableImageError(why_no_image(content)) from error
    _check_size(image.width, image.height)
    return image


def _pages(image: ImageFile.ImageFile) -> str:
    try:
        pages = getattr(image, "n_frames", 1)
    except Exception as error:
        raise UnreadableImageError("truncated or corrupt: not all of its pages are there") from error
    return f", page 1 of {pages}" if pages > 1 else ""


def _load(image: ImageFile.ImageFile, content: bytes) -> None:
    if image.info.get("progressive") and content.count(b"\xff\xda") > _MAX_SCANS:
        raise UnreadableImageError(f"a progressive JPEG of more than {_MAX_SCANS} scans is made to keep a reader busy")
    # A damaged TIFF may ask for more rows than its strips hold; Pillow would leave them black.
    ends = [tile[1][2:] for tile in image.tile if tile[1] is not None] or [(0, 0)]
    if image.format == "TIFF" and max(x for x, _ in ends) * max(y for _, y in ends) < image.width * image.height:
        raise UnreadableImageError("truncated or corrupt: its pixels cannot be decoded completely")
    try:
        image.load()
        if image.format == "PNG":  # its pixels alone do not tell whether they are those that were written
            with Image.open(io.BytesIO(content), formats=["PNG"]) as checked:
                checked.verify()
    except Exception as error:
        raise UnreadableImageError("truncated or corrupt: its pixels cannot be decoded completely") from error

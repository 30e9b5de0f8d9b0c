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

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, _imaging

from datamodules.errors import UnreadableImageError
from datamodules.file_kinds import why_no_image

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
_WHITE = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # of 8, 10, 12, 14 and 16 bits

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
        content = _content(path)
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
            _as_uint8(image, 1)
        return facts


def read_image(path: Path, size: int, channels: int, interpolation: str = "area") -> NDArray[np.uint8]:
    """Decode a file and resize it to a square; the aspect ratio is not kept, as in the source documents.

    Args:
        path: the image file.
        size: height and width of the result in pixels.
        channels: 1 for grey, 3 for RGB.
        interpolation: ``area`` averages over areas; ``bilinear`` and ``bicubic`` are Pillow's, with antialiasing, as most
            pretrained networks saw their images.

    Returns:
        Array of shape ``(size, size, channels)``, values 0 to 255. What is transparent is black, like the rim of a
        radiograph or of a dermoscope's view; of several pages, the first.

    Raises:
        UnreadableImageError: as :func:`inspect_image`.
    """
    with _named(path):
        content = _content(path)
        if _is_dicom(content, path):
            pixels = _dicom_pixels(content, channels)
        else:
            with _opened(content) as image:
                # Twice the wanted size is enough for every interpolation; JPEG can be decoded at that scale directly.
                image.draft("L" if channels == 1 else "RGB", (2 * size, 2 * size))
                _load(image, content)
                pixels = _as_uint8(image, channels)
    if interpolation != "area":
        method = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
        resized = Image.fromarray(pixels).resize((size, size), method)
        return np.asarray(resized, dtype=np.uint8).reshape(size, size, channels)
    height, width = pixels.shape[:2]
    flag = cv2.INTER_AREA if min(height, width) >= size else cv2.INTER_LINEAR
    return (
        cv2.resize(pixels, (size, size), interpolation=flag).reshape(size, size, channels).astype(np.uint8, copy=False)
    )


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


def _content(path: Path) -> bytes:
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


def _dicom_pixels(content: bytes, channels: int) -> NDArray[np.uint8]:
    header = _dicom_header(content)
    from datamodules import dicom

    pixels = dicom.decode(header)
    if channels == 1 and pixels.ndim == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return np.repeat(pixels[..., None], 3, axis=2) if channels == 3 and pixels.ndim == 2 else pixels


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


def _as_uint8(image: ImageFile.ImageFile, channels: int) -> NDArray[np.uint8]:
    """Upright pixels, 0 to 255, shape ``(height, width)`` for one channel, else ``(height, width, 3)``."""
    try:
        upright = _upright(image)
        if upright.mode.startswith("I") or upright.mode == "F":
            grey = _narrowed(upright, image)
            return grey if channels == 1 else np.repeat(grey[..., None], 3, axis=2)
        if upright.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
            upright = ImageChops.invert(upright)  # Pillow takes all for Adobe's, which are stored inverted
        if upright.mode in ("LAB", "HSV"):
            upright = upright.convert("RGB")  # Pillow knows no direct way from these to grey
        if upright.has_transparency_data:
            over_black = Image.new("RGBA", upright.size, "black")
            over_black.alpha_composite(upright.convert("RGBA"))
            upright = over_black
        return np.asarray(upright.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
    except UnreadableImageError:
        raise
    except Exception as error:  # conversions that Pillow does not know
        raise UnreadableImageError(f"colour mode {image.mode} cannot be converted") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(274, 1)
    except Exception:  # damaged metadata around undamaged pixels
        orientation = 1
    to = Image.Transpose
    moves = [
        to.FLIP_LEFT_RIGHT,
        to.ROTATE_180,
        to.FLIP_TOP_BOTTOM,
        to.TRANSPOSE,
        to.ROTATE_270,
        to.TRANSVERSE,
        to.ROTATE_90,
    ]
    move = dict(enumerate(moves, start=2)).get(orientation)
    return image if move is None else image.transpose(move)


def _narrowed(upright: Image.Image, image: ImageFile.ImageFile) -> NDArray[np.uint8]:
    """More than 8 bits, or floats, to 0..255. Pillow's own conversion would clip everything above 255 to white.

    The file does not say how many of its bits are used, so white is the smallest usual maximum that holds all pixels. With
    negative values there is no usual black either: then it is from the darkest to the brightest pixel.
    """
    wide = np.asarray(upright, dtype=np.float32)
    if not np.isfinite(wide).all():
        raise UnreadableImageError("it holds values that are no numbers (NaN or infinite)")
    if isinstance(transparent := image.info.get("transparency"), int):
        wide = np.where(wide == transparent, np.float32(0), wide)
    black, brightest = min(0.0, float(wide.min())), float(wide.max())
    white = brightest
    if black == 0.0:
        white = 1.0 if brightest <= 1.0 else next((level for level in _WHITE if brightest <= level), brightest)
    grey: NDArray[np.uint8] = (
        (np.clip((wide - black) / max(white - black, 1e-30), 0.0, 1.0) * 255.0).round().astype(np.uint8)
    )
    # Of deep TIFFs, Pillow does not turn those that count from white (tag 262 is 0).
    inverted = image.format == "TIFF" and getattr(image, "tag_v2", {}).get(262) == 0
    return 255 - grey if inverted else grey

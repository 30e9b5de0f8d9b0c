"""Decoding of image files: complete or not at all."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from datamodules.errors import UnreadableImageError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 80_000_000  # a radiograph has at most some 20 million; more is a mistake or a decompression bomb

# Bumped when the same file would give other pixels, so that no cache outlives a change of this module.
DECODER_VERSION = 2

READ_ERROR = "cannot be read"  # the operating system's failure, not the file's
_WHITE = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # of 8, 10, 12, 14 and 16 bits

ImageFile.LOAD_TRUNCATED_IMAGES = False
warnings.simplefilter("error", Image.DecompressionBombWarning)  # a warning would be printed, and the file read


@dataclass(frozen=True)
class ImageFacts:
    """What one complete pass over a file finds.

    Attributes:
        sha256: of the file's bytes, hexadecimal.
        width, height: in pixels, before EXIF orientation.
        mode: Pillow's colour mode of the file, for example ``L`` or ``RGB``.
    """

    sha256: str
    width: int
    height: int
    mode: str


def inspect_image(path: Path) -> ImageFacts:
    """Read and decode a file once, to know that training will not stumble over it.

    Raises:
        UnreadableImageError: if the file is no image, is truncated or corrupt, or has more than ``MAX_PIXELS`` pixels.
    """
    content = _content(path)
    with _opened(content, path) as image:
        facts = ImageFacts(hashlib.sha256(content).hexdigest(), image.width, image.height, image.mode)
        # The smallest scale still reads every byte of a JPEG, at a fraction of the cost.
        image.draft(image.mode, (1, 1))
        _load(image, path)
        _as_uint8(image, 1, path)
    return facts


def read_image(path: Path, size: int, channels: int) -> NDArray[np.uint8]:
    """Decode a file and resize it to a square; the aspect ratio is not kept, as in the source documents.

    Args:
        path: the image file.
        size: height and width of the result in pixels.
        channels: 1 for grey, 3 for RGB.

    Returns:
        Array of shape ``(size, size, channels)``, values 0 to 255.

    Raises:
        UnreadableImageError: as :func:`inspect_image`.
    """
    with _opened(_content(path), path) as image:
        # Twice the wanted size is enough for area averaging; JPEG can be decoded at that scale directly.
        image.draft("L" if channels == 1 else "RGB", (2 * size, 2 * size))
        _load(image, path)
        pixels = _as_uint8(image, channels, path)
    height, width = pixels.shape[:2]
    method = cv2.INTER_AREA if min(height, width) >= size else cv2.INTER_LINEAR
    return (
        cv2.resize(pixels, (size, size), interpolation=method)
        .reshape(size, size, channels)
        .astype(np.uint8, copy=False)
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"{path.name}: {READ_ERROR} ({error.strerror})") from error


def _opened(content: bytes, path: Path) -> Image.Image:
    if not content:
        raise UnreadableImageError(f"{path.name}: the file is empty")
    try:
        image = Image.open(io.BytesIO(content))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(f"{path.name}: too many pixels") from error
    except Exception as error:  # Pillow's plugins raise many kinds on malformed headers
        raise UnreadableImageError(f"{path.name}: not an image file") from error
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImageError(f"{path.name}: {image.width} x {image.height} pixels is more than {MAX_PIXELS}")
    return image


def _load(image: Image.Image, path: Path) -> None:
    try:
        image.load()
    except Exception as error:
        raise UnreadableImageError(f"{path.name}: truncated or corrupt ({error})") from error


def _as_uint8(image: Image.Image, channels: int, path: Path) -> NDArray[np.uint8]:
    """Upright pixels, 0 to 255, shape ``(height, width)`` for one channel, else ``(height, width, 3)``."""
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I") or upright.mode == "F":
            grey = _narrowed(np.asarray(upright, dtype=np.float64))
            return grey if channels == 1 else np.repeat(grey[..., None], 3, axis=2)
        if upright.mode in ("LAB", "HSV"):
            upright = upright.convert("RGB")  # Pillow knows no direct way from these to grey
        return np.asarray(upright.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
    except Exception as error:  # conversions that Pillow does not know, damaged EXIF
        raise UnreadableImageError(f"{path.name}: mode {image.mode} cannot be converted ({error})") from error


def _narrowed(wide: NDArray[np.float64]) -> NDArray[np.uint8]:
    """More than 8 bits, or floats, to 0..255. Pillow's own conversion would clip everything above 255 to white.

    The file does not say how many of its bits are used, so white is the smallest usual maximum that holds all pixels.
    """
    brightest = float(wide.max(initial=0.0))
    white = 1.0 if brightest <= 1.0 else next((level for level in _WHITE if brightest <= level), brightest)
    return (np.clip(wide / white, 0.0, 1.0) * 255.0).round().astype(np.uint8)

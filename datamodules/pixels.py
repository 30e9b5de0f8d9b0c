"""Pixels on their way from a decoder to a network: upright, 8 bits, grey or RGB, square."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile

from datamodules.errors import UnreadableImageError

_WHITE = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # of 8, 10, 12, 14 and 16 bits
_GLANCE = 64  # pixels on the shorter side of a thinned picture, at least


def resized(pixels: NDArray[np.uint8], size: int, channels: int, interpolation: str) -> NDArray[np.uint8]:
    """Decoded pixels as a square of shape ``(size, size, channels)``."""
    if interpolation != "area":
        method = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
        square = Image.fromarray(pixels).resize((size, size), method)
        return np.asarray(square, dtype=np.uint8).reshape(size, size, channels)
    height, width = pixels.shape[:2]
    flag = cv2.INTER_AREA if min(height, width) >= size else cv2.INTER_LINEAR
    return (
        cv2.resize(pixels, (size, size), interpolation=flag).reshape(size, size, channels).astype(np.uint8, copy=False)
    )


def with_channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Grey ``(h, w)`` or RGB ``(h, w, 3)`` pixels with the wanted channels: ``(h, w)`` for one, ``(h, w, 3)`` for three."""
    if channels == 1 and pixels.ndim == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return np.repeat(pixels[..., None], 3, axis=2) if channels == 3 and pixels.ndim == 2 else pixels


def thinned(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every n-th pixel, such that the shorter side keeps 64 to 127; small pictures are left alone."""
    step = max(1, min(pixels.shape[:2]) // _GLANCE)
    return pixels[::step, ::step]


def as_uint8(image: ImageFile.ImageFile, channels: int) -> NDArray[np.uint8]:
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

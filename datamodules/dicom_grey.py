"""Grey scale of DICOM pictures: from stored values to what a viewer shows. Sections are those of DICOM PS3.3."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from datamodules.errors import UnreadableImageError

Values = NDArray[np.float32]


def numbers(header: Dataset, name: str) -> list[float]:
    """The values of a decimal or integer element, in order; none where it is absent or blank."""
    value = header.get(name)
    several = [] if value is None or value == "" else value if hasattr(value, "__iter__") else [value]
    return [float(number) for number in several]


def to_grey(stored: NDArray[Any], header: Dataset) -> NDArray[np.uint8]:
    """Stored values -> modality LUT or rescale (C.11.1) -> VOI LUT or window (C.11.2) -> 0 is black.

    Args:
        stored: pixel values as stored, shape ``(height, width)``, any integer type.
        header: with the elements of these modules, where the file has them.

    Returns:
        Same shape, 0 (black) to 255.

    Raises:
        UnreadableImageError: with the reason, without a file name, if the window is no number or hides the picture.
    """
    padding = _padding(stored, header)
    values, rescaled = _modality(stored.astype(np.float32), header)
    shown = _windowed(values, header)
    if shown is None and stored.dtype == np.uint8 and not rescaled:
        shown = values / 255.0  # like the same picture in another format
    elif shown is None:  # nothing says what matters: from the darkest to the brightest pixel of the picture itself
        seen = values if padding is None else values[~padding]
        low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
        shown = (values - low) / max(high - low, 1e-6)
    elif float(np.ptp(shown := np.clip(shown, 0.0, 1.0))) == 0.0 < float(np.ptp(values)):
        raise UnreadableImageError("its window or look-up table hides every difference between its pixels")
    if header.PhotometricInterpretation == "MONOCHROME1":
        shown = 1.0 - np.clip(shown, 0.0, 1.0)
    if padding is not None:
        shown[padding] = 0.0  # outside the picture: like the collimated rim
    return as_bytes(shown)


def as_bytes(shown: Values) -> NDArray[np.uint8]:
    """0..1 to 0..255, clipped and rounded."""
    if not np.isfinite(shown).all():
        raise UnreadableImageError("its rescale or window is no number")
    whole: NDArray[np.uint8] = np.rint(np.clip(shown, 0.0, 1.0) * 255.0).astype(np.uint8)
    return whole


def _padding(stored: NDArray[Any], header: Dataset) -> NDArray[np.bool_] | None:
    """Where pixels are filling (C.7.5.1.1.2): one value, or a range up to a limit on either side of it."""
    if not (ends := numbers(header, "PixelPaddingValue")):
        return None
    ends += numbers(header, "PixelPaddingRangeLimit")
    return np.asarray((stored >= min(ends)) & (stored <= max(ends)))


def _modality(values: Values, header: Dataset) -> tuple[Values, bool]:
    if luts := header.get("ModalityLUTSequence"):
        return _looked_up(values, luts[0])[0], True
    slope, intercept = (
        (numbers(header, "RescaleSlope") or [1.0])[0],
        (numbers(header, "RescaleIntercept") or [0.0])[0],
    )
    if (slope, intercept) == (1.0, 0.0) or slope == 0.0:  # a slope of 0 is a blank form, not a wish for a flat picture
        return values, False
    return values * np.float32(slope) + np.float32(intercept), True


def _looked_up(values: Values, lut: Dataset) -> tuple[Values, int]:
    """Values through a look-up table (C.11.1.1), and the bits of its entries; beyond its ends, the end entries hold."""
    length, first, bits = (int(number) for number in lut.LUTDescriptor)
    data = lut.LUTData
    entries = (
        np.frombuffer(data, dtype="<u2")
        if isinstance(data, bytes)
        else np.atleast_1d(np.asarray(data, dtype=np.uint16))
    )
    length = length or 65536
    if bits <= 8 and entries.size < length:  # two entries a word
        entries = entries.astype("<u2").view(np.uint8)
    first -= 65536 if first > 32767 and values.min() < 0 else 0
    return entries[:length].astype(np.float32)[np.clip(values - first, 0, length - 1).astype(np.int64)], bits


def _windowed(values: Values, header: Dataset) -> Values | None:
    """0..1 through the first VOI LUT or window, which is the one that its maker wants seen first; None without any."""
    if luts := header.get("VOILUTSequence"):
        found, bits = _looked_up(values, luts[0])
        return found / np.float32(2.0**bits - 1.0)
    centres, widths = numbers(header, "WindowCenter"), numbers(header, "WindowWidth")
    if not centres or not widths:
        return None
    centre, width = centres[0], widths[0]
    if not (math.isfinite(centre) and math.isfinite(width)):
        raise UnreadableImageError("its rescale or window is no number")
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    if width < 1.0 and (function == "LINEAR" or width <= 0.0):
        return None  # not allowed by the standard, and found as a blank form
    if function == "SIGMOID":
        return np.asarray(
            1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -80.0, 80.0))), dtype=np.float32
        )
    if function == "LINEAR_EXACT":
        return (values - np.float32(centre)) / np.float32(width) + np.float32(0.5)
    return (values - np.float32(centre - 0.5)) / np.float32(max(width - 1.0, 1e-6)) + np.float32(0.5)

"""16 x 16 thumbnails: what a trivial baseline sees of an image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 16


def thumbnails(pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Area-averaged thumbnails, in colour if the images are.

    Args:
        pixels: decoded images, shape ``(n, height, width, channels)``.
        rows: which of them, shape ``(k,)``.

    Returns:
        Shape ``(k, 256 * channels)``, values 0 to 255.
    """
    small = np.empty((len(rows), SIDE * SIDE * pixels.shape[3]), dtype=np.uint8)
    for number, row in enumerate(rows):
        image = np.ascontiguousarray(pixels[row])
        small[number] = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel()
    return small

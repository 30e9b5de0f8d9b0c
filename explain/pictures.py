"""Heat maps as pictures: over the image, alone in colour, and the bar that says what the colours mean."""

from __future__ import annotations

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

COLOURS = "inferno"  # brighter is more, also in grey print and for every kind of colour vision
CONTOUR = 0.5  # the line is drawn at this share of the map's maximum
_PALE, _STRONG = 0.15, 0.70  # opacity of the colour where the map is 0 and where it is 1


def overlay(image: NDArray[np.uint8], cam: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A heat map over its image: colour from dark to bright on the image in grey, and a white line at half the maximum.

    The line and the brightness carry the meaning without the colour, so that the picture can be printed in grey.

    Args:
        image: shape ``(height, width, 1 or 3)``, uint8, not normalised.
        cam: shape ``(height, width)``, in [0, 1]. An empty map (all 0) gives the plain grey image.

    Returns:
        Shape ``(height, width, 3)``, uint8 RGB.

    Raises:
        ValueError: the shapes do not fit.
    """
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.shape[:2] != cam.shape:
        raise ValueError(
            f"an overlay needs an image (height, width, 1 or 3) and its map, got {image.shape}, {cam.shape}"
        )
    grey = image[..., 0] if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    base = np.repeat(grey[..., None], 3, axis=2).astype(np.float64)
    if not cam.any():
        return base.astype(np.uint8)
    values = np.clip(cam.astype(np.float64), 0.0, 1.0)
    opacity = (_PALE + (_STRONG - _PALE) * values)[..., None]
    mixed = np.round((1 - opacity) * base + opacity * coloured(cam)).astype(np.uint8)
    lines, _ = cv2.findContours((values >= CONTOUR).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(mixed, lines, -1, (255, 255, 255), 1), dtype=np.uint8)


def coloured(cam: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A heat map alone, from black (nothing) over purple and orange to pale yellow (the most in its image).

    Args:
        cam: any shape, in [0, 1].

    Returns:
        One more axis of length 3, uint8 RGB. The colours are perceptually uniform and safe for colour-blind readers.
    """
    colours = matplotlib.colormaps[COLOURS](np.clip(cam.astype(np.float64), 0.0, 1.0))[..., :3]
    return np.asarray(np.round(colours * 255.0), dtype=np.uint8)


def colour_bar(width: int = 256, height: int = 12) -> NDArray[np.uint8]:
    """The colours from 0 at the left to 1 at the right, shape ``(height, width, 3)``, uint8 RGB."""
    return coloured(np.tile(np.linspace(0.0, 1.0, width, dtype=np.float32), (height, 1)))

"""The decoded images of a prepared data set, at the size of the network, and larger ones for crops in training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.cache import open_pixels
from datamodules.manifest import Manifest
from datamodules.pixel_source import ImageFiles
from datamodules.progress import Progress


@dataclass(frozen=True)
class LargerImages:
    """The images once more, larger than the network takes them, for crops in training; decoded when first asked for.

    Attributes:
        kind, folder, files, progress: as :func:`datamodules.cache.open_pixels` takes them.
    """

    kind: str
    folder: Path
    files: ImageFiles
    progress: Progress

    def opened(self) -> NDArray[np.uint8]:
        """Shape ``(n, s, s, channels)`` with ``s`` the image size times ``data.margin``, rounded."""
        return open_pixels(self.kind, self.folder, self.files, self.progress)


def dataset_pixels(
    folder: Path, root: Path, manifest: Manifest, settings: dict[str, Any], progress: Progress
) -> tuple[NDArray[np.uint8], LargerImages | None]:
    """Open or decode the images of a manifest.

    Args:
        folder: where decoded arrays of this data set are kept.
        root: what the paths of the manifest are relative to.
        settings: the whole configuration; used are of ``data`` the keys ``cache`` and ``margin``, of ``model`` the
            ``image_size``, ``channels`` and ``interpolation``.
        progress: shows how far decoding is.

    Returns:
        The images as :func:`datamodules.cache.open_pixels` gives them; and larger ones, not yet opened, or None without a margin.

    Raises:
        DataError: as :func:`datamodules.cache.open_pixels`.
    """
    data, model = settings["data"], settings["model"]
    frame = manifest.frame
    files = ImageFiles(
        frame["path"].tolist(),
        frame["sha256"].tolist(),
        model["image_size"],
        model["channels"],
        model["interpolation"],
        root,
    )
    kind, margin = data.get("cache", "auto"), data.get("margin", 1.0)  # a run may be from before there were these keys
    pixels = open_pixels(kind, folder, files, progress)
    width = round(files.size * margin)
    larger = LargerImages(kind, folder, replace(files, size=width), progress) if width > files.size else None
    return pixels, larger

"""Everything between a folder of images and training: index, manifest, split and decoded cache of one data set."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from datamodules import chest_xray, phantom
from datamodules.cache import open_cache
from datamodules.errors import DataError
from datamodules.index import index_files, save_csv
from datamodules.manifest import LeftOut, Manifest, build_manifest
from datamodules.progress import Progress, silent
from datamodules.splits import Splits, obtain_splits


@dataclass(frozen=True)
class PreparedData:
    """A data set that is ready for training.

    Attributes:
        folder: ``<prepared>/<data set>-<hash of its location>``, where everything below is stored.
        root: folder that the image paths of the manifest are relative to.
        manifest, splits: see there.
        pixels: decoded images, shape ``(n, size, size, channels)``, uint8, memory-mapped.
        phantom: True for generated images.
    """

    folder: Path
    root: Path
    manifest: Manifest
    splits: Splits
    pixels: NDArray[np.uint8]
    phantom: bool


def prepare(
    data: dict[str, Any],
    split: dict[str, Any],
    classes: tuple[str, ...],
    *,
    image_size: int,
    channels: int,
    progress: Progress = silent,
) -> PreparedData:
    """Read, check, split and decode a data set; what was done before is found again and not repeated.

    Args:
        data: ``source`` (files or phantom), ``root``, ``prepared``, ``per_class``, ``on_bad_image``, ``phantom_images``,
            ``phantom_seed``.
        split: ``val_fraction``, ``seed``, ``refresh``.
        classes: class names in their fixed order.
        image_size, channels: of the decoded images.

    Raises:
        DataError: with a message for the user when the data cannot be used.
    """
    prepared = Path(data["prepared"])
    is_phantom = data["source"] == "phantom"
    root = _phantom_root(prepared, data, progress) if is_phantom else Path(data["root"])
    listing = chest_xray.list_chest_xray(root, classes)
    location = hashlib.sha256(str(listing.root.resolve()).encode()).hexdigest()[:8]
    folder = _writable(prepared / f"chest_xray{'-phantom' if is_phantom else ''}-{location}")
    with FileLock(folder / "prepare.lock"):  # a second process waits, and then finds everything done
        return _prepare_in(folder, listing, data, split, classes, image_size, channels, progress, is_phantom)


def _prepare_in(
    folder: Path,
    listing: chest_xray.Listing,
    data: dict[str, Any],
    split: dict[str, Any],
    classes: tuple[str, ...],
    image_size: int,
    channels: int,
    progress: Progress,
    is_phantom: bool,
) -> PreparedData:
    image_ids = listing.frame["image_id"].tolist()
    with progress("reading files", len(image_ids)) as advance:
        facts = index_files(listing.root, image_ids, folder / "index.csv", advance)
    bad = [LeftOut(str(row.image_id), str(row.error)) for row in facts.itertuples() if row.error]
    if bad and data["on_bad_image"] == "error":
        shown = "\n".join(f"  {item.path}: {item.reason}" for item in bad[:10])
        raise DataError(f"{len(bad)} unreadable images (data.on_bad_image=error):\n{shown}")
    manifest = build_manifest(listing.frame, facts, classes, listing.left_out)
    splits = obtain_splits(
        manifest,
        folder / "splits",
        val_fraction=split["val_fraction"],
        seed=split["seed"],
        per_class=data["per_class"],
        refresh=split["refresh"],
    )
    save_csv(manifest.frame, folder / "manifest.csv")
    with progress(f"decoding to {image_size} x {image_size}", len(manifest)) as advance:
        pixels = open_cache(
            folder / "cache",
            [listing.root / path for path in manifest.frame["path"]],
            manifest.frame["sha256"].tolist(),
            size=image_size,
            channels=channels,
            on_image=advance,
        )
    return PreparedData(folder, listing.root, manifest, splits, pixels, is_phantom)


def _phantom_root(prepared: Path, data: dict[str, Any], progress: Progress) -> Path:
    """Folder of the phantom data set of these settings, written on first use."""
    images, seed = int(data["phantom_images"]), int(data["phantom_seed"])
    root = _writable(prepared / f"phantom-v{phantom.PHANTOM_VERSION}-{images}-seed{seed}")
    with FileLock(root / "draw.lock"):
        if (root / "chest_xray").is_dir():
            return root
        with progress("drawing phantom images", images) as advance:
            phantom.write_phantom(root, images=images, seed=seed, on_image=lambda done: advance(1))
    return root


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot create {folder} ({error.strerror}). Set FIRSTREAD_HOME to a folder you may write to."
        ) from error
    if not os.access(folder, os.W_OK):
        raise DataError(f"cannot write to {folder}. Set FIRSTREAD_HOME to a folder you may write to.")
    return folder

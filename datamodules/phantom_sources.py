"""The phantom data set of every task: which generator draws it, and where it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from datamodules import phantom, phantom_layouts
from datamodules.errors import DataError
from datamodules.index import save_csv
from datamodules.progress import Progress, silent

VERSION = f"v{phantom.PHANTOM_VERSION}.{phantom_layouts.PHANTOM_SKIN_VERSION}"
_WRITERS: dict[str, tuple[str, Any]] = {  # reader or data set -> name of the layout, function that writes it
    "chest_xray": ("chest_xray", phantom.write_phantom),
    "ham10000": ("ham10000", phantom_layouts.write_phantom_ham10000),
    "isic9": ("isic9", phantom_layouts.write_phantom_isic9),
    "isic_archive": ("isic_archive", phantom_layouts.write_phantom_isic_archive),
    "skin_cancer": ("skin_cancer", phantom_layouts.write_phantom_skin_cancer),
    "folders": ("skin_cancer", phantom_layouts.write_phantom_skin_cancer),
    "table": ("ham10000", phantom_layouts.write_phantom_ham10000),
}


def phantom_root(task: dict[str, Any], data: dict[str, Any], home: Path, progress: Progress = silent) -> Path:
    """Folder of the phantom data set of these settings, drawn on first use.

    Args:
        task: ``dataset`` and ``reader``.
        data: ``phantom_images`` and ``phantom_seed``.
        home: folder for prepared data; writable.

    Raises:
        DataError: if there are too few images for the layout.
    """
    layout, write = _WRITERS.get(task["dataset"]) or _WRITERS[task["reader"]]
    images, seed = int(data["phantom_images"]), int(data["phantom_seed"])
    folder = home / f"phantom-{VERSION}-{images}-seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "draw.lock"):
        if not (folder / layout).is_dir():
            with progress("drawing phantom images", images) as advance:
                try:
                    write(folder, images=images, seed=seed, on_image=lambda done: advance(1))
                except ValueError as error:
                    raise DataError(f"data.phantom_images={images}: {error}") from error
        if task["reader"] == "table":
            _write_table(folder / layout)
    return folder / layout


def phantom_columns() -> dict[str, Any]:
    """Columns of the table that stands for a CSV of one's own."""
    return {
        **{"file": "images.csv", "path": "file", "label": "diagnosis", "group": "lesion", "split": ""},
        **{"subgroups": ["sex"]},
    }


def _write_table(root: Path) -> None:
    """A table as a user has it, over the phantom HAM10000 images; two classes."""
    if (root / "images.csv").is_file():
        return
    rows = pd.read_csv(root / "HAM10000_metadata.csv", dtype=str, keep_default_na=False)
    malignant = rows["dx"].isin(["mel", "bcc", "akiec"])
    diagnosis = malignant.map({True: "malignant", False: "benign"})
    columns = {"file": "images/" + rows["image_id"] + ".jpg", "diagnosis": diagnosis, "lesion": rows["lesion_id"]}
    save_csv(pd.DataFrame({**columns, "sex": rows["sex"]}), root / "images.csv")

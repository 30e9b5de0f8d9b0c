"""The images of a case, the same for every contender: a split file for train.py, and a folder of links for the others."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.speed.cases import Case, overrides_of
from conf.cli import composed
from conf.run_settings import plain_settings
from datamodules.phantom import write_phantom
from datamodules.phantom_layouts import write_phantom_ham10000
from datamodules.prepared import PreparedData, prepare
from datamodules.progress import Progress, silent

FOLDERS = {"xray224": "chest_xray", "original": "chest_xray_original", "ham10000": "ham10000"}
HELD = 64  # images that train.py validates and tests on, where nobody asks for its test AUROC
_PHANTOM_SIZES = {"xray224": 224, "original": 1200}
_LARGE = 180  # large films are slow to draw; the data set of original films has as many


@dataclass(frozen=True)
class CaseData:
    """Where the images of a case are.

    Attributes:
        overrides: for train.py, with its split.
        folder: links ``{train,test}/<class>/<file>`` to the same images.
        training, test: number of images.
        phantom: True for generated ones.
    """

    overrides: list[str]
    folder: Path
    training: int
    test: int
    phantom: bool


def data_root(files: str, work: Path, phantom_images: int) -> tuple[Path, bool]:
    """The folder of these files under FIRSTREAD_DATA; where that is not set, generated films.

    Raises:
        ValueError: if FIRSTREAD_DATA is set and has no such folder.
    """
    named = os.environ.get("FIRSTREAD_DATA")
    if named:
        root = Path(named) / FOLDERS[files]
        if not root.is_dir():
            raise ValueError(f"{root}: no such folder. Get the data set, leave the case out, or unset FIRSTREAD_DATA.")
        return root, False
    phantom_images = min(phantom_images, _LARGE) if files == "original" else phantom_images
    base = work / f"phantom-{files}-{phantom_images}"
    inside = "ham10000" if files == "ham10000" else "chest_xray"
    if not (base / inside).is_dir():
        base.mkdir(parents=True, exist_ok=True)
        if files == "ham10000":
            write_phantom_ham10000(base, images=phantom_images)
        else:
            write_phantom(base, images=phantom_images, size=_PHANTOM_SIZES[files])
    return base / inside, True


def random_weights(work: Path) -> Path:
    """A file with random weights of MobileNetV2: train.py freezes nothing that has no weights, and speed does not mind."""
    target = work / "random-mobilenetv2_100.safetensors"
    if not target.is_file():
        import timm
        import torch
        from safetensors.torch import save_file

        torch.manual_seed(0)
        work.mkdir(parents=True, exist_ok=True)
        beside = target.with_suffix(f".{os.getpid()}")
        save_file(timm.create_model("mobilenetv2_100", num_classes=0).state_dict(), beside)
        os.replace(beside, target)
    return target


def case_data(
    case: Case, work: Path, options: dict[str, Any], progress: Progress = silent, *, whole_test: bool = False
) -> CaseData:
    """Index, split and decode the images of a case, and choose those that are used.

    Args:
        work: folder of the benchmark.
        options: ``epochs, batch, weights, accelerator, phantom_images``.
        whole_test: score the whole test part.

    Raises:
        ValueError, DataError: if there are no usable images.
    """
    root, phantom = data_root(case.files, work, options["phantom_images"])
    folder = work / "cases" / case.name.replace("/", "-")
    settings = {**options, "root": root.resolve(), "prepared": (work / "prepared").resolve(), "split": None}
    folder.mkdir(parents=True, exist_ok=True)
    prepared = prepare(resolved_settings(overrides_of(case, settings)), progress)
    chosen = choose(prepared, case.images, HELD, None if whole_test else HELD)
    split = folder / "split.csv"
    ids = prepared.manifest.frame["image_id"]
    pd.DataFrame([{"image_id": ids[row], "split": part} for part, rows in chosen.items() for row in rows]).to_csv(
        split, index=False
    )
    _link(prepared, chosen, folder / "images")
    return CaseData(
        overrides_of(case, {**settings, "split": split.resolve()}),
        (folder / "images").resolve(),
        len(chosen["train"]),
        len(chosen["test"]),
        phantom,
    )


def resolved_settings(overrides: list[str]) -> dict[str, Any]:
    """The plain settings of train.py for these overrides, the network's preprocessing filled in."""
    settings = plain_settings(composed(overrides))
    if settings["model"]["name"] != "simple_cnn":
        from models.pretrained import resolved_model

        settings["model"] = resolved_model(settings["model"])
    return settings


def choose(prepared: PreparedData, training: int, validation: int, test: int | None) -> dict[str, NDArray[np.int64]]:
    """Rows of the manifest for each part: random ones of firstread's own parts, so that no group is on two sides.

    Args:
        training, validation, test: images at most; None: all.
    """
    targets = prepared.manifest.targets
    found = {}
    for part, count in (("train", training), ("val", validation), ("test", test)):
        rows = np.random.default_rng(0).permutation(prepared.splits.rows(part))
        # One of each class first, so that no small part lacks one.
        first = [rows[targets[rows] == number][0] for number in range(len(prepared.manifest.classes))]
        rest = rows[~np.isin(rows, first)]
        found[part] = np.concatenate([first, rest])[: len(rows) if count is None else count]
    return found


def _link(prepared: PreparedData, chosen: dict[str, NDArray[np.int64]], folder: Path) -> None:
    """The layout that ImageFolder and Keras read; class folders sort in the order of the task's classes."""
    shutil.rmtree(folder, ignore_errors=True)
    frame, classes = prepared.manifest.frame, prepared.manifest.classes
    targets = prepared.manifest.targets
    for part in ("train", "test"):
        for number, name in enumerate(classes):
            place = folder / part / f"{number}_{name}"
            place.mkdir(parents=True, exist_ok=True)
            for row in chosen[part]:
                if targets[row] == number:
                    source = (prepared.root / frame["path"][row]).resolve()
                    (place / f"{row}{source.suffix}").symlink_to(source)

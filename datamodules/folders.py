"""Reader of class folders: ``root/CLASS/*.jpg`` or ``root/{train,val,test}/CLASS/*.jpg``, whatever the letter case."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from datamodules.errors import DataError
from datamodules.grouping import united_groups
from datamodules.images import IMAGE_SUFFIXES
from datamodules.listing import PART_NAMES, About, Listing, hidden, image_files, present, read_table
from datamodules.manifest import LeftOut
from datamodules.missing import MissingDataError, contents_of

ABOUT = {
    "isic9": About(
        title="Skin Cancer ISIC, nine classes (Kaggle nodoubttome/skin-cancer9-classesisic)",
        licence="per image, ISIC archive",
        citation="The International Skin Imaging Collaboration (ISIC) archive",
        group_rule="ISIC id of the file name; identical and nearly identical images are joined",
        notes=(
            "Neither lesion nor patient is part of this copy; give task.group_table=HAM10000_metadata.csv (or an ISIC export) "
            "to join those that are known.",
            "As published, the official test part has 3 images in two of its classes: recall there moves in thirds.",
            "Pigmented benign keratosis overlaps with seborrheic keratosis by definition.",
        ),
    ),
    "skin_cancer": About(
        title="Skin Cancer: Malignant vs Benign (Kaggle fanconic/skin-cancer-malignant-vs-benign)",
        licence="unclear; images of the ISIC archive",
        citation="The International Skin Imaging Collaboration (ISIC) archive",
        group_rule="none recorded: an image is its own group; identical and nearly identical images are joined",
        notes=(
            "No ids are kept in this copy, so images of one lesion cannot be recognised and may lie in different parts.",
            "The share of malignant lesions is artificial (45 %); predictive values do not carry over to a clinic.",
        ),
    ),
}


def list_folders(given: Path, dataset: str, *, group_pattern: str = "", group_table: str = "") -> Listing:
    """All image files with the name of their class folder.

    Args:
        given: the folder with the classes or with ``train`` and ``test``, or one folder above it.
        dataset: ``isic9``, ``skin_cancer``, or anything else for a folder of one's own.
        group_pattern: regular expression with a group ``group``, searched in the path below ``given`` (without suffix); files
            that agree in it are one group. Empty: a file name is a group.
        group_table: table with ``image_id`` and ``lesion_id`` or ``patient_id``, joined by file name.

    Raises:
        MissingDataError: if there are no class folders. DataError: if the pattern fits no file or is malformed.
    """
    root = find_root(given)
    left_out: list[LeftOut] = []
    rows: list[dict[str, str]] = []
    parts = _parts(root)
    _list_strays(root, [folder for folder, _ in parts], left_out)
    for folder, split in parts or [(root, "")]:
        for entry in sorted(os.scandir(folder), key=lambda item: item.name):
            if entry.is_dir() and not hidden(entry.name):
                for file in image_files(Path(entry.path), root, left_out):
                    path = file.relative_to(root).as_posix()
                    rows.append(
                        {"image_id": path, "path": path, "label": entry.name, "group_id": file.stem, "split": split}
                    )
    if not rows:
        raise MissingDataError(given, f"no class folder with images in it ({contents_of(root)})")
    frame = pd.DataFrame(rows).sort_values("image_id", ignore_index=True)
    about = ABOUT.get(
        dataset,
        About(title=f"Own images, folder {given.name}", group_rule="a file is its own group; duplicates are joined"),
    )
    if dataset == "skin_cancer" or (dataset not in ABOUT and not group_pattern):
        frame["group_id"] = frame["path"]  # numbers start anew in every folder, so a name says nothing
    if group_pattern:
        frame["group_id"], rule = _matched(frame["path"], group_pattern)
        about = replace(about, group_rule=rule)
    if group_table:
        frame["group_id"], known = _joined(frame, Path(group_table))
        rule = f"{Path(group_table).name}, which knows {known:,} of {len(frame):,} files; for the others: {about.group_rule}"
        about = replace(about, group_rule=rule)
    return Listing(root, frame, about, left_out)


def find_root(given: Path) -> Path:
    """The folder with the classes or the parts: the given one, or the only plausible one below it."""
    if not given.is_dir():
        raise MissingDataError(given, contents_of(given))
    if _parts(given):
        return given
    nested = [Path(entry.path) for entry in sorted(os.scandir(given), key=lambda item: item.name) if entry.is_dir()]
    nested = [folder for folder in nested if not hidden(folder.name)]
    with_parts = [folder for folder in nested if _parts(folder)]
    if len(with_parts) == 1:
        return with_parts[0]
    if len(with_parts) > 1:
        names = " and ".join(folder.name for folder in with_parts)
        raise DataError(f"{given}: {names} both hold train and test folders. Point data.root to one of them.")
    # One folder that holds only folders is a wrapper round the classes, not the only class.
    if len(nested) == 1 and all(entry.is_dir() or hidden(entry.name) for entry in os.scandir(nested[0])):
        return nested[0]
    return given


def _list_strays(root: Path, parts: list[Path], left_out: list[LeftOut]) -> None:
    """Images and folders that lie where no class can be told: beside the classes, or beside train and test."""
    for folder in [root, *parts]:
        for entry in sorted(os.scandir(folder), key=lambda item: item.name):
            path = Path(entry.path)
            beside = folder == root and parts and path not in parts
            if hidden(entry.name) or (entry.is_dir() and not beside):
                continue
            if entry.is_dir():
                left_out.append(LeftOut(f"{entry.name}/", "a folder beside train and test is not read"))
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                left_out.append(LeftOut(path.relative_to(root).as_posix(), "an image outside the class folders"))


def _parts(folder: Path) -> list[tuple[Path, str]]:
    """Sub-folders that are train, validation or test, if train is among them."""
    found = [
        (Path(entry.path), PART_NAMES.get(entry.name.lower(), "")) for entry in os.scandir(folder) if entry.is_dir()
    ]
    found = sorted((path, part) for path, part in found if part)
    names = [part for _, part in found]
    if "train" not in names:
        if set(names) == {"val", "test"}:
            raise DataError(f"{folder}: there are folders for validation and test, but none for training (train).")
        return []
    if len(set(names)) < len(names):
        raise DataError(
            f"{folder}: several folders mean the same part ({', '.join(path.name for path, _ in found)}); keep one."
        )
    return found


def _matched(paths: pd.Series, pattern: str) -> tuple[pd.Series, str]:
    """The group of each path, and the rule with the number of files that it fits; other files are their own group."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"task.group_pattern={pattern}: not a regular expression ({error}).") from error
    if "group" not in compiled.groupindex:
        raise DataError(
            f"task.group_pattern={pattern}: it needs a part named group, for example (?P<group>patient\\d+)."
        )

    def group_of(path: str) -> str | None:
        match = compiled.search(os.path.splitext(path)[0])
        return (match["group"] or None) if match else None

    found = paths.map(group_of)
    fits = int(found.notna().sum())
    if not fits:
        raise DataError(
            f"task.group_pattern={pattern}: it fits none of the {len(paths):,} files, for example {paths.iloc[0]}."
        )
    rule = f"part of the path that matches {pattern}, which fits {fits:,} of {len(paths):,} files"
    return found.where(found.notna(), paths), rule


def _joined(frame: pd.DataFrame, table: Path) -> tuple[list[str], int]:
    """Groups united with the lesions and patients that a table knows, by file name; and how many files it knows."""
    rows = read_table(table)
    keys = [name for name in ("lesion_id", "patient_id") if name in rows.columns]
    id_column = next((name for name in ("image_id", "isic_id") if name in rows.columns), None)
    if not keys or id_column is None:
        raise DataError(
            f"task.group_table={table}: needs image_id or isic_id, and lesion_id or patient_id; it has {', '.join(rows.columns)}."
        )
    rows = rows.drop_duplicates(id_column).set_index(id_column)
    stems = frame["path"].map(lambda path: Path(path).stem)
    known = int(stems.isin(rows.index).sum())
    if not known:
        raise DataError(
            f"task.group_table={table}: none of its {len(rows):,} ids is the name "
            f"of an image without suffix (such as {stems.iloc[0]})."
        )
    columns = [present(stems.map(rows[name]).fillna("")).tolist() for name in keys]
    return united_groups(frame["group_id"].tolist(), *columns), known

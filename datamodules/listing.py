"""What every reader of a data set returns: its image files with label, group and official part."""

from __future__ import annotations

import filecmp
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from datamodules.errors import DataError
from datamodules.images import looks_like_image
from datamodules.manifest import LeftOut

PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_COPY = re.compile(r"^(?P<stem>.+?) ?\((?P<number>\d+)\)$")
_MISSING = ("", "na", "n/a", "nan", "none", "null", "unknown", "-")
_AGE_EDGES = (0, 20, 40, 60, 80)


@dataclass(frozen=True)
class About:
    """What a report says about a data set.

    Attributes:
        title, licence, citation: as published; empty where unknown.
        group_rule: how patient or lesion are known.
        notes: sentences that a reader of a result should know.
    """

    title: str
    licence: str = ""
    citation: str = ""
    group_rule: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """What a reader found.

    Attributes:
        root: folder that paths are relative to.
        frame: one row an image: ``image_id`` (unique), ``path``, ``label`` (as the data set writes it), ``group_id``,
            ``split`` (``train``, ``val``, ``test``, or empty where the data set has no parts), and subgroup columns.
        left_out: files and rows that are not used, each with its reason.
        about: for reports.
    """

    root: Path
    frame: pd.DataFrame
    about: About
    left_out: list[LeftOut] = field(default_factory=list)


def hidden(name: str) -> bool:
    """Whether a file or folder belongs to the operating system and not to the data set."""
    return name.startswith(".") or name == "__MACOSX" or name.lower() in ("thumbs.db", "desktop.ini")


def _stop(error: OSError) -> NoReturn:
    raise DataError(
        f"{error.filename}: the folder cannot be read ({error.strerror}). Allow reading it, or move it away."
    ) from error


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, sorted, without hidden ones; links to folders are not followed.

    Raises:
        DataError: if a folder cannot be read.
    """
    for where, folders, names in os.walk(folder, onerror=_stop):
        folders[:] = sorted(name for name in folders if not hidden(name))
        for name in sorted(names):
            if not hidden(name):
                yield Path(where) / name


def image_files(folder: Path, root: Path, left_out: list[LeftOut], *, others: bool = True) -> list[Path]:
    """The image files below ``folder``; anything else is added to ``left_out`` with its reason.

    Where a table says which images there are, files of other kinds are of no interest (``others=False``). A second copy that
    a file manager made (``name (1).jpg`` beside ``name.jpg``) is left out as well.
    """
    found = []
    for where, folders, _ in os.walk(folder):
        linked = [Path(where) / name for name in folders if os.path.islink(Path(where) / name)]
        left_out.extend(
            LeftOut(f"{path.relative_to(root).as_posix()}/", "a linked folder is not followed") for path in linked
        )
    for file in files_below(folder):
        path = file.relative_to(root).as_posix()
        copy = _COPY.match(file.stem)
        if not file.is_file():
            left_out.append(LeftOut(path, "not a regular file, or a broken link"))
        elif not looks_like_image(file):
            if others:
                left_out.append(LeftOut(path, f"not an image file (suffix '{file.suffix}')"))
        elif copy and _same_content(file, file.with_stem(copy["stem"])):
            left_out.append(LeftOut(path, f"a copy that a file manager made (of {copy['stem']}{file.suffix})"))
        else:
            found.append(file)
    return found


def _same_content(copy: Path, original: Path) -> bool:
    """Names such as ``a (1).jpg`` are also given to different pictures of a series."""
    try:
        return filecmp.cmp(copy, original, shallow=False)
    except OSError:
        return False


def images_by_stem(root: Path, left_out: list[LeftOut]) -> dict[str, str]:
    """Path of every image below ``root`` by its file name without suffix; a second one of a name is left out."""
    found: dict[str, str] = {}
    for file in image_files(root, root, left_out, others=False):
        path = file.relative_to(root).as_posix()
        if file.stem in found:
            left_out.append(LeftOut(path, f"a second file of this name; {found[file.stem]} is used"))
        else:
            found[file.stem] = path
    return found


def with_images(rows: pd.DataFrame, root: Path, left_out: list[LeftOut], known: set[str]) -> pd.DataFrame:
    """Give the rows of a metadata table the ``path`` of their image; list images without row and rows without image.

    Args:
        rows: has the column ``image_id``, each once.
        root: folder with the images, at any depth, named by their id.
        known: ids of all rows of the table, also of those that are not used for another reason.
    """
    paths = images_by_stem(root, left_out)
    unknown = sorted(set(paths) - known)
    left_out.extend(LeftOut(paths[stem], "no row in the metadata") for stem in unknown)
    path = rows["image_id"].map(paths)
    left_out.extend(
        LeftOut(name, "the metadata has a row, but there is no image") for name in rows["image_id"][path.isna()]
    )
    return rows.assign(path=path)[path.notna()].reset_index(drop=True)


def age_band(age: pd.Series) -> pd.Series:
    """Ages in years as bands of 20 years (``40-59``, ``80+``); ``unknown`` where missing."""
    years = pd.to_numeric(age, errors="coerce")
    labels = [f"{low}-{high - 1}" for low, high in itertools.pairwise(_AGE_EDGES)] + [f"{_AGE_EDGES[-1]}+"]
    bands = pd.cut(years, [*_AGE_EDGES, np.inf], right=False, labels=labels)
    return bands.astype(object).where(bands.notna(), "unknown").astype(str)


def present(column: pd.Series) -> pd.Series:
    """Text without the words that spreadsheets and programs write for a missing value."""
    text = column.fillna("").astype(str).str.strip()
    return text.where(~text.str.lower().isin(_MISSING), "")


def known(column: pd.Series) -> pd.Series:
    """Text in lower case, ``unknown`` where it is missing."""
    text = present(column).str.lower()
    return text.where(text != "", "unknown")


def read_table(path: Path) -> pd.DataFrame:
    """A CSV or tab-separated file as text; the separator is read from its first line.

    Raises:
        DataError: if the file cannot be read as a table.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline()
        separator = max((",", "\t", ";"), key=first.count)
        rows = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
        return rows.rename(columns=str.strip)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a table ({error}). Save it as CSV in UTF-8.") from error

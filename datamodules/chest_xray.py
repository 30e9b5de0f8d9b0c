"""Reader of Chest X-Ray Images (Pneumonia), Kermany et al. 2018, in the forms in which people have it.

Layout ``{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg``, also nested as ``chest_xray/`` or ``chest_xray/chest_xray/``, with or
without ``val``. Patients are read from the file names: the number in ``person12_bacteria_34.jpeg`` is issued per sub-type, not
per child, so the key is (sub-type, number); ``IM-`` and ``NORMAL2-IM-`` number their patients separately.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from datamodules.errors import DataError
from datamodules.images import IMAGE_SUFFIXES
from datamodules.manifest import LeftOut

TITLE = "Chest X-Ray Images (Pneumonia), Kermany et al. 2018"
LICENCE = "CC BY 4.0"
CITATION = (
    "Kermany, Zhang, Goldbaum (2018): Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for Classification. "
    "Mendeley Data, doi:10.17632/rscbjbr9sj"
)
GROUP_RULE = "sub-type and number, or prefix and number, of the file name; patients with identical files are joined"
DOWNLOAD_STEPS = """  1. open  https://data.mendeley.com/datasets/rscbjbr9sj  (no login)
     and download ChestXRay2017.zip, 1,235,512,464 bytes
     (or, with a Kaggle account:  kaggle datasets download -d paultimothymooney/chest-xray-pneumonia --unzip)
  2. check  sha256sum ChestXRay2017.zip  gives 13efc055629733dbab07877f8b3c9f81097840dbcdaa326a8542322c2281ce36
  3. unpack it into  {parent}  so that  {root}/train/NORMAL  exists"""

_PNEUMONIA = re.compile(r"^person(?P<number>\d+)_(?P<subtype>bacteria|virus)_\d+(?:_\d+)?$")
_NORMAL = re.compile(r"^(?P<prefix>(?:NORMAL2-)?IM)-(?P<number>\d+)-\d+(?:-\d+)?$")
_OTHER = re.compile(r"^(?P<subtype>BACTERIA|VIRUS|NORMAL)-(?P<number>\d+)-\d+$")
_PARTS = {"train": "train", "val": "train", "test": "test"}  # 16 images validate nothing: val joins train


@dataclass(frozen=True)
class Listing:
    """What a source found: usable rows, files left out, and the folder that ids are relative to."""

    root: Path
    frame: pd.DataFrame
    left_out: list[LeftOut]


def patient_of(stem: str) -> tuple[str, str] | None:
    """Patient key and sub-type of a file name without suffix; None if the name follows no known pattern.

    >>> patient_of("person12_bacteria_34")
    ('bacteria-12', 'bacteria')
    >>> patient_of("NORMAL2-IM-0007-0001")
    ('NORMAL2-IM-0007', 'normal')
    """
    if match := _PNEUMONIA.match(stem):
        return f"{match['subtype']}-{match['number']}", match["subtype"]
    if match := _NORMAL.match(stem):
        return f"{match['prefix']}-{match['number']}", "normal"
    if match := _OTHER.match(stem):
        return f"{match['subtype']}-{match['number']}", match["subtype"].lower()
    return None


def find_root(given: Path) -> Path:
    """The folder that holds ``train`` and ``test``: the given one, or one nested in it.

    Only one is ever used: some archives hold a second copy of everything one level deeper.

    Raises:
        DataError: if the folder does not exist or holds no such layout; the message lists the ways on.
    """
    for folder in (given, given / "chest_xray", given / "chest_xray" / "chest_xray"):
        if (folder / "train").is_dir():
            return folder
    if not given.is_dir():
        found = "the folder does not exist"
    else:
        names = sorted(entry.name for entry in given.iterdir())[:6]
        found = f"no folder 'train' in it (it holds: {', '.join(names)})" if names else "the folder is empty"
    raise DataError(missing_message(given, found))


def missing_message(given: Path, found: str) -> str:
    """Where was looked, what was found there, and the three ways on."""
    where = given.resolve()
    return (
        f"data set not found. Looked in {where}: {found}.\n"
        "Three ways on:\n"
        "- you have it: point to it with  data.root=PATH  or put it under a folder named by FIRSTREAD_DATA\n"
        f"- download it:\n{DOWNLOAD_STEPS.format(parent=where.parent, root=where)}\n"
        "- try everything without it, on generated images:  data.source=phantom"
    )


def list_chest_xray(given: Path, classes: tuple[str, ...]) -> Listing:
    """All image files with label, patient, sub-type and official split, sorted by id.

    Args:
        given: the data set's folder, or one above it.
        classes: the folder names to read, compared without regard to case.

    Raises:
        DataError: if the layout is not there, or a class has no image file in train or test.
    """
    root = find_root(given)
    rows: list[dict[str, str]] = []
    left_out: list[LeftOut] = []
    by_lower = {name.lower(): name for name in classes}
    for part, split in _PARTS.items():
        for folder in sorted((root / part).glob("*/")) if (root / part).is_dir() else []:
            label = by_lower.get(folder.name.lower())
            if folder.name == "__MACOSX" or folder.name.startswith("."):
                continue
            if label is None:
                left_out.append(
                    LeftOut(f"{part}/{folder.name}/", f"folder is none of the classes {', '.join(classes)}")
                )
                continue
            _read_class(root, folder, label, split, rows, left_out)
    _require_all_classes(root, rows, classes)
    frame = pd.DataFrame(rows).sort_values("image_id", ignore_index=True)
    return Listing(root, frame, left_out)


def _read_class(
    root: Path, folder: Path, label: str, split: str, rows: list[dict[str, str]], left_out: list[LeftOut]
) -> None:
    for file in sorted(folder.iterdir()):
        path = file.relative_to(root).as_posix()
        if file.name.startswith("."):
            continue
        if not file.is_file():
            left_out.append(LeftOut(path, "a folder or a broken link inside a class folder"))
            continue
        if file.suffix.lower() not in IMAGE_SUFFIXES:
            left_out.append(LeftOut(path, f"not an image file (suffix '{file.suffix}')"))
            continue
        group, subtype = patient_of(file.stem) or (f"file-{path}", "unknown")
        rows.append(
            {"image_id": path, "path": path, "label": label, "group_id": group, "split": split, "subtype": subtype}
        )


def _require_all_classes(root: Path, rows: list[dict[str, str]], classes: tuple[str, ...]) -> None:
    for split in ("train", "test"):
        counts = {name: sum(row["label"] == name and row["split"] == split for row in rows) for name in classes}
        empty = [name for name, count in counts.items() if count == 0]
        if empty:
            found = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise DataError(
                f"{root.resolve() / split}: no image of class {' or '.join(empty)} (images found: {found}). "
                f"Every class is needed in train and in test; expected: {', '.join(f'{split}/{name}' for name in empty)}."
            )

"""Reader of Chest X-Ray Images (Pneumonia), Kermany et al. 2018, in the forms in which people have it.

Layout ``{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg``, also nested as ``chest_xray/`` or ``chest_xray/chest_xray/``, with or
without ``val``. Patients are read from the file names: the number in ``person12_bacteria_34.jpeg`` is issued per sub-type, not
per child, so the key is (sub-type, number); ``IM-`` and ``NORMAL2-IM-`` number their patients separately.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from datamodules.listing import About, Listing, hidden, image_files
from datamodules.manifest import LeftOut
from datamodules.missing import MissingDataError, contents_of

ABOUT = About(
    title="Chest X-Ray Images (Pneumonia), Kermany et al. 2018",
    licence="CC BY 4.0",
    citation="Kermany, Zhang, Goldbaum (2018): Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for "
    "Classification. Mendeley Data, doi:10.17632/rscbjbr9sj",
    group_rule="sub-type and number, or prefix and number, of the file name; patients with identical files are joined",
)
_PNEUMONIA = re.compile(r"^person(?P<number>\d+)_(?P<subtype>bacteria|virus)_\d+(?:_\d+)?$")
_NORMAL = re.compile(r"^(?P<prefix>(?:NORMAL2-)?IM)-(?P<number>\d+)-\d+(?:-\d+)?$")
_OTHER = re.compile(r"^(?P<subtype>BACTERIA|VIRUS|NORMAL)-(?P<number>\d+)-\d+$")
_PARTS = {"train": "train", "val": "train", "test": "test"}  # 16 images validate nothing: val joins train


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
    """The folder that holds ``train``: the given one, or one nested in it.

    Only one is ever used: some archives hold a second copy of everything one level deeper.

    Raises:
        MissingDataError: if the folder does not exist or holds no such layout.
    """
    for folder in (given, given / "chest_xray", given / "chest_xray" / "chest_xray"):
        if (folder / "train").is_dir():
            return folder
    found = contents_of(given)
    raise MissingDataError(given, f"no folder 'train' in it ({found})" if found.startswith("it holds") else found)


def list_chest_xray(given: Path) -> Listing:
    """All image files with folder name, patient, sub-type and official part, sorted by id.

    Args:
        given: the data set's folder, or one above it.

    Raises:
        MissingDataError: if the layout is not there.
    """
    root = find_root(given)
    rows: list[dict[str, str]] = []
    left_out: list[LeftOut] = []
    for part, split in _PARTS.items():
        for folder in sorted((root / part).glob("*/")) if (root / part).is_dir() else []:
            if not hidden(folder.name):
                _read_class(root, folder, split, rows, left_out)
    columns = ["image_id", "path", "label", "group_id", "split", "subtype"]
    frame = pd.DataFrame(rows, columns=columns).sort_values("image_id", ignore_index=True)
    return Listing(root, frame, ABOUT, left_out)


def _read_class(root: Path, folder: Path, split: str, rows: list[dict[str, str]], left_out: list[LeftOut]) -> None:
    for file in image_files(folder, root, left_out):
        path = file.relative_to(root).as_posix()
        group, subtype = patient_of(file.stem) or (f"file-{path}", "unknown")
        says = {"normal": "NORMAL", "unknown": folder.name.upper()}.get(subtype, "PNEUMONIA")
        if says != folder.name.upper() and folder.name.upper() in ("NORMAL", "PNEUMONIA"):
            left_out.append(LeftOut(path, f"the folder says {folder.name}, the file name says {subtype}"))
            continue
        rows.append(
            {
                "image_id": path,
                "path": path,
                "label": folder.name,
                "group_id": group,
                "split": split,
                "subtype": subtype,
            }
        )

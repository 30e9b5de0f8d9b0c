"""The manifest: one row an image, whatever the data set looked like on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.grouping import united_groups

REQUIRED = ["image_id", "path", "label", "group_id", "split", "sha256"]


@dataclass(frozen=True)
class LeftOut:
    """A file or row that is not used, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """All usable images of a data set.

    Attributes:
        frame: columns ``image_id`` (unique), ``path`` (relative to the data set's root), ``label`` (one of
            ``classes``), ``group_id`` (patient or lesion, united with duplicates), ``split`` (what the data set itself
            prescribes: ``train``, ``val``, ``test``, or empty), ``sha256`` (of the file), and any subgroup columns.
        classes: class names; their order is the order of the outputs.
        left_out: what was found and is not used.

    Raises:
        DataError: if a column is missing or empty, an id occurs twice, or a label or split is unknown.
    """

    frame: pd.DataFrame
    classes: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = field(default=())

    def __post_init__(self) -> None:
        missing = [name for name in REQUIRED if name not in self.frame.columns]
        if missing:
            raise DataError(f"manifest: missing columns {missing}; it has {list(self.frame.columns)}")
        for name in set(REQUIRED) - {"split"}:
            empty = self.frame[name].isna() | (self.frame[name].astype(str) == "")
            if empty.any():
                raise DataError(
                    f"manifest: {name} is empty in {int(empty.sum())} rows, first row {int(np.argmax(empty))}"
                )
        twice = self.frame["image_id"][self.frame["image_id"].duplicated()]
        if len(twice):
            raise DataError(f"manifest: image_id {twice.iloc[0]!r} occurs more than once ({len(twice)} repeated rows)")
        unknown = sorted(set(self.frame["label"]) - set(self.classes))
        if unknown:
            raise DataError(f"manifest: unknown labels {unknown}; the task's classes are {list(self.classes)}")
        odd = sorted(set(self.frame["split"]) - {"train", "val", "test", ""})
        if odd:
            raise DataError(f"manifest: unknown splits {odd}; allowed are 'train', 'val', 'test' and empty")

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def sha256(self) -> str:
        """Hash over ids, contents, labels, groups and official splits, independent of the order of rows."""
        columns = ["image_id", "sha256", "label", "group_id", "split"]
        lines = sorted(map("\t".join, zip(*(self.frame[name].astype(str).tolist() for name in columns), strict=True)))
        text = "\n".join([*self.classes, *lines])
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """Class number of every row, shape (n,)."""
        number = {name: index for index, name in enumerate(self.classes)}
        return np.asarray(self.frame["label"].map(number), dtype=np.int64)

    @property
    def subgroup_columns(self) -> list[str]:
        """Columns beyond the required ones that describe the patient or image (never an input of the model)."""
        technical = {*REQUIRED, "size", "width", "height", "mode", "age"}
        return [name for name in self.frame.columns if name not in technical]


def build_manifest(
    listing: pd.DataFrame,
    facts: pd.DataFrame,
    classes: tuple[str, ...],
    left_out: list[LeftOut],
    *,
    pairs: list[tuple[str, str]] | None = None,
    conflicts: str = "drop",
    locked: tuple[str, ...] = ("test",),
) -> Manifest:
    """Join what the source says with what the files contain, and take out what would spoil a result.

    Left out, each with its reason: unreadable images; identical files under different labels (as ``conflicts`` says); images
    outside a locked part whose group also has images in it.

    Args:
        listing: rows of a source (``image_id, path, label, group_id, split`` + subgroup columns), labels already classes.
        facts: rows of :func:`datamodules.index.index_files` for the same ids in the same order.
        classes: class names in their fixed order.
        left_out: what the source has already left out.
        pairs: content hashes of images that are nearly identical; their groups are joined.
        conflicts: ``drop`` leaves identical files with different labels out, ``keep`` keeps them, ``error`` stops.
        locked: official parts that a split will keep as they are, the most protected last.

    Raises:
        DataError: if a class has no readable image left, or identical files have different labels and ``conflicts=error``.
    """
    columns = [
        name for name in ("image_id", "sha256", "size", "width", "height", "mode", "patient", "error") if name in facts
    ]
    frame = listing.merge(facts[columns], on="image_id")
    gone = list(left_out)

    def drop(mask: pd.Series, reason: pd.Series | str) -> pd.DataFrame:
        reasons = reason[mask] if isinstance(reason, pd.Series) else [reason] * int(mask.sum())
        gone.extend(LeftOut(path, why) for path, why in zip(frame["path"][mask], reasons, strict=True))
        return frame[~mask].reset_index(drop=True)

    frame = drop(frame["error"] != "", frame["error"].str.replace(r"^[^:]*: ", "unreadable: ", regex=True))
    frame["group_id"] = joined_groups(frame, pairs or [])
    contradictory = contradictions(frame)
    if conflicts == "error" and contradictory.any():
        first = frame["sha256"][contradictory].iloc[0]
        same = " and ".join(f"{row.path} ({row.label})" for row in frame[frame["sha256"] == first].itertuples())
        raise DataError(
            f"{int(contradictory.sum()):,} images are identical to one with another label (data.conflicts=error), "
            f"the first: {same}."
        )
    if conflicts == "drop":
        frame = drop(contradictory, CONTRADICTORY)
    for number, part in enumerate(locked):
        inside = frame["group_id"].isin(set(frame["group_id"][frame["split"] == part]))
        outside = ~frame["split"].isin(locked[number:])
        frame = drop(inside & outside, f"its group also has images in the official {part} part")
    outside = ~frame["split"].isin(locked)
    _require_classes(frame["label"][outside], classes, " in the train part" if locked else "", len(gone))
    for part in locked:
        inside = frame["label"][frame["split"] == part]
        # Of many classes some may be missing in a small test part; their figures are then left empty.
        _require_classes(
            inside, classes if len(classes) == 2 else tuple(inside.unique()), f" in the {part} part", len(gone)
        )
    return Manifest(frame.drop(columns=["error", "patient"], errors="ignore"), classes, tuple(gone))


_MANY = 20  # DICOM files of a data set; fewer may well be of one patient
CONTRADICTORY = "the identical file also exists under another label"


def contradictions(frame: pd.DataFrame) -> pd.Series:
    """Whether each row's content also occurs under another label."""
    distinct = frame[["sha256", "label"]].drop_duplicates()
    several = distinct["sha256"][distinct["sha256"].duplicated()]
    return frame["sha256"].isin(set(several))


def joined_groups(frame: pd.DataFrame, pairs: list[tuple[str, str]]) -> list[str]:
    """The group of each row after joining identical files, near duplicates and patients named in DICOM headers.

    Args:
        frame: ``group_id``, ``sha256`` and, if known, ``patient``.
        pairs: content hashes that belong together.
    """
    keys = [frame["group_id"].tolist(), frame["sha256"].tolist()]
    if "patient" in frame and not one_patient_for_all(frame["patient"]):
        keys.append(frame["patient"].tolist())
    first_row = {content: row for row, content in reversed(list(enumerate(frame["sha256"])))} if pairs else {}
    links = [(first_row[a], first_row[b]) for a, b in pairs if a in first_row and b in first_row]
    return united_groups(*keys, pairs=np.array(links, dtype=np.int64).reshape(-1, 2))


def one_patient_for_all(patients: pd.Series) -> bool:
    """Whether most DICOM files name the same patient: what an anonymiser writes (``ANONYMOUS``), and no key of a group."""
    named = patients[patients != ""]
    return len(named) >= _MANY and int(named.value_counts().iloc[0]) > len(named) / 2


def _require_classes(labels: pd.Series, classes: tuple[str, ...], where: str, gone: int) -> None:
    present = set(labels)
    absent = [name for name in classes if name not in present]
    if absent:
        found = ", ".join(f"{name} {int((labels == name).sum()):,}" for name in classes)
        raise DataError(
            f"no readable image of class {' or '.join(absent)}{where} (images: {found}; {gone:,} files were left out). "
            "Every class is needed there."
        )

"""The manifest: one row an image, whatever the data set looked like on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.errors import DataError

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
            ``classes``), ``group_id`` (patient or lesion, united with exact duplicates), ``split`` (what the data set
            itself prescribes: ``train`` or ``test``), ``sha256`` (of the file), and any subgroup columns.
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
        for name in REQUIRED:
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
        odd = sorted(set(self.frame["split"]) - {"train", "test"})
        if odd:
            raise DataError(f"manifest: unknown splits {odd}; allowed are 'train' and 'test'")

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def sha256(self) -> str:
        """Hash over ids, contents, labels, groups and official splits, independent of the order of rows."""
        columns = ["image_id", "sha256", "label", "group_id", "split"]
        lines = sorted("\t".join(row) for row in self.frame[columns].astype(str).itertuples(index=False, name=None))
        return hashlib.sha256("\n".join([*self.classes, *lines]).encode()).hexdigest()

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """Class number of every row, shape (n,)."""
        number = {name: index for index, name in enumerate(self.classes)}
        return np.array([number[label] for label in self.frame["label"]], dtype=np.int64)

    @property
    def subgroup_columns(self) -> list[str]:
        """Columns beyond the required ones that describe the patient or image (never an input of the model)."""
        technical = {*REQUIRED, "width", "height", "mode"}
        return [name for name in self.frame.columns if name not in technical]


def united_groups(group_ids: list[str], contents: list[str]) -> list[str]:
    """Join groups that share an identical file (union-find); a joined group carries its smallest name.

    Args:
        group_ids: patient or lesion of each image.
        contents: content hash of each image.

    Returns:
        The group of each image after joining.
    """
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    first_group: dict[str, str] = {}
    for group, content in zip(group_ids, contents, strict=True):
        other = root(first_group.setdefault(content, group))
        mine = root(group)
        if mine != other:
            parent[max(mine, other)] = min(mine, other)
    return [root(group) for group in group_ids]


def build_manifest(
    listing: pd.DataFrame, facts: pd.DataFrame, classes: tuple[str, ...], left_out: list[LeftOut]
) -> Manifest:
    """Join what the source says with what the files contain, and take out what would spoil a result.

    Left out, each with its reason: unreadable images; identical files under different labels; training images whose
    group also has images in the official test part.

    Args:
        listing: rows of a source (``image_id, path, label, group_id, split`` + subgroup columns).
        facts: rows of :func:`datamodules.index.index_files` for the same ids in the same order.
        classes: class names in their fixed order.
        left_out: what the source has already left out.

    Raises:
        DataError: if a class has no readable image in the training or test part.
    """
    frame = listing.merge(facts[["image_id", "sha256", "width", "height", "mode", "error"]], on="image_id")
    gone = list(left_out)

    def drop(mask: pd.Series, reason: pd.Series | str) -> pd.DataFrame:
        reasons = reason[mask] if isinstance(reason, pd.Series) else [reason] * int(mask.sum())
        gone.extend(LeftOut(path, why) for path, why in zip(frame["path"][mask], reasons, strict=True))
        return frame[~mask].reset_index(drop=True)

    frame = drop(frame["error"] != "", frame["error"].str.replace(r"^[^:]*: ", "unreadable: ", regex=True))
    labels_of_content = frame.groupby("sha256")["label"].transform("nunique")
    frame = drop(labels_of_content > 1, "the identical file also exists under another label")
    frame["group_id"] = united_groups(frame["group_id"].tolist(), frame["sha256"].tolist())
    in_test = frame["group_id"].isin(set(frame["group_id"][frame["split"] == "test"]))
    frame = drop((frame["split"] == "train") & in_test, "its group also has images in the official test part")
    for part in ("train", "test"):
        for name in classes:
            if not ((frame["split"] == part) & (frame["label"] == name)).any():
                raise DataError(
                    f"no readable image of class {name} in the {part} part; {len(gone)} files were left out"
                )
    return Manifest(frame.drop(columns="error"), classes, tuple(gone))

"""Splits on disk: written once, obeyed afterwards, refused when the data have changed; and splits that a user brings."""

from __future__ import annotations

import json
import os
from collections.abc import Set
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.errors import DataChangedError, DataError
from datamodules.index import save_csv
from datamodules.listing import read_table
from datamodules.manifest import Manifest
from datamodules.splits import COLUMNS, PARTS, SplitPlan, Splits, assigned_rows, make_splits


def write_splits(splits: Splits, path: Path) -> None:
    """Write the split as CSV with a JSON beside it that holds the manifest's hash and the settings."""
    record = {"manifest_sha256": splits.manifest_sha256, "split_sha256": splits.sha256, **splits.settings}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".json.{os.getpid()}")
    beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, path.with_suffix(".json"))
    save_csv(splits.frame, path)  # last: a split exists when its CSV does


def read_splits(path: Path, manifest: Manifest) -> Splits:
    """Load a stored split and check it against the images that are there now.

    Returns:
        The split, its rows in the manifest's order.

    Raises:
        DataChangedError: if the images, labels or groups are not those that were split; says what changed.
        LeakError, DataError: if the file was edited into something impossible.
    """
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: the stored split cannot be read ({error}). Move it away to make a new one."
        ) from error
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise DataError(f"{path}: missing columns {missing}. Move the file away to make a new split.")
    if record.get("manifest_sha256") != manifest.sha256:
        raise DataChangedError(_what_changed(path, frame, manifest))
    by_id = frame.set_index("image_id")
    if set(by_id.index) != set(manifest.frame["image_id"]) or len(frame) != len(manifest):
        raise DataError(
            f"{path}: lists {len(frame)} images, the data set has {len(manifest)}. Move the file away to remake it."
        )
    # Labels and groups always come from the manifest: an edited file can only move images between parts.
    settings = {name: value for name, value in record.items() if not name.endswith("sha256")}
    part = by_id.loc[manifest.frame["image_id"], "split"].to_numpy(dtype=object)
    if settings.get("kind") in ("official", "predefined"):
        _require_locked(path, part, manifest)
    current = assigned_rows(manifest.frame, part, str(settings.get("grouping")))
    splits = Splits(current, manifest.sha256, settings)
    if splits.sha256 != record.get("split_sha256"):
        settings = {**settings, "method": "edited by hand; it was made as: " + str(settings.get("method"))}
        splits = Splits(current, manifest.sha256, settings)
    _require_classes(path, current, manifest.classes, set(settings.get("rare", [])))
    return splits


def own_splits(manifest: Manifest, path: Path, pool: str) -> Splits:
    """A split that the user brings, checked like any other.

    Args:
        manifest: all usable images.
        path: CSV with the columns ``image_id`` and ``split`` (train, val, test or unused); images that it does not list are
            unused.
        pool: ``train`` refuses images of the official test part outside test; ``all`` allows it.

    Raises:
        LeakError: if a group lies in two parts. DataError: if the file cannot be used; says why.
    """
    rows = read_table(path)
    if not {"image_id", "split"} <= set(rows.columns):
        raise DataError(
            f"split.file={path}: needs the columns image_id and split; it has {', '.join(map(str, rows.columns))}."
        )
    words = rows["split"].str.strip().str.lower().replace({"valid": "val", "validation": "val", "": "unused"})
    if not words.isin(PARTS).all():
        line = int(np.argmin(words.isin(PARTS)))
        raise DataError(
            f"split.file={path}: split is '{words[line]}' in line {line + 2}; allowed are {', '.join(PARTS)}."
        )
    given = pd.Series(words.to_numpy(), index=rows["image_id"])
    if given.index.duplicated().any():
        raise DataError(f"split.file={path}: image {given.index[given.index.duplicated()][0]} is listed twice.")
    usable = set(manifest.frame["image_id"])
    left_out = {Path(item.path).stem for item in manifest.left_out} | {item.path for item in manifest.left_out}
    strange = [name for name in given.index if name not in usable and name not in left_out]
    if strange:
        example = manifest.frame["image_id"].iloc[0]
        raise DataError(
            f"split.file={path}: {len(strange):,} images are not in the data set, the first is {strange[0]}. "
            f"Ids look like {example}."
        )
    part = given.reindex(manifest.frame["image_id"]).fillna("unused").to_numpy(dtype=object)
    moved = (manifest.frame["split"] == "test").to_numpy() & np.isin(part, ["train", "val"])
    if pool == "train" and moved.any():
        raise DataError(
            f"split.file={path}: {int(moved.sum()):,} images of the official test part are trained on. "
            "If you mean it: split.pool=all"
        )
    settings = {"method": f"your own split, {path.name}", "kind": "file", "file": str(path), "grouping": "group"}
    assigned = assigned_rows(manifest.frame, part, "group")
    _require_classes(path, assigned, manifest.classes)
    return Splits(assigned, manifest.sha256, settings)


def _require_locked(path: Path, part: NDArray[np.object_], manifest: Manifest) -> None:
    official = manifest.frame["split"].to_numpy() == "test"
    if ((part == "test") != official).any():
        raise DataError(f"{path}: the official test part is locked, but the file moves images into or out of it.")


def _require_classes(path: Path, current: pd.DataFrame, classes: tuple[str, ...], rare: Set[str] = frozenset()) -> None:
    """Every class is trained on, and all but the rare ones are validated; a test part may lack one of many."""
    for part in ("train", "val", "test"):
        absent = set(classes) - set(current["label"][current["split"] == part])
        absent -= rare if part != "train" else set()
        if part == "test" and len(classes) > 2 and len(classes) - len(absent) >= 2:
            continue
        if absent:
            names = " and ".join(sorted(absent))
            raise DataError(f"{path}: the {part} part has no image of class {names}. Every class is needed there.")


def obtain_splits(manifest: Manifest, folder: Path, plan: SplitPlan, *, refresh: bool = False) -> Splits:
    """The stored split of this plan; made and written first where there is none, or where ``refresh`` asks.

    Raises:
        DataChangedError: if a stored split was made for other images and ``refresh`` is False.
    """
    plan = plan.resolved(manifest.frame["split"])
    path = folder / plan.name
    if path.is_file() and not refresh:
        return read_splits(path, manifest)
    splits = make_splits(manifest, plan)
    if path.is_file():
        _keep_old(path)
    write_splits(splits, path)
    return splits


def _keep_old(path: Path) -> None:
    number = 1
    while (kept := path.with_name(f"{path.stem}.old{number}.csv")).exists():
        number += 1
    os.replace(path, kept)
    if path.with_suffix(".json").is_file():
        os.replace(path.with_suffix(".json"), kept.with_suffix(".json"))


def _what_changed(path: Path, stored: pd.DataFrame, manifest: Manifest) -> str:
    old = stored.set_index("image_id")
    new = manifest.frame.set_index("image_id")
    added, removed = sorted(set(new.index) - set(old.index)), sorted(set(old.index) - set(new.index))
    both = new.index.intersection(old.index).tolist()
    before, now = old.loc[both], new.loc[both]

    def differing(column: str) -> list[str]:
        return [
            name for name, other in zip(both, before[column].to_numpy() != now[column].to_numpy(), strict=True) if other
        ]

    parts = [
        f"{len(ids)} {word} (for example {ids[0]})"
        for word, ids in (
            ("added", added),
            ("removed", removed),
            ("with other content", differing("sha256")),
            ("with another label", differing("label")),
            ("with another group", differing("group_id")),
        )
        if ids
    ]
    now_left_out = {item.path: item.reason for item in manifest.left_out}
    reasons = "".join(f"\nNow left out: {name} ({now_left_out[name]})." for name in removed[:3] if name in now_left_out)
    return (
        f"the data set has changed since its split was made: {', '.join(parts) or 'official split or class order'}.{reasons}\n"
        f"The stored split is {path}.\n"
        "Results on the old and the new images cannot be compared. Either restore the data, or make a new split with\n"
        "split.refresh=true (the old one is kept beside it)."
    )

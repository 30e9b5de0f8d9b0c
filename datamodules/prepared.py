"""Everything between a folder of images and training: index, duplicates, manifest, split, audit, cache of one data set."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.audit import audit_dataset
from datamodules.cache_dataset import LargerImages, dataset_pixels
from datamodules.cache_use import alone
from datamodules.errors import DataError
from datamodules.fingerprints import small_images
from datamodules.index import index_files, save_csv
from datamodules.labels import apply_policy, ask_for_classes
from datamodules.listing import Listing
from datamodules.manifest import LeftOut, Manifest, build_manifest, joined_groups, one_patient_for_all
from datamodules.near_duplicates import near_duplicates
from datamodules.phantom_sources import phantom_columns, phantom_root
from datamodules.progress import Progress, silent
from datamodules.sources import list_images
from datamodules.split_files import obtain_splits, own_splits
from datamodules.splits import SplitPlan, Splits, leak_of

_PAIRS_VERSION, _AUDIT_VERSION = 1, 4  # raised when the same images would give another result
_FEW = 20  # one bad file among a handful is no sign that a download failed


@dataclass(frozen=True)
class PreparedData:
    """A data set that is ready for training.

    Attributes:
        folder: ``<prepared>/<data set>-<hash of its location>``: what holds for the files, whatever the labels.
        task_folder: below it, one for each way of labelling and grouping: manifest, splits, audit.
        listing: what the reader found; its root is the folder that paths are relative to.
        manifest, splits: see there.
        pixels: decoded images, shape ``(n, size, size, channels)``, uint8: memory-mapped, in memory, or with ``data.cache=off``
            an object that decodes the rows it is asked for.
        audit: what :func:`datamodules.audit.audit_dataset` found.
        copies: every pair of identical or nearly identical files: ``kind``, ``similarity``, ``transform``, and of both files
            path, label and part.
        labels: for each class, how many rows each label of the data set brought.
        leak: for an image-level split, how many test images show a group that was trained on; else None.
        phantom: True for generated images.
        larger: what training crops from where ``data.margin`` is above 1.
    """

    folder: Path
    task_folder: Path
    listing: Listing
    manifest: Manifest
    splits: Splits
    pixels: NDArray[np.uint8]
    audit: dict[str, Any]
    copies: pd.DataFrame
    labels: dict[str, dict[str, int]]
    leak: dict[str, Any] | None
    phantom: bool
    larger: LargerImages | None = None

    @cached_property
    def training_pixels(self) -> NDArray[np.uint8]:
        """What training reads: ``pixels``, or with ``data.margin`` above 1 larger images, for crops that need not enlarge."""
        return self.pixels if self.larger is None else self.larger.opened()

    @property
    def root(self) -> Path:
        """Folder that the image paths of the manifest are relative to."""
        return self.listing.root


def prepare(settings: dict[str, Any], progress: Progress = silent) -> PreparedData:
    """Read, check, split, audit and decode a data set; what was done before is found again and not repeated.

    Args:
        settings: the whole configuration as plain values; used are ``task``, ``table``, ``data``, ``split`` and of ``model``
            the ``image_size`` and ``channels``.
        progress: shows how far each step is.

    Raises:
        DataError: with a message for the user when the data cannot be used.
    """
    task, data = settings["task"], settings["data"]
    home, is_phantom = Path(data["prepared"]), data["source"] == "phantom"
    root = phantom_root(task, data, writable(home), progress) if is_phantom else Path(data["root"])
    columns = phantom_columns() if is_phantom and task["reader"] == "table" else settings["table"]
    listing = list_images(task, columns, root)
    if not is_phantom and home.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"{home}: this folder lies inside the data set, which is only read. Set FIRSTREAD_HOME to a folder outside {root}."
        )
    if not task["classes"]:
        raise ask_for_classes(listing.frame["label"], str(root))
    location = hashlib.sha256(str(listing.root.resolve()).encode()).hexdigest()[:8]
    folder = writable(home / f"{task['dataset']}{'-phantom' if is_phantom else ''}-{location}")
    with alone(folder / "prepare.lock", "is preparing this data set"):  # and then everything is found done
        return _prepared_in(folder, listing, settings, progress, is_phantom)


def _prepared_in(
    folder: Path, listing: Listing, settings: dict[str, Any], progress: Progress, is_phantom: bool
) -> PreparedData:
    task, data, split = (settings[name] for name in ("task", "data", "split"))
    classes = tuple(task["classes"])
    policy = task["policies"].get(task["labels"], {"classes": {name: [name] for name in classes}, "column": "label"})
    frame, no_class, labels = apply_policy(listing.frame, policy["classes"], policy["column"], str(listing.root))
    facts = _facts(folder, listing.root, frame, data, progress)
    listed = frame.merge(facts, on="image_id")
    listed["split"] = listed["split"].fillna("")
    small, pairs = _duplicates(folder, listing.root, listed, data, progress)
    if one_patient_for_all(listed["patient"]):
        note = "Most DICOM files name the same patient, as anonymised files do; the name was not used to group them."
        listing = replace(listing, about=replace(listing.about, notes=(*listing.about.notes, note)))
    plan = _plan(settings).resolved(listed["split"][listed["error"] == ""])
    manifest = build_manifest(
        frame,
        facts,
        classes,
        [*listing.left_out, *no_class],
        pairs=_contents(listed, pairs),
        conflicts=data["conflicts"],
        locked=plan.locked if plan.grouping == "group" else (),
    )
    own, task_folder = split["file"], writable(folder / "tasks" / _view(task, settings["table"], data, policy))
    splits = (
        own_splits(manifest, Path(own), plan.pool)
        if own is not None
        else obtain_splits(manifest, task_folder / "splits", plan, refresh=split["refresh"])
    )
    save_csv(manifest.frame, task_folder / "manifest.csv")
    everything = with_parts(listed, pairs, manifest, splits)
    audit = _audit(task_folder, everything, small, pairs, manifest, splits, task["group_name"])
    pixels, larger = dataset_pixels(folder / "cache", listing.root, manifest, settings, progress)
    leak = leak_of(manifest, splits, task["group_name"])
    return PreparedData(
        folder,
        task_folder,
        listing,
        manifest,
        splits,
        pixels,
        audit,
        copies_of(everything, pairs),
        labels,
        leak,
        is_phantom,
        larger,
    )


def _view(task: dict[str, Any], table: dict[str, Any], data: dict[str, Any], policy: dict[str, Any]) -> str:
    """Name of a way of labelling and grouping the files: readable, and unique for the settings that decide it."""
    columns = dict(table) if task["reader"] == "table" else {}
    groups = [task["group_pattern"], task["group_table"], data["near_duplicates"]]
    decides = [policy["classes"], policy["column"], data["conflicts"], groups, columns]
    digest = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:8]
    return f"{task['labels'] or 'classes'}-{digest}"


def _plan(settings: dict[str, Any]) -> SplitPlan:
    split, data = settings["split"], settings["data"]
    names = ("kind", "pool", "test_fraction", "val_fraction", "folds", "fold", "grouping", "rare_classes", "seed")
    plan = SplitPlan(
        **{name: split[name] for name in names},
        per_class=data["per_class"],
        fraction=data["fraction"],
        group_name=settings["task"]["group_name"],
    )
    return replace(plan, kind="random") if split["file"] is not None else plan


def _facts(folder: Path, root: Path, frame: pd.DataFrame, data: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """What is in the files; too many bad ones mean that something is wrong with the whole."""
    with progress("reading files", len(frame)) as advance:
        facts = index_files(root, frame["path"].tolist(), folder / "index.csv", advance)
    facts = facts.assign(image_id=frame["image_id"].to_numpy())
    bad = facts[facts["error"] != ""]
    shown = "\n".join(f"  {error}" for error in bad["error"].head(10))
    if len(bad) and data["on_bad_image"] == "error":
        raise DataError(f"{len(bad):,} unreadable images (data.on_bad_image=error):\n{shown}")
    if len(bad) > data["max_bad"] * len(facts) and len(facts) > _FEW:
        raise DataError(
            f"{len(bad):,} of {len(facts):,} images are unreadable, more than data.max_bad={data['max_bad']:g} allows:\n{shown}\n"
            "The download may be incomplete. Fetch it again, or raise data.max_bad to go on without them."
        )
    return facts


def _duplicates(
    folder: Path, root: Path, listed: pd.DataFrame, data: dict[str, Any], progress: Progress
) -> tuple[NDArray[np.uint8], pd.DataFrame]:
    """A small picture of every distinct content, and the pairs of them that are nearly identical; both remembered."""
    distinct = listed[listed["error"] == ""].drop_duplicates("sha256")
    with progress("small pictures", len(distinct)) as advance:
        small = small_images(
            [root / path for path in distinct["path"]], distinct["sha256"].tolist(), folder / "small", advance
        )
    digest = hashlib.sha256("\n".join(distinct["sha256"]).encode()).hexdigest()[:16]
    memory = folder / f"near-duplicates-v{_PAIRS_VERSION}-{digest}.csv"
    if not data["near_duplicates"]:
        return small, near_duplicates(small[:0])
    try:
        return small, pd.read_csv(memory)
    except (OSError, ValueError):  # not there yet, or damaged
        with progress("comparing images", len(small)) as advance:
            save_csv(near_duplicates(small, on_image=advance), memory)
    return small, pd.read_csv(memory)


def _contents(listed: pd.DataFrame, pairs: pd.DataFrame) -> list[tuple[str, str]]:
    contents = listed.loc[listed["error"] == "", "sha256"].drop_duplicates().to_numpy()
    return [(str(contents[a]), str(contents[b])) for a, b in zip(pairs["first"], pairs["second"], strict=True)]


def _audit(
    folder: Path,
    everything: pd.DataFrame,
    small: NDArray[np.uint8],
    pairs: pd.DataFrame,
    manifest: Manifest,
    splits: Splits,
    group_name: str,
) -> dict[str, Any]:
    """The audit of this data set and split, computed once."""
    described = manifest.frame[["image_id", *manifest.subgroup_columns]].astype(str)
    facts = int(pd.util.hash_pandas_object(described, index=False).sum())
    key = f"{manifest.sha256} {splits.sha256} {len(manifest.left_out)} {len(pairs)} {facts}"
    path = folder / "audit" / f"audit-v{_AUDIT_VERSION}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # not there yet, or damaged
        pass
    audit = audit_dataset(
        everything,
        small,
        pairs,
        classes=manifest.classes,
        group_name=group_name,
        subgroup_columns=[name for name in manifest.subgroup_columns if name != "subtype"],  # a finer label
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(audit, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(beside, path)
    return audit


def with_parts(listed: pd.DataFrame, pairs: pd.DataFrame, manifest: Manifest, splits: Splits) -> pd.DataFrame:
    """Every listed file, used or not, with the part that it ended in; what the audit works on."""
    readable = listed["error"] == ""
    joined = pd.Series(listed["group_id"], copy=True)
    joined[readable] = joined_groups(listed[readable], _contents(listed, pairs))
    part = pd.Series(splits.frame["split"].to_numpy(), index=manifest.frame["image_id"])
    reason = {item.path: item.reason for item in manifest.left_out}
    return listed.rename(columns={"split": "official", "size": "bytes"}).assign(
        joined_group=joined,
        part=listed["image_id"].map(part).fillna("left out"),
        reason=[reason.get(path, "") for path in listed["path"]],
    )


def copies_of(everything: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """All pairs of copies: each further file of a content with the first, and nearly identical contents by their first."""
    readable = everything[everything["error"] == ""]
    first = readable.drop_duplicates("sha256")
    again = readable[readable["sha256"].duplicated()]
    alike = first.set_index("sha256").loc[again["sha256"]]
    rows = [
        _side_by_side(alike, again, ["identical"] * len(again), [1.0] * len(again), ["identity"] * len(again)),
        _side_by_side(
            first.iloc[pairs["first"]],
            first.iloc[pairs["second"]],
            ["nearly identical"] * len(pairs),
            pairs["similarity"].tolist(),
            pairs["transform"].tolist(),
        ),
    ]
    return pd.concat(rows, ignore_index=True)


def _side_by_side(
    left: pd.DataFrame, right: pd.DataFrame, kind: list[str], similarity: list[float], transform: list[str]
) -> pd.DataFrame:
    columns: dict[str, Any] = {"kind": kind, "similarity": similarity, "transform": transform}
    for name in ("path", "label", "part"):
        columns |= {f"first_{name}": left[name].tolist(), f"second_{name}": right[name].tolist()}
    return pd.DataFrame(columns)


def reasons(left_out: tuple[LeftOut, ...]) -> dict[str, int]:
    """How many files were left out for each kind of reason, most frequent first."""
    shortened = (re.sub(r"'[^']*'", "...", item.reason) for item in left_out)
    kinds = pd.Series([reason.split(" (")[0].split(";")[0].split(":")[0] for reason in shortened], dtype=object)
    return {str(kind): int(count) for kind, count in kinds.value_counts().items()}


def writable(folder: Path) -> Path:
    """The folder, created where needed.

    Raises:
        DataError: if it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot create {folder} ({error.strerror}). Set FIRSTREAD_HOME to a folder you may write to."
        ) from error
    if not os.access(folder, os.W_OK):
        raise DataError(f"cannot write to {folder}. Set FIRSTREAD_HOME to a folder you may write to.")
    return folder

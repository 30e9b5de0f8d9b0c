"""Splits that cannot leak: grouped, stratified, made once, written down and obeyed afterwards."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from datamodules.errors import DataChangedError, DataError, LeakError
from datamodules.index import save_csv
from datamodules.manifest import Manifest

PARTS = ("train", "val", "test", "unused")
COLUMNS = ["image_id", "group_id", "label", "split", "sha256"]


@dataclass(frozen=True)
class Splits:
    """Which image belongs to which part. An object of this class with a group on two sides cannot exist.

    Attributes:
        frame: columns ``COLUMNS``; ``split`` is one of ``train``, ``val``, ``test``, ``unused``.
        manifest_sha256: hash of the manifest that was split.
        settings: how it was made (method, val_fraction, seed, per_class).

    Raises:
        LeakError: if any group lies in more than one part; the message names up to five of them.
        DataError: if columns, parts or ids are wrong.
    """

    frame: pd.DataFrame
    manifest_sha256: str
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        missing = [name for name in COLUMNS if name not in self.frame.columns]
        if missing:
            raise DataError(f"splits: missing columns {missing}")
        odd = sorted(set(self.frame["split"]) - set(PARTS))
        if odd:
            raise DataError(f"splits: unknown parts {odd}; allowed are {list(PARTS)}")
        if self.frame["image_id"].duplicated().any():
            first = self.frame["image_id"][self.frame["image_id"].duplicated()].iloc[0]
            raise DataError(f"splits: image {first!r} is listed more than once")
        parts = self.frame.groupby("group_id")["split"].agg(lambda column: sorted(set(column)))
        leaking = parts[parts.map(len) > 1]
        if len(leaking):
            shown = "; ".join(f"{group} in {' and '.join(where)}" for group, where in leaking.head(5).items())
            raise LeakError(f"{len(leaking)} groups lie in more than one split: {shown}")

    @property
    def sha256(self) -> str:
        """Hash over image ids and their parts, independent of the order of rows."""
        pairs = sorted("\t".join(pair) for pair in self.frame[["image_id", "split"]].itertuples(index=False, name=None))
        return hashlib.sha256("\n".join(pairs).encode()).hexdigest()

    def rows(self, part: str) -> NDArray[np.int64]:
        """Row numbers of one part, ascending, in the order of the manifest that this object was made for."""
        return np.flatnonzero(self.frame["split"].to_numpy() == part).astype(np.int64)


def make_splits(manifest: Manifest, *, val_fraction: float, seed: int, per_class: int | None = None) -> Splits:
    """Keep the official test part, cut validation from train by group, and take a training subset if asked for.

    Args:
        manifest: all usable images.
        val_fraction: share of the training images that validation gets, approximately (whole groups move).
        seed: of the shuffling; 0 is a seed like any other.
        per_class: train on this many images of each class; validation and test stay whole, the rest is ``unused``.

    Raises:
        DataError: if a class has too few groups to be in train and validation, or too few images for ``per_class``.
    """
    frame = manifest.frame
    part = frame["split"].to_numpy(dtype=object).copy()
    pool = np.flatnonzero(part == "train")
    part[pool[_validation(frame.iloc[pool], val_fraction, seed)]] = "val"
    if per_class is not None:
        _keep_per_class(frame, part, manifest.classes, per_class, seed)
    settings = {
        "method": "official test; validation cut from train by group, stratified",
        "val_fraction": val_fraction,
        "seed": seed,
        "per_class": per_class,
    }
    assigned = frame[["image_id", "group_id", "label", "sha256"]].assign(split=part)
    return Splits(assigned[COLUMNS], manifest.sha256, settings)


def _validation(pool: pd.DataFrame, fraction: float, seed: int) -> NDArray[np.int64]:
    groups_per_class = pool.groupby("label")["group_id"].nunique()
    share = Fraction(fraction).limit_denominator(20)
    share = share if share > 0 else Fraction(1, 20)
    folds = share.denominator
    if groups_per_class.min() < folds:
        scarce = groups_per_class.idxmin()
        raise DataError(
            f"class {scarce} has only {groups_per_class.min()} groups in train; split.val_fraction={fraction} needs at least "
            f"{folds}. Use a larger fraction or more images."
        )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    # The finest known label keeps sub-types balanced as well.
    strata = pool["label"] if "subtype" not in pool else pool["label"] + "/" + pool["subtype"]
    strata = strata.where(strata.map(strata.value_counts()) >= folds, pool["label"])
    parts = [held for _, held in splitter.split(np.zeros(len(pool)), strata, pool["group_id"])]
    return np.sort(np.concatenate(parts[: share.numerator])).astype(np.int64)


def _keep_per_class(
    frame: pd.DataFrame, part: NDArray[np.object_], classes: tuple[str, ...], per_class: int, seed: int
) -> None:
    """Mark all but ``per_class`` training images of each class as unused, moving whole groups, in place."""
    generator = np.random.default_rng([seed, per_class])
    for name in classes:
        rows = np.flatnonzero((part == "train") & (frame["label"].to_numpy() == name))
        if len(rows) < per_class:
            raise DataError(f"data.per_class={per_class}: class {name} has only {len(rows)} training images.")
        members: dict[str, list[int]] = {}
        for row in rows:
            members.setdefault(frame["group_id"].iloc[row], []).append(int(row))
        order = generator.permutation(np.array(sorted(members), dtype=object))
        taken = 0
        for group in order:
            # Groups that would overshoot are passed over, so that single-image groups fill up to the exact number.
            if taken + len(members[group]) <= per_class:
                taken += len(members[group])
            else:
                part[members[group]] = "unused"
        if taken == 0:
            smallest = min(len(rows) for rows in members.values())
            raise DataError(
                f"data.per_class={per_class}: the smallest group of class {name} has {smallest} training images, and groups "
                f"stay whole. Use data.per_class={smallest} or more."
            )


def split_name(val_fraction: float, seed: int, per_class: int | None) -> str:
    """File name of a stored split, readable and unique for its settings."""
    subset = f"-perclass{per_class}" if per_class is not None else ""
    return f"val{val_fraction:g}-seed{seed}{subset}.csv"


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
    current = manifest.frame[["image_id", "group_id", "label", "sha256"]].copy()
    current["split"] = by_id.loc[current["image_id"], "split"].to_numpy()
    settings = {name: value for name, value in record.items() if not name.endswith("sha256")}
    official = manifest.frame["split"].to_numpy() == "test"
    if ((current["split"] == "test").to_numpy() != official).any():
        raise DataError(f"{path}: the official test part is locked, but the file moves images into or out of it.")
    splits = Splits(current[COLUMNS], manifest.sha256, settings)
    if splits.sha256 != record.get("split_sha256"):
        settings = {**settings, "method": "edited by hand; it was made as: " + str(settings.get("method"))}
        splits = Splits(current[COLUMNS], manifest.sha256, settings)
    for part in ("train", "val"):
        absent = sorted(set(manifest.classes) - set(current["label"][current["split"] == part]))
        if absent:
            raise DataError(
                f"{path}: the {part} part has no image of class {' and '.join(absent)}. Edit the file again."
            )
    return splits


def obtain_splits(
    manifest: Manifest, folder: Path, *, val_fraction: float, seed: int, per_class: int | None, refresh: bool = False
) -> Splits:
    """The stored split of these settings; made and written first where there is none, or where ``refresh`` asks.

    Raises:
        DataChangedError: if a stored split was made for other images and ``refresh`` is False.
    """
    path = folder / split_name(val_fraction, seed, per_class)
    if path.is_file() and not refresh:
        return read_splits(path, manifest)
    splits = make_splits(manifest, val_fraction=val_fraction, seed=seed, per_class=per_class)
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
    both = [image_id for image_id in new.index if image_id in old.index]
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

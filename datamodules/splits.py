"""Splits that cannot leak: grouped, stratified, made once, written down and obeyed afterwards."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.errors import DataError, LeakError
from datamodules.folds import finest_strata, grouped_folds, scarce_classes, too_few_groups
from datamodules.manifest import Manifest

PARTS = ("train", "val", "test", "unused")
COLUMNS = ["image_id", "group_id", "label", "split", "sha256"]


@dataclass(frozen=True)
class Splits:
    """Which image belongs to which part. An object of this class with a group on two sides cannot exist.

    Attributes:
        frame: columns ``COLUMNS``; ``split`` is one of ``train``, ``val``, ``test``, ``unused``. ``group_id`` is the unit that
            was moved: the patient or lesion, or the image itself where ``settings["grouping"]`` is ``none``.
        manifest_sha256: hash of the manifest that was split.
        settings: how it was made: a sentence (``method``) and the fields of :class:`SplitPlan`.

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
        # An image that no part uses cannot leak, whatever its group does.
        where = self.frame.loc[self.frame["split"] != "unused", ["group_id", "split"]].drop_duplicates()
        leaking = where[where["group_id"].duplicated(keep=False)].sort_values(["group_id", "split"])
        if len(leaking):
            parts = leaking.groupby("group_id")["split"].agg(" and ".join)
            shown = "; ".join(f"{group} in {names}" for group, names in parts.head(5).items())
            raise LeakError(f"{len(parts)} groups lie in more than one split: {shown}")

    @property
    def sha256(self) -> str:
        """Hash over image ids and their parts, independent of the order of rows."""
        pairs = sorted(map("\t".join, zip(self.frame["image_id"], self.frame["split"], strict=True)))
        return hashlib.sha256("\n".join(pairs).encode(errors="surrogateescape")).hexdigest()

    def rows(self, part: str) -> NDArray[np.int64]:
        """Row numbers of one part, ascending, in the order of the manifest that this object was made for."""
        return np.flatnonzero(self.frame["split"].to_numpy() == part).astype(np.int64)


@dataclass(frozen=True)
class SplitPlan:
    """How to split.

    Attributes:
        kind: ``auto``, ``official`` (the data set's test part stays, validation is cut from the rest), ``predefined`` (all
            parts stay), ``random``, ``kfold``.
        pool: what ``random`` and ``kfold`` split: ``train`` leaves the official test part unused, ``all`` takes everything.
        test_fraction, val_fraction: approximate shares, because whole groups move; validation is a share of what is not test.
        folds, fold: of ``kfold``.
        grouping: ``group``, or ``none`` to split image by image.
        seed: of the shuffling.
        per_class, fraction: train on a subset: images of each class, or a share of the groups of each class.
        rare_classes: a class with too few groups to be cut is an ``error``, or stays whole in ``train``.
        group_name: for messages.
    """

    kind: str = "auto"
    pool: str = "train"
    test_fraction: float = 0.2
    val_fraction: float = 0.1
    folds: int = 5
    fold: int = 0
    grouping: str = "group"
    seed: int = 0
    per_class: int | None = None
    fraction: float | None = None
    rare_classes: str = "error"
    group_name: str = "group"

    def resolved(self, official: pd.Series) -> SplitPlan:
        """This plan with ``auto`` replaced by what the parts of the data set allow.

        Args:
            official: the part of each image that the data set prescribes, or empty.

        Raises:
            DataError: if the parts that the kind needs are not there.
        """
        there = set(official) - {""}
        kind = self.kind
        if kind == "auto" and there == {"train", "val"}:
            raise DataError(
                "the data set has a training and a validation part, but no test part. Use split.kind=random, which pools both "
                "and cuts all three parts, or name the part that is to be kept for the end test."
            )
        if kind == "auto":
            kind = "predefined" if there == {"train", "val", "test"} else "official" if "test" in there else "random"
        needed = {"official": {"test"}, "predefined": {"train", "val", "test"}}.get(kind, set())
        if needed - there:
            has = f"only {' and '.join(sorted(there))}" if there else "no parts of its own"
            raise DataError(f"split.kind={kind}: the data set has {has}. Use split.kind=random or split.kind=kfold.")
        return replace(self, kind=kind)

    @property
    def locked(self) -> tuple[str, ...]:
        """Parts of the data set that stay as they are; the test part is the most protected."""
        return {"official": ("test",), "predefined": ("val", "test")}.get(self.kind, ())

    @property
    def method(self) -> str:
        """The plan as a sentence."""
        unit = "image (LEAKY)" if self.grouping == "none" else self.group_name
        cut = f"validation cut from train by {unit}, stratified"
        return {
            "official": f"official test; {cut}",
            "predefined": "training, validation and test as the data set has them",
            "random": f"test and validation cut by {unit}, stratified",
            "kfold": f"fold {self.fold} of {self.folds} is the test part, cut by {unit}, stratified; {cut}",
        }[self.kind]

    @property
    def name(self) -> str:
        """File name of the stored split: readable, and unique for its settings."""
        words = [self.kind, f"seed{self.seed}"]
        if self.kind == "kfold":
            words.insert(1, f"{self.fold}of{self.folds}")
        if self.grouping == "none":
            words.append("LEAKY")
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]
        return "-".join([*words, digest]) + ".csv"


def make_splits(manifest: Manifest, plan: SplitPlan) -> Splits:
    """Assign every image to a part.

    Args:
        manifest: all usable images.
        plan: how.

    Raises:
        DataError: if a class has too few groups for the plan, or too few images for its subset.
    """
    frame, plan = manifest.frame, plan.resolved(manifest.frame["split"])
    rare: set[str] = set()
    units = frame["image_id"] if plan.grouping == "none" else frame["group_id"]
    part = _parts(frame, units, plan, rare)
    if plan.kind != "predefined":
        share = _share(plan.val_fraction)
        fold = _folds(frame, units, part == "train", share.denominator, "split.val_fraction", plan, rare)
        part[(fold >= 0) & (fold < share.numerator)] = "val"
    if plan.per_class is not None:
        _keep_per_class(frame, part, manifest.classes, plan.per_class, plan.seed)
    if plan.fraction is not None and plan.fraction < 1.0:
        _keep_fraction(frame, units, part, plan)
    return Splits(
        assigned_rows(frame, part, plan.grouping),
        manifest.sha256,
        {"method": plan.method, **asdict(plan), "rare": sorted(rare)},
    )


def _share(fraction: float) -> Fraction:
    """The nearest fraction with a denominator of at most 20: the number of folds, and how many of them are held out."""
    share = Fraction(fraction).limit_denominator(20)
    return share if share > 0 else Fraction(1, 20)


def _folds(
    frame: pd.DataFrame,
    units: pd.Series,
    inside: NDArray[np.bool_],
    count: int,
    key: str,
    plan: SplitPlan,
    rare: set[str],
) -> NDArray[np.int64]:
    """Number of the fold of every row inside; -1 outside, and for groups of classes too rare to be split (added to ``rare``)."""
    rows = np.flatnonzero(inside)
    asked = getattr(plan, key.removeprefix("split."))
    # Groups of a rare class may hold images of another one, which then has fewer groups left, and so on.
    while scarce := scarce_classes(frame["label"].iloc[rows], units.iloc[rows], count):
        left = frame["label"].iloc[rows].nunique() - len(scarce)
        if plan.rare_classes == "error" or left < 2:
            raise too_few_groups(scarce, key, asked, count, plan.group_name, hopeless=left < 2)
        rare |= set(scarce)
        kept = set(units.iloc[rows][frame["label"].iloc[rows].isin(scarce).to_numpy()])
        rows = rows[~units.iloc[rows].isin(kept).to_numpy()]
    fold = np.full(len(frame), -1, dtype=np.int64)
    fold[rows] = grouped_folds(finest_strata(frame.iloc[rows], count), units.iloc[rows], count, plan.seed)
    return fold


def _parts(frame: pd.DataFrame, units: pd.Series, plan: SplitPlan, rare: set[str]) -> NDArray[np.object_]:
    """``test``, ``unused`` or ``train`` for every row; validation is still part of train unless it is predefined."""
    official = frame["split"].to_numpy(dtype=object)
    if plan.kind in ("official", "predefined"):
        return np.where(np.isin(official, plan.locked), official, "train").astype(object)
    outside = (official == "test") & (plan.pool == "train")
    part = np.where(outside, "unused", "train").astype(object)
    if plan.kind == "kfold":
        test = _folds(frame, units, ~outside, plan.folds, "split.folds", plan, rare) == plan.fold
    else:
        share = _share(plan.test_fraction)
        fold = _folds(frame, units, ~outside, share.denominator, "split.test_fraction", plan, rare)
        test = (fold >= 0) & (fold < share.numerator)
    part[test] = "test"
    return part


def assigned_rows(frame: pd.DataFrame, part: NDArray[np.object_], grouping: str) -> pd.DataFrame:
    """The rows of :class:`Splits`. An image-level split keeps the true group in a column of its own, where all can see it."""
    assigned = frame[["image_id", "group_id", "label", "sha256"]].assign(split=part)[COLUMNS]
    if grouping == "none":
        assigned = assigned.assign(true_group=assigned["group_id"], group_id=assigned["image_id"])
    return assigned


def leak_of(manifest: Manifest, splits: Splits, group_name: str) -> dict[str, Any] | None:
    """How many test images show a group that was also trained on; None for a grouped split, where there is none."""
    if splits.settings.get("grouping") != "none":
        return None
    groups = manifest.frame["group_id"].to_numpy()
    seen = set(groups[splits.rows("train")])
    test = groups[splits.rows("test")]
    leaking = int(sum(group in seen for group in test))
    share = leaking / len(test) if len(test) else 0.0
    counts = {"test_images": len(test), "test_images_with_group_in_train": leaking, "share": share}
    return {"grouping": "none", "unit": group_name, **counts}


def _keep_fraction(frame: pd.DataFrame, units: pd.Series, part: NDArray[np.object_], plan: SplitPlan) -> None:
    """Mark all but a share of the training groups of each class as unused, in place; at least one group a class stays."""
    generator = np.random.default_rng([plan.seed, 1])
    labels = frame["label"].to_numpy()
    for name in sorted(set(labels[part == "train"])):
        rows = (part == "train") & (labels == name)
        members = generator.permutation(np.array(sorted(set(units[rows])), dtype=object))
        gone = set(members[max(1, round(float(plan.fraction or 1.0) * len(members))) :])
        part[rows & units.isin(gone).to_numpy()] = "unused"


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

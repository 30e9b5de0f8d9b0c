"""Another data set for a finished run: composed, decoded as in training, its classes mapped, without images that were seen."""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.cli import composed
from conf.output import short
from conf.run_settings import plain_settings
from datamodules.card import data_card
from datamodules.prepared import PreparedData, prepare
from datamodules.progress import Progress, silent
from datamodules.sources import list_images
from datamodules.splits import Splits
from evaluation.predictions import PREFIX, Predictions
from workflow.scoring import Scorer
from workflow.seen_images import Seen

DROP = "drop"
SOURCE_CLASS = "class_there"
_UNUSED = ("split.", "data.per_class=", "data.fraction=")
# No split of the other data set is used. This one asks least of it: two halves of halves, rare classes whole.
_ANY_SPLIT = {
    "kind": "random",
    "pool": "all",
    "test_fraction": 0.5,
    "val_fraction": 0.5,
    "grouping": "group",
    "rare_classes": "train",
    "file": None,
    "seed": 0,
    "refresh": False,
}


@dataclass(frozen=True)
class OtherData:
    """A data set, decoded for a scorer.

    Attributes:
        prepared: manifest and pixels; its split is of no matter.
        settings: its task and data settings as plain values.
        rows: of the images that have a class of the run and belong to the part asked for, before seen ones are left out.
        labels: class of the run for each of these rows.
        mapping: for each class of the data set its class of the run, or None where its images are left out.
        dropped: images left out by ``mapping``, by class.
    """

    prepared: PreparedData
    settings: dict[str, Any]
    rows: NDArray[np.int64]
    labels: NDArray[np.object_]
    mapping: dict[str, str | None]
    dropped: dict[str, int]

    @property
    def name(self) -> str:
        """What a report calls it."""
        return self.prepared.listing.about.title.split(",")[0] or str(self.settings["task"]["title"])


def settings_of(overrides: Sequence[str], scorer: Scorer) -> dict[str, Any]:
    """The settings that these overrides give, with the run's way of decoding in place of any other.

    Raises:
        ValueError: no task, a value out of range, or a key that would not be used.
    """
    if not any(text.startswith("task=") for text in overrides):
        raise ValueError("which data set? Name its task and where it lies: task=TASK data.root=FOLDER.")
    for text in overrides:
        if text.startswith(_UNUSED):
            raise ValueError(
                f"{text}: another data set is neither split nor thinned, all its images are tested on. Leave it away; its "
                "official test part alone: part=test."
            )
    settings = plain_settings(composed(list(overrides)))
    settings["model"] |= scorer.decoding
    settings["split"] |= _ANY_SPLIT
    settings["data"] |= {"per_class": None, "fraction": None}
    return settings


def load_other(
    settings: dict[str, Any], scorer: Scorer, mapping: Mapping[str, str], part: str, progress: Progress = silent
) -> OtherData:
    """Prepare the other data set and map its classes.

    Args:
        settings: of :func:`settings_of`; classes that a task of one's own leaves open are taken from the folders.
        mapping: class there -> class of the run, or ``drop``; classes of the same name need none.
        part: ``all``, or ``test``: its official test part.

    Raises:
        ValueError, DataError: a class without counterpart, no such part, or data that cannot be used.
    """
    task = settings["task"]
    if not task["classes"]:
        task["classes"] = _classes_there(settings)
        task["positive"] = task["classes"][:1]  # of no matter: the run says what is positive
    known = classes_in_terms(task["classes"], scorer.classes, mapping)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # of a split that nobody uses
        prepared = prepare(settings, progress)
    frame = prepared.manifest.frame
    chosen = np.ones(len(frame), dtype=bool) if part == "all" else (frame["split"] == "test").to_numpy(dtype=bool)
    if not chosen.any():
        raise ValueError(
            f"part=test: {prepared.listing.about.title} in {prepared.root} has no official test part. Use part=all."
        )
    labels = np.array([known[name] for name in frame["label"]], dtype=object)
    kept = np.array([label is not None for label in labels], dtype=bool)
    counts = frame["label"][chosen & ~kept].value_counts()
    rows = np.flatnonzero(chosen & kept).astype(np.int64)
    dropped = {str(name): int(count) for name, count in counts.items()}
    if not len(rows):
        raise ValueError(
            f"mapping: every image of {prepared.root} is left out. Map at least one class to one of the run."
        )
    return OtherData(prepared, settings, rows, labels[rows], known, dropped)


def _classes_there(settings: dict[str, Any]) -> list[str]:
    """The labels that the data set has, for a task that names no classes."""
    data = settings["data"]
    if data["source"] == "phantom":
        raise ValueError("task.classes is empty: name the classes of the generated images, task.classes=[A,B].")
    return sorted(set(list_images(settings["task"], settings["table"], Path(data["root"])).frame["label"].astype(str)))


def classes_in_terms(theirs: Sequence[str], ours: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str | None]:
    """For each class of another data set the class of the run, or None where its images are to be left out.

    Raises:
        ValueError: a class without counterpart, or a mapping from or to a class that does not exist; names what there is.
    """
    for source, target in mapping.items():
        if source not in theirs:
            raise ValueError(
                f"mapping: the data set has no class '{source}'.{_near(source, theirs)} It has {', '.join(theirs)}."
            )
        if target != DROP and target not in ours:
            raise ValueError(
                f"mapping: {source}:{target}: the run has no class '{target}'.{_near(target, ours)} It has {', '.join(ours)}; "
                f"{DROP} leaves the images out."
            )
    found: dict[str, str | None] = {}
    for name in theirs:
        if name in mapping:
            found[name] = None if mapping[name] == DROP else mapping[name]
        elif name in ours:
            found[name] = name
    lacking = [name for name in theirs if name not in found]
    if lacking:
        example = ",".join(f"{name}:{ours[0] if number == 0 else DROP}" for number, name in enumerate(lacking[:2]))
        raise ValueError(
            f"the run knows the classes {', '.join(ours)}; the other data set also has {', '.join(lacking)}. Say what each of "
            f"them is, or leave its images out:  'mapping={{{example}}}'"
        )
    return found


def _near(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def scored(scorer: Scorer, other: OtherData, seen: Seen, progress: Progress = silent) -> Predictions:
    """Predictions of the images that the run has not seen, labelled in its own classes.

    The class that the data set itself gives stands in the column ``class_there``, unless it is the same one.

    Raises:
        ValueError: no image is left.
    """
    rows, labels = other.rows[~seen.mask], other.labels[~seen.mask]
    if not len(rows):
        raise ValueError(
            f"{short(scorer.run)} was trained or validated on all {len(other.rows):,} images of this data set (or on others of "
            "their groups); there is nothing to test on."
        )
    manifest = other.prepared.manifest
    held = manifest.frame.iloc[rows]
    table = held if scorer.takes_metadata else None
    probabilities = scorer.probabilities(other.prepared.pixels[rows], table, progress)
    columns = [name for name in manifest.subgroup_columns if name != SOURCE_CLASS]
    frame = held[["image_id", "group_id", *columns]].reset_index(drop=True)
    frame.insert(2, "label", labels)
    if any(source != target for source, target in other.mapping.items()):
        frame[SOURCE_CLASS] = held["label"].to_numpy(dtype=object)
    for number, name in enumerate(scorer.classes):
        frame[PREFIX + name] = probabilities[:, number]
    return Predictions(frame, scorer.classes, **scorer.outcome)


def card_of(other: OtherData, seen: Seen) -> dict[str, Any]:
    """The data card of what was judged: every judged image is in the test part, all others are unused."""
    part = np.full(len(other.prepared.manifest), "unused", dtype=object)
    part[other.rows[~seen.mask]] = "test"
    before = other.prepared.splits
    named = {"method": "no split: external data, tested on only", "kind": "external", "grouping": "group", "seed": 0}
    splits = Splits(before.frame.assign(split=part), before.manifest_sha256, named)
    card = data_card(replace(other.prepared, splits=splits, leak=None), other.settings["task"])
    return dict(json.loads(json.dumps(card)))

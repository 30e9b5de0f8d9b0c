"""The finished runs that an ensemble is made of: found, read, and checked to belong together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from conf.output import short
from datamodules.card import worries_of_data
from evaluation.predictions import Predictions, read_predictions
from workflow.intact import object_in

FILES = ("config.yaml", "metrics.json", "threshold.json", "predictions/val.csv", "predictions/test.csv")
SAME_PROCEDURE = (
    "model",
    "augmentation",
    "loss",
    "finetune",
    "imbalance",
    "trainer",
    "data",
    "evaluation",
)
"""Sections of the configuration in which the folds of one cross-validation agree."""
_ONLY = {"data": ("per_class", "fraction"), "evaluation": ("tta",)}
"""Where not the whole section matters: the keys that do."""


@dataclass(frozen=True)
class Member:
    """One finished run.

    Attributes:
        folder: of the run.
        record: run.json. ``config``: config.yaml. ``metrics``: metrics.json.
    """

    folder: Path
    record: dict[str, Any]
    config: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def fold(self) -> int:
        """Which fold was the test part."""
        return int(self.config["split"]["fold"])

    @property
    def threshold(self) -> float:
        """The run's own operating point."""
        return float(self.metrics["threshold"]["threshold"])

    def predictions(self, part: str) -> Predictions:
        """Predictions of ``val`` or ``test``, or of a baseline: ``thumbnail_test``."""
        task = self.config["task"]
        outcome = [task[name] for name in ("positive", "positive_name", "negative_name")]
        return read_predictions(self.folder / "predictions" / f"{part}.csv", tuple(task["classes"]), *outcome)

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines that were scored on validation and on test."""
        folder = self.folder / "predictions"
        names = [path.stem.removesuffix("_val") for path in sorted(folder.glob("*_val.csv"))]
        return [name for name in names if (folder / f"{name}_test.csv").is_file()]

    def data_worries(self) -> list[dict[str, str]]:
        """What a report says about the data of this run; nothing where it left no data card."""
        path = self.folder / "data_card.json"
        return worries_of_data(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []


def read_members(folders: Sequence[Path]) -> list[Member]:
    """Read the runs and check that they are finished and of the same task, classes and images.

    Raises:
        ValueError: naming the run, what is wrong, and what to do.
    """
    if len(folders) < 2:
        raise ValueError(f"runs: {len(folders)} given; an ensemble needs at least two runs.")
    resolved = [folder.resolve() for folder in folders]
    for folder in folders:
        if resolved.count(folder.resolve()) > 1:
            raise ValueError(f"runs: {folder} is given twice; each run counts once.")
    members = [read_member(folder) for folder in folders]
    _require_same(members)
    return members


def read_member(folder: Path) -> Member:
    """Read one finished run.

    Raises:
        ValueError: if it is none; says why.
    """
    if not folder.is_dir():
        raise ValueError(f"runs: {folder}: there is no such folder.")
    record = _json(folder / "run.json", "it is no run folder")
    if record.get("status") != "finished":
        raise ValueError(
            f"{short(folder)}: this run is not finished (status {record.get('status')}). Finish it with "
            f"python train.py resume={short(folder)}, or leave it out: runs=[RUN,RUN]."
        )
    for name in FILES:
        if not (folder / name).is_file():
            raise ValueError(f"{short(folder)}: {name} is missing from this run. Train it again.")
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        config["task"]["classes"], config["split"]["kind"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.yaml'} is no configuration of a run ({error}). Train it again.") from error
    return Member(folder, record, config, _json(folder / "metrics.json", "the run was not judged"))


def _json(path: Path, meaning: str) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{short(path.parent)}: {path.name} is missing, so {meaning}.")
    return object_in(path, ". Train the run again.")


def _require_same(members: Sequence[Member]) -> None:
    """The same question about the same images."""
    first = members[0]
    keys = ("name", "classes", "positive", "positive_name", "negative_name")
    for other in members[1:]:
        for key in keys:
            ours, theirs = (member.config["task"][key] for member in (first, other))
            if ours != theirs:
                raise ValueError(
                    f"the runs answer different questions: task.{key} is {ours} in {short(first.folder)} and {theirs} in "
                    f"{short(other.folder)}. Take runs of one task."
                )
        ours, theirs = (str(member.record["manifest_sha256"]) for member in (first, other))
        if ours != theirs:
            raise ValueError(
                f"the runs used different images, labels or groups: manifest_sha256 is {ours[:12]} in {short(first.folder)} "
                f"and {theirs[:12]} in {short(other.folder)}. Train them on the same data."
            )


def kind_of(members: Sequence[Member]) -> str:
    """``seeds`` (all runs have one split) or ``folds`` (they are the folds of one split).

    Raises:
        ValueError: if they are neither; says why.
    """
    if len({member.record["split_sha256"] for member in members}) == 1:
        return "seeds"
    odd = next((member for member in members if member.config["split"]["kind"] != "kfold"), None)
    if odd is not None:
        a, b = next((a, b) for a in members for b in members if a.record["split_sha256"] != b.record["split_sha256"])
        raise ValueError(
            f"the runs have different splits: split_sha256 is {a.record['split_sha256'][:12]} in {short(a.folder)} and "
            f"{b.record['split_sha256'][:12]} in {short(b.folder)}. Take runs that differ in their seed only, or all folds of "
            "split.kind=kfold."
        )
    _require_one_plan(members)
    _require_all_folds(members)
    return "folds"


def _require_one_plan(members: Sequence[Member]) -> None:
    first = members[0]
    for other in members[1:]:
        for section in ("split", *SAME_PROCEDURE):
            ours, theirs = ({**member.config.get(section, {})} for member in (first, other))
            compared = [key for key in _ONLY.get(section, ours) if (section, key) not in _FREE]
            changed = [key for key in compared if ours.get(key) != theirs.get(key)]
            if changed:
                name = f"{section}.{changed[0]}"
                raise ValueError(
                    f"these are folds of different runs: {name} is {ours.get(changed[0])} in {short(first.folder)} and "
                    f"{theirs.get(changed[0])} in {short(other.folder)}. Take the folds of one setting: runs=[RUN,RUN,...]."
                )


_FREE = {("split", "fold"), ("split", "refresh"), ("trainer", "progress_bar")}
"""Settings in which folds of one cross-validation may differ."""


def _require_all_folds(members: Sequence[Member]) -> None:
    count, there = int(members[0].config["split"]["folds"]), [member.fold for member in members]
    for number in range(count):
        if there.count(number) > 1:
            twice = " and ".join(short(member.folder) for member in members if member.fold == number)
            raise ValueError(f"fold {number} is there {there.count(number)} times: {twice}. Each fold counts once.")
    missing = [str(number) for number in range(count) if number not in there]
    if missing:
        folds = "fold" if len(missing) == 1 else "folds"
        raise ValueError(
            f"{folds} {', '.join(missing)} of {count} {'is' if len(missing) == 1 else 'are'} missing among the runs. "
            f"Train with split.fold={','.join(missing)}{' and -m' if len(missing) > 1 else ''}, and give all {count}."
        )

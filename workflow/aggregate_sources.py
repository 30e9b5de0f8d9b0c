"""The runs that an aggregation is of: found at any depth, read, and checked to answer one question."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from conf.output import short
from evaluation.ensembles import headline
from evaluation.threshold import OperatingPoint
from workflow.intact import object_in, require_same_threshold, require_unchanged, undamaged
from workflow.members import Member, read_member

DEPTH: Final = 4
"""How deep below the given folder a run may lie."""


def find(sources: Sequence[Path]) -> list[Path]:
    """Folders of runs, each once: a folder with run.json is one, else all that lie in it."""
    found: list[Path] = []
    for source in sources:
        if not source.is_dir():
            raise ValueError(f"aggregate={source}: there is no such folder.")
        runs = [source] if (source / "run.json").is_file() else _below(source, DEPTH)
        if not runs:
            raise ValueError(
                f"aggregate={source}: no folder in it holds a run (run.json). Give the folder of a multirun, or several runs: "
                "aggregate=[RUN,RUN]."
            )
        found += [run for run in runs if run.resolve() not in {other.resolve() for other in found}]
    return found


def _below(folder: Path, depth: int) -> list[Path]:
    inner = sorted(
        (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")),
        key=lambda path: (not path.name.isdigit(), int(path.name) if path.name.isdigit() else 0, path.name),
    )
    found: list[Path] = []
    for path in inner:
        if (path / "run.json").is_file():
            found.append(path)
        elif depth > 1:
            found += _below(path, depth - 1)
    return found


def read(folders: Sequence[Path]) -> tuple[list[Member], list[dict[str, str]]]:
    """The finished runs, and those that are not, with the reason."""
    members, left_out = [], []
    for folder in folders:
        try:
            with undamaged(folder):
                members.append(_member(folder))
        except ValueError as error:
            reason = str(error).removeprefix(f"{short(folder)}: ")
            left_out.append({"run": short(folder), "name": "", "reason": reason})
    if not members:
        first = left_out[0]
        which = "the only run is not" if len(folders) == 1 else f"none of {len(folders)} runs is"
        raise ValueError(f"aggregate: {which} finished and judged. {first['run']}: {first['reason']}")
    root = Path(os.path.commonpath([folder.resolve().parent for folder in folders]))
    for item, folder in zip(left_out, (f for f in folders if short(f) in {i["run"] for i in left_out}), strict=True):
        item["name"] = os.path.relpath(folder.resolve(), root)
    return members, left_out


def _member(folder: Path) -> Member:
    """One finished run; the reasons are shorter than those of :func:`workflow.members.read_member`.

    Raises:
        ValueError: if it is none, or something else (an ensemble, a record of evaluate.py).
    """
    record = object_in(folder / "run.json", "")
    if record.get("members") or not (folder / "config.yaml").is_file():
        raise ValueError("not a single run (no config.yaml); set it against one with python evaluate.py compare=[A,B]")
    if record.get("status") != "finished":
        raise ValueError(f"not finished (status {record.get('status')})")
    member = read_member(folder)
    if not {"val", "test"} <= set(member.metrics.get("splits", {})):
        raise ValueError("metrics.json has no validation and test part")
    metrics = member.metrics
    metrics["bootstrap"]["resamples"], metrics["confidence"], metrics["positive_class"], metrics["group_name"]
    OperatingPoint.from_dict(metrics["threshold"])
    require_same_threshold(folder, metrics)
    for part in (
        "val",
        "test",
    ):  # what is there must be what was judged: one spoilt run must not end or colour the whole
        headline(metrics["splits"][part])
        require_unchanged(folder / "predictions" / f"{part}.csv", member.predictions(part), metrics["splits"][part])
    return member


def require_one_question(members: Sequence[Member]) -> None:
    """Raise a ValueError unless all runs are of one task, with the same classes and positives."""
    first = members[0]
    for other in members[1:]:
        for key in ("name", "classes", "positive"):
            ours, theirs = (member.config["task"][key] for member in (first, other))
            if ours != theirs:
                raise ValueError(
                    f"aggregate: the runs answer different questions: task.{key} is {ours} in {short(first.folder)} and {theirs} "
                    f"in {short(other.folder)}. Give the runs of one task: aggregate=[RUN,RUN]."
                )

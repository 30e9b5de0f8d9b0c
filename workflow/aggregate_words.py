"""What an aggregation says in words, what to do next, and its table of runs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from conf.output import short
from evaluation.aggregation import Configuration
from evaluation.intervals import format_interval
from evaluation.wording import LEAKY, Worry, figure, listed, plural, worry
from workflow.judged_folder import promise_worries
from workflow.members import Member


def headline_of(rows: Sequence[dict[str, Any]], best: dict[str, Any]) -> str:
    """What the runs say together: the best of several configurations, or the figures of the only one."""
    row = rows[best["configuration"]]
    if len(rows) > 1 or row["n_runs"] == 1:
        return str(best["sentence"])
    by = best["by"]
    single, pooled = row["test"][by], row["pooled"]["test"]["figures"]
    kind = f"{len(row['folds'])} folds" if row["folds"] else f"{row['n_runs']} seeds"
    text = f"{row['name']}, {kind}: mean {by} on test {figure(single['mean'])}"
    text += "" if single["sd"] is None else f" (sd {single['sd']:.3f} over runs)"
    if not pooled:
        return f"{text}."
    whole = "Out of fold, all folds together" if row["folds"] else "The mean over seeds with its interval"
    return f"{text}. {whole}: {format_interval(pooled[by])}."


def commands_of(
    content: dict[str, Any], settings: Sequence[Configuration], members: Sequence[Member], found: Sequence[Path]
) -> list[dict[str, str]]:
    """What to do next with the best configuration, as commands that exist.

    Args:
        content: with ``runs``, ``configurations`` and ``best``. ``settings``: the configurations. ``members``: the runs.
        found: all folders that were looked at.
    """
    number, second = content["best"]["configuration"], content["best"]["second"]
    row = content["configurations"][number]
    own = [members[place] for place in settings[number].members]
    commands = []
    if len(own) > 1 and (not row["folds"] or len(row["folds"]) == row["folds_planned"] == len(own)):
        what = "folds" if row["folds"] else "seeds"
        commands.append({"what": f"Average its {len(own)} {what} to one model", "command": _ensemble(own, found)})
    best = members[_best_run(content, settings[number])]
    if not str(best.config["model"]["name"]).startswith("baseline"):  # a baseline keeps no weights
        run, whose = shlex.quote(short(best.folder)), "its best run" if len(own) > 1 else "it"
        commands.append({"what": f"Use {whose} on new images", "command": f"python predict.py run={run} images=FOLDER"})
        text = f"python evaluate.py run={run} task={content['task']} data.root=FOLDER_OF_THE_OTHER_DATA"
        commands.append({"what": f"Score another data set with {whose}", "command": text})
    if second is not None:
        same = [
            (ours, members[place])
            for ours in own
            for place in settings[second].members
            if members[place].record["split_sha256"] == ours.record["split_sha256"]
        ]
        for ours, theirs in same[:1]:
            pair = shlex.quote(f"compare=[{short(ours.folder)},{short(theirs.folder)}]")
            text = "Compare it with the second best, run against run"
            commands.append({"what": text, "command": f"python evaluate.py {pair}"})
    return commands


def _best_run(content: dict[str, Any], setting: Configuration) -> int:
    """The run that is best on validation, the first of equals."""
    values = {place: content["runs"][place]["val"][content["best"]["by"]]["value"] for place in setting.members}
    return max(values, key=lambda place: (-1.0 if values[place] is None else float(values[place]), -place))


def _ensemble(own: Sequence[Member], found: Sequence[Path]) -> str:
    parents = {member.folder.parent for member in own}
    if len(parents) == 1 and {member.folder for member in own} == {path for path in found if path.parent in parents}:
        return f"python ensemble.py runs={shlex.quote(short(parents.pop()))}"
    return f"python ensemble.py {shlex.quote('runs=[' + ','.join(short(member.folder) for member in own) + ']')}"


def worries_of(content: dict[str, Any], members: Sequence[Member]) -> list[Worry]:
    """What a reader of the table has to know."""
    found: list[Worry] = []
    if content["leak"]:
        text = "Some of these runs cut images of one group onto both sides; their figures may be too good."
        found.append(worry("alarm", LEAKY, text))
    found += promise_worries({run["name"]: run["promise"] for run in content["runs"]})
    best = content["best"]
    if best["second"] is not None and not best["clear"]:
        text = (
            "Train the first two with more seeds (seed=0,1,2 -m) before choosing between them, or take the simpler one."
        )
        found.append(worry("caution", "The best is not clearly best", text))
    if len({member.record["manifest_sha256"] for member in members}) > 1:
        text = "The runs used different images, labels or groups (manifest_sha256); their figures are not of the same data."
        found.append(worry("caution", "Different data", text))
    for row in content["configurations"]:
        own = [run for run in content["runs"] if run["configuration"] == row["number"]]
        places = [(run["seed"], run["fold"]) for run in own]
        if len(set(places)) < len(places):
            text = f"{row['name']}: a seed (and fold) is there more than once; mean and sd count each run."
            found.append(worry("caution", "Repeated runs", text))
        if row["folds"] and len(row["folds"]) < row["folds_planned"]:
            missing = [str(fold) for fold in range(row["folds_planned"]) if fold not in row["folds"]]
            text = (
                f"{row['name']}: fold {listed(missing)} of {row['folds_planned']} is missing; pooled figures lack it."
            )
            found.append(worry("caution", "Folds are missing", text))
    if content["left_out"]:
        text = "They are not finished, or something other than a run; each is listed with its reason."
        found.append(worry("caution", f"{plural(len(content['left_out']), 'run')} left out", text))
    if content["phantom"]:
        found.append(worry("note", "Phantom data", "Generated images: this says nothing about patients."))
    if any(row["folds"] for row in content["configurations"]):
        text = (
            "The networks of the folds share most of their training images, so the sd over folds is not that of independent "
            "repetitions; pooled rankings mix the scores of different networks."
        )
        found.append(worry("note", "Folds are not independent", text))
    return found


def promise_text(promise: Mapping[str, Any] | None) -> str:
    """``kept`` or ``broken``; empty where the threshold promised nothing."""
    return "" if promise is None else "kept" if promise["kept"] else "broken"


def table_of(content: dict[str, Any]) -> pd.DataFrame:
    """One row a run, one number a column; runs that were left out have a status only."""
    rows = []
    for run in content["runs"]:
        setting = content["configurations"][run["configuration"]]
        row = {"run": run["run"], "status": "finished", "configuration": setting["name"]}
        row |= {name: run[name] for name in ("seed", "fold", "threshold", "rule", "best_epoch", "n")}
        row["promise"] = promise_text(run["promise"])
        row |= {key: value if not isinstance(value, list) else str(value) for key, value in setting["settings"].items()}
        for part in ("val", "test"):
            for name, held in run[part].items():
                row |= {
                    f"{part}/{name}": held["value"],
                    f"{part}/{name} low": held["low"],
                    f"{part}/{name} high": held["high"],
                }
        rows.append(row)
    rows += [{"run": item["run"], "status": item["reason"]} for item in content["left_out"]]
    return pd.DataFrame(rows)

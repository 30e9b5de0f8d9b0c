"""The steps of ``evaluate.py aggregate=FOLDER``: find the runs, group them into configurations, pool, name the best."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from conf.output import short, write_json
from conf.schema import RESEARCH_NOTICE
from evaluation.aggregate_page import write_aggregate_page
from evaluation.aggregation import Configuration, Pooled, Repetition, best_of, configurations, pool
from evaluation.bootstrap import Resampling
from evaluation.decided import intervals_of
from evaluation.ensembles import headline, spread
from evaluation.pages import write_whole
from evaluation.predictions import write_predictions
from evaluation.wording import plural
from workflow.aggregate_sources import find, read, require_one_question
from workflow.aggregate_table import print_aggregate
from workflow.aggregate_words import commands_of, headline_of, table_of, worries_of
from workflow.ensembles import require_new, whole_folder
from workflow.external_matrix import is_external, matrix_of
from workflow.judged_folder import promised
from workflow.members import Member

__all__ = ["aggregate_runs", "print_aggregate"]

_KEYS: Final = {
    "AUROC": "auroc",
    "macro AUROC": "macro_auroc",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}
_DECIDED: Final = {"accuracy": "accuracy", "balanced accuracy": "balanced_accuracy"}


def aggregate_runs(
    source: Path | Sequence[Path],
    *,
    command: str,
    output: Path | None = None,
    bootstrap: int | None = None,
    confidence: float | None = None,
    interval: str | None = None,
) -> tuple[dict[str, Any], Path]:
    """Bring the runs of a multirun, or several of them, into one table.

    Args:
        source: a folder with runs in it, or a list of runs and such folders; or external tests, which become one matrix
            (:mod:`workflow.external_matrix`).
        command: as it was typed. ``output``: folder that is made; None: ``evaluations/<task>/<date_time>``.
        bootstrap: resamples. ``confidence``: of the intervals. ``interval``: how they are read off. None: as in the first run.

    Returns:
        The content of aggregate.json, and the folder: ``runs``, ``left_out``, ``configurations`` (with mean and sd over their
        runs on ``val`` and ``test``, and ``pooled`` intervals), ``best`` (by validation), ``commands`` (what to do next),
        ``headline``, ``worries``.

    Raises:
        ValueError: no finished run, or runs of different tasks; says what to do.
    """
    sources = [source] if isinstance(source, Path) else list(source)
    if is_external(sources):
        _require_as_they_are(bootstrap, confidence, interval)
        return matrix_of(sources, command=command, output=output)
    found = find(sources)
    members, left_out = read(found)
    require_one_question(members)
    settings = configurations([member.config for member in members])
    how = _resampling(members[0], bootstrap, confidence, interval)
    task = str(members[0].config["task"]["name"])
    moment = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    output = (output or Path("evaluations") / task / moment).absolute()
    require_new(output)
    pools = [_pooled(setting, members, how) for setting in settings]
    figures = list(headline(members[0].metrics["splits"]["test"]))
    root = Path(os.path.commonpath([path.resolve().parent for path in found]))
    content = {
        **_facts(members, settings, how, command),
        "root": short(root),
        "source": [short(path) for path in sources],
        "figures": figures,
        "runs": _runs(members, settings, root),
        "left_out": left_out,
    }
    rows = [_configuration(number, *of, members, how) for number, of in enumerate(zip(settings, pools, strict=True))]
    best = _best(settings, rows, pools, "macro AUROC" if "macro AUROC" in figures else "AUROC", how)
    content |= {"configurations": rows, "best": best, "headline": headline_of(rows, best)}
    content["commands"] = commands_of(content, settings, members, found)
    content["worries"] = worries_of(content, members)
    with whole_folder(output) as folder:
        _write_joined(rows, pools, folder)
        write_json(content, folder / "aggregate.json")
        write_whole(folder / "aggregate.csv", table_of(content).to_csv(index=False, lineterminator="\n").encode())
        write_aggregate_page(folder)
    return content, output


def _require_as_they_are(*given: float | str | None) -> None:
    if any(value is not None for value in given):
        raise ValueError(
            "aggregate: of external tests the figures are read as they are; leave bootstrap, confidence and interval."
        )


def _best(
    settings: Sequence[Configuration],
    rows: Sequence[Mapping[str, Any]],
    pools: Sequence[Mapping[str, Pooled]],
    by: str,
    how: Resampling,
) -> dict[str, Any]:
    """The configuration with the highest figure ``by`` on validation."""
    return best_of(
        [setting.name for setting in settings],
        [row["val"][by] for row in rows],
        [own["val"].drawn for own in pools],
        by,
        _KEYS[by],
        how.confidence,
    )


def _resampling(first: Member, bootstrap: int | None, confidence: float | None, interval: str | None) -> Resampling:
    own = first.metrics["bootstrap"]
    return Resampling(
        resamples=int(own["resamples"]) if bootstrap is None else bootstrap,
        confidence=float(first.metrics["confidence"]) if confidence is None else confidence,
        seed=int(own["seed"]),
        interval=str(own["method"]) if interval is None else interval,
    )


def _pooled(setting: Configuration, members: Sequence[Member], how: Resampling) -> dict[str, Pooled]:
    """Both parts of a configuration; validation of several folds is not joined."""
    own = [members[number] for number in setting.members]
    grouped = own[0].config["split"].get("grouping", "group") == "group"
    folds = own[0].config["split"]["kind"] == "kfold"
    found = {}
    for number, part in enumerate(("val", "test")):
        runs = [
            Repetition(
                member.predictions(part), member.threshold, int(member.config["seed"]), member.fold if folds else 0
            )
            for member in own
        ]
        # The seeds of a run's own report, so that single runs keep their intervals.
        drawn = Resampling(how.resamples, how.confidence, (int(str(how.seed)), number), how.interval)
        found[part] = pool(runs, drawn, grouped=grouped, folds=part == "test")
    return found


def _facts(
    members: Sequence[Member], settings: Sequence[Configuration], how: Resampling, command: str
) -> dict[str, Any]:
    first, task = members[0], members[0].config["task"]
    what = plural(len(members), "run")
    title = f"{task.get('title') or task['name']}: {what}"
    if len(settings) > 1:
        title += f" of {len(settings)} configurations"
    elif len(members) > 1:
        title += f" of {settings[0].name}"
    return {
        "schema": 1,
        "kind": "aggregate",
        "title": title,
        "task": task["name"],
        "phantom": any(bool(member.record["phantom"]) for member in members),
        "leak": next((member.metrics["leak"] for member in members if member.metrics.get("leak")), None),
        "classes": first.metrics["classes"],
        "positive_class": first.metrics["positive_class"],
        "negative_class": first.metrics["negative_class"],
        "group_name": first.metrics["group_name"],
        "confidence": how.confidence,
        "bootstrap": {
            "resamples": how.resamples,
            "unit": first.metrics["group_name"],
            "method": how.interval,
            "seed": how.seed,
        },
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": first.record.get("version"),
        "command": command,
        "notice": RESEARCH_NOTICE,
    }


def _runs(members: Sequence[Member], settings: Sequence[Configuration], root: Path) -> list[dict[str, Any]]:
    place = {number: index for index, setting in enumerate(settings) for number in setting.members}
    return [
        {
            "run": short(member.folder),
            "name": os.path.relpath(member.folder.resolve(), root),
            "configuration": place[number],
            "seed": member.config["seed"],
            "fold": member.fold if member.config["split"]["kind"] == "kfold" else None,
            "n": member.metrics["splits"]["test"]["n"],
            "threshold": member.threshold,
            "rule": member.metrics["threshold"]["rule"],
            "promise": promised(member.metrics),
            "best_epoch": member.record.get("best_epoch"),
            "val": headline(member.metrics["splits"]["val"]),
            "test": headline(member.metrics["splits"]["test"]),
        }
        for number, member in enumerate(members)
    ]


def _configuration(
    number: int, setting: Configuration, pools: dict[str, Pooled], members: Sequence[Member], how: Resampling
) -> dict[str, Any]:
    own = [members[place] for place in setting.members]
    folds = sorted({member.fold for member in own}) if own[0].config["split"]["kind"] == "kfold" else []
    seeds = sorted({int(member.config["seed"]) for member in own})
    row: dict[str, Any] = {
        "number": number,
        "name": setting.name,
        "settings": setting.settings,
        "n_runs": len(own),
        "seeds": seeds,
        "folds": folds,
        "folds_planned": int(own[0].config["split"]["folds"]) if folds else None,
    }
    for part in ("val", "test"):
        figures = [headline(member.metrics["splits"][part]) for member in own]
        row[part] = {name: spread([one[name]["value"] for one in figures]) for name in figures[0]}
    row["pooled"] = {part: _intervals(pools[part], own[0], how) for part in ("val", "test")}
    return row


def _intervals(pooled: Pooled, member: Member, how: Resampling) -> dict[str, Any]:
    """The pooled figures by the names of :func:`evaluation.ensembles.headline`; none where they cannot be put together."""
    if pooled.drawn is None or pooled.whole is None:
        return {"note": pooled.note, "n": None, "n_groups": None, "figures": None}
    held = pooled.whole.predictions
    several = len(member.metrics["classes"]) > 2
    keys = _KEYS | {name: f"argmax_{key}" if several else key for name, key in _DECIDED.items()}
    intervals = intervals_of(pooled.whole, pooled.drawn, how.confidence)
    found = {name: intervals[keys[name]].to_dict() for name in headline(member.metrics["splits"]["test"])}
    return {"note": pooled.note, "n": len(held), "n_groups": len(held.group_names), "figures": found}


def _write_joined(rows: Sequence[dict[str, Any]], pools: Sequence[dict[str, Pooled]], folder: Path) -> None:
    """Out-of-fold predictions of each configuration with folds; where they lie is added to its row."""
    for row, own in zip(rows, pools, strict=True):
        row["out_of_fold"] = []
        for place, held in enumerate(own["test"].joined):
            parts = ["predictions", *([f"configuration_{row['number']}"] if len(rows) > 1 else [])]
            name = "out_of_fold.csv" if len(own["test"].joined) == 1 else f"out_of_fold_{place}.csv"
            path = Path(*parts, name)
            frame = held.predictions.frame.assign(called_positive=held.flagged.astype(int))
            write_predictions(folder / path, frame)
            row["out_of_fold"].append(str(path))

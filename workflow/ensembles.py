"""The steps of an ensemble: its members, the mean of their scores, a threshold of its own, metrics.json and report.html."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.output import short, write_json
from conf.schema import RESEARCH_NOTICE
from evaluation.bootstrap import Resampling
from evaluation.ensembles import PAIRED, further_columns, headline, mean_predictions, paired_differences, spread
from evaluation.intervals import format_interval
from evaluation.predictions import Predictions, write_predictions
from evaluation.report import write_report
from evaluation.summary import PREVALENCES, evaluate_run
from evaluation.threshold import OperatingPoint, choose_operating_point
from evaluation.wording import worry
from workflow.members import Member, kind_of, read_members
from workflow.threshold_rules import threshold_rule

_ORDER = ("alarm", "caution", "note")


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        runs: folders of the members. ``command``: as it was typed.
        output: folder that is made; None: ``ensembles/<task>/<date_time>``.
        rule, recall: of the threshold; None as in the runs.
    """

    runs: list[Path]
    command: str
    output: Path | None = None
    rule: str | None = None
    recall: float | None = None


def build_ensemble(request: Request) -> tuple[dict[str, Any], Path]:
    """Make the ensemble, whole or not at all.

    Returns:
        The content of metrics.json, and the folder. Its part ``ensemble`` holds ``kind`` (``seeds`` or ``folds``), ``members``
        and their figures, ``spread`` (mean and sd of each figure over the members), ``figures`` of the whole, ``differences``
        to the member that was best on validation, and ``sentence``.

    Raises:
        ValueError, DataError: with a message for the user.
    """
    members = read_members(request.runs)
    kind = kind_of(members)
    rule = threshold_rule(members, request.rule, request.recall)
    moment = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    output = (request.output or Path("ensembles") / members[0].config["task"]["name"] / moment).absolute()
    require_new(output)
    from callbacks.run_snapshot import RunSnapshot  # torch is loaded from here on

    with whole_folder(output) as folder:
        snapshot = RunSnapshot(folder / "run.json", facts_of(members, kind, request.command))
        if kind == "seeds":
            metrics = _seed_ensemble(members, rule, folder)
        else:
            from workflow.fold_ensembles import fold_ensemble

            metrics = fold_ensemble(members, rule, folder)
        write_json({"title": metrics["title"], **metrics["threshold"]}, folder / "threshold.json")
        write_json(metrics, folder / "metrics.json")
        calibrator = (metrics.get("calibration") or {}).get("calibrator")
        if calibrator is not None:
            write_json(
                {"title": metrics["title"], "notice": RESEARCH_NOTICE, **calibrator}, folder / "calibration.json"
            )
        snapshot.update()
        snapshot.finish()
        if "splits" in metrics:
            write_report(folder)
        else:
            from evaluation.folds_page import write_folds_page

            write_folds_page(folder)
    return metrics, output


def require_new(output: Path) -> None:
    """Raise a ValueError if the folder is already there and not empty."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(
            f"output={short(output)}: this is already there and is never overwritten. Choose another output=FOLDER."
        )


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A folder beside the wanted one, which takes its name when everything is written, or is removed.

    Raises:
        ValueError: if the wanted folder is already there and not empty.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(
            f"output={output}: this is already there and is never overwritten. Choose another output=FOLDER."
        )
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        os.replace(beside, output)  # an empty folder of that name is replaced too
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def facts_of(members: Sequence[Member], kind: str, command: str) -> dict[str, Any]:
    """What run.json says of an ensemble."""
    first, seeds = members[0].record, [member.config["seed"] for member in members]
    return {
        "title": title_of(members, kind),
        "command": command,
        "kind": f"ensemble of {kind}",
        "members": [
            {
                "run": str(member.folder.resolve()),
                "title": member.record["title"],
                "seed": member.config["seed"],
                "fold": member.fold if kind == "folds" else None,
                "split_sha256": member.record["split_sha256"],
                "weights_sha256": member.record.get("weights_sha256"),
            }
            for member in members
        ],
        "seeds": {"seed": ", ".join(map(str, dict.fromkeys(seeds))), "split": members[0].config["split"]["seed"]},
        "manifest_sha256": first["manifest_sha256"],
        "split_sha256": first["split_sha256"]
        if kind == "seeds"
        else ", ".join(m.record["split_sha256"] for m in members),
        "phantom": first["phantom"],
        "precision": {"value": "float64", "reason": "the mean of the float32 probabilities of the runs"},
        "notice": RESEARCH_NOTICE,
    }


def title_of(members: Sequence[Member], kind: str) -> str:
    """Title of the report."""
    task = members[0].config["task"]["title"]
    names = " + ".join(dict.fromkeys(str(member.config["model"]["name"]) for member in members))
    what = f"mean of {len(members)} runs of {names}" if kind == "seeds" else f"{len(members)} folds of {names}"
    phantom = "Phantom data - " if members[0].record["phantom"] else ""
    return f"{phantom}{task}: {what}"


def judged_as(members: Sequence[Member], kind: str) -> dict[str, Any]:
    """Arguments of :func:`evaluation.summary.evaluate_run` that come from the runs."""
    config = members[0].config
    return {
        "title": title_of(members, kind),
        "task": config["task"]["name"],
        "model": " + ".join(dict.fromkeys(str(member.config["model"]["name"]) for member in members)),
        "phantom": bool(members[0].record["phantom"]),
        "group_name": config["task"]["group_name"],
        "bootstrap": config["evaluation"]["bootstrap"],
        "confidence": config["evaluation"]["confidence"],
        # Runs from before there was a choice do not say these.
        "interval": config["evaluation"].get("interval", "percentile"),
        "prevalences": config["evaluation"].get("prevalences", PREVALENCES),
        "beta": config["threshold"].get("beta", 2.0),
        "seed": config["split"]["seed"],
    }


def _seed_ensemble(members: Sequence[Member], rule: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The mean of runs on one split; nothing but their predictions files is needed."""
    parts = {part: mean_predictions([member.predictions(part) for member in members]) for part in ("val", "test")}
    for part, mean in parts.items():
        write_predictions(folder / "predictions" / f"{part}.csv", mean.frame)
    point = choose_operating_point(parts["val"], **rule, selection_optimistic=rule["rule"] != "fixed")
    first = members[0]
    copy_facts(first, folder)
    metrics = judged(
        members,
        "seeds",
        parts,
        point,
        baselines=_copied_baselines(first, folder),
        domain_aucs=first.metrics["shift"]["domain_auc"],
        leak=first.metrics["leak"],
        test_kind=first.metrics["test_kind"],
    )
    compared = compared_members(members, "seeds") | {"figures": headline(metrics["splits"]["test"])}
    best = _best_on_validation(members)
    made = metrics["bootstrap"]
    how = Resampling(made["resamples"], metrics["confidence"], (made["seed"], 1), made["method"])
    compared |= {"best": best}
    compared["differences"] = paired_differences(parts["test"], members[best].predictions("test"), how)
    compared["sentence"] = _seed_sentence(compared)
    metrics["ensemble"] = compared
    note = worry("note", f"Mean of {len(members)} runs", compared["sentence"])
    return with_worries(metrics, [note, *first.data_worries()])


def judged(
    members: Sequence[Member],
    kind: str,
    parts: dict[str, Predictions],
    point: OperatingPoint,
    **options: Any,
) -> dict[str, Any]:
    """metrics.json of an ensemble that has a validation and a test part."""
    return evaluate_run(
        parts["val"],
        parts["test"],
        point,
        subgroup_columns=[name for name in further_columns(parts["test"]) if name in parts["val"].frame],
        **judged_as(members, kind),
        **options,
    )


def _copied_baselines(member: Member, folder: Path) -> dict[str, tuple[Predictions, Predictions]]:
    """Baselines do not depend on the seed of a network: those of one run are those of all."""
    found = {}
    for name in member.baselines:
        found[name] = (member.predictions(f"{name}_val"), member.predictions(f"{name}_test"))
        for part, predictions in zip(("val", "test"), found[name], strict=True):
            write_predictions(folder / "predictions" / f"{name}_{part}.csv", predictions.frame)
    return found


def copy_facts(member: Member, folder: Path) -> None:
    """The data card and the audit, which are those of every run on the same split."""
    for name in ("data_card.json", "audit.json"):
        if (member.folder / name).is_file():
            write_json(json.loads((member.folder / name).read_text(encoding="utf-8")), folder / name)


def compared_members(members: Sequence[Member], kind: str) -> dict[str, Any]:
    """Each run's own figures on its test part, and their mean and sd."""
    rows, figures = [], [headline(member.metrics["splits"]["test"]) for member in members]
    for member, own in zip(members, figures, strict=True):
        val = headline(member.metrics["splits"]["val"])
        rows.append(
            {
                "run": short(member.folder),
                "seed": member.config["seed"],
                "fold": member.fold if kind == "folds" else None,
                "n": member.metrics["splits"]["test"]["n"],
                "threshold": member.threshold,
                "rule": member.metrics["threshold"]["rule"],
                "val": {name: interval["value"] for name, interval in val.items()},
                "figures": own,
            }
        )
    names = list(figures[0])
    return {
        "kind": kind,
        "members": rows,
        "spread": {name: spread([own[name]["value"] for own in figures]) for name in names},
    }


def _best_on_validation(members: Sequence[Member]) -> int:
    """The run that would have been taken: highest macro AUROC (of two classes: AUROC) on validation, the first of equals."""
    figures = [headline(member.metrics["splits"]["val"]) for member in members]
    values = [(own.get("macro AUROC") or own["AUROC"])["value"] for own in figures]
    return max(range(len(values)), key=lambda number: (-1.0 if values[number] is None else values[number], -number))


def _seed_sentence(compared: dict[str, Any]) -> str:
    """What averaging brought, in words."""
    shown = "macro AUROC" if "macro AUROC" in compared["figures"] else "AUROC"
    single, best = compared["spread"][shown], compared["members"][compared["best"]]
    text = (
        f"The score of an image is the mean of the probabilities of {len(compared['members'])} runs, and the threshold was fixed "
        f"on the mean scores of validation. {shown} on test is {format_interval(compared['figures'][shown])}"
    )
    if single["mean"] is not None:
        text += f"; of a single run {single['mean']:.3f} on average (sd {single['sd']:.3f})"
    difference = compared["differences"][PAIRED[shown]]
    return (
        f"{text}. The ensemble minus the run that was best on validation ({best['run']}), in pairs on the same images: "
        f"{format_interval(difference)}."
    )


def with_worries(metrics: dict[str, Any], more: list[dict[str, str]]) -> dict[str, Any]:
    """The metrics with further worries, alarms still first."""
    leading = [item for item in metrics["worries"] if item["title"].startswith("LEAKY")]
    rest = [item for item in [*metrics["worries"], *more] if item not in leading]
    metrics["worries"] = [*leading, *sorted(rest, key=lambda item: _ORDER.index(item["level"]))]
    return metrics

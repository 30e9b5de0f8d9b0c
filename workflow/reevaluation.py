"""Judge a finished run again from its predictions files, where wanted with a threshold re-chosen on validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import yaml

from conf.output import short
from datamodules.card import worries_of_data
from evaluation.baseline_table import Pair
from evaluation.ensembles import further_columns
from evaluation.predictions import Predictions
from evaluation.recalibration import Calibrator
from evaluation.summary import evaluate_run
from evaluation.threshold import OperatingPoint, fixed_point
from evaluation.wording import Worry, worry
from evaluation.wording import short as score
from workflow.ensembles import whole_folder
from workflow.judged_folder import JudgedFolder, read_judged
from workflow.records import (
    copy_of,
    digest_of,
    folder_for,
    judging_of,
    light_record,
    point_asked_for,
    read_json,
    shown,
    started,
    write_record,
)

COPIED: Final = ("data_card.json", "audit.json", "history.csv", "splits.csv", "calibration.json")
_KEPT: Final[tuple[str, ...]] = ("manifest_sha256", "split_sha256", "weights_sha256")
_RUN_FACTS: Final[tuple[str, ...]] = (
    "seeds",
    "phantom",
    "overrides",
    "model_notes",
    "precision",
    "hardware",
    "members",
    "parameters",
    *_KEPT,
)


def read_source(run: Path) -> JudgedFolder:
    """Read a judged folder that has a test part of its own.

    Raises:
        ValueError: it is none, or is not finished; says what to do.
    """
    if run.is_dir() and not (run / "run.json").is_file() and not (run / "metrics.json").is_file():
        several = any((path / "run.json").is_file() for path in run.iterdir() if path.is_dir())
        hint = f" It holds several runs: aggregate={short(run)}, or take one of them." if several else ""
        raise ValueError(f"run={short(run)}: no run.json and no metrics.json there, so this is no finished run.{hint}")
    source = read_judged(run, "run")
    if "splits" not in source.metrics:
        raise ValueError(
            f"run={short(run)}: these are folds without a test part of their own; each fold was judged at its own threshold. "
            "Take one of the folds' runs: run=RUN."
        )
    return source


def point_of(source: JudgedFolder) -> OperatingPoint:
    """The operating point that a folder was judged at."""
    return OperatingPoint.from_dict(source.metrics["threshold"])


def baselines_of(source: JudgedFolder) -> dict[str, Pair]:
    """Predictions of each baseline on validation and test."""
    names = [path.stem.removesuffix("_val") for path in _files(source.folder) if path.stem.endswith("_val")]
    whole = [name for name in names if source.has(f"{name}_test")]
    return {name: (source.predictions(f"{name}_val"), source.predictions(f"{name}_test")) for name in whole}


def rejudge(
    run: Path,
    *,
    command: str,
    output: Path | None = None,
    threshold: Mapping[str, Any] | None = None,
    judging: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], Path]:
    """Judge a run again and write a record of its own; the run itself is not changed.

    Args:
        run: folder of a finished run, of an ensemble, or of an earlier record.
        command: as it was typed. ``output``: folder that is made; None: ``evaluations/<task>/<date_time>``.
        threshold: keys of ``threshold.*`` that are to differ from the run's; empty or None keeps its operating point as it is.
        judging: given of ``bootstrap``, ``confidence``, ``interval``, ``prevalences`` and ``seed``.

    Returns:
        The content of metrics.json, and the folder.

    Raises:
        ValueError: with a message for the user.
    """
    begun, source = started(), read_source(run)
    changes = dict(threshold or {})
    parts = _parts(source)
    point = rechosen(source, parts.get("val"), changes) if changes else point_of(source)
    metrics = judged_again(source, parts, point, judging or {})
    output = folder_for(str(source.metrics["task"]), output)
    with whole_folder(output) as folder:
        copied = copy_of(run, folder, [*COPIED, *(f"predictions/{path.name}" for path in _files(run))])
        _copy_config(run, folder, changes)
        gallery = _gallery(source, point, folder)
        facts: dict[str, Any] = {key: source.record[key] for key in _RUN_FACTS if key in source.record}
        facts |= {
            "kind": "judged again",
            "source": {
                "run": shown(run),
                "title": source.record.get("title"),
                "kind": source.record.get("kind", "run"),
                "threshold": point_of(source).threshold,
                "rule": point_of(source).rule,
                **{
                    f"{Path(name).stem}_sha256": digest_of(run / name)
                    for name in copied
                    if name.startswith("predictions/")
                },
            },
        }
        locked = {key: source.record[key] for key in _KEPT if key in source.record}
        worries = [_again(source, point), *gallery, *_data_worries(run)]
        record = light_record(metrics["title"], command, begun, **facts)
        metrics = write_record(folder, metrics, point, record, {}, worries, locked)
    return metrics, output


def rechosen(source: JudgedFolder, val: Predictions | None, changes: Mapping[str, Any]) -> OperatingPoint:
    """The operating point by the run's own rule with these changes, on its validation predictions.

    Raises:
        ValueError: there are no validation predictions and the rule needs them, or the rule cannot be used.
    """
    before = point_of(source)
    if val is None:
        if changes.get("rule", "fixed") != "fixed" or "value" not in changes:
            raise ValueError(
                f"run={short(source.folder)}: there are no validation predictions, and a threshold is never chosen on test. "
                "Set one by hand: threshold.value=NUMBER."
            )
        return fixed_point(
            changes["value"], before.positive_class, before.negative_class, group_score=before.group_score
        )
    group_name = str(source.metrics.get("group_name", "group"))
    optimistic = before.selection_optimistic
    return point_asked_for(
        val, changes, **before.rule_arguments(), group_name=group_name, selection_optimistic=optimistic
    )


def judged_again(
    source: JudgedFolder, parts: Mapping[str, Predictions], point: OperatingPoint, judging: Mapping[str, Any]
) -> dict[str, Any]:
    """metrics.json of this version, from the predictions of a run of this or an earlier one."""
    m = source.metrics
    stored = {"bootstrap": m["bootstrap"]["resamples"], "confidence": m["confidence"], "seed": m["bootstrap"]["seed"]}
    if m["bootstrap"].get("method") in ("percentile", "bca"):
        stored["interval"] = m["bootstrap"]["method"]
    val, test = parts.get("val"), parts["test"]
    there = [name for name in further_columns(test) if val is None or name in val.frame]
    return evaluate_run(
        val,
        test,
        point,
        baselines=baselines_of(source) if val is not None else {},
        domain_aucs=(m.get("shift") or {}).get("domain_auc") or {},
        title=m["title"],
        task=m["task"],
        model=m["model"],
        phantom=bool(m["phantom"]),
        group_name=m.get("group_name", "group"),
        subgroup_columns=there,
        test_kind=m.get("test_kind") or "official",
        leak=m.get("leak"),
        beta=point.beta,
        calibrator=_calibrator(source.folder),
        **judging_of(judging, stored),
    )


def _calibrator(run: Path) -> Calibrator | None:
    """The calibration that the run stored; None where it has none, so that one is fitted on validation."""
    path = run / "calibration.json"
    return Calibrator.from_dict(read_json(path, "the scores cannot be recalibrated")) if path.is_file() else None


def _parts(source: JudgedFolder) -> dict[str, Predictions]:
    """The predictions of each split, which must still be those that were judged."""
    parts = {name: source.predictions(name) for name in source.metrics["splits"]}
    for name, predictions in parts.items():
        split = source.metrics["splits"][name]
        if (len(predictions), int(predictions.labels.sum())) != (split["n"], split["n_positive"]):
            raise ValueError(
                f"{source.folder / 'predictions' / name}.csv holds {len(predictions)} images, {int(predictions.labels.sum())} of "
                f"them positive; metrics.json counted {split['n']} and {split['n_positive']}. The file was changed since."
            )
    return parts


def _files(run: Path) -> list[Path]:
    return sorted((run / "predictions").glob("*.csv"))


def _copy_config(run: Path, folder: Path, changes: Mapping[str, Any]) -> None:
    """config.yaml of the run, with the rule that was used here, so that the report does not name another one."""
    copied = copy_of(run, folder, ["config.yaml"])
    if not copied or not changes:
        return
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config["threshold"] = {**config.get("threshold", {}), **changes}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def _gallery(source: JudgedFolder, point: OperatingPoint, folder: Path) -> list[Worry]:
    """The pictures of the mistakes, which are those of one threshold; a note where they had to be left out."""
    pictures = source.folder / "figures" / "mistakes"
    if not (pictures / "mistakes.json").is_file():
        return []
    if point.threshold == point_of(source).threshold:
        copy_of(source.folder, folder, [f"figures/mistakes/{path.name}" for path in sorted(pictures.iterdir())])
        return []
    text = (
        f"The pictures in {shown(source.folder)} are the mistakes at the threshold {score(point_of(source).threshold)}; at "
        f"{score(point.threshold)} others are mistaken, and a record is made from predictions alone, without the images."
    )
    return [worry("note", "No gallery of mistakes", text)]


def _data_worries(run: Path) -> list[Worry]:
    card = run / "data_card.json"
    return worries_of_data(read_json(card, "the data are not described")) if card.is_file() else []


def _again(source: JudgedFolder, point: OperatingPoint) -> Worry:
    """What this record is, and what to bear in mind where the threshold is another one."""
    start = f"Made from the predictions of {shown(source.folder)}"
    plain: dict[str, Any] = {"price": (), "statement": "", "infeasible": ""}  # nothing of the point itself
    if replace(point, **plain) == replace(point_of(source), **plain):
        return worry("note", "Judged again", f"{start}, at the threshold that the run had fixed.")
    before = point_of(source)
    if point.threshold == before.threshold:
        text = f"{start}. The {point.rule} rule, asked anew, gave the threshold that the run had fixed."
        return worry("note", "Judged again", text)
    now = f"was set to {score(point.threshold)} by hand"
    if point.rule != "fixed":
        now = f"is {score(point.threshold)} by the {point.rule} rule on validation"
    text = (
        f"{start}. The threshold {now}; the run had fixed {score(before.threshold)} ({before.rule}). The test part had been "
        "seen by then: a threshold that is picked because it does well there makes the test figures too good."
    )
    return worry("caution", "Threshold re-chosen after the test", text)

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
from evaluation.ensembles import approximate, further_columns
from evaluation.pages import write_whole
from evaluation.predictions import Predictions
from evaluation.summary import SCHEMA, evaluate_run
from evaluation.threshold import OperatingPoint, choose_operating_point, fixed_point
from evaluation.wording import Worry, worry
from evaluation.wording import short as score
from workflow.ensembles import whole_folder
from workflow.intact import calibration_of, require_unchanged, undamaged
from workflow.judged_ensemble import ensemble_parts, ensemble_worries, folds_of
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
    begun, changes = started(), dict(threshold or {})
    with undamaged(run):
        source = read_source(run)
        parts, data_worries, how = _parts(source), _data_worries(run), judging_of(judging or {}, _stored(source))
        config = _config(run, changes)
    point = rechosen(source, parts.get("val"), changes) if changes else _as_it_was(source, parts.get("val"))
    metrics = _without_advance(judged_again(source, parts, point, how), source, point)
    output = folder_for(str(source.metrics["task"]), output)
    with whole_folder(output) as folder:
        copied = copy_of(run, folder, [*COPIED, *(f"predictions/{path.name}" for path in _files(run))])
        if config:
            write_whole(folder / "config.yaml", config)
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
        worries = [_again(source, point), *_unlocked(run), *ensemble_worries(source, point), *gallery, *data_worries]
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
    group_name = _group_name(source)
    optimistic = before.selection_optimistic
    point = point_asked_for(
        val, changes, **before.rule_arguments(), group_name=group_name, selection_optimistic=optimistic
    )
    return approximate(point, folds_of(source), group_name) if folds_of(source) else point


def judged_again(
    source: JudgedFolder, parts: Mapping[str, Predictions], point: OperatingPoint, how: Mapping[str, Any]
) -> dict[str, Any]:
    """metrics.json of this version, from the predictions of a run of this or an earlier one; ``how``: the intervals."""
    m = source.metrics
    val, test = parts.get("val"), parts["test"]
    there = [name for name in further_columns(test) if val is None or name in val.frame]
    beta = float(m.get("beta", point.beta)) if point.beta == point_of(source).beta else point.beta
    with undamaged(source.folder):
        baselines = baselines_of(source) if val is not None else {}
        domain_aucs = (m.get("shift") or {}).get("domain_auc") or {}
        calibrator = calibration_of(source.folder)
    metrics = evaluate_run(
        val,
        test,
        point,
        baselines=baselines,
        domain_aucs=domain_aucs,
        title=m["title"],
        task=m["task"],
        model=m["model"],
        phantom=bool(m["phantom"]),
        group_name=_group_name(source),
        subgroup_columns=there,
        test_kind=m.get("test_kind") or "official",
        leak=m.get("leak"),
        beta=beta,
        calibrator=calibrator,
        **how,
    )
    return metrics | ensemble_parts(source, metrics)


def _group_name(source: JudgedFolder) -> str:
    return str(source.metrics.get("group_name", "group"))


def _stored(source: JudgedFolder) -> dict[str, Any]:
    """How the source made its intervals, and the prevalences that it states PPV and NPV at."""
    m = source.metrics
    stored = {"bootstrap": m["bootstrap"]["resamples"], "confidence": m["confidence"], "seed": m["bootstrap"]["seed"]}
    if m["bootstrap"].get("method") in ("percentile", "bca"):
        stored["interval"] = m["bootstrap"]["method"]
    rows = source.summary["at_threshold"].get("prevalence")
    return stored if rows is None else {**stored, "prevalences": [row["prevalence"] for row in rows]}


def _as_it_was(source: JudgedFolder, val: Predictions | None) -> OperatingPoint:
    """The stored operating point; of an earlier version with a row of the price for every rule of this one."""
    point = point_of(source)
    if val is None or source.metrics.get("schema", 1) >= SCHEMA:
        return point
    group_name = _group_name(source)
    anew = choose_operating_point(val, **point.rule_arguments(), group_name=group_name)
    anew = approximate(anew, folds_of(source), group_name) if folds_of(source) else anew
    return replace(point, price=anew.price)


def _without_advance(metrics: dict[str, Any], source: JudgedFolder, point: OperatingPoint) -> dict[str, Any]:
    """What the rule leads to expect of test counts as said in advance only where it was: before test was scored."""
    promise = metrics["promise"]
    said = "advance" in (source.metrics.get("promise") or {}) and _decides_alike(point, point_of(source))
    if promise is not None and not said:
        metrics["promise"] = {("expectation" if key == "advance" else key): held for key, held in promise.items()}
    return metrics


def _decides_alike(point: OperatingPoint, before: OperatingPoint) -> bool:
    plain: dict[str, Any] = {"price": (), "statement": "", "infeasible": ""}  # nothing of the point itself
    return replace(point, **plain) == replace(before, **plain)


def _parts(source: JudgedFolder) -> dict[str, Predictions]:
    """The predictions of each split, which must still be those that were judged."""
    parts = {name: source.predictions(name) for name in source.metrics["splits"]}
    for name, predictions in parts.items():
        require_unchanged(source.path(name), predictions, source.metrics["splits"][name])
    return parts


def _files(run: Path) -> list[Path]:
    return sorted((run / "predictions").glob("*.csv"))


def _config(run: Path, changes: Mapping[str, Any]) -> bytes | None:
    """config.yaml of the run, with the rule that was used here, so that the report does not name another one."""
    path = run / "config.yaml"
    if not path.is_file():
        return None
    content = path.read_bytes()
    config = yaml.safe_load(content)
    if not isinstance(config, dict):
        raise ValueError(f"{path} is no configuration of a run. Restore it, or train the run again.")
    if not changes:
        return content
    config["threshold"] = {**(config.get("threshold") or {}), **changes}
    return yaml.safe_dump(config, sort_keys=False).encode()


def _unlocked(run: Path) -> list[Worry]:
    """A note where the folder has no threshold.json."""
    if (run / "threshold.json").is_file():
        return []
    text = (
        f"{shown(run)} has no threshold.json, which is written before test is scored. The operating point is that of "
        "metrics.json; nothing shows that it was fixed first."
    )
    return [worry("caution", "No locked threshold", text)]


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
    if _decides_alike(point, point_of(source)):
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

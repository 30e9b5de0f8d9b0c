"""External validation: finished runs on another data set, thresholds and calibration unchanged, nothing tested that was seen."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conf.output import short, write_json
from conf.schema import RESEARCH_NOTICE
from datamodules.progress import progress_bar, silent
from evaluation.bootstrap import Resampling
from evaluation.ensembles import further_columns
from evaluation.external_page import write_external_page
from evaluation.predictions import Predictions, read_predictions
from evaluation.rules import ORDERED
from evaluation.subgroups import subgroups_of
from evaluation.summary import evaluate_run
from evaluation.transfer import seen_in_words, transfer_of
from evaluation.wording import Worry, plural, worry
from workflow.ensembles import whole_folder
from workflow.external_gallery import save_gallery
from workflow.external_table import print_external
from workflow.intact import calibration_of
from workflow.judged_folder import promised
from workflow.other_data import OtherData, card_of, load_other, scored, settings_of
from workflow.records import JUDGING, copy_of, folder_for, judging_of, light_record, shown, started, write_record
from workflow.scoring import Scorer, load_scorer
from workflow.seen_images import Seen, seen_by

__all__ = ["external_of", "print_external"]

SCHEMA = 1
PARTS = ("all", "test")


def external_of(
    runs: Sequence[Path],
    overrides: Sequence[str],
    *,
    mapping: Mapping[str, str] | None = None,
    command: str,
    output: Path | None = None,
    part: str = "all",
    progress: bool = True,
    **judging: Any,
) -> tuple[dict[str, Any], Path]:
    """Test finished runs on another data set.

    Args:
        runs: folders of runs or ensembles of one set of classes; they are only read.
        overrides: of the other data set, as ``train.py`` takes them: ``task=``, ``data.root=``, ``task.*``, ``table.*``.
        mapping: class there -> class of the runs, or ``drop``.
        command: as it was typed. ``output``: folder that is made; None: ``evaluations/<task>/<date_time>``.
        part: ``all`` images of the other data set, or its official ``test`` part.
        progress: show bars.
        judging: ``bootstrap``, ``confidence``, ``interval``, ``prevalences``, ``seed``; as in the first run where not given.

    Returns:
        The content of external.json, and the folder: external.json, report.html, and for each run a folder with predictions,
        metrics.json and the whole report.

    Raises:
        ValueError, DataError: with a message for the user; nothing is written then.
    """
    begun = started()
    if part not in PARTS:
        raise ValueError(f"part={part}: must be one of {', '.join(PARTS)}.")
    scorers = [load_scorer(run) for run in runs]
    _require_alike(scorers)
    bar = progress_bar if progress else silent
    others, found = {}, []
    for scorer in scorers:
        decoding = tuple(scorer.decoding.values())
        if decoding not in others:
            others[decoding] = load_other(settings_of(overrides, scorer), scorer, mapping or {}, part, bar)
        other = others[decoding]
        seen = seen_by(scorer, other.prepared, other.rows, other.settings, bar)
        found.append((scorer, other, seen, scored(scorer, other, seen, bar)))
    settings = scorers[0].config
    stored = {name: settings["evaluation"][name] for name in JUDGING if name in settings["evaluation"]}
    options = judging_of(judging, stored | {"seed": settings["split"]["seed"]})
    folder = folder_for(str(next(iter(others.values())).settings["task"]["name"]), output)
    with whole_folder(folder) as beside:
        rows = []
        for number, (name, (scorer, other, seen, predictions)) in enumerate(
            zip(_names(scorers), found, strict=True), 1
        ):
            place = f"{number}-" + re.sub(r"[^A-Za-z0-9._-]+", "-", str(scorer.config["model"]["name"]))
            metrics = _report(scorer, other, seen, predictions, beside / place, options, command, begun)
            rows.append({"folder": place, **_row(name, scorer, other, seen, predictions, metrics, options)})
        content = {**_facts(found[0][1], part, command, begun, options), "rows": rows}
        content["sentence"] = " ".join(row["sentence"] for row in rows[:3])
        write_json(content, beside / "external.json")
        write_external_page(beside, content)
    return content, folder


def _require_alike(scorers: Sequence[Scorer]) -> None:
    """One mapping must mean the same for all runs."""
    first = scorers[0]
    for other in scorers[1:]:
        ours, theirs = ((item.classes, tuple(item.config["task"]["positive"])) for item in (first, other))
        if ours != theirs:
            raise ValueError(
                f"the runs have different classes: {', '.join(ours[0])} (positive: {', '.join(ours[1])}) in {short(first.run)} "
                f"and {', '.join(theirs[0])} (positive: {', '.join(theirs[1])}) in {short(other.run)}. Test them one by one."
            )


def _own(scorer: Scorer, part: str) -> Predictions | None:
    """The run's own predictions of a split, if it has any."""
    path = scorer.run / "predictions" / f"{part}.csv"
    return read_predictions(path, scorer.classes, **scorer.outcome) if path.is_file() else None


def _apart(external: Predictions, val: Predictions | None) -> Predictions:
    """The predictions with names of their own, because two data sets may use the same ones for different things.

    Groups always get one: those that the run knows were left out as far as they mean the same. Images only where one of these
    names is used twice.
    """
    taken = val is not None and bool(set(external.frame["image_id"]) & set(val.frame["image_id"]))
    columns = ("image_id", "group_id") if taken else ("group_id",)
    return external.with_frame(
        external.frame.assign(**{name: "external/" + external.frame[name].astype(str) for name in columns})
    )


def _report(
    scorer: Scorer,
    other: OtherData,
    seen: Seen,
    predictions: Predictions,
    folder: Path,
    options: Mapping[str, Any],
    command: str,
    begun: str,
) -> dict[str, Any]:
    """Everything that a report of a run holds, with the external images as its test part; returns metrics.json."""
    val = _own(scorer, "val")
    test = _apart(predictions, val)
    columns = further_columns(test)
    title = f"{scorer.name} on external data: {other.name}"
    title = f"Phantom data - {title}" if other.prepared.phantom else title
    metrics = evaluate_run(
        val,
        test,
        scorer.point,
        domain_aucs={},
        title=title,
        task=scorer.config["task"]["name"],
        model=scorer.name,
        phantom=other.prepared.phantom,
        group_name=other.settings["task"]["group_name"],
        subgroup_columns=[name for name in columns if val is None or name in val.frame],
        test_kind="external",
        beta=scorer.point.beta,
        calibrator=calibration_of(scorer.run),
        **options,
    )
    # What the run's own data do not know, such as the classes there, is shown of the external images alone.
    how, by = _resampling(options, 1), metrics["splits"]["test"]["by"]
    by |= {name: rows for name in columns if name not in by and (rows := subgroups_of(test, name, scorer.point, how))}
    folder.mkdir(parents=True)
    write_json(card_of(other, seen), folder / "data_card.json")
    save_gallery(scorer, other, seen, test, folder)
    copy_of(scorer.run, folder, ["calibration.json", "config.yaml"])
    record = light_record(
        title,
        command,
        begun,
        kind="external test",
        phantom=other.prepared.phantom,
        seeds=scorer.record.get("seeds", {}),
        manifest_sha256=other.prepared.manifest.sha256,
        split_sha256=scorer.record.get("split_sha256"),
        source={"run": shown(scorer.run), "title": scorer.record.get("title"), "mapping": other.mapping},
        weights_sha256=", ".join(part.description["weights_sha256"] for part in scorer.networks),
    )
    parts = {"test": test} | ({} if val is None else {"val": val})
    return write_record(folder, metrics, scorer.point, record, parts, _worries(scorer, other, seen))


def _resampling(options: Mapping[str, Any], number: int) -> Resampling:
    return Resampling(
        options["bootstrap"], options["confidence"], (options["seed"], number), interval=options["interval"]
    )


def _names(scorers: Sequence[Scorer]) -> list[str]:
    """What the runs are called: by their model, and by their folder too where models are the same."""
    names = [scorer.name for scorer in scorers]
    if len(set(names)) == len(names):
        return names
    return [f"{name}, {scorer.run.resolve().name}" for name, scorer in zip(names, scorers, strict=True)]


def _worries(scorer: Scorer, other: OtherData, seen: Seen) -> list[Worry]:
    group = other.settings["task"]["group_name"]
    mapped = [f"{theirs} as {ours}" for theirs, ours in other.mapping.items() if ours not in (None, theirs)]
    text = (
        f"The test images are of {other.name}, not of the data set that {shown(scorer.run)} was trained on. Threshold and "
        "calibration are the run's own, unchanged."
    )
    text += f" Classes were mapped: {'; '.join(mapped)}." if mapped else ""
    if other.dropped:
        out = ", ".join(f"{count:,} {name}" for name, count in other.dropped.items())
        text += f" Left out on request: {out}."
    found = [worry("note", "External data", text)]
    own = str(scorer.config["task"]["group_name"])
    if scorer.point.rule in ORDERED and own != group:
        text = (
            f"The threshold counts {own}s; here every {group} is counted. Whether the recall that it promised was kept is "
            "judged in units of another kind, so read that as a hint only."
        )
        found.append(worry("caution", f"The promise was made for {own}s", text))
    if seen.mask.any():
        text = (
            f"{plural(int(seen.mask.sum()), 'image')} of the external data are not judged, because the run was trained or "
            f"validated on them or on others of their {group}: {seen_in_words(seen.counts(), group)}."
        )
        found.append(worry("note", "Seen images are left out", text))
    if seen.unchecked:
        text = (
            "Files were compared by content and by name only, not as pictures, because the run's own images could not be read "
            f"({seen.unchecked}). A picture that was saved again may be among the test images, and figures may be too good."
        )
        found.append(worry("caution", "Copies of training images are not excluded", text))
    return found


def _row(
    name: str,
    scorer: Scorer,
    other: OtherData,
    seen: Seen,
    predictions: Predictions,
    metrics: Mapping[str, Any],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """One row of the matrix."""
    # Independent sets get independent resamples; those of the external one are the same as in its own report.
    how = [_resampling(options, number) for number in (2, 1)]
    return {
        "name": name,
        "run": shown(scorer.run),
        "weights_sha256": ", ".join(part.description["weights_sha256"] for part in scorer.networks),
        "trained_on": _trained_on(scorer),
        "threshold": scorer.point.threshold,
        "rule": scorer.point.rule,
        **transfer_of(_own(scorer, "test"), predictions, scorer.point.threshold, how, name, other.name),
        "seen": seen.counts(),
        "promise": promised(metrics),
    }


def _trained_on(scorer: Scorer) -> str:
    card = scorer.run / "data_card.json"
    title = str(scorer.config["task"]["title"])
    return str(json.loads(card.read_text(encoding="utf-8"))["title"]).split(",")[0] if card.is_file() else title


def _facts(other: OtherData, part: str, command: str, begun: str, options: Mapping[str, Any]) -> dict[str, Any]:
    phantom, task = other.prepared.phantom, other.settings["task"]
    title = f"External validation on {other.name}"
    return {
        "schema": SCHEMA,
        "title": f"Phantom data - {title}" if phantom else title,
        "notice": RESEARCH_NOTICE,
        "command": command,
        "made": begun,
        "phantom": phantom,
        "group_name": task["group_name"],
        "confidence": options["confidence"],
        "bootstrap": options["bootstrap"],
        "tested_on": {
            "name": other.name,
            "title": other.prepared.listing.about.title,
            "licence": other.prepared.listing.about.licence,
            "part": part,
            "images": len(other.rows),
            "mapping": other.mapping,
            "dropped": other.dropped,
            "left_out": len(other.prepared.manifest.left_out),
            "manifest_sha256": other.prepared.manifest.sha256,
        },
    }

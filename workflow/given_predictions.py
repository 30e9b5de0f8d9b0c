"""Judge a CSV file of predictions that another tool wrote, with or without a validation part."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conf.schema import ThresholdConfig
from evaluation.foreign import ForeignPredictions, read_foreign
from evaluation.pages import write_whole
from evaluation.predictions import Predictions
from evaluation.summary import evaluate_run
from evaluation.threshold import OperatingPoint, fixed_point
from evaluation.wording import Worry, plural, worry
from workflow.ensembles import whole_folder
from workflow.records import (
    digest_of,
    folder_for,
    judging_of,
    light_record,
    point_asked_for,
    shown,
    started,
    write_record,
)

FEWEST_STRATUM: Final = 2
# Below this AUROC the scores are likelier to be those of the other class than to be useless.
_UPSIDE_DOWN: Final = 0.4
_SELECTION: Final = worry(
    "note",
    "What the validation images were used for",
    "It is not known whether these validation images also chose the model, for example its best epoch. If they did, validation "
    "figures and a promised recall are a little optimistic; the test figures are not touched by this.",
)


def judge_given(
    path: Path,
    *,
    command: str,
    output: Path | None = None,
    validation: Path | None = None,
    calibration_share: float | None = None,
    columns: Mapping[str, str | None] | None = None,
    classes: Sequence[str] | None = None,
    positive: Sequence[str] | None = None,
    positive_name: str = "",
    negative_name: str = "",
    group_name: str | None = None,
    title: str | None = None,
    threshold: Mapping[str, Any] | None = None,
    judging: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], Path]:
    """Read the file, fix the threshold on its validation part where there is one, and write the record.

    Args:
        path: see :func:`evaluation.foreign.read_foreign`, also for ``columns``, ``classes``, ``positive`` and the names.
        command: as it was typed. ``output``: folder that is made; None: ``evaluations/<file>/<date_time>``.
        validation: a second file, of the same classes.
        calibration_share: without a validation part: this share of the groups, drawn by class, becomes one.
        title: of the report; None: the name of the file.
        threshold: given keys of ``threshold.*``. ``judging``: of ``bootstrap``, ``confidence``, ``interval``, ``prevalences``,
            ``seed``.

    Returns:
        The content of metrics.json, and the folder.

    Raises:
        ValueError: with a message for the user.
    """
    begun, how, rule = started(), judging_of(judging or {}), dict(threshold or {})
    reading: dict[str, Any] = {"columns": columns, "classes": classes, "positive": positive, "group_name": group_name}
    reading |= {"positive_name": positive_name, "negative_name": negative_name}
    given = read_foreign(path, **reading)
    reading["group_name"] = group_name = given.group_name
    val, test, subgroups, notes = _parts(given, validation, reading, calibration_share, int(how["seed"]))
    point = _point(val, test, rule, group_name)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", path.stem) or "predictions"
    metrics = evaluate_run(
        val,
        test,
        point,
        domain_aucs={},
        title=title or f"Predictions in {path.name}",
        task=name,
        model=path.stem,
        phantom=False,
        group_name=group_name,
        subgroup_columns=subgroups,
        test_kind="given",
        beta=rule.get("beta", ThresholdConfig().beta),
        **how,
    )
    facts = {
        "kind": "predictions of another tool",
        "seeds": {"resamples": how["seed"]},
        "source": _source(path, validation, calibration_share),
    }
    output = folder_for(name, output)
    with whole_folder(output) as folder:
        parts = {"test": test} if val is None else {"val": val, "test": test}
        if val is not None:
            write_whole(folder / "splits.csv", _splits(parts).to_csv(index=False, lineterminator="\n").encode())
        record = light_record(metrics["title"], command, begun, **facts)
        metrics = write_record(folder, metrics, point, record, parts, [*notes, *_limits(metrics)])
    return metrics, output


def _parts(
    given: ForeignPredictions, validation: Path | None, reading: Mapping[str, Any], share: float | None, seed: int
) -> tuple[Predictions | None, Predictions, list[str], list[Worry]]:
    """The validation part (of the file, of a second one, or cut off), the rest, the subgroups of both, and what to note."""
    val, test, notes, subgroups = given.validation, given.predictions, list(given.notes), list(given.subgroups)
    if validation is not None:
        val, more = _second(validation, given, reading)
        notes += more.notes
        subgroups = [name for name in subgroups if name in more.subgroups]
    elif share is not None:
        val, test = _cut(given, share, seed, given.group_name)
        return val, test, subgroups, [*notes, _cut_note(val, test, given.group_name)]
    return val, test, subgroups, notes if val is None else [*notes, _SELECTION]


def _source(path: Path, validation: Path | None, share: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, file in (("predictions", path), ("validation", validation)):
        if file is not None:
            found |= {name: shown(file), f"{name}_sha256": digest_of(file)}
    return found if share is None else {**found, "calibration_share": share}


def _second(
    validation: Path, given: ForeignPredictions, reading: Mapping[str, Any]
) -> tuple[Predictions, ForeignPredictions]:
    """The validation file, which must speak of the same classes."""
    if given.validation is not None:
        raise ValueError(
            f"validation={validation}: the predictions have validation lines of their own (a split column). Leave "
            "validation away, or columns.split=none to judge all lines."
        )
    more = read_foreign(validation, **{**reading, "columns": {**(reading["columns"] or {}), "split": None}})
    ours, theirs = given.predictions, more.predictions
    if (ours.classes, ours.positive) != (theirs.classes, theirs.positive):
        raise ValueError(
            f"validation={validation}: it is of the classes {list(theirs.classes)} with {list(theirs.positive)} positive, the "
            f"predictions of {list(ours.classes)} with {list(ours.positive)}. Name them: classes=[...] positive=..."
        )
    if given.grouped != more.grouped:
        lacking = "validation" if given.grouped else "predictions"
        raise ValueError(
            f"validation={validation}: only one of the two files has a column of groups, not the {lacking}. Name it with "
            "columns.group=NAME, or leave it out of both with columns.group=none."
        )
    return theirs, more


def _point(val: Predictions | None, test: Predictions, rule: Mapping[str, Any], group_name: str) -> OperatingPoint:
    """Chosen on validation; set by hand where there is none."""
    if val is None:
        further = sorted(set(rule) - {"rule", "value", "beta", "group_score"})
        if rule.get("rule", "fixed") != "fixed" or further:
            key = "rule" if rule.get("rule", "fixed") != "fixed" else further[0]
            raise ValueError(
                f"threshold.{key}={rule[key]}: no threshold is chosen on the images that are judged. Give validation=FILE.csv, a "
                "split column, or calibration_share=0.5 to cut a part off; or set the threshold by hand: threshold.value=NUMBER."
            )
        score = rule.get("group_score", "max")
        return fixed_point(rule.get("value", 0.5), test.positive_class, test.negative_class, group_score=score)
    return point_asked_for(val, rule, group_name=group_name, selection_optimistic=False)


def _cut(given: ForeignPredictions, share: float, seed: int, group_name: str) -> tuple[Predictions, Predictions]:
    """Whole groups, drawn at random within each class; a group counts to the rarest class that it holds."""
    if given.validation is not None:
        raise ValueError(
            f"calibration_share={share:g}: the predictions have validation lines of their own (a split column). Leave "
            "calibration_share away, or columns.split=none to cut all lines anew."
        )
    whole = given.predictions
    for number, name in enumerate(whole.classes):
        if len(np.unique(whole.groups[whole.targets == number])) == 1:
            raise ValueError(
                f"calibration_share={share:g}: only one {group_name} shows {name}, so it cannot be on both sides. Give more "
                "images, or a validation file."
            )
    strata = _strata(whole)
    drawn = np.zeros(len(strata), dtype=bool)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        drawn[np.random.default_rng([seed, int(stratum)]).permutation(members)[:count]] = True
    rows = drawn[whole.groups]
    return _rows(whole, rows), _rows(whole, ~rows)


def _strata(whole: Predictions) -> NDArray[np.int64]:
    """Stratum of each group: the rank of the rarest of all classes among its images.

    Strata of a single group, which cannot be divided, go with the next rarest class; that of the commonest with the one before.
    """
    sizes = np.bincount(whole.targets, minlength=len(whole.classes))
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.argsort(sizes, kind="stable")] = np.arange(len(sizes))
    strata = np.full(len(whole.group_names), len(sizes), dtype=np.int64)
    np.minimum.at(strata, whole.groups, rank[whole.targets])
    for _ in range(len(sizes)):
        there, counts = np.unique(strata, return_counts=True)
        small = np.flatnonzero(counts < FEWEST_STRATUM)
        if not len(small) or len(there) == 1:
            break
        place = int(small[0])
        strata[strata == there[place]] = there[place + 1 if place + 1 < len(there) else place - 1]
    return strata


def _rows(whole: Predictions, rows: NDArray[np.bool_]) -> Predictions:
    return whole.with_frame(pd.DataFrame(whole.frame.loc[rows]).reset_index(drop=True))


def _cut_note(val: Predictions, test: Predictions, group_name: str) -> Worry:
    text = (
        f"{plural(len(val.group_names), group_name)} ({plural(len(val), 'image')}) were drawn at random within each class to "
        f"fix the threshold and the calibration; the other {len(test.group_names):,} ({len(test):,} images) are judged. "
        "splits.csv holds the draw."
    )
    return worry("note", "Cut off for the threshold", text)


def _splits(parts: Mapping[str, Predictions]) -> pd.DataFrame:
    frames = [part.frame[["image_id", "group_id", "label"]].assign(split=name) for name, part in parts.items()]
    return pd.concat(frames, ignore_index=True)


def _limits(metrics: Mapping[str, Any]) -> list[Worry]:
    """Scores that seem to be those of the other class."""
    auroc = metrics["splits"]["test"]["auroc"]
    if auroc["high"] is None or auroc["value"] >= _UPSIDE_DOWN or auroc["high"] >= 0.5:
        return []
    text = (
        f"AUROC is {auroc['value']:.3f}: the images of {metrics['positive_class']} get the lower scores. If the score is "
        f"that of {metrics['negative_class']}, say so with positive=NAME; or the labels are coded the other way round."
    )
    return [worry("alarm", "Scores may belong to the other class", text)]

"""Several networks as one: the mean of their probabilities, and k folds joined to one set of out-of-fold predictions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from evaluation.bootstrap import Resampling, bootstrap, difference_interval
from evaluation.multiclass import multiclass_bootstrap
from evaluation.predictions import PREFIX, REQUIRED, Predictions, PredictionsError
from evaluation.rules import ORDERED
from evaluation.split_summary import judge
from evaluation.subgroups import LOCKED
from evaluation.threshold import OperatingPoint
from evaluation.wording import percent, plural, short

FOLD: Final = "fold"
PAIRED: Final = {"AUROC": "auroc", "macro AUROC": "macro_auroc", "balanced accuracy": "balanced_accuracy"}
"""Figures of :func:`headline` that are compared in pairs, and what :func:`paired_differences` calls them."""
_RANKS: Final = ("auroc", "average_precision", "brier")
_OVER_CLASSES: Final = ("balanced_accuracy", "macro_auroc")


def mean_predictions(members: Sequence[Predictions]) -> Predictions:
    """The mean of the members' probabilities, image by image.

    Args:
        members: at least two, of the same images, in any order.

    Returns:
        Rows and further columns as in the first member. A mean of float32 values is held in float64 and not rounded.

    Raises:
        PredictionsError: the members differ in classes, images, groups or labels; says in what.
    """
    _check_several(members, "members")
    first = members[0]
    probabilities = [first.probabilities]
    for number, member in enumerate(members[1:], start=1):
        frame = member.frame.set_index("image_id", drop=False)
        absent = set(first.frame["image_id"]) ^ set(frame.index)
        if absent:
            raise PredictionsError(
                f"member {number} and member 0 do not score the same images: {len(absent):,} are in one of them only, "
                f"the first is {min(map(str, absent))!r}. Take runs of one split."
            )
        frame = frame.loc[first.frame["image_id"]]
        for column in ("group_id", "label"):
            differs = frame[column].to_numpy(dtype=str) != first.frame[column].to_numpy(dtype=str)
            if differs.any():
                image = first.frame["image_id"].iloc[int(np.argmax(differs))]
                raise PredictionsError(f"{column} of image {image!r} differs between member {number} and member 0.")
        probabilities.append(frame[[PREFIX + name for name in first.classes]].to_numpy(dtype=np.float64))
    return _with_probabilities(first, np.mean(probabilities, axis=0))


def _with_probabilities(like: Predictions, probabilities: np.ndarray[Any, np.dtype[np.float64]]) -> Predictions:
    frame = like.frame.copy()
    for number, name in enumerate(like.classes):
        frame[PREFIX + name] = probabilities[:, number]
    return like.with_frame(frame)


def join_folds(folds: Sequence[Predictions], *, grouped: bool = True) -> Predictions:
    """Out-of-fold predictions: every image once, scored by the network that was not trained on it.

    Args:
        folds: the test predictions of each fold, in the order of the folds.
        grouped: whether whole groups were cut; a group in two folds is then an error.

    Returns:
        All rows, sorted by image id, with a column ``fold`` (from 0) beside the columns that all folds have.

    Raises:
        PredictionsError: the folds differ in classes, or an image or group is in two of them.
    """
    _check_several(folds, "folds")
    shared = [name for name in folds[0].frame.columns if all(name in fold.frame.columns for fold in folds)]
    parts = [fold.frame[shared].assign(**{FOLD: number}) for number, fold in enumerate(folds)]
    joined = pd.concat(parts, ignore_index=True)
    for column in ("image_id", "group_id") if grouped else ("image_id",):
        places = joined[[column, FOLD]].drop_duplicates()
        twice = places[column].duplicated(keep=False)
        if twice.any():
            name = places.loc[twice, column].iloc[0]
            where = places.loc[places[column] == name, FOLD].tolist()
            raise PredictionsError(
                f"{column} {name!r} is in the test part of folds {' and '.join(map(str, where))}; each belongs to one. "
                "Take the folds of one split (same split.seed)."
            )
    return folds[0].with_frame(joined.sort_values("image_id", kind="stable").reset_index(drop=True))


def _check_several(members: Sequence[Predictions], what: str) -> None:
    if len(members) < 2:
        raise PredictionsError(f"{len(members)} {what}; expected at least two.")
    first = (members[0].classes, members[0].positive)
    for number, member in enumerate(members):
        if (member.classes, member.positive) != first:
            raise PredictionsError(
                f"member {number} is of classes {list(member.classes)} with {list(member.positive)} positive, member 0 of "
                f"{list(first[0])} with {list(first[1])} positive."
            )


def further_columns(predictions: Predictions) -> list[str]:
    """Columns that describe the image: all beyond id, group, label, probabilities and fold."""
    known = {*REQUIRED, FOLD}
    return [str(name) for name in predictions.frame.columns if name not in known and not str(name).startswith(PREFIX)]


def pooled_summary(
    joined: Predictions, thresholds: Sequence[float], how: Resampling, point: OperatingPoint
) -> dict[str, Any]:
    """All folds as one set: the part of a split in metrics.json, with intervals from resampled groups.

    Decisions (``at_threshold``) are those of each fold's own threshold, which its own validation part fixed: a threshold chosen
    on the joined scores would be judged on the images that chose it. Rankings pool the scores of different networks.

    Args:
        joined: of :func:`join_folds`.
        thresholds: of each fold, in order.
        how: resamples, confidence, seed.
        point: any operating point of the task; says how images of a group count together.
    """
    summary = judge(joined, point, how).summary
    cut = np.asarray(thresholds, dtype=np.float64)[joined.frame[FOLD].to_numpy(dtype=np.int64)]
    flagged = (joined.scores >= cut).astype(np.float64)
    names = (joined.negative_class, joined.positive_class)
    decided = Predictions(
        joined.frame[["image_id", "group_id"]].assign(
            label=np.array(names, dtype=object)[joined.labels],
            **{PREFIX + names[0]: 1.0 - flagged, PREFIX + names[1]: flagged},
        ),
        names,
        names[1],
    )
    own = judge(decided, replace(point, threshold=0.5), how).summary[LOCKED]
    return {**summary, LOCKED: {**own, "threshold": None, "thresholds": [float(value) for value in thresholds]}}


def headline(split: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures by which runs are compared, as intervals by name: of one split of metrics.json.

    AUROC, sensitivity and specificity are of the positive classes; of three or more classes, accuracy and balanced accuracy
    are those of the most probable class, else those at the threshold.
    """
    several, at = split.get("multiclass"), split[LOCKED]
    found = {"AUROC": split["auroc"]}
    if several:
        found |= {"macro AUROC": several["macro_auroc"]}
    found |= {"accuracy": (several or at)["accuracy"], "balanced accuracy": (several or at)["balanced_accuracy"]}
    return found | {"sensitivity": at["sensitivity"], "specificity": at["specificity"]}


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """``mean``, ``sd`` (with n - 1; None for one value) and ``n`` of the values that are defined."""
    known = [float(value) for value in values if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "sd": statistics.stdev(known) if len(known) > 1 else None,
        "n": len(known),
    }


def paired_differences(ensemble: Predictions, member: Predictions, how: Resampling) -> dict[str, dict[str, Any]]:
    """Ensemble minus member on the same images and the same resamples of groups, as intervals by metric.

    Args:
        ensemble, member: of the same images in the same order.
        how: resamples, confidence, seed.

    Returns:
        ``auroc``, ``average_precision`` and ``brier`` of the positive classes; of three or more classes also
        ``balanced_accuracy`` and ``macro_auroc``.
    """
    pair = [ensemble, _in_order(member, ensemble)]
    options: dict[str, Any] = {"resamples": how.resamples, "seed": how.seed, "interval": how.interval}
    ranked = [bootstrap(part.labels, part.scores, part.groups, {}, **options) for part in pair]
    found = {name: difference_interval(name, ranked[0], ranked[1], how.confidence).to_dict() for name in _RANKS}
    if len(ensemble.classes) > 2:
        held = [multiclass_bootstrap(part.targets, part.probabilities, part.groups, **options) for part in pair]
        found |= {name: difference_interval(name, held[0], held[1], how.confidence).to_dict() for name in _OVER_CLASSES}
    return found


def _in_order(predictions: Predictions, like: Predictions) -> Predictions:
    """The same images in the order of ``like``."""
    frame = predictions.frame.set_index("image_id", drop=False).loc[like.frame["image_id"]]
    return predictions.with_frame(frame.reset_index(drop=True))


def approximate(point: OperatingPoint, networks: int, group_name: str) -> OperatingPoint:
    """An operating point that out-of-fold scores fixed, with a statement that promises no more than it can.

    The certificate is exact for scores of one network on new groups. Out-of-fold scores are of k networks, one an image, and
    the threshold is then used on the mean of all k: the rule is the same, its guarantee is not. The bound is therefore not
    stated.

    Args:
        point: of :func:`evaluation.threshold.choose_operating_point` on out-of-fold scores.
        networks: how many folds.
        group_name: what a group is called.
    """
    positive, most = point.positive_class, "at most " if point.rule in ORDERED else ""
    point = replace(point, price=tuple(_out_of_fold(row) for row in point.price))
    groups = plural(point.n_groups, f"{positive} {group_name}")
    start = (
        f"An image is called {positive} when its score is at least {short(point.threshold)}; out of fold this misses {most}"
        f"{point.misses_allowed} of {groups}"
    )
    if point.rule == "fixed":
        return replace(point, statement=f"{start}. The value was set by hand and promises no recall.")
    aim = f"aims at a recall of {percent(point.target_recall)}"
    if point.rule not in ORDERED:
        aim = "counts images and promises no recall"
    elif point.rule == "certified":
        aim += f" with {percent(point.confidence)} confidence"
    end = ": the recall is approximate, not certified" if point.rule in ORDERED else ""
    statement = (
        f"{start}. The {point.rule} rule {aim}, and these scores are of {networks} single networks, each on images that it was "
        f"not trained on, while the threshold is used on the mean of their scores{end}."
    )
    if point.unmet:
        statement += f" {point.unmet}"
    return replace(point, recall_lower_bound=None, specificity_lower_bound=None, statement=statement)


def _out_of_fold(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the price table in the words of out-of-fold scores."""
    note = str(row["note"]).replace("on validation", "out of fold")
    if row["rule"] in ("certified", "crc") and row["threshold"] is not None:
        note = f"{note.split('; ')[0]}; approximate, because the scores are of single networks"
    return {**row, "note": note}

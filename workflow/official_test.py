"""The official test part of a data set, scored by the networks of all folds, none of which has seen it."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from callbacks.predictions import predictions_of
from conf.output import short
from datamodules.prepared import PreparedData, prepare
from datamodules.progress import Progress, progress_bar, silent
from datamodules.thumbnails import thumbnails
from evaluation.baseline import domain_auc
from evaluation.baselines import BaselineInputs, baseline_scores
from evaluation.ensembles import join_folds, mean_predictions
from evaluation.metrics import auroc
from evaluation.predictions import PREFIX, Predictions, write_predictions
from workflow.members import Member
from workflow.scoring import load_scorer

log = logging.getLogger("firstread")
THUMBNAIL = "thumbnail"


@dataclass(frozen=True)
class OfficialTest:
    """The data set's own test part, which the folds left alone.

    Attributes:
        prepared: the data set as the folds saw it.
        rows: of the test images in its manifest.
        left_out: test images that are not judged, because their group is among the images that the folds trained on.
    """

    prepared: PreparedData
    rows: NDArray[np.int64]
    left_out: int


def find_official_test(members: Sequence[Member], joined: Predictions) -> OfficialTest | None:
    """The official test part, if the folds were cut from the training part alone and there is one; else None.

    Raises:
        ValueError: if the data are not those of the runs.
    """
    first = members[0]
    split, card = first.config["split"], first.folder / "data_card.json"
    unused = json.loads(card.read_text(encoding="utf-8")).get("unused", 0) if card.is_file() else 1
    if split["pool"] != "train" or split["grouping"] != "group" or split["file"] is not None or not unused:
        return None
    settings = {**first.config, "split": {**split, "refresh": False}}  # the stored split is obeyed, never made anew
    prepared = prepare(settings, _progress(first))
    if prepared.manifest.sha256 != first.record["manifest_sha256"]:
        raise ValueError(
            f"the images in {prepared.root} are not those of the runs: manifest_sha256 is {prepared.manifest.sha256[:12]}, "
            f"in {short(first.folder)} it was {first.record['manifest_sha256'][:12]}. Restore the data."
        )
    frame = prepared.manifest.frame
    locked = (frame["split"] == "test") & ~frame["image_id"].isin(set(joined.frame["image_id"]))
    seen = frame["group_id"].isin(set(joined.frame["group_id"].astype(str)))
    rows = np.flatnonzero((locked & ~seen).to_numpy()).astype(np.int64)
    if not len(rows):
        return None
    return OfficialTest(prepared, rows, int((locked & seen).sum()))


def _progress(member: Member) -> Progress:
    return progress_bar if member.config["trainer"]["progress_bar"] else silent


def mean_of_networks(members: Sequence[Member], official: OfficialTest) -> Predictions:
    """Mean probabilities of all folds' networks on the official test part."""
    task, held = members[0].config["task"], []
    outcome = {name: task[name] for name in ("positive", "positive_name", "negative_name")}
    for member in members:
        probabilities = score_images(member, official.prepared, official.rows, _progress(members[0]))
        held.append(predictions_of(official.prepared, official.rows, probabilities, outcome))
    values = [auroc(part.labels, part.scores) for part in held]
    log.info(
        "AUROC of the single networks on the official test part: %s", ", ".join(f"{value:.3f}" for value in values)
    )
    return mean_predictions(held)


def score_images(
    member: Member, prepared: PreparedData, rows: NDArray[np.int64], progress: Progress = silent
) -> NDArray[np.float64]:
    """Class probabilities by the network of a run, averaged over the views that it was validated with.

    Args:
        member: a run of a network.
        prepared: the data set; its pixels have the size that the network takes.
        rows: of its manifest, shape (k,).

    Returns:
        Shape (k, classes), see :meth:`workflow.scoring.Scorer.probabilities`.

    Raises:
        ValueError: if the run left no network.
    """
    scorer = load_scorer(member.folder)
    table = prepared.manifest.frame.iloc[rows] if scorer.takes_metadata else None
    return scorer.probabilities(np.ascontiguousarray(prepared.pixels[rows]), table, progress)


def _pool_rows(official: OfficialTest, joined: Predictions) -> NDArray[np.int64]:
    inside = official.prepared.manifest.frame["image_id"].isin(set(joined.frame["image_id"]))
    return np.flatnonzero(inside.to_numpy()).astype(np.int64)


def thumbnail_baseline(
    members: Sequence[Member], official: OfficialTest, joined: Predictions, test: Predictions, folder: Path
) -> dict[str, tuple[Predictions, Predictions]]:
    """The thumbnail baseline: out of fold as the runs scored it; on the official test part fitted on all images of the folds."""
    if any(THUMBNAIL not in member.baselines for member in members):
        return {}
    before = join_folds([member.predictions(f"{THUMBNAIL}_test") for member in members])
    rows, manifest, pixels = _pool_rows(official, joined), official.prepared.manifest, official.prepared.pixels
    train, held = thumbnails(pixels, rows), thumbnails(pixels, official.rows)
    groups = manifest.frame["group_id"].to_numpy(dtype=str)[rows]
    positive = manifest.classes.index(test.positive[0])
    inputs = BaselineInputs(train, held[:1], held, groups)
    scores = baseline_scores(THUMBNAIL, inputs, manifest.targets[rows], len(manifest.classes), positive=positive)[
        "test"
    ]
    columns = {PREFIX + name: scores[:, number] for number, name in enumerate(manifest.classes)}
    after = test.with_frame(test.frame.assign(**columns))
    for part, predictions in (("val", before), ("test", after)):
        write_predictions(folder / "predictions" / f"{THUMBNAIL}_{part}.csv", predictions.frame)
    return {THUMBNAIL: (before, after)}


def domain_aucs_of(official: OfficialTest, joined: Predictions, seed: int) -> dict[str, float | None]:
    """How well thumbnails tell official test images from the images of the folds, class by class."""
    manifest, pixels = official.prepared.manifest, official.prepared.pixels
    groups, found = manifest.frame["group_id"].to_numpy(dtype=str), {}
    pool = _pool_rows(official, joined)
    for number, name in enumerate(manifest.classes):
        ours, theirs = (rows[manifest.targets[rows] == number] for rows in (pool, official.rows))
        found[name] = domain_auc(
            thumbnails(pixels, ours), thumbnails(pixels, theirs), groups[ours], groups[theirs], seed=seed
        )
    return found

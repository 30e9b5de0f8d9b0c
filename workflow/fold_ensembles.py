"""All folds of one cross-validation: out-of-fold figures and, where the data set has a test part of its own, the mean on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conf.output import write_json
from evaluation.bootstrap import Resampling
from evaluation.ensembles import approximate, headline, join_folds, pooled_summary
from evaluation.intervals import format_interval
from evaluation.predictions import Predictions, write_predictions
from evaluation.summary import SCHEMA
from evaluation.threshold import choose_operating_point
from evaluation.wording import LEAKY, percent, plural, worry
from workflow.ensembles import compared_members, judged, judged_as, with_worries
from workflow.judged_ensemble import APPROXIMATE
from workflow.members import Member
from workflow.official_test import (
    OfficialTest,
    domain_aucs_of,
    find_official_test,
    mean_of_networks,
    thumbnail_baseline,
)


def fold_ensemble(members: Sequence[Member], rule: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Join the folds, fix a threshold on the out-of-fold scores, and score the official test part if there is one.

    Args:
        members: all folds, in any order.
        rule: of :func:`workflow.ensembles.threshold_rule`.
        folder: where predictions and data card are written.

    Returns:
        The content of metrics.json: of a run whose validation part is the out-of-fold scores, or, without an official test
        part, ``pooled`` in place of ``splits``.
    """
    members = sorted(members, key=lambda member: member.fold)
    task, split = members[0].config["task"], members[0].config["split"]
    joined = join_folds([member.predictions("test") for member in members], grouped=split["grouping"] == "group")
    point = choose_operating_point(joined, **rule, selection_optimistic=False)
    point = approximate(point, len(members), task["group_name"])
    facts = judged_as(members, "folds")
    how = Resampling(
        facts["bootstrap"], facts["confidence"], (facts["seed"], 0), facts["interval"]
    )  # as of a validation part
    pooled = pooled_summary(joined, [member.threshold for member in members], how, point)
    compared = compared_members(members, "folds") | {"figures": headline(pooled)}
    official = find_official_test(members, joined)
    _write_card(members, joined, official, folder)
    if official is None:
        write_predictions(folder / "predictions" / "out_of_fold.csv", joined.frame)
        metrics = _cross_validation(members, joined, facts, pooled, point.to_dict())
        compared["sentence"] = _pooled_sentence(compared, len(members))
        return {**with_worries(metrics, members[0].data_worries()), "ensemble": compared}
    test = mean_of_networks(members, official)
    for part, predictions in (("val", joined), ("test", test)):
        write_predictions(folder / "predictions" / f"{part}.csv", predictions.frame)
    metrics = judged(
        members,
        "folds",
        {"val": joined, "test": test},
        point,
        baselines=thumbnail_baseline(members, official, joined, test, folder),
        domain_aucs=domain_aucs_of(official, joined, facts["seed"]),
        test_kind="official",
    )
    compared["official"] = headline(metrics["splits"]["test"])
    compared["sentence"] = _pooled_sentence(compared, len(members))
    metrics |= {"ensemble": compared, "pooled": pooled}
    more = _worries_of_folds(members, official, point.rule, task["group_name"], compared["sentence"])
    return with_worries(metrics, [*more, *members[0].data_worries()])


def _cross_validation(
    members: Sequence[Member], joined: Predictions, facts: dict[str, Any], pooled: dict[str, Any], point: dict[str, Any]
) -> dict[str, Any]:
    """metrics.json of a cross-validation without an official test part."""
    leak = _leak_of(members)
    metrics = {
        "schema": SCHEMA,
        **{name: facts[name] for name in ("title", "phantom", "task", "model", "group_name", "confidence")},
        "classes": list(joined.classes),
        "positive_class": joined.positive_class,
        "negative_class": joined.negative_class,
        "positive": list(joined.positive),
        "bootstrap": {
            "resamples": facts["bootstrap"],
            "unit": facts["group_name"],
            "method": facts["interval"],
            "seed": facts["seed"],
        },
        "test_kind": "folds",
        "leak": leak,
        "threshold": point,
        "pooled": pooled,
        "worries": [],
    }
    text = (
        "Every image was scored once, by the network that was not trained on it. The networks of the folds share most of their "
        "training images, so the sd over folds is not that of independent repetitions; pooled rankings mix the scores of "
        "different networks. The stored threshold was fixed on these scores, for use with the mean of the networks; no figure "
        "here was measured at it."
    )
    more = [worry("note", "Cross-validation", text)]
    if leak is not None:
        text = (
            f"{percent(leak['share'], 1)} of the images show a {leak['unit']} that the network scoring them was trained on, so "
            "every figure here may be too good. The split was made image by image on purpose."
        )
        more.append(worry("alarm", LEAKY, text))
    if facts["phantom"]:
        text = "Phantom data: generated images, says nothing about patients."
        more.append(worry("note", "Phantom data", text))
    return with_worries(metrics, more)


def _leak_of(members: Sequence[Member]) -> dict[str, Any] | None:
    """The leaks of all folds together; None for grouped folds."""
    leaks = [member.metrics["leak"] for member in members]
    if leaks[0] is None:
        return None
    totals = {key: sum(leak[key] for leak in leaks) for key in ("test_images", "test_images_with_group_in_train")}
    share = totals["test_images_with_group_in_train"] / totals["test_images"]
    return {**leaks[0], **totals, "share": share}


def _worries_of_folds(
    members: Sequence[Member], official: OfficialTest, rule: str, group_name: str, sentence: str
) -> list[dict[str, str]]:
    """What a reader of the ordinary report has to know of folds."""
    text = (
        f"Where this page says validation, it shows the out-of-fold scores of {len(members)} single networks, each on images "
        f"that it was not trained on; on test it shows the mean of all {len(members)}. {sentence}"
    )
    found = [worry("note", f"Mean of {len(members)} folds", text)]
    if rule == "certified":
        found.append(APPROXIMATE)
    if official.left_out:
        text = (
            f"{plural(official.left_out, 'image')} of the official test part are not judged: their {group_name} is among the "
            "images that the folds were trained on."
        )
        found.append(worry("caution", "Part of the official test set is left out", text))
    return found


def _pooled_sentence(compared: dict[str, Any], folds: int) -> str:
    shown = "macro AUROC" if "macro AUROC" in compared["figures"] else "AUROC"
    spread = compared["spread"]
    parts = []
    for name in (shown, "balanced accuracy"):
        single = spread[name]
        fold = "" if single["sd"] is None else f", {single['mean']:.3f} (sd {single['sd']:.3f}) over the folds"
        parts.append(f"{name} {format_interval(compared['figures'][name])}{fold}")
    return f"Out of fold, all {folds} folds together: {'; '.join(parts)}."


def _write_card(members: Sequence[Member], joined: Predictions, official: OfficialTest | None, folder: Path) -> None:
    """The data card of the whole: what the folds share, and counts of the out-of-fold and test images."""
    path = members[0].folder / "data_card.json"
    if not path.is_file():
        return
    card = json.loads(path.read_text(encoding="utf-8"))
    parts = {"out of fold": joined.frame}
    if official is not None:
        parts["official test"] = official.prepared.manifest.frame.iloc[official.rows]
    counts = []
    for part, frame in parts.items():
        for name in joined.classes:
            rows = frame[frame["label"] == name]
            counts.append(
                {"split": part, "class": name, "images": len(rows), "groups": int(rows["group_id"].nunique())}
            )
    method = (
        f"{len(members)} folds by {card['group_name']}; each image is scored by the network that was not trained on it"
    )
    split = {"method": method, "seed": members[0].config["split"]["seed"], "kind": "kfold"}
    write_json(
        {**card, "counts": counts, "split": split, "parts": {}, "unused": 0, "split_sha256": ""},
        folder / "data_card.json",
    )

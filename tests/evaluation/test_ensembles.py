"""The arithmetic of ensembles: means, joined folds, pooled figures, differences in pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evaluation.bootstrap import Resampling
from evaluation.ensembles import (
    approximate,
    headline,
    join_folds,
    mean_predictions,
    paired_differences,
    pooled_summary,
    spread,
)
from evaluation.metrics import auroc, counts_at
from evaluation.predictions import Predictions, PredictionsError
from evaluation.threshold import OperatingPoint, choose_operating_point

TWO, THREE = ("benign", "malignant"), ("bcc", "mel", "nv")
HOW = Resampling(60, 0.95, (0, 1))


def make(
    n: int = 60, classes: tuple[str, ...] = TWO, *, first: int = 0, seed: int = 0, skill: float = 1.0
) -> Predictions:
    """Images ``first`` to ``first + n - 1``, two to a group; labels depend on the image only, scores on the seed."""
    rng, number = np.random.default_rng(seed), np.arange(first, first + n)
    targets = number // 2 % len(classes)
    logits = rng.normal(size=(n, len(classes)))
    logits[np.arange(n), targets] += skill
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frame = pd.DataFrame({"image_id": [f"i{k:04d}" for k in number], "group_id": [f"g{k // 2:04d}" for k in number]})
    frame["label"] = np.array(classes)[targets]
    frame["sex"] = np.where(number % 3 == 0, "female", "male")
    for column, name in enumerate(classes):
        frame[f"prob_{name}"] = scores[:, column]
    return Predictions(frame, classes, "malignant" if classes == TWO else "mel")


def point_of(predictions: Predictions, rule: str = "empirical") -> OperatingPoint:
    return choose_operating_point(predictions, rule=rule, recall=0.9, group_name="lesion", selection_optimistic=False)


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_the_mean_is_taken_image_by_image_whatever_the_order(classes: tuple[str, ...]) -> None:
    first, second = make(classes=classes, seed=1), make(classes=classes, seed=2)
    shuffled = second.with_frame(second.frame.sample(frac=1.0, random_state=3).reset_index(drop=True))
    mean = mean_predictions([first, shuffled])
    assert np.array_equal(mean.probabilities, (first.probabilities + second.probabilities) / 2)
    assert mean.frame["image_id"].tolist() == first.frame["image_id"].tolist()
    assert mean.frame["sex"].tolist() == first.frame["sex"].tolist()
    assert not np.array_equal(first.probabilities, second.probabilities), "nothing was written into a member"


def test_averaging_networks_of_equal_skill_ranks_better() -> None:
    members = [make(400, seed=seed) for seed in range(5)]
    mean = mean_predictions(members)
    single = [auroc(member.labels, member.scores) for member in members]
    assert auroc(mean.labels, mean.scores) > max(single)


def test_members_of_other_images_groups_labels_or_classes_are_refused() -> None:
    member = make()
    with pytest.raises(PredictionsError, match=r"2 are in one of them only, the first is 'i0000'"):
        mean_predictions([member, make(first=1)])
    for column, value in (("group_id", "elsewhere"), ("label", "malignant")):
        frame = member.frame.copy()
        frame.loc[4, column] = value
        with pytest.raises(PredictionsError, match=f"{column} of image 'i0004' differs between member 1 and member 0"):
            mean_predictions([member, member.with_frame(frame)])
    with pytest.raises(PredictionsError, match="member 1 is of classes"):
        mean_predictions([member, make(classes=THREE)])
    with pytest.raises(PredictionsError, match="1 members; expected at least two"):
        mean_predictions([member])


def test_folds_join_to_every_image_once() -> None:
    folds = [make(20, first=first, seed=first) for first in (20, 0, 40)]
    joined = join_folds(folds)
    assert joined.frame["image_id"].tolist() == [f"i{k:04d}" for k in range(60)]
    assert joined.frame["fold"].tolist() == [1] * 20 + [0] * 20 + [2] * 20
    for number, fold in enumerate(folds):
        rows = joined.frame["fold"] == number
        assert np.array_equal(joined.probabilities[rows.to_numpy()], fold.probabilities)


def test_an_image_or_a_group_in_two_folds_is_refused() -> None:
    with pytest.raises(PredictionsError, match=r"image_id 'i0018' is in the test part of folds 0 and 1"):
        join_folds([make(20), make(20, first=18)])
    with pytest.raises(PredictionsError, match=r"group_id 'g0009' is in the test part of folds 0 and 1"):
        join_folds([make(19), make(21, first=19)])
    assert len(join_folds([make(19), make(21, first=19)], grouped=False)) == 40


def test_pooled_decisions_are_those_of_each_folds_own_threshold() -> None:
    folds = [make(40, first=40 * number, seed=number) for number in range(3)]
    thresholds = [0.2, 0.5, 0.8]
    joined = join_folds(folds)
    pooled = pooled_summary(joined, thresholds, HOW, point_of(joined))
    by_hand = [counts_at(fold.labels, fold.scores, cut) for fold, cut in zip(folds, thresholds, strict=True)]
    assert [pooled["at_threshold"][name] for name in ("tp", "fn", "fp", "tn")] == [
        sum(getattr(counts, name) for counts in by_hand) for name in ("tp", "fn", "fp", "tn")
    ]
    right = sum(counts.tp + counts.tn for counts in by_hand)
    accuracy = pooled["at_threshold"]["accuracy"]
    assert accuracy["value"] == pytest.approx(right / 120)
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert pooled["auroc"]["value"] == pytest.approx(auroc(joined.labels, joined.scores))
    assert pooled["at_threshold"]["thresholds"] == thresholds


def test_three_classes_pool_the_most_probable_class_and_the_positive_one_against_the_rest() -> None:
    folds = [make(60, THREE, first=60 * number, seed=number) for number in range(2)]
    joined = join_folds(folds)
    pooled = pooled_summary(joined, [0.3, 0.4], HOW, point_of(joined))
    figures = headline(pooled)
    recalls = [np.mean(joined.decisions[joined.targets == number] == number) for number in range(3)]
    assert figures["balanced accuracy"]["value"] == pytest.approx(np.mean(recalls))
    assert figures["macro AUROC"]["value"] == pytest.approx(
        np.mean([auroc((joined.targets == k).astype(np.uint8), joined.probabilities[:, k]) for k in range(3)])
    )
    hits = sum(counts_at(fold.labels, fold.scores, cut).tp for fold, cut in zip(folds, (0.3, 0.4), strict=True))
    assert figures["sensitivity"]["value"] == pytest.approx(hits / joined.labels.sum())


def test_differences_are_paired_and_have_no_width_against_oneself() -> None:
    member = make(120, seed=1)
    same = paired_differences(member, member.with_frame(member.frame.iloc[::-1].reset_index(drop=True)), HOW)
    assert set(same) == {"auroc", "average_precision", "brier"}
    assert same["auroc"]["value"] == same["auroc"]["low"] == same["auroc"]["high"] == 0.0
    better = make(120, seed=1, skill=4.0)
    found = paired_differences(better, member, HOW)
    assert found["auroc"]["value"] == pytest.approx(
        auroc(better.labels, better.scores) - auroc(member.labels, member.scores)
    )
    assert found["auroc"]["low"] > 0 > found["brier"]["high"]
    several = paired_differences(make(90, THREE, skill=4.0), make(90, THREE), HOW)
    assert several["balanced_accuracy"]["value"] > 0 and several["macro_auroc"]["value"] > 0


def test_spread_leaves_out_what_is_not_defined() -> None:
    assert spread([0.8, None, 0.9]) == {"mean": pytest.approx(0.85), "sd": pytest.approx(0.0707107), "n": 2}
    assert spread([0.8]) == {"mean": 0.8, "sd": None, "n": 1}
    assert spread([None]) == {"mean": None, "sd": None, "n": 0}


def test_an_operating_point_of_out_of_fold_scores_promises_nothing_exact() -> None:
    joined = join_folds([make(100, first=100 * number, seed=number) for number in range(5)])
    exact = choose_operating_point(
        joined, rule="certified", recall=0.9, group_name="lesion", selection_optimistic=False
    )
    assert exact.rule == "certified" and "of all future" in exact.statement
    loose = approximate(exact, 5, "lesion")
    assert (loose.threshold, loose.rule, loose.misses_allowed) == (exact.threshold, "certified", exact.misses_allowed)
    assert loose.recall_lower_bound is None
    assert "approximate, not certified" in loose.statement and "5 single networks" in loose.statement
    assert "future" not in loose.statement
    notes = {row["rule"]: row["note"] for row in loose.price}
    assert "confidence" not in notes["certified"] and "validation" not in notes["empirical"]
    by_hand = choose_operating_point(joined, rule="fixed", fixed=0.5, selection_optimistic=False)
    assert "set by hand and promises no recall" in approximate(by_hand, 5, "lesion").statement

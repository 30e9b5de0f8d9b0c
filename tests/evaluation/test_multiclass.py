"""Arg-max figures against scikit-learn, weighted resamples against repeated rows, and what is not defined."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from evaluation.bootstrap import Resampling, difference_interval
from evaluation.multiclass import OVERALL, PER_CLASS, multiclass_bootstrap, multiclass_of
from evaluation.predictions import Predictions

CLASSES = ("akiec", "bcc", "mel", "nv")


def draw(n: int = 400, seed: int = 0, ties: bool = False, separation: float = 1.5) -> Predictions:
    rng = np.random.default_rng(seed)
    targets = rng.choice(4, n, p=[0.1, 0.15, 0.25, 0.5])
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), targets] += separation
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if ties:
        scores = np.maximum(np.round(scores, 1), 0.1)
        scores /= scores.sum(axis=1, keepdims=True)
    return of(targets, scores.astype(np.float32).astype(float), rng.integers(0, n // 2, n))


def of(targets: NDArray[np.int64], scores: NDArray[np.float64], groups: NDArray[np.int64]) -> Predictions:
    frame = pd.DataFrame(
        {"image_id": [f"i{k}" for k in range(len(targets))], "group_id": [f"g{k:04d}" for k in groups]}
    )
    frame["label"] = np.array(CLASSES)[targets]
    for number, name in enumerate(CLASSES):
        frame[f"prob_{name}"] = scores[:, number]
    return Predictions(frame, CLASSES, ("mel", "bcc"), "malignant", "benign")


def isic_balanced_accuracy(targets: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """As the official scorer of ISIC 2018 and 2019: images with several most probable classes are called 'undecided'."""
    called = np.where((scores == scores.max(axis=1, keepdims=True)).sum(axis=1) > 1, -1, scores.argmax(axis=1))
    return float(np.mean([(called[targets == number] == number).mean() for number in np.unique(targets)]))


def expected(targets: NDArray[np.int64], scores: NDArray[np.float64]) -> dict[str, float]:
    called, onehot = scores.argmax(axis=1), np.eye(4)[targets]
    return {
        "accuracy": reference.accuracy_score(targets, called),
        "balanced_accuracy": reference.balanced_accuracy_score(targets, called),
        "macro_f1": reference.f1_score(targets, called, average="macro"),
        "kappa": reference.cohen_kappa_score(targets, called),
        "mcc": reference.matthews_corrcoef(targets, called),
        "balanced_accuracy_isic": isic_balanced_accuracy(targets, scores),
        "macro_auroc": reference.roc_auc_score(onehot, scores, average="macro"),
        "macro_average_precision": reference.average_precision_score(onehot, scores, average="macro"),
        "log_loss": reference.log_loss(targets, scores / scores.sum(axis=1, keepdims=True)),
        "brier": float(np.square(scores - onehot).sum(axis=1).mean()),
    }


@pytest.mark.parametrize("ties", [False, True])
def test_figures_equal_those_of_scikit_learn(ties: bool) -> None:
    held = draw(ties=ties)
    summary, _ = multiclass_of(held, Resampling(20))
    values = {name: summary[name]["value"] for name in OVERALL}
    assert values == pytest.approx(expected(held.targets, held.probabilities), abs=1e-6)
    called, onehot = held.decisions, np.eye(4)[held.targets]
    table = reference.precision_recall_fscore_support(held.targets, called)
    assert summary["confusion"] == reference.confusion_matrix(held.targets, called).tolist()
    for number, row in enumerate(summary["classes"]):
        found = [row[name]["value"] for name in PER_CLASS]
        score = held.probabilities[:, number]
        ranks = reference.roc_auc_score, reference.average_precision_score
        cleared = reference.recall_score(onehot[:, number], called == number, pos_label=0)
        wanted = [table[1][number], cleared, table[0][number], table[2][number]]
        wanted += [rank(onehot[:, number], score) for rank in ranks]
        assert found == pytest.approx(wanted, abs=1e-12)
        assert (row["class"], row["n"]) == (CLASSES[number], table[3][number])
        assert row["called"] == (called == number).sum()
        assert row["n_groups"] == held.frame.loc[held.targets == number, "group_id"].nunique()


def test_every_draw_equals_the_figures_of_the_repeated_images() -> None:
    from evaluation.bootstrap import draws_within
    from evaluation.multiclass import _strata

    held = draw(150, ties=True)
    resampled = multiclass_bootstrap(held.targets, held.probabilities, held.groups, 18, 3)
    strata = _strata(held.targets, held.groups, np.bincount(held.targets, minlength=4))
    weights = np.concatenate(list(draws_within(strata, len(held.group_names), 18, 3)))
    assert sorted(np.concatenate(strata)) == list(range(len(held.group_names)))
    for number in (0, 15, 16, 17):
        rows = np.repeat(np.arange(len(held)), weights[number][held.groups].astype(int))
        wanted = expected(held.targets[rows], held.probabilities[rows])
        assert {name: resampled.draws[name][number] for name in OVERALL} == pytest.approx(wanted, abs=1e-6)


def test_the_isic_scorer_counts_a_tie_as_wrong() -> None:
    targets = np.array([0, 0, 1, 2, 3, 3])
    scores = np.eye(4)[targets] * 0.7 + 0.075
    scores[0] = [0.4, 0.4, 0.1, 0.1]
    summary, _ = multiclass_of(of(targets, scores, np.arange(6)), Resampling(30))
    assert summary["balanced_accuracy"]["value"] == 1.0
    assert summary["balanced_accuracy_isic"]["value"] == pytest.approx((0.5 + 1 + 1 + 1) / 4)


def test_bca_corrects_every_figure_or_says_percentile() -> None:
    held = draw(300)
    plain, corrected = (multiclass_of(held, Resampling(300, 0.95, 0, kind))[0] for kind in ("percentile", "bca"))
    for name in OVERALL:
        assert corrected[name]["value"] == plain[name]["value"]
        assert plain[name]["method"] == "group bootstrap"
        assert corrected[name]["method"] == "group bootstrap, BCa"
        assert corrected[name]["low"] != plain[name]["low"]
        width = plain[name]["high"] - plain[name]["low"]
        assert corrected[name]["low"] == pytest.approx(plain[name]["low"], abs=0.35 * width)


def test_shares_of_independent_images_have_wilsons_interval() -> None:
    held = draw(200)
    alone = of(held.targets, held.probabilities, np.arange(200))
    for part, method in ((held, "group bootstrap"), (alone, "wilson")):
        summary, _ = multiclass_of(part, Resampling(50))
        assert summary["accuracy"]["method"] == method
        assert summary["classes"][3]["recall"]["method"] == summary["classes"][3]["specificity"]["method"] == method
        assert summary["macro_f1"]["method"] == "group bootstrap"


def test_groups_are_drawn_within_their_rarest_class() -> None:
    """Two lesions of the rarest class, one of them also in an image of the commonest: both are drawn in every resample."""
    targets = np.array([0, 0, 3, *[3] * 40])
    scores = np.full((43, 4), 0.25)
    resampled = multiclass_bootstrap(targets, scores, np.array([0, 1, 1, *range(2, 42)]), 50, 0)
    assert np.isfinite(resampled.draws["recall/0"]).all()
    assert np.isfinite(resampled.draws["macro_auroc"]).all()


def test_an_absent_class_is_none_and_leaves_the_means_alone() -> None:
    held = draw()
    kept = held.targets != 1
    part = held.with_frame(pd.DataFrame(held.frame.loc[kept]))
    summary, _ = multiclass_of(part, Resampling(50))
    json.dumps(summary, allow_nan=False)
    assert summary["absent"] == ["bcc"]
    row = summary["classes"][1]
    assert row["n"] == row["n_groups"] == 0
    assert all(row[name]["value"] is None for name in ("recall", "f1", "auroc", "average_precision"))
    recalls = [other["recall"]["value"] for other in summary["classes"] if other["n"]]
    assert summary["balanced_accuracy"]["value"] == pytest.approx(np.mean(recalls))
    assert summary["macro_auroc"]["low"] < summary["macro_auroc"]["value"] < summary["macro_auroc"]["high"]


@pytest.mark.parametrize("n", [1, 5])
def test_one_class_only_and_one_image_only(n: int) -> None:
    scores = np.tile([0.1, 0.1, 0.1, 0.7], (n, 1))
    summary, _ = multiclass_of(of(np.full(n, 3), scores, np.arange(n)), Resampling(30))
    json.dumps(summary, allow_nan=False)
    assert summary["accuracy"]["value"] == 1.0 and summary["accuracy"]["method"] == "wilson"
    assert summary["kappa"]["value"] is None and summary["macro_auroc"]["value"] is None
    assert summary["classes"][3]["recall"]["value"] == 1.0
    assert summary["classes"][3]["auroc"]["value"] is None
    assert summary["classes"][0]["precision"]["value"] is None
    if n == 1:
        assert summary["balanced_accuracy"]["low"] is None


def test_never_called_has_no_precision_but_an_f1_of_zero() -> None:
    scores = np.tile([0.1, 0.2, 0.3, 0.4], (8, 1))
    summary, _ = multiclass_of(of(np.arange(8) % 4, scores, np.arange(8)), Resampling(30))
    assert summary["classes"][0]["precision"]["value"] is None
    assert summary["classes"][0]["f1"]["value"] == 0.0
    assert summary["classes"][0]["recall"]["method"] == "wilson"
    assert summary["classes"][0]["recall"]["high"] > 0.3


def test_certain_and_wrong_costs_a_finite_log_loss() -> None:
    scores = np.eye(4)[[3, 0]]
    summary, _ = multiclass_of(of(np.array([0, 3]), scores, np.arange(2)), Resampling(5))
    assert 15 < summary["log_loss"]["value"] < 17
    assert summary["brier"]["value"] == pytest.approx(2.0)


def test_a_class_of_one_group_leaves_the_means_without_ends() -> None:
    held = draw(100)
    targets = np.where(held.targets == 0, 3, held.targets)
    targets[0] = 0
    summary, _ = multiclass_of(of(targets, held.probabilities, np.arange(100)), Resampling(50))
    assert summary["macro_auroc"]["value"] is not None and summary["macro_auroc"]["low"] is None
    assert summary["classes"][0]["auroc"]["low"] is None
    assert summary["accuracy"]["low"] is not None


def test_intervals_of_whole_groups_are_wider_and_reproducible() -> None:
    once = draw(120, separation=0.8)
    copies = of(np.repeat(once.targets, 6), np.repeat(once.probabilities, 6, axis=0), np.repeat(np.arange(120), 6))
    apart = of(copies.targets, copies.probabilities, np.arange(720))
    widths = []
    for held in (copies, apart):
        found = multiclass_of(held, Resampling(400))[0]["balanced_accuracy"]
        assert found == multiclass_of(held, Resampling(400))[0]["balanced_accuracy"]
        widths.append(found["high"] - found["low"])
    assert widths[0] > 2 * widths[1]


def test_differences_are_paired() -> None:
    first, second = draw(seed=1), draw(seed=1, separation=1.4)
    ours, theirs = (multiclass_of(held, Resampling(200))[1] for held in (first, second))
    paired = difference_interval("macro_auroc", ours, theirs)
    alone = multiclass_of(first, Resampling(200))[0]["macro_auroc"]
    assert paired.low is not None and paired.high is not None
    assert paired.high - paired.low < (alone["high"] - alone["low"]) / 2

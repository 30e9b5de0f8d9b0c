"""Two models on the same images: differences in pairs, exact tests, refusals, and what is said of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, recall_score, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar  # type: ignore[import-untyped]
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

from evaluation.agreement import agreement, disagreements, mcnemar, mcnemar_of, sign_test
from evaluation.bootstrap import Resampling
from evaluation.decided import decide, mean_of, resample
from evaluation.intervals import wilson
from evaluation.paired import compare, favours, holm, row_of, signed
from evaluation.paired_words import p_text, words_of
from evaluation.predictions import Predictions, PredictionsError

HOW = Resampling(400, 0.95, (0, 1))
CLASSES = ("normal", "sick")


def predictions(scores: Any, labels: Any, groups: Any = None, ids: Any = None) -> Predictions:
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    n = len(scores)
    frame = pd.DataFrame({"image_id": [f"i{k:03d}" for k in range(n)] if ids is None else ids})
    frame["group_id"] = frame["image_id"] if groups is None else [f"g{k:03d}" for k in groups]
    frame["label"] = np.array(CLASSES)[labels]
    frame["prob_normal"], frame["prob_sick"] = 1 - scores, scores
    return Predictions(frame, CLASSES, "sick")


def pair_of(
    n: int = 240, seed: int = 0, *, grouped: bool = False, gain: float = 0.8
) -> tuple[Predictions, Predictions]:
    """The second model sees ``gain`` more of the difference between the classes."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n) // 3 if grouped else np.arange(n)
    labels = rng.integers(0, 2, groups.max() + 1)[groups]
    base = labels + rng.normal(size=n)
    logits = (base, base + gain * labels + 0.3 * rng.normal(size=n))
    first, second = (predictions(1 / (1 + np.exp(1 - values)), labels, groups) for values in logits)
    return first, second


def test_every_difference_is_that_of_scikit_learn() -> None:
    a, b = pair_of()
    found = compare(a, b, 0.5, 0.6, HOW)
    y = a.labels
    metrics = {
        "auroc": roc_auc_score,
        "average_precision": average_precision_score,
        "brier": brier_score_loss,
        "log_loss": log_loss,
    }
    for name, metric in metrics.items():
        row = row_of(found, name)
        assert row is not None
        assert row["difference"]["value"] == pytest.approx(metric(y, b.scores) - metric(y, a.scores), abs=1e-9)
        assert row["difference"]["low"] < row["difference"]["value"] < row["difference"]["high"]
    for name, label in (("sensitivity", 1), ("specificity", 0)):
        row = row_of(found, name)
        assert row is not None
        expected = [recall_score(y, side.scores >= cut, pos_label=label) for side, cut in ((a, 0.5), (b, 0.6))]
        assert [row["a"]["value"], row["b"]["value"]] == pytest.approx(expected)


def test_pairs_are_narrower_than_two_intervals_apart() -> None:
    a, b = pair_of(gain=0.3)
    row = row_of(compare(a, b, 0.5, 0.5, HOW), "auroc")
    assert row is not None
    width, apart = (
        row["difference"]["high"] - row["difference"]["low"],
        sum(row[side]["high"] - row[side]["low"] for side in "ab"),
    )
    assert width < 0.6 * apart


def test_row_order_does_not_matter() -> None:
    a, b = pair_of(grouped=True)
    shuffled = b.with_frame(b.frame.sample(frac=1, random_state=1).reset_index(drop=True))
    flags = shuffled.scores >= 0.6
    assert compare(a, b, 0.5, 0.6, HOW) == compare(a, shuffled, 0.5, 0.6, HOW) == compare(a, shuffled, 0.5, flags, HOW)


def test_swapping_the_models_turns_every_sign() -> None:
    a, b = pair_of(grouped=True)
    forth, back = compare(a, b, 0.5, 0.6, HOW), compare(b, a, 0.6, 0.5, HOW)
    turned = {"a": "b", "b": "a", None: None}
    for ours, theirs in zip(forth["differences"], back["differences"], strict=True):
        assert ours["difference"]["value"] == pytest.approx(-theirs["difference"]["value"])
        assert ours["difference"]["low"] == pytest.approx(-theirs["difference"]["high"])
        assert ours["favours"] == turned[theirs["favours"]]
    assert forth["delong"]["difference"]["p"] == pytest.approx(back["delong"]["difference"]["p"])


def test_the_same_model_twice_does_not_differ() -> None:
    a, _ = pair_of(grouped=True)
    found = compare(a, a, 0.5, 0.5, HOW)
    assert found["identical"]
    assert all(row["difference"]["value"] == 0 and row["favours"] is None for row in found["differences"])
    assert found["delong"]["difference"]["p"] == 1.0
    assert found["mcnemar"]["overall"]["p"] == 1.0
    assert found["disagreements"] == []
    words = words_of(found, ("A", "B"), ("sick", "normal"), "patient")
    assert words["verdict"] == "none"
    assert words["headline"] == "A and B give every image the same score and decide alike."
    sensitivity = row_of(found, "sensitivity")
    assert sensitivity is not None  # agreement on these images does not prove agreement on all
    assert sensitivity["difference"]["low"] < 0 < sensitivity["difference"]["high"]


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (3, 9), (10, 2), (25, 25), (0, 12)])
def test_mcnemar_is_that_of_statsmodels(b: int, c: int) -> None:
    assert mcnemar(b, c) == pytest.approx(statsmodels_mcnemar([[50, b], [c, 20]], exact=True).pvalue)
    if b + c:
        assert mcnemar(b, c) == pytest.approx(binomtest(b, b + c).pvalue)


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        mcnemar(-1, 2)


def test_agreement_and_mcnemar_by_hand() -> None:
    labels = [1, 1, 1, 1, 0, 0, 0, 0]
    a = decide(predictions([0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9], labels), 0.5)
    b = decide(predictions([0.9, 0.1, 0.9, 0.2, 0.1, 0.9, 0.1, 0.8], labels), 0.5)
    one_each = {"both_right": 1, "only_a": 1, "only_b": 1, "both_wrong": 1}
    expected = {"positives": {"n": 4, **one_each}, "negatives": {"n": 4, **one_each}}
    overall = {"n": 8, "both_right": 2, "only_a": 2, "only_b": 2, "both_wrong": 2}
    assert agreement(a, b) == {"overall": overall, **expected}
    found = mcnemar_of(a, b, "patient")
    assert found["unit"] == "image"
    assert found["overall"] == {**overall, "p": 1.0}
    assert [row["image_id"] for row in disagreements(a, b)] == ["i001", "i002", "i005", "i006"]
    assert [row["right"] for row in disagreements(a, b, 2)] == ["a", "b"]


def test_several_images_of_a_group_are_one_unit() -> None:
    labels, groups = [1, 1, 1, 0, 0, 0], [0, 0, 1, 2, 2, 3]
    a = decide(predictions([0.9, 0.1, 0.1, 0.9, 0.1, 0.1], labels, groups), 0.5)
    b = decide(predictions([0.1, 0.9, 0.9, 0.1, 0.1, 0.9], labels, groups), 0.5)
    found = mcnemar_of(a, b, "patient")
    assert found["unit"] == "patient"
    assert found["positives"] == {"n": 2, "both_right": 1, "only_a": 0, "only_b": 1, "both_wrong": 0, "p": 1.0}
    assert found["negatives"] == {"n": 2, "both_right": 0, "only_a": 1, "only_b": 1, "both_wrong": 0, "p": 1.0}
    # Group 0: one image gained, one lost, so no sign; group 1: gained.
    assert sign_test(a, b, a.denominators["sensitivity"]) == {"only_a": 0, "only_b": 1, "p": 1.0}


def test_a_few_discordant_groups_are_no_evidence() -> None:
    """Five images, all gained: resamples nearly always hold one of them, but the exact test knows better."""
    labels = np.repeat([1, 0], 100)
    scores = np.where(labels == 1, 0.8, 0.2) + np.linspace(0, 0.1, 200)
    worse = scores.copy()
    worse[:5] = 0.3
    row = row_of(compare(predictions(worse, labels), predictions(scores, labels), 0.5, 0.5, HOW), "sensitivity")
    assert row is not None
    assert favours(row["difference"]) == "b"
    assert row["p"] == pytest.approx(2 / 32)
    assert row["favours"] is None
    worse[:12] = 0.3
    row = row_of(compare(predictions(worse, labels), predictions(scores, labels), 0.5, 0.5, HOW), "sensitivity")
    assert row is not None and row["favours"] == "b"


def test_words_of_a_clear_difference() -> None:
    a, b = pair_of(600, gain=1.2)
    found = compare(a, b, 0.5, 0.5, HOW)
    words = words_of(found, ("A", "B"), ("sick", "normal"), "patient")
    assert words["ranking"] == "b"
    assert words["headline"].startswith(
        "B ranks the images better; at its own locked threshold B finds more sick images"
    )
    more = found["agreement"]["positives"]["only_b"] - found["agreement"]["positives"]["only_a"]
    assert f"B finds {more} more of the {found['n_positive']} sick images" in words["sentences"][0]
    assert "evidence that B ranks better" in words["sentences"][1]
    held = words_of(found, ("A", "B"), ("sick", "normal"), "patient", adjusted_p=0.2)
    assert held["ranking"] is None
    assert "weak evidence at most" in held["sentences"][1]


def test_words_where_nothing_differs_or_each_wins() -> None:
    a, b = pair_of(120, gain=0.0)
    nothing = words_of(compare(a, b, 0.5, 0.5, HOW), ("A", "B"), ("sick", "normal"), "patient")
    assert nothing["verdict"] == "none"
    assert "No evidence that either model ranks better" in nothing["headline"]
    each = words_of(compare(a, a, 0.5, 0.3, HOW), ("A", "B"), ("sick", "normal"), "patient")
    assert each["verdict"] == "mixed"
    assert each["headline"].startswith(
        "Both give every image the same score; at its own locked threshold B finds more sick"
    )
    assert each["decisions"] == {"sensitivity": "b", "specificity": "a"}


def test_two_models_without_an_error_may_differ_on_other_images() -> None:
    """No resample holds a wrong order, so that the bootstrap would call a difference of 0 certain."""
    labels = np.repeat([1, 0], [20, 30])
    rng = np.random.default_rng(0)
    a, b = (predictions(np.where(labels == 1, 0.7, 0.1) + 0.2 * rng.random(50), labels) for _ in range(2))
    found = compare(a, b, 0.5, 0.5, HOW)
    row, unsure = row_of(found, "auroc"), 1 - wilson(20, 20)[0]
    assert row is not None and (row["a"]["value"], row["b"]["value"]) == (1.0, 1.0)
    assert (row["a"]["low"], row["a"]["high"]) == pytest.approx((1 - unsure, 1.0))
    assert (row["difference"]["low"], row["difference"]["high"]) == pytest.approx((-unsure, unsure))
    for name in ("average_precision", "balanced_accuracy"):  # all resamples agree: no ends rather than certainty
        other = row_of(found, name)
        assert other is not None and other["a"]["low"] is None and other["difference"]["low"] is None
    words = words_of(found, ("A", "B"), ("sick", "normal"), "patient")
    assert words["verdict"] == "none" and f"below {unsure:.3f} either way" in words["sentences"][1]


def test_the_same_order_under_other_scores_is_not_said_to_be_certain() -> None:
    a, _ = pair_of()
    b = a.with_frame(a.frame.assign(prob_normal=1 - a.scores**2, prob_sick=a.scores**2))
    found = compare(a, b, 0.5, 0.25, HOW)
    row = row_of(found, "auroc")
    assert row is not None and row["difference"]["value"] == 0 and row["difference"]["low"] is None
    text = words_of(found, ("A", "B"), ("sick", "normal"), "patient")["sentences"][1]
    assert "no evidence that one ranks better" in text and "below" not in text and "too few groups" not in text


def test_words_say_which_p_is_adjusted_for_several_comparisons() -> None:
    found = compare(*pair_of(), 0.5, 0.5, HOW)
    one, several = (
        words_of(found, ("A", "B"), ("sick", "normal"), "patient", adjusted_p=p)["sentences"][1:4] for p in (None, 0.2)
    )
    assert not any("adjusted" in text for text in one)
    assert ", adjusted for the number" in several[0]
    assert all("not adjusted for the number of comparisons;" in text for text in several[1:])


def test_one_class_has_no_ranking_but_is_compared() -> None:
    rng = np.random.default_rng(0)
    sides = [predictions(rng.random(40), np.ones(40, dtype=int)) for _ in range(2)]
    found = compare(sides[0], sides[1], 0.5, 0.5, HOW)
    assert found["delong"] is None
    assert row_of(found, "auroc") is None and row_of(found, "specificity") is None
    assert found["mcnemar"]["negatives"]["p"] is None
    words = words_of(found, ("A", "B"), ("sick", "normal"), "patient")
    assert "AUROC is not defined" in words["sentences"][1]


def relabelled(frame: pd.DataFrame) -> pd.DataFrame:
    """The first image with the other label."""
    other = "normal" if frame["label"].iloc[0] == "sick" else "sick"
    return frame.assign(label=[other, *frame["label"].iloc[1:]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.iloc[:-2], "240 images and 238, 2 only in A, such as 'i238'"),
        (lambda f: f.assign(image_id=[f"j{k}" for k in range(len(f))]), "240 only in A and 240 only in B"),
        (relabelled, "label of 1 images differs .* 'i000'"),
        (lambda f: f.assign(group_id="one"), "group_id of 240 images differs"),
    ],
)
def test_other_images_are_refused(change: Any, message: str) -> None:
    a, b = pair_of()
    with pytest.raises(PredictionsError, match=message):
        compare(a, b.with_frame(change(b.frame)), 0.5, 0.5, HOW)


def test_other_classes_and_wrong_decisions_are_refused() -> None:
    a, b = pair_of()
    other = Predictions(b.frame, CLASSES, "normal")
    with pytest.raises(PredictionsError, match="same question"):
        compare(a, other, 0.5, 0.5, HOW)
    with pytest.raises(ValueError, match="decisions have shape"):
        compare(a, b, 0.5, np.ones(3, dtype=bool), HOW)


def test_three_classes_add_figures_over_all_of_them() -> None:
    rng, names = np.random.default_rng(0), ("x", "y", "z")
    labels = rng.integers(0, 3, 150)
    sides = []
    for gain in (0.5, 2.5):
        logits = rng.normal(size=(150, 3))
        logits[np.arange(150), labels] += gain
        values = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        frame = pd.DataFrame({"image_id": [f"i{k}" for k in range(150)], "label": np.array(names)[labels]})
        frame["group_id"] = frame["image_id"]
        sides.append(Predictions(frame.assign(**{f"prob_{n}": values[:, k] for k, n in enumerate(names)}), names, "y"))
    found = compare(sides[0], sides[1], 0.5, 0.5, HOW)
    row = row_of(found, "macro_auroc")
    assert row is not None
    expected = [roc_auc_score(labels, side.probabilities, multi_class="ovr") for side in sides]
    assert row["difference"]["value"] == pytest.approx(expected[1] - expected[0])
    assert row["favours"] == "b"
    words = words_of(found, ("A", "B"), ("y", "not y"), "patient")
    assert any(text.startswith("Macro AUROC") for text in words["sentences"])


def test_bca_intervals_are_used_where_asked_for() -> None:
    a, b = pair_of(gain=0.3)
    rows = [row_of(compare(a, b, 0.5, 0.5, Resampling(400, 0.95, 1, kind)), "auroc") for kind in ("percentile", "bca")]
    methods = [row["difference"]["method"] for row in rows if row]
    assert methods[0] != methods[1] and "BCa" in methods[1]


def test_means_over_other_resamples_are_refused() -> None:
    a, b = pair_of()
    pair = [resample(decide(side, 0.5), HOW) for side in (a, b)]
    assert mean_of(pair).values["auroc"] == pytest.approx((pair[0].values["auroc"] + pair[1].values["auroc"]) / 2)
    with pytest.raises(ValueError, match="different groups, labels or seeds"):
        mean_of([pair[0], resample(decide(b, 0.5), Resampling(400, 0.95, 5))])


def test_holm_is_that_of_statsmodels() -> None:
    values = [0.04, 0.001, 0.3, 0.02, 0.9]
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1].tolist())
    assert holm([None, 0.02, 0.5]) == [None, 0.04, 0.5]
    assert holm([]) == []


def test_numbers_in_words() -> None:
    assert signed({"value": 0.0123, "low": -0.0001, "high": 0.02}) == "+0.012 (0.000 to +0.020)"
    assert signed({"value": -0.5, "low": None, "high": None}) == "-0.500"
    assert signed({"value": None, "low": None, "high": None}) == "n/a"
    assert [p_text(p) for p in (0.0321, 0.0001, None)] == ["p = 0.032", "p < 0.001", "p not defined"]

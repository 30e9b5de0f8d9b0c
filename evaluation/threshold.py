"""The operating point: a threshold fixed on validation that keeps its recall.

The certified rule is an exact, distribution-free order-statistic bound. Let s_(1) <= ... <= s_(n) be the scores of the positive
validation groups, exchangeable with future ones. With the threshold at s_(m+1), true recall R follows at least
Beta(n - m, m + 1), so ``P(R >= r) >= 1 - d`` if and only if ``P(Bin(n, 1 - r) <= m) <= d``. The number of misses m depends on
(n, r, d) only, not on the scores, so nothing has to be corrected for having looked at them; ties only raise recall.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, betabinom, binom

from evaluation.metrics import Scores
from evaluation.predictions import Predictions

RULES = ("certified", "empirical", "fixed")


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold with everything that is promised about it; the fields are those of threshold.json.

    Attributes:
        threshold: positive if and only if score >= threshold; one of the scores seen on validation, in full precision.
        rule: the rule that gave it. ``requested_rule``: the one asked for; ``fallback_reason`` says why they differ.
        n_groups: positive validation groups. ``misses_allowed``: how many of them may fall below the threshold.
        recall_lower_bound: certified with the stated confidence; None without a certificate.
        expected_recall: mean true recall over validation draws, (n - m) / (n + 1); None without a certificate.
        selection_optimistic: the same validation part has chosen the best epoch, so the bound is a little optimistic.
        price: sensitivity, specificity and group recall on validation at 0.5 and under the two rules.
    """

    threshold: float
    rule: str
    requested_rule: str
    fallback_reason: str | None
    target_recall: float
    confidence: float
    group_score: str
    n_groups: int
    misses_allowed: int
    recall_lower_bound: float | None
    expected_recall: float | None
    selection_optimistic: bool
    positive_class: str
    negative_class: str
    price: tuple[dict[str, Any], ...]
    statement: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "price": list(self.price)}


def certified_misses(n: int, recall: float, confidence: float) -> int:
    """Most misses m among n positive groups that still certify the recall; -1 if even none is too many.

    Args:
        n: number of positive groups. ``recall``, ``confidence``: in (0, 1).
    """
    misses, delta = -1, 1 - confidence
    while misses + 1 < n and binom.cdf(misses + 1, n, 1 - recall) <= delta:
        misses += 1
    return misses


def groups_needed(recall: float, confidence: float) -> int:
    """Fewest positive groups that can certify the recall at all (with no miss): ``ceil(log d / log r)``."""
    return math.ceil(math.log(1 - confidence) / math.log(recall) - 1e-12)


def empirical_misses(n: int, recall: float) -> int:
    """Most misses among n groups with an observed recall of at least ``recall``, counted in exact fractions."""
    return math.floor(n * (1 - Fraction(str(recall))))


def recall_bound(n: int, misses: int, confidence: float) -> float:
    """Lower bound of true recall when the threshold passes ``misses`` of n groups: ``BetaInv(1 - c; n - m, m + 1)``."""
    return float(beta.ppf(1 - confidence, n - misses, misses + 1))


def choose_operating_point(
    predictions: Predictions,
    *,
    rule: str = "certified",
    recall: float = 0.95,
    confidence: float = 0.95,
    group_score: str = "max",
    fixed: float = 0.5,
) -> OperatingPoint:
    """Fix the threshold on validation predictions.

    With too few positive groups for a certificate the certified rule falls back to the empirical one and says so.

    Args:
        predictions: of the validation part.
        rule: ``certified``, ``empirical`` (largest threshold whose observed group recall reaches the target) or ``fixed``.
        recall, confidence: in (0, 1).
        group_score: ``max`` or ``min``, see :meth:`Predictions.positive_group_scores`.
        fixed: the threshold of rule ``fixed``.

    Raises:
        ValueError: if there is no positive group, or the rule is unknown.
    """
    if rule not in RULES:
        raise ValueError(f"there is no threshold rule {rule!r}; available: {', '.join(RULES)}")
    scores = np.sort(predictions.positive_group_scores(group_score))
    n = len(scores)
    if n == 0:
        raise ValueError(f"validation holds no {predictions.positive_class} image, so no threshold can be fixed on it")
    certified = certified_misses(n, recall, confidence)
    used, reason = rule, None
    if rule == "certified" and certified < 0:
        used = "empirical"
        reason = (
            f"validation holds {n} positive groups; certifying a recall of {recall:g} with confidence {confidence:g} needs at "
            f"least {groups_needed(recall, confidence)}. Flagging every one of the {n} would certify {recall_bound(n, 0, confidence):.3f}."
        )
    misses = {"certified": certified, "empirical": empirical_misses(n, recall)}.get(used, int((scores < fixed).sum()))
    threshold = fixed if used == "fixed" else float(scores[misses])
    promised = used == "certified"
    bound = recall_bound(n, misses, confidence) if promised else None
    return OperatingPoint(
        threshold=threshold,
        rule=used,
        requested_rule=rule,
        fallback_reason=reason,
        target_recall=recall,
        confidence=confidence,
        group_score=group_score,
        n_groups=n,
        misses_allowed=misses,
        recall_lower_bound=bound,
        expected_recall=(n - misses) / (n + 1) if promised else None,
        selection_optimistic=used != "fixed",
        positive_class=predictions.positive_class,
        negative_class=predictions.negative_class,
        price=_price(predictions, scores, certified, recall, group_score),
        statement=_statement(used, threshold, n, misses, recall, confidence, bound, reason),
    )


def _price(
    predictions: Predictions, scores: NDArray[np.float64], certified: int, recall: float, group_score: str
) -> tuple[dict[str, Any], ...]:
    """What each rule costs in specificity, on validation."""
    images = Scores(predictions.labels, predictions.scores, predictions.groups)
    rows = [("0.5", 0.5, "the usual default")]
    rows.append(
        ("empirical", float(scores[empirical_misses(len(scores), recall)]), "reaches the target on validation only")
    )
    if certified >= 0:
        rows.append(("certified", float(scores[certified]), "keeps the target with the stated confidence"))
    found = []
    for name, threshold, note in rows:
        at = images.at_threshold(images.ones(), threshold, group_score)
        figures = {key: _or_none(at[key][0]) for key in ("sensitivity", "specificity", "group_recall")}
        found.append({"rule": name, "threshold": threshold, **figures, "note": note})
    if certified < 0:
        nothing = {"threshold": None, "sensitivity": None, "specificity": None, "group_recall": None}
        found.append({"rule": "certified", **nothing, "note": "not certifiable: too few positive groups on validation"})
    return tuple(found)


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _statement(
    rule: str,
    threshold: float,
    n: int,
    misses: int,
    recall: float,
    confidence: float,
    bound: float | None,
    reason: str | None,
) -> str:
    if rule == "fixed":
        return f"The threshold {threshold:.4g} was set by hand; it passes {misses} of {n} positive validation groups."
    if rule == "empirical":
        why = f" The certified rule was not possible: {reason}" if reason else ""
        return (
            f"At {threshold:.4g}, {n - misses} of {n} positive validation groups are found. This is an observation, not a "
            f"promise: on new data the recall falls below {recall:g} about as often as not.{why}"
        )
    return (
        f"At {threshold:.4g}, {n - misses} of {n} positive validation groups are found. With {confidence:.0%} confidence the true "
        f"recall on patients like these is at least {bound:.3f} (target {recall:g}). The same validation part chose the best "
        "epoch, so this is slightly optimistic; and it does not hold on data of another kind."
    )


@dataclass(frozen=True)
class Promise:
    """What the certificate lets one expect of a test part, and what came.

    Attributes:
        expected_misses: mean of the beta-binomial distribution of test misses.
        misses_99: its 99 % quantile; more misses than that reject that test and validation are alike.
        probability_test_meets_target: chance that the test part shows the target recall although all is well.
    """

    test_positive_groups: int
    test_misses: int
    expected_misses: float
    misses_99: int
    probability_test_meets_target: float
    kept: bool
    sentence: str


def promise(point: OperatingPoint, test: Predictions) -> Promise | None:
    """Compare the test part with what the certificate predicts; None without a certificate or positive test groups.

    Misses among n' test groups follow BetaBinomial(n', m + 1, n - m) when test and validation groups are exchangeable.
    """
    scores = test.positive_group_scores(point.group_score)
    total = len(scores)
    if point.rule != "certified" or total == 0:
        return None
    future = betabinom(total, point.misses_allowed + 1, point.n_groups - point.misses_allowed)
    misses = int((scores < point.threshold).sum())
    most = int(future.ppf(0.99))
    allowed = math.floor(total * (1 - Fraction(str(point.target_recall))))
    kept = misses <= most
    verdict = (
        f"The promise held: {misses} of {total} positive test groups were missed; up to {most} are compatible with it."
        if kept
        else f"The promise was broken: {misses} of {total} positive test groups were missed, at most {most} are compatible with "
        "it. The test data differ from the validation data."
    )
    return Promise(
        test_positive_groups=total,
        test_misses=misses,
        expected_misses=float(future.mean()),
        misses_99=most,
        probability_test_meets_target=float(future.cdf(allowed)),
        kept=kept,
        sentence=verdict,
    )

"""The operating point: chosen on validation by a rule, with what it promises and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation import certificate
from evaluation.group_scores import GROUP_SCORES, ValidationScores, positive_group_scores
from evaluation.predictions import Predictions
from evaluation.price import price_rows, statement_of
from evaluation.rules import (
    INFEASIBLE,
    ORDERED,
    RULES,
    WEIGHING,
    Choice,
    Infeasible,
    Request,
    check_feasible,
    check_scores,
    choose,
)
from evaluation.wording import short

__all__ = [
    "GROUP_SCORES",
    "INFEASIBLE",
    "RULES",
    "Infeasible",
    "OperatingPoint",
    "certified_threshold",
    "check_feasible",
    "choose_operating_point",
    "empirical_threshold",
    "fixed_point",
    "positive_group_scores",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, how it was chosen, and what it promises; the fields of ``threshold.json``.

    Attributes:
        threshold: positive if and only if score >= threshold. One of the validation scores (unless the rule is fixed),
            so that the comparison is exact in float64, and in float32 for float32 scores.
        requested_rule: what was asked for. ``fallback_reason``: why ``rule`` is another one; None where it is not.
        n_groups: positive groups on validation. ``misses_allowed``: of these, how many the rule gives up at most; for rules
            that count images (youden, fbeta, cost, fixed), how many it misses.
        recall_lower_bound: certified; None unless the rule is certified.
        expected_recall: mean true recall in new groups; None for rules that count images.
        selection_optimistic: the same validation images chose the weights.
        price: what each rule finds and costs on validation, see :func:`evaluation.price.price_rows`.
        min_specificity: asked for; None if not. ``specificity_lower_bound``: certified, in groups without a positive image,
            of which none is flagged; recall and specificity then hold together with ``confidence``, each with half of the
            risk. ``specificity_from``: the lowest threshold that would certify it too.
        unmet: why the specificity that was asked for is not certified, or not reached.
        beta, miss_cost: of the rules fbeta and cost. ``infeasible``: what was to happen where something is infeasible.
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
    min_specificity: float | None = None
    specificity_lower_bound: float | None = None
    specificity_from: float | None = None
    unmet: str | None = None
    beta: float = 2.0
    miss_cost: float = 10.0
    infeasible: str = "empirical"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "price": [dict(row) for row in self.price]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> OperatingPoint:
        """The operating point that :meth:`to_dict` described, also by an earlier version without the later fields.

        Raises:
            ValueError: a field is missing or the threshold is no number from 0 to 1.
        """
        lacking = [item.name for item in fields(cls) if item.default is MISSING and item.name not in content]
        if lacking:
            raise ValueError(f"the stored threshold lacks {lacking}. Choose the threshold again.")
        held = {item.name: content[item.name] for item in fields(cls) if item.name in content}
        value = held["threshold"]
        if isinstance(value, bool) or not isinstance(value, float | int) or not 0.0 <= value <= 1.0:
            raise ValueError(f"the stored threshold is {value!r}, expected a number from 0 to 1.")
        return cls(
            **{**held, "threshold": float(held["threshold"]), "price": tuple(dict(row) for row in held["price"])}
        )

    def rule_arguments(self) -> dict[str, Any]:
        """Arguments of :func:`choose_operating_point` that choose a point for other scores by the same rule.

        What is infeasible for them falls back and is not refused, because the question is what the same rule gives them.
        """
        return {
            "rule": self.requested_rule,
            "recall": self.target_recall,
            "confidence": self.confidence,
            "group_score": self.group_score,
            "fixed": self.threshold if self.requested_rule == "fixed" else 0.5,
            "min_specificity": self.min_specificity,
            "beta": self.beta,
            "miss_cost": self.miss_cost,
            "infeasible": "empirical",
        }


def certified_threshold(scores: Floats, recall: float = 0.95, confidence: float = 0.95) -> tuple[float, int]:
    """The highest threshold that keeps the recall with the stated confidence, and the misses m it allows.

    Args:
        scores: one score for each positive group, shape (n,), finite.

    Returns:
        ``(threshold, m)``: the (m + 1)-th smallest score.

    Raises:
        Infeasible: n is too small. ValueError: no score, or one that is not finite.
    """
    return _of_groups("certified", scores, Request("certified", recall, confidence))


def empirical_threshold(scores: Floats, recall: float = 0.95) -> tuple[float, int]:
    """The highest threshold with at least this recall on these groups (no promise), and the misses it allows.

    Arguments, result and errors as in :func:`certified_threshold`, save that it is never infeasible.
    """
    return _of_groups("empirical", scores, Request("empirical", recall))


def _of_groups(rule: str, scores: Floats, asked: Request) -> tuple[float, int]:
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    check_scores(ordered)
    none = np.empty(0)
    choice = choose(rule, ValidationScores(ordered, none, ordered, none, "positive", "negative", "group"), asked)
    return choice.threshold, choice.misses


def choose_operating_point(
    predictions: Predictions,
    rule: str = "certified",
    recall: float = 0.95,
    confidence: float = 0.95,
    group_score: str = "max",
    fixed: float = 0.5,
    *,
    min_specificity: float | None = None,
    beta: float = 2.0,
    miss_cost: float = 10.0,
    infeasible: str = "empirical",
    group_name: str = "group",
    selection_optimistic: bool = True,
) -> OperatingPoint:
    """Fix the threshold on validation.

    Args:
        predictions: of the validation part.
        rule: one of ``RULES``. ``certified``, ``crc`` and ``empirical`` keep the recall in positive groups: with the stated
            confidence, on average, on validation only. ``youden``, ``fbeta`` and ``cost`` count images.
        recall: to keep, in (0, 1). ``confidence``: of the certified rule, in (0, 1).
        group_score: ``max`` or ``min`` over the positive images of a group.
        fixed: the threshold of rule ``fixed``, in [0, 1]; held to the precision of float32.
        min_specificity: to keep as well, in (0, 1); certified in groups by the certified rule, reached on the validation
            images by the others.
        beta: of F-beta, above 0. ``miss_cost``: what a miss costs in rule ``cost``, in false alarms.
        infeasible: ``empirical`` uses the empirical rule where validation has too few positive groups, and drops a specificity
            that cannot be had at the recall; the result says so. ``refuse`` raises instead.
        group_name: what a group is called in sentences.
        selection_optimistic: the same images chose the weights, so that the promise is a little optimistic.

    Raises:
        Infeasible: only with ``refuse``. ValueError: an unknown rule, a value outside its range, or no positive image for a
            rule that needs one.
    """
    if infeasible not in INFEASIBLE:
        raise ValueError(f"infeasible is {infeasible!r}; expected one of {list(INFEASIBLE)}.")
    asked = Request(rule, recall, confidence, fixed, min_specificity, beta, miss_cost)
    held = ValidationScores.of(predictions, group_score, group_name)
    _require_what_it_counts(rule, held)
    used, reason, choice = _with_fallback(held, asked, infeasible)
    point = OperatingPoint(
        threshold=choice.threshold,
        rule=used,
        requested_rule=rule,
        fallback_reason=reason,
        target_recall=float(recall),
        confidence=float(confidence),
        group_score=group_score,
        n_groups=len(held.groups),
        misses_allowed=choice.misses,
        recall_lower_bound=choice.recall_lower_bound,
        expected_recall=certificate.expected_recall(len(held.groups), choice.misses) if used in ORDERED else None,
        selection_optimistic=selection_optimistic,
        positive_class=held.positive_class,
        negative_class=held.negative_class,
        price=price_rows(held, asked),
        statement="",
        min_specificity=min_specificity,
        specificity_lower_bound=choice.specificity_lower_bound,
        specificity_from=choice.specificity_from,
        unmet=choice.unmet.reason if choice.unmet else None,
        beta=float(beta),
        miss_cost=float(miss_cost),
        infeasible=infeasible,
    )
    return replace(point, statement=statement_of(point, group_name))


def _require_what_it_counts(rule: str, held: ValidationScores) -> None:
    """Refuse a rule without the images that it counts."""
    if rule != "fixed" and len(held.groups) == 0:
        raise ValueError(
            f"validation holds no {held.positive_class} image, so no threshold can be chosen by the {rule} rule. "
            "Enlarge the validation part, or use the fixed rule."
        )
    if rule in WEIGHING and len(held.negatives) == 0:
        raise ValueError(
            f"validation holds no {held.negative_class} image, so the {rule} rule has nothing to weigh misses against. "
            "Enlarge the validation part, or use the certified, empirical or fixed rule."
        )


def _with_fallback(held: ValidationScores, asked: Request, infeasible: str) -> tuple[str, str | None, Choice]:
    """The rule that is used, why it is not the one that was asked for, and its choice."""
    used, reason = asked.rule, None
    try:
        choice = choose(asked.rule, held, asked)
    except Infeasible as error:
        if infeasible == "refuse":
            raise
        used, reason, choice = "empirical", error.reason, choose("empirical", held, asked)
    if choice.unmet and infeasible == "refuse":
        raise choice.unmet
    return used, reason, choice


def fixed_point(
    threshold: float,
    positive_class: str,
    negative_class: str,
    *,
    group_score: str = "max",
    recall: float = 0.95,
    confidence: float = 0.95,
) -> OperatingPoint:
    """An operating point that was set by hand, without any validation predictions: it promises nothing.

    Args:
        threshold: in [0, 1]; kept as given, for scores of any precision.
        positive_class, negative_class: what is called positive from there on, and what is not.
        group_score: ``max`` or ``min``. ``recall``, ``confidence``: only held, for tables.

    Raises:
        ValueError: a value outside its range.
    """
    Request("fixed", recall, confidence, threshold)
    if group_score not in GROUP_SCORES:
        raise ValueError(f"group score is {group_score!r}; expected one of {list(GROUP_SCORES)}.")
    statement = (
        f"An image is called {positive_class} when its score is at least {short(threshold)}, a value set by hand. No validation "
        "predictions were given, so nothing is known about the recall that it keeps elsewhere, and it promises none."
    )
    return OperatingPoint(
        threshold=float(threshold),
        rule="fixed",
        requested_rule="fixed",
        fallback_reason=None,
        target_recall=float(recall),
        confidence=float(confidence),
        group_score=group_score,
        n_groups=0,
        misses_allowed=0,
        recall_lower_bound=None,
        expected_recall=None,
        selection_optimistic=False,
        positive_class=positive_class,
        negative_class=negative_class,
        price=(),
        statement=statement,
    )

"""The operating point: chosen on validation by a rule, with what it promises and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation import certificate
from evaluation.metrics import counts_at, rates_of
from evaluation.predictions import Predictions
from evaluation.wording import percent, plural, short

RULES: Final = ("certified", "empirical", "fixed")
GROUP_SCORES: Final = ("max", "min")

Floats = NDArray[np.float64]


class Infeasible(ValueError):
    """Too few positive groups for the certificate that was asked for.

    Attributes:
        n: groups there are. ``needed``: groups that would do. ``certifiable``: recall that flagging all n certifies.
    """

    def __init__(self, n: int, needed: int, certifiable: float) -> None:
        super().__init__(
            f"{n} positive groups; at least {needed} are needed; these certify a recall of {certifiable:.4f}."
        )
        self.n, self.needed, self.certifiable = n, needed, certifiable


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, how it was chosen, and what it promises; the fields of ``threshold.json``.

    Attributes:
        threshold: positive if and only if score >= threshold. One of the validation scores (unless the rule is fixed),
            so that the comparison is exact in float64, and in float32 for float32 scores.
        n_groups: positive groups on validation. ``misses_allowed``: of these, how many the rule gives up at most.
        recall_lower_bound: certified with ``confidence``; None unless the rule is certified.
        expected_recall: mean true recall in new groups; None for a fixed threshold.
        selection_optimistic: the same validation images chose the weights.
        price: what each rule finds and costs on validation.
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
        return {**asdict(self), "price": [dict(row) for row in self.price]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> OperatingPoint:
        """The operating point that :meth:`to_dict` described.

        Raises:
            ValueError: a field is missing or the threshold is no finite number.
        """
        names = [item.name for item in fields(cls)]
        lacking = [name for name in names if name not in content]
        if lacking:
            raise ValueError(f"the stored threshold lacks {lacking}. Choose the threshold again.")
        held = {name: content[name] for name in names}
        if not isinstance(held["threshold"], float | int) or not np.isfinite(held["threshold"]):
            raise ValueError(f"the stored threshold is {held['threshold']!r}, expected a finite number.")
        return cls(
            **{**held, "threshold": float(held["threshold"]), "price": tuple(dict(row) for row in held["price"])}
        )


def certified_threshold(scores: Floats, recall: float = 0.95, confidence: float = 0.95) -> tuple[float, int]:
    """The highest threshold that keeps the recall with the stated confidence, and the misses m it allows.

    Args:
        scores: one score for each positive group, shape (n,), finite.

    Returns:
        ``(threshold, m)``: the (m + 1)-th smallest score.

    Raises:
        Infeasible: n is too small. ValueError: no score, or one that is not finite.
    """
    ordered = _ordered(scores)
    misses = certificate.certified_misses(len(ordered), recall, confidence)
    if misses is None:
        n = len(ordered)
        needed = certificate.minimum_groups(recall, confidence)
        raise Infeasible(n, needed, certificate.certifiable_recall(n, confidence))
    return float(ordered[misses]), misses


def empirical_threshold(scores: Floats, recall: float = 0.95) -> tuple[float, int]:
    """The highest threshold with at least this recall on these groups (no promise), and the misses it allows.

    Arguments, result and errors as in :func:`certified_threshold`, save that it is never infeasible.
    """
    ordered = _ordered(scores)
    misses = certificate.empirical_misses(len(ordered), recall)
    return float(ordered[misses]), misses


def positive_group_scores(predictions: Predictions, group_score: str = "max") -> Floats:
    """One score for each group with a positive image, shape (number of such groups,), in the order of the group names.

    Args:
        group_score: ``max`` (found if any of its positive images is flagged) or ``min`` (only if all are).
    """
    if group_score not in GROUP_SCORES:
        raise ValueError(f"group score is {group_score!r}; expected one of {list(GROUP_SCORES)}.")
    positive = predictions.labels == 1
    groups, scores = predictions.groups[positive], predictions.scores[positive]
    start = -np.inf if group_score == "max" else np.inf
    held = np.full(len(predictions.group_names), start)
    (np.maximum if group_score == "max" else np.minimum).at(held, groups, scores)
    present: Floats = held[np.isfinite(held)]
    return present


def choose_operating_point(
    predictions: Predictions,
    rule: str = "certified",
    recall: float = 0.95,
    confidence: float = 0.95,
    group_score: str = "max",
    fixed: float = 0.5,
    *,
    group_name: str = "group",
    selection_optimistic: bool = True,
) -> OperatingPoint:
    """Fix the threshold on validation.

    Args:
        predictions: of the validation part.
        rule: ``certified``, ``empirical`` or ``fixed``. Where validation has too few positive groups to certify the
            recall, the empirical rule is used and the result says so.
        recall: to keep, in (0, 1), counted in positive groups. ``confidence``: of the certified rule, in (0, 1).
        group_score: ``max`` or ``min`` over the positive images of a group.
        fixed: the threshold of rule ``fixed``, in [0, 1]; held to the precision of float32.
        group_name: what a group is called in sentences.
        selection_optimistic: the same images chose the weights, so that the promise is a little optimistic.

    Raises:
        ValueError: an unknown rule, a value outside its range, or no positive image for a rule that needs one.
    """
    scores = positive_group_scores(predictions, group_score)
    n, positive = len(scores), predictions.positive_class
    _check_request(rule, fixed, n, positive)
    used, reason = _usable_rule(rule, n, recall, confidence, f"{positive} {group_name}")
    threshold, misses = _apply(used, scores, recall, confidence, fixed)
    point = OperatingPoint(
        threshold=threshold,
        rule=used,
        requested_rule=rule,
        fallback_reason=reason,
        target_recall=float(recall),
        confidence=float(confidence),
        group_score=group_score,
        n_groups=n,
        misses_allowed=misses,
        recall_lower_bound=certificate.recall_lower_bound(n, misses, confidence) if used == "certified" else None,
        expected_recall=None if used == "fixed" else certificate.expected_recall(n, misses),
        selection_optimistic=selection_optimistic,
        positive_class=positive,
        negative_class=predictions.negative_class,
        price=_prices(predictions, scores, recall, confidence, group_name, threshold if used == "fixed" else None),
        statement="",
    )
    return replace(point, statement=_statement(point, group_name))


def _check_request(rule: str, fixed: float, n: int, positive: str) -> None:
    if rule not in RULES:
        raise ValueError(f"threshold rule is {rule!r}; expected one of {list(RULES)}.")
    if not 0.0 <= fixed <= 1.0:
        raise ValueError(f"fixed threshold is {fixed!r}; expected a number from 0 to 1.")
    if rule != "fixed" and n == 0:
        raise ValueError(
            f"validation holds no {positive} image, so no threshold can be chosen by the {rule} rule. "
            "Enlarge the validation part, or use the fixed rule."
        )


def _ordered(scores: Floats) -> Floats:
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    if len(ordered) == 0:
        raise ValueError("there is no positive group to choose a threshold from.")
    if not np.isfinite(ordered).all():
        raise ValueError("scores hold NaN or infinity; no threshold can be chosen from them.")
    return ordered


def _apply(rule: str, scores: Floats, recall: float, confidence: float, fixed: float) -> tuple[float, int]:
    if rule == "certified":
        return certified_threshold(scores, recall, confidence)
    if rule == "empirical":
        return empirical_threshold(scores, recall)
    exact = float(np.float32(fixed))
    return exact, int((scores < exact).sum())


def _prices(
    predictions: Predictions, scores: Floats, recall: float, confidence: float, group_name: str, fixed: float | None
) -> tuple[dict[str, Any], ...]:
    """A row for 0.5, for the fixed threshold if that is another one, and for the two rules."""
    n, positive = len(scores), predictions.positive_class
    rows = [_price(predictions, scores, "0.5", 0.5, "the usual default")]
    if fixed is not None and fixed != 0.5:
        rows.append(_price(predictions, scores, "fixed", fixed, "set by hand"))
    if n == 0:
        note = f"validation holds no {positive} {group_name}"
        return tuple(rows + [_price(predictions, scores, rule, None, note) for rule in ("empirical", "certified")])
    threshold, misses = empirical_threshold(scores, recall)
    note = f"misses at most {misses} of {plural(n, group_name)} on validation; no promise about others"
    rows.append(_price(predictions, scores, "empirical", threshold, note))
    try:
        threshold, misses = certified_threshold(scores, recall, confidence)
    except Infeasible as error:
        note = f"not possible with {plural(n, group_name)}; at least {error.needed} are needed"
        rows.append(_price(predictions, scores, "certified", None, note))
    else:
        note = (
            f"misses at most {misses} of {plural(n, group_name)} on validation; a recall of at least {percent(recall)} "
            f"with {percent(confidence)} confidence"
        )
        rows.append(_price(predictions, scores, "certified", threshold, note))
    return tuple(rows)


def _price(predictions: Predictions, scores: Floats, rule: str, threshold: float | None, note: str) -> dict[str, Any]:
    found: dict[str, float | None] = dict.fromkeys(("sensitivity", "specificity", "group_recall"))
    if threshold is not None:
        rates = rates_of(counts_at(predictions.labels, predictions.scores, threshold))
        values = {name: rates[name] for name in ("sensitivity", "specificity")}
        values["group_recall"] = float((scores >= threshold).mean()) if len(scores) else float("nan")
        found = {name: value if np.isfinite(value) else None for name, value in values.items()}
    return {"rule": rule, "threshold": threshold, **found, "note": note}


def _usable_rule(rule: str, n: int, recall: float, confidence: float, groups: str) -> tuple[str, str | None]:
    """The rule to use and, if it is not the one that was asked for, why."""
    # Asked for every rule, because this also checks recall and confidence.
    allowed = certificate.certified_misses(n, recall, confidence)
    if rule != "certified" or allowed is not None:
        return rule, None
    needed, best = certificate.minimum_groups(recall, confidence), certificate.certifiable_recall(n, confidence)
    return "empirical", (
        f"Validation holds {plural(n, groups)}; certifying a recall of {percent(recall)} with {percent(confidence)} "
        f"confidence needs at least {needed:,}. Flagging all {n:,} would certify {percent(best, 1)}."
    )


def _statement(point: OperatingPoint, group_name: str) -> str:
    """One sentence on what the threshold means."""
    positive, target = point.positive_class, percent(point.target_recall)
    start = f"An image is called {positive} when its score is at least {short(point.threshold)}"
    groups = plural(point.n_groups, f"{positive} {group_name}")
    if point.rule == "fixed":
        missed = f"on validation it misses {point.misses_allowed} of {groups}"
        return f"{start}, a value set by hand that promises no recall; {missed}."
    found = f"on validation this misses at most {point.misses_allowed} of {groups}"
    if point.rule == "empirical":
        return f"{start}; {found}, a recall of at least {target} there, with no promise for other {group_name}s."
    optimistic = "; the same validation images chose the weights, so the promise is a little optimistic"
    return (
        f"{start}; {found}, and so at least {target} of all future {positive} {group_name}s are found, with "
        f"{percent(point.confidence)} confidence, as long as they resemble those of validation"
        f"{optimistic if point.selection_optimistic else ''}."
    )

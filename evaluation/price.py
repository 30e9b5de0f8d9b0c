"""What each rule would find and cost on validation, and the chosen point in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from evaluation.group_scores import ValidationScores, below
from evaluation.rules import RULES, WEIGHING, Choice, Infeasible, Request, choose
from evaluation.wording import percent, plural, short

if TYPE_CHECKING:
    from evaluation.threshold import OperatingPoint

_OPTIMISTIC: Final = "; the same validation images chose the weights, so the promise is a little optimistic"


def price_rows(held: ValidationScores, asked: Request) -> tuple[dict[str, Any], ...]:
    """A row for 0.5, for the fixed threshold if that was asked for and is another one, and for every other rule.

    Returns:
        Rows of ``rule``, ``threshold``, ``sensitivity`` and ``specificity`` of the images, ``group_recall`` and ``note``; the
        figures are None where a rule is infeasible (``note`` says why) or a kind of image is absent. The false positive rate
        is ``1 - specificity``.
    """
    rows = [_row(held, "0.5", 0.5, "the usual default")]
    if asked.rule == "fixed" and asked.fixed != 0.5:
        rows.append(_row(held, "fixed", choose("fixed", held, asked).threshold, "set by hand"))
    for rule in RULES:
        if rule == "fixed":
            continue
        if len(held.groups) == 0:
            rows.append(_row(held, rule, None, f"validation holds no {held.positive_class} {held.group_name}"))
            continue
        if rule in WEIGHING and len(held.negatives) == 0:
            rows.append(_row(held, rule, None, f"validation holds no {held.negative_class} image"))
            continue
        try:
            choice = choose(rule, held, asked)
        except Infeasible as error:
            note = f"not possible with {plural(error.n, held.group_name)}; at least {error.needed or 0:,} are needed"
            rows.append(_row(held, rule, None, note))
        else:
            rows.append(_row(held, rule, choice.threshold, _note(rule, choice, held, asked)))
    return tuple(rows)


def _row(held: ValidationScores, rule: str, threshold: float | None, note: str) -> dict[str, Any]:
    row: dict[str, Any] = {"rule": rule, "threshold": threshold}
    row |= dict.fromkeys(("sensitivity", "specificity", "group_recall"))
    if threshold is not None:
        row["specificity"] = held.specificity(threshold)
        for name, scores in (("sensitivity", held.positives), ("group_recall", held.groups)):
            row[name] = (len(scores) - below(scores, threshold)) / len(scores) if len(scores) else None
    return row | {"note": note}


def _note(rule: str, choice: Choice, held: ValidationScores, asked: Request) -> str:
    groups, target = plural(len(held.groups), held.group_name), percent(asked.recall)
    given_up = f"misses at most {choice.misses} of {groups} on validation"
    missed = f"misses {choice.misses} of {groups}"
    if rule == "certified":
        both = f" and a specificity of at least {percent(asked.min_specificity or 0)}"
        more = both if choice.specificity_lower_bound is not None else ""
        text = f"{given_up}; a recall of at least {target}{more} with {percent(asked.confidence)} confidence"
    elif rule == "crc":
        text = f"{given_up}; a recall of at least {target} on average, not in every case"
    elif rule == "empirical":
        text = f"{given_up}; no promise about others"
    else:
        text = f"{_aim(rule, asked.beta, asked.miss_cost, 'validation')}; {missed}"
    return f"{text}; does not keep the specificity" if choice.unmet else text


def _aim(rule: str, beta: float, miss_cost: float, where: str) -> str:
    """What a rule that counts images makes largest or smallest."""
    return {
        "youden": f"largest sum of sensitivity and specificity on {where}",
        "fbeta": f"largest F{beta:g} on {where}",
        "cost": f"lowest cost on {where}, where a miss counts {miss_cost:g} false alarms",
    }[rule]


def statement_of(point: OperatingPoint, group_name: str) -> str:
    """What the threshold means, in one or two sentences."""
    positive, target = point.positive_class, percent(point.target_recall)
    start = f"An image is called {positive} when its score is at least {short(point.threshold)}"
    groups = plural(point.n_groups, f"{positive} {group_name}")
    found = f"on validation this misses at most {point.misses_allowed} of {groups}"
    optimistic = _OPTIMISTIC if point.selection_optimistic else ""
    if point.rule == "fixed":
        missed = f"on validation it misses {point.misses_allowed} of {groups}"
        text = f"{start}, a value set by hand that promises no recall; {missed}."
    elif point.rule == "empirical":
        text = f"{start}; {found}, a recall of at least {target} there, with no promise for other {group_name}s."
    elif point.rule == "crc":
        text = (
            f"{start}; {found}, and so at least {target} of future {positive} {group_name}s are found on average over validation "
            f"sets like this one; about half of such thresholds find fewer: this is no certificate{optimistic}."
        )
    elif point.rule == "certified":
        text = (
            f"{start}; {found}, and so at least {target} of all future {positive} {group_name}s are found"
            f"{_cleared(point, group_name)}, with {percent(point.confidence)} confidence, as long as they resemble those of "
            f"validation{optimistic}."
        )
    else:
        text = (
            f"{start}. That has the {_aim(point.rule, point.beta, point.miss_cost, 'the validation images')}; it misses "
            f"{point.misses_allowed} of {groups} there, with no promise for other {group_name}s."
        )
    if point.unmet:
        return f"{text} {point.unmet}"
    if point.min_specificity is not None and point.rule != "certified":
        return f"{text} The specificity there reaches the {percent(point.min_specificity)} that were asked for."
    return text


def _cleared(point: OperatingPoint, group_name: str) -> str:
    if point.specificity_lower_bound is None or point.min_specificity is None:
        return ""
    cleared = f"at least {percent(point.min_specificity)} of {point.negative_class} {group_name}s"
    return f", and {cleared} have no image flagged"

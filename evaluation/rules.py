"""The rules that choose a threshold from validation scores, and what they refuse.

Every threshold is a score that occurs, and an image is positive if and only if its score is at least the threshold. Where
several thresholds are equally good the lowest is taken, because it finds more. Misses and cleared groups are compared as
integers, never as rounded shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from evaluation import certificate
from evaluation.group_scores import ValidationScores, at_least, below
from evaluation.wording import percent, plural, short

RULES: Final = ("certified", "crc", "empirical", "youden", "fbeta", "cost", "fixed")
# These give up a number of positive groups that follows from n alone, so that the mean true recall is known.
ORDERED: Final = ("certified", "crc", "empirical")
# These weigh misses against false alarms, so that they need images of both kinds.
WEIGHING: Final = ("youden", "fbeta", "cost")
INFEASIBLE: Final = ("empirical", "refuse")
# Two weighted sums of counts nearer than this share of the larger are the same number in another order of rounding.
_SAME: Final = 1e-12

Floats = NDArray[np.float64]


class Infeasible(ValueError):
    """Validation cannot certify, or does not reach, what was asked for.

    Attributes:
        reason: what is lacking, without the advice. ``n``: groups there are. ``needed``: groups that would do; None where
            more groups alone need not help. ``certifiable``: what can be certified instead (recall, or specificity).
    """

    def __init__(self, reason: str, advice: str, n: int, needed: int | None, certifiable: float) -> None:
        super().__init__(f"{reason} {advice}")
        self.reason, self.n, self.needed, self.certifiable = reason, n, needed, certifiable


@dataclass(frozen=True)
class Request:
    """What was asked for; the keys of ``threshold`` in the configuration.

    Raises:
        ValueError: an unknown rule, or a value outside its range.
    """

    rule: str = "certified"
    recall: float = 0.95
    confidence: float = 0.95
    fixed: float = 0.5
    min_specificity: float | None = None
    beta: float = 2.0
    miss_cost: float = 10.0

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"threshold rule is {self.rule!r}; expected one of {list(RULES)}.")
        if not 0.0 <= self.fixed <= 1.0:
            raise ValueError(f"fixed threshold is {self.fixed!r}; expected a number from 0 to 1.")
        certificate.certified_misses(0, self.recall, self.confidence)  # checks both ranges
        if self.min_specificity is not None and not 0.0 < self.min_specificity < 1.0:
            raise ValueError(f"min_specificity is {self.min_specificity!r}; expected a number between 0 and 1.")
        for name, value in (("beta", self.beta), ("miss_cost", self.miss_cost)):
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} is {value!r}; expected a number above 0.")

    @property
    def each(self) -> float:
        """Confidence of recall and of specificity by themselves where both are to be certified together."""
        return self.confidence if self.min_specificity is None else certificate.half_risk(self.confidence)


@dataclass(frozen=True)
class Choice:
    """A threshold and what is known of it on validation.

    Attributes:
        misses: positive groups that the rule gives up; for rules that count images, those that score below the threshold.
        recall_lower_bound: certified; None unless the rule is certified.
        specificity_lower_bound: certified in groups; None unless that was asked for and holds.
        specificity_from: the lowest score that certifies the specificity, under the same condition: every threshold from
            there to the chosen one keeps both promises.
        unmet: why the specificity that was asked for is not certified, or not reached, ready to be raised; None where it is, or
            was not asked for.
    """

    threshold: float
    misses: int
    recall_lower_bound: float | None = None
    specificity_lower_bound: float | None = None
    specificity_from: float | None = None
    unmet: Infeasible | None = None


def check_feasible(
    n_positive_groups: int,
    n_negative_groups: int,
    rule: str,
    *,
    recall: float = 0.95,
    confidence: float = 0.95,
    min_specificity: float | None = None,
    positive_class: str = "positive",
    negative_class: str = "negative",
    group_name: str = "group",
) -> None:
    """Say before training whether a validation part of this size can certify what is asked for.

    Args:
        n_positive_groups: groups of validation with a positive image. ``n_negative_groups``: groups without one.
        rule, recall, confidence, min_specificity: as in :func:`evaluation.threshold.choose_operating_point`.
        positive_class, negative_class, group_name: for the message.

    Raises:
        Infeasible: it cannot, whatever the scores turn out to be. ValueError: a value outside its range.
    """
    asked = Request(rule, recall, confidence, min_specificity=min_specificity)
    if rule == "certified":
        _certified_count(n_positive_groups, asked.recall, asked.each, f"{positive_class} {group_name}")
        if min_specificity is not None:
            _cleared_count(n_negative_groups, min_specificity, asked.each, f"{negative_class} {group_name}")
    elif rule == "crc":
        _crc_count(n_positive_groups, asked.recall, f"{positive_class} {group_name}")


def choose(rule: str, held: ValidationScores, asked: Request) -> Choice:
    """The threshold that one rule gives on these scores.

    Args:
        rule: may be another than ``asked.rule``.
        held: with at least one positive group, unless the rule is ``fixed``.

    Raises:
        Infeasible: too few positive groups for the rule. A specificity that is not reached is told in ``unmet`` instead.
        ValueError: scores that are not finite, or no positive group.
    """
    if rule == "fixed":
        exact = _as_scored(asked.fixed, held)
        return Choice(exact, held.missed(exact), unmet=_unreached(held, exact, asked.min_specificity))
    check_scores(held.groups)
    check_scores(np.concatenate([held.groups, held.positives, held.negatives]))
    if rule == "certified":
        return _certified(held, asked)
    if rule in ORDERED:
        misses = _order(rule, held, asked)
        threshold = float(held.groups[misses])
        return Choice(threshold, misses, unmet=_unreached(held, threshold, asked.min_specificity))
    return _best(held, _gain(rule, held, asked), asked.min_specificity)


def _as_scored(value: float, held: ValidationScores) -> float:
    """The value to the precision of the scores: a network's are float32, and its 0.7 is a little less than 0.7."""
    scores = np.concatenate([held.positives, held.negatives])
    return float(np.float32(value)) if bool((scores.astype(np.float32) == scores).all()) else float(value)


def check_scores(scores: Floats) -> None:
    """Raise a ValueError if there is no score, or one that is not finite."""
    if len(scores) == 0:
        raise ValueError("there is no positive group to choose a threshold from.")
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinity; no threshold can be chosen from them.")


def _order(rule: str, held: ValidationScores, asked: Request) -> int:
    if rule == "empirical":
        return certificate.empirical_misses(len(held.groups), asked.recall)
    return _crc_count(len(held.groups), asked.recall, f"{held.positive_class} {held.group_name}")


def _certified(held: ValidationScores, asked: Request) -> Choice:
    """Recall and specificity certified together, or the recall alone and why; Infeasible where not even that is possible."""
    n, groups = len(held.groups), f"{held.positive_class} {held.group_name}"
    unmet = None
    if asked.min_specificity is not None:
        try:
            return _both_certified(held, asked, asked.min_specificity)
        except Infeasible as error:
            unmet = error
    misses = _certified_count(n, asked.recall, asked.confidence, groups)
    bound = certificate.recall_lower_bound(n, misses, asked.confidence)
    return Choice(float(held.groups[misses]), misses, bound, unmet=unmet)


def _both_certified(held: ValidationScores, asked: Request, specificity: float) -> Choice:
    """The highest threshold that certifies the recall, if it certifies the specificity too.

    The threshold comes from positive groups alone. The negative groups are independent of it, so that the exact bound of a
    proportion holds for them at that threshold (union bound: half of the risk each).
    """
    n, clear = len(held.groups), len(held.clear)
    misses = _certified_count(n, asked.recall, asked.each, f"{held.positive_class} {held.group_name}")
    negatives = f"{held.negative_class} {held.group_name}"
    allowed = _cleared_count(clear, specificity, asked.each, negatives)
    threshold = float(held.groups[misses])
    flagged = held.flagged(threshold)
    bound = certificate.recall_lower_bound(clear, flagged, asked.each) if flagged < clear else 0.0
    if flagged > allowed:
        raise Infeasible(
            f"The highest threshold that certifies the recall ({short(threshold)}) flags {flagged:,} of "
            f"{plural(clear, negatives)}; "
            f"certifying a specificity of {percent(specificity)} with {percent(asked.each)} confidence allows {allowed:,}. "
            f"What is cleared there certifies {_down(bound)}.",
            _advice(bound, "threshold.min_specificity", "or a lower threshold.recall"),
            clear,
            None,
            bound,
        )
    every = np.unique(np.concatenate([held.positives, held.negatives]))
    counts = clear - np.searchsorted(held.clear, every, side="left")
    lowest = float(every[np.flatnonzero(counts <= allowed)[0]])
    recall_bound = certificate.recall_lower_bound(n, misses, asked.each)
    return Choice(threshold, misses, recall_bound, bound, lowest)


def _certified_count(n: int, recall: float, confidence: float, groups: str) -> int:
    misses = certificate.certified_misses(n, recall, confidence)
    if misses is not None:
        return misses
    needed, best = certificate.minimum_groups(recall, confidence), certificate.certifiable_recall(n, confidence)
    reason = (
        f"Validation holds {plural(n, groups)}; certifying a recall of {percent(recall)} with {percent(confidence)} "
        f"confidence needs at least {needed:,}."
    )
    reason += f" Flagging all {n:,} would certify {_down(best)}." if n else ""
    raise Infeasible(reason, _advice(best, "threshold.recall", _larger(n)), n, needed, best)


def _crc_count(n: int, recall: float, groups: str) -> int:
    misses = certificate.crc_misses(n, recall)
    if misses is not None:
        return misses
    needed, best = certificate.crc_minimum_groups(recall), certificate.expected_recall(n, 0)
    reason = (
        f"Validation holds {plural(n, groups)}; a recall of {percent(recall)} on average needs at least {needed:,}."
    )
    reason += f" Flagging all {n:,} would give {_down(best)}." if n else ""
    raise Infeasible(reason, _advice(best, "threshold.recall", _larger(n)), n, needed, best)


def _cleared_count(n: int, specificity: float, confidence: float, groups: str) -> int:
    """How many negative groups may be flagged; the bound of the recall, mirrored."""
    allowed = certificate.certified_misses(n, specificity, confidence)
    if allowed is not None:
        return allowed
    needed, best = certificate.minimum_groups(specificity, confidence), certificate.certifiable_recall(n, confidence)
    reason = (
        f"Validation holds {plural(n, groups)}; certifying a specificity of {percent(specificity)} with {percent(confidence)} "
        f"confidence needs at least {needed:,}."
    )
    reason += f" Clearing all {n:,} would certify {_down(best)}." if n else ""
    raise Infeasible(reason, _advice(best, "threshold.min_specificity", _larger(n)), n, needed, best)


def _larger(n: int) -> str:
    part = "give validation more images (split.val_fraction, or another file)"
    return f"use threshold.rule=empirical, or {part}" if n else part


def _down(share: float) -> str:
    """A share in percent, rounded down: 94.97 % is not 95 %."""
    return percent(math.floor(10000 * share) / 10000, 2)


def _advice(certifiable: float, key: str, other: str) -> str:
    """What to change; three decimals of what can be had, rounded down."""
    lower = math.floor(1000 * certifiable) / 1000
    return f"Set {key}={lower:g}, {other}." if lower > 0 else f"{other[0].upper()}{other[1:]}."


def _unreached(held: ValidationScores, threshold: float, specificity: float | None) -> Infeasible | None:
    if specificity is None or held.reaches(threshold, specificity):
        return None
    found = held.specificity(threshold)
    if found is None:
        reason = f"Validation holds no {held.negative_class} image, so that the specificity is not known."
    else:
        reason = (
            f"The specificity on validation at {short(threshold)} is {_down(found)}, below the {percent(specificity)} that "
            "were asked for."
        )
    return Infeasible(
        reason,
        _advice(found or 0.0, "threshold.min_specificity", "or a lower threshold.recall"),
        len(held.negatives),
        None,
        found or 0.0,
    )


def _gain(rule: str, held: ValidationScores, asked: Request) -> Callable[[Floats, Floats], Floats]:
    """What a rule makes as large as possible, from the numbers of images found and of false alarms."""
    positives, negatives = len(held.positives), len(held.negatives)
    if rule == "youden":  # sensitivity + specificity - 1, times positives x negatives: whole numbers
        return lambda found, alarms: found * negatives - alarms * positives
    if rule == "fbeta":  # F-beta over 1 + beta^2
        weight = asked.beta**2 * positives
        return lambda found, alarms: found / (weight + found + alarms)
    # pi x cost x FNR + (1 - pi) x FPR at the prevalence of validation, times its images
    return lambda found, alarms: -(asked.miss_cost * (positives - found) + alarms)


def _best(held: ValidationScores, gain: Callable[[Floats, Floats], Floats], specificity: float | None) -> Choice:
    """The lowest of the scores with the highest gain, among those that reach the specificity if any does."""
    every = np.unique(np.concatenate([held.positives, held.negatives]))
    found = (len(held.positives) - np.searchsorted(held.positives, every, side="left")).astype(np.float64)
    cleared = np.searchsorted(held.negatives, every, side="left")
    alarms = (len(held.negatives) - cleared).astype(np.float64)
    usable, unmet = np.ones(len(every), dtype=bool), None
    if specificity is not None:
        usable = cleared >= max(1, at_least(specificity, len(held.negatives)))
        if not usable.any():
            usable[:] = True
            unmet = _unreached(held, float(every[-1]), specificity)  # the highest specificity there is
    value = np.where(usable, gain(found, alarms), -np.inf)
    highest = float(value.max())
    threshold = float(every[np.flatnonzero(value >= highest - _SAME * abs(highest))[0]])
    return Choice(threshold, below(held.groups, threshold), unmet=unmet)

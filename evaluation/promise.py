"""What a threshold promises about the test set: stated before it is scored, and checked afterwards.

With the threshold at the (m + 1)-th smallest of n validation scores, the misses among n' new positive groups follow
BetaBinom(n', m + 1, n - m), if these are like those of validation. More misses than its 99 % quantile reject that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scipy.stats import binom

from evaluation import certificate
from evaluation.group_scores import at_least, negative_group_scores
from evaluation.split_summary import Judged
from evaluation.threshold import OperatingPoint, positive_group_scores
from evaluation.wording import Worry, figure, percent, plural, worry

PROMISING: Final = ("certified", "crc")
# A result that a kept promise would show in fewer cases than this rejects the promise.
REJECTED: Final = 0.01


def advance_of(point: OperatingPoint, n_test_groups: int, group_name: str) -> dict[str, Any] | None:
    """What the test should show, from numbers of groups alone: it needs no test score.

    Args:
        point: fixed on validation.
        n_test_groups: groups of the test part with a positive image.
        group_name: what a group is called.

    Returns:
        None where the rule promises nothing, or test has no positive group. Else ``test_positive_groups``,
        ``expected_misses`` (mean), ``misses_90`` and ``misses_99`` (not exceeded in 90 and 99 of 100 sets like validation),
        ``probability_test_meets_target``, ``certified`` (False where the promise is one of the mean, or approximate) and
        ``sentence``.
    """
    if point.rule not in PROMISING or n_test_groups == 0:
        return None
    n, allowed, target = point.n_groups, point.misses_allowed, percent(point.target_recall)
    expected = certificate.expected_test_misses(n_test_groups, allowed, n)
    most = {level: certificate.misses_quantile(n_test_groups, allowed, n, level / 100) for level in (90, 99)}
    chance = certificate.probability_test_meets_target(n_test_groups, allowed, n, point.target_recall)
    certified = point.rule == "certified" and point.recall_lower_bound is not None
    groups = plural(n_test_groups, f"{point.positive_class} {group_name}")
    sentence = (
        f"Of {groups} on test the threshold should miss about {expected:.1f}, and at most {most[90]} in 90 and {most[99]} in 99 "
        f"of 100 sets like validation. By chance alone the test shows a recall of {target} or more with a probability of "
        f"{percent(chance, 1)}"
    )
    if point.rule == "crc":
        sentence += f": this rule promises {target} on average only, and about half of its thresholds find fewer"
    elif not certified:
        sentence += ". That is approximate, because the validation scores are not of the model that is tested"
    return {
        "test_positive_groups": n_test_groups,
        "expected_misses": expected,
        "misses_90": most[90],
        "misses_99": most[99],
        "probability_test_meets_target": chance,
        "certified": certified,
        "sentence": f"{sentence}.",
    }


def promise_of(point: OperatingPoint, test: Judged, group_name: str) -> dict[str, Any] | None:
    """The ``promise`` part of metrics.json; None where the rule promises nothing or test has no positive group.

    The promise counts as broken when test recall is below the target by more than chance explains: more misses than the
    99 % quantile of the beta-binomial distribution that the rule implies.

    Returns:
        What :func:`advance_of` says, itself under ``advance``, with ``test_misses``, ``kept`` and a ``sentence`` on the outcome.
        ``specificity``: the same of a specificity that was certified too, with ``test_negative_groups`` and ``test_flagged``;
        None without one.
    """
    scores = positive_group_scores(test.predictions, point.group_score)
    advance = advance_of(point, len(scores), group_name)
    if advance is None:
        return None
    n_test, most = len(scores), advance["misses_99"]
    missed = int((scores < point.threshold).sum())
    meets = missed <= certificate.empirical_misses(n_test, point.target_recall)
    kept = meets or missed <= most
    return {
        **{name: value for name, value in advance.items() if name not in ("sentence", "certified")},
        "test_misses": missed,
        "kept": kept,
        "advance": advance,
        "sentence": _outcome(point, advance, missed, meets, group_name),
        "specificity": _specificity_of(point, test, group_name),
    }


def _specificity_of(point: OperatingPoint, test: Judged, group_name: str) -> dict[str, Any] | None:
    """Whether test groups without a positive image contradict the specificity that was certified, in an exact binomial test."""
    highest = negative_group_scores(test.predictions)
    if point.min_specificity is None or point.specificity_lower_bound is None or len(highest) == 0:
        return None
    n, flagged = len(highest), int((highest >= point.threshold).sum())
    kept = float(binom.sf(flagged - 1, n, 1.0 - point.min_specificity)) >= REJECTED
    target = percent(point.min_specificity)
    sentence = (
        f"The threshold flags {flagged:,} of {plural(n, f'{point.negative_class} {group_name}')} on test, a specificity of "
        f"{figure((n - flagged) / n)}"
    )
    if not kept:
        sentence += (
            f": the certified specificity of {target} was not kept. These are not like those of validation: shift."
        )
    elif n - flagged >= at_least(point.min_specificity, n):
        sentence += f". The certified specificity of {target} is met."
    else:
        sentence += f". That is below {target}, but within what chance allows in a test set of this size."
    return {"test_negative_groups": n, "test_flagged": flagged, "kept": kept, "sentence": sentence}


def _outcome(point: OperatingPoint, advance: Mapping[str, Any], missed: int, meets: bool, group_name: str) -> str:
    n_test, most = advance["test_positive_groups"], advance["misses_99"]
    groups, target = plural(n_test, f"{point.positive_class} {group_name}"), percent(point.target_recall)
    source = "certificate" if advance["certified"] else "rule"
    start = (
        f"On test the threshold missed {missed} of {groups}, a recall of {figure((n_test - missed) / n_test)}; the "
        f"{source} led to expect about {advance['expected_misses']:.1f} misses, and at most {most} in 99 of 100 sets like "
        "validation"
    )
    if not meets and missed > most:
        return (
            f"{start}: the recall of {target} was not kept, so these {group_name}s are not like those of validation. This is "
            f"shift: the promise holds for {group_name}s like those of validation only. Do not rely on this threshold for "
            f"{group_name}s like these before it is fixed again on scores of their own kind."
        )
    if meets and missed > most:
        return f"{start}. The recall of {target} is met, but that is more misses than chance explains: the sets differ."
    if meets:
        return f"{start}. The recall of {target} is met."
    return f"{start}. That is below {target}, but within what chance allows in a test set of this size."


def specificity_worry(metrics: Mapping[str, Any]) -> Worry | None:
    """What is wrong with a specificity that was asked for as well; None if nothing is.

    Returns:
        An alarm where it was certified and test contradicts it, a caution where it is not certified or not reached.
    """
    point, promised = metrics["threshold"], (metrics.get("promise") or {}).get("specificity")
    if promised is not None and not promised["kept"]:
        return worry("alarm", "The promised specificity was not kept", promised["sentence"])
    if not point.get("unmet"):
        return None
    text = f"{point['unmet']} The threshold is that of the {point['rule']} rule without this demand."
    return worry("caution", "The specificity that was asked for is not kept", text)

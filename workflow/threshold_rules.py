"""The one threshold rule of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from conf.output import short
from workflow.members import Member

# Keys of ``threshold`` that runs from before them lack, as arguments of choose_operating_point, and what they then were.
SINCE_RULES: Final[dict[str, Any]] = {
    "min_specificity": None,
    "beta": 2.0,
    "miss_cost": 10.0,
    "infeasible": "empirical",
}


def threshold_rule(members: Sequence[Member], rule: str | None, recall: float | None) -> dict[str, Any]:
    """How the threshold is to be chosen, as arguments of :func:`evaluation.threshold.choose_operating_point`.

    Raises:
        ValueError: if the runs did not agree and nothing else was asked for.
    """
    given = {"rule": rule, "recall": recall}
    chosen: dict[str, Any] = {}
    for key in ("rule", "recall", "confidence", "group_score", "value", *SINCE_RULES):
        if given.get(key) is not None:
            chosen[key] = given[key]
            continue
        values: dict[str, Member] = {}
        for member in members:
            values.setdefault(str(_asked(member, key)), member)
        if len(values) > 1 and _matters(key, chosen["rule"]):
            (first, a), (second, b) = list(values.items())[:2]
            remedy = f"Say which: {key}={first}" if key in given else "Train them with one threshold rule."
            raise ValueError(
                f"the runs chose their thresholds in different ways: threshold.{key} is {first} in {short(a.folder)} and "
                f"{second} in {short(b.folder)}. {remedy}"
            )
        chosen[key] = _asked(members[0], key)
    chosen["fixed"] = chosen.pop("value")
    return {**chosen, "group_name": members[0].config["task"]["group_name"]}


def _asked(member: Member, key: str) -> Any:
    """A key of ``threshold`` in the configuration of a run; its default for a run from before the key existed."""
    held = member.config["threshold"]
    return held[key] if key in held else SINCE_RULES[key]


def _matters(key: str, rule: str) -> bool:
    """Whether runs that differ in this key choose by another rule."""
    needed_by = {"value": "fixed", "beta": "fbeta", "miss_cost": "cost"}
    return key != "infeasible" and needed_by.get(key, rule) == rule

"""The row of checks on the first screen: the same six questions on every page, each with its answer in two or three words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from evaluation.report_files import RunFiles
from evaluation.report_parts import NON_COMMERCIAL, findings_of, subgroup_tables
from evaluation.wording import Worry

_CALIBRATED: Final = {
    "fine": "scores fit the rates",
    "note": "scores are roughly risks",
    "caution": "cannot be read as risks",
    "alarm": "cannot be read as risks",
}
_LEAK_FINDINGS: Final = ("parts", "across_official", "official_groups")


@dataclass(frozen=True)
class Check:
    """One question of the row.

    Attributes:
        name: what is asked after. ``state``: the answer in a few words.
        level: ``alarm``, ``caution``, ``note``, ``fine`` or ``unknown`` (nothing in the files answers it).
        href: id of the section that says more.
    """

    name: str
    state: str
    level: str
    href: str


def checks_of(run: RunFiles) -> list[Check]:
    """Leakage, shift, calibration, weak subgroups, phantom data, licence: what the files say about each."""
    return [_leakage(run), _shift(run), _calibration(run), _subgroup(run), _phantom(run), _licence(run)]


def _leakage(run: RunFiles) -> Check:
    metrics = run.metrics
    if metrics.get("leak"):
        return Check("Leakage", "yes, made on purpose", "alarm", "worries")
    if any("both sides of the split" in item["title"] for item in metrics["worries"]):
        return Check("Leakage", f"{metrics['group_name']}s on both sides", "alarm", "worries")
    findings = [item for item in findings_of(run.audit) if item.get("id") in _LEAK_FINDINGS]
    if any(item["level"] == "alarm" for item in findings):
        return Check("Leakage", "found by the audit", "alarm", "audit")
    if metrics.get("test_kind") == "external":
        return Check("Leakage", "seen images left out", "fine", "data")
    if metrics["group_name"] == "image":
        return Check("Leakage", "not known: no groups", "caution", "audit")
    if not findings and run.data_card is None:
        return Check("Leakage", "not known", "unknown", "audit")
    return Check("Leakage", f"no {metrics['group_name']} in two parts", "fine", "audit" if findings else "data")


def _shift(run: RunFiles) -> Check:
    metrics = run.metrics
    held = _named(metrics["worries"], ("shift", "test and validation differ", "validation was optimistic"))
    if held:
        state = "yes, clearly" if held["level"] == "alarm" else "signs of it"
        return Check("Shift", state, held["level"], "shift")
    if (metrics.get("promise") or {}).get("kept") is False:
        return Check("Shift", "the promise broke", "alarm", "operating-point")
    if not metrics.get("shift"):
        return Check("Shift", "not known", "unknown", "shift")
    if metrics.get("test_kind") == "cut":
        return Check("Shift", "not tested: one source", "unknown", "shift")
    return Check("Shift", "none seen", "fine", "shift")


def _calibration(run: RunFiles) -> Check:
    section = run.metrics.get("calibration")
    if not section:
        return Check("Calibration", "not judged", "unknown", "results")
    if section.get("unknown") and not section.get("worry"):
        return Check("Calibration", f"not known: {section['unknown']}", "unknown", "calibration")
    level = str((section.get("worry") or {}).get("level", "fine"))
    return Check("Calibration", _CALIBRATED.get(level, _CALIBRATED["alarm"]), level, "calibration")


def _subgroup(run: RunFiles) -> Check:
    tables = subgroup_tables(run.metrics)
    if not tables:
        return Check("Weak subgroup", "not known: no columns", "unknown", "subgroups")
    held = _named(run.metrics["worries"], (" are found where ",))
    if held:
        return Check("Weak subgroup", "one stands out", held["level"], "subgroups")
    if all(table["worst"] is None for table in tables):
        return Check("Weak subgroup", "too few to tell", "unknown", "subgroups")
    return Check("Weak subgroup", "none stands out", "fine", "subgroups")


def _phantom(run: RunFiles) -> Check:
    if run.metrics["phantom"]:
        return Check("Phantom data", "yes: generated images", "alarm", "data")
    if run.metrics.get("test_kind") == "given":
        return Check("Phantom data", "not known", "unknown", "data")
    return Check("Phantom data", "no", "fine", "data")


def _licence(run: RunFiles) -> Check:
    licence = str((run.data_card or {}).get("licence") or "").strip()
    if not licence:
        return Check("Licence", "not stated", "unknown", "data")
    if NON_COMMERCIAL.search(licence):
        return Check("Licence", f"{licence}: not commercial", "caution", "data")
    return Check("Licence", licence, "fine", "data")


def _named(worries: list[Worry], parts: tuple[str, ...]) -> Mapping[str, Any] | None:
    """The first worry, the gravest first, whose title holds one of the words."""
    return next((item for item in worries if any(part in item["title"].lower() for part in parts)), None)

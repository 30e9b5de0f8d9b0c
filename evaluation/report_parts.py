"""What the page says beyond the fields of metrics.json: worries of all sources, subgroups, the audit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from evaluation.baseline_table import SHORT
from evaluation.report_files import ReportError, RunFiles, read_json
from evaluation.subgroups import subgroup_gap
from evaluation.wording import LEAKY, Worry, worry

AGAIN: Final = "judged again"
_LEVELS: Final = ("alarm", "caution", "note", "fine")
NON_COMMERCIAL: Final = re.compile(r"\bNC\b|non-?\s?commercial", re.IGNORECASE)
_CARD: Final[dict[str, Any]] = {
    "title": "Data",
    "source": "files",
    "group_name": "group",
    "counts": [],
    "split": {"method": "not stated", "seed": None},
    "duplicates": {"files": 0, "groups": 0},
    "left_out": [],
    "left_out_total": 0,
    "licence": "not stated",
    "citation": "",
    "manifest_sha256": "",
    "split_sha256": "",
}
_METRICS: Final = ("sensitivity", "group_recall", "specificity", "auroc")
BASELINE_NOTES: Final[dict[str, str]] = {
    "majority": "gives every image the class frequencies of training. Its accuracy is that of always naming the commonest class.",
    "thumbnail": "sees 16x16 pixels: where an image is bright and coarse shapes, and nothing finer.",
    "metadata": "sees age, sex or site, and never the image.",
    "hog_svm": "sees in which directions edges run in each part of the image: the usual method before deep learning.",
    "features": "sees what a network that was trained on other pictures makes of the image; no part of it was trained here.",
}


def baseline_called(metrics: Mapping[str, Any]) -> str:
    """What the baseline that curves show is called; metrics from before there were several do not say it."""
    key = (metrics.get("baseline") or {}).get("key", "thumbnail")
    return SHORT.get(key, str(key))


def fixed_when(run: RunFiles) -> str:
    """When the threshold was fixed: ``before`` the test was scored, ``after`` it had been seen, or empty: no file tells."""
    record, kind = run.run or {}, run.metrics.get("test_kind")
    source = record.get("source")
    if record.get("kind") == AGAIN and isinstance(source, Mapping):
        if source.get("threshold") != run.threshold["threshold"]:
            return "after"
        # The record that it was made from may have another threshold than the run.
        if source.get("kind") == AGAIN and "advance" not in (run.metrics.get("promise") or {}):
            return ""
    return "" if kind in ("given", "external") else "before"


def stages_of(history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the epochs belong to named stages."""
    return any(row.get("stage") is not None for row in history)


def worries_of_page(run: RunFiles) -> list[Worry]:
    """As :func:`all_worries`, of the files of the page."""
    return all_worries(run.metrics, run.audit, run.data_card)


def worries_of_folder(folder: Path) -> list[Worry]:
    """As :func:`all_worries`, of a folder with metrics.json: what its page shows, for the terminal."""
    metrics = read_json(folder, "metrics.json", required=True)
    assert metrics is not None
    return all_worries(metrics, read_json(folder, "audit.json"), read_json(folder, "data_card.json"))


def all_worries(
    metrics: Mapping[str, Any], audit: Mapping[str, Any] | None = None, card: Mapping[str, Any] | None = None
) -> list[Worry]:
    """Worries of metrics.json, alarms of the audit that it does not hold yet, and a licence that forbids commercial use.

    Returns:
        A leaky split first, then alarms, cautions and notes.
    """
    held: list[Worry] = list(metrics["worries"])
    known = {item["title"] for item in held}
    for finding in findings_of(audit):
        if finding["level"] == "alarm" and finding["title"] not in known:
            held.append(worry("alarm", str(finding["title"]), str(finding["text"])))
    licence = str((card or {}).get("licence") or "")
    if NON_COMMERCIAL.search(licence):
        held.append(worry("note", "Licence of the data", f"Licence {licence}: not for commercial use."))
    return sorted(held, key=lambda item: (item["title"] != LEAKY, _LEVELS.index(item["level"])))


def card_of(run: RunFiles) -> dict[str, Any] | None:
    """The data card with every field that the page reads, because other versions write fewer."""
    return None if run.data_card is None else {**_CARD, **run.data_card}


def findings_of(audit: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The findings of audit.json with every field that the page shows, in their order.

    Raises:
        ReportError: a finding has an unknown level or no title.
    """
    found = []
    for item in (audit or {}).get("findings") or []:
        if item.get("level") not in _LEVELS or not item.get("title"):
            raise ReportError(f"audit.json holds the finding {item!r}; expected a title and one of {list(_LEVELS)}.")
        found.append({"text": "", "count": None, **item})
    return found


def audit_part(run: RunFiles) -> dict[str, Any]:
    """Findings of the audit, and how many images and groups it looked at where that is known."""
    audit, counts = run.audit or {}, (run.data_card or {}).get("counts") or []
    totals = {name: audit.get(name) for name in ("images", "groups")}
    for name, value in totals.items():
        if not isinstance(value, int):
            totals[name] = sum(row[name] for row in counts if isinstance(row.get(name), int)) or None
    # A group with images of two classes is counted twice in the card, so that its sum is no number of groups.
    if not isinstance(audit.get("groups"), int):
        totals["groups"] = None
    return {"findings": findings_of(audit), **totals}


def rescued(run: RunFiles) -> dict[str, int]:
    """Positive test images by decision: most probable class a negative one, and of these flagged by the threshold."""
    test, cut = run.scores["test"], float(run.threshold["threshold"])
    numbers = [number for number, name in enumerate(test.classes) if name in test.positive]
    passed = (test.labels == 1) & ~np.isin(test.decisions, numbers)
    flagged = test.scores >= cut
    return {"passed": int(passed.sum()), "flagged": int((passed & flagged).sum())}


def subgroup_tables(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One table a metadata column of the test set.

    Each holds ``rows``, the ``metrics`` that any row has, whether rows have a ``prevalence``, and, of two or more values with
    enough positive groups, the ``worst`` and the ``best`` sensitivity and the ``gap`` between them (else None).
    """
    tables = []
    for column, rows in (metrics["splits"]["test"].get("by") or {}).items():
        held = [name for name in _METRICS if any(isinstance(row.get(name), dict) for row in rows)]
        # Rows of older versions do not say what is now always there.
        known = [{"suppressed": False, "n_positive_groups": row["n_groups"], **row} for row in rows]
        gap = subgroup_gap(known) or {"worst": None, "best": None, "gap": None}
        has_prevalence = any(row.get("prevalence") is not None for row in rows)
        tables.append(
            {"column": column.replace("_", " "), "rows": rows, "metrics": held, "prevalence": has_prevalence, **gap}
        )
    return tables

"""What is wrong with a data set, found by itself: copies, contradictions, shortcuts, and a test part of another kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules import audit_copies
from datamodules.audit_copies import MOST_LISTED, PARTS
from datamodules.audit_findings import findings_of
from datamodules.shortcuts import association, domain_auc, shortcut_aucs

SCHEMA = 1
COLUMNS = [
    *("image_id", "path", "label", "group_id", "joined_group", "official", "part", "reason"),
    *("sha256", "bytes", "width", "height", "mode", "error"),
]
_MARKS = {"alarm": "ALARM", "caution": "Caution", "note": "Note", "fine": "Fine"}


def audit_dataset(
    listed: pd.DataFrame,
    small: NDArray[np.uint8],
    pairs: pd.DataFrame,
    *,
    classes: tuple[str, ...] | list[str],
    group_name: str,
    subgroup_columns: list[str] | tuple[str, ...],
    seed: int = 0,
) -> dict[str, Any]:
    """Look for everything that would make a result untrue, whatever the preparation has already done about it.

    Args:
        listed: one row for every file of the source, also those left out: ``image_id``, ``path`` (relative to the data
            set's root), ``label``, ``group_id`` (the source's key), ``joined_group`` (with copies united), ``official``
            (``train``, ``test``, ``val`` or empty), ``part`` (``train``, ``val``, ``test``, ``unused`` or ``left out``),
            ``reason`` (why left out), ``sha256`` (empty if unreadable), ``bytes``, ``width``, ``height``, ``mode``,
            ``error``, and the subgroup columns.
        small: pictures of the distinct contents in order of first appearance, shape ``(k, 32, 32)``.
        pairs: :func:`datamodules.near_duplicates.near_duplicates` of ``small``.
        classes: class names in their fixed order.
        group_name: what a group is, in the singular: ``patient``, ``lesion``.
        subgroup_columns: columns of ``listed`` that describe the patient or image; absent ones are passed over.
        seed: of folds and subsets.

    Returns:
        Plain JSON values: ``schema``, ``findings`` (``id``, ``level``: alarm, caution, note or fine, ``title``,
        ``text``, ``count``; the worst first), ``counts``, ``unreadable``, ``exact_duplicates``, ``contradictions``,
        ``across_official``, ``near_duplicates``, ``group_overlap``, ``shortcuts``, ``subgroups``, ``shift``,
        ``pictures`` (the pairs to show). Lists are cut at 200 entries, totals are complete.

    Raises:
        ValueError: if a column is missing, or ``small`` has another number of rows than there are distinct contents.
    """
    listed = _checked(listed, small)
    readable = listed[listed["sha256"] != ""]
    audit: dict[str, Any] = {
        "schema": SCHEMA,
        "group_name": group_name,
        "classes": list(classes),
        "counts": _counts(listed, readable, classes),
        "unreadable": _unreadable(listed),
        "exact_duplicates": audit_copies.exact_duplicates(readable),
        "contradictions": audit_copies.contradictions(readable),
        "across_official": audit_copies.across_official(readable),
        "near_duplicates": audit_copies.near_duplicates(readable, pairs),
        "group_overlap": audit_copies.group_overlap(readable),
    }
    distinct = readable.drop_duplicates("sha256").reset_index(drop=True)  # row numbers are those of small
    usable = distinct[(distinct["part"] != "left out") & distinct["label"].isin(list(classes))]
    audit["shortcuts"] = shortcut_aucs(_training(usable), seed=seed)
    audit["subgroups"] = {
        name: association(usable["label"], usable[name]) for name in subgroup_columns if name in usable
    }
    audit["shift"] = _shift(usable, small, classes, seed)
    audit["pictures"] = audit_copies.pictures(audit)
    return {"schema": SCHEMA, "findings": findings_of(audit), **audit}


def describe_audit(audit: dict[str, Any]) -> list[str]:
    """The alarms, cautions and notes of an audit for a terminal, one a line; what is fine is only counted."""
    told = [finding for finding in audit["findings"] if finding["level"] != "fine"]
    fine = len(audit["findings"]) - len(told)
    lines = [f"{_MARKS[finding['level']]}: {finding['title']}. {finding['text']}" for finding in told]
    return [*lines, f"{fine} checks found nothing to report." if fine != 1 else "1 check found nothing to report."]


def _checked(listed: pd.DataFrame, small: NDArray[np.uint8]) -> pd.DataFrame:
    missing = [name for name in COLUMNS if name not in listed.columns]
    if missing:
        raise ValueError(f"audit: missing columns {missing}; there are {list(listed.columns)}")
    text = [name for name in COLUMNS if name not in ("bytes", "width", "height")]
    checked = listed.assign(**{name: listed[name].astype(object).fillna("").astype(str) for name in text})
    contents = checked.loc[checked["sha256"] != "", "sha256"].nunique()
    if len(small) != contents:
        raise ValueError(f"audit: {len(small)} pictures, but {contents} distinct readable contents")
    return checked.reset_index(drop=True)


def _counts(listed: pd.DataFrame, readable: pd.DataFrame, classes: tuple[str, ...] | list[str]) -> dict[str, Any]:
    used = readable[readable["part"].isin(PARTS)]
    parts = [name for name in PARTS if (used["part"] == name).any()]
    table = {}
    for part in parts:
        inside = used[used["part"] == part]
        table[part] = {
            name: {"images": len(rows), "groups": int(rows["joined_group"].nunique())}
            for name in classes
            for rows in [inside[inside["label"] == name]]
        }
    reasons = listed.loc[listed["part"] == "left out", "reason"].str.replace(r"^unreadable.*", "unreadable", regex=True)
    return {
        "listed": len(listed),
        "readable": len(readable),
        "distinct": int(readable["sha256"].nunique()),
        "used": len(used),
        "groups": int(readable["group_id"].nunique()),
        "official_test": int((readable["official"] == "test").sum()),
        "joined_groups": int(readable["joined_group"].nunique()),
        "parts": table,
        "left_out": {str(reason): int(count) for reason, count in reasons.value_counts().head(MOST_LISTED).items()},
    }


def _unreadable(listed: pd.DataFrame) -> dict[str, Any]:
    bad = listed[listed["sha256"] == ""]
    shown = bad.head(MOST_LISTED)
    named = zip(shown["path"], shown["label"], shown["error"], strict=True)
    return {
        "n": len(bad),
        "by_class": {str(name): int(count) for name, count in bad["label"].value_counts().items()},
        "list": [{"path": path, "label": label, "error": error} for path, label, error in named],
    }


def _training(usable: pd.DataFrame) -> pd.DataFrame:
    """The official training part where the data set has one, else all."""
    train = usable[usable["official"] == "train"]
    return train if len(train) else usable


def _shift(
    usable: pd.DataFrame, small: NDArray[np.uint8], classes: tuple[str, ...] | list[str], seed: int
) -> dict[str, Any]:
    """Of each class: how well pixels tell the test part from the training part. The official parts where there are."""
    official = bool((usable["official"] == "test").any() and (usable["official"] == "train").any())
    side = usable["official"] if official else usable["part"].replace("val", "train")
    both = usable[side.isin(["train", "test"])]
    by_class = {}
    for name in classes:
        rows = both[both["label"] == name]
        by_class[name] = domain_auc(small[rows.index], side[rows.index] == "test", rows["joined_group"], seed=seed)
    return {"split": "official" if official else "own", "by_class": by_class}

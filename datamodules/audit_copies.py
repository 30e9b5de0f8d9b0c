"""Copies in a data set: identical and near-identical images, what they contradict and which parts they connect."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import pandas as pd

MOST_LISTED = 200  # entries of a list in the audit; totals are always complete
MOST_PICTURES = 40
_MOST_OF_A_KIND = {"contradiction": 16, "across": 14, "groups": 10, "within": 6}
_FACTS = ["image_id", "path", "label", "group_id", "official", "part", "reason", "width", "height"]
PARTS = ("train", "val", "test")


def exact_duplicates(readable: pd.DataFrame) -> dict[str, Any]:
    """Groups of identical files.

    Args:
        readable: rows of the audit's ``listed`` that could be read.

    Returns:
        ``n_groups``, ``n_files``; ``by_classes``, ``by_official``, ``by_part``: entries ``{first, second, images}`` with
        the number of contents that occur under both (or twice under one, where first = second); ``list``.
    """
    several = readable[readable.duplicated("sha256", keep=False)]
    groups = [rows for _, rows in several.groupby("sha256", sort=False)]
    return {
        "n_groups": len(groups),
        "n_files": len(several),
        "by_classes": _by_pair(groups, "label"),
        "by_official": _by_pair(groups, "official"),
        "by_part": _by_pair([rows[rows["part"].isin(PARTS)] for rows in groups], "part"),
        "list": [_entry(rows) for rows in groups[:MOST_LISTED]],
    }


def contradictions(readable: pd.DataFrame) -> dict[str, Any]:
    """Identical files under different labels: ``n_images`` (contents), ``n_files``, ``in_use``, ``by_classes``, ``list``.

    ``by_classes`` also says how many of the ``images`` lie under both labels ``within`` one official part.
    """
    labelled = readable[readable["label"] != ""]
    several = labelled[labelled.groupby("sha256")["label"].transform("nunique") > 1]
    groups = [rows for _, rows in several.groupby("sha256", sort=False)]
    within = {(entry["first"], entry["second"]): entry["images"] for entry in _by_pair(_inside_parts(groups), "label")}
    pairs = [
        {**entry, "within": within.get((entry["first"], entry["second"]), 0)}
        for entry in _by_pair(groups, "label")
        if entry["first"] != entry["second"]
    ]
    return {
        "n_images": len(groups),
        "n_files": len(several),
        "in_use": int(several["part"].isin(PARTS).sum()),
        "by_classes": pairs,
        "list": [_entry(rows) for rows in groups[:MOST_LISTED]],
    }


def across_official(readable: pd.DataFrame) -> dict[str, Any]:
    """Files of the official test part that are identical to a file of another official part.

    Returns:
        ``n_test`` (such test files), ``other_label`` (those whose copy has another label), ``in_use`` (those that are
        still used), ``list`` of contents.
    """
    test = readable["official"] == "test"
    other = readable[(readable["official"] != "") & ~test]
    labels = other.groupby("sha256")["label"].agg(set)
    copied = readable[test & readable["sha256"].isin(labels.index)]
    differs = [label not in labels[content] for label, content in zip(copied["label"], copied["sha256"], strict=True)]
    both = readable[readable["sha256"].isin(set(copied["sha256"])) & (readable["official"] != "")]
    return {
        "n_test": len(copied),
        "other_label": sum(differs),
        "in_use": int(copied["part"].isin(PARTS).sum()),
        "list": [_entry(rows) for _, rows in list(both.groupby("sha256", sort=False))[:MOST_LISTED]],
    }


def near_duplicates(readable: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, Any]:
    """The confirmed near-identical pairs, with what they connect.

    Args:
        readable: rows of ``listed`` that could be read.
        pairs: of :func:`datamodules.near_duplicates.near_duplicates`, between distinct contents in order of appearance.

    Returns:
        ``n``, ``same_group``, ``different_groups`` (by the source's own key), ``different_labels``,
        ``across_official`` (test and another part), ``across_parts`` (of the split made here), ``list`` of ``{first,
        second, similarity, transform}``, those that matter first.
    """
    contents = list(dict.fromkeys(readable["sha256"]))
    wanted = {contents[row] for name in ("first", "second") for row in pairs[name]}
    by_content = {key: rows for key, rows in readable[readable["sha256"].isin(wanted)].groupby("sha256")}
    found = []
    for first, second, similarity, transform in pairs[["first", "second", "similarity", "transform"]].itertuples(
        index=False, name=None
    ):
        a, b = by_content[contents[first]], by_content[contents[second]]
        entry: dict[str, Any] = {
            "first": _facts(a.iloc[0]),
            "second": _facts(b.iloc[0]),
            "similarity": round(float(similarity), 4),
            "transform": str(transform),
            "same_group": bool(set(a["group_id"]) & set(b["group_id"])),
            "different_groups": not set(a["group_id"]) & set(b["group_id"]),
            "different_labels": not set(a["label"]) & set(b["label"]),
            "across_official": _connects(set(a["official"]), set(b["official"])),
            "across_parts": len((set(a["part"]) | set(b["part"])) & set(PARTS)) > 1,
        }
        found.append(entry)
    weight = ("across_parts", "across_official", "different_labels")
    found.sort(key=lambda e: ([not e[name] for name in weight], e["same_group"], -e["similarity"]))
    return {
        "n": len(found),
        **{name: sum(entry[name] for entry in found) for name in ("same_group", "different_groups", *weight)},
        "list": found[:MOST_LISTED],
    }


def group_overlap(readable: pd.DataFrame) -> dict[str, Any]:
    """Groups on two sides.

    Returns:
        ``official``: the source's own keys in the official test part and another one (``n``, ``test_files``, ``list``);
        ``parts``: joined groups in several of train, val and test (``n``, ``list``): none, if the split is right.
    """
    known = readable[readable["official"] != ""]
    test = set(known.loc[known["official"] == "test", "group_id"])
    both = sorted(test & set(known.loc[known["official"] != "test", "group_id"]))
    used = readable[readable["part"].isin(PARTS)]
    parts = used.groupby("joined_group")["part"].nunique()
    broken = sorted(map(str, parts.index[parts > 1]))
    files = known["group_id"].isin(both) & (known["official"] == "test")
    return {
        "official": {"n": len(both), "test_files": int(files.sum()), "list": list(map(str, both[:MOST_LISTED]))},
        "parts": {"n": len(broken), "list": broken[:MOST_LISTED]},
    }


def pictures(audit: dict[str, Any]) -> list[dict[str, Any]]:
    """At most 40 pairs that are worth seeing: contradictions, then pairs across splits, across groups, and others."""
    of_kind: dict[str, list[dict[str, Any]]] = {"contradiction": [], "across": [], "groups": [], "within": []}
    seen: Counter[tuple[str, ...]] = Counter()
    queued = []
    for entry in audit["contradictions"]["list"]:
        first, second = _unlike(entry["files"])
        kind = tuple(sorted({first["label"], second["label"]}))
        seen[kind] += 1
        queued.append((seen[kind], _pair("contradiction", first, second)))
    of_kind["contradiction"] = [pair for _, pair in sorted(queued, key=lambda item: item[0])]
    told = {entry["sha256"] for entry in audit["contradictions"]["list"]}
    for entry in audit["across_official"]["list"]:
        if entry["sha256"] not in told:
            first = next(file for file in entry["files"] if file["official"] != "test")
            second = next(file for file in entry["files"] if file["official"] == "test")
            of_kind["across"].append(_pair("across", first, second))
    for entry in audit["near_duplicates"]["list"]:
        across = entry["across_official"] or entry["across_parts"] or entry["different_labels"]
        kind_ = "across" if across else "within" if entry["same_group"] else "groups"
        of_kind[kind_].append(_pair(kind_, entry["first"], entry["second"], entry["similarity"], entry["transform"]))
    chosen = [pair for kind, found in of_kind.items() for pair in found[: _MOST_OF_A_KIND[kind]]]
    return chosen[:MOST_PICTURES]


def _inside_parts(groups: list[pd.DataFrame]) -> list[pd.DataFrame]:
    return [rows for group in groups for _, rows in group.groupby("official")]


def _pair(
    kind: str, first: dict[str, Any], second: dict[str, Any], similarity: float = 1.0, transform: str = "identity"
) -> dict[str, Any]:
    identical = similarity == 1.0 and transform == "identity"
    return {
        "kind": kind,
        "first": first,
        "second": second,
        "similarity": similarity,
        "transform": transform,
        "identical": identical,
    }


def _unlike(files: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two files of different label, from different official splits where there are such."""
    unlike = [pair for pair in combinations(files, 2) if pair[0]["label"] != pair[1]["label"]]
    across = [pair for pair in unlike if pair[0]["official"] != pair[1]["official"]]
    return (across or unlike)[0]


def _connects(one: set[str], other: set[str]) -> bool:
    """Whether a pair with these official splits has the test part on one side and another part on the other."""
    return ("test" in one and bool(other - {"test", ""})) or ("test" in other and bool(one - {"test", ""}))


def _by_pair(groups: list[pd.DataFrame], column: str) -> list[dict[str, Any]]:
    counts: Counter[tuple[str, str]] = Counter()
    for rows in groups:
        values = Counter(rows[column].astype(str))
        counts.update(combinations(sorted(values), 2))
        counts.update((value, value) for value, times in values.items() if times > 1)
    return [{"first": a, "second": b, "images": n} for (a, b), n in counts.most_common()]


def _entry(rows: pd.DataFrame) -> dict[str, Any]:
    return {"sha256": str(rows["sha256"].iloc[0]), "files": [_facts(row) for _, row in rows.head(20).iterrows()]}


def _facts(row: pd.Series) -> dict[str, Any]:
    return {name: int(row[name]) if name in ("width", "height") else str(row[name]) for name in _FACTS}

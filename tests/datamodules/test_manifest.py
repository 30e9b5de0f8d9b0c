"""The manifest: what is refused, what is left out, how groups are united."""

from __future__ import annotations

import pandas as pd
import pytest

from datamodules.errors import DataError
from datamodules.grouping import united_groups
from datamodules.manifest import LeftOut, Manifest, build_manifest

CLASSES = ("NORMAL", "PNEUMONIA")


def listing(rows: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    columns = ["image_id", "label", "group_id", "split"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(path=frame["image_id"], subtype="x")


def facts(ids: list[str], contents: list[str], errors: dict[str, str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": ids,
            "sha256": contents,
            "width": 4,
            "height": 4,
            "mode": "L",
            "error": [(errors or {}).get(name, "") for name in ids],
        }
    )


BASE = [
    ("a", "NORMAL", "p1", "train"),
    ("b", "PNEUMONIA", "p2", "train"),
    ("c", "NORMAL", "p3", "test"),
    ("d", "PNEUMONIA", "p4", "test"),
]


def test_united_groups_is_transitive() -> None:
    assert united_groups(["g1", "g2", "g2", "g3", "g4"], ["x", "x", "y", "y", "z"]) == ["g1", "g1", "g1", "g1", "g4"]


def test_unreadable_and_contradictory_and_leaking_images_are_left_out() -> None:
    rows = [
        *BASE,
        ("e", "NORMAL", "p5", "train"),  # unreadable
        ("f", "NORMAL", "p6", "train"),  # the same file as g, other label
        ("g", "PNEUMONIA", "p7", "train"),
        ("h", "NORMAL", "p8", "train"),  # identical to the test image c
        ("i", "NORMAL", "p3", "train"),  # patient of the test part
    ]
    ids = [row[0] for row in rows]
    contents = ["1", "2", "3", "4", "", "6", "6", "3", "9"]
    manifest = build_manifest(
        listing(rows), facts(ids, contents, {"e": "e: the file is empty"}), CLASSES, [LeftOut("n.txt", "no")]
    )
    assert manifest.frame["image_id"].tolist() == ["a", "b", "c", "d"]
    reasons = {item.path: item.reason for item in manifest.left_out}
    assert set(reasons) == {"n.txt", "e", "f", "g", "h", "i"}
    assert reasons["e"] == "unreadable: the file is empty"
    assert "other label" in reasons["f"] or "another label" in reasons["f"]
    assert "official test" in reasons["h"]


def test_a_class_without_readable_images_is_an_error() -> None:
    with pytest.raises(DataError, match="PNEUMONIA in the test part"):
        build_manifest(listing(BASE), facts(list("abcd"), list("1234"), {"d": "d: empty"}), CLASSES, [])


def test_hash_ignores_order_and_sees_every_change() -> None:
    first = build_manifest(listing(BASE), facts(list("abcd"), list("1234")), CLASSES, [])
    shuffled = Manifest(first.frame.sample(frac=1, random_state=0), CLASSES)
    assert shuffled.sha256 == first.sha256
    for column, value in (("sha256", "x"), ("label", "PNEUMONIA"), ("group_id", "q"), ("split", "test")):
        changed = first.frame.copy()
        changed.loc[0, column] = value
        assert Manifest(changed, CLASSES).sha256 != first.sha256


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("label", "CAT", "unknown labels"),
        ("split", "dev", "unknown splits"),
        ("group_id", "", "group_id is empty"),
        ("image_id", "b", "more than once"),
    ],
)
def test_invalid_manifests_are_refused(column: str, value: str, words: str) -> None:
    frame = build_manifest(listing(BASE), facts(list("abcd"), list("1234")), CLASSES, []).frame
    frame.loc[0, column] = value
    with pytest.raises(DataError, match=words):
        Manifest(frame, CLASSES)


def test_subgroups_do_not_hold_technical_columns() -> None:
    manifest = build_manifest(listing(BASE), facts(list("abcd"), list("1234")), CLASSES, [])
    assert manifest.subgroup_columns == ["subtype"]

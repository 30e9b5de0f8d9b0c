"""Label policies say which label is which class; groups join whatever belongs together."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.errors import DataError
from datamodules.grouping import united_groups
from datamodules.labels import apply_policy, ask_for_classes

FRAME = pd.DataFrame({"path": list("abcde"), "label": ["nv", "MEL", "akiec", "odd", "nv "]})


def test_a_policy_maps_counts_and_lists_what_has_no_class() -> None:
    policy = {"benign": ["nv"], "malignant": ["mel", "akiec"]}
    frame, left_out, counts = apply_policy(FRAME, policy)
    assert frame["label"].tolist() == ["benign", "malignant", "malignant", "benign"]
    assert frame["subtype"].tolist() == ["nv", "mel", "akiec", "nv"]
    assert [(item.path, "'odd'" in item.reason) for item in left_out] == [("d", True)]
    assert counts == {"benign": {"nv": 2}, "malignant": {"mel": 1, "akiec": 1}}


def test_impossible_policies_are_refused() -> None:
    with pytest.raises(DataError, match="belongs to two classes"):
        apply_policy(FRAME, {"a": ["nv"], "b": ["NV"]})
    with pytest.raises(DataError, match=r"no image of class b .*Labels found: nv 1"):
        apply_policy(FRAME, {"a": ["nv"], "b": ["zz"]})
    with pytest.raises(DataError, match="no column 'subtype'"):
        apply_policy(FRAME, {"a": ["nv"]}, "subtype")


def test_the_line_to_type_is_proposed_where_no_classes_are_given() -> None:
    text = str(ask_for_classes(pd.Series(["normal", "covid 19", "normal"]), "ROOT"))
    assert "normal 2, covid 19 1" in text
    assert "'task.classes=[covid 19,normal]' 'task.positive=[WHAT_MUST_NOT_BE_MISSED]'" in text
    assert "at least two classes" in str(ask_for_classes(pd.Series(["one"]), "ROOT"))


def naive(keys: list[list[str]]) -> list[set[int]]:
    groups = [{row} for row in range(len(keys[0]))]
    changed = True
    while changed:
        changed = False
        for key in keys:
            for a in range(len(key)):
                for b in range(a):
                    if key[a] and key[a] == key[b] and groups[a] is not groups[b]:
                        merged = groups[a] | groups[b]
                        for row in merged:
                            groups[row] = merged
                        changed = True
    return groups


column = st.lists(st.sampled_from(["", "a", "b", "c", "d", "e"]), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(column, st.data())
def test_groups_are_the_connected_components_of_all_keys(second: list[str], data: st.DataObject) -> None:
    size = len(second)
    first = [f"g{data.draw(st.integers(0, 8))}" for _ in range(size)]
    found = united_groups(first, second)
    expected = naive([first, second])
    for a in range(size):
        assert {b for b in range(size) if found[b] == found[a]} == expected[a]
        assert found[a] == min(first[b] for b in expected[a])


def test_pairs_join_too_and_nothing_is_nothing() -> None:
    import numpy as np

    assert united_groups(["a", "b", "c"], ["", "", ""], pairs=np.array([[0, 2]])) == ["a", "b", "a"]
    assert united_groups([], []) == []

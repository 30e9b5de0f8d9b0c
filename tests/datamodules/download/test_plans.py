"""Plans of downloads are checked key by key, and become steps to do by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datamodules.download import manual_steps, plan_from
from datamodules.errors import DataError

FILE = {"url": "https://example.org/a.zip", "name": "a.zip"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": None}, r"files\[0\] lacks url"),
        ({"size": 3}, r"files\[0\] has no key size"),
        ({"url": "ftp://example.org/a"}, r"files\[0\]\.url must be a http"),
        ({"listing": "nowhere"}, r"files\[0\]\.listing must be a http"),
        ({"name": "../a.zip"}, "plain file name"),
        ({"name": ".hidden"}, "plain file name"),
        ({"into": "../up"}, "below the data set"),
        ({"into": "/etc"}, "below the data set"),
        ({"bytes": -1}, "whole number"),
        ({"bytes": "12"}, "whole number"),
        ({"bytes": True}, "whole number"),
        ({"sha256": "ABC"}, "64 lower-case"),
        ({"md5": "0" * 33}, "32 lower-case"),
        ({"unpack": "yes"}, "true or false"),
    ],
)
def test_a_wrong_plan_is_named_by_its_key(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        plan_from({"name": "x", "page": "https://x.org", "licence": "CC0", "files": [FILE | change]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": None}, "lacks name"),
        ({"url": "x"}, "no key url"),
        ({"files": "a.zip"}, "must be a list"),
        ({"files": ["a.zip"]}, r"files\[0\] must be a section"),
        ({"files": [FILE, FILE]}, "more than once"),
        ({"kaggle": "https://kaggle.com/x"}, "owner/name"),
        ({"isic": {"collections": "1"}}, "isic lacks base"),
        ({"isic": {"base": "https://x.org", "collections": "a; rm"}}, "numbers separated by commas"),
        ({"isic": {"base": "x.org"}}, r"isic\.base must be a http"),
        ({"isic": {"base": "https://x.org", "query": 3}}, "put it in quotes"),
        ({"isic": "212"}, "must be a section"),
    ],
)
def test_a_wrong_section_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        plan_from({"name": "x", "page": "https://x.org", "licence": "CC0"} | change)


@pytest.mark.parametrize(("given", "expected"), [(212, "212"), ("70,212", "70,212"), ("", ""), (None, "")])
def test_collections_of_the_archive_are_numbers(given: Any, expected: str) -> None:
    isic = {"base": "https://x.org", "collections": given}
    plan = plan_from({"name": "x", "page": "https://x.org", "licence": "CC0", "isic": isic})
    assert plan.isic is not None
    assert plan.isic.collections == expected


def test_the_steps_by_hand_hold_everything_that_is_published(tmp_path: Path) -> None:
    plan = plan_from(
        {
            "name": "Films",
            "page": "https://example.org/films",
            "licence": "CC BY 4.0",
            "files": [FILE | {"bytes": 1234567, "sha256": "a" * 64, "unpack": True, "into": "part 1"}],
            "kaggle": "owner/films",
        }
    )
    text = manual_steps(plan, tmp_path / "films")
    assert f"{FILE['url']}\n       -> {tmp_path}/films/a.zip  (1,234,567 bytes)" in text
    assert f"sha256sum a.zip  ->  {'a' * 64}" in text
    into = f"'{tmp_path}/films/part 1'"
    assert f"mkdir -p {into} && unzip -q {tmp_path}/films/a.zip -d {into}" in text
    assert "kaggle datasets download -d owner/films" in text
    assert [line.strip()[:2] for line in text.splitlines() if line[:3] == "  " + line.strip()[:1]] == [
        f"{number}." for number in range(1, 7)
    ]

"""The command line of python prepare.py cache=...: what it takes, and what it says to mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.cache_options import CacheOptions, help_text, parsed
from conf.evaluate_keys import UsageError


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("cache=list", CacheOptions("list")),
        ("cache=verify data.prepared=/x", CacheOptions("verify", prepared=Path("/x"))),
        ("cache=clean keep=20GB", CacheOptions("clean", keep=20 * 10**9)),
        ("cache=clean keep=1.5g older=90d yes=true", CacheOptions("clean", 1_500_000_000, 90 * 86400.0, True)),
        ("older=12h cache=clean yes=false", CacheOptions("clean", older=12 * 3600.0)),
        ("cache=clean keep=0", CacheOptions("clean", keep=0)),
    ],
)
def test_what_is_taken(typed: str, expected: CacheOptions) -> None:
    assert parsed(typed.split()) == expected


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("cache=lst", "cache=lst: must be one of list, verify, clean"),
        ("cache=clean", "say what may stay: keep=20GB, older=90d, or both"),
        ("cache=clean keep=20", "keep=20: must be a size with its unit"),
        ("cache=clean keep=-1GB", "keep=-1GB: must be a size with its unit"),
        ("cache=clean keep=GB", "keep=GB: must be a size with its unit"),
        ("cache=clean older=3w", "older=3w: must be a number of days or hours"),
        ("cache=clean older=90d yes=1", "yes=1: must be true or false"),
        ("cache=list keep=1GB", "keep=1GB: belongs to cache=clean"),
        ("cache=list task=ham10000", "there is no key 'task'"),
        ("cache=clean kep=1GB", "Did you mean 'keep'"),
    ],
)
def test_mistakes_are_named(typed: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(typed.split())
    assert words in str(caught.value)


def test_the_help_names_every_key() -> None:
    assert all(key in help_text() for key in ("cache=clean keep=20GB", "older", "yes", "data.prepared"))

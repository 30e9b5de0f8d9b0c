"""Searches of the ISIC archive: all pages, one flat table, nothing hostile."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from datamodules.errors import DataError
from tests.datamodules.download.steps import fetched, plan_of, visible
from tests.datamodules.serving import Answer, Site, as_json


def isic_result(site: Site, number: int, **change: Any) -> dict[str, Any]:
    isic_id = f"ISIC_{number:07d}"
    body = b"jpeg" * number
    site.pages[f"/img/{isic_id}.jpg"] = lambda count, headers, query: (
        Answer(body) if query == "Signature=s" else Answer(b"", 403)
    )
    return {
        "isic_id": isic_id,
        "attribution": "A, B",
        "copyright_license": "CC-0",
        "files": {"full": {"url": f"{site.url}/img/{isic_id}.jpg?Signature=s", "size": len(body)}},
        "metadata": {
            "acquisition": {"image_type": "dermoscopic"},
            "clinical": {"sex": "male", "diagnosis_1": "Benign"},
        },
    } | change


def isic_site(site: Site, results: list[dict[str, Any]], page: int = 2) -> None:
    def answer(count: int, headers: dict[str, str], query: str) -> Answer:
        start = int(query.partition("cursor=")[2] or 0)
        more = start + page < len(results)
        following = f"{site.url}/api/v2/images/search/?cursor={start + page}" if more else None
        return as_json({"count": len(results), "next": following, "results": results[start : start + page]})

    site.pages["/api/v2/images/search/"] = answer


def isic_plan(site: Site, **query: Any) -> Any:
    return plan_of(site, isic={"base": f"{site.url}/api/v2/", "collections": "212", **query})


def table_of(target: Path) -> list[dict[str, str]]:
    with (target / "metadata.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_all_pages_of_a_search_are_fetched_with_a_flat_table(site: Site, tmp_path: Path) -> None:
    isic_site(site, [isic_result(site, number) for number in (5, 1, 2, 3, 4)])
    assert "5 images" in fetched(isic_plan(site, query='diagnosis_3:"Nevus" AND sex:male'), tmp_path)[0]
    rows = table_of(tmp_path)
    assert [row["isic_id"] for row in rows] == [f"ISIC_{number:07d}" for number in range(1, 6)]
    assert rows[0] == {
        "isic_id": "ISIC_0000001",
        "attribution": "A, B",
        "copyright_license": "CC-0",
        "diagnosis_1": "Benign",
        "image_type": "dermoscopic",
        "sex": "male",
    }
    assert (tmp_path / "ISIC_0000003.jpg").read_bytes() == b"jpeg" * 3
    assert "Signature" not in "".join(path.read_text() for path in tmp_path.glob(".download.json"))
    assert "collections=212" in site.requests[0][0]
    assert "query=diagnosis_3%3A%22Nevus%22+AND+sex%3Amale" in site.requests[0][0]
    asked = len(site.requests)
    plan = isic_plan(site, query='diagnosis_3:"Nevus" AND sex:male')
    assert fetched(plan, tmp_path) == ["ISIC archive: already fetched"]
    assert len(site.requests) == asked


def test_missing_metadata_is_an_empty_cell(site: Site, tmp_path: Path) -> None:
    bare = isic_result(site, 2, metadata={"acquisition": None})
    del bare["attribution"]
    isic_site(site, [isic_result(site, 1), bare, isic_result(site, 3, metadata=None)])
    fetched(isic_plan(site), tmp_path)
    assert [row["sex"] for row in table_of(tmp_path)] == ["male", "", ""]
    assert table_of(tmp_path)[1]["attribution"] == ""


def test_an_image_listed_on_two_pages_is_taken_once(site: Site, tmp_path: Path) -> None:
    isic_site(site, [isic_result(site, number) for number in (1, 2, 2, 3)])
    lines = fetched(isic_plan(site), tmp_path)
    assert len(table_of(tmp_path)) == 3
    assert "4 images were announced, but only 3 were listed" in lines[1]
    assert sum(path.startswith("/img/ISIC_0000002") for path, _ in site.requests) == 1


def test_a_limit_is_kept(site: Site, tmp_path: Path) -> None:
    isic_site(site, [isic_result(site, number) for number in range(1, 8)])
    fetched(isic_plan(site, limit=3), tmp_path)
    assert len(table_of(tmp_path)) == len(list(tmp_path.glob("*.jpg"))) == 3
    assert "limit=3" in site.requests[0][0]


def test_an_interrupted_search_keeps_what_is_complete(site: Site, tmp_path: Path) -> None:
    results = [isic_result(site, number) for number in range(1, 5)]
    isic_site(site, results)
    good = site.pages["/img/ISIC_0000004.jpg"]
    site.pages["/img/ISIC_0000004.jpg"] = Answer(b"expired", 403)
    message = assert_isic_fails(isic_plan(site), tmp_path, "403")
    assert "isic image download --collections 212" in message
    assert not (tmp_path / "metadata.csv").exists()
    site.pages["/img/ISIC_0000004.jpg"] = good
    (tmp_path / "ISIC_0000002.jpg").write_bytes(b"cut")
    site.requests.clear()
    fetched(isic_plan(site), tmp_path)
    images = sorted(path.partition("?")[0] for path, _ in site.requests if path.startswith("/img"))
    assert images == ["/img/ISIC_0000002.jpg", "/img/ISIC_0000004.jpg"]
    assert (tmp_path / "ISIC_0000002.jpg").read_bytes() == b"jpeg" * 2


def assert_isic_fails(plan: Any, target: Path, words: str) -> str:
    with pytest.raises(DataError, match=words) as caught:
        fetched(plan, target)
    assert not list(target.rglob("*.part"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"isic_id": "../evil"}, "valid isic_id"),
        ({"isic_id": None}, "valid isic_id"),
        ({"files": {}}, "no address"),
        ({"files": {"full": {"url": "file:///etc/passwd", "size": 3}}}, "no usable address"),
    ],
)
def test_hostile_or_broken_results_are_refused(site: Site, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    isic_site(site, [isic_result(site, 1, **change)])
    assert_isic_fails(isic_plan(site), tmp_path, words)
    assert visible(tmp_path) == []


def test_an_image_of_another_size_is_refused(site: Site, tmp_path: Path) -> None:
    wrong = isic_result(site, 3)
    wrong["files"]["full"]["size"] -= 1
    isic_site(site, [wrong])
    assert_isic_fails(isic_plan(site), tmp_path, "12 bytes came, 11 are published")
    assert visible(tmp_path) == []


def test_an_empty_answer_and_a_circle_of_pages_are_errors(site: Site, tmp_path: Path) -> None:
    isic_site(site, [])
    assert_isic_fails(isic_plan(site), tmp_path, "no image matches")
    here = f"{site.url}/api/v2/images/search/?cursor=1"
    site.pages["/api/v2/images/search/"] = as_json({"count": 9, "next": here, "results": []})
    assert_isic_fails(isic_plan(site), tmp_path, "circle")
    site.pages["/api/v2/images/search/"] = as_json({"detail": "moved"})
    assert_isic_fails(isic_plan(site), tmp_path, "no results")


def test_the_whole_archive_is_not_fetched_by_accident(site: Site, tmp_path: Path) -> None:
    assert_isic_fails(isic_plan(site, collections=""), tmp_path, "whole ISIC archive")
    assert site.requests == []


def test_another_search_does_not_replace_the_first(site: Site, tmp_path: Path) -> None:
    isic_site(site, [isic_result(site, 1)])
    fetched(isic_plan(site), tmp_path)
    before = (tmp_path / "metadata.csv").read_bytes()
    assert_isic_fails(isic_plan(site, query="sex:male"), tmp_path, "another search")
    assert (tmp_path / "metadata.csv").read_bytes() == before

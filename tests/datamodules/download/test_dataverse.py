"""Sizes and hashes come from the listing of a Dataverse."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.datamodules.download.steps import ARCHIVE, assert_fails, fetched, plan_of, visible
from tests.datamodules.serving import Answer, Site, as_json


def dataverse(site: Site, body: bytes, **change: Any) -> Answer:
    record = {"id": 3172585, "filename": "part_1.zip", "filesize": len(body), "md5": hashlib.md5(body).hexdigest()}
    files = [{"dataFile": {"id": 1, "filename": "other.zip", "md5": "1" * 32}}, {"dataFile": record | change}]
    return as_json({"status": "OK", "data": {"latestVersion": {"files": files}}})


def from_dataverse(site: Site, **more: Any) -> Any:
    urls = {"url": f"{site.url}/access/3172585", "listing": f"{site.url}/listing"}
    return plan_of(site, {"name": "part_1.zip", "unpack": True, "into": "part_1", **urls, **more})


def test_size_and_md5_come_from_the_listing(site: Site, tmp_path: Path) -> None:
    site.pages |= {"/access/3172585": Answer(ARCHIVE), "/listing": dataverse(site, ARCHIVE)}
    assert "size, MD5 as published" in fetched(from_dataverse(site), tmp_path)[0]
    assert "part_1/chest_xray/test/b.jpeg" in visible(tmp_path)
    asked = len(site.requests)
    fetched(from_dataverse(site), tmp_path)
    assert len(site.requests) == asked


def test_a_file_is_found_in_the_listing_by_its_name_too(site: Site, tmp_path: Path) -> None:
    checksum = {"type": "MD5", "value": hashlib.md5(ARCHIVE).hexdigest()}
    site.pages |= {
        "/access/3172585": Answer(ARCHIVE),
        "/listing": dataverse(site, ARCHIVE, id=7, md5=None, checksum=checksum),
    }
    assert "size, MD5 as published" in fetched(from_dataverse(site), tmp_path)[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"md5": "0" * 32}, "its md5 is .*published is 0000"),
        ({"filesize": len(ARCHIVE) + 7}, "bytes"),
        ({"id": 9, "filename": "renamed.zip"}, "lists neither"),
        ({"md5": "", "checksum": {"type": "SHA-1", "value": "1"}}, "gives no MD5"),
    ],
)
def test_a_listing_that_does_not_fit_is_an_error(
    site: Site, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    site.pages |= {"/access/3172585": Answer(ARCHIVE), "/listing": dataverse(site, ARCHIVE, **change)}
    assert_fails(from_dataverse(site, resume=False), tmp_path, words)
    assert visible(tmp_path) == []


@pytest.mark.parametrize("listing", [Answer(b"<html>"), as_json([]), as_json({"data": None}), Answer(status=404)])
def test_an_unusable_listing_is_an_error_but_a_file_brought_by_hand_is_used(
    site: Site, tmp_path: Path, listing: Answer
) -> None:
    site.pages["/listing"] = listing
    assert_fails(from_dataverse(site), tmp_path, "/listing")
    (tmp_path / "part_1.zip").write_bytes(ARCHIVE)
    assert "not verified" in fetched(from_dataverse(site), tmp_path)[0]


def test_a_table_that_dataverse_converted_is_taken_without_its_misleading_md5(site: Site, tmp_path: Path) -> None:
    table = b"lesion_id,image_id\n"
    changes = {"filename": "metadata.tab", "originalFileFormat": "text/csv", "md5": "0" * 32, "filesize": 99}
    site.pages |= {"/access/3172585": Answer(table), "/listing": dataverse(site, table, **changes)}
    urls = {"url": f"{site.url}/access/3172585?format=original", "listing": f"{site.url}/listing"}
    lines = fetched(plan_of(site, {"name": "metadata.csv", **urls}), tmp_path)
    assert "no usable hash" in lines[0]
    assert (tmp_path / "metadata.csv").read_bytes() == table
    assert site.requests[-1][0].endswith("?format=original")

"""Downloads from a server on the loopback address: verified, resumed, refused, and never half."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
import types
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from filelock import FileLock

from datamodules import download_http
from datamodules.download import download_dataset, manual_steps, plan_from
from datamodules.errors import DataError
from tests.datamodules.serving import Answer, Site, as_json, ranged, serving

BODY = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No waiting, no proxy; returns the waits that were asked for."""
    waits: list[float] = []
    monkeypatch.setattr(download_http.time, "sleep", waits.append)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return waits


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as up:
        yield up


def zipped(members: dict[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return memory.getvalue()


ARCHIVE = zipped({"chest_xray/train/a.jpeg": b"a" * 50, "chest_xray/test/b.jpeg": b"b", "__MACOSX/x": b"x"})


def published(body: bytes) -> dict[str, Any]:
    return {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def plan_of(site: Site, *files: dict[str, Any], **more: Any) -> Any:
    named = [{"url": f"{site.url}/{file['name']}", **file} for file in files]
    return plan_from({"name": "Films", "page": "https://example.org/films", "licence": "CC0", "files": named, **more})


def fetched(plan: Any, target: Path) -> list[str]:
    return download_dataset(plan, target, via="publisher")


def assert_fails(plan: Any, target: Path, words: str) -> str:
    with pytest.raises(DataError, match=words) as caught:
        fetched(plan, target)
    message = str(caught.value)
    assert "By hand:\n  1. open  https://example.org/films" in message
    assert [path for path in visible(target) if not path.endswith((".part", ".etag"))] == []
    return message


def visible(target: Path) -> list[str]:
    """Every file that a reader would find."""
    paths = (path.relative_to(target) for path in sorted(target.rglob("*")) if path.is_file())
    return [path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)]


def test_an_archive_is_fetched_verified_and_unpacked_and_the_second_call_asks_nothing(
    site: Site, tmp_path: Path
) -> None:
    site.pages["/films.zip"] = Answer(ARCHIVE)
    target = tmp_path / "new" / "films"
    plan = plan_of(site, {"name": "films.zip", "unpack": True, "expected_images": 2, **published(ARCHIVE)})
    lines = "\n".join(fetched(plan, target))
    assert "size, SHA-256 as published" in lines
    assert "2 files unpacked" in lines
    assert visible(target) == ["chest_xray/test/b.jpeg", "chest_xray/train/a.jpeg", "films.zip"]
    assert site.requests[0][1]["user-agent"].startswith("firstread/")
    asked = len(site.requests)
    assert "already fetched" in fetched(plan, target)[0]
    (target / "films.zip").unlink()
    assert "already fetched" in fetched(plan, target)[0]
    assert len(site.requests) == asked


def test_what_was_lost_after_the_download_is_brought_back(site: Site, tmp_path: Path) -> None:
    site.pages["/films.zip"] = Answer(ARCHIVE)
    plan = plan_of(site, {"name": "films.zip", "unpack": True, "into": "part", **published(ARCHIVE)})
    fetched(plan, tmp_path)
    (tmp_path / "part/chest_xray/test/b.jpeg").unlink()
    assert "already fetched and verified" in fetched(plan, tmp_path)[0]
    assert (tmp_path / "part/chest_xray/test/b.jpeg").read_bytes() == b"b"
    assert len(site.requests) == 1
    (tmp_path / "films.zip").unlink()
    (tmp_path / "part/chest_xray/test/b.jpeg").unlink()
    fetched(plan, tmp_path)
    assert len(site.requests) == 2


def test_a_file_brought_by_hand_is_used(site: Site, tmp_path: Path) -> None:
    (tmp_path / "films.zip").write_bytes(ARCHIVE)
    plan = plan_of(site, {"name": "films.zip", "unpack": True, **published(ARCHIVE)})
    assert "found in" in fetched(plan, tmp_path)[0]
    assert site.requests == []


def test_a_wrong_file_brought_by_hand_is_named_and_kept(site: Site, tmp_path: Path) -> None:
    wrong = bytes([ARCHIVE[0] ^ 1]) + ARCHIVE[1:]
    (tmp_path / "films.zip").write_bytes(wrong)
    plan = plan_of(site, {"name": "films.zip", "unpack": True, **published(ARCHIVE)})
    with pytest.raises(DataError, match="Move it away"):
        fetched(plan, tmp_path)
    assert (tmp_path / "films.zip").read_bytes() == wrong


def test_a_wrong_hash_names_both_and_leaves_nothing(site: Site, tmp_path: Path) -> None:
    site.pages["/a.bin"] = ranged(BODY)
    for key in ("sha256", "md5"):
        wrong = "0" * (64 if key == "sha256" else 32)
        message = assert_fails(
            plan_of(site, {"name": "a.bin", "bytes": len(BODY), key: wrong}), tmp_path, "published is 0000"
        )
        assert getattr(hashlib, key)(BODY).hexdigest() in message
        assert visible(tmp_path) == []


@pytest.mark.parametrize("size", [len(BODY) - 1, len(BODY) + 1])
def test_a_wrong_size_is_refused(site: Site, tmp_path: Path, size: int) -> None:
    site.pages["/a.bin"] = Answer(BODY)
    assert_fails(plan_of(site, {"name": "a.bin", "bytes": size, "resume": False}), tmp_path, "bytes")
    assert visible(tmp_path) == []


def test_a_cut_connection_is_resumed_where_the_server_can(site: Site, tmp_path: Path) -> None:
    site.pages["/a.bin"] = ranged(BODY, cut_first=600_000)
    fetched(plan_of(site, {"name": "a.bin", **published(BODY)}), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert visible(tmp_path) == ["a.bin"]
    first, second = site.requests
    assert "range" not in first[1]
    assert second[1]["range"].startswith("bytes=")
    assert int(second[1]["range"][6:-1]) > 0
    assert second[1]["if-range"] == '"v1"'


def test_a_download_goes_on_in_the_next_call(site: Site, tmp_path: Path) -> None:
    site.pages["/a.bin"] = lambda count, headers, query: Answer(BODY, headers={"ETag": '"v1"'}, cut=300_000)
    plan = plan_of(site, {"name": "a.bin", **published(BODY)})
    assert_fails(plan, tmp_path, "tried 4 times")
    assert visible(tmp_path) == ["a.bin.part", "a.bin.part.etag"]
    site.requests.clear()
    site.pages["/a.bin"] = ranged(BODY)
    fetched(plan, tmp_path)
    assert "range" in site.requests[0][1]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_without_resume_a_cut_download_starts_again(site: Site, tmp_path: Path) -> None:
    site.pages["/a.bin"] = ranged(BODY, cut_first=600_000)
    fetched(plan_of(site, {"name": "a.bin", "resume": False, **published(BODY)}), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert all("range" not in headers for _, headers in site.requests)
    site.pages["/b.bin"] = lambda *_: Answer(BODY, headers={"ETag": '"v1"'}, cut=10)
    with pytest.raises(DataError):
        fetched(plan_of(site, {"name": "b.bin", "resume": False, **published(BODY)}), tmp_path)
    assert visible(tmp_path) == ["a.bin"]


def test_a_server_that_ignores_the_range_is_not_appended(site: Site, tmp_path: Path) -> None:
    site.pages["/a.bin"] = lambda count, *_: Answer(BODY, headers={"ETag": '"v1"'}, cut=None if count else 600_000)
    fetched(plan_of(site, {"name": "a.bin", **published(BODY)}), tmp_path)
    assert "range" in site.requests[1][1]
    assert (tmp_path / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize("place", ["bytes 5-1048575/1048576", "bytes 0-1048575/1048576", "nonsense", None])
def test_a_server_that_continues_elsewhere_is_started_again(site: Site, tmp_path: Path, place: str | None) -> None:
    def answer(count: int, headers: dict[str, str], query: str) -> Answer:
        if "range" in headers:
            return Answer(BODY[5:], 206, {"Content-Range": place} if place else {})
        return Answer(BODY, headers={"ETag": '"v1"'}, cut=None if count else 600_000)

    site.pages["/a.bin"] = answer
    fetched(plan_of(site, {"name": "a.bin", **published(BODY)}), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert len(site.requests) == 3


def test_a_file_that_changed_on_the_server_is_not_mixed(site: Site, tmp_path: Path) -> None:
    new = BODY[::-1]
    old = Answer(BODY, headers={"ETag": '"old"'}, cut=600_000)
    site.pages["/a.bin"] = lambda count, headers, query: ranged(new, '"new"')(1, headers, query) if count else old
    fetched(plan_of(site, {"name": "a.bin", **published(new)}), tmp_path)
    assert site.requests[1][1]["if-range"] == '"old"'
    assert (tmp_path / "a.bin").read_bytes() == new


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_a_version_that_cannot_be_told_is_not_resumed(site: Site, tmp_path: Path, headers: dict[str, str]) -> None:
    site.pages["/a.bin"] = lambda count, *_: Answer(BODY, headers=headers, cut=None if count else 600_000)
    fetched(plan_of(site, {"name": "a.bin", **published(BODY)}), tmp_path)
    assert "range" not in site.requests[1][1]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_range_that_cannot_be_satisfied_starts_again(site: Site, tmp_path: Path) -> None:
    def answer(count: int, headers: dict[str, str], query: str) -> Answer:
        if "range" in headers:
            return Answer(status=416)
        return Answer(BODY, headers={"ETag": '"v1"'}, cut=None if count else 600_000)

    site.pages["/a.bin"] = answer
    fetched(plan_of(site, {"name": "a.bin", **published(BODY)}), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_not_repeated(site: Site, tmp_path: Path, status: int) -> None:
    site.pages["/a.bin"] = Answer(b"no", status)
    message = assert_fails(plan_of(site, {"name": "a.bin"}), tmp_path, f"answers {status}")
    assert f"{site.url}/a.bin" in message
    assert len(site.requests) == 1
    assert visible(tmp_path) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(site: Site, tmp_path: Path, status: int, quick: list[float]) -> None:
    site.pages["/a.bin"] = lambda count, *_: Answer(BODY) if count == 2 else Answer(b"", status, {"Retry-After": "30"})
    fetched(plan_of(site, {"name": "a.bin", **published(BODY)}), tmp_path)
    assert quick == [30.0, 30.0]
    site.pages["/b.bin"] = Answer(b"", status, {"Retry-After": "999999"})
    quick.clear()
    with pytest.raises(DataError, match=f"answers {status}.*tried 4 times"):
        fetched(plan_of(site, {"name": "b.bin"}), tmp_path)
    assert quick == [60.0, 60.0, 60.0]


def test_no_server_at_all_ends_in_the_steps_to_do_it_by_hand(tmp_path: Path, quick: list[float]) -> None:
    with serving() as gone:
        plan = plan_of(gone, {"name": "a.bin", **published(BODY)})
    assert_fails(plan, tmp_path, "tried 4 times")
    assert quick == list(download_http.WAITS)


@pytest.mark.parametrize(("announce", "words"), [(True, "1,000 are published"), (False, "more than the published")])
def test_more_than_published_is_refused(site: Site, tmp_path: Path, announce: bool, words: str) -> None:
    site.pages["/a.bin"] = Answer(BODY, announce=announce)
    assert_fails(plan_of(site, {"name": "a.bin", "bytes": 1000, "resume": False}), tmp_path, words)
    assert visible(tmp_path) == []
    assert len(site.requests) == 1


def test_less_than_published_without_an_announced_length_is_noticed(site: Site, tmp_path: Path) -> None:
    site.pages["/a.bin"] = Answer(BODY[:500_000], announce=False)
    assert_fails(plan_of(site, {"name": "a.bin", **published(BODY)}), tmp_path, "500,000 of 1,048,576 bytes")


def test_a_web_page_is_not_taken_for_the_file(site: Site, tmp_path: Path) -> None:
    site.pages["/a.csv"] = Answer(b"<html>are you a robot?", headers={"Content-Type": "text/html; charset=utf-8"})
    assert_fails(plan_of(site, {"name": "a.csv"}), tmp_path, "a web page came")


def test_redirects_are_followed(site: Site, tmp_path: Path) -> None:
    site.pages |= {"/a.bin": Answer(status=302, headers={"Location": "/elsewhere"}), "/elsewhere": Answer(BODY)}
    fetched(plan_of(site, {"name": "a.bin", **published(BODY)}), tmp_path)
    site.pages["/round"] = Answer(status=302, headers={"Location": "/round"})
    with pytest.raises(DataError, match="redirect"):
        fetched(plan_of(site, {"name": "b.bin", "url": f"{site.url}/round"}), tmp_path)


def test_a_redirect_to_an_unprotected_address_is_refused(tmp_path: Path) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.scheme == "https":
            return httpx2.Response(302, headers={"Location": "http://example.org/a.bin"})
        return httpx2.Response(200, content=BODY)

    client = httpx2.Client(transport=httpx2.MockTransport(answer), follow_redirects=True)
    with pytest.raises(DataError, match="unprotected"):
        download_http.fetch(client, "https://example.org/a.bin", tmp_path / "a.bin.part", resume=True)
    assert list(tmp_path.iterdir()) == []


def test_the_bar_ends_at_the_size_however_often_the_line_is_cut(site: Site, tmp_path: Path) -> None:
    body = BODY * 3
    site.pages["/a.bin"] = lambda count, headers, query: Answer(body, cut=None if count == 2 else 2_500_000)
    steps: list[int] = []

    @contextmanager
    def bar(title: str, total: int) -> Iterator[Any]:
        assert (title, total) == ("fetching a.bin (MB)", 4)
        yield steps.append

    plan = plan_of(site, {"name": "a.bin", **published(body)})
    download_dataset(plan, tmp_path, via="publisher", progress=bar)
    assert sum(steps) == len(body) // 10**6
    assert min(steps) < 0


def test_a_long_signed_address_is_not_printed(site: Site, tmp_path: Path) -> None:
    url = f"{site.url}/a.bin?Signature={'secret' * 30}"
    assert (
        "secret"
        not in assert_fails(plan_of(site, {"name": "a.bin", "url": url}), tmp_path, "404").partition("By hand")[0]
    )


def test_ctrl_c_keeps_what_can_be_resumed_and_nothing_else(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    site.pages |= {"/a.bin": ranged(BODY), "/b.bin": ranged(BODY)}
    monkeypatch.setattr(download_http.os, "fsync", interrupt)
    for name, resume in (("a.bin", True), ("b.bin", False)):
        with pytest.raises(KeyboardInterrupt):
            fetched(plan_of(site, {"name": name, "resume": resume, "bytes": len(BODY)}), tmp_path)
    assert visible(tmp_path) == ["a.bin.part", "a.bin.part.etag"]


def test_only_one_process_fills_a_folder(site: Site, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".download.lock"), pytest.raises(DataError, match="another process"):
        fetched(plan_of(site, {"name": "a.bin"}), tmp_path)
    assert site.requests == []


def test_a_folder_in_which_nothing_arrived_is_not_left_behind(site: Site, tmp_path: Path) -> None:
    assert_fails(plan_of(site, {"name": "a.bin"}), tmp_path / "films", "404")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="404"):
        fetched(plan_of(site, {"name": "a.bin"}), tmp_path / "films")
    assert visible(tmp_path) == ["films/mine.txt"]


def test_a_target_that_is_a_file_is_an_error(site: Site, tmp_path: Path) -> None:
    (tmp_path / "films").write_text("mine")
    with pytest.raises(DataError, match="films"):
        fetched(plan_of(site, {"name": "a.bin"}), tmp_path / "films")
    assert (tmp_path / "films").read_text() == "mine"


def test_too_small_a_disk_is_noticed_before(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pages["/a.bin"] = Answer(BODY)
    usage = types.SimpleNamespace(free=len(BODY) + 1000)
    monkeypatch.setattr(download_http.shutil, "disk_usage", lambda path: usage)
    assert_fails(plan_of(site, {"name": "a.bin", **published(BODY)}), tmp_path, "Make room")
    assert site.requests == []


def test_a_disk_that_fills_up_ends_in_one_message(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    site.pages["/a.bin"] = Answer(BODY)
    monkeypatch.setattr(download_http.os, "fsync", full)
    assert_fails(plan_of(site, {"name": "a.bin", "resume": False, **published(BODY)}), tmp_path, "No space left")
    assert visible(tmp_path) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (zipped({"good.jpg": b"1", "../evil": b"2"}), "unsafe member name"),
        (zipped({"a.jpg": b"1", "A.jpg": b"2"}), "one name on many systems"),
        (ARCHIVE[:-30], "damaged"),
        (zipped({"one.jpg": b"1", "two.jpg": b"2", "three.jpg": b"3"}), "3 images in it, expected are 2"),
    ],
)
def test_an_evil_or_damaged_archive_leaves_no_data_set(site: Site, tmp_path: Path, body: bytes, words: str) -> None:
    site.pages["/films.zip"] = Answer(body)
    target = tmp_path / "films"
    plan = plan_of(site, {"name": "films.zip", "unpack": True, "expected_images": 2, **published(body)})
    with pytest.raises(DataError, match=words) as caught:
        fetched(plan, target)
    assert "By hand" in str(caught.value)
    assert visible(target) == ["films.zip"]
    assert not list(tmp_path.rglob("*evil*"))


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


@contextmanager
def kagglehub(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], fail: Exception | None = None
) -> Iterator[list[Any]]:
    """A stand-in for the package, with the signature and the manners of version 1.0."""
    calls: list[Any] = []

    def dataset_download(
        handle: str, path: str | None = None, *, force_download: bool = False, output_dir: str | None = None
    ) -> str:
        calls.append((handle, force_download))
        assert output_dir is not None
        for name, body in files.items():
            (Path(output_dir) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(output_dir) / name).write_bytes(body)
            if fail:
                raise fail
        (Path(output_dir) / ".complete").mkdir(exist_ok=True)
        return output_dir

    module = types.ModuleType("kagglehub")
    module.dataset_download = dataset_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    yield calls


def kaggle_plan(site: Site) -> Any:
    return plan_of(site, kaggle="owner/films")


def test_kaggle_is_fetched_once_through_kagglehub(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kagglehub(monkeypatch, {"Train/a b/1.jpg": b"1", "Test/2.jpg": b"22"}) as calls:
        lines = download_dataset(kaggle_plan(site), tmp_path / "films", via="kaggle")
        assert "2 files, 3 bytes" in lines[0]
        assert visible(tmp_path / "films") == ["Test/2.jpg", "Train/a b/1.jpg"]
        assert "already" in download_dataset(kaggle_plan(site), tmp_path / "films", via="kaggle")[0]
        assert calls == [("owner/films", True)]
        assert not (tmp_path / "films" / ".kaggle").exists()


def test_a_failing_kagglehub_leaves_no_data_set(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = {"Train/1.jpg": b"1", "Train/2.jpg": b"2"}
    with (
        kagglehub(monkeypatch, films, RuntimeError("403 consent")),
        pytest.raises(DataError, match="RuntimeError: 403 consent") as caught,
    ):
        download_dataset(kaggle_plan(site), tmp_path, via="kaggle")
    assert "kaggle datasets download -d owner/films" in str(caught.value)
    assert visible(tmp_path) == []
    with kagglehub(monkeypatch, films):
        download_dataset(kaggle_plan(site), tmp_path, via="kaggle")
    assert visible(tmp_path) == ["Train/1.jpg", "Train/2.jpg"]


def test_without_kagglehub_the_way_to_get_it_is_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(DataError, match="pip install kagglehub"):
        download_dataset(kaggle_plan(site), tmp_path, via="kaggle")


def test_one_folder_holds_one_copy_of_a_data_set(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pages["/films.zip"] = Answer(ARCHIVE)
    plan = plan_of(site, {"name": "films.zip", "unpack": True, **published(ARCHIVE)}, kaggle="owner/films")
    fetched(plan, tmp_path)
    with kagglehub(monkeypatch, {"train/1.jpg": b"1"}) as calls:
        with pytest.raises(DataError, match=r"already holds what came from data[.]download=publisher"):
            download_dataset(plan, tmp_path, via="kaggle")
        assert calls == []


def test_ways_that_do_not_exist_are_named(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="publisher and kaggle"):
        download_dataset(kaggle_plan(site), tmp_path, via="ftp")
    with pytest.raises(DataError, match=r"data\.download=kaggle"):
        download_dataset(kaggle_plan(site), tmp_path, via="publisher")
    with pytest.raises(DataError, match=r"data\.download=publisher"):
        download_dataset(plan_of(site), tmp_path, via="kaggle")


def test_a_damaged_record_only_costs_a_check(site: Site, tmp_path: Path) -> None:
    site.pages["/a.bin"] = Answer(BODY)
    plan = plan_of(site, {"name": "a.bin", **published(BODY)})
    fetched(plan, tmp_path)
    for text in ("", "{", "[]", json.dumps({"files": {"a.bin": {"url": 3}}})):
        (tmp_path / ".download.json").write_text(text)
        assert "found in" in fetched(plan, tmp_path)[0]
    assert len(site.requests) == 1


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

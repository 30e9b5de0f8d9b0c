"""Files are fetched once, whole and verified, over lines that break and from servers that misbehave."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from filelock import FileLock

from datamodules import download_http
from datamodules.download import download_dataset
from datamodules.errors import DataError
from tests.datamodules.download.steps import ARCHIVE, BODY, assert_fails, fetched, plan_of, published, visible, zipped
from tests.datamodules.serving import Answer, Site, ranged, serving


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

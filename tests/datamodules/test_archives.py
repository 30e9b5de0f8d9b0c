"""Archives: what is unpacked, and what is refused without leaving anything behind."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules import archives
from datamodules.archives import Limits, place, unpack, unpack_files
from datamodules.errors import DataError

GOOD = {"set/train/a.jpg": b"a" * 100, "set/train/b.jpg": b"b", "set/empty.txt": b""}


def make_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_tar(
    path: Path, members: dict[str, bytes], mode: str = "w:gz", change: Callable[..., None] | None = None
) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if change:
                change(info)
            archive.addfile(info, io.BytesIO(content))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(archive: Path, folder: Path, words: str, limits: Limits | None = None) -> None:
    target = folder / "target"
    before = sorted(folder.rglob("*"))
    with pytest.raises(DataError, match=words) as caught:
        unpack(archive, target, limits=limits or Limits())
    assert archive.name in str(caught.value)
    assert sorted(folder.rglob("*")) == before
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=words):
        unpack(archive, target, limits=limits or Limits())
    assert content(target) == {"mine.txt": b"mine"}
    assert [path.name for path in target.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("kind", ["zip", "stored", "tar", "tar.gz"])
def test_what_is_in_the_archive_is_in_the_folder(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    if kind in ("zip", "stored"):
        make_zip(path, GOOD, zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED)
    else:
        make_tar(path, GOOD, "w" if kind == "tar" else "w:gz")
    assert unpack(path, tmp_path / "deep" / "target") == 3
    assert content(tmp_path / "deep" / "target") == GOOD
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["target"]


def test_files_of_macos_are_skipped_and_dots_in_paths_are_harmless(tmp_path: Path) -> None:
    members = {"./a/1.jpg": b"1", "__MACOSX/a/._1.jpg": b"x", "a/.DS_Store": b"x", "a/._1.jpg": b"x", "a//2.jpg": b"2"}
    for path in (make_zip(tmp_path / "x.zip", members), make_tar(tmp_path / "x.tar.gz", members)):
        assert unpack_files(path, tmp_path / path.name[2:]) == {"a/1.jpg": 1, "a/2.jpg": 1}


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/etc/evil",
        "//host/evil",
        "C:\\evil",
        "C:evil",
        "a\\..\\evil",
        "a\n.jpg",
        f"{'d/' * 80}deep.jpg",
    ],
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, make: Callable[..., Path], name: str) -> None:
    assert_refused(make(tmp_path / "x.archive", {"good.jpg": b"1", name: b"evil"}), tmp_path, "unsafe member name")


def test_a_nul_in_the_name_of_a_zip_member_is_seen(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"aXb.jpg": b"1"})
    path.write_bytes(path.read_bytes().replace(b"aXb.jpg", b"a\x00b.jpg"))
    assert_refused(path, tmp_path, "unsafe member name")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.jpg", "A.JPG"], "one name on many systems"),
        (["x/a.jpg", "X/b.jpg"], "one name on many systems"),
        (["\u00e9.jpg", "e\u0301.jpg"], "one name on many systems"),
        (["a.jpg", "./a.jpg"], "in it twice"),
        (["a", "a/b"], "in it twice"),
        (["a/b", "a"], "in it twice"),
    ],
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_names_that_collide_are_refused(
    tmp_path: Path, make: Callable[..., Path], names: list[str], words: str
) -> None:
    assert_refused(make(tmp_path / "x.archive", dict.fromkeys(names, b"1")), tmp_path, words)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"7"])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    assert_refused(make_tar(tmp_path / "x.tar", {"link": b""}, "w", change), tmp_path, "link or a device")


@pytest.mark.parametrize("mode", [0o120777, 0o010644, 0o020644])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, mode: int) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = mode << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert_refused(tmp_path / "x.zip", tmp_path, "link or a device")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.jpg": b"1"})
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(raw))
    assert_refused(path, tmp_path, "encrypted")


SMALL = Limits(small_bytes=100_000, ratio=50)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_bomb_is_refused(tmp_path: Path, make: Callable[..., Path]) -> None:
    assert_refused(
        make(tmp_path / "x.archive", {"a.jpg": b"1", "zeros": bytes(10_000_000)}), tmp_path, "far more", SMALL
    )


def test_a_bomb_of_one_member_in_a_large_archive_is_refused(tmp_path: Path) -> None:
    noise = bytes(range(256)) * 8
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(200):
            archive.writestr(f"{number}.jpg", noise, zipfile.ZIP_STORED)
        archive.writestr("zeros", bytes(5_000_000), zipfile.ZIP_DEFLATED)
    assert_refused(path, tmp_path, "'zeros' unpacks to far more", SMALL)


def test_many_members_and_many_bytes_are_refused(tmp_path: Path) -> None:
    members = {f"{number}.jpg": b"12345" for number in range(20)}
    for path in (make_zip(tmp_path / "x.zip", members), make_tar(tmp_path / "x.tar", members, "w")):
        for folder, limits, words in (
            ("members", Limits(members=19), "more than 19 members"),
            ("bytes", Limits(total_bytes=99), "far more"),
        ):
            place_ = tmp_path / f"{path.name}-{folder}"
            place_.mkdir()
            assert_refused(path, place_, words, limits)
        assert unpack(path, tmp_path / f"ok-{path.name}", limits=Limits(members=20, total_bytes=100)) == 20


@pytest.mark.parametrize("claimed", [10, 99, 101, 5000])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_whose_header_lies_on_sizes_is_refused(tmp_path: Path, claimed: int, method: int) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.jpg": b"a" * 100}, method)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<I", raw, raw.index(b"PK\x01\x02") + 24, claimed)
    path.write_bytes(bytes(raw))
    assert_refused(path, tmp_path, "its header claims|damaged")


def test_a_zip_member_that_hides_more_than_it_claims_is_counted(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.jpg": bytes(50_000_000)})
    raw = bytearray(path.read_bytes())
    struct.pack_into("<I", raw, raw.index(b"PK\x01\x02") + 24, 7)
    path.write_bytes(bytes(raw))
    assert_refused(path, tmp_path, "its header claims|damaged")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_member_cut_by_its_header_is_refused_even_if_the_check_sum_fits(tmp_path: Path, method: int) -> None:
    body = bytes(range(100))
    path = make_zip(tmp_path / "x.zip", {"a.jpg": body}, method)
    raw = bytearray(path.read_bytes())
    entry = raw.index(b"PK\x01\x02")
    struct.pack_into("<I", raw, entry + 16, zlib.crc32(body[:60]))
    struct.pack_into("<I", raw, entry + 24, 60)
    path.write_bytes(bytes(raw))
    assert_refused(path, tmp_path, "its header claims|damaged")


@pytest.mark.parametrize("keep", [0, 1, 3, 60, 120, -1, -30])
def test_truncated_archives_are_refused(tmp_path: Path, keep: int) -> None:
    for path in (make_zip(tmp_path / "x.zip", GOOD), make_tar(tmp_path / "x.tar.gz", GOOD)):
        path.write_bytes(path.read_bytes()[:keep])
        folder = tmp_path / path.name[2:]
        folder.mkdir()
        assert_refused(path, folder, "damaged, incomplete|cannot be unpacked")


@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 5])
def test_a_tar_that_ends_at_any_block_is_refused(tmp_path: Path, blocks: int) -> None:
    path = make_tar(tmp_path / "x.tar", {"a": b"1" * 600, "b": b"2"}, "w")
    path.write_bytes(path.read_bytes()[: blocks * 512])
    assert_refused(path, tmp_path, "damaged, incomplete")


def test_a_damaged_header_in_the_middle_of_a_tar_is_not_its_end(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "x.tar", {"a": b"1", "b": b"2"}, "w")
    raw = bytearray(path.read_bytes())
    raw[1024 + 150] ^= 0xFF
    path.write_bytes(bytes(raw))
    assert_refused(path, tmp_path, "damaged, incomplete")


def test_a_tar_header_cannot_fill_memory_or_loop(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("huge")
    huge.type, huge.size = tarfile.XHDTYPE, 1 << 33
    (tmp_path / "x.tar").write_bytes(huge.tobuf() + bytes(1024))
    assert_refused(tmp_path / "x.tar", tmp_path, "damaged, incomplete")
    back = tarfile.TarInfo("back")
    back.type, back.size = tarfile.XHDTYPE, -1024
    folder = tmp_path / "second"
    folder.mkdir()
    with gzip.open(tmp_path / "y.tar.gz", "wb") as file:
        file.write(back.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert_refused(tmp_path / "y.tar.gz", folder, "damaged, incomplete")


def test_a_skipped_member_of_negative_size_does_not_lead_backwards(tmp_path: Path) -> None:
    back = tarfile.TarInfo("._back")
    back.size = -2048
    good = make_tar(tmp_path / "good.tar", {"a": b"1"}, "w").read_bytes()
    (tmp_path / "x.tar").write_bytes(good[:1024] + back.tobuf(tarfile.GNU_FORMAT) + good[1024:])
    assert_refused(tmp_path / "x.tar", tmp_path, "damaged, incomplete")


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.jpg": bytes(range(256))}, zipfile.ZIP_STORED)
    raw = bytearray(path.read_bytes())
    raw[raw.index(bytes(range(250)))] ^= 1
    path.write_bytes(bytes(raw))
    assert_refused(path, tmp_path, "damaged, incomplete")


@pytest.mark.parametrize("body", [b"<html>please log in</html>", b"", b"PK", bytes(2048)])
def test_what_is_no_archive_is_refused(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(body)
    assert_refused(tmp_path / "x.zip", tmp_path, "damaged, incomplete|no file in it")


def test_an_existing_folder_is_added_to_but_never_changed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "set" / "train").mkdir(parents=True)
    (target / "set" / "train" / "a.jpg").write_bytes(b"a" * 100)
    (target / "set" / "train" / "mine.jpg").write_bytes(b"mine")
    path = make_zip(tmp_path / "x.zip", GOOD)
    assert unpack(path, target) == 3
    assert unpack(path, target) == 3
    assert content(target) == GOOD | {"set/train/mine.jpg": b"mine"}
    (target / "set" / "train" / "b.jpg").write_bytes(b"other")
    (target / "set" / "empty.txt").unlink()
    with pytest.raises(DataError, match=r"b\.jpg.*something else"):
        unpack(path, target)
    assert not (target / "set" / "empty.txt").exists()
    assert (target / "set" / "train" / "b.jpg").read_bytes() == b"other"


@pytest.mark.parametrize("way", ["set", "set/train", "set/train/a.jpg/"])
def test_a_file_in_the_way_of_a_folder_stays(tmp_path: Path, way: str) -> None:
    target = tmp_path / "target"
    goal = target / way.rstrip("/")
    goal.parent.mkdir(parents=True)
    if way.endswith("/"):
        goal.mkdir()
    else:
        goal.write_text("mine")
    with pytest.raises(DataError, match=r"in the way|something else"):
        unpack(make_zip(tmp_path / "x.zip", GOOD), target)
    assert goal.is_dir() if way.endswith("/") else goal.read_text() == "mine"


def test_a_move_that_fails_in_the_middle_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    for name in "abc":
        (source / name).write_text(name)
    move, calls = archives.os.replace, []

    def broken(old: Path, new: Path) -> None:
        calls.append(old)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        move(old, new)

    monkeypatch.setattr(archives.os, "replace", broken)
    with pytest.raises(OSError, match="No space"):
        place(source, target)
    assert content(source) == {"a": b"a", "b": b"b", "c": b"c"}
    assert content(target) == {}


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_copy", full)
    assert_refused(make_zip(tmp_path / "x.zip", GOOD), tmp_path, "No space left")


def test_remains_of_a_killed_process_do_no_harm(tmp_path: Path) -> None:
    remains = tmp_path / ".x.zip.unpacking" / "set"
    remains.mkdir(parents=True)
    (remains / "old.jpg").write_bytes(b"old")
    unpack(make_zip(tmp_path / "x.zip", GOOD), tmp_path / "target")
    assert content(tmp_path / "target") == GOOD


def test_a_check_is_asked_before_anything_appears(tmp_path: Path) -> None:
    def check(files: dict[str, int]) -> None:
        assert files == {name: len(body) for name, body in GOOD.items()}
        assert not (tmp_path / "target").exists()
        raise DataError("not these")

    with pytest.raises(DataError, match="not these"):
        unpack_files(make_zip(tmp_path / "x.zip", GOOD), tmp_path / "target", check=check)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.zip"]

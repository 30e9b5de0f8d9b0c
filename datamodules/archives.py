"""Unpacking of zip and tar archives that may be damaged or hostile: all of an archive appears, or nothing."""

from __future__ import annotations

import filecmp
import gzip
import os
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

from datamodules.errors import DataError
from datamodules.progress import Progress, silent

_BLOCK = 1 << 20
_DEPTH = 64  # folders in folders; no data set comes near it
_JUNK = ("__MACOSX", ".DS_Store")
_BAD_CHARACTERS = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')  # cannot be in a name on every system, or change its meaning
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Limits:
    """What an archive may grow to; anything beyond is taken for a bomb.

    Attributes:
        members: files and folders in it.
        total_bytes: of all files unpacked.
        ratio: unpacked to packed bytes, of each member and of the whole archive.
        small_bytes: so much may come from any member, and from any archive, whatever its ratio.
    """

    members: int = 500_000
    total_bytes: int = 200 << 30
    ratio: float = 200.0
    small_bytes: int = 16 << 20


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    size: int  # bytes unpacked, as its header claims
    packed: int  # bytes packed, as its header claims; for tar, those of the whole archive
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, target: Path, *, limits: Limits = DEFAULT_LIMITS, progress: Progress = silent) -> int:
    """Unpack a zip, tar or tar.gz file into ``target`` (created); returns the number of files.

    Work is done in a hidden folder beside the goal, which is moved when everything is complete. ``__MACOSX`` and the other
    files that macOS adds are skipped. An existing ``target`` is added to if no file in it would change.

    Raises:
        DataError: if the archive is damaged, exceeds ``limits``, or holds names or kinds of files that a data set has no
            use for (absolute paths, ``..``, links, two names that differ in case only); if a different file is in the way;
            if the disk is full. Nothing has been added to ``target`` then.
    """
    return len(unpack_files(archive, target, limits=limits, progress=progress))


def unpack_files(
    archive: Path,
    target: Path,
    *,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress = silent,
    check: Callable[[dict[str, int]], None] | None = None,
) -> dict[str, int]:
    """As ``unpack``, but returns path below ``target`` and bytes of every file.

    Args:
        archive: the zip, tar or tar.gz file.
        target: folder to unpack into.
        limits: what is taken for a bomb.
        progress: counts files.
        check: called with what is returned, before anything appears in ``target``; may raise DataError.
    """
    temporary = (target if target.is_dir() else target.parent) / f".{archive.name}.unpacking"
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process
        temporary.mkdir(parents=True)
        files = _extract(archive, temporary, limits, progress)
        if check is not None:
            check(files)
        place(temporary, target)
    except _BROKEN as error:
        raise DataError(
            f"{archive}: damaged, incomplete, or no zip or tar archive ({error}). Delete it and fetch it again."
        ) from error
    except OSError as error:
        raise DataError(f"{archive}: cannot be unpacked into {target.resolve()}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return files


def place(source: Path, target: Path) -> None:
    """Move everything in the folder ``source`` into ``target`` on the same disk, or, where that fails, nothing.

    Raises:
        DataError: if a different file of the same name is in ``target``.
    """
    if not os.path.lexists(target):
        os.replace(source, target)
        return
    done: list[tuple[Path, Path]] = []
    try:
        for old, new in _moves(source, target):
            done.append((old, new))
            os.replace(old, new)
    except BaseException:
        for old, new in reversed(done):
            if not os.path.lexists(old):
                os.replace(new, old)
        raise


def _moves(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """What has to be moved; whole folders where the target has none of that name."""
    moves: list[tuple[Path, Path]] = []
    if not target.is_dir():
        raise DataError(f"{target}: a file is in the way of a folder of that name. Move it away.")
    for entry in sorted(source.iterdir()):
        goal = target / entry.name
        if not os.path.lexists(goal):
            moves.append((entry, goal))
        elif entry.is_dir():
            moves += _moves(entry, goal)
        elif not (goal.is_file() and filecmp.cmp(entry, goal, shallow=False)):
            raise DataError(
                f"{goal}: something else of that name is already there, and is left as it is. "
                "Move it away, or choose another folder."
            )
    return moves


def _extract(archive: Path, folder: Path, limits: Limits, progress: Progress) -> dict[str, int]:
    """Write all members below an empty folder."""
    packed = archive.stat().st_size
    left = min(limits.total_bytes, limits.small_bytes + int(limits.ratio * packed))
    with archive.open("rb") as file:
        opened = _zip_members if file.read(2) == b"PK" else _tar_members
    seen: dict[str, tuple[str, bool]] = {}
    files: dict[str, int] = {}
    with (
        opened(archive, limits, left, folder) as (count, members),
        progress(f"unpacking {archive.name}", count) as step,
    ):
        for number, member in enumerate(members, start=1):
            if number > limits.members:
                raise DataError(f"{archive}: more than {limits.members:,} members. Is this the right archive?")
            step(1)
            if name := _checked_name(archive, member, seen):
                path = folder / name
                (path if member.is_folder else path.parent).mkdir(parents=True, exist_ok=True)
                if not member.is_folder:
                    files[name] = _copy(archive, member, path, limits, left)
                    left -= files[name]
    if not files:
        raise DataError(f"{archive}: no file in it. Fetch it again.")
    return files


def _checked_name(archive: Path, member: _Member, seen: dict[str, tuple[str, bool]]) -> str:
    """Path below the target with ``/``; empty for what is skipped. ``seen`` holds the names so far, without case."""
    name = member.name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if _BAD_CHARACTERS.search(name) or name.startswith("/") or ".." in parts or len(parts) > _DEPTH:
        raise DataError(f"{archive}: unsafe member name {name!r}. Nothing was unpacked; do not trust this archive.")
    if not parts or any(part in _JUNK or part.startswith("._") for part in parts):
        return ""
    for length in range(1, len(parts) + 1):
        path, is_folder = "/".join(parts[:length]), length < len(parts) or member.is_folder
        key = unicodedata.normalize("NFC", path).casefold()
        if key not in seen:
            seen[key] = (path, is_folder)
        elif seen[key][0] != path:
            raise DataError(
                f"{archive}: {seen[key][0]!r} and {path!r} are one name on many systems. Unpack it by hand."
            )
        elif not (is_folder and seen[key][1]):
            raise DataError(f"{archive}: {path!r} is in it twice. Nothing was unpacked; do not trust this archive.")
    return "/".join(parts)


def _copy(archive: Path, member: _Member, path: Path, limits: Limits, left: int) -> int:
    """Write one file, counting what really comes out; returns its bytes."""
    allowed = min(left, limits.small_bytes + int(limits.ratio * member.packed))
    done = 0
    with member.open() as source, path.open("xb") as sink:
        while block := source.read(_BLOCK):
            done += len(block)
            if done > member.size:
                raise DataError(
                    f"{archive}: {member.name!r} is larger than the {member.size:,} bytes its header claims."
                )
            if done > allowed:
                raise DataError(_too_large(archive, member.name))
            sink.write(block)
    if done != member.size:
        raise DataError(f"{archive}: {member.name!r} has {done:,} bytes, its header claims {member.size:,}.")
    return done


def _too_large(archive: Path, what: str) -> str:
    return (
        f"{archive}: {what!r} unpacks to far more than an archive of images does (a 'zip bomb'). "
        "Nothing was unpacked; do not trust this archive."
    )


@contextmanager
def _zip_members(archive: Path, limits: Limits, left: int, folder: Path) -> Iterator[tuple[int, Iterator[_Member]]]:
    """Number of members, and the members; claimed sizes are checked before anything is written."""
    with zipfile.ZipFile(archive) as opened:
        infos = opened.infolist()
        total = sum(info.file_size for info in infos)
        if len(infos) <= limits.members and total > left:
            raise DataError(_too_large(archive, archive.name))
        if total > (free := shutil.disk_usage(folder).free):
            raise DataError(f"{archive}: unpacked it takes {total:,} bytes, and {folder.parent} has {free:,} free.")
        yield len(infos), (_zip_member(archive, opened, info) for info in infos)


def _zip_member(archive: Path, opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    if info.flag_bits & 0x2041:  # encrypted, strongly encrypted, encrypted directory
        raise DataError(f"{archive}: {info.filename!r} is encrypted. Unpack it by hand.")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(_not_a_file(archive, info.filename))

    def read() -> IO[bytes]:
        generous = copy(info)  # zipfile stops at the claimed size without a word; one byte more shows whether it lies
        generous.file_size += 1
        return opened.open(generous)

    # orig_filename: zipfile cuts filename at a NUL, and turns backslashes on Windows
    return _Member(info.orig_filename, info.is_dir(), info.file_size, info.compress_size, read)


def _not_a_file(archive: Path, name: str) -> str:
    return f"{archive}: {name!r} is a link or a device, not a file. Nothing was unpacked; do not trust this archive."


class _Forward:
    """What tarfile reads from: never backwards and never much at once, so no header can make it loop or fill memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.position, self.last = stream, 0, b""

    def read(self, size: int) -> bytes:
        if not 0 <= size <= 16 * _BLOCK:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        self.last = self.stream.read(size)
        self.position += len(self.last)
        return self.last

    def seek(self, position: int) -> int:
        if position < self.position:
            raise tarfile.ReadError("a header points backwards")
        while self.position < position and self.read(min(position - self.position, _BLOCK)):
            pass
        return self.position

    def tell(self) -> int:
        return self.position


@contextmanager
def _tar_members(archive: Path, limits: Limits, left: int, folder: Path) -> Iterator[tuple[int, Iterator[_Member]]]:
    """0, because their number is not known beforehand, and the members."""
    with archive.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    with gzip.open(archive) if zipped else archive.open("rb") as plain:
        yield 0, _tar_walk(archive, _Forward(cast(IO[bytes], plain)), left)


def _tar_walk(archive: Path, stream: _Forward, left: int) -> Iterator[_Member]:
    packed = archive.stat().st_size
    with tarfile.open(fileobj=stream, mode="r:") as opened:  # type: ignore[call-overload]
        while (info := opened.next()) is not None:
            if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
                raise DataError(_not_a_file(archive, info.name))
            if info.size > left:
                raise DataError(_too_large(archive, info.name))
            yield _Member(info.name, info.isdir(), info.size, packed, partial(_tar_data, opened, info))
            opened.members.clear()  # tarfile keeps every header otherwise
    if any(stream.last) or len(stream.last) != tarfile.BLOCKSIZE:  # tarfile stops at a damaged header without a word
        raise tarfile.ReadError("it ends early")
    if stream.seek(end := stream.position + 16 * _BLOCK) == end:  # the check sum of gzip comes last
        raise tarfile.ReadError("something follows its end")


def _tar_data(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    data = opened.extractfile(info)
    if data is None:
        raise tarfile.ReadError(f"{info.name!r} has no data")
    return data

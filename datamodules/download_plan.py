"""Where a data set is published, as plain data from a task's yaml file, and how to fetch it by hand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from datamodules.errors import DataError

_Made = TypeVar("_Made", "RemoteFile", "IsicQuery", "DownloadPlan")


@dataclass(frozen=True)
class RemoteFile:
    """One file on a publisher's server.

    Attributes:
        url: where it is.
        name: its name on this disk.
        bytes: its size; 0 where none is published.
        sha256, md5: lower-case hexadecimal; empty where none is published.
        listing: URL of the Harvard Dataverse listing that publishes size and MD5; empty where there is none.
        unpack: whether it is an archive to unpack.
        into: folder below the data set's, for the file or for what is in the archive; empty: the data set's own.
        resume: whether the server honours byte ranges.
        expected_images: in the archive; 0 where unknown.
    """

    url: str
    name: str
    bytes: int = 0
    sha256: str = ""
    md5: str = ""
    listing: str = ""
    unpack: bool = False
    into: str = ""
    resume: bool = True
    expected_images: int = 0


@dataclass(frozen=True)
class IsicQuery:
    """A search of the ISIC archive.

    Attributes:
        base: URL of the API, version 2.
        collections: ids of collections, separated by commas; empty: all.
        query: search expression, for example ``diagnosis_1:Malignant``; empty: everything.
        limit: images at most; 0: all.
    """

    base: str
    collections: str = ""
    query: str = ""
    limit: int = 0


@dataclass(frozen=True)
class DownloadPlan:
    """Every way to fetch a data set: its publisher's files, the ISIC archive, and the Kaggle handle (``owner/name``)."""

    name: str
    page: str
    licence: str
    files: tuple[RemoteFile, ...] = ()
    kaggle: str = ""
    isic: IsicQuery | None = None


def plan_from(mapping: Mapping[str, Any]) -> DownloadPlan:
    """The plan that a task's ``download`` section describes; a value of None is the same as none given.

    Raises:
        DataError: if a key is unknown or missing, or a value is impossible; the message names it.
    """
    if not isinstance(mapping, Mapping):
        raise DataError(
            f"download must be a section of keys and values, not {mapping!r}. Correct the task's yaml file."
        )
    given = {str(key): value for key, value in mapping.items() if value is not None}
    files = given.pop("files", ())
    if not isinstance(files, list | tuple):
        raise DataError(f"download.files must be a list, not {files!r}. Correct the task's yaml file.")
    isic = given.pop("isic", None)
    plan = _made(DownloadPlan, given, "download")
    where = [f"download.files[{number}]" for number in range(len(files))]
    plan = DownloadPlan(
        plan.name,
        plan.page,
        plan.licence,
        tuple(_remote_file(file, place) for file, place in zip(files, where, strict=True)),
        plan.kaggle,
        None if isic is None else _isic_query(isic),
    )
    _check_plan(plan)
    return plan


def manual_steps(plan: DownloadPlan, target: Path) -> str:
    """Numbered steps for a person: what to open, what to download and where to put it, how to check and unpack it."""
    folder = target.resolve()
    steps = [f"open  {plan.page}\n(licence: {plan.licence})"]
    if plan.files:
        listed = [f"{file.url}\n  -> {at_rest(file, folder)}{_size(file)}" for file in plan.files]
        steps.append("download, without a login:\n" + "\n".join(listed))
        steps += (
            ["check, each must give the value behind it:\n" + "\n".join(checks)] if (checks := _checks(plan)) else []
        )
    if archives := [file for file in plan.files if file.unpack]:
        lines = [_unpack_command(file, folder) for file in archives]
        steps.append("unpack:\n" + "\n".join(lines))
    if plan.isic:
        steps.append("fetch images and metadata.csv from the ISIC archive:\n" + _isic_commands(plan.isic, folder))
    if plan.kaggle:
        steps.append(
            f"{'or ' if steps[1:] else ''}from Kaggle:  https://www.kaggle.com/datasets/{plan.kaggle}\n"
            f"kaggle datasets download -d {plan.kaggle} --unzip -p {_shell(folder)}"
        )
    steps.append("run the same command again")
    return "\n".join(
        f"  {number}. {step}".replace("\n", "\n     " if number < 10 else "\n      ")
        for number, step in enumerate(steps, start=1)
    )


def at_rest(file: RemoteFile, folder: Path) -> Path:
    """Where a downloaded file lies: an archive beside what was in it, any other file where it is used."""
    return folder / file.name if file.unpack else folder / file.into / file.name


def _size(file: RemoteFile) -> str:
    return f"  ({file.bytes:,} bytes)" if file.bytes else ""


def _checks(plan: DownloadPlan) -> list[str]:
    lines = []
    for file in plan.files:
        if file.sha256:
            lines.append(f"sha256sum {file.name}  ->  {file.sha256}")
        elif file.md5:
            lines.append(f"md5sum {file.name}  ->  {file.md5}")
        elif file.listing:
            lines.append(f"md5sum {file.name}  ->  the MD5 that the page, or {file.listing}, gives")
    return lines


def _shell(path: Path) -> str:
    return shlex.quote(str(path))


def _unpack_command(file: RemoteFile, folder: Path) -> str:
    command, option = ("unzip -q", "-d") if file.name.lower().endswith(".zip") else ("tar -xf", "-C")
    into = _shell(folder / file.into)
    make = f"mkdir -p {into} && " if file.into else ""
    return f"{make}{command} {_shell(at_rest(file, folder))} {option} {into}"


def _isic_commands(query: IsicQuery, folder: Path) -> str:
    options = [f"--search {shlex.quote(query.query)}"] if query.query else []
    options += [f"--collections {query.collections}"] if query.collections else []
    options += [f"--limit {query.limit}"] if query.limit else []
    return f"pip install isic-cli\nisic image download {' '.join([*options, _shell(folder)])}"


def _isic_query(given: Any) -> IsicQuery:
    if (
        isinstance(given, Mapping) and type(given.get("collections")) is int
    ):  # 212 and "212" look alike on a command line
        given = {**given, "collections": str(given["collections"])}
    query = _made(IsicQuery, given, "download.isic")
    _check_url(query.base, "download.isic.base")
    if not re.fullmatch(r"(\d+(,\d+)*)?", query.collections):
        raise DataError(f"download.isic.collections must be numbers separated by commas, not {query.collections!r}.")
    return query


def _remote_file(given: Any, where: str) -> RemoteFile:
    file = _made(RemoteFile, given, where)
    _check_url(file.url, f"{where}.url")
    if file.listing:
        _check_url(file.listing, f"{where}.listing")
    for key, digits in (("sha256", 64), ("md5", 32)):
        if (value := getattr(file, key)) and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", value):
            raise DataError(f"{where}.{key} must be {digits} lower-case hexadecimal digits, not {value!r}.")
    if file.name.startswith(".") or not re.fullmatch(r"[^/\\:\x00-\x1f]+", file.name):
        raise DataError(f"{where}.name must be a plain file name, not {file.name!r}.")
    folder = PurePosixPath(file.into)
    if folder.is_absolute() or ".." in folder.parts or re.search(r"[\\:\x00-\x1f]", file.into):
        raise DataError(f"{where}.into must be a folder below the data set's own, not {file.into!r}.")
    return file


def _check_plan(plan: DownloadPlan) -> None:
    if plan.kaggle and not re.fullmatch(r"[\w-]+/[\w-]+", plan.kaggle):
        raise DataError(f"download.kaggle must be owner/name, as in the page's address, not {plan.kaggle!r}.")
    names = [file.name for file in plan.files]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise DataError(f"download.files names {', '.join(sorted(repeated))} more than once.")


def _check_url(url: str, where: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise DataError(f"{where} must be a http or https address, not {url!r}. Correct the task's yaml file.")


def _made(kind: type[_Made], given: Any, where: str) -> _Made:
    """An instance of a plan's dataclass; its defaults say what type a value must have."""
    if not isinstance(given, Mapping):
        raise DataError(f"{where} must be a section of keys and values, not {given!r}. Correct the task's yaml file.")
    known = {field.name: field for field in fields(kind)}
    given = {str(key): value for key, value in given.items() if value is not None}
    if unknown := sorted(set(given) - set(known)):
        raise DataError(f"{where} has no key {', '.join(unknown)}; it knows {', '.join(known)}.")
    if missing := [name for name, field in known.items() if field.default is MISSING and not given.get(name)]:
        raise DataError(f"{where} lacks {', '.join(missing)}. Add it to the task's yaml file.")
    for key, value in given.items():
        default = known[key].default
        wanted = str if default is MISSING else type(default)
        if type(value) is not wanted or (type(value) is int and value < 0):
            kinds = {str: "text (put it in quotes)", int: "a whole number of at least 0", bool: "true or false"}
            raise DataError(f"{where}.{key} must be {kinds[wanted]}, not {value!r}.")
    return kind(**given)

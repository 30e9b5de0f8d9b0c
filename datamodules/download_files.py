"""One file of a publisher: fetched, verified against what is published, unpacked, and remembered."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from datamodules.archives import unpack_files
from datamodules.download_http import fetch, fetch_json, forget, megabytes, require_space
from datamodules.download_plan import RemoteFile, at_rest
from datamodules.download_record import intact
from datamodules.errors import DataError
from datamodules.images import IMAGE_SUFFIXES
from datamodules.progress import Progress

_BLOCK = 1 << 20
Entry = dict[str, Any]
"""What is remembered of one file: url, size, mtime_ns, sha256, md5, and ``unpacked`` (path -> bytes)."""


def is_done(file: RemoteFile, target: Path, entry: Mapping[str, Any]) -> bool:
    """Whether there is nothing left to do for a file; an archive may have been deleted after it was unpacked."""
    if not _agrees(file, entry):
        return False
    if file.unpack:
        return intact(target, entry.get("unpacked"))
    return _unchanged(at_rest(file, target), entry)


def bring(
    client: httpx2.Client, file: RemoteFile, target: Path, entry: Mapping[str, Any], progress: Progress
) -> tuple[Entry, list[str]]:
    """Fetch, verify and unpack one file; what is there already is verified and used.

    Returns:
        What to remember, and the lines to print.

    Raises:
        DataError: if it cannot be fetched, is not the published file, or cannot be unpacked.
    """
    path = at_rest(file, target)
    path.parent.mkdir(parents=True, exist_ok=True)
    if _agrees(file, entry) and _unchanged(path, entry):
        found: Entry = {**entry}
        lines = [f"{file.name}: already fetched and verified"]
    else:
        found, lines = _fetched(client, file, path, progress)
    if file.unpack:
        folder = target / file.into
        files = unpack_files(path, folder, progress=progress, check=lambda files: _count_images(file, files))
        found["unpacked"] = {(Path(file.into) / name).as_posix(): size for name, size in files.items()}
        lines.append(f"{file.name}: {len(files):,} files unpacked into {folder}; the archive itself may be deleted")
    return found, lines


def _fetched(client: httpx2.Client, file: RemoteFile, path: Path, progress: Progress) -> tuple[Entry, list[str]]:
    try:
        size, md5, note = _published(client, file)
    except DataError:
        if not path.exists():  # a file brought by hand may be used where the listing cannot be reached
            raise
        size, md5, note = file.bytes, file.md5, " (the listing of hashes could not be read)"
    if path.exists():
        found = _verified(path, file, size, md5, "Move it away, and run the same command again.")
        how = f"{file.name}: found in {path.parent}"
    else:
        part = path.with_name(f"{path.name}.part")
        require_space(path.parent, size * (2 if file.unpack else 1), file.name)
        with megabytes(progress, f"fetching {file.name}", size) as on_bytes:
            fetch(client, file.url, part, size=size, resume=file.resume, on_bytes=on_bytes)
        try:
            found = _verified(part, file, size, md5, "It was deleted. The publisher may have replaced the file.")
        except DataError:
            forget(part)
            raise
        os.replace(part, path)
        how = f"{file.name}: fetched"
    proofs = [name for name, known in (("size", size), ("SHA-256", file.sha256), ("MD5", md5)) if known]
    checked = f"{', '.join(proofs)} as published" if proofs else "not verified, because no hash or size is published"
    return found, [f"{how}, {found['size']:,} bytes, {checked}{note}"]


def _verified(path: Path, file: RemoteFile, size: int, md5: str, action: str) -> Entry:
    """Size and hashes of a file that is the published one."""
    stat = path.stat()
    if size and stat.st_size != size:
        raise DataError(f"{path}: {stat.st_size:,} bytes, {size:,} are published. {action}")
    hashes = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    with path.open("rb") as source:
        while block := source.read(_BLOCK):
            for digest in hashes.values():
                digest.update(block)
    found = {name: digest.hexdigest() for name, digest in hashes.items()}
    for name, published in (("sha256", file.sha256), ("md5", md5)):
        if published and found[name] != published:
            raise DataError(f"{path}: its {name} is {found[name]}, published is {published}. {action}")
    return {"url": file.url, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, **found}


def _agrees(file: RemoteFile, entry: Mapping[str, Any]) -> bool:
    """Whether what is remembered is this very file of the plan."""
    wanted = {"url": file.url, "size": file.bytes, "sha256": file.sha256, "md5": file.md5}
    return bool(entry) and all(entry.get(key) == value for key, value in wanted.items() if value)


def _unchanged(path: Path, entry: Mapping[str, Any]) -> bool:
    try:
        stat = path.stat()
    except OSError:
        return False
    return stat.st_size == entry.get("size") and stat.st_mtime_ns == entry.get("mtime_ns")


def _count_images(file: RemoteFile, files: Mapping[str, int]) -> None:
    images = sum(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in files)
    if file.expected_images and images != file.expected_images:
        raise DataError(
            f"{file.name}: {images:,} images in it, expected are {file.expected_images:,}. "
            "Nothing was unpacked; it is another version of the data set."
        )


def _published(client: httpx2.Client, file: RemoteFile) -> tuple[int, str, str]:
    """Size (0: unknown), MD5 (empty: unknown) and a remark, from the plan and from the Dataverse listing if one is named.

    For tables that Dataverse has converted ("ingested"), size and MD5 of the listing belong to neither form of the file
    (IQSS/dataverse#5321, #9501, #11315), so they are not used.
    """
    if not file.listing:
        return file.bytes, file.md5, ""
    stored = _listed(fetch_json(client, file.listing), file)
    if "originalFileFormat" in stored or stored.get("tabularData"):
        return file.bytes, file.md5, " (the listing gives no usable hash for a converted table)"
    checksum = stored.get("checksum")
    if not isinstance(checksum, Mapping) or checksum.get("type") != "MD5":
        checksum = {}
    md5 = str(stored.get("md5") or checksum.get("value") or "").lower()
    size = stored.get("filesize")
    if not md5 and not file.sha256 and not file.md5:
        raise DataError(f"{file.listing} gives no MD5 for {file.name}. Fetch the file by hand.")
    if file.md5 and md5 and md5 != file.md5:
        raise DataError(
            f"{file.name}: the listing's md5 is {md5}, the plan's is {file.md5}. Correct the task's yaml file."
        )
    return file.bytes or (size if isinstance(size, int) else 0), md5 or file.md5, ""


def _listed(listing: Any, file: RemoteFile) -> Mapping[str, Any]:
    """The listing's record of a file, by the id in its URL, or else by its name."""
    try:
        data = listing["data"]
        stored = [entry["dataFile"] for entry in data.get("latestVersion", data)["files"]]
        by_id = {str(record["id"]): record for record in stored}
        by_name = {str(record.get("filename")): record for record in stored}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file.listing}: no Dataverse listing of files. Correct download.files in the task's yaml file."
        ) from error
    wanted = urlsplit(file.url).path.rstrip("/").rsplit("/", 1)[-1]
    record = by_id.get(wanted) or by_name.get(file.name)
    if not isinstance(record, Mapping):
        raise DataError(f"{file.listing} lists neither a file {wanted} nor {file.name}. Fetch it by hand.")
    return record

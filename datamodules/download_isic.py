"""Images and metadata of a search of the ISIC archive, through its public API (version 2)."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import httpx2

from datamodules.download_http import fetch, fetch_json, forget, require_space
from datamodules.download_plan import IsicQuery
from datamodules.download_record import intact
from datamodules.errors import DataError
from datamodules.images import IMAGE_SUFFIXES
from datamodules.progress import Progress

_PAGE = 100  # images a request
_THREADS = 4
_FIRST_COLUMNS = ("isic_id", "attribution", "copyright_license")
METADATA = "metadata.csv"


def isic_done(query: IsicQuery, target: Path, entry: dict[str, Any]) -> bool:
    """Whether this very search has been fetched and is complete."""
    return entry.get("query") == asdict(query) and intact(target, entry.get("files"))


def claim(query: IsicQuery, target: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """What to remember before the first image is fetched.

    Raises:
        DataError: if ``target`` holds images of another search or of another origin, or if the search is for everything.
    """
    if not (query.collections or query.query or query.limit):
        raise DataError(
            "this would fetch the whole ISIC archive, some 60 GB. Name collections, a query or a limit:  "
            "task.download.isic.collections=NUMBER"
        )
    if entry.get("query") == asdict(query):
        return entry
    if entry or os.path.lexists(target / METADATA):
        raise DataError(
            f"{target} holds the result of another search, which is left as it is. Choose another folder with  data.root=PATH."
        )
    return {"query": asdict(query)}


def bring_isic(
    client: httpx2.Client, query: IsicQuery, target: Path, progress: Progress
) -> tuple[dict[str, Any], list[str]]:
    """Fetch all images of a search, ``<isic_id>.jpg``, and then ``metadata.csv`` in the archive's present schema.

    Images that are there with the published size are kept, so an interrupted download goes on.

    Returns:
        What to remember, and the lines to print.

    Raises:
        DataError: if the API or an image cannot be had, or the disk is too small.
    """
    rows: dict[str, dict[str, Any]] = {}
    files: dict[str, int] = {}
    pages = _pages(client, query)
    first = next(pages)
    count = _count(first, query)
    with progress("fetching ISIC images", count) as advance, ThreadPoolExecutor(_THREADS) as pool:
        for page in chain([first], pages):
            fresh = _fresh(page, rows, query)
            require_space(
                target, sum(_source(result)[1] for result in fresh.values()), f"a page of {len(fresh)} images"
            )
            for name, size in pool.map(partial(_fetch_image, client, target), fresh.values()):
                files[name] = size
                advance(1)
            rows |= {isic_id: _row(result) for isic_id, result in fresh.items()}
            if query.limit and len(rows) >= query.limit:
                break
    if not rows:
        raise DataError(f"{query.base}: no image matches collections={query.collections!r} query={query.query!r}.")
    files[METADATA] = _write_table(target / METADATA, rows)
    lines = [f"ISIC archive: {len(rows):,} images and {METADATA} fetched into {target}, sizes as published"]
    if len(rows) < count:
        lines.append(f"ISIC archive: {count:,} images were announced, but only {len(rows):,} were listed")
    return {"query": asdict(query), "files": files}, lines


def _pages(client: httpx2.Client, query: IsicQuery) -> Iterator[dict[str, Any]]:
    """Every page of the search; addresses of images are signed and expire, so each page is used before the next is asked for."""
    limit = min(query.limit, _PAGE) if query.limit else _PAGE
    options = {"query": query.query, "collections": query.collections, "limit": limit}
    url = f"{query.base.rstrip('/')}/images/search/?{urlencode(options)}"
    seen: set[str] = set()
    while url:
        if url in seen:
            raise DataError(f"{query.base}: the pages of the answer run in a circle. Try again later.")
        seen.add(url)
        page = fetch_json(client, url)
        if not isinstance(page, dict) or not isinstance(page.get("results"), list):
            raise DataError(f"{query.base}: the answer holds no results; is this an ISIC API of version 2?")
        yield page
        url = urljoin(url, str(page.get("next") or "")) if page.get("next") else ""


def _count(page: dict[str, Any], query: IsicQuery) -> int:
    announced = page.get("count")
    count = announced if isinstance(announced, int) else 0
    return min(count, query.limit) if query.limit else count


def _fresh(page: dict[str, Any], rows: dict[str, dict[str, Any]], query: IsicQuery) -> dict[str, dict[str, Any]]:
    """The images of a page that no earlier page had, as far as the limit allows."""
    found: dict[str, dict[str, Any]] = {}
    for result in page["results"]:
        isic_id = result.get("isic_id") if isinstance(result, dict) else None
        if not isinstance(isic_id, str) or not re.fullmatch(r"ISIC_\d{1,12}", isic_id):
            raise DataError(f"{query.base}: a result without a valid isic_id ({isic_id!r}).")
        if isic_id not in rows and not (query.limit and len(rows) + len(found) >= query.limit):
            found[isic_id] = result
    return found


def _source(result: dict[str, Any]) -> tuple[str, int]:
    """Signed address of the full image, and its bytes (0: not published)."""
    try:
        full = result["files"]["full"]
        url, size = full["url"], full.get("size") or 0
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{result['isic_id']}: the ISIC archive gives no address of the image.") from error
    if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https") or not isinstance(size, int):
        raise DataError(f"{result['isic_id']}: the ISIC archive gives no usable address or size of the image.")
    return url, size


def _fetch_image(client: httpx2.Client, target: Path, result: dict[str, Any]) -> tuple[str, int]:
    """Name and bytes of an image that is there afterwards."""
    url, size = _source(result)
    suffix = Path(urlsplit(url).path).suffix.lower()
    path = target / f"{result['isic_id']}{suffix if suffix in IMAGE_SUFFIXES else '.jpg'}"
    if not (path.is_file() and (there := path.stat().st_size) and there == (size or there)):
        part = path.with_name(f".{path.name}.part")
        fetch(client, url, part, size=size)
        if not (there := part.stat().st_size) or (size and there != size):
            forget(part)
            raise DataError(f"{path.name}: {there:,} bytes came, {size:,} are published. Run the same command again.")
        os.replace(part, path)
    return path.name, path.stat().st_size


def _row(result: dict[str, Any]) -> dict[str, Any]:
    """One flat row, named as the archive's own exports name their columns; what is missing stays empty."""
    row = {name: result.get(name) for name in _FIRST_COLUMNS}
    metadata = result.get("metadata")
    for part in ("acquisition", "clinical"):
        values = metadata.get(part) if isinstance(metadata, dict) else None
        row |= {key: value for key, value in (values or {}).items() if key not in _FIRST_COLUMNS}
    return row


def _write_table(path: Path, rows: dict[str, dict[str, Any]]) -> int:
    """Write metadata.csv, sorted by id; returns its bytes."""
    columns = sorted({name for row in rows.values() for name in row} - set(_FIRST_COLUMNS))
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*_FIRST_COLUMNS, *columns], restval="")
        writer.writeheader()
        writer.writerows(rows[isic_id] for isic_id in sorted(rows))
    os.replace(beside, path)
    return path.stat().st_size

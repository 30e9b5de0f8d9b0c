"""What the tests of downloads share: files, plans, and what is expected of both."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from datamodules.download import download_dataset, plan_from
from datamodules.errors import DataError
from tests.datamodules.serving import Site

BODY = bytes(range(256)) * 4096  # 1 MiB


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

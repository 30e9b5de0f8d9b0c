"""What has been fetched into a folder, so that the second call has nothing to do."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NAME = ".download.json"


def load_record(target: Path) -> dict[str, Any]:
    """What is remembered of a data set's folder; empty if nothing is, or if it cannot be read."""
    try:
        record = json.loads((target / _NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def save_record(target: Path, record: Mapping[str, Any]) -> None:
    """Replace what is remembered."""
    beside = target / f"{_NAME}.{os.getpid()}"
    beside.write_text(json.dumps(record, indent=1), encoding="utf-8")
    os.replace(beside, target / _NAME)


def intact(target: Path, files: Any) -> bool:
    """Whether every file of path -> bytes is there with this size; False for an empty or foreign record."""
    if not isinstance(files, dict) or not files:
        return False
    try:
        return all((target / path).stat().st_size == size for path, size in files.items())
    except OSError:
        return False

"""What the entry files write and show: JSON files as a whole, and paths as short as they can be."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write beside the place and rename; a file that already says the same is left alone."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def short(path: Path) -> str:
    """Relative to where the command was typed, when that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)

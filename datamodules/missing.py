"""What to do where a data set is missing; it loads no library, so that a wrong path is said at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.download_plan import manual_steps, plan_from
from datamodules.errors import DataError


class MissingDataError(DataError):
    """The data set is not where it was looked for; ``where`` and ``found`` say what is there instead."""

    def __init__(self, where: Path, found: str) -> None:
        super().__init__(f"data set not found. Looked in {where.resolve()}: {found}.")
        self.where, self.found = where.resolve(), found


def contents_of(folder: Path) -> str:
    """What is in a folder, in words, for an error message."""
    if not folder.is_dir():
        return "the folder does not exist" if not folder.exists() else "this is a file, not a folder"
    names = sorted(entry.name for entry in os.scandir(folder))
    if not names:
        return "the folder is empty"
    return f"it holds {', '.join(names[:6])}{f' and {len(names) - 6} more' if len(names) > 6 else ''}"


def require_folder(task: Mapping[str, Any], root: Path) -> None:
    """Stop where there is nothing at all to read, before the libraries that read are loaded, which takes longer than to see it.

    Args:
        task, root: as in :func:`datamodules.sources.list_images`, whose error is the same.

    Raises:
        DataError: with the ways on.
    """
    if task["reader"] != "table" and not root.is_dir():  # a table may lie elsewhere
        raise DataError(f"{MissingDataError(root, contents_of(root))}\n{ways_on(task, root.resolve())}")


def ways_on(task: Mapping[str, Any], where: Path) -> str:
    """What a person can do who does not have the data set there: point to it, download it, or try without."""
    lines = [
        "Ways on:",
        "- you have it: point to it with  data.root=PATH  or put it under a folder named by FIRSTREAD_DATA",
    ]
    if task["download"]:
        via = "publisher" if {"files", "isic"} & set(task["download"]) else "kaggle"
        lines += [
            f"- download it:  python prepare.py task={task['name']} data.download={via}",
            "  or by hand:",
            manual_steps(plan_from(task["download"]), where),
        ]
    lines.append("- try everything without it, on generated images:  data.source=phantom")
    return "\n".join(lines)

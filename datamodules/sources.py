"""Which reader a task uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.chest_xray import list_chest_xray
from datamodules.errors import DataError
from datamodules.folders import list_folders
from datamodules.ham10000 import list_ham10000
from datamodules.isic_archive import is_isic_export, list_isic_archive
from datamodules.listing import Listing
from datamodules.missing import MissingDataError, ways_on
from datamodules.table import list_table


def list_images(task: Mapping[str, Any], table: Mapping[str, Any], root: Path) -> Listing:
    """All images of a task's data set.

    Args:
        task: ``reader``, ``dataset``, ``group_pattern``, ``group_table``, ``download``, ``name``.
        table: columns of ``task=table``.
        root: folder of the data set.

    Raises:
        DataError: with the ways on where the data set is missing.
    """
    try:
        return _read(task, table, root)
    except MissingDataError as error:
        raise DataError(f"{error}\n{ways_on(task, error.where)}") from error


def _read(task: Mapping[str, Any], table: Mapping[str, Any], root: Path) -> Listing:
    reader = task["reader"]
    if reader == "chest_xray":
        return list_chest_xray(root)
    if reader == "ham10000":
        return list_ham10000(root)
    if reader == "table":
        return list_table(root, table)
    if reader == "isic_archive" or (reader == "skin_cancer" and is_isic_export(root)):
        return list_isic_archive(root)
    return list_folders(root, task["dataset"], group_pattern=task["group_pattern"], group_table=task["group_table"])

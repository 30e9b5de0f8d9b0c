"""Reader of a CSV of one's own: a column with the image file, one with the label, and what else is known."""

from __future__ import annotations

import difflib
import os
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datamodules.errors import DataError
from datamodules.listing import PART_NAMES, About, Listing, known, present, read_table
from datamodules.manifest import LeftOut
from datamodules.missing import MissingDataError, contents_of

# Names of columns that the preparation makes itself; a subgroup of such a name gets the prefix own_.
RESERVED = frozenset(
    (
        *(
            "image_id",
            "path",
            "label",
            "group_id",
            "split",
            "sha256",
            "size",
            "bytes",
            "width",
            "height",
            "mode",
            "age",
        ),
        *("patient", "error", "official", "part", "reason", "joined_group", "true_group"),
    )
)


def list_table(given: Path, columns: Mapping[str, Any]) -> Listing:
    """All rows whose image file exists.

    Args:
        given: folder that paths are relative to (a path may also be absolute).
        columns: ``file`` (the CSV; empty: the only one in ``given``), and the names of the columns ``path``, ``label``,
            ``group``, ``split`` (the last two may be empty) and ``subgroups`` (a list).

    Raises:
        MissingDataError: if there is no table. DataError: if a column is missing or a cell is empty.
    """
    table = _find(given, str(columns["file"]))
    rows = read_table(table)
    named = {key: str(columns[key]) for key in ("path", "label", "group", "split") if columns[key]}
    _require(table, rows, [(f"table.{key}", name) for key, name in named.items()])
    _require(table, rows, [("table.subgroups", str(name)) for name in columns["subgroups"]])
    for key in ("path", "label"):
        empty = rows[named[key]].str.strip() == ""
        if empty.any():
            raise DataError(f"{table}: column {named[key]} is empty in line {int(np.argmax(empty)) + 2}.")
    if rows.empty:
        raise DataError(f"{table}: the table has a header and no rows.")
    paths = rows[named["path"]].str.strip().str.replace("\\", "/", regex=False).map(posixpath.normpath)
    frame = pd.DataFrame({"image_id": _ids(given, paths), "path": paths, "label": rows[named["label"]].str.strip()})
    frame["group_id"] = _groups(rows, named.get("group"), paths)
    frame["split"] = _splits(table, rows, named["split"]) if "split" in named else ""
    for name in columns["subgroups"]:
        frame[f"own_{name}" if name in RESERVED else name] = known(rows[name])
    left_out: list[LeftOut] = []
    frame = _once(table, frame, left_out)
    there = frame["path"].map(lambda path: (given / path).is_file())
    left_out.extend(
        LeftOut(path, f"{table.name} has a row, but there is no such file") for path in frame["path"][~there]
    )
    if not there.any():
        raise MissingDataError(
            given, f"{table.name} has {len(frame):,} rows, but no file such as {frame['path'].iloc[0]}"
        )
    rule = f"column {named['group']}" if "group" in named else "an image is its own group (no table.group given)"
    about = About(
        title=f"Images listed in {table.name}", group_rule=f"{rule}; identical and nearly identical images are joined"
    )
    return Listing(given, frame[there].sort_values("image_id", ignore_index=True), about, left_out)


def _find(given: Path, name: str) -> Path:
    if name:
        for path in (Path(name).expanduser(), given / name):
            if path.is_file():
                return path
        raise MissingDataError(given, f"there is no file {name} (table.file)")
    if not given.is_dir():
        raise MissingDataError(given, contents_of(given))
    tables = sorted([*given.glob("*.csv"), *given.glob("*.tsv")])
    if not tables:
        raise MissingDataError(given, f"no CSV file ({contents_of(given)}); name it with table.file=PATH.csv")
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise MissingDataError(given, f"{len(tables)} tables ({names}); name the right one with table.file=NAME.csv")
    return tables[0]


def _require(table: Path, rows: pd.DataFrame, wanted: list[tuple[str, str]]) -> None:
    columns = [str(column) for column in rows.columns]
    for key, name in wanted:
        if name not in columns:
            close = difflib.get_close_matches(name, columns, n=1, cutoff=0.5)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise DataError(f"{table}: there is no column '{name}' ({key}); it has {', '.join(columns)}.{hint}")


def _groups(rows: pd.DataFrame, column: str | None, paths: pd.Series) -> pd.Series:
    """The group of each row; a row without one (empty, NA, unknown) is a group of its own."""
    if column is None:
        return paths
    groups = present(rows[column])
    return groups.where(groups != "", "image-" + paths)


def _ids(given: Path, paths: pd.Series) -> pd.Series:
    """Paths as ids; absolute ones below their common folder, because a report should not say where a disk keeps its patients."""
    if not paths.str.startswith("/").any():
        return paths
    full = [os.path.join(given.resolve(), path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in full])
    return pd.Series([os.path.relpath(path, common) for path in full], index=paths.index)


def _splits(table: Path, rows: pd.DataFrame, column: str) -> pd.Series:
    words = rows[column].str.strip().str.lower()
    parts = words.map({**PART_NAMES, "": ""})
    if parts.isna().any():
        line = int(np.argmax(parts.isna()))
        raise DataError(
            f"{table}: column {column} is '{words[line]}' in line {line + 2}; allowed: train, val, test, or empty."
        )
    return parts


def _once(table: Path, frame: pd.DataFrame, left_out: list[LeftOut]) -> pd.DataFrame:
    """Each image once; a repeated row must say the same."""
    repeated = frame["path"].duplicated()
    distinct = frame[["path", "label", "group_id", "split"]].drop_duplicates()
    if len(distinct) > len(frame) - int(repeated.sum()):
        first = distinct["path"][distinct["path"].duplicated()].iloc[0]
        raise DataError(
            f"{table}: {first} is listed several times with different label, group or split; keep the right row."
        )
    left_out.extend(
        LeftOut(path, f"listed more than once in {table.name}; used once") for path in frame["path"][repeated]
    )
    return frame[~repeated].reset_index(drop=True)

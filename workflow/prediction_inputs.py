"""Which images are meant by ``images=``: files, folders, patterns, a table, or a list on standard input."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

import pandas as pd

from conf.output import short
from conf.predict_options import STDIN, is_pattern, is_table
from datamodules.errors import DataError
from datamodules.images import IMAGE_SUFFIXES, looks_like_image
from datamodules.listing import files_below, present, read_table
from datamodules.missing import contents_of
from evaluation.foreign import USUAL

_PATHS: Final = ("path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "image", "image_id")
_DRIVE: Final = re.compile(r"^(/|[A-Za-z]:[\\/])")


@dataclass(frozen=True, eq=False)
class Inputs:
    """The images to be read, in the order in which they were named.

    Attributes:
        named: what was named, in words.
        ids: a name for each, each once. ``paths``: where it lies, as it was named; may be missing.
        groups: patient or lesion of each, None where unknown; None where there are no groups at all.
        metadata: the rows of a table, for networks that see metadata; None without one.
        problems: why a row names no image, by its number.
        left_out: files in folders that do not look like images, and linked folders.
    """

    named: str
    ids: list[str]
    paths: list[str]
    groups: list[str | None] | None = None
    metadata: pd.DataFrame | None = None
    problems: Mapping[int, str] = field(default_factory=dict)
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def sha256(self) -> str:
        """Of all that decides what the answers are about: names, places and groups, and the folder that they start from."""
        digest = hashlib.sha256(os.getcwd().encode("utf-8", "surrogateescape"))
        for row, (name, path) in enumerate(zip(self.ids, self.paths, strict=True)):
            group = "" if self.groups is None else self.groups[row] or ""
            digest.update(f"{name}\0{path}\0{group}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def metadata_sha256(self, columns: Sequence[str]) -> str | None:
        """Of the metadata that a network sees; None where it sees none."""
        if self.metadata is None or not columns:
            return None
        return hashlib.sha256(self.metadata.to_csv(index=False).encode("utf-8", "surrogateescape")).hexdigest()


def find_inputs(
    named: Sequence[str],
    columns: Mapping[str, str | None] | None = None,
    root: Path | None = None,
    stdin: TextIO | None = None,
) -> Inputs:
    """Look up what was named.

    Args:
        named: files, folders and patterns; or one table; or ``-``.
        columns: of a table, by role (``path``, ``id``, ``group``): the name of the column, or None to use none.
        root: what the paths of a table or of standard input are relative to.
        stdin: where the list comes from (default: standard input).

    Raises:
        DataError: nothing is found, or a table cannot be used; says why.
    """
    if tuple(named) == (STDIN,):
        return _listed(stdin or sys.stdin, root)
    if is_table(named[0]):
        return _tabled(Path(named[0]), columns or {}, root)
    return _on_disk(named)


def _on_disk(named: Sequence[str]) -> Inputs:
    """Files as they are named, and all images below folders; a file that is named twice counts once."""
    found: dict[str, None] = {}
    bases, left_out = [], 0
    for text in named:
        base, files, others = _expanded(text)
        found.update(dict.fromkeys(files))
        bases.append(base)
        left_out += others
    base = bases[0] if len(set(bases)) == 1 else _common(bases)
    paths = list(found)
    return Inputs(_words(named), [_below_base(path, base) for path in paths], paths, left_out=left_out)


def _below_base(path: str, base: str) -> str:
    """A path relative to a folder; by its text where that will do, because there may be a million."""
    start = base.rstrip(os.sep) + os.sep
    relative = path[len(start) :] if path.startswith(start) else os.path.relpath(path, base)
    return relative.replace(os.sep, "/")


def _expanded(text: str) -> tuple[str, list[str], int]:
    """The folder that names are relative to, the files, and how many others there are."""
    if is_pattern(text):
        return _matching(text)
    path = Path(text)
    if not path.is_dir():
        return str(path.parent), [str(path)], 0
    images, others = _below(path)
    if not images:
        raise DataError(
            f"images={text}: there is no image in this folder ({contents_of(path)}). Files are told by their suffix "
            f"({', '.join(sorted(IMAGE_SUFFIXES))}); DICOM files may have none. Linked folders are not followed."
        )
    return str(path), images, others


def _below(folder: Path) -> tuple[list[str], int]:
    """Images below a folder, and how many other files and linked folders there are, which are not followed."""
    images = []
    others = sum(os.path.islink(os.path.join(where, name)) for where, names, _ in os.walk(folder) for name in names)
    for file in files_below(folder):
        if looks_like_image(file):
            images.append(str(file))
        else:
            others += 1
    return images, others


def _matching(text: str) -> tuple[str, list[str], int]:
    """Images that match a pattern, and all below matching folders."""
    base = os.path.dirname(text[: re.search(r"[*?\[]", text).start()])  # type: ignore[union-attr]  # it is a pattern
    images: list[str] = []
    matches, others = sorted(glob.iglob(text, recursive=True)), 0
    whole = set[str]()  # folders below a matching folder match ** too
    for match in matches:
        path = Path(match)
        if any(str(parent) in whole for parent in path.parents):
            continue
        if path.is_dir():
            whole.add(str(path))
            inside, more = _below(path)
            images, others = images + inside, others + more
        elif looks_like_image(path):
            images.append(match)
        else:
            others += 1
    if not images:
        found = f"{others:,} files match, but none is named like an image" if others else "nothing matches"
        raise DataError(f"images={text}: {found}. Write patterns in quotes:  'images=FOLDER/*.png'")
    return base or ".", images, others


def _common(folders: Sequence[str]) -> str:
    return os.path.commonpath([os.path.abspath(folder) for folder in folders])


def _words(named: Sequence[str]) -> str:
    shown = [text if is_pattern(text) else short(Path(text)) for text in named]
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _listed(lines: TextIO, root: Path | None) -> Inputs:
    """One path a line; empty lines count for nothing."""
    texts = [text for text in (line.rstrip("\r\n") for line in lines) if text.strip()]
    if not texts:
        raise DataError(
            "images=-: standard input holds no path. Give one a line:  find FOLDER -name '*.png' | python predict.py ..."
        )
    ids = _names(texts)
    _require_once(ids, lambda row: f"line {row + 1} of standard input")
    return Inputs("standard input", ids, [_placed(text, root) for text in texts])


def _tabled(table: Path, columns: Mapping[str, str | None], root: Path | None) -> Inputs:
    rows = _rows_of(table)
    if rows.empty:
        raise DataError(f"{table}: the table has a header and no rows.")
    column = _column(table, rows, "path", columns, _PATHS)
    if column is None:
        raise DataError(
            f"{table}: no column is called {', '.join(_PATHS[:-1])} or {_PATHS[-1]}; it has {', '.join(rows.columns)}. Say which "
            "holds the image files: columns.path=NAME"
        )
    texts = rows[column].str.strip().str.replace("\\", "/", regex=False).tolist()
    ids = _ids(table, rows, columns, column, texts)
    where = table.parent if root is None else root
    if root is None:
        _require_placed(table, texts)
    paths = [_found(_placed(text, where)) if text else "" for text in texts]
    problems = {
        row: f"line {row + 2} of {table.name}: {column} is empty, so no image is named"
        for row, text in enumerate(texts)
        if not text
    }
    return Inputs(short(table), ids, paths, _groups(table, rows, columns), rows, problems)


def _rows_of(table: Path) -> pd.DataFrame:
    """The table; rows that are longer than its header would lose their end."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return read_table(table)
        except pd.errors.ParserWarning as error:
            raise DataError(
                f"{table}: rows have more cells than the header. Put names with a comma in double quotes, or add the missing "
                "column."
            ) from error


def _require_placed(table: Path, texts: Sequence[str]) -> None:
    """Raise a DataError where nothing is there seen from the table, but something is from where the command was typed."""
    if any(os.path.exists(_found(_placed(text, table.parent))) for text in texts if text):
        return
    example = next((text for text in texts if text and os.path.exists(text)), None)
    if example is not None:
        raise DataError(
            f"{table}: its paths are relative to its folder, and none of them is there; {example} is there seen from where you "
            "are. If that is what is meant, add root=."
        )


def _column(
    table: Path, rows: pd.DataFrame, role: str, given: Mapping[str, str | None], usual: Iterable[str]
) -> str | None:
    """The column of a role: the one that was given, or the first of its usual names; None where there is none."""
    there = [str(name) for name in rows.columns]
    if role in given:
        name = given[role]
        if name is not None and name not in there:
            raise DataError(f"{table}: there is no column '{name}' (columns.{role}); it has {', '.join(there)}.")
        return name
    plain = {re.sub(r"[\s-]+", "_", name.strip().lower()): name for name in reversed(there)}
    return next((plain[name] for name in usual if name in plain), None)


def _ids(
    table: Path, rows: pd.DataFrame, columns: Mapping[str, str | None], column: str, texts: Sequence[str]
) -> list[str]:
    """Names from a column of their own, or the paths; a row without one is called by its line."""
    own = _column(table, rows, "id", columns, ("image_id",))
    names = _names(texts) if own is None or own == column else rows[own].str.strip().tolist()
    ids = [name or f"line {row + 2}" for row, name in enumerate(names)]
    _require_once(ids, lambda row: f"line {row + 2} of {table.name}")
    return ids


def _names(texts: Sequence[str]) -> list[str]:
    """Paths as names; absolute ones below their common folder, because a table should not say where a disk keeps its patients."""
    full = [text for text in texts if _DRIVE.match(text)]
    if not full:
        return [os.path.normpath(text).replace(os.sep, "/") if text else "" for text in texts]
    base = os.path.commonpath([os.path.dirname(os.path.abspath(text)) for text in full])
    return [os.path.relpath(text, base) if _DRIVE.match(text) else text for text in texts]


def _require_once(ids: Sequence[str], place: Callable[[int], str]) -> None:
    seen: dict[str, int] = {}
    for row, name in enumerate(ids):
        if name in seen:
            raise DataError(
                f"{place(seen[name])} and {place(row)} both name {name}; every image is answered once. Take one of them out, or "
                "give a table with a column of names that differ: columns.id=NAME"
            )
        seen[name] = row


def _placed(text: str, root: Path | None) -> str:
    text = os.path.expanduser(text)
    return text if root is None or os.path.isabs(text) else os.path.normpath(os.path.join(root, text))


def _found(path: str) -> str:
    """The path itself, or where nothing is there, with the suffix that a table of image names leaves out."""
    if os.path.isfile(path) or os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES:
        return path
    return next((path + suffix for suffix in sorted(IMAGE_SUFFIXES) if os.path.isfile(path + suffix)), path)


def _groups(table: Path, rows: pd.DataFrame, columns: Mapping[str, str | None]) -> list[str | None] | None:
    column = _column(table, rows, "group", columns, USUAL["group"])
    if column is None:
        return None
    return [text or None for text in present(rows[column])]

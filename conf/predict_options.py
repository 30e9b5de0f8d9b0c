"""The command line of ``predict.py``: which keys there are, and which values they may take.

Only the standard library and the declarations of the configuration are imported here, so a mistake costs a fraction of a second.
"""

from __future__ import annotations

import difflib
import glob
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from conf.arguments import given_by, keys_text
from conf.evaluate_keys import UsageError, list_of, truth
from conf.heat_map_keys import METHODS, heat_maps_of
from conf.output import short

__all__ = ["DEFAULT_OUTPUT", "FORMATS", "STDIN", "TABLES", "Options", "UsageError", "help_text", "is_pattern", "parsed"]

FORMATS: Final = ("csv", "json", "parquet")
TABLES: Final = (".csv", ".tsv")
STDIN: Final = "-"
DEFAULT_OUTPUT: Final = Path("predictions")  # below it <task>/<date_time>
ROLES: Final = ("path", "id", "group")
KEYS: Final = {
    "run": "a finished run, an ensemble, the model folder of a run, or several runs whose scores are averaged: run=[RUN,RUN]",
    "images": "an image, a folder (with all below it), a pattern in quotes, a CSV or TSV table, a list [A,B], or - (paths from "
    "standard input, one a line); DICOM is known by its content",
    "output": "folder that is made (default: predictions/<task>/<date_time>); an unfinished one is gone on with",
    "format": "csv (default), json, parquet, or several: format=[csv,json]",
    "panel": "true: pages of pictures too, each image with its heat map, its probability and the decision",
    "heat_maps.method": f"of the panel: {', '.join(METHODS)} (default: {METHODS[0]})",
    "heat_maps.layer": "of the panel: the layer whose maps are weighted (default: the last one that still has places)",
    "heat_maps.target": "of the panel: a class, or positive for the decision (default)",
    "columns.path": "of a table: column of the image file (default: path, file, filename, image, image_id, whichever there is)",
    "columns.id": "of a table: column of the image's name; none takes the file as it is written",
    "columns.group": "of a table: column of the patient or lesion; none leaves groups out",
    "root": "folder that the paths of a table or of standard input are relative to (default: the table's folder; where you are)",
    "abstain": "false: call every image, also those that the input check would turn away (default: true)",
    "batch_size": "images scored at once (default: 64, as in a run's own evaluation)",
    "workers": "threads that decode images (default: one a processor)",
    "trust": "true: load a checkpoint that can run code when it is read; only for files whose origin you know",
}
_OF_LISTS: Final = ("columns.path", "columns.id", "columns.group", "root")


@dataclass(frozen=True)
class Options:
    """A checked command line.

    Attributes:
        runs: what scores, each there. ``several``: whether they were listed in brackets.
        images: as they were named: files, folders and patterns; one table; or ``-``.
        columns: of a table, by role; None for a column that is not to be used. ``root``: of a table or of standard input.
        output: None for the usual place. ``formats``: at least one of ``FORMATS``.
        panel: whether to draw pages. ``heat_maps``: ``method``, ``layer`` and ``target`` as far as given.
        batch_size: at least 1. ``workers``: at least 1; None for one a processor.
        abstain, trust: see ``KEYS``.
    """

    runs: tuple[Path, ...]
    images: tuple[str, ...]
    several: bool = False
    columns: dict[str, str | None] = field(default_factory=dict)
    root: Path | None = None
    output: Path | None = None
    formats: tuple[str, ...] = ("csv",)
    panel: bool = False
    heat_maps: dict[str, str] = field(default_factory=dict)
    batch_size: int = 64
    workers: int | None = None
    abstain: bool = True
    trust: bool = False


def parsed(argv: list[str]) -> Options:
    """Check a command line.

    Args:
        argv: the arguments without the program's name.

    Raises:
        UsageError: naming the argument and what to do.
    """
    given = given_by(argv, KEYS, "predict.py", lists=("run", "images", "format"))
    for key in ("run", "images"):
        if key not in given:
            raise UsageError(f"{key} is missing: {key}={key.upper()}. See: python predict.py --help")
    several = given["run"].startswith("[") and not Path(given["run"]).exists()
    runs = tuple(Path(text).expanduser() for text in (list_of("run", given["run"]) if several else [given["run"]]))
    for path in runs:
        if not path.exists():
            raise UsageError(f"run={path}: there is no such folder or file.")
    images = _images(given["images"])
    _require_used(given, images)
    output = Path(given["output"]).expanduser() if "output" in given else None
    _require_outside(output or DEFAULT_OUTPUT / "new")
    return Options(
        runs,
        images,
        several=several,
        columns={role: _column(given[f"columns.{role}"]) for role in ROLES if f"columns.{role}" in given},
        root=_folder("root", given["root"]) if "root" in given else None,
        output=output,
        formats=_formats(given.get("format", "csv")),
        heat_maps=heat_maps_of(given),
        **_plain(given),
    )


def help_text(intro: str, notice: str) -> str:
    """What ``--help`` prints.

    Args:
        intro: what the command does, with examples. ``notice``: last line.
    """
    codes = "Exit code: 0 all images were read, 1 some could not be (the others are there), 2 mistake, 130 interrupted."
    return "\n".join([intro.strip(), "", *keys_text(KEYS), "", codes, notice])


def is_pattern(text: str) -> bool:
    """Whether a name of images is a pattern and not the path of something that is there."""
    return glob.has_magic(text) and not os.path.lexists(text)


def _images(value: str) -> tuple[str, ...]:
    """What was named, each there; whether a pattern matches anything is found when it is looked up."""
    if value == STDIN:
        return (value,)
    there = os.path.lexists(os.path.expanduser(value))
    texts = [value] if there or not value.startswith("[") else list_of("images", value)
    named = tuple(os.path.expanduser(text) for text in texts)
    for text in named:
        if not (is_pattern(text) or os.path.exists(text)):
            raise UsageError(f"images={text}: there is no such file or folder.")
    alone = next((text for text in named if text == STDIN or is_table(text)), None)
    if alone is not None and len(named) > 1:
        raise UsageError(f"images={value}: {alone} lists images of its own; give it alone.")
    return named


def is_table(text: str) -> bool:
    """Whether a name of images is that of a table that lists them."""
    return text.lower().endswith(TABLES) and not os.path.isdir(text)


def _require_used(given: Mapping[str, str], images: tuple[str, ...]) -> None:
    """Refuse what would be ignored without a word."""
    table, stdin = is_table(images[0]), images == (STDIN,)
    for key in _OF_LISTS:
        if key in given and not (table or (key == "root" and stdin)):
            kind = "a table or standard input (images=-)" if key == "root" else "a table (images=FILE.csv)"
            raise UsageError(f"{key}={given[key]}: this belongs to {kind}; images={given['images']} is none.")
    if given.get("columns.path") == "none":
        raise UsageError("columns.path=none: without it nobody knows which images are meant.")
    maps = [key for key in given if key.startswith("heat_maps.")]
    if maps and not truth("panel", given.get("panel", "false")):
        raise UsageError(f"{maps[0]}={given[maps[0]]}: heat maps are drawn on the pages of panel=true; add it.")


def _column(text: str) -> str | None:
    return None if text == "none" else text


def _folder(key: str, text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_dir():
        raise UsageError(f"{key}={text}: there is no such folder.")
    return path


def _formats(text: str) -> tuple[str, ...]:
    named = tuple(list_of("format", text))
    for name in named:
        if name not in FORMATS:
            close = difflib.get_close_matches(name, FORMATS, n=1)
            meant = f" Did you mean '{close[0]}'?" if close else ""
            raise UsageError(f"format={text}: '{name}' must be one of {', '.join(FORMATS)}.{meant}")
    if "parquet" in named and importlib.util.find_spec("pyarrow") is None:
        raise UsageError(
            "format=parquet: this needs the package pyarrow, which is not installed. Install it, or take csv or json."
        )
    return named


def _plain(given: Mapping[str, str]) -> dict[str, Any]:
    """Truths and counts, as far as given."""
    found: dict[str, Any] = {key: truth(key, given[key]) for key in ("panel", "abstain", "trust") if key in given}
    for key in ("batch_size", "workers"):
        if key in given:
            if not given[key].isdecimal() or int(given[key]) < 1:
                raise UsageError(f"{key}={given[key]}: must be a whole number of at least 1.")
            found[key] = int(given[key])
    return found


def _require_outside(output: Path) -> None:
    """A finished run stays as it is, so no predictions are put inside one."""
    for folder in output.resolve().parents:
        if (folder / "run.json").is_file():
            raise UsageError(
                f"output={output}: this is inside {short(folder)}, a run, which is not changed. Choose another folder."
            )

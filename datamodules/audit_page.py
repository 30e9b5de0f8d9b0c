"""The page of an audit: one self-contained HTML file, findings first, then the pictures of copies, then the tables."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import cv2
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from datamodules.audit_copies import MOST_PICTURES
from datamodules.errors import UnreadableImageError
from datamodules.images import read_image
from datamodules.shortcuts import FILE_FACTS

_SIDE = 192  # pixels of the longer side of a picture
_QUALITY = 75
_MOST_ROWS = 40  # of a table
_KINDS = {
    "contradiction": "Two labels",
    "across": "Across splits or labels",
    "groups": "Different {group}s",
    "within": "Same {group}",
}
_MOVES = {
    "identity": "as it is",
    "rot90": "turned left",
    "rot180": "turned by 180 degrees",
    "rot270": "turned right",
    "flip": "mirrored",
    "flip_rot90": "mirrored and turned left",
    "flip_rot180": "mirrored and turned by 180 degrees",
    "flip_rot270": "mirrored and turned right",
}


def write_audit_page(audit: dict[str, Any], root: Path, path: Path, *, title: str) -> None:
    """Write the page of an audit; it needs no network and no other file.

    Args:
        audit: of :func:`datamodules.audit.audit_dataset`.
        root: folder that the image paths are relative to. Pictures that cannot be read now are named, not shown.
        path: the HTML file; its folder is created, the file replaced as a whole.
        title: heading of the page.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({"count": _count, "figure": _figure, "share": _share})
    page = environment.get_template("audit.html.j2").render(
        title=title,
        audit=audit,
        group=audit["group_name"],
        facts=FILE_FACTS,
        most=_MOST_ROWS,
        pairs=[_shown(pair, root, audit["group_name"]) for pair in audit["pictures"][:MOST_PICTURES]],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(page, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _shown(pair: dict[str, Any], root: Path, group: str) -> dict[str, Any]:
    """A pair with both pictures as data URIs and its relation in words."""
    how = "identical files" if pair["identical"] else f"similarity {pair['similarity']:.3f}"
    if pair["transform"] != "identity":
        how += f", second {_MOVES[pair['transform']]}"
    return {
        "kind": pair["kind"],
        "relation": _KINDS[pair["kind"]].format(group=group),
        "how": how,
        "sides": [{**pair[side], "image": _data_uri(root, pair[side])} for side in ("first", "second")],
    }


def _data_uri(root: Path, file: dict[str, Any]) -> str:
    """The picture as a small JPEG in its own aspect ratio; empty if it cannot be read."""
    try:
        square = read_image(root / file["path"], _SIDE, 3)
    except (UnreadableImageError, OSError):
        return ""
    width, height = max(file["width"], 1), max(file["height"], 1)
    scale = _SIDE / max(width, height)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    picture = cv2.cvtColor(cv2.resize(square, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    written, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}" if written else ""


def _count(number: int) -> str:
    return f"{number:,}"


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "n/a"

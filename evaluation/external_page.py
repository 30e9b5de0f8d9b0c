"""The pages of an external validation and of several: `report.html`, one self-contained file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from evaluation.figures_robustness import transfer_dots
from evaluation.pages import render, save_figures, write_whole
from evaluation.transfer import seen_in_words


def write_external_page(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write `figures/` and `report.html`.

    Args:
        folder: where external.json lies, and a folder for each run.
        content: of external.json.

    Returns:
        Path of the page. It needs no network; it links to the reports of the runs in the folders beside it.
    """
    name, rows = content["tested_on"]["name"], content["rows"]
    figures: dict[str, Figure] = {}
    if any(row["external"]["auroc"]["value"] is not None or row["own"] for row in rows):
        figures["transfer"] = transfer_dots(rows, external=name, phantom=content["phantom"])
    page = render(
        "report_external.html.j2",
        title=content["title"],
        figures=figures,
        eyebrow=("external validation",),
        sections=[
            ("summary", "Result"),
            ("matrix", "Trained on, tested on"),
            ("data", "The external data"),
            ("method", "How it was done"),
        ],
        phantom=content["phantom"],
        r=content,
        seen=[seen_in_words(row["seen"], content["group_name"]) for row in rows],
    )
    save_figures(figures, folder / "figures")
    return write_whole(folder / "report.html", page.encode())


def write_matrix_page(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write `report.html` of several external tests.

    Args:
        folder: where aggregate.json lies. ``content``: of it, as :mod:`workflow.external_matrix` makes it.

    Returns:
        Path of the page. It needs no network and no other file.
    """
    page = render(
        "report_external_matrix.html.j2",
        title=content["title"],
        figures={},
        eyebrow=("external validation", f"{len(content['source'])} records"),
        sections=[
            ("summary", "Result"),
            ("matrix", "Trained on, tested on"),
            ("tests", "The tests"),
            ("method", "How it was done"),
        ],
        phantom=content["phantom"],
        r=content,
    )
    return write_whole(folder / "report.html", page.encode())

"""The page of images that a model should not answer on: `report.html`, one self-contained file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.figures_inputs import inputs_figure
from evaluation.pages import render, save_figures, write_whole


def write_foreign_page(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write `figures/` and `report.html` beside foreign.json, whose content is given; returns the path of the page."""
    figures = {"inputs": inputs_figure(content)}
    title = f"Phantom data - {content['title']}" if content["phantom"] else content["title"]
    page = render(
        "report_foreign.html.j2",
        title=title,
        figures=figures,
        eyebrow=("unknown inputs", str(content["task"])),
        sections=[("inputs", "Result"), ("method", "How it was done")],
        phantom=content["phantom"],
        version=content.get("version"),
        c=content,
    )
    save_figures(figures, folder / "figures")
    return write_whole(folder / "report.html", page.encode())

"""The page of a robustness test: `report.html`, one self-contained file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.figures_robustness import robustness_panels
from evaluation.pages import render, save_figures, write_whole


def write_robustness_page(folder: Path, content: Mapping[str, Any], examples: Mapping[str, Any]) -> Path:
    """Write `figures/` and `report.html`.

    Args:
        folder: where robustness.json lies.
        content: of robustness.json.
        examples: `image_id`, and `kinds`: for each kind the same image at strengths 0 to 5, as data URIs.

    Returns:
        Path of the page. It needs no network and no other file.
    """
    figures = {"robustness": robustness_panels(content["clean"], content["kinds"], phantom=content["phantom"])}
    title = f"Phantom data - {content['title']}" if content["phantom"] else content["title"]
    sections = [
        ("summary", "Result"),
        ("corruptions", "Metric against strength"),
        ("cells", "All numbers"),
        ("pictures", "What it looks like"),
        ("method", "How it was done"),
    ]
    page = render(
        "report_robustness.html.j2",
        title=title,
        figures=figures,
        eyebrow=("robustness", str(content["task"])),
        sections=sections,
        phantom=content["phantom"],
        version=content.get("version"),
        r=content,
        examples=examples,
    )
    save_figures(figures, folder / "figures")
    return write_whole(folder / "report.html", page.encode())

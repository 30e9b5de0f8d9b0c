"""The page of many runs: `report.html`, one self-contained file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from evaluation.figures_aggregate import configuration_dots
from evaluation.figures_style import mark_leaky
from evaluation.pages import render, save_figures, write_whole

TILES: Final = ("AUROC", "macro AUROC", "balanced accuracy", "sensitivity", "specificity")


def write_aggregate_page(folder: Path) -> Path:
    """Write `report.html` of an aggregation, and its figures as files.

    Args:
        folder: holds aggregate.json of :mod:`workflow.aggregating`.

    Returns:
        Path of the page. It needs no network and no other file.
    """
    content = json.loads((folder / "aggregate.json").read_text(encoding="utf-8"))
    drawn = aggregate_figures(content)
    save_figures(drawn, folder / "figures")
    rows = content["configurations"]
    several = len(rows) > 1
    page = render(
        "report_aggregate.html.j2",
        title=content["title"],
        figures=drawn,
        eyebrow=["aggregation", f"{len(content['runs'])} runs"],
        sections=[
            ("summary", "Answer"),
            ("configurations", "Configurations" if several else "All runs together"),
            ("figures", "Figures"),
            ("runs", "Runs"),
            ("next", "What to do next"),
            ("method", "Method"),
        ],
        phantom=content["phantom"],
        leaky="Some runs cut images of one group onto both sides. Figures may be too good." if content["leak"] else "",
        version=content["version"],
        m=content,
        best=rows[content["best"]["configuration"]],
        ranked=_ranked(content),
        shown=[name for name in TILES if name in content["figures"]],
    )
    return write_whole(folder / "report.html", page.encode())


def _ranked(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The configurations, the best on validation first."""

    def mean(row: Mapping[str, Any]) -> float:
        value = row["val"][content["best"]["by"]]["mean"]
        return -1.0 if value is None else float(value)

    return sorted(content["configurations"], key=lambda row: (-mean(row), row["number"]))


def aggregate_figures(content: Mapping[str, Any]) -> dict[str, Figure]:
    """Dots of all runs: the figure of the choice on validation, then each figure of ``TILES`` on test.

    Args:
        content: of aggregate.json.
    """
    rows, runs, phantom = _ranked(content), content["runs"], bool(content["phantom"])
    best = content["best"]["configuration"] if len(rows) > 1 else None
    wanted = [(content["best"]["by"], "val"), *((name, "test") for name in TILES if name in content["figures"])]
    figures = {}
    for metric, part in wanted:
        if any(run[part][metric]["value"] is not None for run in runs):
            name = f"{part}_{metric.replace(' ', '_').lower()}"
            figures[name] = configuration_dots(rows, runs, metric, part, best=best, phantom=phantom)
    if content["leak"]:
        for figure in figures.values():
            mark_leaky(figure)
    return figures

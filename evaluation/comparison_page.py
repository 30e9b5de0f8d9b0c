"""The page of a comparison: `report.html`, one self-contained file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluation.figures_comparison import difference_forest, roc_pair, score_scatter
from evaluation.figures_style import mark_leaky
from evaluation.pages import render, save_figures, write_whole
from evaluation.paired import row_of
from evaluation.paired_words import p_text

TILES: Final = ("auroc", "sensitivity", "specificity", "balanced_accuracy")


def write_comparison_page(folder: Path) -> Path:
    """Write `report.html` of a comparison, and its figures as files.

    Args:
        folder: holds comparison.json and scores.csv of :mod:`workflow.comparing`.

    Returns:
        Path of the page. It needs no network and no other file.
    """
    content = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    scores = pd.read_csv(folder / "scores.csv", dtype={"image_id": str, "group_id": str, "label": str})
    drawn = comparison_figures(content, scores)
    save_figures(drawn, folder / "figures")
    page = render(
        "report_comparison.html.j2",
        title=content["title"],
        figures=drawn,
        eyebrow=["comparison", f"{content['pairs'][0]['n']:,} test images"],
        sections=_sections(content),
        phantom=content["phantom"],
        leaky=_leaky(content),
        version=content["version"],
        m=content,
        pairs=[_pair(content, pair) for pair in content["pairs"]],
        p_text=p_text,
    )
    return write_whole(folder / "report.html", page.encode())


def _sections(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    first = ("summary", "Answer")
    return [
        first,
        ("models", "Models"),
        ("differences", "Differences"),
        ("decisions", "Decisions"),
        ("ranking", "Ranking"),
        ("disagreements", "Disagreements"),
        ("method", "Method"),
    ]


def _leaky(content: Mapping[str, Any]) -> str:
    leak = content.get("leak")
    if not leak:
        return ""
    return (
        f"{100 * leak['share']:.1f} % of the test images show a {leak['unit']} that a model was trained on. Every figure on this "
        "page may be too good."
    )


def _pair(content: Mapping[str, Any], pair: Mapping[str, Any]) -> dict[str, Any]:
    """A pair with what its part of the page needs."""
    runs = content["runs"]
    first, second = runs[pair["first"]], runs[pair["second"]]
    return {
        **pair,
        "a": first,
        "b": second,
        "letters": (first["letter"], second["letter"]),
        "key": f"{first['letter']}{second['letter']}",
        "tiles": [row for name in TILES if (row := row_of(pair, name))],
    }


def comparison_figures(content: Mapping[str, Any], scores: pd.DataFrame) -> dict[str, Figure]:
    """Three figures a pair, by ``<name>_<letters>``: differences, ROC curves, scores against each other.

    Args:
        content: of comparison.json. ``scores``: of scores.csv.
    """
    phantom, classes = bool(content["phantom"]), (content["positive_class"], content["negative_class"])
    labels = _labels(content, scores)
    figures: dict[str, Figure] = {}
    for pair in content["pairs"]:
        runs = [content["runs"][pair[side]] for side in ("first", "second")]
        letters = (runs[0]["letter"], runs[1]["letter"])
        key = "".join(letters)
        first, second = (scores[f"score_{letter}"].to_numpy(dtype=np.float64) for letter in letters)
        rows = [row for row in pair["differences"] if row["better"] == "higher"]
        if any(row["difference"]["value"] is not None for row in rows):
            figures[f"differences_{key}"] = difference_forest(rows, letters, phantom=phantom)
        if 0 < labels.sum() < len(labels):
            points = [(run["figures"]["sensitivity"]["value"], run["figures"]["specificity"]["value"]) for run in runs]
            named = (f"{letters[0]}: {runs[0]['name']}", f"{letters[1]}: {runs[1]['name']}")
            figures[f"roc_{key}"] = roc_pair(labels, (first, second), named, points, phantom=phantom)
        cuts = (runs[0]["threshold"], runs[1]["threshold"])
        figures[f"scores_{key}"] = score_scatter(labels, (first, second), cuts, letters, classes, phantom=phantom)
    if content.get("leak"):
        for figure in figures.values():
            mark_leaky(figure)
    return figures


def _labels(content: Mapping[str, Any], scores: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(scores["label"].isin(content["positive"]).to_numpy(), dtype=np.uint8)

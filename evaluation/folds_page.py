"""The page of a cross-validation: `report.html`, one self-contained file made from out-of-fold predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from evaluation.figures import Curve, confusion_matrix, mark_leaky, roc
from evaluation.pages import render, write_whole
from evaluation.predictions import Predictions, read_predictions
from evaluation.report_text import moment, percent, range_of, score

_SECTIONS: Final[tuple[tuple[str, str], ...]] = (
    ("results", "Results"),
    ("figures", "Decisions and ranking"),
    ("classes", "All classes"),
    ("threshold", "Threshold"),
    ("run", "Run snapshot"),
)


def write_folds_page(folder: Path) -> Path:
    """Write `report.html` of a cross-validation.

    Args:
        folder: Holds metrics.json (with `pooled` and `ensemble`), run.json and predictions/out_of_fold.csv; data_card.json adds
            the counts.

    Returns:
        Path of the page. It needs no network and no other file.
    """
    metrics, run, card = (_json(folder / name) for name in ("metrics.json", "run.json", "data_card.json"))
    joined = read_predictions(
        folder / "predictions" / "out_of_fold.csv",
        metrics["classes"],
        metrics["positive"],
        metrics["positive_class"],
        metrics["negative_class"],
    )
    several = metrics["pooled"].get("multiclass")
    finished = [moment(run["finished"])] if run.get("finished") else []
    page = render(
        "report_folds.html.j2",
        title=f"LEAKY - {metrics['title']}" if metrics["leak"] else metrics["title"],
        figures=_figures(metrics, joined),
        eyebrow=["cross-validation", *finished],
        sections=[part for part in _SECTIONS if several or part[0] != "classes"],
        phantom=bool(metrics["phantom"]),
        leaky=_leaky(metrics),
        version=run.get("version"),
        m=metrics,
        held=metrics["ensemble"],
        several=several,
        run=run,
        card=card,
    )
    return write_whole(folder / "report.html", page.encode())


def _leaky(metrics: dict[str, Any]) -> str:
    leak = metrics["leak"]
    if not leak:
        return ""
    return (
        f"{percent(leak['share'])} of the images show a {leak['unit']} that the network scoring them was trained on. "
        "Every figure on this page may be too good."
    )


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _figures(metrics: dict[str, Any], joined: Predictions) -> dict[str, Figure]:
    """The ROC curve of all folds together and, of three or more classes, the confusion matrix."""
    pooled, phantom = metrics["pooled"], bool(metrics["phantom"])
    within = f" ({range_of(pooled['auroc'])})" if range_of(pooled["auroc"]) else ""
    curve = Curve(f"out of fold {score(pooled['auroc']['value'])}{within}", joined.labels, joined.scores, "test")
    points = {"each fold's own threshold": pooled["at_threshold"], "threshold 0.5": pooled["at_0.5"]}
    figures = {}
    if pooled["auroc"]["value"] is not None:
        figures["roc"] = roc([curve], points, phantom=phantom)
    several = pooled.get("multiclass")
    if several:
        figures["confusion_matrix"] = confusion_matrix(
            several["confusion"], metrics["classes"], title="Confusion matrix, out of fold", phantom=phantom
        )
    if metrics["leak"]:
        for figure in figures.values():
            mark_leaky(figure)
    return figures

"""The page of a cross-validation: `report.html`, one self-contained file made from out-of-fold predictions."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from evaluation.figures import Curve, confusion_matrix, mark_leaky, roc, svg
from evaluation.predictions import Predictions, read_predictions
from evaluation.report import NOTICE
from evaluation.report_text import FILTERS, range_of, score

_HERE: Final = Path(__file__).parent


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
    figures = {name: Markup(svg(figure)) for name, figure in _figures(metrics, joined).items()}
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(FILTERS)
    title = f"LEAKY - {metrics['title']}" if metrics["leak"] else metrics["title"]
    page = environment.get_template("report_folds.html.j2").render(
        css=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        notice=NOTICE,
        title=title,
        m=metrics,
        held=metrics["ensemble"],
        several=metrics["pooled"].get("multiclass"),
        figures=figures,
        run=run,
        card=card,
    )
    path, beside = folder / "report.html", folder / f".report.html.{os.getpid()}"
    beside.write_text(page, encoding="utf-8")
    os.replace(beside, path)
    return path


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

"""From the files of a run to its figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from evaluation.figures import (
    Curve,
    Estimate,
    SlopePanel,
    auroc_forest,
    class_dots,
    confusion_matrix,
    confusion_pair,
    learning_curves,
    mark_leaky,
    precision_recall,
    roc,
    score_histogram,
    shift_slope,
)
from evaluation.figures_curves import Role
from evaluation.report_files import RunFiles
from evaluation.report_parts import baseline_called
from evaluation.report_text import range_of, score, threshold


def build_figures(run: RunFiles) -> dict[str, Figure]:
    """All figures that the files allow, by the name of their file, in the order of the page."""
    metrics = run.metrics
    phantom = bool(metrics["phantom"])
    classes = (metrics["negative_class"], metrics["positive_class"])
    cut = float(run.threshold["threshold"])
    test = metrics["splits"]["test"]
    points = {f"locked threshold {threshold(cut)}": test["at_threshold"], "threshold 0.5": test["at_0.5"]}
    figures = {
        "auroc_forest": auroc_forest(_estimates(metrics), phantom=phantom),
        "confusion": confusion_pair(test["at_0.5"], test["at_threshold"], classes, phantom=phantom),
        "roc": roc(_curves(run, "auroc"), points, phantom=phantom),
        "precision_recall": precision_recall(_curves(run, "average_precision"), points, phantom=phantom),
    }
    if metrics.get("baselines"):
        figures["baselines"] = auroc_forest(
            _beside_baselines(metrics),
            title="Model and baselines, test",
            subtitle="AUROC; dot: estimate, line: its interval",
            phantom=phantom,
        )
    if run.history is not None:
        best = (run.run or {}).get("best_epoch")
        figures["learning_curves"] = learning_curves(run.history, best_epoch=best, phantom=phantom)
    for name, other, title in (("val", "test", "Scores on validation"), ("test", "val", "Scores on test")):
        held = run.scores[name]
        figures[f"scores_{name}"] = score_histogram(
            held.labels, held.scores, cut, classes, title=title, beside=run.scores[other].scores, phantom=phantom
        )
    figures["shift"] = shift_slope(_panels(metrics), baseline=baseline_called(metrics), phantom=phantom)
    several = test.get("multiclass")
    if several:
        names = metrics["classes"]
        figures["confusion_matrix"] = confusion_matrix(
            several["confusion"], names, title="Confusion matrix, test", phantom=phantom
        )
        figures["classes"] = class_dots(several["classes"], metrics["positive"], phantom=phantom)
    if metrics.get("leak"):
        for figure in figures.values():
            mark_leaky(figure)
    return figures


def _estimates(metrics: Mapping[str, Any]) -> list[Estimate]:
    rows = [
        Estimate("model, validation", metrics["splits"]["val"]["auroc"]),
        Estimate("model, test", metrics["splits"]["test"]["auroc"]),
    ]
    baseline = metrics.get("baseline")
    if baseline:
        name = baseline_called(metrics)
        rows.append(Estimate(f"{name}, validation", baseline["val"]["auroc"], baseline=True))
        rows.append(Estimate(f"{name}, test", baseline["test"]["auroc"], baseline=True))
    return rows


def _beside_baselines(metrics: Mapping[str, Any]) -> list[Estimate]:
    """The model, then the baselines from the strongest on validation down."""
    ordered = sorted(metrics["baselines"], key=lambda row: -(row["val_auroc"] or 0.0))
    model = Estimate(f"{metrics['model']}, this run", metrics["splits"]["test"]["auroc"])
    return [model, *(Estimate(row["short"], row["auroc"], baseline=True) for row in ordered)]


def _curves(run: RunFiles, metric: str) -> list[Curve]:
    """Baseline on test, model on validation, model on test: the last is drawn on top."""
    splits = run.metrics["splits"]
    sources: list[tuple[str, str, Role, Mapping[str, Any] | None]] = [
        ("test", "test", "test", splits["test"]),
        ("val", "validation", "validation", splits["val"]),
        (
            *("baseline_test", f"{baseline_called(run.metrics)}, test", "baseline"),
            (run.metrics.get("baseline") or {}).get("test"),
        ),
    ]
    curves = []
    for file, name, role, summary in sources:
        if file in run.scores and summary is not None:
            interval = summary.get(metric)
            value = f" {score(interval['value'])}" if interval else ""
            within = f" ({range_of(interval)})" if interval and range_of(interval) else ""
            curves.append(Curve(f"{name}{value}{within}", run.scores[file].labels, run.scores[file].scores, role))
    return curves


def _panels(metrics: Mapping[str, Any]) -> list[SlopePanel]:
    """One panel a row of the shift table; the baseline beside it where it has the same metric."""
    baseline = metrics.get("baseline") or {}
    panels = []
    for row in metrics["shift"]["table"]:
        # "Specificity at the threshold": the panel's title has room for the first word.
        name = row["metric"].split()[0]
        held = [_baseline_metric(baseline.get(split) or {}, name.lower()) for split in ("val", "test")]
        panels.append(SlopePanel(name, row["val"], row["test"], held[0], held[1]))
    return panels


def _baseline_metric(split: Mapping[str, Any], metric: str) -> Mapping[str, Any] | None:
    """Sensitivity and specificity of the baseline are those at a threshold of its own, found by the same rule."""
    found = split.get(metric) or (split.get("at_threshold") or {}).get(metric)
    return found if isinstance(found, Mapping) else None

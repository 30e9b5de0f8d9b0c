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
from evaluation.figures_benefit import benefit_figure
from evaluation.figures_calibration import calibration_figure
from evaluation.figures_curves import Role
from evaluation.figures_decisions import confusion
from evaluation.figures_inputs import inputs_figure
from evaluation.report_files import RunFiles
from evaluation.report_parts import baseline_called, fixed_when
from evaluation.report_text import range_of, score, threshold


def build_figures(run: RunFiles) -> dict[str, Figure]:
    """All figures that the files allow, by the name of their file, in the order of the page."""
    metrics, phantom = run.metrics, bool(run.metrics["phantom"])
    figures = {**_ranking(run, phantom), **_decisions(run, phantom), **_training(run, phantom), **_scores(run, phantom)}
    panels = _panels(metrics)
    if panels:
        figures["shift"] = shift_slope(panels, baseline=baseline_called(metrics), phantom=phantom)
    if metrics.get("calibration"):
        figures["calibration"] = calibration_figure(metrics, phantom)
    if metrics.get("decision_curve"):
        figures["benefit"] = benefit_figure(metrics, phantom)
    figures |= _classes(metrics, phantom)
    if run.inputs:
        figures["inputs"] = inputs_figure(run.inputs)
    if metrics.get("leak"):
        for figure in figures.values():
            mark_leaky(figure)
    return figures


def _ranking(run: RunFiles, phantom: bool) -> dict[str, Figure]:
    """AUROC of the model and of baselines, and the curves; nothing where the test set holds one class only."""
    metrics, test = run.metrics, run.metrics["splits"]["test"]
    figures = {}
    if any(row.interval["value"] is not None for row in _estimates(metrics)):
        figures["auroc_forest"] = auroc_forest(_estimates(metrics), phantom=phantom)
    if test["auroc"]["value"] is not None:
        cut = test["at_threshold"]["threshold"]
        locked = "locked " if "val" in run.scores and fixed_when(run) != "after" else ""
        points = {f"{locked}threshold {threshold(cut)}": test["at_threshold"]}
        if cut != 0.5:
            points["threshold 0.5"] = test["at_0.5"]
        figures["roc"] = roc(_curves(run, "auroc"), points, phantom=phantom)
        figures["precision_recall"] = precision_recall(_curves(run, "average_precision"), points, phantom=phantom)
    if metrics.get("baselines"):
        figures["baselines"] = auroc_forest(
            _beside_baselines(metrics),
            title="Model and baselines, test",
            subtitle="AUROC; dot: estimate, line: its interval",
            phantom=phantom,
        )
    return figures


def _decisions(run: RunFiles, phantom: bool) -> dict[str, Figure]:
    test = run.metrics["splits"]["test"]
    classes = (run.metrics["negative_class"], run.metrics["positive_class"])
    if test["at_threshold"]["threshold"] == 0.5:
        return {"confusion": confusion(test["at_threshold"], classes, title="Confusion matrix, test", phantom=phantom)}
    return {"confusion": confusion_pair(test["at_0.5"], test["at_threshold"], classes, phantom=phantom)}


def _training(run: RunFiles, phantom: bool) -> dict[str, Figure]:
    if run.history is None:
        return {}
    best = (run.run or {}).get("best_epoch")
    return {"learning_curves": learning_curves(run.history, best_epoch=best, phantom=phantom)}


def _scores(run: RunFiles, phantom: bool) -> dict[str, Figure]:
    """Score histograms on a common axis."""
    classes = (run.metrics["negative_class"], run.metrics["positive_class"])
    figures = {}
    for name, other, title in (("val", "test", "Scores on validation"), ("test", "val", "Scores on test")):
        if name in run.scores:
            held, beside = run.scores[name], run.scores.get(other)
            figures[f"scores_{name}"] = score_histogram(
                held.labels,
                held.scores,
                float(run.threshold["threshold"]),
                classes,
                title=title,
                beside=None if beside is None else beside.scores,
                phantom=phantom,
            )
    return figures


def _classes(metrics: Mapping[str, Any], phantom: bool) -> dict[str, Figure]:
    several = metrics["splits"]["test"].get("multiclass")
    if not several:
        return {}
    title = "Confusion matrix, test"
    return {
        "confusion_matrix": confusion_matrix(several["confusion"], metrics["classes"], title=title, phantom=phantom),
        "classes": class_dots(several["classes"], metrics["positive"], phantom=phantom),
    }


def _estimates(metrics: Mapping[str, Any]) -> list[Estimate]:
    """The model on each split, then the baseline on each."""
    named = [(side, called) for side, called in (("val", "validation"), ("test", "test")) if side in metrics["splits"]]
    rows = [Estimate(f"model, {called}", metrics["splits"][side]["auroc"]) for side, called in named]
    baseline = metrics.get("baseline")
    if baseline:
        name = baseline_called(metrics)
        rows += [Estimate(f"{name}, {called}", baseline[side]["auroc"], baseline=True) for side, called in named]
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
        ("val", "validation", "validation", splits.get("val")),
        (
            *("baseline_test", f"{baseline_called(run.metrics)}, test", "baseline"),
            (run.metrics.get("baseline") or {}).get("test"),
        ),
    ]
    curves = []
    for file, name, role, summary in sources:
        if file in run.scores and summary is not None and 0 < run.scores[file].labels.sum() < len(run.scores[file]):
            interval = summary.get(metric)
            value = f" {score(interval['value'])}" if interval else ""
            within = f" ({range_of(interval)})" if interval and range_of(interval) else ""
            curves.append(Curve(f"{name}{value}{within}", run.scores[file].labels, run.scores[file].scores, role))
    return curves


def _panels(metrics: Mapping[str, Any]) -> list[SlopePanel]:
    """One panel a row of the shift table; the baseline beside it where it has the same metric."""
    baseline = metrics.get("baseline") or {}
    panels = []
    for row in (metrics.get("shift") or {}).get("table") or []:
        # "Specificity at the threshold": the panel's title has room for the first word.
        name = row["metric"].split()[0]
        held = [_baseline_metric(baseline.get(split) or {}, name.lower()) for split in ("val", "test")]
        panels.append(SlopePanel(name, row["val"], row["test"], held[0], held[1]))
    return panels


def _baseline_metric(split: Mapping[str, Any], metric: str) -> Mapping[str, Any] | None:
    """Sensitivity and specificity of the baseline are those at a threshold of its own, found by the same rule."""
    found = split.get(metric) or (split.get("at_threshold") or {}).get(metric)
    return found if isinstance(found, Mapping) else None

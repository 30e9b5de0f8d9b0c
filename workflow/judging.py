"""From predictions to metrics.json and report.html."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conf.output import write_json
from datamodules.card import worries_of_data
from datamodules.prepared import PreparedData
from datamodules.thumbnails import thumbnails
from evaluation.judge import Thumbnails, judge_run
from evaluation.recalibration import Calibrator
from evaluation.threshold import OperatingPoint
from workflow.baselines import available_baselines, baseline_predictions
from workflow.data import title_of


def judge(
    settings: dict[str, Any],
    folder: Path,
    prepared: PreparedData,
    point: OperatingPoint,
    features: dict[str, Any] | None = None,
    calibrator: Calibrator | None = None,
) -> dict[str, Any]:
    """metrics.json, from the predictions files and the baselines on the same split.

    Args:
        point: fixed on validation. ``calibrator``: fitted there; None fits one.
        features: of the network before training, for the baseline ``features``; None leaves that one out.
    """
    task, manifest = settings["task"], prepared.manifest
    groups = manifest.frame["group_id"].to_numpy(dtype=str)
    parts = {}
    for part in ("train", "val", "test"):
        rows = prepared.splits.rows(part)
        parts[part] = Thumbnails(thumbnails(prepared.pixels, rows), manifest.targets[rows], groups[rows])
    metrics = judge_run(
        folder,
        point,
        parts,
        classes=manifest.classes,
        **{name: task[name] for name in ("positive", "positive_name", "negative_name")},
        baselines={
            name: baseline_predictions(name, settings, prepared, features=features)
            for name in available_baselines(settings, prepared, features)
        },
        leak=prepared.leak,
        test_kind="official" if prepared.splits.settings["kind"] in ("official", "predefined") else "cut",
        seed=settings["split"]["seed"],
        title=title_of(settings, prepared),
        task=task["name"],
        model=settings["model"]["name"],
        phantom=prepared.phantom,
        group_name=task["group_name"],
        **{name: settings["evaluation"][name] for name in ("bootstrap", "confidence", "interval", "prevalences")},
        beta=settings["threshold"]["beta"],
        calibrator=calibrator,
        subgroup_columns=manifest.subgroup_columns,
    )
    card = json.loads((folder / "data_card.json").read_text(encoding="utf-8"))
    leaky = 1 if prepared.leak else 0  # that comes first
    metrics["worries"][leaky:leaky] = worries_of_data(card)
    write_json(metrics, folder / "metrics.json")
    return metrics


def results(metrics: dict[str, Any]) -> dict[str, float]:
    """Final figures by tag, for TensorBoard and sweeps; NaN where a figure does not exist."""
    found: dict[str, float] = {}
    for part, split in metrics["splits"].items():
        figures = {name: split[name] for name in ("auroc", "average_precision")}
        figures |= {name: split["at_threshold"][name] for name in ("accuracy", "sensitivity", "specificity")}
        several = split.get("multiclass") or {}
        figures |= {name: several[name] for name in ("balanced_accuracy", "macro_auroc") if name in several}
        for name, figure in figures.items():
            found[f"{part}/{name}"] = float("nan") if figure["value"] is None else float(figure["value"])
    return found

"""What the page and ``/api/model`` say about the model: from the predictor, and from the files of its run where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from conf.heat_map_keys import METHODS
from evaluation.intervals import format_interval
from evaluation.model_card import model_card
from evaluation.report_files import ReportError, RunFiles, read_run
from evaluation.wording import plural
from serving.uploads import Limits
from workflow.heat_maps import POSITIVE
from workflow.predictor import Predictor

Facts = dict[str, Any]


def facts_of(
    predictor: Predictor, limits: Limits, *, abstain: bool, heat_maps: Mapping[str, Any], no_maps: str | None
) -> Facts:
    """Everything that ``/api/model`` says, as plain values.

    Args:
        limits: of one request. ``abstain``: whether the input check may turn images away.
        heat_maps: given of ``method`` and ``target``. ``no_maps``: why there are none; None where there are.
    """
    about, point = predictor.about, predictor.point
    checks = [check for check in predictor.checks if check is not None]
    run = _files_of(predictor.source)
    return {
        **{name: value for name, value in asdict(about).items() if name != "subject"},
        "subject": about.subject,
        "networks": len(predictor.networks),
        "classes": list(predictor.classes),
        "positive": list(predictor.positive),
        "threshold": {"value": point.threshold, "rule": point.rule, "statement": point.statement},
        "borderline_from": predictor.borderline_from,
        "calibrated": predictor.calibrator.acts,
        "input": predictor.decoding,
        "input_check": {
            "fitted": bool(checks),
            "abstains": bool(checks) and abstain,
            "alpha": checks[0].alpha if checks else None,
        },
        "heat_maps": {
            "available": no_maps is None,
            "method": heat_maps.get("method", METHODS[0]),
            "target": None if heat_maps.get("target") == POSITIVE else heat_maps.get("target"),
            "reason": no_maps,
        },
        "limits": {"max_bytes": limits.max_bytes, "max_files": limits.max_files, "max_pixels": limits.max_pixels},
        **_results(run, point.statement),
    }


def _files_of(source: Path) -> RunFiles | None:
    """The files of the run that a model belongs to; None where there is only the model."""
    folder = source.parent if source.name == "model" else source
    if not (folder / "metrics.json").is_file():
        return None
    try:
        return read_run(folder)
    except (ReportError, KeyError):
        return None


def _results(run: RunFiles | None, statement: str) -> Facts:
    if run is None or "test" not in run.metrics["splits"]:
        only = {"name": "Threshold", "text": statement, "by_hand": False, "ask": ""}
        return {"headline": [], "headline_about": None, "card": [{"heading": "Operating point", "rows": [only]}]}
    card = [
        {
            "heading": heading,
            "rows": [{"name": row.name, "text": row.text, "by_hand": row.by_hand, "ask": row.ask} for row in rows],
        }
        for heading, rows in model_card(run)
    ]
    return {"headline": headline_of(run.metrics), "headline_about": _about(run.metrics), "card": card}


_OF_CLASSES: Final = (
    ("Balanced accuracy", "balanced_accuracy", "mean over the classes of the share that is named rightly"),
    ("Macro AUROC", "macro_auroc", "how well each class is told from the others, averaged"),
)


def headline_of(metrics: Mapping[str, Any]) -> list[Facts]:
    """The few figures of the test that come first, with their intervals.

    Args:
        metrics: content of metrics.json.
    """
    test, positive, negative = metrics["splits"]["test"], metrics["positive_class"], metrics["negative_class"]
    at = test["at_threshold"]
    rows = [
        ("Sensitivity", at.get("sensitivity"), f"share of {positive} images that are called {positive}"),
        ("Specificity", at.get("specificity"), f"share of {negative} images that are called {negative}"),
        ("AUROC", test.get("auroc"), f"how well the score ranks {positive} above {negative}; 0.5 is chance, 1 perfect"),
    ]
    several = test.get("multiclass") or {}
    rows += [(name, several.get(key), meaning) for name, key, meaning in _OF_CLASSES]
    return [
        {
            "name": name,
            "value": held["value"],
            "low": held.get("low"),
            "high": held.get("high"),
            "text": format_interval(held),
            "meaning": meaning,
        }
        for name, held, meaning in rows
        if held and held.get("value") is not None
    ]


def _about(metrics: Mapping[str, Any]) -> str:
    test, group = metrics["splits"]["test"], metrics["group_name"]
    of = "" if group == "image" else f" of {plural(test['n_groups'], group)}"
    return (
        f"On {plural(test['n'], 'test image')}{of} that training never saw, at the locked threshold; in brackets "
        f"{100 * metrics['confidence']:g} % intervals."
    )

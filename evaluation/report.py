"""The page that a run leaves: `report.html`, one self-contained file made from the files of the run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from jinja2 import UndefinedError
from matplotlib.figure import Figure

from evaluation.model_card import model_card
from evaluation.pages import NOTICE, render, save_figures, write_whole
from evaluation.report_checks import Check, checks_of
from evaluation.report_figures import build_figures
from evaluation.report_files import ReportError, RunFiles, read_run
from evaluation.report_parts import (
    BASELINE_NOTES,
    audit_part,
    baseline_called,
    card_of,
    fixed_when,
    rescued,
    stages_of,
    subgroup_tables,
    worries_of_page,
)
from evaluation.report_rivals import rivals_card, standing
from evaluation.report_tables import curve_tables, score_table
from evaluation.report_text import moment, percent
from evaluation.wording import test_part_of

__all__ = ["NOTICE", "ReportError", "write_report"]

LARGEST_PAGE: Final = 5_000_000


@dataclass(frozen=True)
class _Part:
    """One section of the page: its anchor, its name in the contents, its template and when it is there."""

    id: str
    name: str
    template: str
    there: Callable[[RunFiles, Mapping[str, Figure]], bool] = lambda run, figures: True


def _test(run: RunFiles) -> dict[str, Any]:
    return dict(run.metrics["splits"]["test"])


def _ours(run: RunFiles) -> bool:
    """Whether the model is a run of ours: of another tool's predictions nobody expects pictures or learning curves."""
    return run.metrics.get("test_kind") not in ("given", "external")


_PARTS: Final[tuple[_Part, ...]] = (
    _Part("results", "Results", "report_results.html.j2"),
    _Part("baselines", "Baselines", "report_baselines.html.j2", lambda run, _: bool(run.metrics.get("baselines"))),
    _Part("classes", "All classes", "report_classes.html.j2", lambda run, _: bool(_test(run).get("multiclass"))),
    _Part("operating-point", "Operating point", "report_point.html.j2"),
    _Part("confusion", "Decisions", "report_decisions.html.j2"),
    _Part("curves", "ROC and precision-recall", "report_curves.html.j2"),
    _Part("calibration", "Calibration", "report_calibration.html.j2", lambda _, figures: "calibration" in figures),
    _Part("benefit", "Benefit", "report_benefit.html.j2", lambda _, figures: "benefit" in figures),
    _Part("scores", "Scores", "report_scores.html.j2"),
    _Part("shift", "Validation to test", "report_shift.html.j2", lambda run, _: bool(run.metrics.get("shift"))),
    _Part(
        "mistakes", "Worst mistakes", "report_gallery.html.j2", lambda run, _: _ours(run) or run.mistakes is not None
    ),
    _Part("inputs", "Unknown inputs", "report_inputs.html.j2", lambda run, _: run.inputs is not None),
    _Part("subgroups", "Subgroups", "report_subgroups.html.j2"),
    _Part("audit", "Audit of the data", "report_audit.html.j2", lambda run, _: _ours(run) or bool(run.audit)),
    _Part("data", "Data card", "report_data.html.j2", lambda run, _: _ours(run) or bool(run.data_card)),
    _Part("training", "Training", "report_training.html.j2", lambda run, _: _ours(run) or run.history is not None),
    _Part("card", "Model card", "report_card.html.j2"),
    _Part("run", "Run snapshot", "report_run.html.j2"),
)


def write_report(run_dir: Path) -> Path:
    """Write `figures/*.png`, `figures/*.svg` and `report.html` of a finished run or of a record of evaluate.py.

    Args:
        run_dir: Folder with metrics.json, threshold.json, predictions/test.csv and, where metrics.json has a validation
            part, predictions/val.csv. Optional files (predictions of baselines, history.csv, data_card.json, audit.json,
            run.json, config.yaml, figures/mistakes/mistakes.json) add their sections; without them the page says what is
            missing.

    Returns:
        Path of the page. It needs no network and no other file.

    Raises:
        ReportError: A required file is missing, unreadable, or contradicts another one.
    """
    run = read_run(run_dir)
    try:
        figures = build_figures(run)
        page = _page(run, figures)
    except (KeyError, UndefinedError) as error:
        raise ReportError(f"{run_dir}: metrics.json lacks a field ({error}). Evaluate the run again.") from error
    save_figures(figures, run_dir / "figures")
    return write_whole(run_dir / "report.html", page.encode())


def _page(run: RunFiles, figures: dict[str, Figure]) -> str:
    """The page with the pictures that fit: where they make it too large, again without them."""
    page = _render(run, figures)
    if len(page.encode()) > LARGEST_PAGE and run.mistakes:
        page = _render(run.without_pictures(), figures)
    return page


def _render(run: RunFiles, figures: dict[str, Figure]) -> str:
    metrics, snapshot = run.metrics, run.run or {}
    parts = [part for part in _PARTS if part.there(run, figures)]
    finished = [moment(snapshot["finished"])] if snapshot.get("finished") else []
    history = _history(run)
    return render(
        "report.html.j2",
        title=_title(metrics),
        figures=figures,
        eyebrow=["evaluation report", *finished],
        sections=[(part.id, part.name) for part in parts],
        phantom=bool(metrics["phantom"]),
        leaky=_leaky(metrics),
        version=snapshot.get("version"),
        parts=[part.template for part in parts],
        files=run,
        m=metrics,
        threshold=run.threshold,
        checks=[_within(check, parts) for check in checks_of(run)],
        worries=worries_of_page(run),
        test_part=test_part_of(metrics),
        rescued=rescued(run) if _test(run).get("multiclass") else None,
        subgroups=subgroup_tables(metrics),
        audit=run.audit and audit_part(run),
        data=card_of(run),
        history=history,
        has_stages=stages_of(history),
        model_notes=snapshot.get("model_notes") or [],
        model_card=model_card(run),
        baseline_called=baseline_called(metrics),
        baseline_notes=BASELINE_NOTES,
        ours=_ours(run),
        rivals=rivals_card(metrics),
        standing=standing,
        curve_tables=curve_tables(run),
        score_table=score_table(run),
        c=run.inputs,
        **_short_names(run),
    )


def _short_names(run: RunFiles) -> dict[str, Any]:
    """What every partial calls by a short name. ``val`` is None where there are no validation predictions."""
    metrics = run.metrics
    splits = metrics["splits"]
    return {
        "val": splits.get("val"),
        "fixed": fixed_when(run),
        "locked": "val" in splits and fixed_when(run) != "after",
        "test": splits["test"],
        "now": splits["test"]["at_threshold"],
        "half": splits["test"]["at_0.5"],
        "several": splits["test"].get("multiclass"),
        "group": metrics["group_name"],
        "pos": metrics["positive_class"],
        "neg": metrics["negative_class"],
        "level": round(100 * metrics["confidence"]),
        "baseline": metrics.get("baseline"),
    }


def _within(check: Check, parts: list[_Part]) -> Check:
    """The check with a link that leads somewhere on this page."""
    return check if check.href in {part.id for part in parts} else replace(check, href="worries")


def _title(metrics: dict[str, Any]) -> str:
    title = str(metrics["title"])
    if metrics["phantom"] and not title.startswith("Phantom data"):
        title = f"Phantom data - {title}"
    return f"LEAKY - {title}" if metrics.get("leak") else title


def _leaky(metrics: dict[str, Any]) -> str:
    leak = metrics.get("leak")
    if not leak:
        return ""
    return (
        f"{percent(leak['share'])} of the test images show a {leak['unit']} that is also in training. "
        "Every figure on this page may be too good."
    )


def _history(run: RunFiles) -> list[dict[str, Any]]:
    """Rows of history.csv with None for gaps."""
    if run.history is None:
        return []
    records = run.history.astype(object).where(run.history.notna(), None).to_dict("records")
    return [{str(key): value for key, value in record.items()} for record in records]

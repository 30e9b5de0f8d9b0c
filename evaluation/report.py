"""The page that a run leaves: `report.html`, one self-contained file made from the files of the run folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from markupsafe import Markup
from matplotlib.figure import Figure

from evaluation.figures import standalone_svg, svg
from evaluation.report_figures import build_figures
from evaluation.report_files import ReportError, RunFiles, read_run
from evaluation.report_parts import (
    BASELINE_NOTES,
    audit_part,
    baseline_called,
    card_of,
    rescued,
    stages_of,
    subgroup_tables,
    worries_of_page,
)
from evaluation.report_text import FILTERS
from evaluation.wording import test_part_of

__all__ = ["ReportError", "write_report"]

NOTICE: Final = "Research and education only; not a medical device."
_HERE: Final = Path(__file__).parent
_PNG_DPI: Final = 200
_SECTIONS: Final[tuple[tuple[str, str], ...]] = (
    ("results", "Results"),
    ("baselines", "Baselines"),
    ("classes", "All classes"),
    ("operating-point", "Operating point"),
    ("confusion", "Decisions"),
    ("curves", "ROC and precision-recall"),
    ("training", "Training"),
    ("scores", "Scores"),
    ("shift", "Validation to test"),
    ("mistakes", "Worst mistakes"),
    ("subgroups", "Subgroups"),
    ("audit", "Audit of the data"),
    ("data", "Data card"),
    ("run", "Run snapshot"),
)


def write_report(run_dir: Path) -> Path:
    """Write `figures/*.png`, `figures/*.svg` and `report.html` of a finished run.

    Args:
        run_dir: Run folder with metrics.json, threshold.json, predictions/val.csv and predictions/test.csv. Optional
            files (predictions of baselines, history.csv, data_card.json, audit.json, run.json, config.yaml,
            figures/mistakes/mistakes.json) add their sections; without them the page says what is missing.

    Returns:
        Path of the page. It needs no network and no other file.

    Raises:
        ReportError: A required file is missing, unreadable, or contradicts another one.
    """
    run = read_run(run_dir)
    try:
        figures = build_figures(run)
        page = _render(run, {name: Markup(svg(figure)) for name, figure in figures.items()})
    except (KeyError, UndefinedError) as error:
        raise ReportError(f"{run_dir}: metrics.json lacks a field ({error}). Evaluate the run again.") from error
    _save(figures, run_dir / "figures")
    return _write_atomically(run_dir / "report.html", page.encode())


def _render(run: RunFiles, figures: dict[str, Markup]) -> str:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    several = run.metrics["splits"]["test"].get("multiclass")
    absent = {name for name, there in (("classes", several), ("baselines", run.metrics.get("baselines"))) if not there}
    history = _history(run)
    environment.filters.update({name: _named(function) for name, function in FILTERS.items()})
    return environment.get_template("report.html.j2").render(
        css=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        notice=NOTICE,
        title=_title(run.metrics),
        sections=[part for part in _SECTIONS if part[0] not in absent],
        files=run,
        m=run.metrics,
        threshold=run.threshold,
        figures=figures,
        worries=worries_of_page(run),
        test_part=test_part_of(run.metrics),
        several=several,
        rescued=rescued(run) if several else None,
        subgroups=subgroup_tables(run.metrics),
        audit=run.audit and audit_part(run),
        data=card_of(run),
        history=history,
        has_stages=stages_of(history),
        model_notes=(run.run or {}).get("model_notes") or [],
        baseline_called=baseline_called(run.metrics),
        baseline_notes=BASELINE_NOTES,
    )


def _named(function: Callable[..., str]) -> Callable[..., str]:
    """The same filter; a field that does not exist is named instead of failing as a wrong type."""

    def checked(value: Any, *options: Any) -> str:
        return function(str(value) if isinstance(value, StrictUndefined) else value, *options)

    return checked


def _title(metrics: dict[str, Any]) -> str:
    title = str(metrics["title"])
    if metrics["phantom"] and not title.startswith("Phantom data"):
        title = f"Phantom data - {title}"
    return f"LEAKY - {title}" if metrics.get("leak") else title


def _history(run: RunFiles) -> list[dict[str, Any]]:
    """Rows of history.csv with None for gaps."""
    if run.history is None:
        return []
    records = run.history.astype(object).where(run.history.notna(), None).to_dict("records")
    return [{str(key): value for key, value in record.items()} for record in records]


def _save(figures: dict[str, Figure], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        _write_atomically(folder / f"{name}.svg", standalone_svg(figure).encode())
        temporary = folder / f".{name}.{os.getpid()}.png"
        figure.savefig(temporary, dpi=_PNG_DPI, bbox_inches="tight", pad_inches=0.12, metadata={"Software": None})
        os.replace(temporary, folder / f"{name}.png")


def _write_atomically(path: Path, content: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
    return path

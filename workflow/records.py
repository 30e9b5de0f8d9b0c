"""What every record of ``evaluate.py`` has in common: its folder, run.json without torch, and its files in one order."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from conf.output import write_json
from conf.schema import RESEARCH_NOTICE, EvaluationConfig
from evaluation.predictions import Predictions, write_predictions
from evaluation.report import write_report
from evaluation.report_text import place
from evaluation.threshold import Infeasible, OperatingPoint, choose_operating_point
from evaluation.wording import Worry
from workflow.ensembles import require_new, with_worries
from workflow.intact import object_in

PACKAGES: Final = ("numpy", "scipy", "pandas", "scikit-learn", "matplotlib")
JUDGING: Final = ("bootstrap", "confidence", "interval", "prevalences")


def folder_for(task: str, output: Path | None) -> Path:
    """Where a record goes: the wanted folder, or ``evaluations/<task>/<date_time>``.

    Raises:
        ValueError: it is already there and not empty.
    """
    moment = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = (output or Path("evaluations") / task / moment).absolute()
    require_new(folder)
    return folder


def started() -> str:
    """The time as run.json holds it."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def shown(path: Path) -> str:
    """A place as a page that is passed on names it: from where the command was typed; of one elsewhere only the end."""
    return str(place(os.path.abspath(path)))


def point_asked_for(val: Predictions, asked: Mapping[str, Any], **arguments: Any) -> OperatingPoint:
    """The operating point that the command line asked for, on validation.

    Args:
        asked: given keys of ``threshold.*``. ``arguments``: of :func:`evaluation.threshold.choose_operating_point`, replaced by
            those of ``asked``.

    Raises:
        ValueError: validation cannot certify or reach it. Only what was asked for by name is refused, and not where
            ``infeasible`` was given too: nobody should take an empirical threshold for the promise that they asked for.
    """
    if asked:
        arguments["infeasible"] = "refuse"
    arguments |= {"fixed" if key == "value" else key: value for key, value in asked.items()}
    try:
        return choose_operating_point(val, **arguments)
    except Infeasible as error:
        raise ValueError(
            f"{error} Or add threshold.infeasible=empirical: the threshold is then without this promise, and the record says so."
        ) from error


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def light_record(title: str, command: str, begun: str, **facts: Any) -> dict[str, Any]:
    """run.json of something that trains nothing: no torch is imported for it.

    Args:
        begun: of :func:`started`. ``facts``: what else is known, which replaces fields of the same name.
    """
    return {
        "status": "finished",
        "version": _version("firstread"),
        "started": begun,
        "finished": started(),
        "durations": {},
        "title": title,
        "command": command,
        "seeds": {},
        "phantom": False,
        "notice": RESEARCH_NOTICE,
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        **facts,
    }


def judging_of(given: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """How intervals are made: what was asked for, else what the source did, else the usual values."""
    usual = EvaluationConfig()
    chosen = {name: getattr(usual, name) for name in JUDGING} | {"seed": 0}
    return {**chosen, **(stored or {}), **given}


def copy_of(source: Path, folder: Path, names: Sequence[str]) -> list[str]:
    """Copy the files that are there; returns their names."""
    found = [name for name in names if (source / name).is_file()]
    for name in found:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name)
    return found


def write_record(
    folder: Path,
    metrics: dict[str, Any],
    point: OperatingPoint,
    record: dict[str, Any],
    parts: Mapping[str, Predictions],
    worries: Sequence[Worry],
    locked: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write predictions, threshold.json, calibration.json, metrics.json, run.json and report.html.

    Args:
        parts: by name of the file in ``predictions/``; one that is there already is left alone.
        worries: added to those of the metrics. ``locked``: further fields of threshold.json.

    Returns:
        The content of metrics.json.
    """
    for name, predictions in parts.items():
        if not (folder / "predictions" / f"{name}.csv").is_file():
            write_predictions(folder / "predictions" / f"{name}.csv", predictions.frame)
    metrics = with_worries(metrics, list(worries))
    promise = metrics.get("promise") or {}
    # What the rule leads to expect was said in advance only where nobody had seen the test part by then.
    expected = "expectation" if "expectation" in promise else "advance"
    content = {
        "title": metrics["title"],
        "notice": RESEARCH_NOTICE,
        **point.to_dict(),
        expected: promise.get(expected),
        **(locked or {}),
    }
    write_json(content, folder / "threshold.json")
    calibrator = (metrics.get("calibration") or {}).get("calibrator")
    if calibrator is not None and not (folder / "calibration.json").is_file():
        write_json({"title": metrics["title"], "notice": RESEARCH_NOTICE, **calibrator}, folder / "calibration.json")
    write_json(metrics, folder / "metrics.json")
    write_json({**record, "finished": started()}, folder / "run.json")
    write_report(folder)
    return metrics


def read_json(path: Path, meaning: str) -> dict[str, Any]:
    """A JSON file of a judged folder.

    Raises:
        ValueError: it is missing or cannot be read; ``meaning`` says what follows.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing, so {meaning}.")
    return object_in(path, f", so {meaning}.")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

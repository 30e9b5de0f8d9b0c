"""The files of a run folder that the report is made of, read and checked against each other."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd

from evaluation.heat_map_checks import HeatMapChecks, heat_map_checks
from evaluation.predictions import Predictions, PredictionsError, read_predictions

SCHEMAS: Final = (1, 2)
GALLERY_BYTES: Final = 3_000_000
MISTAKES: Final = Path("figures") / "mistakes"


class ReportError(ValueError):
    """A run folder from which no honest report can be written."""


@dataclass(frozen=True)
class Mistake:
    """One entry of the gallery; `picture`, `map` (its heat map over it) and `alone` (without it) are data URIs, or empty."""

    entry: dict[str, Any]
    picture: str
    map: str = ""
    alone: str = ""


@dataclass(frozen=True)
class RunFiles:
    """Everything that the report shows. What an older or partial run lacks is None and listed in `absent`."""

    metrics: dict[str, Any]
    threshold: dict[str, Any]
    scores: dict[str, Predictions]
    history: pd.DataFrame | None
    data_card: dict[str, Any] | None
    run: dict[str, Any] | None
    config: str | None
    mistakes: list[Mistake] | None
    audit: dict[str, Any] | None = None
    mistakes_left_out: int = 0
    absent: list[str] = field(default_factory=list)
    heat_maps: dict[str, Any] | None = None
    inputs: dict[str, Any] | None = None

    @property
    def heat_map_checks(self) -> HeatMapChecks | None:
        """What the checks of the gallery's heat maps found; None where there are none."""
        entries = [mistake.entry for mistake in self.mistakes or [] if mistake.map]
        return heat_map_checks(self.heat_maps, entries, self.metrics["positive_class"]) if entries else None

    def without_pictures(self) -> RunFiles:
        """The same run with an empty gallery; what was left out is counted."""
        left_out = self.mistakes_left_out + len(self.mistakes or [])
        return replace(self, mistakes=[] if self.mistakes is not None else None, mistakes_left_out=left_out)


def read_run(folder: Path) -> RunFiles:
    """Read a run folder.

    Args:
        folder: Holds metrics.json, threshold.json, predictions/test.csv and, where metrics.json has a validation part,
            predictions/val.csv; everything else is optional.

    Raises:
        ReportError: A required file is missing, unreadable, or contradicts another one.
    """
    metrics = read_json(folder, "metrics.json", required=True)
    threshold = read_json(folder, "threshold.json", required=True)
    assert metrics is not None and threshold is not None
    if metrics.get("schema") not in SCHEMAS:
        raise ReportError(
            f"{folder / 'metrics.json'}: schema is {metrics.get('schema')!r}, this version reads {list(SCHEMAS)}."
        )
    if threshold["threshold"] != metrics["threshold"]["threshold"]:
        raise ReportError(
            f"{folder}: threshold.json says {threshold['threshold']!r} but metrics.json was computed at "
            f"{metrics['threshold']['threshold']!r}. Evaluate the run again so that both agree."
        )
    absent: list[str] = []
    sides = [name for name in ("val", "test") if name in metrics["splits"]]
    scores = {name: _scores(folder, name, metrics, required=True, absent=absent) for name in sides}
    # Runs from before there were several baselines do not name the one that is drawn.
    key = (metrics.get("baseline") or {}).get("key", "thumbnail")
    for part in sides if metrics.get("baseline") else ():
        scores[f"baseline_{part}"] = _scores(folder, f"{key}_{part}", metrics, required=False, absent=absent)
    history = folder / "history.csv"
    config = folder / "config.yaml"
    absent.extend(path.name for path in (history, config) if not path.is_file())
    mistakes, left_out = _mistakes(folder, absent)
    return RunFiles(
        metrics=metrics,
        threshold=threshold,
        scores={name: held for name, held in scores.items() if held is not None},
        history=_history(history),
        data_card=read_json(folder, "data_card.json", absent=absent),
        run=read_json(folder, "run.json", absent=absent),
        config=config.read_text(encoding="utf-8") if config.is_file() else None,
        mistakes=mistakes,
        audit=read_json(folder, "audit.json", absent=absent),
        mistakes_left_out=left_out,
        absent=absent,
        heat_maps=read_json(folder, (MISTAKES / "heat_maps.json").as_posix()),
        inputs=read_json(folder, "input_check.json"),
    )


def _history(path: Path) -> pd.DataFrame | None:
    """One row an epoch; None where there is no file, or no epoch in it that was validated."""
    if not path.is_file():
        return None
    frame = pd.read_csv(path)
    lacking = [column for column in ("epoch", "train/loss", "val/loss", "val/auroc") if column not in frame]
    if lacking:
        raise ReportError(f"{path} lacks the columns {lacking}; it has {list(frame.columns)}.")
    return None if frame["val/auroc"].isna().all() else frame


def read_json(
    folder: Path, name: str, *, required: bool = False, absent: list[str] | None = None
) -> dict[str, Any] | None:
    """A JSON object of the folder; None, with its name in ``absent``, where there is none.

    Raises:
        ReportError: it is required and missing, or no JSON object.
    """
    path = folder / name
    if not path.is_file():
        if required:
            raise ReportError(f"{path} is missing: evaluate the run first, so that its metrics are on disk.")
        if absent is not None:
            absent.append(name)
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ReportError(f"{path} is no valid JSON ({error}). Evaluate the run again.") from error
    if not isinstance(content, dict):
        raise ReportError(f"{path} holds a {type(content).__name__}, expected an object. Evaluate the run again.")
    return content


def _scores(
    folder: Path, name: str, metrics: dict[str, Any], *, required: bool, absent: list[str]
) -> Predictions | None:
    """Labels and scores of one predictions file, checked against the counts in metrics.json."""
    path = folder / "predictions" / f"{name}.csv"
    if not path.is_file():
        if required:
            raise ReportError(f"{path} is missing: the report draws its curves from it. Predict the split first.")
        absent.append(f"predictions/{name}.csv")
        return None
    # Runs from before there were several positive classes name one.
    positive, called = metrics.get("positive") or metrics["positive_class"], metrics["positive_class"]
    try:
        held = read_predictions(path, tuple(metrics["classes"]), positive, called, metrics["negative_class"])
    except PredictionsError as error:
        raise ReportError(f"{error}. Predict the split again.") from error
    split = metrics["splits"][name.rpartition("_")[2]]
    if (len(held), int(held.labels.sum())) != (split["n"], split["n_positive"]):
        raise ReportError(
            f"{path} holds {len(held)} images, {int(held.labels.sum())} of them {called}; metrics.json counted "
            f"{split['n']} and {split['n_positive']}. Evaluate the run again so that both agree."
        )
    return held


def _mistakes(folder: Path, absent: list[str]) -> tuple[list[Mistake] | None, int]:
    """Worst mistakes, false negatives first, as data URIs while they fit into the page's size budget."""
    path = folder / MISTAKES / "mistakes.json"
    if not path.is_file():
        absent.append((MISTAKES / "mistakes.json").as_posix())
        return None, 0
    entries = sorted(json.loads(path.read_text(encoding="utf-8")), key=lambda entry: entry["kind"] != "false negative")
    shown: list[Mistake] = []
    left = GALLERY_BYTES
    for entry in entries:
        picture = _data_uri(folder / MISTAKES, entry["file"])
        maps = [_data_uri(folder / MISTAKES, entry.get(name) or "") for name in ("heat_map", "heat_map_alone")]
        size = len(picture) + sum(map(len, maps))
        if picture and size <= left:
            left -= size
            shown.append(Mistake(entry, picture, *maps))
    return shown, len(entries) - len(shown)


def _data_uri(folder: Path, name: str) -> str:
    """The picture as a data URI; empty where there is none."""
    path = folder / Path(name).name
    if not name or not path.is_file():
        return ""
    kind = "jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"

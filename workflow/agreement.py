"""Whether the files of a run tell one story: what was locked stands in several of them, and must be the same in all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from conf.output import short
from models.bundle import DESCRIPTION
from workflow.intact import object_in, require_same_threshold
from workflow.scoring import ScoredBy

_RESTORE: Final = ". Restore it, or train the run again."
_OF_THE_DATA: Final = ("manifest_sha256", "split_sha256", "phantom")


def require_agreement(run: Path, part: ScoredBy) -> None:
    """Compare threshold.json, calibration.json, run.json, config.yaml and metrics.json with ``model/model.json``.

    Args:
        run: folder of a run of one network. ``part``: that network, loaded.

    Raises:
        ValueError: naming the file, the field and both values.
    """
    description = part.description
    locked, record = object_in(run / "threshold.json", _RESTORE), object_in(run / "run.json", _RESTORE)
    described = description.get("threshold") or {}
    # The first two must be there; a later version may have written more fields on one side.
    shared = [name for name in described if name in locked and name not in ("threshold", "rule")]
    _require_same(run, "threshold.json", locked, described, ("threshold", "rule", *shared))
    for name, content in (("threshold.json", locked), ("run.json", record)):
        stored = content.get("weights_sha256")
        if stored is not None and stored != description["weights_sha256"]:
            raise ValueError(
                f"{short(run)}: {name} names weights with the SHA-256 {stored}, model/{DESCRIPTION} "
                f"{description['weights_sha256']}. One of them was changed after training; restore it, do not use this run."
            )
    _require_same(run, "threshold.json", locked, description, {"borderline_from"} & locked.keys() & description.keys())
    _require_same(run, "run.json", record, description, [name for name in _OF_THE_DATA if name in record])
    _require_same(run, "config.yaml", part.config["task"], description, ("classes", "positive"))
    calibrated = description.get("calibration")
    if calibrated is not None and (run / "calibration.json").is_file():
        held = object_in(run / "calibration.json", _RESTORE)
        _require_same(run, "calibration.json", held, calibrated, [name for name in calibrated if name in held])
    if (run / "metrics.json").is_file():
        require_same_threshold(run, object_in(run / "metrics.json", ". Restore it, or judge the run again."))


def require_below(source: Path, borderline_from: Any, threshold: float) -> None:
    """Raise a ValueError unless the lower edge of the borderline region is None or a score below the threshold."""
    number = isinstance(borderline_from, int | float) and not isinstance(borderline_from, bool)
    if borderline_from is not None and not (number and 0.0 <= borderline_from < threshold):
        raise ValueError(
            f"{short(source)}: borderline_from is {str(borderline_from)[:40]!r}, expected a score from 0 to the threshold "
            f"{threshold}. It was changed after training; do not use this model."
        )


def members_in(path: Path, members: Any) -> list[tuple[Path, str]]:
    """Folder and weights' SHA-256 of each network of a handed-over ensemble.

    Args:
        path: of ensemble.json. ``members``: what it holds under that name.

    Raises:
        ValueError: there are none, or one that is not a folder beside the file.
    """
    if not isinstance(members, list) or not members:
        raise ValueError(f"{path}: members is {str(members)[:60]!r}, expected at least one. Do not use this model.")
    found = []
    for member in members:
        name = str(member["folder"])
        if Path(name).name != name or name in (".", ".."):
            raise ValueError(f"{path}: the member {name[:60]!r} is not a folder beside it. Do not use this model.")
        found.append((path.parent / name, str(member["weights_sha256"])))
    return found


def _require_same(
    run: Path, file: str, found: Mapping[str, Any], described: Mapping[str, Any], names: Iterable[str]
) -> None:
    for name in names:
        if found.get(name) != described.get(name, found.get(name) if name in _OF_THE_DATA else None):
            raise ValueError(
                f"{short(run)}: {file} says {name} {_shown(found.get(name))}, model/{DESCRIPTION} {_shown(described.get(name))}. "
                "One of them was changed after training; restore it, do not use this run."
            )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."

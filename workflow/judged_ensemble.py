"""What an ensemble's record says beyond that of a single run, kept where it is judged again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from evaluation.ensembles import headline
from evaluation.threshold import OperatingPoint
from evaluation.wording import Worry, worry
from workflow.judged_folder import JudgedFolder

APPROXIMATE: Final = worry(
    "caution",
    "The recall is certified approximately only",
    "The certified rule was used on out-of-fold scores of single networks, while the threshold is used on the mean of "
    "their scores, which is less extreme. Its guarantee does not carry over exactly; read the recall on test.",
)
_KEPT: Final = ("Mean of ", "Part of the official test set is left out")


def folds_of(source: JudgedFolder) -> int:
    """Number of folds whose out-of-fold scores fixed the threshold; 0 of anything else."""
    members = source.record.get("members") or []
    return len(members) if members and all(member.get("fold") is not None for member in members) else 0


def ensemble_parts(source: JudgedFolder, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """``ensemble`` and ``pooled`` of the source, with the figures on test that were just made; empty of a single run."""
    found: dict[str, Any] = {name: source.metrics[name] for name in ("ensemble", "pooled") if name in source.metrics}
    if "ensemble" in found:
        own = "official" if folds_of(source) else "figures"  # the figures of folds are out of fold
        found["ensemble"] = {**found["ensemble"], own: headline(metrics["splits"]["test"])}
    return found


def ensemble_worries(source: JudgedFolder, point: OperatingPoint) -> list[Worry]:
    """What its report has to say of an ensemble, at this operating point."""
    if not source.record.get("members"):
        return []
    kept = [item for item in source.metrics["worries"] if str(item["title"]).startswith(_KEPT)]
    return [*kept, *([APPROXIMATE] if folds_of(source) and point.rule == "certified" else [])]

"""What to worry about, in plain words: the report's first screen and the end of the terminal's output."""

from __future__ import annotations

import math
from typing import Any

from evaluation.threshold import OperatingPoint

_FEW_GROUPS = 50  # positive test groups; below that sensitivity is uncertain by some 10 points either way
_DOMAIN_ALARM = 0.75  # AUROC with which thumbnails tell training from test images
_SPECIFICITY_DROP = 0.1


def shift_sentence(shift: dict[str, Any]) -> str:
    """One sentence on how validation and test differ."""
    domain = "; ".join(
        f"thumbnails tell training from test images of {name} with AUROC {value:.3f} (0.5 = alike)"
        for name, value in shift["domain_auc"].items()
        if value is not None
    )
    if not shift["detected"]:
        return "Validation and test agree within chance." + (f" For comparison: {domain}." if domain else "")
    fallen = [
        f"{row['metric']} {row['val']['value']:.3f} on validation, {row['test']['value']:.3f} on test"
        for row in shift["table"]
        if row["difference"]["high"] is not None and row["difference"]["high"] < 0
    ]
    return f"The test part differs from validation: {'; '.join(fallen)}." + (f" {_upper(domain)}." if domain else "")


def baseline_sentence(baseline: dict[str, Any], splits: dict[str, Any]) -> str:
    """One sentence on the model against the thumbnail baseline."""
    ours, theirs = splits["test"]["auroc"]["value"], baseline["test"]["auroc"]["value"]
    if ours is None or theirs is None:
        return "The test part cannot compare model and baseline: a class is absent."
    difference = baseline["difference"]["auroc"]
    gap = f"{difference['value']:+.3f}"
    if difference["low"] is not None:
        gap += f", {difference['low']:+.3f} to {difference['high']:+.3f}"
    if baseline["clears"]:
        return f"The model clears a baseline that sees 16 x 16 pixels: AUROC {ours:.3f} against {theirs:.3f} ({gap})."
    return (
        f"No evidence of skill beyond a baseline that sees 16 x 16 pixels: AUROC {ours:.3f} against {theirs:.3f} ({gap}; "
        "the interval does not exclude 0)."
    )


def collect_worries(
    splits: dict[str, Any],
    shift: dict[str, Any],
    baseline: dict[str, Any],
    point: OperatingPoint,
    promised: dict[str, Any] | None,
    *,
    phantom: bool,
    group_name: str,
) -> list[dict[str, str]]:
    """All worries, alarms first. Each has ``level`` (alarm, caution or note), ``title`` and ``text``."""
    found = [
        _phantom(phantom),
        _shifted(splits, shift, baseline),
        _promise(promised),
        _baseline(baseline),
        _fallback(point),
        _few(splits, group_name),
        _overconfident(splits),
        _domain(shift),
        _optimistic(point),
    ]
    order = {"alarm": 0, "caution": 1, "note": 2}
    return sorted((worry for worry in found if worry), key=lambda worry: order[worry["level"]])


def _worry(level: str, title: str, text: str) -> dict[str, str]:
    return {"level": level, "title": title, "text": text}


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _phantom(phantom: bool) -> dict[str, str] | None:
    text = "These images were generated. The figures show that the software works; they say nothing about patients."
    return _worry("note", "Phantom data", text) if phantom else None


def _shifted(splits: dict[str, Any], shift: dict[str, Any], baseline: dict[str, Any]) -> dict[str, str] | None:
    if not shift["detected"]:
        return None
    row = next(row for row in shift["table"] if row["metric"].startswith("Specificity"))
    if row["difference"]["high"] is None or not (
        row["difference"]["high"] < 0 and row["difference"]["value"] < -_SPECIFICITY_DROP
    ):
        return _worry("alarm", "The test part is shifted", shift["sentence"])
    theirs = [baseline[part]["at_0.5"]["specificity"]["value"] for part in ("val", "test")]
    same = ""
    if None not in theirs and theirs[1] < theirs[0] - _SPECIFICITY_DROP:
        same = (
            f" The thumbnail baseline collapses the same way (specificity at 0.5: {theirs[0]:.3f}, then {theirs[1]:.3f}), so the "
            "images differ, not only this model."
        )
    domain = [f"{name} {value:.3f}" for name, value in shift["domain_auc"].items() if value is not None]
    told = (
        f" Thumbnails alone tell training from test images: AUROC {', '.join(domain)} (0.5 = alike)." if domain else ""
    )
    text = (
        f"Specificity at the locked threshold falls from {row['val']['value']:.3f} on validation to {row['test']['value']:.3f} on the "
        f"test part: many more healthy cases are flagged than validation promised.{same}{told} A threshold chosen on this "
        "validation part does not transfer to images like the test part's."
    )
    return _worry("alarm", "The test part is shifted: specificity collapses", text)


def _promise(promised: dict[str, Any] | None) -> dict[str, str] | None:
    if promised is None or promised["kept"]:
        return None
    return _worry("alarm", "The recall promise was broken on the test part", promised["sentence"])


def _baseline(baseline: dict[str, Any]) -> dict[str, str] | None:
    return None if baseline["clears"] else _worry("alarm", "No skill beyond a trivial baseline", baseline["sentence"])


def _fallback(point: OperatingPoint) -> dict[str, str] | None:
    if point.fallback_reason is None:
        return None
    return _worry(
        "caution", "The recall is not certified", f"{_upper(point.fallback_reason)} The empirical rule was used."
    )


def _few(splits: dict[str, Any], group_name: str) -> dict[str, str] | None:
    positive = splits["test"]["n_positive_groups"]
    negative = splits["test"]["n_groups"] - positive
    if min(positive, negative) >= _FEW_GROUPS:
        return None
    text = f"The test part holds {positive} positive and {negative} other {group_name}s; read the intervals, not the values."
    return _worry("caution", f"Few test {group_name}s", text)


def _overconfident(splits: dict[str, Any]) -> dict[str, str] | None:
    """The log loss of always answering with the prevalence is the least that a probability has to beat."""
    test = splits["test"]
    share = test["prevalence"]
    if not 0 < share < 1 or test["log_loss"]["value"] is None:
        return None
    ignorant = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    if test["log_loss"]["value"] <= ignorant:
        return None
    text = (
        f"The log loss on the test part is {test['log_loss']['value']:.3f}; answering every image with the prevalence would give "
        f"{ignorant:.3f}. The order of the scores carries information, their values as probabilities do not."
    )
    return _worry("caution", "Probabilities cannot be taken at face value", text)


def _domain(shift: dict[str, Any]) -> dict[str, str] | None:
    high = {name: value for name, value in shift["domain_auc"].items() if value is not None and value >= _DOMAIN_ALARM}
    if shift["detected"] or not high:
        return None
    listed = ", ".join(f"{name} {value:.3f}" for name, value in high.items())
    text = f"Thumbnails tell training from test images: AUROC {listed} (0.5 = alike). The results agree all the same."
    return _worry("caution", "Test images look different", text)


def _optimistic(point: OperatingPoint) -> dict[str, str] | None:
    if not (point.selection_optimistic and point.rule == "certified"):
        return None
    text = (
        "The same validation part chose the best epoch and the threshold; the certified bound is a little optimistic."
    )
    return _worry("note", "Selection-optimistic", text)

"""What one set of numbers says about another: validation and test, model and baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from evaluation.bootstrap import difference_interval
from evaluation.intervals import difference_of_shown, format_interval
from evaluation.split_summary import Judged
from evaluation.subgroups import LOCKED

# A domain classifier above this tells two sets apart well enough to call them different.
TELLING_APART: Final = 0.75
NO_SHIFT = (
    "Both parts were cut at random from the same images, so this is no shift: the threshold and the epoch were chosen on "
    "validation, whose figures are therefore optimistic, the more so the fewer images it has; the rest is chance."
)
# A change smaller than this is not called a shift, however certain it is.
NOTABLE_CHANGE: Final = 0.03
# Figures over all classes that are compared with the baseline, as sentences call them.
ARGMAX: Final = {"macro_auroc": "macro AUROC", "balanced_accuracy": "balanced accuracy"}
_MOST_LISTED: Final = 3
_SHIFT_ROWS: Final = (
    ("AUROC", "auroc"),
    ("sensitivity", f"{LOCKED}/sensitivity"),
    ("specificity", f"{LOCKED}/specificity"),
)


def shift_of(
    val: Judged, test: Judged, domain_aucs: Mapping[str, float | None], confidence: float, *, cut: bool = False
) -> dict[str, Any]:
    """The ``shift`` part of metrics.json: test minus validation, whose resamples are independent of each other.

    Args:
        domain_aucs: for each class, how well thumbnails tell its test images from its training images (AUROC or None).
        cut: validation and test were cut at random from the same images, so that no difference between them is a shift.
    """
    table: list[dict[str, Any]] = []
    for metric, name in _SHIFT_ROWS:
        before, after = (_held(side.summary, name) for side in (val, test))
        difference = difference_interval(name, test.resampled, val.resampled, confidence).to_dict()
        if None in (before["low"], after["low"]):
            difference |= {"low": None, "high": None}
        difference = difference_of_shown(difference, after, before)
        table.append({"metric": metric, "val": before, "test": after, "difference": difference})
    changed = [row for row in table if is_notable(row["difference"])]
    apart = {name: value for name, value in domain_aucs.items() if value is not None and value >= TELLING_APART}
    return {
        "table": table,
        "domain_auc": dict(domain_aucs),
        "detected": bool(changed or apart) and not cut,
        "sentence": _cut_sentence(changed) if cut else _shift_sentence(changed, apart, domain_aucs),
    }


def is_notable(difference: Mapping[str, Any], size: float = NOTABLE_CHANGE) -> bool:
    """Whether the interval of a difference excludes 0 and the difference is larger than ``size`` either way."""
    value, low, high = difference["value"], difference["low"], difference["high"]
    return value is not None and low is not None and abs(value) > size and (low > 0 or high < 0)


def _held(summary: Mapping[str, Any], name: str) -> dict[str, Any]:
    section, _, rate = name.rpartition("/")
    return dict(summary[section][rate] if section else summary[rate])


def _cut_sentence(changed: list[dict[str, Any]]) -> str:
    """What differs between two parts that were cut at random from the same images."""
    if not changed:
        return "Validation and test were cut at random from the same images, and their figures agree."
    return f"{_changes(changed)} {NO_SHIFT}"


def _changes(changed: list[dict[str, Any]]) -> str:
    sentences = []
    for row in changed:
        verb = "falls" if row["difference"]["value"] < 0 else "rises"
        metric = row["metric"][0].upper() + row["metric"][1:]
        before, after = format_interval(row["val"]), format_interval(row["test"])
        sentences.append(f"{metric} {verb} from {before} on validation to {after} on test.")
    return " ".join(sentences)


def _shift_sentence(
    changed: list[dict[str, Any]], apart: Mapping[str, float], domain_aucs: Mapping[str, float | None]
) -> str:
    sentences = [_changes(changed)] if changed else []
    if not changed:
        sentences.append("AUROC, sensitivity and specificity show no drop from validation to test beyond chance.")
    known = {name: value for name, value in domain_aucs.items() if value is not None}
    if apart:
        sentences.append(f"{apart_sentence(apart)} The two sets come from different conditions.")
    elif known:
        listed = " and ".join(f"{value:.3f} for {name}" for name, value in known.items())
        if len(known) > _MOST_LISTED:
            highest = max(known, key=lambda name: known[name])
            listed = f"at most {known[highest]:.3f} ({highest})"
        sentences.append(
            f"Thumbnails tell test images from training images with an AUROC of {listed}, where 0.5 is not at all."
        )
    return " ".join(sentences)


def apart_sentence(aucs: Mapping[str, float]) -> str:
    """How well 16x16 thumbnails tell test from training images of each class."""
    listed = " and ".join(
        f"{name} test images from {name} training images with an AUROC of {v:.3f}" for name, v in _highest(aucs).items()
    )
    more = f", and {len(aucs) - _MOST_LISTED} more classes" if len(aucs) > _MOST_LISTED else ""
    return f"Thumbnails of 16x16 pixels alone tell {listed}{more} (0.5 would be not at all)."


def _highest(aucs: Mapping[str, float]) -> dict[str, float]:
    """All of them, or the highest few where there are many classes."""
    if len(aucs) <= _MOST_LISTED:
        return dict(aucs)
    return dict(sorted(aucs.items(), key=lambda item: -item[1])[:_MOST_LISTED])


def baseline_of(model: Judged, val: Judged, test: Judged, confidence: float, name: str) -> dict[str, Any]:
    """The ``baseline`` part of metrics.json.

    Args:
        model: the model on test. ``val``, ``test``: the baseline, at the threshold that the same rule gives it.
        name: of the baseline, in full.
    """
    difference = difference_interval("auroc", model.resampled, test.resampled, confidence).to_dict()
    if model.summary["auroc"]["low"] is None:
        difference |= {"low": None, "high": None}
    difference = difference_of_shown(difference, model.summary["auroc"], test.summary["auroc"])
    clears = difference["low"] is not None and difference["low"] > 0
    argmax = argmax_differences(model, test, confidence)
    return {
        "name": name,
        "val": val.summary,
        "test": test.summary,
        "difference": {"auroc": difference, **argmax},
        "clears": clears,
        "sentence": baseline_sentence(model.summary["auroc"], test.summary["auroc"], difference, name),
        **argmax_text(model, test, argmax),
    }


def argmax_differences(model: Judged, baseline: Judged, confidence: float) -> dict[str, dict[str, Any]]:
    """Model minus baseline in macro AUROC and balanced accuracy, in pairs; empty for two classes."""
    if model.classwise is None or baseline.classwise is None:
        return {}
    found = {}
    for name in ARGMAX:
        found[name] = difference_interval(name, model.classwise, baseline.classwise, confidence).to_dict()
        if model.summary["multiclass"][name]["low"] is None:
            found[name] |= {"low": None, "high": None}
    return found


def argmax_text(model: Judged, baseline: Judged, differences: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """``argmax_sentence``: the differences of :func:`argmax_differences` in words; nothing for two classes."""
    sentences = [_argmax_sentence(name, model, baseline, difference) for name, difference in differences.items()]
    return {"argmax_sentence": " ".join(sentences)} if sentences else {}


def _argmax_sentence(name: str, model: Judged, baseline: Judged, difference: Mapping[str, Any]) -> str:
    values = [format_interval(side.summary["multiclass"][name]) for side in (model, baseline)]
    metric = ARGMAX[name][0].upper() + ARGMAX[name][1:]
    return f"{metric}: {values[0]} against {values[1]}, difference {format_interval(difference)}."


def baseline_sentence(
    model: Mapping[str, Any], baseline: Mapping[str, Any], difference: Mapping[str, Any], name: str
) -> str:
    """What the AUROC of the model and of a baseline called ``name`` say, with their paired difference."""
    if difference["value"] is None:
        return f"AUROC is not defined on this test set, so the model cannot be compared with a {name}."
    start = (
        f"On test the model's AUROC is {format_interval(model)}, that of a {name} "
        f"{format_interval(baseline)}; the difference is {format_interval(difference)}"
    )
    if difference["low"] is None:
        return f"{start}, without an interval: there are too few groups, or all images have the same score."
    if difference["low"] > 0:
        return f"{start}: the model is better than the baseline."
    if difference["high"] < 0:
        return f"{start}: the model is worse than the baseline."
    return f"{start}, an interval that holds 0: no evidence that the model is better than the baseline."

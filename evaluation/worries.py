"""What a careful reader would hold against a result, in plain English and with the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from evaluation.baseline_table import BEYOND
from evaluation.class_worries import class_worries
from evaluation.comparison import NO_SHIFT, TELLING_APART, apart_sentence, is_notable
from evaluation.intervals import format_interval
from evaluation.promise import specificity_worry
from evaluation.split_summary import RANKED, Judged
from evaluation.subgroups import FEWEST_GROUPS, LOCKED, subgroup_worries
from evaluation.wording import LEAKY, Worry, listed, percent, plural, worry

# A fall of a metric from validation to test beyond this is an alarm when its interval excludes 0.
LARGE_DROP: Final = 0.1
FEW_GROUPS: Final = 50
_ADJECTIVE: Final = {
    "thumbnail": "thumbnail",
    "hog_svm": "HOG and SVM",
    "majority": "constant",
    "features": "frozen-feature",
}
_MOSTLY: Final = 0.5
_MANY_DROPPED: Final = 0.05


def worries_of(metrics: Mapping[str, Any], val: Judged | None, test: Judged) -> list[Worry]:
    """The ``worries`` part of metrics.json: alarms first, then cautions, then notes.

    Args:
        metrics: everything else of metrics.json.
        val, test: the model on both splits; ``val`` is None where there are no validation predictions.
    """
    found = [
        _leak(metrics),
        None if metrics["leak"] or val is None else _shared_groups(val, test, metrics["group_name"]),
        _shift(metrics),
        _baseline(metrics),
        _no_ranking(metrics),
        _promise(metrics),
        _no_validation(metrics),
        _fallback(metrics),
        (metrics["calibration"] or {}).get("worry"),
        specificity_worry(metrics),
        *subgroup_worries(metrics),
        _flags_most(metrics),
        _few_groups(metrics),
        *class_worries(metrics),
        _certain(metrics),
        _dropped(metrics),
        _selection(metrics),
        _phantom(metrics),
    ]
    order = ("alarm", "caution", "note")
    return sorted((item for item in found if item), key=lambda item: order.index(item["level"]))


def _leak(metrics: Mapping[str, Any]) -> Worry | None:
    leak = metrics["leak"]
    if leak is None:
        return None
    unit, share = leak["unit"], leak["share"] or 0.0
    text = (
        f"{percent(share, 1)} of the test images show a {unit} that is also in training, so every figure here may be too good. "
        f"The split was made image by image on purpose (grouping: {leak['grouping']}), which puts "
        f"{leak['test_images_with_group_in_train']:,} of {leak['test_images']:,} test images beside training images of "
        f"the same {unit}. Use it to see what leakage does, never as a result."
    )
    return worry("alarm", LEAKY, text)


def _shared_groups(val: Judged, test: Judged, group_name: str) -> Worry | None:
    shared = sorted(set(val.predictions.group_names) & set(test.predictions.group_names))
    if not shared:
        return None
    some = ", ".join(shared[:3] + ["..."] * (len(shared) > 3))
    text = (
        f"On validation and on test: {plural(len(shared), group_name)} ({some}). The test set is not independent, "
        f"and its figures may be too good. Split by {group_name} and run again."
    )
    return worry("alarm", f"A {group_name} is on both sides of the split", text)


def _no_validation(metrics: Mapping[str, Any]) -> Worry | None:
    """Predictions of another tool without a validation part: what can therefore not be known."""
    if metrics["test_kind"] != "given" or "val" in metrics["splits"]:
        return None
    text = (
        "The threshold was set by hand and promises no recall, the scores could not be recalibrated, and nothing shows whether "
        "they carry over from where the model was tuned. Give validation=FILE.csv, or calibration_share=0.5 to cut a part off."
    )
    return worry("caution", "No validation predictions", text)


def _shift(metrics: Mapping[str, Any]) -> Worry | None:
    """The test set gives clearly worse figures than validation, or its images are of another kind."""
    if metrics["shift"] is None:
        return None
    fallen = [
        row
        for row in metrics["shift"]["table"]
        if is_notable(row["difference"], LARGE_DROP) and row["difference"]["value"] < 0
    ]
    apart = {n: v for n, v in metrics["shift"]["domain_auc"].items() if v is not None and v >= TELLING_APART}
    if metrics["test_kind"] == "cut":
        text = [*(_fall(row) for row in fallen), NO_SHIFT]
        return worry("caution", "Validation was optimistic", " ".join(text)) if fallen else None
    if fallen:
        text = [_fall(row) for row in fallen]
        text += _same_in_baseline(metrics, [row["metric"] for row in fallen])
        text += [apart_sentence(apart)] if apart else []
        text.append(
            "Validation figures do not carry over to this test set, nor need test figures to the next hospital."
        )
        if _too_few_to_tell(metrics):
            return worry("caution", "Test and validation differ, on too few groups to tell why", " ".join(text[:-1]))
        return worry("alarm", "The test set is shifted", " ".join(text))
    if metrics["shift"]["detected"]:
        return worry("caution", "Test and validation differ", metrics["shift"]["sentence"])
    return None


def _too_few_to_tell(metrics: Mapping[str, Any]) -> bool:
    """Whether a side has so few groups of a class that the bootstrap cannot know what other groups would be like."""
    sides = metrics["splits"].values()
    return any(min(s["n_positive_groups"], s["n_groups"] - s["n_positive_groups"]) < FEWEST_GROUPS for s in sides)


def _fall(row: Mapping[str, Any]) -> str:
    metric = "AUROC" if row["metric"] == "AUROC" else f"{row['metric'].capitalize()} at the locked threshold"
    before, after = format_interval(row["val"]), format_interval(row["test"])
    return f"{metric} falls from {before} on validation to {after} on test."


def _same_in_baseline(metrics: Mapping[str, Any], fallen: list[str]) -> list[str]:
    """What a baseline does where the model falls: the same fall points at the images, not at the model."""
    if metrics["baseline"] is None:
        return []
    key, sentences = metrics["baseline"]["key"], []
    for metric in fallen:
        sides = [metrics["baseline"][side] for side in ("val", "test")]
        before, after = (side["auroc"] if metric == "AUROC" else side[LOCKED][metric] for side in sides)
        if before["value"] is None or after["value"] is None:
            continue
        own = "" if metric == "AUROC" else ", at a threshold chosen for it by the same rule,"
        same = after["value"] < before["value"] - LARGE_DROP / 2
        lead = f"The {_ADJECTIVE.get(key, key)} baseline" + own + (" shows the same:" if same else " does not show it:")
        sentences.append(f"{lead} {format_interval(before)} on validation and {format_interval(after)} on test.")
    return sentences


def _baseline(metrics: Mapping[str, Any]) -> Worry | None:
    """The baselines that the model was not shown to beat; the one with the highest AUROC on validation first."""
    rows = metrics["baselines"]
    if not rows and metrics["test_kind"] == "external":
        return None  # the run's own report compares; what a baseline would learn elsewhere says nothing here
    if not rows:
        text = "No baseline was given, so nothing shows that the task needs a network at all."
        return worry("caution", "No baseline to compare with", text)
    missed = sorted((row for row in rows if not row["clears"]), key=lambda row: -(row["val_auroc"] or 0.0))
    if not missed:
        return None
    text = missed[0]["sentence"]
    if len(missed) > 1:
        others = [_beyond(row) for row in missed[1:]]
        text += f" Nor is the model shown to be better than {listed(others)}."
    level = "caution" if _too_few_to_tell(metrics) else "alarm"
    return worry(level, f"No evidence of skill beyond {_beyond(missed[0])}", text)


def _beyond(row: Mapping[str, Any]) -> str:
    return BEYOND.get(row["name"], f"the baseline {row['name']}")


def _no_ranking(metrics: Mapping[str, Any]) -> Worry | None:
    interval = metrics["splits"]["test"]["auroc"]
    if interval["value"] is None:
        held = "one class only"
        if len(metrics["classes"]) > 2:
            held = f"{metrics['positive_class' if metrics['splits']['test']['n_positive'] else 'negative_class']} images only"
        return worry("caution", "One class is missing", f"The test set holds {held}, so AUROC is not defined on it.")
    if interval["low"] is None and interval["value"] == 0.5:
        text = "Every test image has the same score: the AUROC is 0.5 by definition, and has no interval."
        return worry("alarm", "No better than chance", text)
    if interval["low"] is None or interval["low"] > 0.5:
        return None
    text = f"The AUROC on test is {format_interval(interval)}; 0.5 is chance, and the interval does not exclude it."
    if interval["high"] < 0.5:
        text = (
            f"The AUROC on test is {format_interval(interval)}, which is below chance: negatives have the higher scores. Check "
            "which class the scores belong to, and that labels and scores are of the same images."
        )
    return worry("alarm", "No better than chance", text)


def _promise(metrics: Mapping[str, Any]) -> Worry | None:
    promise = metrics["promise"]
    if promise is None:
        return None
    if not promise["kept"]:
        return worry("alarm", "The promised recall was not kept", promise["sentence"])
    if promise["test_misses"] > promise["misses_99"]:
        return worry("caution", "More misses than the certificate led to expect", promise["sentence"])
    return None


def _fallback(metrics: Mapping[str, Any]) -> Worry | None:
    point = metrics["threshold"]
    if point["fallback_reason"] is None:
        return None
    promise = f"it promises nothing about other {metrics['group_name']}s"
    text = f"{point['fallback_reason']} The {point['rule']} rule was used instead; {promise}."
    return worry("caution", "The recall is not certified", text)


def _flags_most(metrics: Mapping[str, Any]) -> Worry | None:
    """The threshold keeps its recall by flagging most of those who are well."""
    interval = metrics["splits"]["test"][LOCKED]["specificity"]
    if interval["value"] is None or interval["value"] >= _MOSTLY:
        return None
    point = metrics["splits"]["test"][LOCKED]
    negative, flagged, total = metrics["negative_class"], point["fp"], point["fp"] + point["tn"]
    text = (
        f"At the locked threshold {flagged:,} of {total:,} {negative} test images are flagged: specificity is "
        f"{format_interval(interval)}. Such a threshold saves little reading."
    )
    return worry("caution", f"Most {negative} images are flagged", text)


def _few_groups(metrics: Mapping[str, Any]) -> Worry | None:
    test, name = metrics["splits"]["test"], metrics["group_name"]
    positive = test["n_positive_groups"]
    negative = test["n_groups"] - positive
    if min(positive, negative) >= FEW_GROUPS:
        return None
    text = (
        f"The test set holds {plural(positive, name)} with {metrics['positive_class']} and {negative:,} without. With "
        f"fewer than {FEW_GROUPS} of a kind, intervals are wide and resampling is itself only rough."
    )
    if min(positive, negative) < FEWEST_GROUPS:
        text += " Take these figures as an example, not as a result."
    return worry("caution", f"Few {name}s in the test set", text)


def _certain(metrics: Mapping[str, Any]) -> Worry | None:
    interval = metrics["splits"]["test"]["auroc"]
    if interval["value"] != 1.0:
        return None
    text = (
        "Every positive test image ranks above every negative one, so that resampling finds no spread in AUROC; its interval is "
        "that of a share without an exception. That is no certainty; look for a shortcut in the images."
    )
    return worry("caution", "The ranking is perfect", text)


def _dropped(metrics: Mapping[str, Any]) -> Worry | None:
    resamples = metrics["bootstrap"]["resamples"]
    test = metrics["splits"]["test"]
    held = [test[name] for name in RANKED] + [item for item in test[LOCKED].values() if isinstance(item, dict)]
    worst = max((item["dropped"] for item in held if item["value"] is not None), default=0)
    if worst <= _MANY_DROPPED * resamples:
        return None
    text = f"Up to {worst:,} of {resamples:,} resamples were of no use for a metric: a class or a decision was missing."
    return worry("caution", "Some intervals rest on fewer resamples", text)


def _selection(metrics: Mapping[str, Any]) -> Worry | None:
    point = metrics["threshold"]
    if not point["selection_optimistic"]:
        return None
    also = (
        f", and so is the promised recall of {percent(point['target_recall'])}" if point["rule"] == "certified" else ""
    )
    text = (
        "The same validation images chose the epoch and the threshold. Validation figures are a little optimistic"
        f"{also}; the test figures are not touched by this."
    )
    return worry("note", "Validation chose the epoch and the threshold", text)


def _phantom(metrics: Mapping[str, Any]) -> Worry | None:
    if not metrics["phantom"]:
        return None
    return worry("note", "Phantom data", "Phantom data: generated images, says nothing about patients.")

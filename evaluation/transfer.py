"""Trained on one data set, tested on another: the figures of both tests side by side, at the one locked threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from evaluation.bootstrap import Bootstrap, Resampling, difference_interval
from evaluation.calibration import calibration_of
from evaluation.intervals import Interval, difference_of_shown, format_interval
from evaluation.predictions import Predictions
from evaluation.robustness import METRICS, beyond_chance, figures_of, resampled_at
from evaluation.wording import listed, plural

COMPARED: Final = ("auroc", "sensitivity", "specificity")
_NAMES: Final = {"auroc": "AUROC", "sensitivity": "sensitivity", "specificity": "specificity"}
_SMALLEST: Final = 0.03  # a smaller change is not worth a sentence, however certain it is


def side_of(predictions: Predictions, threshold: float, how: Resampling) -> tuple[dict[str, Any], Bootstrap]:
    """One model on one test set.

    Returns:
        ``n``, ``n_positive``, ``n_groups``, ``prevalence``; an INTERVAL for AUROC, Brier score, and at the threshold for
        sensitivity, specificity and balanced accuracy; ``in_the_large`` (the intercept that would put the mean score right, on
        the logit scale: below 0 the scores are too high), ``mean_score``. And the resamples behind it.
    """
    resampled = resampled_at(predictions, threshold, how)
    calibration = calibration_of(predictions, how)
    return {
        "n": len(predictions),
        "n_positive": int(predictions.labels.sum()),
        "n_groups": len(predictions.group_names),
        "prevalence": float(predictions.labels.mean()),
        **figures_of(predictions, resampled, threshold, how.confidence),
        "in_the_large": calibration["in_the_large"],
        "mean_score": float(predictions.scores.mean()),
    }, resampled


def transfer_of(
    own: Predictions | None, external: Predictions, threshold: float, how: Sequence[Resampling], name: str, called: str
) -> dict[str, Any]:
    """One row of the matrix.

    Args:
        own: the model on its own test part; None where it has none that it has not seen.
        external: on the other data set.
        threshold: fixed on the model's own validation.
        how: resamples of the two, with seeds apart, because the two sets are independent of each other.
        name: of the model. ``called``: the other data set.

    Returns:
        ``own`` (or None), ``external``, ``difference`` (external minus own; INTERVALs, None without own), ``sentence``.
    """
    there, after = side_of(external, threshold, how[1])
    if own is None:
        return {"own": None, "external": there, "difference": None, "sentence": _alone(there, name, called)}
    here, before = side_of(own, threshold, how[0])
    differences = {}
    for metric in COMPARED:
        found = difference_interval(METRICS[metric], after, before, how[1].confidence)
        if here[metric]["value"] is None or there[metric]["value"] is None:
            found = Interval(None, None, None)
        elif here[metric]["low"] is None or there[metric]["low"] is None:
            found = Interval(found.value, None, None)
        differences[metric] = difference_of_shown(found.to_dict(), there[metric], here[metric])
    sentence = _sentence(here, there, differences, name, called)
    return {"own": here, "external": there, "difference": differences, "sentence": sentence}


def _alone(there: Mapping[str, Any], name: str, called: str) -> str:
    figures = [f"{_NAMES[metric]} {format_interval(there[metric])}" for metric in COMPARED]
    return f"{name} on {called} ({plural(there['n'], 'image')}): {listed(figures)} at its own threshold."


def _sentence(
    here: Mapping[str, Any],
    there: Mapping[str, Any],
    differences: Mapping[str, Mapping[str, Any]],
    name: str,
    called: str,
) -> str:
    moved, steady = [], []
    for metric in COMPARED:
        difference = differences[metric]
        if difference["value"] is None or difference["low"] is None:
            continue
        if beyond_chance(difference) and abs(difference["value"]) >= _SMALLEST:
            verb = "falls" if difference["value"] < 0 else "rises"
            moved.append(
                f"{_NAMES[metric]} {verb} from {format_interval(here[metric])} to {format_interval(there[metric])}"
            )
        else:
            steady.append(_NAMES[metric])
    start = f"{name}, from its own test part to {called} at the same threshold: "
    if not moved:
        return start + (f"no certain change of {listed(steady)}." if steady else "nothing that can be compared.")
    rest = f"; no certain change of {listed(steady)}" if steady else ""
    return start + listed(moved) + rest + "." + _mean(there)


def _mean(there: Mapping[str, Any]) -> str:
    """What the scores say of the share of positives, where that is clearly wrong."""
    large = there["in_the_large"]
    if large["low"] is None or large["low"] <= 0 <= large["high"]:
        return ""
    high = "too high" if large["value"] < 0 else "too low"
    return (
        f" Its scores there are {high} on average: mean {there['mean_score']:.2f}, where {there['prevalence']:.2f} of the images "
        "are positive."
    )


def seen_in_words(seen: Mapping[str, Any], group_name: str) -> str:
    """How the images that a run has seen were found: ``3 identical files, 1,437 pictures of the same ISIC number``; ``none``."""
    parts = [
        (seen["by_content"], "identical file", ""),
        (seen["by_name"], "picture", " of the same ISIC number"),
        (seen["by_picture"] or 0, "nearly identical picture", ""),
        (seen["by_group"], "more image", f" of the same {group_name}s"),
    ]
    found = [plural(count, noun) + rest for count, noun, rest in parts if count]
    return listed(found) if found else "none"

"""Calibration in plain words: sentences for the page, and a worry where scores cannot be read as risks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from evaluation.intervals import format_interval
from evaluation.wording import Worry, figure, listed, percent, worry

# Scores are called off when chance does not explain it and the slope is outside these, the mean is off by more than this
# share of the rarer class (0.05 at most), or the calibration error is this much above what chance gives.
STEEPEST, FLATTEST = 1.25, 0.8
LARGEST_GAP: Final = 0.1
NOTABLE_ERROR: Final = 0.02
# A calibration error this much above what chance gives is a caution, a smaller one a note.
LARGE_ERROR: Final = 0.05
# Recalibration makes scores worse where it raises the log loss on test by more than this factor.
LARGER_LOSS: Final = 1.05
METHOD_NAMES: Final = {"platt": "Platt scaling", "temperature": "temperature scaling"}


def faults_of(cal: Mapping[str, Any]) -> list[str]:
    """What is wrong with the scores beyond chance and by a notable amount; empty if nothing is.

    Args:
        cal: CAL of :func:`evaluation.calibration.calibration_of`.
    """
    faults = []
    slope, large, gap = cal["slope"], cal["in_the_large"], cal["mean_score"] - cal["rate"]
    if large["low"] is None:
        return []
    # Relative to the rarer class: 0.25 instead of 0.20 is a fourth too much, 0.75 instead of 0.70 for the others so too.
    # The resamples keep the number of positives, which chance moves too: two standard errors, each group one draw.
    chance = 2.0 * math.sqrt(cal["rate"] * (1.0 - cal["rate"]) / cal["n_groups"])
    largest = max(LARGEST_GAP * min(cal["rate"], 1.0 - cal["rate"]), chance)
    if abs(gap) > largest and (large["low"] > 0 or large["high"] < 0):
        faults.append("too high" if gap > 0 else "too low")
    if slope["low"] is not None and slope["high"] < 1 and slope["value"] < FLATTEST:
        faults.append("too extreme")
    if slope["low"] is not None and slope["low"] > 1 and slope["value"] > STEEPEST:
        faults.append("not extreme enough")
    error = cal["ece"]["equal_mass"]["value"]
    if not faults and error > cal["ece"]["by_chance"]["high"] and _excess(cal) > NOTABLE_ERROR:
        faults.append("off in parts of their range")
    return faults


def why_unknown(cal: Mapping[str, Any]) -> str | None:
    """Why it cannot be judged whether the scores are risks, in a few words; None where it can, and where a fault is seen.

    Args:
        cal: CAL of :func:`evaluation.calibration.calibration_of`.
    """
    slope = cal["slope"]
    if cal["n_positive"] in (0, cal["n"]):
        return "one class only"
    if slope["low"] is not None or faults_of(cal):
        return None
    if slope["value"] is not None:
        return "too few groups"
    equal = cal["bins"][0]["low"] == cal["bins"][-1]["high"]
    return "all scores are equal" if equal else "the scores separate the classes"


def unknown_of(section: Mapping[str, Any]) -> str | None:
    """:func:`why_unknown` of the scores on test that are meant as risks: the recalibrated ones where there are any.

    Args:
        section: the calibration part of metrics.json.
    """
    return why_unknown(_last(section))


def recalibration_hurts(section: Mapping[str, Any]) -> bool:
    """Whether scores are off on test after recalibration on validation, and their log loss is notably larger than before.

    Args:
        section: the calibration part of metrics.json.
    """
    raw, again, _ = _parts(section)
    if again is None or not faults_of(again):
        return False
    return bool(again["log_loss"]["value"] > LARGER_LOSS * raw["log_loss"]["value"])


def sentence_of(section: Mapping[str, Any], positive: str) -> str:
    """What the calibration part of metrics.json says about test: raw scores, then recalibrated ones.

    Args:
        section: the part, without its sentence. ``positive``: what the positives are called.
    """
    raw, again, calibrator = _parts(section)
    mean = f"their mean is {figure(raw['mean_score'])} where {percent(raw['rate'], 1)} of the images are {positive}"
    chance = figure(raw["ece"]["by_chance"]["mean"])
    sentences = [
        f"Raw scores on test {_verdict(raw)}: {mean}{_slope(raw)}, and the calibration error is {_error(raw)} (chance alone "
        f"gives {chance})."
    ]
    unknown = unknown_of(section)
    if unknown and why_unknown(raw):
        sentences = [f"Whether scores on test can be read as risks cannot be judged: {unknown}. As they are, {mean}."]
    elif again is not None:
        sentences.append(
            f"After {METHOD_NAMES[calibrator['method']]} on validation they {_verdict(again)}: mean "
            f"{figure(again['mean_score'])}{_slope(again)}, calibration error {_error(again)}."
        )
        if recalibration_hurts(section):
            before, after = (figure(cal["log_loss"]["value"]) for cal in (raw, again))
            sentences.append(
                f"That is worse (log loss {before} before, {after} after): what validation teaches about scores does not hold "
                "for test."
            )
    if not calibrator:
        sentences.append("No recalibration could be fitted, because there are no validation predictions.")
    elif again is None and calibrator["reason"]:
        sentences.append(calibrator["reason"])
    return " ".join(sentences)


def worry_of(section: Mapping[str, Any]) -> Worry | None:
    """A caution where scores on test are far from risks even when recalibrated, a note where they are a little off.

    Args:
        section: the calibration part of metrics.json, without its sentence.
    """
    raw, again, _ = _parts(section)
    last = _last(section)
    faults, before = faults_of(last), faults_of(raw)
    if faults:
        start = "After recalibration on validation" if again is not None else "On test"
        far = _excess(last) > LARGE_ERROR
        title = "Scores cannot be read as risks on test" if far else "Scores are only roughly risks on test"
        text = (
            f"{start} the scores are {listed(faults)}: mean {figure(last['mean_score'])} where {percent(last['rate'], 1)} of "
            f"the test images are positive{_slope(last)}. The order of images and the threshold do not depend on that, but a "
            "score of 0.8 does not mean that 8 of 10 such images are positive."
        )
        return worry("caution" if far else "note", title, text)
    if before:
        unknown = unknown_of(section)
        text = (
            f"As they leave the model, scores on test are {listed(before)}: mean {figure(raw['mean_score'])} where "
            f"{percent(raw['rate'], 1)} of the images are positive{_slope(raw)}. Recalibrated on validation they "
        )
        text += f"cannot be judged ({unknown})." if unknown else "are not notably off; read those as risks."
        return worry("note", "Raw scores are only roughly risks", text)
    return None


def _parts(section: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any] | None, Mapping[str, Any]]:
    """CAL of test raw and, if the score of the positives is recalibrated, so; the calibrator, empty if there is none."""
    test, calibrator = section["splits"]["test"], section["calibrator"] or {}
    moved = test["recalibrated"] is not None and calibrator.get("method") in METHOD_NAMES
    return test["raw"], test["recalibrated"] if moved else None, calibrator


def _last(section: Mapping[str, Any]) -> Mapping[str, Any]:
    raw, again, _ = _parts(section)
    return raw if again is None else again


def _verdict(cal: Mapping[str, Any]) -> str:
    faults, unknown = faults_of(cal), why_unknown(cal)
    if unknown:
        return f"cannot be judged ({unknown})"
    return f"are {listed(faults)}" if faults else "are not notably off"


def _slope(cal: Mapping[str, Any]) -> str:
    slope = cal["slope"]
    return "" if slope["value"] is None else f", the slope {format_interval(slope)} instead of 1"


def _error(cal: Mapping[str, Any]) -> str:
    return figure(cal["ece"]["equal_mass"]["value"])


def _excess(cal: Mapping[str, Any]) -> float:
    """Calibration error beyond its mean by chance."""
    return float(cal["ece"]["equal_mass"]["value"] - cal["ece"]["by_chance"]["mean"])

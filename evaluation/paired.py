"""Two models on the same images: differences of every figure in pairs, tests, agreement, and what they say in words.

Every difference is the second model (B) minus the first (A).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from evaluation.agreement import agreement, disagreements, is_grouped, mcnemar_of, sign_test
from evaluation.bootstrap import Bootstrap, Resampling, difference_interval
from evaluation.decided import (
    LOWER_IS_BETTER,
    NAMES,
    SHARES,
    Decided,
    Point,
    decide,
    intervals_of,
    ordered,
    resample,
)
from evaluation.delong import CLUSTERED, DELONG, delong, delong_interval, delong_test
from evaluation.intervals import (
    WILSON,
    Interval,
    auroc_interval,
    difference_of_shown,
    wilson,
    with_width,
    without_ends,
)
from evaluation.predictions import REQUIRED, Predictions, PredictionsError
from evaluation.rate_intervals import groups_of

_SHOWN: Final = 3


def compare(
    a: Predictions,
    b: Predictions,
    point_a: Point,
    point_b: Point,
    how: Resampling,
    *,
    names: tuple[str, str] = ("A", "B"),
    group_name: str = "group",
) -> dict[str, Any]:
    """Everything that two models' predictions of the same images say about their difference.

    Args:
        a, b: of the same images, groups and labels, in any order.
        point_a, point_b: each model's own operating point, threshold, or decisions row by row.
        how: resamples, confidence, seed; both models are judged on the same draws of groups.
        names: what the models are called in messages. ``group_name``: what a group is called.

    Returns:
        Plain values for JSON:

        - ``n``, ``n_positive``, ``n_groups``, ``n_positive_groups``, ``grouped`` (whether a group has several images),
          ``same_scores`` (of every image), ``identical`` (the decisions are equal too), ``confidence``.
        - ``differences``: for each figure ``name``, ``label``, ``better`` (``higher`` or ``lower``), the INTERVALs ``a``, ``b``
          and ``difference``, ``p`` (AUROC: DeLong; shares: exact sign test over groups, whose counts are ``exact``; else
          None), and ``favours``: ``a`` or ``b`` where the interval of the difference excludes 0 and the test, if there is
          one, agrees; a balanced accuracy also needs a share that favours the same model.
        - ``delong``: ``a``, ``b`` (INTERVALs) and ``difference`` with ``p``; clustered where groups have several images; None
          with one class only.
        - ``mcnemar``, ``agreement``, ``disagreements``: of :mod:`evaluation.agreement`.

    Raises:
        PredictionsError: other classes, images, groups or labels; says how many differ and names one.
    """
    require_same_images(a, b, names)
    first, second = decide(a, point_a), decide(b, point_b).like(a)
    return compare_decided(first, second, resample(first, how), resample(second, how), how, group_name)


def compare_decided(
    first: Decided, second: Decided, drawn_a: Bootstrap, drawn_b: Bootstrap, how: Resampling, group_name: str
) -> dict[str, Any]:
    """As :func:`compare`, of models in the same row order whose resamples are already there."""
    held = first.predictions
    alike = bool(np.array_equal(held.probabilities, second.predictions.probabilities))
    positive_groups = groups_of(held).get(1, 0)
    delong_found = delong_of(first, second, how.confidence)
    return {
        "n": len(held),
        "n_positive": int(held.labels.sum()),
        "n_groups": len(held.group_names),
        "n_positive_groups": positive_groups,
        "grouped": is_grouped(held),
        "same_scores": alike,
        "identical": bool(alike and np.array_equal(first.flagged, second.flagged)),
        "confidence": how.confidence,
        "differences": _differences(first, second, (drawn_a, drawn_b), how.confidence, delong_found),
        "delong": delong_found,
        "mcnemar": mcnemar_of(first, second, group_name),
        "agreement": agreement(first, second),
        "disagreements": disagreements(first, second),
    }


def require_same_images(a: Predictions, b: Predictions, names: tuple[str, str] = ("A", "B")) -> None:
    """Raise a PredictionsError unless both are of the same classes, images, groups and labels, in any order."""
    ours, theirs = ((part.classes, part.positive) for part in (a, b))
    if ours != theirs:
        raise PredictionsError(
            f"{names[0]} is of classes {list(ours[0])} with {list(ours[1])} positive, {names[1]} of {list(theirs[0])} with "
            f"{list(theirs[1])} positive. Compare models that answer the same question."
        )
    frames = [part.frame[list(REQUIRED)].astype(str).set_index("image_id") for part in (a, b)]
    alone = [sorted(set(one.index) - set(other.index)) for one, other in (frames, frames[::-1])]
    if alone[0] or alone[1]:
        counted = " and ".join(f"{len(only):,} only in {name}" for only, name in zip(alone, names, strict=True) if only)
        raise PredictionsError(
            f"{names[0]} and {names[1]} were not tested on the same images: {len(a):,} images and {len(b):,}, {counted}, such as "
            f"{(alone[0] or alone[1])[0]!r}. Compare models that were tested on the same images (one task, one split)."
        )
    other = frames[1].loc[frames[0].index]
    for column in ("label", "group_id"):
        differs = (frames[0][column] != other[column]).to_numpy(dtype=bool)
        if differs.any():
            row = int(np.argmax(differs))
            raise PredictionsError(
                f"{column} of {int(differs.sum()):,} images differs between {names[0]} and {names[1]}: image "
                f"{frames[0].index[row]!r} has {frames[0][column].iloc[row]!r} and {other[column].iloc[row]!r}. Judge both on "
                "the same labels and groups."
            )


def _differences(
    first: Decided,
    second: Decided,
    drawn: tuple[Bootstrap, Bootstrap],
    confidence: float,
    delong_found: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    own = [intervals_of(side, made, confidence) for side, made in zip((first, second), drawn, strict=True)]
    rows = []
    for name in ordered(drawn[0].values):
        lower = name in LOWER_IS_BETTER
        difference = difference_of(first, second, *drawn, name, confidence)
        exact = sign_test(first, second, first.denominators[name]) if name in SHARES else None
        p = exact["p"] if exact else None
        if name == "auroc" and delong_found:
            p = delong_found["difference"]["p"]
        # Resamples of a few discordant groups that all point one way seldom lack them all: the interval alone claims too much.
        tested = exact is not None or name == "auroc"
        agrees = not tested or (p is not None and p < 1.0 - confidence)
        rows.append(
            {
                "name": name,
                "label": NAMES[name],
                "better": "lower" if lower else "higher",
                "a": own[0][name].to_dict(),
                "b": own[1][name].to_dict(),
                "difference": difference.to_dict(),
                "exact": exact,
                "p": p,
                "favours": favours(difference, lower_is_better=lower) if agrees else None,
            }
        )
    shares = {row["favours"] for row in rows if row["name"] in ("sensitivity", "specificity")}
    for row in rows:
        if row["name"] == "balanced_accuracy" and row["favours"] not in shares:
            row["favours"] = None
    return rows


def difference_of(
    first: Decided, second: Decided, drawn_a: Bootstrap, drawn_b: Bootstrap, name: str, confidence: float
) -> Interval:
    """Second minus first in one figure, from the same resamples of groups.

    Where no image of a share is decided differently, no resample can hold a difference: the interval is then plus and minus
    Wilson's upper bound of the share of groups in which the models could differ after all. Where both AUROCs are exactly 0 or
    1, Wilson's ends of both are joined; other figures have no ends where all resamples of different scores agree.
    """
    interval = difference_interval(name, drawn_b, drawn_a, confidence)
    if interval.value is None:
        return interval
    fewest = min(groups_of(first.predictions).values())
    if name in SHARES:
        if not np.any(first.flagged[first.denominators[name]] != second.flagged[second.denominators[name]]):
            bound = wilson(0, first.groups_in(name), confidence)[1]
            return Interval(interval.value, -bound, bound, WILSON, interval.dropped)
        return interval
    aucs = (drawn_b.values[name], drawn_a.values[name])
    if name == "auroc" and set(aucs) <= {0.0, 1.0}:
        shown = [auroc_interval(Interval(auc, None, None), fewest, confidence).to_dict() for auc in aucs]
        return Interval(**difference_of_shown(interval.to_dict(), *shown))
    alike = np.array_equal(first.predictions.probabilities, second.predictions.probabilities)
    return without_ends(interval, fewest) if alike else with_width(interval, fewest)


def favours(difference: Interval | Mapping[str, Any], *, lower_is_better: bool = False) -> str | None:
    """``a`` or ``b`` where the interval of ``B - A`` excludes 0; None where it holds 0 or is not known."""
    held = difference.to_dict() if isinstance(difference, Interval) else difference
    if held["low"] is None or held["low"] <= 0.0 <= held["high"]:
        return None
    return "b" if (held["low"] > 0.0) != lower_is_better else "a"


def delong_of(first: Decided, second: Decided, confidence: float) -> dict[str, Any] | None:
    """DeLong's test of the difference in AUROC; clustered where groups have several images; None with one class only."""
    held = first.predictions
    if not 0 < held.labels.sum() < len(held):
        return None
    grouped = is_grouped(held)
    method = CLUSTERED if grouped else DELONG
    aucs, covariance = delong(
        held.labels, held.scores, second.predictions.scores, groups=held.groups if grouped else None
    )
    own = [
        delong_interval(float(aucs[side]), float(covariance[side, side]), confidence, method=method) for side in (0, 1)
    ]
    test = delong_test(aucs, covariance, confidence, method=method)
    return {"a": own[0].to_dict(), "b": own[1].to_dict(), "difference": test.to_dict()}


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P values adjusted for their number by Holm's step-down method (Holm 1979), in the same order; None stays None."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = highest
    return adjusted


def row_of(pair: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """One figure of ``differences``; None where it is not there or has no value."""
    row = next((dict(row) for row in pair["differences"] if row["name"] == name), None)
    return row if row is not None and row["difference"]["value"] is not None else None


def signed(difference: Mapping[str, Any]) -> str:
    """``+0.012 (+0.002 to +0.022)``; without the interval where there is none."""
    ends = [difference[key] for key in ("value", "low", "high") if difference[key] is not None]
    if difference["value"] is None:
        return "n/a"
    texts = [f"{end:+.3f}" if round(end, 3) else "0.000" for end in ends]
    return texts[0] if len(texts) < 3 else f"{texts[0]} ({texts[1]} to {texts[2]})"

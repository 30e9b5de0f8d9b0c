"""What a comparison of two models says, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from evaluation.paired import favours, row_of, signed
from evaluation.wording import listed, percent, plural

SMALL_P: Final = 0.001


def words_of(
    pair: Mapping[str, Any],
    names: tuple[str, str],
    classes: tuple[str, str],
    group_name: str,
    *,
    adjusted_p: float | None = None,
) -> dict[str, Any]:
    """The verdict, a headline and the sentences behind it.

    Two questions are kept apart: which model ranks images better (AUROC; threshold-free) and which decides better at the
    thresholds that were fixed before.

    Args:
        pair: of :func:`evaluation.paired.compare`. ``names``: of the two models. ``classes``: what positives and negatives are
            called. ``group_name``: what a group is called.
        adjusted_p: of DeLong's test among several comparisons; None takes the p value of the pair alone.

    Returns:
        ``verdict``: ``a`` or ``b`` where one is better at one of both questions and nowhere worse, ``mixed`` where each wins
        something, ``none``. ``ranking``: ``a``, ``b`` or None. ``decisions``: the same for ``sensitivity`` and ``specificity``.
        ``headline``: one sentence. ``sentences``: the rest.
    """
    ranking = _ranking(pair, adjusted_p)
    decisions = {name: _favoured(pair, name) for name in ("sensitivity", "specificity")}
    winners = {winner for winner in (ranking, *decisions.values()) if winner is not None}
    verdict = "none" if not winners else "mixed" if len(winners) > 1 else winners.pop()
    sentences = [
        _decided(pair, names, classes),
        _ranked(pair, names, ranking, adjusted_p),
        *_rates(pair, names, group_name, several=adjusted_p is not None),
        *_over_classes(pair, names),
    ]
    return {
        "verdict": verdict,
        "ranking": ranking,
        "decisions": decisions,
        "headline": _headline(pair, names, classes, ranking, decisions),
        "sentences": [text for text in sentences if text],
    }


def _favoured(pair: Mapping[str, Any], name: str) -> str | None:
    row = row_of(pair, name)
    return row["favours"] if row else None


def _ranking(pair: Mapping[str, Any], adjusted_p: float | None) -> str | None:
    """Which model ranks better: only where the bootstrap interval excludes 0 and DeLong's p value, adjusted, agrees."""
    found = _favoured(pair, "auroc")
    return found if adjusted_p is None or adjusted_p < 1.0 - pair["confidence"] else None


def _p_of(pair: Mapping[str, Any], adjusted_p: float | None) -> float | None:
    if adjusted_p is not None or pair["delong"] is None:
        return adjusted_p
    p: float | None = pair["delong"]["difference"]["p"]
    return p


def _headline(
    pair: Mapping[str, Any],
    names: tuple[str, str],
    classes: tuple[str, str],
    ranking: str | None,
    decisions: Mapping[str, str | None],
) -> str:
    if pair["identical"]:
        return f"{names[0]} and {names[1]} give every image the same score and decide alike."
    called = {"a": names[0], "b": names[1]}
    ranks = f"{called[ranking]} ranks the images better" if ranking else "No evidence that either model ranks better"
    if pair["same_scores"]:
        ranks = "Both give every image the same score"
    finds, clears = decisions["sensitivity"], decisions["specificity"]
    found = {finds: f"finds more {classes[0]} images"} if finds else {}
    if clears:
        found[clears] = (
            f"{found[clears]} and clears more {classes[1]} images"
            if clears in found
            else f"clears more {classes[1]} images"
        )
    if not found:
        return (
            f"{ranks}; their decisions do not differ beyond chance either."
            if not ranking
            else (f"{ranks}; at the locked thresholds their decisions do not differ beyond chance.")
        )
    texts = [f"{called[side]} {text}" for side, text in found.items() if side is not None]
    return f"{ranks}; at its own locked threshold {', while '.join(texts)}."


def _decided(pair: Mapping[str, Any], names: tuple[str, str], classes: tuple[str, str]) -> str:
    """How many more images the second finds and clears than the first."""
    parts = []
    for part, verb, name in (("positives", "finds", classes[0]), ("negatives", "clears", classes[1])):
        counts = pair["agreement"][part]
        more = counts["only_b"] - counts["only_a"]
        if counts["n"]:
            parts.append(
                (verb, "as many" if not more else f"{abs(more):,} {'more' if more > 0 else 'fewer'}", counts["n"], name)
            )
    texts = [f"{verb} {many} of the {n:,} {name} images" for verb, many, n, name in parts]
    return f"Each at its own locked threshold, {names[1]} {listed(texts)} compared with {names[0]}."


def _ranked(pair: Mapping[str, Any], names: tuple[str, str], ranking: str | None, adjusted_p: float | None) -> str:
    row = row_of(pair, "auroc")
    if row is None or pair["delong"] is None:
        return "AUROC is not defined on these images, because they are of one class."
    if pair["same_scores"]:
        return f"Both give every image the same score, so that AUROC is {_value(row['a'])} for both."
    p, several = _p_of(pair, adjusted_p), adjusted_p is not None
    start = (
        f"AUROC is {_value(row['b'])} ({names[1]}) against {_value(row['a'])} ({names[0]}), a difference of "
        f"{signed(row['difference'])}, {pair['delong']['difference']['method']} {p_text(p)}"
        f"{', adjusted for the number of comparisons' if several else ''}"
    )
    if ranking:
        return f"{start}: evidence that {names[1] if ranking == 'b' else names[0]} ranks better."
    difference = row["difference"]
    if difference["low"] is None and difference["value"] == 0:
        return f"{start}: no evidence that one ranks better, and resamples give no interval."
    if difference["low"] is None:
        return f"{start}; there are too few groups for an interval."
    if favours(difference):
        return f"{start}: the interval excludes 0 but the test does not agree, so this is weak evidence at most."
    text = f"{start}: no evidence that one ranks better."
    largest = f"{max(abs(difference['low']), abs(difference['high'])):.3f}"
    if float(largest) == 0:  # "below 0.000" would claim more than any number of images shows
        return text
    return f"{text} With {percent(pair['confidence'])} confidence the difference is below {largest} either way."


def _rates(pair: Mapping[str, Any], names: tuple[str, str], group_name: str, *, several: bool) -> list[str]:
    """Sensitivity and specificity, with what the exact test says, which ``several`` comparisons do not change."""
    unit = group_name if pair["grouped"] else "image"
    test = "exact sign test" if pair["grouped"] else "McNemar's exact test"
    found = []
    for name in ("sensitivity", "specificity"):
        row = row_of(pair, name)
        if row is None:
            continue
        counted = plural(row["exact"]["only_a"] + row["exact"]["only_b"], unit)
        found.append(
            f"{name.capitalize()} differs by {signed(row['difference'])}, {test} on the {counted} that differ: "
            f"{p_text(row['p'])}{', not adjusted for the number of comparisons' if several else ''}; {_says(row, names)}."
        )
    return found


def _says(row: Mapping[str, Any], names: tuple[str, str]) -> str:
    if row["favours"] is None:
        return "no evidence of a difference"
    return f"evidence that it is higher with {names[1] if row['favours'] == 'b' else names[0]}"


def _over_classes(pair: Mapping[str, Any], names: tuple[str, str]) -> list[str]:
    found = []
    for name in ("macro_auroc", "argmax_balanced_accuracy"):
        row = row_of(pair, name)
        if row is None:
            continue
        label = row["label"][0].upper() + row["label"][1:]
        found.append(
            f"{label}: {_value(row['b'])} against {_value(row['a'])}, difference {signed(row['difference'])}: "
            f"{_says(row, names)}."
        )
    return found


def p_text(p: float | None) -> str:
    """``p = 0.032``, ``p < 0.001``, ``p not defined``."""
    if p is None:
        return "p not defined"
    return f"p < {SMALL_P}" if p < SMALL_P else f"p = {p:.3f}"


def _value(interval: Mapping[str, Any]) -> str:
    return "n/a" if interval["value"] is None else f"{interval['value']:.3f}"

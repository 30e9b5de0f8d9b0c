"""How the model stands against simpler methods, as the first screen and the terminal say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from evaluation.wording import listed

CLEARED: Final = "cleared"
WORSE: Final = "worse"
UNCLEAR: Final = "not cleared"
_SHOWN: Final = (("macro_auroc", "macro AUROC"), ("balanced_accuracy", "balanced accuracy"), ("auroc", "AUROC"))


def standing(row: Mapping[str, Any]) -> str:
    """What the interval of model - baseline in AUROC says: ``cleared`` (above 0), ``worse`` (below 0) or ``not cleared``."""
    if row["clears"]:
        return CLEARED
    high = row["difference"]["auroc"]["high"]
    return WORSE if high is not None and high < 0 else UNCLEAR


def rivals_card(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The card of the first screen: the model beside the best of the baselines. None where none was scored.

    Returns:
        ``title``, ``badge`` with ``good``, ``gains`` (name and difference of each figure that there is), ``text`` and
        ``count``, the number of baselines (0 for metrics from before there were several).
    """
    rows, baseline = metrics.get("baselines") or [], metrics.get("baseline")
    best = next((row for row in rows if row.get("best")), baseline)
    if best is None:
        return None
    several = bool(metrics["splits"]["test"].get("multiclass"))
    gains = []
    for key, called in _SHOWN:
        gain = best["difference"].get(key)
        # Of several classes the one AUROC of the positive ones would be a third figure; the table holds it.
        if gain and gain["value"] is not None and not (several and key == "auroc"):
            gains.append({"name": called, "interval": gain})
    card = {"gains": gains, "count": len(rows), "good": all(row["clears"] for row in rows or [best])}
    if len(rows) > 1:
        return {**card, "title": "Against baselines", "badge": _badge(rows), "text": _text(best, rows, gains)}
    found = standing(best)
    badge = f"worse than {best['short']}" if found == WORSE and rows else found
    text = _text(best, rows, gains) if rows else best["sentence"]
    return {**card, "title": "Against the baseline", "badge": badge, "text": text}


def _badge(rows: list[dict[str, Any]]) -> str:
    worse = [row["short"] for row in rows if standing(row) == WORSE]
    missed = sum(not row["clears"] for row in rows)
    if len(worse) == 1:
        return f"worse than {worse[0]}"
    if worse:
        return f"worse than {len(worse)} of {len(rows)}"
    return f"{missed} of {len(rows)} not cleared" if missed else f"all {len(rows)} cleared"


def _text(best: Mapping[str, Any], rows: list[dict[str, Any]], gains: list[dict[str, Any]]) -> str:
    text = f"{_lead(gains)} {best['short']}"
    text += f", on validation the best of {len(rows)} simpler methods." if len(rows) > 1 else "."
    said = []
    for wanted, words in ((WORSE, "worse than"), (UNCLEAR, "not shown to be better than")):
        names = [row["short"] for row in rows if standing(row) == wanted]
        if names:
            said.append(f"{words} {listed(names)}")
    return f"{text} On test the model is {', and '.join(said)}." if said else text


def _lead(gains: list[dict[str, Any]]) -> str:
    """Which way the figures above the sentence point; neither where one of them may be chance."""
    ends = [(gain["interval"]["low"], gain["interval"]["high"]) for gain in gains]
    if ends and all(low is not None and low > 0 for low, _ in ends):
        return "Beyond"
    if ends and all(high is not None and high < 0 for _, high in ends):
        return "Below"
    return "Compared with"

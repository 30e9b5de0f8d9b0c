"""The card of the first screen says which way the differences to simpler methods point."""

from __future__ import annotations

from typing import Any

import pytest

from evaluation.report_rivals import rivals_card, standing

Ends = tuple[float | None, float | None]
BETTER, WORSE, UNSURE = (0.1, 0.3), (-0.309, -0.079), (-0.1, 0.2)


def row(short: str, ends: Ends, best: bool = False) -> dict[str, Any]:
    low, high = ends
    value = 0.5 if low is None or high is None else (low + high) / 2
    gain = {"value": value, "low": low, "high": high}
    return {"short": short, "difference": {"auroc": gain}, "clears": low is not None and low > 0, "best": best}


def card(*rows: dict[str, Any]) -> dict[str, Any]:
    found = rivals_card({"baselines": list(rows), "baseline": None, "splits": {"test": {}}})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("ends", "said"),
    [(BETTER, "cleared"), (WORSE, "worse"), (UNSURE, "not cleared"), ((-0.2, 0.0), "not cleared")],
)
def test_standing_of_one_baseline(ends: Ends, said: str) -> None:
    assert standing(row("x", ends)) == said
    assert standing(row("x", (None, None))) == "not cleared"


def test_a_model_that_is_worse_is_called_worse() -> None:
    found = card(row("thumbnails", BETTER), row("HOG and SVM", WORSE, best=True))
    assert found["badge"] == "worse than HOG and SVM" and not found["good"]
    assert found["text"].startswith("Below HOG and SVM, on validation the best of 2")
    assert found["text"].endswith("On test the model is worse than HOG and SVM.")
    assert [gain["name"] for gain in found["gains"]] == ["AUROC"]


def test_what_is_open_is_not_called_worse_and_both_are_named() -> None:
    found = card(row("a", UNSURE, best=True), row("b", WORSE), row("c", WORSE), row("d", UNSURE))
    assert found["badge"] == "worse than 2 of 4"
    assert found["text"].startswith("Compared with a,")
    assert "worse than b and c, and not shown to be better than a and d." in found["text"]
    assert card(row("a", UNSURE, best=True), row("b", BETTER))["badge"] == "1 of 2 not cleared"


def test_a_model_that_clears_all() -> None:
    found = card(row("a", BETTER, best=True), row("b", BETTER))
    assert found["badge"] == "all 2 cleared" and found["good"] and found["text"].startswith("Beyond a,")
    assert "On test" not in found["text"]
    assert card(row("a", WORSE, best=True))["badge"] == "worse than a"


def test_without_baselines_there_is_no_card() -> None:
    assert rivals_card({"baselines": [], "baseline": None, "splits": {"test": {}}}) is None


def test_metrics_from_before_there_were_several_baselines_keep_their_sentence() -> None:
    old = {**row("thumbnails", WORSE), "sentence": "It is worse."}
    found = rivals_card({"baseline": old, "splits": {"test": {}}})
    assert found is not None and found["badge"] == "worse" and found["text"] == "It is worse." and not found["count"]

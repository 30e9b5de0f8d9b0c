"""The end of a run in the terminal says what metrics.json says."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from evaluation.report_parts import worries_of_folder
from evaluation.terminal import print_results


def figure(value: float | None) -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - 0.01, value + 0.01)
    return {"value": value, "low": low, "high": high}


def point(value: float) -> dict[str, Any]:
    return {name: figure(value) for name in ("accuracy", "sensitivity", "specificity", "group_recall")}


def metrics(promise: dict[str, Any] | None) -> dict[str, Any]:
    side = {"auroc": figure(0.9), "at_0.5": point(0.8), "at_threshold": point(0.7)}
    price = [
        {"rule": "0.5", "threshold": 0.5, "sensitivity": 0.8, "specificity": None, "group_recall": 0.9},
        {"rule": "certified", "threshold": None, "sensitivity": None, "specificity": None, "group_recall": None},
    ]
    return {
        "title": "Phantom data - a [title]",
        "threshold": {"threshold": 0.25, "rule": "empirical", "price": price},
        "splits": {"val": side, "test": {**side, "auroc": figure(None)}},
        "confidence": 0.95,
        "bootstrap": {"resamples": 2000},
        "group_name": "patient",
        "promise": promise,
        "worries": [{"level": "alarm", "title": "A title", "text": "A text with [brackets]."}],
    }


def printed(promise: dict[str, Any] | None) -> str:
    console = Console(width=100, record=True, highlight=False, file=io.StringIO())
    print_results(metrics(promise), console)
    return console.export_text()


def test_figures_price_and_worries() -> None:
    text = printed(None)
    for part in (
        "0.900 (0.890-0.910)",
        "at 0.25 (empirical)",
        "2,000 resamples of patients",
        "alarm: A title",
        "[brackets]",
    ):
        assert part in text, text
    assert "nan" not in text.lower()
    assert "None" not in text
    assert "promise" not in text


def test_the_promise_is_told() -> None:
    assert "promise: It held." in printed({"sentence": "It held."})


def several() -> dict[str, Any]:
    held = metrics(None)
    recalls = [{"class": name, "recall": figure(value)} for name, value in (("m[e]l", 0.61), ("df", None))]
    names = ("balanced_accuracy", "accuracy", "macro_f1", "kappa", "macro_auroc")
    multiclass = {name: figure(0.77) for name in names} | {"classes": recalls}
    held["splits"] = {part: {**side, "multiclass": multiclass} for part, side in held["splits"].items()}
    return held | {"positive_class": "malignant", "negative_class": "benign", "test_kind": "cut", "leak": None}


def test_several_classes_come_before_the_positive_ones() -> None:
    console = Console(width=100, record=True, highlight=False, file=io.StringIO())
    print_results(several(), console)
    text = console.export_text()
    places = [
        text.index(part) for part in ("a [title]", "balanced accuracy", "m[e]l", "malignant against benign", "at 0.25")
    ]
    assert places == sorted(places)
    assert "0.770 (0.760-0.780)" in text and "n/a" in text
    assert "test part cut by patient, locked" in text


def test_a_leaky_split_is_told_first_and_once() -> None:
    leaky = several() | {"leak": {"share": 0.4}, "test_kind": "official"}
    leaky["worries"].insert(0, {"level": "alarm", "title": "LEAKY split", "text": "Too good."})
    console = Console(width=100, record=True, highlight=False, file=io.StringIO())
    print_results(leaky, console)
    text = console.export_text()
    assert text.strip().startswith("alarm: LEAKY split")
    assert text.count("Too good.") == 1 and "official test part, LEAKY" in text
    assert "alarm: A title" in text


def test_without_validation_nothing_is_called_locked() -> None:
    given = metrics(None) | {"test_kind": "given", "leak": None}
    given["splits"] = {"test": given["splits"]["test"]}
    console = Console(width=100, record=True, highlight=False, file=io.StringIO())
    print_results(given, console)
    text = console.export_text()
    assert "locked" not in text and "validation" not in text.split("price of recall")[0] and "test" in text
    assert "test (locked)" in printed(None)


def test_worries_are_those_of_the_page_in_its_order(tmp_path: Path) -> None:
    held = metrics(None)
    held["worries"] = [{"level": "note", "title": "A note", "text": "n"}, *held["worries"]]
    audit = {"findings": [{"level": "alarm", "title": "Another kind", "text": "Of the [official] part."}]}
    for name, content in (("metrics", held), ("audit", audit), ("data_card", {"licence": "CC BY-NC 4.0"})):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    worries = worries_of_folder(tmp_path)
    titles = ["A title", "Another kind", "A note", "Licence of the data"]
    assert [item["title"] for item in worries] == titles
    console = Console(width=100, record=True, highlight=False, file=io.StringIO())
    print_results(held, console, worries=worries)
    text = console.export_text()
    places = [text.index(f": {title}") for title in titles]
    assert places == sorted(places) and "[official]" in text

"""What the page says of the threshold: certified or approximate, fixed before or after the test, aimed at a recall or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.report import write_report
from evaluation.report_files import read_run
from evaluation.report_parts import fixed_when
from tests.evaluation.test_report import CUT, edit, make_run
from tests.evaluation.test_report_given import text_of

ADVANCE = {"sentence": "It should miss about 0.4.", "certified": True}
AGAIN: dict[str, Any] = {
    "kind": "judged again",
    "source": {"run": "runs/a", "kind": "run", "threshold": 0.4, "rule": "certified"},
}
CERTAIN = "Chosen so that at least 95"
BEFORE = "only then taken to the test set, which had no say in it"


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.pages._PNG_DPI", 20)


def texts(folder: Path, **point: Any) -> tuple[str, str]:
    """First screen and operating point of a run whose threshold.json has these fields."""
    edit(folder / "threshold.json", **point)
    page = write_report(folder).read_text(encoding="utf-8")
    first, rest = page.split('<section id="results"')
    return text_of(first), text_of(rest.split('<section id="operating-point"')[1].split("<section")[0])


def with_promise(folder: Path, **changes: Any) -> Path:
    metrics = json.loads((folder / "metrics.json").read_text())
    edit(folder / "metrics.json", promise=metrics["promise"] | changes)
    return folder


@pytest.mark.parametrize(
    ("point", "certain"),
    [
        ({}, True),
        ({"recall_lower_bound": None, "statement": "Approximate, not certified."}, False),
        ({"unmet": "No specificity.", "statement": "A bound, and no specificity."}, False),
        ({"rule": "crc", "recall_lower_bound": None, "statement": "On average."}, False),
    ],
)
def test_confidence_is_claimed_only_where_it_was_certified(
    tmp_path: Path, point: dict[str, Any], certain: bool
) -> None:
    first, section = texts(make_run(tmp_path / "run"), **point)
    assert (CERTAIN in first) is certain
    assert ("certified on validation" in first) is ("recall_lower_bound" not in point)
    assert (point.get("statement", "never") in first) is not certain
    assert ("Lower bound, 95" in section) is ("recall_lower_bound" not in point)


def test_a_threshold_from_before_the_test_says_so(tmp_path: Path) -> None:
    first, section = texts(with_promise(make_run(tmp_path / "run"), advance=ADVANCE))
    assert (
        BEFORE in section and "Said before the test: It should miss" in section and "At the locked threshold" in first
    )
    edit(tmp_path / "run" / "run.json", **AGAIN | {"source": AGAIN["source"] | {"threshold": CUT}})
    assert BEFORE in texts(tmp_path / "run")[1]
    assert "set before the test set was scored" in texts(tmp_path / "run", rule="fixed", recall_lower_bound=None)[1]


@pytest.mark.parametrize("key", ["advance", "expectation"])
def test_a_threshold_from_after_the_test_never_claims_to_be_older(tmp_path: Path, key: str) -> None:
    folder = with_promise(make_run(tmp_path / "run"), **{key: ADVANCE})
    edit(folder / "run.json", **AGAIN)
    first, section = texts(folder)
    assert "re-chosen after the test set had been seen" in section and "no say in it" not in section
    assert "What the rule leads to expect: It should miss" in section and "before the test" not in section
    page = text_of((folder / "report.html").read_text(encoding="utf-8"))
    assert "locked" not in page and "Said before the test" not in page and "At the threshold it finds" in first


def test_when_it_was_fixed_is_left_open_where_no_file_tells(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert fixed_when(read_run(folder)) == "before"
    for kind in ("given", "external"):
        edit(folder / "metrics.json", test_kind=kind)
        assert fixed_when(read_run(folder)) == ""
    edit(folder / "metrics.json", test_kind="official")
    edit(folder / "run.json", kind="judged again", source={"kind": "judged again", "threshold": CUT})
    assert fixed_when(read_run(folder)) == ""
    assert fixed_when(read_run(with_promise(folder, advance=ADVANCE))) == "before"


def test_a_recall_is_aimed_at_only_by_the_rules_that_do(tmp_path: Path) -> None:
    _, section = texts(make_run(tmp_path / "run"))
    assert "Target recall" in section and "Misses allowed" in section and "Expected recall" in section
    assert "Score of a patient highest of its PNEUMONIA images" in section
    _, section = texts(tmp_path / "run", rule="youden", misses_allowed=3, recall_lower_bound=None, expected_recall=None)
    assert "Missed on validation 3" in section
    for gone in ("Target recall", "Lower bound", "Expected recall", "Misses allowed"):
        assert gone not in section


def test_a_promised_specificity_has_its_own_badge_and_sentence(tmp_path: Path) -> None:
    first, section = texts(make_run(tmp_path / "run"))
    assert "promise kept on test" in first and "The promise kept on test" in section
    with_promise(tmp_path / "run", specificity={"kept": False, "sentence": "It flags 9 of 12."})
    first, section = texts(tmp_path / "run")
    for text in (first, section):
        assert "recall kept on test specificity broken on test" in text and "promise kept on test" not in text
    assert "It flags 9 of 12." in section


def test_places_on_this_machine_are_not_passed_on(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    source = {"run": "/secret/someone/runs/a", "parts": ["/secret/someone/b/c"], "title": "Pneumonia"}
    edit(folder / "run.json", kind="judged again", source=source)
    (folder / "config.yaml").write_text("data:\n  root: /secret/someone/data\n")
    texts(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    before, after = page.split("Resolved configuration")
    assert (
        "/secret" not in before and ".../runs/a" in before and ".../b/c" in before and "/secret/someone/data" in after
    )

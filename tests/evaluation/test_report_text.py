"""Numbers and dates as the report writes them."""

from __future__ import annotations

from pathlib import Path

from evaluation.report_text import (
    difference,
    difference_range,
    moment,
    percent,
    place,
    plural,
    probability,
    range_of,
    score,
    seconds,
    value_of,
)
from tests.evaluation.test_report import interval


def test_numbers_as_people_write_them() -> None:
    assert score(0.95349) == "0.953" and score(-0.1) == "\u22120.100" and score(None) == "\u2013"
    assert score(-0.0002) == "0.000" and score(0.0) == "0.000" and score(-0.0005001) == "\u22120.001"
    assert [probability(p) for p in (0.0658, 1e-9, 1.0)] == ["0.066", "<\u202f0.001", ">\u202f0.999"]
    assert percent(0.9536) == "95.4\u202f%"
    assert value_of(interval(0.9)) == "0.900" and range_of(interval(0.9)) == "0.870\u20130.930"
    assert range_of(interval(None)) == "" and range_of(interval(0.0)) == "\u22120.030 to 0.030"
    assert difference(interval(-0.418)) == "\u22120.418" and difference(interval(None)) == "\u2013"
    assert difference(interval(-0.0001)) == difference(interval(0.0001)) == "0.000"
    assert difference_range(interval(0.03)) == "0.000 to +0.060"
    assert difference_range(interval(0.1)) == "+0.070 to +0.130"
    assert [seconds(value) for value in (None, 2.25, 217.0, 7500.0)] == ["\u2013", "2.2 s", "3 min 37 s", "2 h 05 min"]
    assert moment("2026-11-21T08:15:41+00:00") == "21 November 2026, 08:15 UTC" and moment("soon") == "soon"
    assert plural(1, "patient") == "1 patient" and plural(1234, "patient") == "1,234 patients"


def test_a_place_is_named_from_where_the_reader_may_know_it() -> None:
    here, home = Path("/home/a/work"), Path("/home/a")
    for written, expected in {
        "/home/a/work/runs/1": "runs/1",
        "/home/a/work": ".",
        "/home/a/data/../runs/1": "~/runs/1",
        "/mnt/disk/team/runs/1": ".../runs/1",
        "/tmp/a": ".../tmp/a",
        "runs/1": "runs/1",
        "~/runs/1": "~/runs/1",
        ".../runs/1": ".../runs/1",
        "a title": "a title",
    }.items():
        assert place(written, here, home) == expected
    up = "/".join([".."] * 30)
    assert place(f"{up}/mnt/disk/team/runs/1", here, home) == ".../runs/1"
    assert place(0.25) == 0.25 and place(None) is None
    assert place(str(Path.cwd() / "runs")) == "runs"

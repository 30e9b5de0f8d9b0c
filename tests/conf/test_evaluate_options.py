"""The command line of evaluate.py: every form, and one message for whatever is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from conf.evaluate_keys import CALLED, KEYS, help_text
from conf.evaluate_options import (
    AGGREGATE,
    COMPARE,
    EXTERNAL,
    FOREIGN,
    PREDICTIONS,
    REJUDGE,
    ROBUSTNESS,
    UsageError,
    parsed,
)
from conf.schema import RESEARCH_NOTICE, ThresholdConfig


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders a and b, files p.csv and v.csv, in the current folder."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").touch()
    for name in ("p.csv", "v.csv"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)


def assert_refused(line: str | list[str], *words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(line.split() if isinstance(line, str) else line)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "form", "paths"),
    [
        ("run=a", REJUDGE, ["a"]),
        ("run=a robustness=false", REJUDGE, ["a"]),
        ("run=a robustness=true images=50 seed=3", ROBUSTNESS, ["a"]),
        ("run=a robustness=true data.root=b", ROBUSTNESS, ["a"]),
        ("run=a foreign=b", FOREIGN, ["a"]),
        ("run=a foreign=[a,b] images=9 seed=2 data.root=b", FOREIGN, ["a"]),
        ("run=a task=isic9 data.root=b", EXTERNAL, ["a"]),
        ("run=[a,b] task=isic9", EXTERNAL, ["a", "b"]),
        ("predictions=p.csv", PREDICTIONS, ["p.csv"]),
        ("compare=[a,b]", COMPARE, ["a", "b"]),
        ("aggregate=a", AGGREGATE, ["a"]),
        ("aggregate=[a,b]", AGGREGATE, ["a", "b"]),
    ],
)
def test_forms(line: str, form: str, paths: list[str]) -> None:
    options = parsed(line.split())
    assert options.form == form and [str(path) for path in options.paths] == paths


def test_foreign_folders_are_there_and_no_other_form_takes_them() -> None:
    assert parsed(["run=a", "foreign=[a,b]"]).foreign == [Path("a"), Path("b")]
    assert_refused("run=a foreign=nowhere", "foreign=nowhere", "no folder nowhere")
    assert_refused("run=a foreign=p.csv", "no folder p.csv")
    assert_refused("compare=[a,b] foreign=a", "belongs to run=RUN foreign=FOLDER")
    assert_refused("run=a foreign=b bootstrap=100", "bootstrap is not used with run=RUN foreign=FOLDER")
    assert_refused("run=a foreign=b task=isic9", "only data.root")


def test_values_arrive_as_what_they_are() -> None:
    line = "run=a threshold=fbeta threshold.recall=0.9 threshold.beta=3 threshold.min_specificity=0.5"
    options = parsed(
        [
            *line.split(),
            "bootstrap=100",
            "confidence=0.9",
            "interval=bca",
            "prevalences=[0.01,0.2]",
            "seed=7",
            "output=~/there",
        ]
    )
    assert options.threshold == {"rule": "fbeta", "recall": 0.9, "beta": 3.0, "min_specificity": 0.5}
    assert options.judging == {
        "bootstrap": 100,
        "confidence": 0.9,
        "interval": "bca",
        "prevalences": [0.01, 0.2],
        "seed": 7,
    }
    assert options.output == Path("~/there").expanduser()
    assert parsed(["run=a", "threshold.value=0.3"]).threshold == {"rule": "fixed", "value": 0.3}
    assert parsed(["run=a", "threshold.min_specificity=null"]).threshold == {"min_specificity": None}


def test_what_another_tool_wrote() -> None:
    line = (
        "predictions=p.csv validation=v.csv columns.id=scan columns.group=none positive=[mel,bcc] classes=[nv,mel,bcc]"
    )
    given = parsed([*line.split(), "group_name=lesion"]).given
    assert given == {
        "validation": Path("v.csv"),
        "positive": ["mel", "bcc"],
        "classes": ["nv", "mel", "bcc"],
        "group_name": "lesion",
        "columns": {"id": "scan", "group": None},
    }
    assert parsed(["predictions=p.csv", "calibration_share=0.4", "positive=mel"]).given == {
        "calibration_share": 0.4,
        "positive": ["mel"],
    }


def test_what_describes_another_data_set_is_passed_on_as_it_was_typed() -> None:
    options = parsed(
        [
            "run=a",
            "task=ham10000",
            "data.root=/some where",
            "mapping={nevus: benign, mel:malignant}",
            "part=test",
        ]
    )
    assert options.overrides == ["task=ham10000", "data.root=/some where"]
    assert options.mapping == {"nevus": "benign", "mel": "malignant"} and options.part == "test"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ("what is to be judged", "run=RUN", "predictions=FILE.csv", "compare=[RUN,RUN]", "aggregate=FOLDER")),
        ("run", ("'run' is not of the form key=value",)),
        ("run=", ("run has no value",)),
        ("run=a run=b", ("given twice", "run=[RUN,RUN]")),
        ("run=a compare=[a,b]", ("run= and compare=", "one of them")),
        ("run=nowhere", ("run=nowhere", "no such folder")),
        ("run=p.csv", ("this is a file", "predictions=p.csv")),
        ("predictions=nowhere.csv", ("predictions=nowhere.csv", "no such file")),
        ("predictions=a", ("one CSV file", "run=RUN")),
        ("predictions=p.csv validation=w.csv", ("validation=w.csv", "no such file")),
        ("predictions=p.csv validation=v.csv calibration_share=0.5", ("leave the other away",)),
        ("predictions=p.csv calibration_share=1", ("calibration_share=1", "below 1")),
        ("predictions=p.csv calibration_share=half", ("'half' is not a number",)),
        ("predictions=p.csv columns.score=none", ("columns.score=none", "nothing can be judged")),
        ("predictions=p.csv colums.id=x", ("Did you mean 'columns.id'?",)),
        ("predictions=p.csv task=isic9", ("task=isic9", "run=RUN task=TASK")),
        ("compare=[a]", ("two or more",)),
        ("compare=[a,b", ("only one bracket", "'compare=[A,B]'")),
        ("compare=[a,,b]", ("empty entry",)),
        ("compare=[a,a]", ("given twice",)),
        ("compare=[a,b] threshold=youden", ("threshold is not used with compare=[RUN,RUN]", "run=RUN")),
        ("aggregate=a positive=x", ("positive is not used with aggregate=FOLDER",)),
        ("run=a positive=x", ("positive is not used with run=RUN", "predictions=FILE.csv")),
        ("run=a images=5", ("images is not used with run=RUN", "robustness=true")),
        ("run=a robustness=yes", ("robustness=yes", "true or false")),
        ("run=a robustness=true task=isic9", ("task=isic9", "only data.root")),
        ("run=a robustness=true images=0", ("images=0", "at least 1")),
        ("run=a robustness=true images=many", ("'many' is not a whole number",)),
        ("run=a robustness=true threshold=youden", ("threshold is not used",)),
        ("run=a data.root=b", ("data.root", "task=NAME")),
        ("run=a part=test", ("part", "task=NAME")),
        ("run=a task=isic9 part=val", ("part=val", "all, test")),
        ("run=a task=isic9 threshold=youden", ("run's own threshold",)),
        ("run=a task=isic9 mapping={nevus}", ("mapping={nevus}", "{THEIRS:OURS")),
        ("run=a task=isic9 mapping={a:b,a:c}", ("named once",)),
        ("run=a threshold=yuden", ("threshold=yuden", "certified, crc", "Did you mean 'youden'?")),
        ("run=a threshold=youden threshold.rule=crc", ("give one of them",)),
        ("run=a threshold=youden threshold.value=0.3", ("threshold.value=0.3", "not of threshold=youden")),
        ("run=a threshold.miss_cost=3", ("add threshold=cost",)),
        ("run=a threshold=fixed", ("threshold.value=0.3",)),
        ("run=a threshold.recall=1", ("threshold.recall=1", "above 0 and below 1")),
        ("run=a threshold.recall=nan", ("finite",)),
        ("run=a threshold.rcall=0.9", ("Did you mean 'threshold.recall'?",)),
        ("run=a recal=0.9", ("there is no key 'recal'", "threshold.recall")),
        ("run=a bootstrap=10", ("bootstrap=10", "at least 100")),
        ("run=a bootstrap=1e3", ("'1e3' is not a whole number",)),
        ("run=a confidence=95", ("confidence=95", "below 1")),
        ("run=a interval=bootstrap", ("interval=bootstrap", "percentile, bca")),
        ("run=a prevalences=[0.1,2]", ("prevalences=2", "below 1")),
        ("run=a model.image_size=64", ("model.image_size=64", "belongs to train.py")),
        ("run=a output=a/again", ("output=a/again", "inside a")),
        ("compare=[a,b] output=b/new", ("inside b", "not changed")),
        ("predictions=p.csv output=a/deep/new", ("inside a", "not changed")),
        ("run=a seed=-1", ("seed=-1", "at least 0")),
    ],
)
def test_one_message_for_whatever_is_wrong(line: str, words: tuple[str, ...]) -> None:
    assert_refused(line, *words)


def test_a_key_that_is_given_twice_is_not_guessed() -> None:
    assert_refused("run=a task=isic9 task=ham10000", "task is given twice")
    assert_refused("run=a bootstrap=100 bootstrap=200", "bootstrap is given twice")


def test_help_names_every_key_and_fits_a_terminal() -> None:
    text = help_text("intro", RESEARCH_NOTICE)
    assert text.startswith("intro") and text.endswith(RESEARCH_NOTICE)
    for key in KEYS:
        assert re.search(rf"^  {re.escape(key)} ", text, re.MULTILINE), key
    assert max(map(len, text.splitlines())) <= 130
    infeasible = " ".join(text.partition("  threshold.infeasible")[2].split())
    assert "refuse (default)" in infeasible and "default empirical" not in infeasible


def test_every_key_of_the_operating_point_is_known_and_every_form_is_reachable() -> None:
    fields: dict[str, Any] = vars(ThresholdConfig())
    assert {f"threshold.{name}" for name in fields} <= set(KEYS)
    assert {form for key in KEYS.values() for form in key.forms} == set(CALLED)


def test_a_record_may_lie_beside_the_runs_that_are_searched() -> None:
    assert parsed(["aggregate=.", "output=evaluations/new"]).output == Path("evaluations/new")

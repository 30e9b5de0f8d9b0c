"""Unfinished answers on disk: whole after whatever stopped the command, and never mixed with answers to something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workflow.answers import Answer
from workflow.prediction_journal import JOURNAL, RECORD, Journal, held, require_open

NAMES = [f"scan {number}.png" for number in range(10)]
IDENTITY: dict[str, Any] = {"weights": ["ab" * 32], "threshold": 0.1 + 0.2, "abstain": True, "batch_size": 4}


def answer(number: int) -> Answer:
    if number == 3:
        return Answer(NAMES[3], "somewhere", "p\udcff", error="scan 3.png: the file is empty")
    return Answer(
        NAMES[number], "x", None, (1 / 3, 2 / 3), 2 / 3, 0.1 * number, (0.5, 0.5), "yes", "b", True, 0.01, ("a, b",)
    )


def journal(folder: Path, **changed: Any) -> Journal:
    return Journal(folder, IDENTITY | changed, NAMES, 4)


def half_done(folder: Path) -> Journal:
    found = journal(folder)
    found.append([answer(number) for number in range(4)])
    found.append([answer(number) for number in range(4, 8)])
    return found


def test_answers_come_back_as_they_were(tmp_path: Path) -> None:
    half_done(tmp_path)
    again = journal(tmp_path)
    assert again.done == 8 and list(again.answers()) == [answer(number) for number in range(8)]
    again.append([answer(8), answer(9)])
    assert journal(tmp_path).done == 10  # the last chunk may be smaller


@pytest.mark.parametrize(("lost", "left"), [(1, 4), (200, 4), (10**9, 0)])
def test_a_torn_end_costs_its_chunk_and_no_more(tmp_path: Path, lost: int, left: int) -> None:
    path = half_done(tmp_path).path
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: max(first, len(whole) - lost)])
    again = journal(tmp_path)
    assert again.done == left and list(again.answers()) == [answer(number) for number in range(left)]
    again.append([answer(number) for number in range(left, left + 4)])
    assert path.read_bytes() == whole[: len(path.read_bytes())]  # nothing of the torn line is left between


def test_a_journal_that_was_not_even_begun_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text('{"weig', encoding="utf-8")
    assert journal(tmp_path).done == 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"weights": ["cd" * 32]}, r"the weights of the model changed since\. Type the command as it was"),
        ({"threshold": 0.3}, r"the threshold changed since \(was 0.30000000000000004, is 0.3\)"),
        ({"abstain": False}, r"abstain changed since \(was True, is False\)"),
        ({"images": "x"}, r"the list of images changed since \(was None, is x\)"),
    ],
)
def test_answers_to_something_else_are_refused(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    before = half_done(tmp_path).path.read_bytes()
    with pytest.raises(ValueError, match=words):
        journal(tmp_path, **changed)
    assert (tmp_path / JOURNAL).read_bytes() == before


@pytest.mark.parametrize("damage", ["nonsense\n", '{"image_id": "another.png"}\n', "[1]\n"])
def test_a_damaged_line_is_named(tmp_path: Path, damage: str) -> None:
    path = half_done(tmp_path).path
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:2], damage, *lines[3:]]), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"line 3 is damaged, so these predictions cannot be finished\. Remove the folder"
    ):
        list(journal(tmp_path).answers())


def test_which_folders_are_open(tmp_path: Path) -> None:
    for name in ("new", "empty"):
        require_open(tmp_path / name)
        (tmp_path / "empty").mkdir(exist_ok=True)
    half_done(tmp_path / "empty")
    require_open(tmp_path / "empty")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match=r"other: this is already there and is never overwritten"):
        require_open(tmp_path / "other")
    with pytest.raises(ValueError, match=r"thesis.txt: this is already there"):
        require_open(tmp_path / "other" / "thesis.txt")
    (tmp_path / "other" / RECORD).write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="holds finished predictions and is never overwritten"):
        require_open(tmp_path / "other")


def test_two_commands_do_not_share_a_folder(tmp_path: Path) -> None:
    with held(tmp_path / "out"):
        with pytest.raises(ValueError, match=r"another predict\.py works in this folder"), held(tmp_path / "out"):
            raise AssertionError("two commands were let in")
        require_open(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    with held(tmp_path / "out"):
        assert (tmp_path / "out").is_dir()


def test_what_a_killed_command_left_beside_its_files_is_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "panel").mkdir(parents=True)
    left = [
        ".predictions.csv.41",
        ".predictions.parquet.41",
        ".prediction.json.7",
        ".groups.csv.7",
        ".panel_002.html.7",
    ]
    own = [".predictions.csv", ".notes.7", "panel/.page_001.jpg.7"]
    for name in [*left, ".unfinished.jsonl.7", "panel/.page_001.png.7", *own]:
        (out / name).write_text("half", encoding="utf-8")
    with held(out):
        there = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert there == {*own, ".lock"}


def test_a_command_that_was_killed_before_its_first_line_can_be_typed_again(tmp_path: Path) -> None:
    (tmp_path / ".unfinished.jsonl.123").write_text("{", encoding="utf-8")
    require_open(tmp_path)
    (tmp_path / ".unfinished.jsonl.old").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="is already there"):
        require_open(tmp_path)

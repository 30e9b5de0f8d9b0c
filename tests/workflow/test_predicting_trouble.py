"""A prediction on a disk that is full, and of files whose names are no words."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

import workflow.predicting as module
from tests.conftest import make_chest_xray, write_image
from tests.workflow.test_predicting import predicted, rows
from tests.workflow.tiny_run import tiny_run
from workflow.prediction_journal import Journal
from workflow.prediction_table import print_prediction
from workflow.predictor import Predictor, load_predictor


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    place = tmp_path_factory.mktemp("trouble")
    return load_predictor(tiny_run(place / "run", make_chest_xray(place / "chest_xray"), place / "home"))


def test_a_name_cannot_steer_the_terminal(
    predictor: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "\x1b[2Jbad\x07.png").write_bytes(b"")
    print_prediction(predicted(predictor, tmp_path / "out", f"images={tmp_path / 'scans'}"), predictor)
    text = capsys.readouterr().out
    assert "\x1b" not in text and "\x07" not in text and "[2Jbad" in text
    assert rows(tmp_path / "out")[0]["image_id"] == "\x1b[2Jbad\x07.png"  # the table names the file as it is


@pytest.mark.parametrize("where", ["append", "write_groups"])
def test_a_full_disk_costs_no_answer(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    for number in range(5):
        write_image(tmp_path / f"{number}.png", number)
    listed = "path,patient\n" + "".join(f"{number}.png,p\n" for number in range(5))
    (tmp_path / "list.csv").write_text(listed, encoding="utf-8")
    given = (f"images={tmp_path / 'list.csv'}", "batch_size=2")
    predicted(predictor, tmp_path / "whole", *given)
    owner = Journal if where == "append" else module
    proper, calls = getattr(owner, where), 0

    def full(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2 or where != "append":
            raise OSError(errno.ENOSPC, "No space left on device")
        return proper(*args)

    with monkeypatch.context() as patch:
        patch.setattr(owner, where, full)
        kept = 2 if where == "append" else 5
        with pytest.raises(ValueError, match=rf"No space left on device.*{kept} of 5 images are answered and kept"):
            predicted(predictor, tmp_path / "out", *given)
    done = predicted(predictor, tmp_path / "out", *given)
    assert done.record["resumed_after"] == kept
    for name in ("predictions.csv", "groups.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

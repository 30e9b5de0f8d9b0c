"""From measurements to ratios, tables and figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.speed.__main__ import main, started
from benchmarks.speed.__main__ import parsed as parsed_line
from benchmarks.speed.machine import facts, file_name
from benchmarks.speed.picture import draw
from benchmarks.speed.results import as_markdown, in_short, rows_of, speed_of
from tests.benchmarks.speed_samples import MACHINE, measurement, result


def test_the_first_epoch_does_not_count() -> None:
    assert speed_of({"epochs": [[100, 50.0], [100, 1.0], [100, 2.0], [100, 4.0]]}) == pytest.approx(50)
    assert speed_of({"epochs": [[100, 50.0]]}) == pytest.approx(2), "unless it is the only one"
    assert speed_of({"error": "killed"}) is None


def test_ratios_are_of_the_same_round() -> None:
    found = rows_of(
        result(
            *(measurement("firstread", number, speed) for number, speed in ((1, 100), (2, 50), (3, 80))),
            *(measurement("lightning", number, speed) for number, speed in ((1, 20), (2, 25), (3, 20))),
            measurement("lightning", 0, 1000),
        )
    )
    ours, theirs = found
    assert ours.speed == pytest.approx(80)
    assert theirs.speed == pytest.approx(20), "the trial is left out"
    assert theirs.ratio == pytest.approx(4)
    assert (theirs.ratio_low, theirs.ratio_high) == pytest.approx((2, 5))


def test_a_failure_is_never_a_number() -> None:
    failed = {"case": "xray224/simple_cnn", "contender": "keras", "round": 2, "choice": {}, "error": "x\nno memory"}
    row = rows_of(result(measurement("firstread", 1, 100), measurement("keras", 1, 50), failed))[-1]
    assert row.speed is None
    assert row.ratio is None
    assert row.note == "no memory"
    assert "| failed |" in as_markdown(result(measurement("firstread", 1, 100), failed))


def test_the_table_names_what_was_not_measured() -> None:
    told = as_markdown(result(measurement("firstread", 1, 100)) | {"missing": {"keras": "no environment"}})
    assert "Not measured: Keras (no environment)." in told
    assert "| simple_cnn, 128 px; films | firstread train.py | 100 | 100 to 100 | 1.00 (1.00 to 1.00) |" in told


def test_the_table_of_a_graphics_card_shows_how_busy_it_was() -> None:
    told = as_markdown(result(measurement("firstread", 1, 100, utilisation=0.93, waiting=0.02)))
    assert "| 93 % | 2 % |" in told


def test_settings_in_words() -> None:
    assert in_short({"workers": 0, "channels_last": True, "amp": False}) == "no workers, channels_last"
    assert in_short({"workers": 2}) == "2 workers"


def test_show_writes_table_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "r.json"
    slow = measurement("firstread_features", 1, 2000)
    target.write_text(json.dumps(result(measurement("ceiling", 1, 104), measurement("firstread", 1, 100), slow)))
    assert main(["--show", str(target)]) == 0
    assert "network alone, batch in memory" in capsys.readouterr().out
    assert (tmp_path / "r.md").read_text().startswith("One round, 3 epochs each, batch 32; A CPU, 2 cores")
    assert (tmp_path / "r.png").read_bytes()[1:4] == b"PNG"


def test_a_figure_without_a_single_speed(tmp_path: Path) -> None:
    failed = {"case": "xray224/simple_cnn", "contender": "keras", "round": 1, "choice": {}, "error": "killed"}
    draw(result(failed), tmp_path / "r.png", "a machine")
    assert (tmp_path / "r.png").stat().st_size > 0


def test_resume_refuses_other_settings(tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    target.write_text(json.dumps(result(measurement("firstread", 1, 100))))
    same = parsed_line(["--resume", "--rounds", "5"])
    assert started(same, "speed", MACHINE, target)["rounds"] == 5
    assert started(parsed_line([]), "speed", MACHINE, target)["measurements"] == []
    with pytest.raises(ValueError, match="was measured with epochs=3, not 4"):
        started(parsed_line(["--resume", "--epochs", "4"]), "speed", MACHINE, target)


def test_mistakes_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    for line, said in ((["--rounds", "0"], "--rounds 0"), (["--weights", "nowhere"], "nowhere: no such file")):
        with pytest.raises(SystemExit):
            parsed_line(line)
        assert said in capsys.readouterr().err
    assert main(["--cases", "nothing"]) == 2
    assert "--cases nothing: fits none" in capsys.readouterr().err


def test_the_machine_is_described(tmp_path: Path) -> None:
    found = facts(tmp_path / "no-python")
    assert found["cores"] >= 1
    assert "torch" in found["versions"]
    assert "keras" not in found["versions"]
    assert file_name(MACHINE, "cpu") == "a-cpu-2-cores"
    assert file_name(MACHINE | {"gpu": "NVIDIA X"}, "gpu") == "nvidia-x"

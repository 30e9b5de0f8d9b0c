"""The order of the processes, and that every measurement is kept at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed.cases import Case, choose_cases, choose_contenders, overrides_of, takes_part
from benchmarks.speed.data import CaseData
from benchmarks.speed.processes import Asked, ContenderFailed
from benchmarks.speed.results import rows_of, speed_of
from benchmarks.speed.rounds import TRIAL, Rounds, Step, candidates, plan
from tests.benchmarks.speed_samples import measurement, result
from tests.conftest import composed_settings

CASE = Case("xray224", "simple_cnn", 128, 64)
ALL = ("ceiling", "firstread", "lightning")


def rounds_with(speeds: Any, target: Path, start: dict[str, Any] | None = None) -> tuple[Rounds, list[tuple[Any, ...]]]:
    """Rounds whose processes take no time; ``speeds(contender, choice)`` is what each finds. And a list of what ran."""
    ran: list[tuple[Any, ...]] = []

    def measure(contender: str, case: Case, data: CaseData, asked: Asked, choice: dict[str, Any]) -> dict[str, Any]:
        ran.append((contender, choice, asked.epochs))
        return {"epochs": measurement(contender, 1, speeds(contender, choice))["epochs"], "wall": 2.0, "scores": [1.0]}

    asked = Asked(target.parent, 5, 32, True, None, None, "cpu", 60.0)
    return Rounds(start or result(), target, asked, measure, lambda line: None), ran


def some_data(case: Case) -> CaseData:
    return CaseData([], Path("nowhere"), 64, 64, True)


def test_rounds_interleave_and_turn_around() -> None:
    steps = list(plan([CASE], ALL, 2, 2, bf16=False))
    assert [(step.contender, step.round) for step in steps] == [
        *[("lightning", TRIAL)] * 2,
        *[("ceiling", 1), ("firstread", 1), ("lightning", 1)],
        *[("lightning", 2), ("firstread", 2), ("ceiling", 2)],
    ]


def test_the_fastest_setting_of_the_trials_is_compared(tmp_path: Path) -> None:
    rounds, ran = rounds_with(lambda name, choice: 90 if choice.get("workers") else 40, tmp_path / "r.json")
    rounds.run(list(plan([CASE], ["lightning"], 1, 2, bf16=False)), some_data)
    assert [choice["workers"] for _, choice, _ in ran] == [0, 2, 2]
    assert [epochs for _, _, epochs in ran] == [2, 2, 5], "trials are short"


def test_every_measurement_is_written_at_once_without_scores(tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    seen: list[int] = []

    def speeds(name: str, choice: dict[str, Any]) -> float:
        seen.append(len(json.loads(target.read_text())["measurements"]) if target.exists() else 0)
        return 50.0

    rounds, _ = rounds_with(speeds, target)
    rounds.run(list(plan([CASE], ["ceiling", "firstread"], 2, 2, bf16=False)), some_data)
    assert seen == [0, 1, 2, 3]
    assert all("scores" not in entry for entry in json.loads(target.read_text())["measurements"])


def test_resuming_repeats_only_what_is_missing_or_failed(tmp_path: Path) -> None:
    start = result(
        measurement("ceiling", 1, 100),
        {"case": CASE.name, "contender": "firstread", "round": 1, "choice": {}, "error": "killed"},
    )
    rounds, ran = rounds_with(lambda name, choice: 50.0, tmp_path / "r.json", start)
    rounds.run(list(plan([CASE], ["ceiling", "firstread"], 2, 2, bf16=False)), some_data)
    assert [name for name, _, _ in ran] == ["firstread", "firstread", "ceiling"]
    kept = json.loads((tmp_path / "r.json").read_text())["measurements"]
    assert len(kept) == 4
    assert not any("error" in entry for entry in kept)


def test_a_contender_that_fails_is_written_down_and_the_others_go_on(tmp_path: Path) -> None:
    def speeds(name: str, choice: dict[str, Any]) -> float:
        if name == "ceiling":
            raise ContenderFailed("some lines\nout of memory")
        return 50.0

    rounds, _ = rounds_with(speeds, tmp_path / "r.json")
    rounds.run(list(plan([CASE], ["ceiling", "firstread"], 1, 2, bf16=False)), some_data)
    first, second = json.loads((tmp_path / "r.json").read_text())["measurements"]
    assert first["error"].endswith("out of memory")
    assert speed_of(first) is None
    assert speed_of(second) == pytest.approx(50)


def test_a_case_without_data_is_shown_as_failed(tmp_path: Path) -> None:
    def no_data(case: Case) -> CaseData:
        raise ValueError("no such folder")

    start = result() | {"cases": {}}
    rounds, ran = rounds_with(lambda name, choice: 1.0, tmp_path / "r.json", start)
    rounds.run(list(plan([CASE], ["firstread"], 1, 2, bf16=False)), no_data)
    assert ran == []
    assert [(row.speed, row.note) for row in rows_of(rounds.result)] == [(None, "no such folder")]


def test_no_setting_worked(tmp_path: Path) -> None:
    def speeds(name: str, choice: dict[str, Any]) -> float:
        raise ContenderFailed("no such module")

    rounds, ran = rounds_with(speeds, tmp_path / "r.json")
    rounds.run(list(plan([CASE], ["lightning"], 1, 2, bf16=False)), some_data)
    assert len(ran) == 2, "the round itself has nothing to run"
    assert rounds.result["measurements"][-1]["error"] == "no setting of the trials worked"


def test_time_left_is_that_of_the_same_contender_before(tmp_path: Path) -> None:
    rounds, _ = rounds_with(
        lambda name, choice: 1.0, tmp_path / "r.json", result(measurement("ceiling", 1, 1, wall=7.0))
    )
    assert rounds.seconds_left([Step(CASE, "ceiling", 2, {}), Step(CASE, "ceiling", 3, {})]) == 14.0


def test_bfloat16_is_tried_where_the_machine_has_it() -> None:
    assert not any(choice.get("amp") for choice in candidates("timm", 2, bf16=False))
    assert any(choice.get("amp") for choice in candidates("timm", 2, bf16=True))
    assert candidates("lightning", 16, bf16=True)[-1]["workers"] == 12


def test_names_and_patterns_of_cases() -> None:
    found = choose_cases(["original/*"], gpu=False, size=64, images=10)
    assert [case.network for case in found] == ["simple_cnn", "mobilenet_frozen", "mobilenet", "resnet50"]
    assert {(case.size, case.images) for case in found} == {(64, 10)}
    assert all(case.size == 224 for case in choose_cases([], gpu=True, size=None, images=None))
    with pytest.raises(ValueError, match="--cases nothing: fits none of xray224/simple_cnn"):
        choose_cases(["nothing"], gpu=False, size=None, images=None)


def test_contenders_by_name() -> None:
    assert "ceiling_compiled" in choose_contenders([], gpu=True)
    assert "ceiling_compiled" not in choose_contenders([], gpu=False)
    assert not takes_part("firstread_features", CASE)
    with pytest.raises(ValueError, match="--contenders tensorflow: there are ceiling"):
        choose_contenders(["tensorflow"], gpu=False)


@pytest.mark.parametrize("name", ["xray224/simple_cnn", "ham10000/mobilenet_frozen", "original/resnet50"])
def test_train_py_takes_the_overrides_of_every_kind_of_case(name: str, tmp_path: Path) -> None:
    case = choose_cases([name], gpu=False, size=None, images=None)[0]
    (tmp_path / "w.safetensors").touch()
    options = {
        "root": tmp_path,
        "prepared": tmp_path,
        "weights": tmp_path / "w.safetensors",
        "epochs": 3,
        "batch": 32,
        "accelerator": "cpu",
    }
    settings = composed_settings(*overrides_of(case, options))
    assert settings["model"]["name"] == case.architecture
    assert settings["model"]["channels"] == case.channels
    assert settings["augmentation"]["rotate"] == 8.0
    assert settings["augmentation"]["horizontal_flip"] == 0.0
    assert (settings["finetune"]["name"] == "frozen") == case.frozen
    assert settings["evaluation"]["baselines"] == []

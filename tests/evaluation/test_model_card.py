"""The model card says what the files say, and asks for the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.model_card import CardRow, model_card
from evaluation.model_card_rows import settings_of
from evaluation.report_files import RunFiles, read_run
from tests.evaluation.test_report import make_run

CONFIG = """
trainer: {optimizer: adamw, learning_rate: 0.0003, max_epochs: 10, monitor: val/auroc}
model: {image_size: 160, channels: 1, mean: [0.5], std: [0.25], interpolation: bicubic}
loss: {name: cross_entropy}
"""


@pytest.fixture
def run(tmp_path: Path) -> RunFiles:
    folder = make_run(tmp_path / "run")
    (folder / "config.yaml").write_text(CONFIG)
    content = json.loads((folder / "run.json").read_text())
    content |= {"weights_sha256": "ef" * 32, "model_notes": ["Starts from scratch", "Tested: the average."]}
    (folder / "run.json").write_text(json.dumps(content))
    return read_run(folder)


def rows_of(run: RunFiles) -> dict[str, CardRow]:
    return {row.name: row for _, rows in model_card(run) for row in rows}


def test_what_the_files_know_is_filled_in(run: RunFiles) -> None:
    rows = rows_of(run)
    for name, expected in {
        "Intended use": "PNEUMONIA against NORMAL",
        "Outside its use": "Not a medical device",
        "Data set": "Chest X-Ray Images. Kermany et al.",
        "Licence of the data": "CC BY 4.0",
        "Tested on": "60 images, 36 of them PNEUMONIA (60.0 %); 30 patients, 18 with PNEUMONIA; intervals resample patients.",
        "Split": "official test; seed 0",
        "Architecture": "simple_cnn, 3,705,793 parameters",
        "How it was trained": "Starts from scratch. Tested: the average.",
        "Input": "image size 160; channels 1; interpolation bicubic; mean 0.5; std 0.25",
        "Settings": "optimiser adamw; learning rate 0.0003; epochs at most 10; loss cross_entropy",
        "Selection": "Best val/auroc on validation: epoch 1 of 2",
        "Weights": f"SHA-256 {'ef' * 32}",
        "Threshold": "A statement about the threshold.",
        "Certificate": "18 patients with PNEUMONIA on validation, at most 0 missed: recall at least 0.9510",
        "On test": "One of 18 was missed.",
        "Ranking": "AUROC 0.912 (0.882-0.942)",
        "Intervals": "95 % intervals, 2,000 resamples of patients, percentile",
        "Beside a baseline": "The model clears it.",
        "An alarm": "Loud.",
        "Code": "firstread 0.1.0",
        "Command": "python train.py",
        "Seeds": "seed 0, split 0",
    }.items():
        assert expected in rows[name].text, name
        assert not rows[name].by_hand


def test_what_no_file_knows_is_asked_for(run: RunFiles) -> None:
    asked = {name for name, row in rows_of(run).items() if row.by_hand}
    assert {"Users and place in care", "Setting and dates", "Who was eligible", "Reference standard", "Ethics"} <= asked
    assert {"Protocol and registration", "Funding and interests", "Other limits"} <= asked
    assert all(row.ask for row in rows_of(run).values() if row.by_hand)


def test_every_row_names_the_topic_that_it_fills(run: RunFiles) -> None:
    card = model_card(run)
    assert all(row.topic and row.name for _, rows in card for row in rows)
    assert [heading for heading, _ in card][:3] == ["Use", "Data", "Model"]
    assert all(rows for _, rows in card)


def test_a_bare_record_asks_instead_of_inventing(run: RunFiles) -> None:
    bare = replace(run, run=None, config=None, data_card=None, audit=None, mistakes=None, history=None)
    rows = rows_of(bare)
    for name in ("Training data", "Input", "Settings", "Selection", "Weights", "Code", "Command", "Seeds", "Hashes"):
        assert rows[name].by_hand and rows[name].ask, name
    assert "Licence of the data" not in rows


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("official", "Not in this folder"), ("external", "another data set than the one of training"), ("given", "")],
)
def test_external_testing_is_claimed_only_where_it_was_done(run: RunFiles, kind: str, expected: str) -> None:
    row = rows_of(replace(run, metrics=run.metrics | {"test_kind": kind}))["External testing"]
    assert expected in row.text and row.by_hand is (kind == "given")


@pytest.mark.parametrize(("monitor", "kept"), [("val/auroc", "Highest"), ("val/loss", "Lowest")])
def test_the_direction_of_the_selection_is_that_of_the_figure(run: RunFiles, monitor: str, kept: str) -> None:
    config = CONFIG.replace("monitor: val/auroc", f"monitor: {monitor}")
    rows = rows_of(replace(run, run=None, config=config))
    assert rows["Selection"].text == f"{kept} {monitor} on validation"


def test_the_threshold_is_tagged_as_fixed_before_the_test_only_where_it_was(run: RunFiles) -> None:
    assert rows_of(run)["Threshold"].topic == "threshold and how it was chosen; before the test"
    again = {"kind": "judged again", "source": {"kind": "run", "threshold": 0.9}}
    assert rows_of(replace(run, run=again))["Threshold"].topic == "threshold and how it was chosen"


def test_what_the_test_showed_of_a_promised_specificity_is_told_too(run: RunFiles) -> None:
    promise = run.metrics["promise"] | {"specificity": {"kept": True, "sentence": "It is met."}}
    assert rows_of(replace(run, metrics=run.metrics | {"promise": promise}))["On test"].text.endswith(" It is met.")


def test_no_worry_is_no_proof(run: RunFiles) -> None:
    rows = rows_of(replace(run, metrics=run.metrics | {"worries": []}))
    assert "That is no proof" in rows["Automatic checks"].text


@pytest.mark.parametrize("config", ["a: [", "- a list", ""])
def test_a_configuration_that_is_none_is_left_out(run: RunFiles, config: str) -> None:
    assert settings_of(replace(run, config=config)) == {}


def test_calibration_and_subgroups_come_from_the_metrics(run: RunFiles) -> None:
    interval = {"value": 0.9, "low": 0.85, "high": 0.95}
    rows: list[dict[str, Any]] = [
        {"value": v, "n": 90, "n_groups": 60, "n_positive_groups": 30, "sensitivity": interval | {"value": value}}
        for v, value in (("f", 0.8), ("m", 0.9))
    ]
    test = run.metrics["splits"]["test"] | {"by": {"sex": rows}}
    metrics = run.metrics | {"splits": {"test": test}, "calibration": {"sentence": "Scores are too high."}}
    found = rows_of(replace(run, metrics=metrics))
    assert found["Calibration"].text == "Scores are too high."
    assert found["Subgroups"].text == "by sex: lowest sensitivity 0.800 (f)"


def test_a_run_with_an_input_check_is_not_said_to_answer_on_any_picture(run: RunFiles) -> None:
    assert "gives a score to any picture" in rows_of(run)["Outside its use"].text
    for able in (True, False):
        text = rows_of(replace(run, inputs={"can_abstain": able}))["Outside its use"].text
        assert "any picture" not in text and "may still be none of these" in text
        assert ("too far from the training images" in text) == able

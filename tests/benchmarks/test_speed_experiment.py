"""The whole experiment against the Keras script: commands and table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.speed.__main__ import parsed
from benchmarks.speed.cases import Case
from benchmarks.speed.experiment import _interval, as_markdown, experiment_command
from tests.benchmarks.speed_samples import MACHINE


def test_the_command_is_that_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chest_xray").mkdir()
    monkeypatch.setenv("FIRSTREAD_DATA", str(tmp_path))
    asked = parsed(["--experiment", "--override", "evaluation.bootstrap=100"])
    command = experiment_command(Case("xray224", "simple_cnn", 128, 1), asked, tmp_path, tmp_path / "h", tmp_path / "r")
    assert command[1:3] == ["train.py", "experiment=pneumonia_cnn_kaggle"]
    assert f"data.root={(tmp_path / 'chest_xray').resolve()}" in command
    assert command[-1] == "evaluation.bootstrap=100"
    assert "trainer.max_epochs=10" in command


def test_the_table_states_the_share_of_the_wall_time() -> None:
    scored = {"auroc": 0.9, "low": 0.88, "high": 0.92}
    first = {"contender": "firstread", "round": 1, "wall": 120.0, "cached": False, **scored}
    later = {"contender": "firstread", "round": 2, "wall": 80.0, "cached": True, **scored}
    keras = {"contender": "keras", "round": 1, "wall": 400.0, **scored}
    facts = {"kind": "experiment", "machine": MACHINE, "epochs": 10, "test": 624, "phantom": False, "missing": {}}
    told = as_markdown(facts | {"measurements": [first, keras, later]})
    assert "the images are indexed and decoded first | 120 | 0.900 (0.880 to 0.920) |" in told
    assert "| 2 | train.py: training, threshold, test, report | 80 |" in told
    assert "train.py takes 0.25 of the wall time of the Keras script" in told
    alone = as_markdown(facts | {"missing": {"keras": "no environment"}, "measurements": [first]})
    assert "Not measured: keras (no environment)." in alone
    assert "of the wall time" not in alone


def test_the_interval_holds_the_auroc() -> None:
    generator = np.random.default_rng(0)
    targets = np.arange(200) % 2
    low, high = _interval(targets + generator.normal(0, 1, 200), targets)
    assert low < 0.76 < high  # of two normal scores one standard deviation apart
    assert low > 0.6
    assert high < 0.9

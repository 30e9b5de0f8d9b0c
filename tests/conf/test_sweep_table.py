"""A mean over runs is printed only where the runs repeat one another."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from conf.cli import CONF_FOLDER
from conf.sweep_table import _next_step, _repeated_over


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        ([["seed=0"], ["seed=1"], ["seed=2"]], "seeds"),
        ([["task=isic9", "split.fold=0"], ["task=isic9", "split.fold=1"]], "folds"),
        ([["split.fold=0", "model.dropout=0.3"], ["split.fold=1", "model.dropout=0.5"]], ""),
        ([["model.dropout=0.3"], ["model.dropout=0.5"]], ""),
        ([["seed=0", "model.dropout=0.3"], ["seed=1", "model.dropout=0.5"]], ""),
        ([["seed=0"]], ""),
    ],
)
def test_seeds_and_folds_are_averaged_and_settings_are_not(overrides: list[list[str]], word: str) -> None:
    seeds = [next((item[5:] for item in row if item.startswith("seed=")), "0") for row in overrides]
    rows = [{"overrides": row, "seed": seed} for row, seed in zip(overrides, seeds, strict=True)]
    assert _repeated_over(rows) == word


@pytest.mark.parametrize(
    ("repeated", "command"),
    [
        ("seeds", "average the seeds with: python ensemble.py runs='multi run/x'"),
        ("folds", "average the folds with: python ensemble.py runs='multi run/x'"),
        ("", "compare the runs with: tensorboard --logdir 'multi run/x'"),
    ],
)
def test_the_last_line_names_the_next_command(repeated: str, command: str) -> None:
    assert _next_step(Path("multi run/x"), repeated) == command


def test_the_sweep_of_folds_has_one_run_a_fold_however_many_there_are() -> None:
    with initialize_config_dir(str(CONF_FOLDER), version_base="1.3"):
        for overrides, count in ((["sweep=folds"], 5), (["sweep=folds", "split.folds=3"], 3)):
            config = compose("config", overrides, return_hydra_config=True)
            (override,) = OverridesParser.create().parse_overrides(
                [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()]
            )
            assert config.split.kind == "kfold"
            assert override.key_or_group == "split.fold"
            assert list(override.sweep_string_iterator()) == [str(number) for number in range(count)]

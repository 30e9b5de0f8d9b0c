"""A mean over runs is printed only where the runs repeat one another."""

from __future__ import annotations

import pytest

from conf.sweep_table import _repeated_over


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        ([["seed=0"], ["seed=1"], ["seed=2"]], "seeds"),
        ([["task=isic9", "split.fold=0"], ["task=isic9", "split.fold=1"]], "folds"),
        ([["split.fold=0", "model.dropout=0.3"], ["split.fold=1", "model.dropout=0.5"]], ""),
        ([["model.dropout=0.3"], ["model.dropout=0.5"]], ""),
        ([["seed=0"]], ""),
    ],
)
def test_seeds_and_folds_are_averaged_and_settings_are_not(overrides: list[list[str]], word: str) -> None:
    seeds = [next((item[5:] for item in row if item.startswith("seed=")), "0") for row in overrides]
    rows = [{"overrides": row, "seed": seed} for row, seed in zip(overrides, seeds, strict=True)]
    assert _repeated_over(rows) == word

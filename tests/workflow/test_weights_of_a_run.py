"""Weights of an earlier run may not have seen what is validated or tested on now."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workflow.baselines import without_prior
from workflow.data import require_unseen


def table(parts: dict[str, str], groups: str = "abcdef") -> pd.DataFrame:
    """One image a part, named by its content."""
    return pd.DataFrame(
        {
            "image_id": list(parts),
            "group_id": list(groups[: len(parts)]),
            "split": list(parts.values()),
            "sha256": list(parts),
        }
    )


def check(run: Path, theirs: pd.DataFrame, ours: pd.DataFrame, dataset: str = "other") -> None:
    run.mkdir()
    theirs.to_csv(run / "splits.csv", index=False)
    (run / "data_card.json").write_text(json.dumps({"dataset": dataset}))
    prepared: Any = SimpleNamespace(splits=SimpleNamespace(frame=ours))
    require_unseen({"model": {"weights": str(run)}, "task": {"dataset": "chest_xray"}}, prepared)


SPLIT = {"i1": "train", "i2": "train", "i3": "val", "i4": "test"}


def test_the_same_split_is_fine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(tmp_path / "run", table(SPLIT), table(SPLIT), dataset="chest_xray")
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        ({**SPLIT, "i1": "test"}, "1 of the 2 test images"),
        ({**SPLIT, "i2": "val"}, "1 of the 2 val images"),
        ({**SPLIT, "i3": "test"}, "1 of the 2 test images"),
    ],
)
def test_an_image_that_was_trained_on_is_refused(tmp_path: Path, ours: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check(tmp_path / "run", table(SPLIT), table(ours))


def test_another_image_of_the_group_counts_within_one_data_set(tmp_path: Path) -> None:
    theirs, ours = table({"j1": "train"}, "d"), table(SPLIT)  # i4, a test image here, is of group d
    check(tmp_path / "other", theirs, ours)
    with pytest.raises(ValueError, match="1 of the 1 test images"):
        check(tmp_path / "same", theirs, ours, dataset="chest_xray")


def test_files_and_names_are_not_checked_and_a_bare_model_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepared: Any = SimpleNamespace(splits=SimpleNamespace(frame=table(SPLIT)))
    for weights in ("none", "imagenet", str(tmp_path / "a.safetensors")):
        require_unseen({"model": {"weights": weights}, "task": {"dataset": "x"}}, prepared)
    assert caplog.messages == []
    require_unseen({"model": {"weights": str(tmp_path)}, "task": {"dataset": "x"}}, prepared)
    assert "nobody can tell" in caplog.text


def test_baselines_are_corrected_for_frequencies_as_the_network_is() -> None:
    counts = np.array([90, 10])
    prior = np.array([[0.9, 0.1], [0.45, 0.55]])
    assert without_prior(prior, counts, 0.0) is prior
    even = without_prior(prior, counts, 1.0)
    assert even[0] == pytest.approx([0.5, 0.5])
    assert even.sum(axis=1) == pytest.approx(1.0)
    assert even[1, 1] == pytest.approx((0.55 / 0.1) / (0.45 / 0.9 + 0.55 / 0.1))

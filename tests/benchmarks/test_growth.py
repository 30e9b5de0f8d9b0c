"""The measurement of growth on tiny data sets: what it generates is what a run would find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import growth, growth_steps
from datamodules.cache import open_cache

AUGMENTATION: dict[str, Any] = {"name": "none"}


def row_of(count: int, seconds: float) -> dict[str, Any]:
    steps = {name: {"seconds": seconds, "cpu": seconds, "peak_mb": 100.0} for name in (*growth.STEPS, "first batch")}
    return {"count": count, "loaded": 320, "trained": 320, "before_mb": 50.0, "steps": steps}


def results_of(*counts: int) -> dict[str, Any]:
    found = [{"seconds": 1.0, "cpu": 1.0, "peak_mb": 80.0, "count": 1000, "pairs": 0}]
    return {"machine": {}, "sizes": [row_of(count, 0.002 * count) for count in counts], "near_duplicates": found}


def test_generated_cache_is_complete_and_takes_no_room(tmp_path: Path) -> None:
    growth_steps.generate(tmp_path, 300)
    index = (tmp_path / "index.csv").read_text(encoding="utf-8").splitlines()
    assert len(index) == 301
    path = next((tmp_path / "cache").glob("*.npy"))
    assert path.stat().st_blocks * 512 < path.stat().st_size / 10
    names = growth_steps.listing_of(300)["path"].tolist()
    contents = [line.split(",")[3] for line in index[1:]]
    pixels = open_cache(
        tmp_path / "cache", [tmp_path / "images" / name for name in names], contents, size=growth_steps.SIDE, channels=1
    )
    assert pixels.shape == (300, 128, 128, 1)  # nothing was decoded: these files are no images
    assert not np.asarray(pixels[-1]).any()


def test_every_step_is_measured_in_a_fresh_process(tmp_path: Path) -> None:
    row = growth.measured(400, tmp_path, 3)
    assert set(growth.STEPS) <= set(row["steps"])
    assert row["count"] == 400
    assert row["loaded"] == row["trained"] == 96
    assert all(step["seconds"] > 0 for step in row["steps"].values())
    assert row["steps"]["loader"]["peak_mb"] > 10
    assert list(tmp_path.iterdir()) == []


def test_cost_of_an_image_counts_the_images_of_its_step() -> None:
    row = row_of(1000, 2.0)
    assert growth.microseconds(row, "index") == pytest.approx(2000)
    assert growth.microseconds(row, "loader") == pytest.approx(2.0 / 320 * 1e6)


def test_memory_of_a_step_is_seen() -> None:
    steps = growth_steps.Steps()
    with steps.step("small"):
        pass
    with steps.step("large"):
        held = np.ones(8_000_000)
    assert steps.found["large"]["peak_mb"] > steps.found["small"]["peak_mb"] + 50
    assert len(held) == 8_000_000


def test_table_and_plot_show_every_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "growth.json"
    file.write_text(json.dumps(results_of(1000, 10_000)), encoding="utf-8")
    growth.main([f"show={file}", f"plot={tmp_path / 'plot.png'}"])
    shown = capsys.readouterr().out
    assert "| 1,000 |" in shown
    assert "| 10,000 |" in shown
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")

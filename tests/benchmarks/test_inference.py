"""The comparison of predict.py with a minimal loop: its parts on tiny inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import inference


def test_films_have_the_size_that_was_asked_for(tmp_path: Path) -> None:
    made = inference.image_files(inference.films(tmp_path, (160, 120), 3))
    from PIL import Image

    assert len(made) == 3
    assert {Image.open(path).size for path in made} == {(160, 120)}
    assert made[0].read_bytes() != made[1].read_bytes()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Name a folder of images"):
        inference.image_files(tmp_path)


def test_batches_come_in_order_and_complete() -> None:
    batches = [[Path(str(3 * number + each)) for each in range(3)] for number in range(20)]
    found = np.concatenate(list(inference._decoded(batches, lambda path: np.array([int(path.name)], dtype=np.uint8))))
    assert found.ravel().tolist() == list(range(60))


def test_ratio_is_the_median_over_rounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    speeds = iter([100, 50, 40, 36, 100, 50, 40, 38, 100, 50, 20, 10])

    def measured(*_: object) -> dict[str, float]:
        return {"images": float(next(speeds)), "seconds": 1.0, "startup": 2.0}

    monkeypatch.setattr(inference, "measured", measured)
    found = inference.compared(tmp_path, tmp_path, 3, tmp_path)
    assert found["ratios"] == pytest.approx([0.9, 0.95, 0.5])
    assert found["ratio"] == pytest.approx(0.9)
    assert "0.90 (0.50 to 0.95)" in inference.table({"films": found})

"""The quick forms of the numbers that describe a picture give exactly what numpy's plain ones do."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.appearance import _quantiles, _sum_of_channels, _texture, chroma_of, look


@pytest.mark.parametrize("channels", [1, 3])
def test_quantiles_are_those_of_numpy(channels: int) -> None:
    rng = np.random.default_rng(channels)
    for _ in range(40):
        side, most = rng.integers(2, 70), rng.integers(1, 257)
        picture = rng.integers(0, most, (side, side + 3, channels)).astype(np.uint8)
        grey = picture.mean(axis=2, dtype=np.float32)
        plain = np.quantile(grey, np.linspace(0.02, 0.98, 13)).tolist()
        assert _quantiles(_sum_of_channels(picture), channels) == plain


@pytest.mark.parametrize("shape", [(40, 56, 1), (33, 47, 3), (1, 9, 3), (9, 1, 1), (1, 1, 1)])
def test_structure_and_colours_are_those_of_numpy(shape: tuple[int, int, int]) -> None:
    picture = np.random.default_rng(5).integers(0, 256, shape).astype(np.uint8)
    grey = picture.mean(axis=2)
    expected, level = [], grey.astype(np.float32)
    for _ in range(6):
        height, width = level.shape
        coarser = cv2.resize(level, (max(width // 2, 1), max(height // 2, 1)), interpolation=cv2.INTER_AREA)
        detail = level - cv2.resize(coarser, (width, height), interpolation=cv2.INTER_LINEAR)
        expected += [np.abs(detail).mean(), np.sqrt((detail.astype(np.float64) ** 2).mean())]
        level = coarser
    expected = [20.0 * np.log(value + 0.1) for value in expected]
    steps = [np.abs(np.diff(grey, axis=axis)) for axis in (1, 0)]
    across, down = (20.0 * np.log((step.mean() if step.size else 0.0) + 0.1) for step in steps)
    expected.append(across - down)
    if shape[2] == 3:
        expected += [*picture.mean(axis=(0, 1)), *picture.std(axis=(0, 1))]
    assert _texture(picture, _sum_of_channels(picture))[13:] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_and_contrast_are_mean_and_spread_of_the_grey_levels(channels: int, tmp_path: Path) -> None:
    picture = np.random.default_rng(6).integers(0, 256, (40, 56, channels)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    looked = look(tmp_path / "a.png", size=32, channels=channels, interpolation="area")
    grey = looked.pixels.mean(axis=2)
    assert looked.appearance.brightness == looked.pixels.mean()
    assert looked.appearance.contrast == pytest.approx(grey.std(), abs=1e-4)


def test_chroma_is_the_mean_span_of_the_channels() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 17, 23, 3)).astype(np.uint8)
    plain = [float((picture.max(axis=2) - picture.min(axis=2)).mean()) for picture in pictures]
    assert chroma_of(pictures).tolist() == plain

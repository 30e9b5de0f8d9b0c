"""The quick forms of the numbers that describe a picture give exactly what numpy's plain ones do."""

from __future__ import annotations

import numpy as np
import pytest

from datamodules.appearance import _grey, _quantiles, chroma_of


@pytest.mark.parametrize("channels", [1, 3])
def test_quantiles_and_grey_are_those_of_numpy(channels: int) -> None:
    rng = np.random.default_rng(channels)
    for _ in range(40):
        side, most = rng.integers(2, 70), rng.integers(1, 257)
        picture = rng.integers(0, most, (side, side + 3, channels)).astype(np.uint8)
        grey = picture.mean(axis=2, dtype=np.float32)
        assert np.array_equal(_grey(picture), grey)
        assert _quantiles(picture) == np.quantile(grey, np.linspace(0.02, 0.98, 13)).tolist()


def test_chroma_is_the_mean_span_of_the_channels() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 17, 23, 3)).astype(np.uint8)
    plain = [float((picture.max(axis=2) - picture.min(axis=2)).mean()) for picture in pictures]
    assert chroma_of(pictures).tolist() == plain

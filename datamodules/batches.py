"""Batches that depend on (seed, epoch, position) alone, so that a resumed run sees what an uninterrupted one would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from datamodules.augmentation import Augmentation


@dataclass(frozen=True)
class BatchPlan:
    """Which rows form a batch, and the seed of their augmentation."""

    rows: NDArray[np.int64]
    seed: int


class BatchSampler(Sampler[BatchPlan]):
    """Plans the batches of one epoch.

    Args:
        rows: row numbers of the split.
        batch_size: the last batch may be smaller; no row is left out or repeated.
        seed: of shuffling and augmentation; None keeps the order (validation, test).
        limit: use only this many batches.
    """

    def __init__(self, rows: NDArray[np.int64], batch_size: int, seed: int | None, limit: int | None = None) -> None:
        self.rows, self.batch_size, self.seed, self.limit = rows, batch_size, seed, limit
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch, also after resuming."""
        self.epoch = epoch

    def __len__(self) -> int:
        batches = -(-len(self.rows) // self.batch_size)
        return batches if self.limit is None else min(batches, self.limit)

    def __iter__(self) -> Iterator[BatchPlan]:
        rows, seeds = self.rows, np.zeros(len(self), dtype=np.uint32)
        if self.seed is not None:
            generator = np.random.default_rng([self.seed, self.epoch])
            rows = generator.permutation(rows)
            seeds = generator.integers(2**32, size=len(self), dtype=np.uint32)
        for number in range(len(self)):
            start = number * self.batch_size
            yield BatchPlan(rows[start : start + self.batch_size], int(seeds[number]))


class CachedImages(Dataset[dict[str, torch.Tensor]]):
    """Images of the decoded cache, fetched a whole batch at a time.

    Args:
        pixels: shape ``(n, height, width, channels)``, uint8, usually memory-mapped; only a batch is ever copied.
        targets: class numbers, shape ``(n,)``.
        augmentation: applied to the batch, or None.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], targets: NDArray[np.int64], augmentation: Augmentation | None = None
    ) -> None:
        self.pixels, self.targets = pixels, targets
        self.augmentation = augmentation if augmentation is not None and augmentation.active else None

    def __getitem__(self, plan: BatchPlan) -> dict[str, torch.Tensor]:
        """One batch: ``image`` uint8 ``(b, channels, height, width)`` in channels-last memory, ``target`` and ``row`` int64."""
        images = np.ascontiguousarray(self.pixels[plan.rows])
        if self.augmentation is not None:
            images = self.augmentation(images, plan.seed)
        return {
            "image": torch.from_numpy(images).permute(0, 3, 1, 2),
            "target": torch.from_numpy(self.targets[plan.rows]),
            "row": torch.from_numpy(plan.rows.copy()),
        }

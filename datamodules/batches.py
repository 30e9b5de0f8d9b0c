"""Batches that depend on (seed, epoch, position) alone, so that a resumed run sees what an uninterrupted one would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from datamodules.augmentation import Augmentation
from datamodules.features import StoredFeatures


@dataclass(frozen=True)
class BatchPlan:
    """Which rows form a batch, and the seed of their augmentation.

    Attributes:
        view: which stored view of the images is used: the batch then carries features; None: it carries images.
    """

    rows: NDArray[np.int64]
    seed: int
    view: int | None = None


class BatchSampler(Sampler[BatchPlan]):
    """Plans the batches of one epoch.

    All devices draw the same plan and take turns at its images, so that several devices together see what one would.

    Args:
        rows: row numbers of the split.
        batch_size: images of a step, over all devices together; the last batch may be smaller, and in
            training larger by one; no row is left out or repeated.
        seed: of shuffling and augmentation; None keeps the order (validation, test).
        limit: use only this many batches.
        weights: how often each row is drawn, relative to the others, shape (n,), above 0. An epoch then draws n rows with
            replacement; None takes every row once.
        rank, world: number of this device, and of devices. A device with no image left in the last batch repeats its first.
        views: how many stored views the features have; epoch e uses view ``e % views``.
        feature_epochs: batches of epochs below this carry features.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        batch_size: int,
        seed: int | None,
        limit: int | None = None,
        *,
        weights: NDArray[np.float64] | None = None,
        rank: int = 0,
        world: int = 1,
        views: int = 1,
        feature_epochs: int = 0,
    ) -> None:
        self.rows, self.batch_size, self.seed, self.limit = rows, batch_size, seed, limit
        self.chances = None if weights is None else weights / weights.sum()
        self.rank, self.world = rank, world
        self.views, self.feature_epochs = views, feature_epochs
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch, also after resuming.

        In a fit, the evaluation loop of Lightning 2.6 does the same for the validation loader before it makes its iterator,
        with the number of the training epoch that is being validated.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        batches = len(self._bounds()) - 1
        return batches if self.limit is None else min(batches, self.limit)

    def _bounds(self) -> list[int]:
        """Where each batch begins, and the number of rows."""
        starts = list(range(0, len(self.rows), self.batch_size))
        # Batch normalisation cannot train on a single image: the last one joins the batch before it.
        single = bool(starts) and len(self.rows) - starts[-1] < 2 * self.world <= self.batch_size
        return [*(starts[:-1] if single and self.seed is not None and len(starts) > 1 else starts), len(self.rows)]

    def __iter__(self) -> Iterator[BatchPlan]:
        rows, seeds = self.rows, np.zeros(len(self), dtype=np.uint32)
        # Decided here, in the main process: persistent workers never hear of the epoch.
        view = self.epoch % self.views if self.epoch < self.feature_epochs else None
        if self.seed is not None:
            generator = np.random.default_rng([self.seed, self.epoch])
            rows = (
                generator.permutation(rows)
                if self.chances is None
                else generator.choice(rows, size=len(rows), p=self.chances)
            )
            seeds = generator.integers(2**32, size=len(self), dtype=np.uint32)
        bounds = self._bounds()
        for number in range(len(self)):
            batch = rows[bounds[number] : bounds[number + 1]]
            mine = batch[self.rank :: self.world]
            # Another device, another augmentation: the seeds of rank 0 are those of a single device.
            yield BatchPlan(mine if len(mine) else batch[:1], (int(seeds[number]) + self.rank) % 2**32, view)


def equal_classes(targets: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights with which every class is drawn equally often: 1 over the number of images of the row's class.

    Args:
        targets: class numbers of all rows of the manifest.
        rows: those of the training part, shape (n,).
    """
    counts = np.bincount(targets[rows])
    return np.asarray(1.0 / counts[targets[rows]], dtype=np.float64)


class CachedImages(Dataset[dict[str, torch.Tensor]]):
    """Images of the decoded cache, or features of them, fetched a whole batch at a time.

    Args:
        pixels: shape ``(n, height, width, channels)``, uint8, usually memory-mapped; only a batch is ever copied.
        targets: class numbers, shape ``(n,)``.
        augmentation: applied to the images of a batch, or None.
        metadata: what the head sees beside the image, shape ``(n, m)``, float32, or None.
        features: stored features, for plans that name a view.
        size: height and width that the augmentation gives the images; None: they keep theirs.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        targets: NDArray[np.int64],
        augmentation: Augmentation | None = None,
        *,
        metadata: NDArray[np.float32] | None = None,
        features: StoredFeatures | None = None,
        size: int | None = None,
    ) -> None:
        self.size = size
        self.pixels, self.targets, self.metadata, self.features = pixels, targets, metadata, features
        self.augmentation = augmentation if augmentation is not None and augmentation.active else None

    def __getitem__(self, plan: BatchPlan) -> dict[str, torch.Tensor]:
        """One batch of b rows.

        Returns:
            ``image`` uint8 ``(b, channels, height, width)`` in channels-last memory, or ``features`` float32 ``(b, f)``;
            ``target`` and ``row`` int64 ``(b,)``; and ``metadata`` float32 ``(b, m)`` where there is any.
        """
        batch = {
            "target": torch.from_numpy(self.targets[plan.rows]),
            "row": torch.from_numpy(plan.rows.copy()),
        }
        if self.metadata is not None:
            batch["metadata"] = torch.from_numpy(self.metadata[plan.rows])
        if plan.view is None:
            batch["image"] = torch.from_numpy(self._images(plan)).permute(0, 3, 1, 2)
        else:
            assert self.features is not None
            batch["features"] = torch.from_numpy(self.features.of(plan.rows, plan.view))
        return batch

    def _images(self, plan: BatchPlan) -> NDArray[np.uint8]:
        images = np.ascontiguousarray(self.pixels[plan.rows])
        return images if self.augmentation is None else self.augmentation(images, plan.seed, self.size)

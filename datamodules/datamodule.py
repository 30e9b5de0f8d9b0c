"""The LightningDataModule: one for every data set."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.augmentation import Augmentation
from datamodules.batches import BatchSampler, CachedImages, equal_classes
from datamodules.manifest import Manifest
from datamodules.splits import Splits

Batches = DataLoader[dict[str, torch.Tensor]]


def workers_for_this_machine() -> int:
    """0 on small machines, where a loader process would take a core from the training step; else one core in four, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if cores <= 4 else min(8, cores // 4)


def _place() -> tuple[int, int]:
    """Rank and number of the processes that train together; ``(0, 1)`` for one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class ImageDataModule(LightningDataModule):
    """Batches of a split data set from its decoded cache.

    Args:
        manifest: all images; row numbers in batches are its rows.
        splits: which row belongs to train, val and test.
        pixels: decoded images in the manifest's order, shape ``(n, height, width, channels)``, uint8.
        augmentation: settings of :class:`~datamodules.augmentation.Augmentation`, for training only.
        batch_size: images per training step and device; evaluation uses twice as many.
        num_workers: loader processes; None chooses for this machine.
        seed: of shuffling and augmentation.
        limit_train_batches: use only this many training batches an epoch.
        weighted_sampler: draw every class equally often.

    Attributes:
        first_epoch: number (from 0) of the epoch that training starts with; to be set before a resumed fit.
    """

    def __init__(
        self,
        manifest: Manifest,
        splits: Splits,
        pixels: NDArray[np.uint8],
        *,
        augmentation: dict[str, Any],
        batch_size: int = 32,
        num_workers: int | None = None,
        seed: int = 0,
        limit_train_batches: int | None = None,
        weighted_sampler: bool = False,
    ) -> None:
        super().__init__()
        self.manifest, self.splits, self.pixels = manifest, splits, pixels
        self.augmentation = Augmentation(augmentation)
        self.batch_size, self.seed = batch_size, seed
        self.num_workers = workers_for_this_machine() if num_workers is None else num_workers
        self.limit_train_batches = limit_train_batches
        self.weighted_sampler = weighted_sampler
        self.first_epoch = 0

    def train_dataloader(self) -> Batches:
        """Shuffled, augmented batches of the training rows."""
        rows, (rank, world) = self.splits.rows("train"), _place()
        weights = equal_classes(self.manifest.targets, rows) if self.weighted_sampler else None
        sampler = BatchSampler(
            rows, self.batch_size * world, self.seed, self.limit_train_batches, weights=weights, rank=rank, world=world
        )
        # Worker processes fetch ahead before Lightning tells the sampler its epoch, which matters after a resume.
        sampler.set_epoch(self.first_epoch)
        return self._loader(CachedImages(self.pixels, self.manifest.targets, self.augmentation), sampler)

    def val_dataloader(self) -> Batches:
        """The validation rows in order, unchanged."""
        return self._in_order("val")

    def test_dataloader(self) -> Batches:
        """The test rows in order, unchanged."""
        return self._in_order("test")

    def _in_order(self, part: str) -> Batches:
        sampler = BatchSampler(self.splits.rows(part), 2 * self.batch_size, seed=None)
        return self._loader(CachedImages(self.pixels, self.manifest.targets), sampler)

    def _loader(self, dataset: CachedImages, sampler: BatchSampler) -> Batches:
        return DataLoader(
            dataset,
            sampler=sampler,
            batch_size=None,  # the sampler already plans whole batches
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

"""The LightningDataModule: one for every data set."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from pytorch_lightning.trainer.states import TrainerFn, TrainerStatus
from torch.utils.data import DataLoader

from datamodules.augmentation import Augmentation
from datamodules.batches import BatchPlan, BatchSampler, CachedImages, equal_classes
from datamodules.features import FeatureStore, feature_store
from datamodules.machine import plan_machine
from datamodules.manifest import Manifest
from datamodules.pixel_source import identity_of
from datamodules.prefetch import AheadLoader
from datamodules.splits import Splits

Batches = DataLoader[dict[str, torch.Tensor]]


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
        metadata: numbers that the head sees beside the image, one row for each of the manifest, shape ``(n, m)``, float32.
        training_pixels: the same images stored larger, ``(n, s, s, channels)``, out of which training crops; None: ``pixels``.

    Attributes:
        first_epoch: number (from 0) of the epoch that training starts with; to be set before a resumed fit.
        machine: how the step and the loader share the cores; Lightning applies it when it sets this module up.

    Raises:
        ValueError: if there is not one row of metadata or one larger image for each image.
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
        metadata: NDArray[np.float32] | None = None,
        training_pixels: NDArray[np.uint8] | None = None,
    ) -> None:
        super().__init__()
        if metadata is not None and (metadata.ndim != 2 or len(metadata) != len(manifest)):
            raise ValueError(
                f"metadata has the shape {metadata.shape}, but there are {len(manifest):,} images. Encode the whole manifest."
            )
        larger = pixels if training_pixels is None else training_pixels
        if len(larger) != len(pixels) or larger.shape[3] != pixels.shape[3]:
            raise ValueError(
                f"training_pixels has the shape {larger.shape}, pixels {pixels.shape}. Decode both from the same manifest."
            )
        self.manifest, self.splits, self.pixels = manifest, splits, pixels
        self.training_pixels = larger
        # Height and width that the crop of the augmentation leaves; None where training reads the plain images.
        self._crop_to = None if larger.shape == pixels.shape else int(pixels.shape[1])
        self.metadata = None if metadata is None else np.ascontiguousarray(metadata, dtype=np.float32)
        self.augmentation, self._augmentation_settings = Augmentation(augmentation), dict(augmentation)
        self.batch_size, self.seed = batch_size, seed
        self.machine = plan_machine(num_workers)
        self.num_workers = self.machine.workers
        self.limit_train_batches = limit_train_batches
        self.weighted_sampler = weighted_sampler
        self.first_epoch = 0
        self._store: FeatureStore | None = None
        self._feature_epochs = 0

    def setup(self, stage: str | None = None) -> None:
        """Called by Lightning before each fit, validation and test."""
        self.machine.apply()

    @property
    def batches_per_epoch(self) -> int:
        """Training steps of one epoch on this device, before gradients are accumulated."""
        return len(self._train_sampler())

    def use_features(self, store: FeatureStore, epochs: int) -> None:
        """Let the first epochs of a fit read features of the frozen trunk in place of images.

        In epoch e, counted from 0 and also after a resume, training batches carry view ``e % views``, and validation batches
        the view without augmentation. From epoch ``epochs`` on, in ``trainer.validate`` and ``trainer.test``, and wherever no
        Trainer is fitting, batches carry images.

        Args:
            store: complete, of this data module's split.
            epochs: as long as the whole trunk is frozen.

        Raises:
            ValueError: if the store is not complete, or is one of another split.
        """
        parts = ((store.train_rows, "train"), (store.val_rows, "val"))
        if not all(np.array_equal(rows, self.splits.rows(part)) for rows, part in parts):
            raise ValueError(f"{store.path}: these features are those of another split. Make them for this one.")
        if not store.complete:
            raise ValueError(f"{store.path}: these features are not complete. Make them before training.")
        self._store, self._feature_epochs = store, epochs

    def feature_store(self, folder: Path, *, trunk: str, views: int, batch_size: int) -> FeatureStore:
        """The store for the features of a trunk, complete or not; without augmentation all views are one.

        Args:
            folder: where the features of this data set are kept.
            trunk: what tells this trunk from any other.
            views: augmented views of each training image.
            batch_size: images that are augmented together, which decides what becomes of each.
        """
        facts: dict[str, Any] = {"trunk": trunk}
        if self.augmentation.active:
            # The name decides nothing, and the last two blend images in the training step.
            unseen = ("name", "mixup", "cutmix")
            settings = {name: value for name, value in self._augmentation_settings.items() if name not in unseen}
            code = inspect.getsource(sys.modules[Augmentation.__module__]) + importlib.metadata.version(
                "albumentations"
            )
            facts |= {"augmentation": settings, "code": hashlib.sha256(code.encode()).hexdigest()}
            facts |= {"seed": self.seed, "batch": batch_size}
            if self._crop_to is not None:
                facts["training_pixels"] = identity_of(self.training_pixels)
        views = views if self.augmentation.active else min(views, 1)
        return feature_store(folder, facts, self.pixels, self.splits.rows("train"), self.splits.rows("val"), views)

    def feature_images(self, store: FeatureStore, batch_size: int) -> Iterator[torch.Tensor]:
        """The images whose features a store holds, in its order: each view of the training rows, then validation.

        Yields:
            uint8 ``(b, channels, height, width)``. The augmentation depends on (seed, view, number of the batch) alone.
        """
        changed = CachedImages(self.training_pixels, self.manifest.targets, self.augmentation, size=self._crop_to)
        plain = CachedImages(self.pixels, self.manifest.targets)
        training = [
            plan
            for view in range(store.views)
            for plan in _in_batches(store.train_rows, batch_size, np.random.default_rng([self.seed, view]))
        ]
        validation = _in_batches(store.val_rows, batch_size, np.random.default_rng(0))
        for dataset, plans in ((changed, training), (plain, validation)):
            for batch in self._loader(dataset, plans, persistent=False):
                yield batch["image"]

    def train_dataloader(self) -> Batches:
        """Shuffled, augmented batches of the training rows."""
        sampler, store = self._train_sampler(), self._store_of_a_fit()
        if store is not None:
            sampler.views, sampler.feature_epochs = store.views, self._feature_epochs
        # Worker processes fetch ahead before Lightning tells the sampler its epoch, which matters after a resume.
        sampler.set_epoch(self.first_epoch)
        features = None if store is None else store.train
        return self._loader(
            CachedImages(
                self.training_pixels,
                self.manifest.targets,
                self.augmentation,
                metadata=self.metadata,
                features=features,
                size=self._crop_to,
            ),
            sampler,
        )

    def val_dataloader(self) -> Batches:
        """The validation rows in order, unchanged."""
        return self._in_order("val", self._store_of_a_fit())

    def test_dataloader(self) -> Batches:
        """The test rows in order, unchanged."""
        return self._in_order("test")

    def _train_sampler(self) -> BatchSampler:
        rows, (rank, world) = self.splits.rows("train"), _place()
        weights = equal_classes(self.manifest.targets, rows) if self.weighted_sampler else None
        return BatchSampler(
            rows, self.batch_size * world, self.seed, self.limit_train_batches, weights=weights, rank=rank, world=world
        )

    def _store_of_a_fit(self) -> FeatureStore | None:
        """The features, if the loader that is being made is one of a fit; Lightning makes new ones for validate and test."""
        state = None if self.trainer is None else self.trainer.state
        fitting = state is not None and state.fn == TrainerFn.FITTING and state.status == TrainerStatus.RUNNING
        return self._store if fitting else None

    def _in_order(self, part: str, store: FeatureStore | None = None) -> Batches:
        sampler = BatchSampler(
            self.splits.rows(part), 2 * self.batch_size, seed=None, feature_epochs=self._feature_epochs if store else 0
        )
        features = None if store is None else store.val
        return self._loader(
            CachedImages(self.pixels, self.manifest.targets, metadata=self.metadata, features=features), sampler
        )

    def _loader(
        self, dataset: CachedImages, plans: BatchSampler | list[BatchPlan], *, persistent: bool = True
    ) -> Batches:
        kind = AheadLoader if self.machine.ahead else DataLoader
        return kind(
            dataset,
            sampler=plans,
            batch_size=None,  # the sampler already plans whole batches
            num_workers=self.num_workers,
            persistent_workers=persistent and self.num_workers > 0,
            # Lightning then copies to a GPU without waiting; it asks torch for that itself.
            pin_memory=torch.cuda.is_available(),
        )


def _in_batches(rows: NDArray[np.int64], size: int, generator: np.random.Generator) -> list[BatchPlan]:
    """The rows in their order, each batch with a seed."""
    starts = range(0, len(rows), size)
    seeds = generator.integers(2**32, size=len(starts), dtype=np.uint32)
    return [BatchPlan(rows[start : start + size], int(seed)) for start, seed in zip(starts, seeds, strict=True)]

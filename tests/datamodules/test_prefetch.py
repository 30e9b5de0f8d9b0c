"""Batches made ahead are those of the plain loader; errors arrive, and no thread stays behind."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import traceback
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.augmentation import Augmentation
from datamodules.batches import BatchSampler, CachedImages
from datamodules.prefetch import AheadLoader
from tests.callbacks.tiny_training import Rows, TinyData, TinyModule, assert_same, copied, tiny_trainer
from tests.datamodules.test_augmentation import EACH, pictures


def threads_left() -> list[str]:
    """Threads that make batches, after giving those a moment that are just ending."""
    found = [thread for thread in threading.enumerate() if thread.name.startswith("next-batch")]
    for thread in found:
        thread.join(timeout=20)
    return [thread.name for thread in found if thread.is_alive()]


def images(kind: type[DataLoader[Any]], epoch: int) -> list[dict[str, Tensor]]:
    sampler = BatchSampler(np.arange(20), 6, seed=2)
    sampler.set_epoch(epoch)
    dataset = CachedImages(pictures(3, n=20), np.arange(20), Augmentation(EACH))
    return list(kind(dataset, sampler=sampler, batch_size=None))


@pytest.mark.parametrize("epoch", [0, 3])
def test_the_same_batches_as_the_plain_loader(epoch: int) -> None:
    plain, ahead = images(DataLoader, epoch), images(AheadLoader, epoch)
    assert len(plain) == len(ahead) == 4
    for one, other in zip(plain, ahead, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert one["image"].is_contiguous(memory_format=torch.channels_last)
        assert other["image"].stride() == one["image"].stride()
    assert threads_left() == []


def test_each_epoch_of_one_loader_is_planned_when_it_begins() -> None:
    sampler = BatchSampler(np.arange(20), 6, seed=2)
    loader = AheadLoader(CachedImages(pictures(1, n=20), np.arange(20)), sampler=sampler, batch_size=None)
    for epoch in (0, 1, 5):
        sampler.set_epoch(epoch)
        expected = [plan.rows.tolist() for plan in sampler]
        assert [batch["row"].tolist() for batch in loader] == expected
    assert threads_left() == []


class Watched(Dataset[int]):
    """Numbers; says which have been asked for, and fails where it is told to."""

    def __init__(self, bad: int | None = None) -> None:
        self.bad = bad
        self.asked: list[int] = []
        self.changed = threading.Condition()

    def __len__(self) -> int:
        return 6

    def __getitem__(self, row: int) -> int:
        with self.changed:
            self.asked.append(row)
            self.changed.notify_all()
        if row == self.bad:
            raise OSError(f"image {row} went away")
        return row

    def wait_for(self, asked: list[int]) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.asked == asked, timeout=20)


def test_one_batch_is_made_while_another_is_in_use() -> None:
    data = Watched()
    batches = iter(AheadLoader(data, batch_size=None))
    assert data.wait_for([0]), "the first is begun before it is asked for"
    assert next(batches) == 0
    assert data.wait_for([0, 1])
    assert next(batches) == 1
    assert data.wait_for([0, 1, 2]), "one step ahead, never two"
    assert list(batches) == [2, 3, 4, 5]
    assert next(batches, None) is None
    assert threads_left() == []


def test_an_error_arrives_at_its_batch_with_its_place() -> None:
    batches = iter(AheadLoader(Watched(bad=2), batch_size=None))
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(OSError, match=r"^image 2 went away$") as caught:
        next(batches)
    assert "in __getitem__" in "".join(traceback.format_exception(caught.value)), "the original traceback"
    assert threads_left() == []
    assert next(batches, None) is None


def test_a_loader_that_is_left_early_leaves_no_thread() -> None:
    data = Watched()
    for number in AheadLoader(data, batch_size=None):
        if number == 1:
            break
    assert threads_left() == []
    assert data.asked in ([0, 1], [0, 1, 2])
    assert list(AheadLoader(data, batch_size=None)) == [0, 1, 2, 3, 4, 5], "and can be begun again"


def test_a_loader_can_be_pickled_while_it_is_in_use() -> None:
    numbers: Any = torch.arange(5)
    loader: AheadLoader[Tensor] = AheadLoader(numbers, batch_size=None)
    batches = iter(loader)
    assert next(batches) == 0
    assert [int(number) for number in pickle.loads(pickle.dumps(loader))] == [0, 1, 2, 3, 4]
    assert [int(number) for number in batches] == [1, 2, 3, 4]


class AheadData(TinyData):
    """TinyData with batches made ahead in training and validation."""

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return AheadLoader(Rows(), batch_size=4)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return AheadLoader(Rows(), batch_size=4)


def trained(data: lightning.LightningDataModule, **options: Any) -> TinyModule:
    module = TinyModule()
    tiny_trainer(None, [], max_epochs=2, **options).fit(module, datamodule=data)
    return module


@pytest.mark.parametrize("limit", [1.0, 2])
def test_training_is_that_of_the_plain_loader(limit: float) -> None:
    plain = trained(TinyData(), limit_train_batches=limit)
    ahead = trained(AheadData(), limit_train_batches=limit)
    assert_same(copied(plain.network), copied(ahead.network))
    assert threads_left() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_training_that_ends_in_the_middle_leaves_no_thread(error: type[BaseException]) -> None:
    class Interrupted(TinyModule):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            if batch_idx == 1:
                raise error
            return super().training_step(batch, batch_idx)

    trainer = tiny_trainer(None, [], max_epochs=2)
    # Lightning turns Ctrl-C into SystemExit.
    with pytest.raises((SystemExit, RuntimeError)):
        trainer.fit(Interrupted(), datamodule=AheadData())
    assert threads_left() == []


class Priorities(Dataset[int]):
    """Gives the priority of the thread that asks."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, row: int) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of single threads are Linux's")
def test_the_thread_steps_back_for_the_model_and_nobody_else_does() -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert list(AheadLoader(Priorities(), batch_size=None)) == [min(19, own + 10)] * 2
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own

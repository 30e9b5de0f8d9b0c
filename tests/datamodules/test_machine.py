"""Cores are those that this process may really use, and are shared out between the step and the loader."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules import machine
from datamodules.machine import MachinePlan, plan_machine, usable_cores, workers_for
from datamodules.prefetch import AheadLoader
from tests.callbacks.test_feature_cache import data, trainer_of


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 64 cores whose process is in the control group /job/step."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    membership = tmp_path / "membership"
    membership.write_text("0::/job/step\n", encoding="utf-8")
    monkeypatch.setattr(machine, "_MEMBERSHIP", membership)
    (tmp_path / "job" / "step").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No thread count in the environment, and torch's own afterwards."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    yield
    torch.set_num_threads(before)


def limited(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)


@pytest.mark.parametrize(
    ("folder", "text", "cores"),
    [
        (".", "max 100000", 64),
        (".", "200000 100000", 2),  # docker --cpus=2 shows the container's own group as the root
        ("job", "350000 100000", 3),
        ("job/step", "50000 100000", 1),
        ("job/step", "9900000 100000", 64),
        ("other", "100000 100000", 64),
    ],
)
def test_limits_of_a_container_or_job(groups: Path, folder: str, text: str, cores: int) -> None:
    (groups / folder).mkdir(exist_ok=True)
    (groups / folder / "cpu.max").write_text(text + "\n", encoding="utf-8")
    assert usable_cores() == cores


def test_the_narrowest_limit_counts(groups: Path) -> None:
    (groups / "cpu.max").write_text("800000 100000", encoding="utf-8")
    (groups / "job" / "cpu.max").write_text("400000 100000", encoding="utf-8")
    assert usable_cores() == 4


@pytest.mark.parametrize(("quota", "cores"), [("-1", 64), ("300000", 3)])
def test_limits_of_the_first_version(groups: Path, quota: str, cores: int) -> None:
    (groups / "cpu").mkdir()
    (groups / "cpu" / "cpu.cfs_quota_us").write_text(quota, encoding="utf-8")
    (groups / "cpu" / "cpu.cfs_period_us").write_text("100000", encoding="utf-8")
    assert usable_cores() == cores


def test_systems_without_affinity_or_control_groups(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    monkeypatch.setattr(machine, "_MEMBERSHIP", groups / "not there")
    assert usable_cores() == 10


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (2, 0), (4, 0), (8, 2), (16, 4), (64, 8)])
def test_loader_processes_and_torch_threads_fill_the_cores(
    cores: int, workers: int, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, cores)
    plan = plan_machine(None)
    assert workers_for(cores) == plan.workers == workers
    assert plan.torch_threads + plan.workers == cores
    assert plan.ahead == (workers == 0 and cores > 1)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_that_were_asked_for_are_respected(
    workers: int, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, 2)
    plan = plan_machine(workers)
    assert (plan.workers, plan.torch_threads, plan.ahead) == (workers, 2, workers == 0)


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_threads_set_in_the_environment_are_respected(
    name: str, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, 40)
    monkeypatch.setenv(name, "3")
    torch.set_num_threads(3)
    plan = plan_machine(0)
    plan.apply()
    assert plan.torch_threads == torch.get_num_threads() == 3
    assert plan.line == f"40 cores: 3 torch threads ({name}), batches made one step ahead in this process"


def test_torch_gets_its_threads(threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, 3)
    plan = plan_machine(None)
    plan.apply()
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(
    ("plan", "line"),
    [
        (
            MachinePlan(2, 2, "cores", 0, ahead=True),
            "2 cores: 2 torch threads, batches made one step ahead in this process",
        ),
        (MachinePlan(1, 1, "cores", 0, ahead=False), "1 core: 1 torch thread, batches made between steps"),
        (
            MachinePlan(16, 12, "cores", 4, ahead=False),
            "16 cores: 12 torch threads, batches from 4 loader processes",
        ),
        (MachinePlan(2, 2, "cores", 1, ahead=False), "2 cores: 2 torch threads, batches from 1 loader process"),
    ],
)
def test_the_line(plan: MachinePlan, line: str) -> None:
    assert plan.line == line


@pytest.mark.parametrize(("cores", "kind"), [(1, DataLoader), (2, AheadLoader)])
def test_the_data_module_uses_the_plan(
    cores: int, kind: type[DataLoader[Any]], threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, cores)
    module = data()
    assert type(module.train_dataloader()) is type(module.val_dataloader()) is kind
    assert module.machine.facts["cores"] == cores
    module.setup()
    assert torch.get_num_threads() == cores


class _Threads(torch.utils.data.Dataset[torch.Tensor]):
    """Threads of torch and OpenCV in the process that loads."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, row: int) -> torch.Tensor:
        import cv2

        return torch.tensor([torch.get_num_threads(), cv2.getNumThreads()])


def test_a_loader_process_has_one_thread() -> None:
    for row in DataLoader(_Threads(), batch_size=None, num_workers=1):
        assert row[0] == 1
        assert row[1] <= 1


def test_training_crops_from_the_larger_images(tmp_path: Path) -> None:
    plain = data({"crop": 0.6})
    size, count = plain.pixels.shape[1], len(plain.pixels)
    larger = np.full((count, size * 2, size * 2, 1), 200, dtype=np.uint8)
    module = data({"crop": 0.6}, training_pixels=larger)
    for batch in module.train_dataloader():
        assert batch["image"].shape[1:] == (1, size, size)
        assert (batch["image"] == 200).all()
    for batch in module.val_dataloader():
        rows = batch["row"].numpy()
        assert np.array_equal(batch["image"].numpy().transpose(0, 2, 3, 1), plain.pixels[rows])
    stores = [
        each.feature_store(tmp_path, trunk="t", views=2, batch_size=8)
        for each in (plain, module, data({"crop": 0.6}, training_pixels=larger + 1))
    ]
    assert len({store.key for store in stores}) == 3, "features of other training pixels are others"
    trained = [image for block in module.feature_images(stores[1], 8) for image in block][: -len(stores[1].val_rows)]
    assert all((image == 200).all() and image.shape == (1, size, size) for image in trained)


def test_training_pixels_of_the_plain_size_change_nothing(tmp_path: Path) -> None:
    plain = data({"crop": 0.6})
    same = data({"crop": 0.6}, training_pixels=plain.pixels)
    for one, other in zip(plain.train_dataloader(), same.train_dataloader(), strict=True):
        assert torch.equal(one["image"], other["image"])
    keys = {each.feature_store(tmp_path, trunk="t", views=1, batch_size=8).key for each in (plain, same)}
    assert len(keys) == 1


def test_training_pixels_of_another_data_set() -> None:
    with pytest.raises(ValueError, match=r"training_pixels has the shape \(3, 64, 64, 1\).*the same manifest"):
        data({"crop": 0.6}, training_pixels=np.zeros((3, 64, 64, 1), dtype=np.uint8))


def test_lightning_applies_the_plan(tmp_path: Path, threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.callbacks.test_feature_cache import module_of

    limited(monkeypatch, 2)
    torch.set_num_threads(1)
    trainer_of(1, tmp_path).fit(module_of(), datamodule=data())
    assert torch.get_num_threads() == 2


class Recorded:
    """An array that remembers which rows were read."""

    def __init__(self, pixels: np.ndarray[Any, Any]) -> None:
        self.pixels, self.read = pixels, 0
        self.shape, self.dtype = pixels.shape, pixels.dtype

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Any) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = self.pixels[rows]
        self.read += len(found)
        return found


def test_only_the_rows_of_a_batch_are_read() -> None:
    module = data()
    recorded: Any = Recorded(module.pixels)
    module.pixels = module.training_pixels = recorded
    for loader in (module.train_dataloader(), module.val_dataloader()):
        recorded.read = 0
        assert sum(len(batch["row"]) for batch in loader) == recorded.read

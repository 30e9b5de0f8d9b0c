"""Allocator settings keep memory between steps, here and in loader processes; the epoch line counts real waiting only."""

from __future__ import annotations

import ctypes
import json
import logging
import platform
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from callbacks.epoch_line import EpochLine
from callbacks.mixed_precision import MixedPrecision, PrecisionChoice, tune_machine
from callbacks.run_snapshot import RunSnapshot
from datamodules.machine import MachinePlan
from tests.callbacks.tiny_training import TinyData, TinyModule, tiny_trainer
from tests.commands import ROOT

PLAN = MachinePlan(2, 2, "cores", 0, ahead=True)
FAULTS = """
import resource, statistics, sys
import torch
from torch import nn

torch.set_num_threads(1)
if sys.argv[1] == "tuned":
    from callbacks.mixed_precision import tune_machine
    tune_machine()

def faults(steps):
    network = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3), nn.ReLU())
    images = torch.zeros(16, 1, 96, 96)
    def step():
        network.zero_grad()
        network(images).square().mean().backward()
    def counted():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        step()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    # The median: until the heap has settled, a step now and then needs a block that fits nowhere.
    return statistics.median([counted() for _ in range(steps)][3:])

class Steps(torch.utils.data.Dataset):
    def __len__(self):
        return 1
    def __getitem__(self, row):
        return faults(13)

if sys.argv[1] == "tuned":  # first, while the heap of this process is small
    print(float(next(iter(torch.utils.data.DataLoader(Steps(), batch_size=None, num_workers=1)))))
print(faults(13))
"""


def faults_per_step(settings: str) -> list[float]:
    """Of steps in a loader process, where ``settings`` is ``tuned``, and in the process itself."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, settings], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    return [float(line) for line in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library: nothing is set there")
def test_memory_is_kept_between_steps_also_in_a_loader_process() -> None:
    (plain,) = faults_per_step("plain")
    assert plain > 1000, "activations of 9 MB have to be paged in, or this test shows nothing"
    loader, process = faults_per_step("tuned")
    assert loader < plain / 20
    assert process < plain / 20


@pytest.mark.parametrize("name", ["", "musl"])
def test_another_c_library_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any) -> None:
        raise AssertionError("must not be loaded")

    monkeypatch.setattr(platform, "libc_ver", lambda: (name, ""))
    monkeypatch.setattr(ctypes, "CDLL", refused)
    tune_machine()
    assert torch.utils.deterministic.fill_uninitialized_memory is False  # type: ignore[attr-defined]


def test_what_the_machine_does_is_printed_and_written_down(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data: Any = TinyData()
    data.machine = PLAN
    callbacks = [MixedPrecision(PrecisionChoice("32-true", "test")), RunSnapshot(tmp_path / "run.json", {})]
    with caplog.at_level(logging.INFO, logger="firstread"):
        tiny_trainer(None, [*callbacks], max_epochs=1).fit(TinyModule(), datamodule=data)
    assert PLAN.line in caplog.messages
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert record["machine"] == PLAN.facts
    assert record["hardware"]["threads"] == torch.get_num_threads()


def test_data_without_a_plan_train_too(tmp_path: Path) -> None:
    snapshot = RunSnapshot(tmp_path / "run.json", {})
    tiny_trainer(None, [snapshot], max_epochs=1).fit(TinyModule(), datamodule=TinyData())
    assert "machine" not in snapshot.record


class Work:
    """An event of a GPU that is still busy, or has finished."""

    def __init__(self, finished: bool) -> None:
        self.finished = finished

    def query(self) -> bool:
        return self.finished


def waited(work: Work | None) -> float:
    """Seconds counted as waiting when a batch takes 20 ms to come."""
    line = EpochLine(progress_bar=False)
    trainer: Any = SimpleNamespace(
        datamodule=SimpleNamespace(splits=SimpleNamespace(rows=lambda part: range(4))), current_epoch=0, max_epochs=1
    )
    module: Any = SimpleNamespace(device=torch.device("cpu"))
    line.on_train_epoch_start(trainer, module)
    line._work_given = work
    time.sleep(0.02)
    line.on_train_batch_start(trainer, module, {}, 0)
    line.on_exception(trainer, module, RuntimeError())
    return line._waited


def test_a_gpu_that_is_still_busy_does_not_wait() -> None:
    assert waited(None) >= 0.02
    assert waited(Work(finished=True)) >= 0.02
    assert waited(Work(finished=False)) == 0.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_waiting_on_a_gpu(tmp_path: Path) -> None:
    line = EpochLine(progress_bar=False)
    trainer = tiny_trainer(None, [line], accelerator="gpu", max_epochs=2)
    trainer.fit(TinyModule(), datamodule=TinyData())
    assert isinstance(line._work_given, torch.cuda.Event)
    assert 0 <= float(trainer.callback_metrics["train/data_wait_share"]) <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_for_a_gpu_are_pinned(workers: int) -> None:
    from tests.callbacks.test_feature_cache import data

    module = data({"rotate": 5.0}, workers=workers)
    for batch in module.train_dataloader():
        assert all(tensor.is_pinned() for tensor in batch.values())
        assert batch["image"].dtype == torch.uint8
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        moved = module.transfer_batch_to_device(batch, torch.device("cuda"), 0)
        torch.cuda.synchronize()
        assert torch.equal(moved["image"].cpu(), batch["image"])

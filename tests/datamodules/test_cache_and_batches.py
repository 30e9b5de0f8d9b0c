"""The index is never stale, batches depend on (seed, epoch) only, and no row is lost or repeated."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.augmentation import Augmentation
from datamodules.batches import BatchSampler, CachedImages, equal_classes
from datamodules.index import index_files
from datamodules.machine import usable_cores, workers_for
from datamodules.prepared import prepare
from datamodules.thumbnails import thumbnails
from tests.commands import ROOT
from tests.conftest import composed_settings, write_image

AUGMENT = {"rotate": 8.0, "translate": 0.04, "scale": 0.08, "brightness": 0.15, "contrast": 0.15}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "images" / f"{number}.jpeg" for number in range(70)]
    for number, path in enumerate(paths):
        write_image(path, number)
    return paths


def test_the_index_is_remembered_and_sees_changes(files: list[Path], tmp_path: Path) -> None:
    root, ids = files[0].parent, [path.name for path in files]
    read: list[int] = []
    first = index_files(root, ids, tmp_path / "index.csv", read.append)
    assert sum(read) == 70
    assert index_files(root, ids, tmp_path / "index.csv", read.append).equals(first)
    assert sum(read) == 70
    files[3].write_bytes(files[3].read_bytes()[:60])
    again = index_files(root, ids, tmp_path / "index.csv", read.append)
    assert sum(read) == 71
    assert "truncated" in again.loc[3, "error"] or "not an image" in again.loc[3, "error"]


def test_a_passing_read_error_is_not_remembered(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, ids = files[0].parent, [path.name for path in files]
    healthy = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.name == "3.jpeg":
            raise OSError(5, "Input/output error")
        return healthy(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    assert "cannot be read" in index_files(root, ids, tmp_path / "index.csv").loc[3, "error"]
    monkeypatch.setattr(Path, "read_bytes", healthy)
    assert index_files(root, ids, tmp_path / "index.csv").loc[3, "error"] == ""


@pytest.mark.parametrize(
    ("rows", "size", "seed", "sizes"),
    [
        (65, 32, 0, [32, 33]),  # batch normalisation cannot train on one image
        (66, 32, 0, [32, 32, 2]),
        (64, 32, 0, [32, 32]),
        (65, 32, None, [32, 32, 1]),  # evaluation can
        (1, 32, 0, [1]),
        (3, 1, 0, [1, 1, 1]),
    ],
)
def test_every_row_once_and_no_last_batch_of_one_in_training(
    rows: int, size: int, seed: int | None, sizes: list[int]
) -> None:
    sampler = BatchSampler(np.arange(rows), size, seed=seed)
    plans = list(sampler)
    assert [len(plan.rows) for plan in plans] == sizes
    assert len(sampler) == len(sizes)
    assert sorted(np.concatenate([plan.rows for plan in plans]).tolist()) == list(range(rows))


def test_a_limit_cuts_whole_batches() -> None:
    assert [len(plan.rows) for plan in BatchSampler(np.arange(65), 32, 0, limit=1)] == [32]


def batches(epoch: int, workers: int, seed: int = 0) -> list[torch.Tensor]:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 16, 16, 1), dtype=np.uint8)
    dataset = CachedImages(pixels, np.zeros(48, dtype=np.int64), Augmentation(AUGMENT))
    sampler = BatchSampler(np.arange(48), 16, seed)
    sampler.set_epoch(epoch)
    return [batch["image"] for batch in DataLoader(dataset, sampler=sampler, batch_size=None, num_workers=workers)]


def test_augmentation_does_not_depend_on_workers() -> None:
    for alone, with_workers in zip(batches(3, 0), batches(3, 2), strict=True):
        assert torch.equal(alone, with_workers)


def test_epochs_and_seeds_and_batches_differ() -> None:
    first = batches(0, 0)
    assert not torch.equal(torch.cat(first), torch.cat(batches(1, 0)))
    assert not torch.equal(torch.cat(first), torch.cat(batches(0, 0, seed=1)))
    assert torch.equal(torch.cat(first), torch.cat(batches(0, 0)))
    same = np.full((2, 16, 16, 1), 100, dtype=np.uint8)
    same[:, 4:8] = 200
    changed = Augmentation(AUGMENT)(same, seed=5)
    assert (changed[0] != changed[1]).any(), "two images of one batch are changed differently"


def test_batch_layout() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3), dtype=np.uint8)
    sampler = BatchSampler(np.array([2, 5, 7]), 4, None)
    batch = CachedImages(pixels, np.arange(8))[next(iter(sampler))]
    assert batch["image"].shape == (3, 3, 12, 12)
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["row"].tolist() == batch["target"].tolist() == [2, 5, 7]
    assert (batch["image"][1].permute(1, 2, 0).numpy() == pixels[5]).all()


def test_no_augmentation_is_no_copy_and_no_change() -> None:
    augmentation = Augmentation({"name": "none"})
    images = np.zeros((2, 4, 4, 1), dtype=np.uint8)
    assert not augmentation.active
    assert augmentation(images, 0) is images


def test_thumbnails_are_area_averages() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), dtype=np.uint8)
    small = thumbnails(pixels, np.array([2]))
    expected = pixels[2, ..., 0].reshape(16, 2, 16, 2).mean(axis=(1, 3)).ravel()
    assert np.abs(small[0] - expected).max() <= 1


def test_workers_are_few_on_small_machines() -> None:
    assert workers_for(usable_cores()) in range(9)


def tiny_settings(chest_xray: Path, tmp_path: Path, *more: str) -> dict[str, Any]:
    folders = (f"data.root={chest_xray}", f"data.prepared={tmp_path / 'prepared'}")
    return composed_settings(*folders, "split.val_fraction=0.2", "model.image_size=16", *more)


def test_prepare_never_writes_to_the_data_folder(chest_xray: Path, tmp_path: Path) -> None:
    before = sorted(path for path in chest_xray.rglob("*"))
    prepared = prepare(tiny_settings(chest_xray, tmp_path))
    assert sorted(path for path in chest_xray.rglob("*")) == before
    assert prepared.pixels.shape == (len(prepared.manifest), 16, 16, 1)
    names = {re.sub("-v1-.*", "", path.name) for path in prepared.folder.iterdir()}
    assert names == {"index.csv", "patient_salt", "tasks", "small", "near-duplicates", "cache", "prepare.lock"}
    again = prepare(tiny_settings(chest_xray, tmp_path))
    assert again.splits.sha256 == prepared.splits.sha256


def test_two_processes_may_prepare_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from datamodules.prepared import prepare; from conf.cli import composed; "
        "from conf.run_settings import plain_settings; settings = plain_settings(composed(['data.source=phantom', "
        "'data.prepared=' + sys.argv[1], 'data.phantom_images=150', 'split.val_fraction=0.3', 'model.image_size=16'])); "
        "print(prepare(settings).splits.sha256)"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0] == outputs[1]


def test_bad_images_are_skipped_or_stop(chest_xray: Path, tmp_path: Path) -> None:
    from datamodules.errors import DataError

    broken = chest_xray / "train" / "NORMAL" / "IM-0001-0001.jpeg"
    broken.write_bytes(broken.read_bytes()[:100])
    prepared = prepare(tiny_settings(chest_xray, tmp_path))
    assert [item.path for item in prepared.manifest.left_out] == ["train/NORMAL/IM-0001-0001.jpeg"]
    with pytest.raises(DataError, match=r"1 unreadable.*\n.*IM-0001-0001"):
        prepare(tiny_settings(chest_xray, tmp_path, "data.on_bad_image=error"))


def test_metadata_rows_are_those_of_the_images() -> None:
    pixels = np.zeros((8, 4, 4, 1), dtype=np.uint8)
    metadata = np.arange(24, dtype=np.float32).reshape(8, 3)
    sampler = BatchSampler(np.array([2, 5, 7]), 2, seed=1)
    for batch in DataLoader(CachedImages(pixels, np.arange(8), metadata=metadata), sampler=sampler, batch_size=None):
        assert batch["metadata"].dtype == torch.float32
        assert (batch["metadata"][:, 0] == 3 * batch["row"]).all()
        assert "features" not in batch


def test_plans_name_a_view_in_the_first_epochs_alone() -> None:
    plain = BatchSampler(np.arange(33), 8, seed=3)
    sampler = BatchSampler(np.arange(33), 8, seed=3, views=2, feature_epochs=3)
    for epoch, view in enumerate((0, 1, 0, None, None)):
        sampler.set_epoch(epoch)
        plain.set_epoch(epoch)
        for plan, other in zip(sampler, plain, strict=True):
            assert plan.view == view
            assert other.view is None
            assert plan.rows.tolist() == other.rows.tolist(), "features come in the order of the images"
            assert plan.seed == other.seed


def test_two_devices_use_the_same_view() -> None:
    both = [BatchSampler(np.arange(20), 8, 3, rank=rank, world=2, views=3, feature_epochs=9) for rank in range(2)]
    for sampler in both:
        sampler.set_epoch(5)
    for first, second in zip(*both, strict=True):
        assert first.view == second.view == 2


def test_two_devices_share_the_batches_of_one() -> None:
    rows = np.arange(103)
    alone = list(BatchSampler(rows, 16, seed=3))
    both = [list(BatchSampler(rows, 16, seed=3, rank=rank, world=2)) for rank in range(2)]
    assert len(both[0]) == len(both[1]) == len(alone)
    for plan, first, second in zip(alone, *both, strict=True):
        assert sorted([*first.rows, *second.rows]) == sorted(plan.rows)
        assert first.seed == plan.seed != second.seed


def test_a_device_without_an_image_in_the_last_batch_still_takes_part() -> None:
    plans = list(BatchSampler(np.arange(17), 16, seed=None, rank=1, world=2))
    assert plans[-1].rows.tolist() == [16]


@pytest.mark.parametrize("world", [1, 2])
def test_the_weighted_sampler_draws_every_class_equally_often(world: int) -> None:
    targets = np.array([0] * 900 + [1] * 90 + [2] * 10)
    rows = np.arange(1000)
    drawn = np.concatenate(
        [
            plan.rows
            for rank in range(world)
            for plan in BatchSampler(rows, 32, seed=0, weights=equal_classes(targets, rows), rank=rank, world=world)
        ]
    )
    shares = np.bincount(targets[drawn], minlength=3) / len(drawn)
    assert np.abs(shares - 1 / 3).max() < 0.06
    again = BatchSampler(rows, 32, seed=0, weights=equal_classes(targets, rows))
    first = [plan.rows.tolist() for plan in again]
    assert first == [plan.rows.tolist() for plan in again]
    again.set_epoch(1)
    assert first != [plan.rows.tolist() for plan in again]


def test_ways_of_labelling_the_same_files_do_not_get_in_each_others_way(chest_xray: Path, tmp_path: Path) -> None:
    plain = prepare(tiny_settings(chest_xray, tmp_path))
    finer = prepare(tiny_settings(chest_xray, tmp_path, "task.labels=subtype"))
    apart = prepare(tiny_settings(chest_xray, tmp_path, "data.conflicts=keep"))
    assert plain.folder == finer.folder == apart.folder
    assert len({plain.task_folder, finer.task_folder, apart.task_folder}) == 3
    assert finer.manifest.classes == ("normal", "bacteria", "virus")
    assert prepare(tiny_settings(chest_xray, tmp_path)).splits.sha256 == plain.splits.sha256

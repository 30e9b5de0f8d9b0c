"""What one size of :mod:`benchmarks.growth` measures, in a process of its own: files, index, split, cache, batches, step."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SIDE = 128  # pixels of the decoded images, grey: 16 KB each
CLASSES = ("NORMAL", "PNEUMONIA")
LINKS, IN_FOLDER = 50_000, 10_000  # hard links of one file (ext4 allows 65,000), files of one folder
PER_GROUP = 2  # images of a patient
_SALT = b"benchmark"


class Memory:
    """Anonymous memory of this process, sampled while a step runs; pages of mapped files are not its own."""

    def __init__(self) -> None:
        self.peak = 0.0

    @staticmethod
    def now() -> float:
        """MB, as ``RssAnon`` of Linux says."""
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
        raise OSError("this system does not tell anonymous memory (RssAnon in /proc/self/status); use Linux")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keep the highest value in ``peak``."""
        ended = threading.Event()
        self.peak = self.now()

        def watch() -> None:
            while not ended.wait(0.01):
                self.peak = max(self.peak, self.now())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.peak = max(self.peak, self.now())


class Steps:
    """Seconds and memory of named steps, in their order.

    Attributes:
        found: of each step ``seconds``, ``cpu``, ``peak_mb`` (anonymous memory).
    """

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}
        self._memory = Memory()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure what happens inside."""
        started, busy = time.perf_counter(), time.process_time()
        with self._memory.watched():
            yield
        seconds, cpu = time.perf_counter() - started, time.process_time() - busy
        self.found[name] = {"seconds": seconds, "cpu": cpu, "peak_mb": self._memory.peak}


def listing_of(count: int) -> pd.DataFrame:
    """Rows as a reader of a data set gives them: ids, labels, patients; no official parts."""
    number = np.arange(count)
    names = [f"{row // IN_FOLDER:04d}/image{row:08d}.png" for row in range(count)]
    group = number // PER_GROUP
    label = np.array(CLASSES, dtype=object)[(group % 3 > 0).astype(int)]
    patients = [f"patient{value:08d}" for value in group]
    return pd.DataFrame({"image_id": names, "path": names, "label": label, "group_id": patients, "split": ""})


def make_files(root: Path, names: list[str]) -> None:
    """A tiny file under every name: hard links of a few, so that a million of them cost directory entries and no blocks."""
    for folder in sorted({name.split("/", 1)[0] for name in names}):
        (root / folder).mkdir(parents=True)
    source = root
    for row, name in enumerate(names):
        if row % LINKS == 0:
            source = root / name
            source.write_bytes(b"no image; its facts are generated")
        else:
            os.link(source, root / name)


def first_index(root: Path, names: list[str], memory: Path) -> None:
    """The index that a first run leaves; what reading the files would find is made up, since it is not what grows."""
    from datamodules import index
    from datamodules.images import ImageFacts

    def made_up(path: Path, salt: bytes) -> ImageFacts:
        return ImageFacts(hashlib.sha256(os.fsencode(path)).hexdigest(), 1024, 1024, "L")

    with mock.patch.object(index, "inspect_image", made_up):
        index.index_files(root, names, memory, salt=_SALT)


def sparse_cache(folder: Path, paths: list[Path], contents: list[str]) -> None:
    """A complete decoded cache whose pixels are all 0: a file with a hole, which takes no room on the disk."""
    from datamodules import cache, cache_build
    from datamodules.pixel_source import ImageFiles

    folder.mkdir(parents=True, exist_ok=True)
    files = ImageFiles(paths, contents, SIDE, 1)
    path = cache.path_of(folder, files)
    head = cache_build.header_of(files.shape)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + files.nbytes)
    with path.open("rb") as file:
        crcs = cache_build.checksums_of(file.fileno(), files)
    cache_build.write_record(path, files, crcs, cache_build.stat_of(path))


def generate(folder: Path, count: int) -> None:
    """Files, index and cache of a data set of ``count`` images below ``folder``; not measured."""
    listing = listing_of(count)
    names = listing["path"].tolist()
    (folder / "images").mkdir(parents=True)
    make_files(folder / "images", names)
    first_index(folder / "images", names, folder / "index.csv")
    facts = pd.read_csv(folder / "index.csv", usecols=["image_id", "sha256"], dtype=str)
    found = facts.set_index("image_id")["sha256"].loc[names].tolist()
    sparse_cache(folder / "cache", [folder / "images" / name for name in names], found)


def measure(
    folder: Path, count: int, batches: int, augmentation: dict[str, Any], model: dict[str, Any]
) -> dict[str, Any]:
    """Everything that a run does with ``count`` images before and in its epochs, except decoding them.

    Args:
        folder: of :func:`generate`.
        batches: how many batches of 32 images the loader and the step are measured on.
        augmentation, model: settings of a run.

    Returns:
        ``steps`` of :class:`Steps`; images of the measured batches: ``loaded`` and ``trained``; ``before_mb``: memory of Python
        and its modules alone.
    """
    from datamodules.cache import open_cache
    from datamodules.datamodule import ImageDataModule
    from datamodules.index import index_files
    from datamodules.manifest import build_manifest
    from datamodules.split_files import obtain_splits
    from datamodules.splits import SplitPlan

    steps, before = Steps(), Memory.now()
    listing, root = listing_of(count), folder / "images"
    with steps.step("index"):
        facts = index_files(root, listing["path"].tolist(), folder / "index.csv", salt=_SALT)
    with steps.step("manifest"):
        manifest = build_manifest(listing, facts, CLASSES, [], locked=())
        _ = manifest.sha256
    del listing, facts
    plan = SplitPlan(kind="random")
    for name in ("split, first run", "split, later runs"):
        with steps.step(name):
            splits = obtain_splits(manifest, folder / "splits", plan)
    with steps.step("cache"):
        paths = [root / path for path in manifest.frame["path"]]
        pixels = open_cache(folder / "cache", paths, manifest.frame["sha256"].tolist(), size=SIDE, channels=1)
        del paths
    # A new module starts with the same batches, so that the second time their pages are in memory, however many there are.
    for number, name in enumerate(("loader, first read", "loader")):
        module = ImageDataModule(manifest, splits, pixels, augmentation=augmentation, batch_size=32, num_workers=0)
        loader = module.train_dataloader()
        loaded = iter(loader)
        with steps.step("batch before" if number else "first batch"):
            next(loaded)
        with steps.step(name):
            images = sum(len(batch["target"]) for batch in itertools.islice(loaded, batches))
        del loaded
    train, batch = _step_of(model), iter(loader)
    for _ in range(2):  # torch chooses kernels and loads the last modules in its first step
        train(next(batch))
    with steps.step("loader and model"):
        trained = sum(train(next(batch)) for _ in range(min(batches, len(loader) - 2)))
    return {"count": count, "before_mb": before, "loaded": images, "trained": trained, "steps": steps.found}


def _step_of(model: dict[str, Any]) -> Callable[[dict[str, Any]], int]:
    """A plain training step, which says how many images it took."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    from models.build import build_network

    network = build_network(model, 1)
    optimiser = torch.optim.Adam(network.parameters(), fused=True)

    def step(batch: dict[str, Any]) -> int:
        pixels = batch["image"].float().div_(255.0)
        loss = binary_cross_entropy_with_logits(network(pixels).squeeze(1), batch["target"].float())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return len(pixels)

    return step


def similar_pictures(count: int) -> NDArray[np.uint8]:
    """Small pictures for the search for near-duplicates: smooth and all different, ``(n, 32, 32)``."""
    import cv2

    rng = np.random.default_rng(count)
    coarse = rng.integers(0, 256, (count, 8, 8), dtype=np.uint8)
    return np.stack([cv2.resize(picture, (32, 32), interpolation=cv2.INTER_CUBIC) for picture in coarse])


def search(count: int) -> dict[str, float]:
    """Seconds and memory of comparing ``count`` small pictures with each other."""
    from datamodules.near_duplicates import near_duplicates

    small = similar_pictures(count)
    steps = Steps()
    with steps.step("near-duplicates"):
        pairs = near_duplicates(small)
    return {**steps.found["near-duplicates"], "count": count, "pairs": len(pairs)}

"""The decoded cache: the same pixels on disk, in memory and switched off; never stale; wherever they fit."""

from __future__ import annotations

import hashlib
import logging
import mmap
import multiprocessing
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conf.cli import ConfigError
from datamodules import cache, cache_room, pixel_source
from datamodules.cache import cache_key, open_cache, open_pixels
from datamodules.cache_room import Memory, choose, memory_of_process, size_text
from datamodules.errors import DataChangedError, DataError, UnreadableImageError
from datamodules.images import DECODER_VERSION, inspect_image, read_image
from datamodules.pixel_source import DecodedFiles, ImageFiles, MemoryPixels, identity_of
from datamodules.prepared import prepare
from tests.commands import ROOT
from tests.conftest import composed_settings, write_image

KINDS = ("disk", "ram", "off")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "images" / f"{number}.jpeg" for number in range(70)]
    for number, path in enumerate(paths):
        write_image(path, number)
    return paths


def hashes(paths: list[Path]) -> list[str]:
    return [inspect_image(path).sha256 for path in paths]


def of(paths: list[Path], size: int = 16, channels: int = 1) -> ImageFiles:
    return ImageFiles(paths, hashes(paths), size, channels)


def test_a_changed_file_or_setting_is_another_cache(files: list[Path], tmp_path: Path) -> None:
    before = open_cache(tmp_path / "cache", files, hashes(files), size=16, channels=1).copy()
    write_image(files[5], 999)
    after = open_cache(tmp_path / "cache", files, hashes(files), size=16, channels=1)
    assert (after[5] != before[5]).any()
    assert (after[5] == read_image(files[5], 16, 1)).all()
    keys = {
        cache_key(["a", "b"], 16, 1),
        cache_key(["b", "a"], 16, 1),
        cache_key(["a", "b"], 17, 1),
        cache_key(["a", "b"], 16, 3),
        cache_key(["a", "b"], 16, 1, "bilinear"),
        cache_key(["a", "b"], 16, 1, "bicubic"),
    }
    assert len(keys) == 6


def test_another_decoder_is_another_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache_key(["a", "b"], 16, 1)
    monkeypatch.setattr(pixel_source, "DECODER_VERSION", DECODER_VERSION + 1)
    assert cache_key(["a", "b"], 16, 1) != before


def test_caches_of_version_0_1_are_still_found() -> None:
    """Area averaging is what was always done; its key must not change."""
    head = f"decoder {DECODER_VERSION}, 16x16x1, squashed"
    assert cache_key(["a", "b"], 16, 1) == hashlib.sha256(f"{head}\na\nb".encode()).hexdigest()
    assert cache_key(["a", "b"], 16, 1, "area") == cache_key(["a", "b"], 16, 1)


def test_each_interpolation_has_its_own_cache(files: list[Path], tmp_path: Path) -> None:
    contents = hashes(files)
    for interpolation in ("area", "bilinear", "bicubic"):
        pixels = open_cache(tmp_path / "cache", files, contents, size=16, channels=1, interpolation=interpolation)
        assert (pixels[7] == read_image(files[7], 16, 1, interpolation)).all()
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 3


@pytest.mark.parametrize("channels", [1, 3])
def test_disk_memory_and_off_give_the_same_pixels(files: list[Path], tmp_path: Path, channels: int) -> None:
    found = {kind: open_pixels(kind, tmp_path / kind, of(files, channels=channels)) for kind in KINDS}
    plain = np.stack([read_image(path, 16, channels) for path in files])
    rows = np.array([3, 69, 0, 3])
    for kind, pixels in found.items():
        assert pixels.shape == plain.shape, kind
        assert pixels.dtype == np.uint8
        assert pixels.nbytes == plain.nbytes
        assert len(pixels) == pixels.shape[0] == 70
        assert pixels.ndim == 4
        for index in (
            rows,
            np.array([], dtype=np.int64),
            [1, 2],
            slice(60, None),
            slice(None, None, 7),
            -1,
            np.int64(4),
        ):
            assert np.asarray(pixels[index]).tobytes() == plain[index].tobytes(), (kind, index)
            assert pixels[index].shape == plain[index].shape
        assert (np.asarray(pixels) == plain).all()
        with pytest.raises(IndexError):
            pixels[70]
    assert isinstance(found["disk"], np.memmap)
    assert isinstance(found["ram"], MemoryPixels)
    assert isinstance(found["off"], DecodedFiles)
    assert not any(found[kind].flags.writeable for kind in ("disk", "ram"))
    assert list((tmp_path / "ram").iterdir()) == list((tmp_path / "off").iterdir()) == []


def test_memory_takes_a_complete_array_from_the_disk(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk = open_pixels("disk", tmp_path, of(files))
    monkeypatch.setattr(pixel_source, "read_image", None)
    assert (open_pixels("ram", tmp_path, of(files)) == on_disk).all()


def test_all_kinds_have_one_identity(files: list[Path], tmp_path: Path) -> None:
    """So features and baselines that were made of one are found with another."""
    held = {kind: open_pixels(kind, tmp_path / kind, of(files)) for kind in KINDS}
    assert {identity_of(pixels) for pixels in held.values()} == {of(files).key}
    part = held["ram"][:5]
    assert identity_of(part) == identity_of(np.array(part)) != identity_of(held["ram"])
    assert identity_of(held["ram"] + np.uint8(1)) != identity_of(held["ram"])


def test_memory_and_files_go_to_other_processes(files: list[Path], tmp_path: Path) -> None:
    rows = np.arange(20)
    for kind in ("ram", "off"):
        pixels = open_pixels(kind, tmp_path, of(files))
        expected = pixels[rows].tobytes()  # threads exist from here on
        again = pickle.loads(pickle.dumps(pixels))
        assert again[rows].tobytes() == expected
        assert identity_of(again) == identity_of(pixels)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply(_rows, (pixels, rows)) == expected


def _rows(pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> bytes:
    return pixels[rows].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_changed_after_the_index_is_never_read(files: list[Path], tmp_path: Path, kind: str) -> None:
    about = of(files)
    write_image(files[40], 999)
    with pytest.raises(DataChangedError, match=r"40\.jpeg: the file has changed since it was indexed"):
        open_pixels(kind, tmp_path, about)[np.arange(70)]
    files[40].unlink()
    with pytest.raises(UnreadableImageError, match=r"40\.jpeg: cannot be read"):
        open_pixels(kind, tmp_path, about)[np.arange(70)]


def settings_of(root: Path, home: Path, *more: str) -> dict[str, Any]:
    folders = (f"data.root={root}", f"data.prepared={home / 'prepared'}")
    return composed_settings(*folders, "split.val_fraction=0.2", "model.image_size=16", *more)


@pytest.mark.parametrize("kind", KINDS)
def test_renamed_changed_and_relabelled_images_are_never_stale(chest_xray: Path, tmp_path: Path, kind: str) -> None:
    def assert_fresh() -> None:
        prepared = prepare(settings_of(chest_xray, tmp_path, f"data.cache={kind}", "split.refresh=true"))
        paths = [prepared.root / path for path in prepared.manifest.frame["path"]]
        expected = np.stack([read_image(path, 16, 1) for path in paths])
        assert (np.asarray(prepared.pixels) == expected).all()

    assert_fresh()
    normal = chest_xray / "train" / "NORMAL"
    (normal / "IM-0002-0001.jpeg").rename(normal / "IM-9002-0001.jpeg")
    assert_fresh()
    write_image(normal / "IM-0004-0001.jpeg", 4711)
    assert_fresh()
    shutil.move(normal / "IM-0005-0001.jpeg", chest_xray / "train" / "PNEUMONIA" / "person9005_virus_1.jpeg")
    assert_fresh()


def test_a_changed_table_of_labels_is_never_stale(tmp_path: Path) -> None:
    root, lines = tmp_path / "mine", []
    for number in range(40):
        write_image(root / f"{number}.png", number)
        lines.append(f"{number}.png,{'ab'[number % 2]}")
    table = ["task=table", "task.classes=[a,b]", "task.positive=[b]"]
    for order in (lines, lines[::-1], [line.replace(",a", ",b") if line < "2" else line for line in lines]):
        (root / "list.csv").write_text("\n".join(["path,label", *order]) + "\n", encoding="utf-8")
        prepared = prepare(settings_of(root, tmp_path, "split.refresh=true", "model.channels=1", *table))
        for row, (path, label) in enumerate(prepared.manifest.frame[["path", "label"]].itertuples(index=False)):
            assert (prepared.pixels[row] == read_image(root / path, 16, 1)).all()
            assert f"{path},{label}" in order


def test_larger_images_for_crops_are_a_second_array(chest_xray: Path, tmp_path: Path) -> None:
    plain = prepare(settings_of(chest_xray, tmp_path))
    assert plain.training_pixels is plain.pixels
    wide = prepare(settings_of(chest_xray, tmp_path, "data.margin=1.25", "augmentation.crop=0.7"))
    assert wide.pixels.shape == plain.pixels.shape
    assert len(list((wide.folder / "cache").glob("*.npy"))) == 1, "decoded when first asked for, by training alone"
    assert wide.training_pixels.shape == (len(wide.manifest), 20, 20, 1)
    assert (wide.training_pixels[3] == read_image(wide.root / wide.manifest.frame["path"][3], 20, 1)).all()
    assert wide.training_pixels is wide.training_pixels
    with pytest.raises(ConfigError, match=r"data\.margin=1\.25: must be 1 where augmentation\.crop=1"):
        settings_of(chest_xray, tmp_path, "data.margin=1.25")


def test_auto_takes_the_first_place_that_fits(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = of(files)  # 17,920 bytes

    def chosen(wanted: str, free: int, available: int, **more: Any) -> tuple[str, str]:
        usage = shutil._ntuple_diskusage(10**12, 0, free)  # type: ignore[attr-defined]
        monkeypatch.setattr(cache_room.shutil, "disk_usage", lambda folder: usage)
        monkeypatch.setattr(cache_room, "memory_of_process", lambda: Memory(10**12, available))
        choice = choose(wanted, about, tmp_path, **{"complete": False, **more})
        return choice.kind, choice.line

    kind, line = chosen("auto", 20_000, 10**9)
    assert kind == "disk"
    assert line == f"decoded cache: 18 kB on disk for 70 images of 16 x 16 grey (20 kB free in {tmp_path})"
    assert chosen("auto", 19_000, 10**9)[0] == "ram", "a tenth of the disk is left free"
    assert chosen("auto", 19_000, 30_000)[0] == "off", "half of the memory is left free"
    assert chosen("auto", 0, 0, complete=True)[0] == "disk"
    assert chosen("auto", 1_000, 0, reserved=17_500)[0] == "disk", "an unfinished array has its space already"
    assert chosen("off", 10**12, 10**12)[0] == "off"
    assert chosen("ram", 0, 30_000)[0] == "ram"
    with pytest.raises(DataError, match=r"data\.cache=disk: 70 images .* take 18 kB, but only 19 kB are free"):
        chosen("disk", 19_000, 10**12)
    with pytest.raises(
        DataError, match=r"data\.cache=ram: .* only 19 kB of memory are available\. Use data\.cache=auto"
    ):
        chosen("ram", 10**12, 19_000)


def test_the_choice_is_said_before_decoding(
    files: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[int] = []
    plain = ImageFiles.read
    monkeypatch.setattr(ImageFiles, "read", lambda self, row: said.append(len(caplog.records)) or plain(self, row))
    with caplog.at_level(logging.INFO, "firstread"):
        open_pixels("auto", tmp_path, of(files))
        open_pixels("auto", tmp_path, of(files))
    assert set(said) == {1}
    assert [record.getMessage().endswith("(there already)") for record in caplog.records] == [False, True]


@pytest.mark.parametrize(
    ("size", "text"), [(900, "1 kB"), (1_500_000, "1.5 MB"), (96 * 10**6, "96 MB"), (3 * 10**12, "3.0 TB")]
)
def test_sizes_in_words(size: int, text: str) -> None:
    assert size_text(size) == text


def test_memory_is_that_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path("/proc/self/cgroup")
    if not own.is_file():
        pytest.skip("no control groups on this system")
    free = memory_of_process()
    assert 0 < free.available <= free.total
    folder = tmp_path.joinpath(*_group().split("/"))
    for name, text in (
        ("memory.max", "3000000"),
        ("memory.current", "2000000"),
        ("memory.stat", "inactive_file 500000"),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
    monkeypatch.setattr(cache_room, "_CGROUPS", tmp_path)
    monkeypatch.setattr(cache_room, "_own_groups", lambda: [["0", "", f"/{_group()}"]])
    assert memory_of_process() == Memory(3_000_000, 1_500_000)
    (folder / "memory.max").write_text("max\n")
    assert memory_of_process().total == free.total


def _group() -> str:
    return "jobs/mine"


def test_random_reads_leave_memory_of_the_process_flat(tmp_path: Path) -> None:
    """An array of 256 MB, read twice over in batches of 2 MB, in a process of its own."""
    code = """
import sys
import numpy as np
from pathlib import Path
def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
array = np.lib.format.open_memmap(sys.argv[1], mode="w+", dtype=np.uint8, shape=(4096, 256, 256, 1))
del array
pixels = np.load(sys.argv[1], mmap_mode="r")
rows = np.random.default_rng(0)
total = int(pixels[rows.integers(4096, size=32)].sum())
before = anonymous()
for _ in range(256):
    total += int(pixels[rows.integers(4096, size=32)].sum())
print(anonymous() - before)
"""
    if not Path("/proc/self/status").is_file():
        pytest.skip("the system does not tell")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.npy")], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 16  # MB


def test_a_large_array_is_read_without_read_ahead(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advice: list[int] = []

    class Asked(mmap.mmap):
        def madvise(self, option: int, *more: int) -> None:
            advice.append(option)

    monkeypatch.setattr("mmap.mmap", Asked)
    for total, expected in ((10**12, []), (20_000, [mmap.MADV_RANDOM])):
        monkeypatch.setattr(cache, "memory_of_process", lambda total=total: Memory(total, total))
        open_pixels("disk", tmp_path, of(files))
        assert advice == expected

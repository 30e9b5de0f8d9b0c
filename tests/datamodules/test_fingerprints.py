from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules import fingerprints
from datamodules.errors import UnreadableImageError
from datamodules.fingerprints import small_images


def write(path: Path, grey: int, size: tuple[int, int] = (50, 40)) -> Path:
    assert cv2.imwrite(str(path), np.full(size, grey, dtype=np.uint8))
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / f"{grey}.png", grey) for grey in (10, 20, 30)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    read = fingerprints.read_image

    def counting(path: Path, size: int, channels: int) -> np.ndarray:
        names.append(path.name)
        return read(path, size, channels)

    monkeypatch.setattr(fingerprints, "read_image", counting)
    return names


def test_pictures_come_in_the_order_of_the_paths(files: list[Path], tmp_path: Path) -> None:
    small = small_images(files, ["c", "a", "b"], tmp_path / "memory")
    assert small.shape == (3, 32, 32) and small.dtype == np.uint8
    assert small[:, 5, 5].tolist() == [10, 20, 30]


def test_area_averaging_sees_every_pixel(tmp_path: Path) -> None:
    chequers = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(chequers).save(tmp_path / "c.png")
    small = small_images([tmp_path / "c.png"], ["c"], tmp_path / "memory")
    assert set(np.unique(small)) <= {127, 128}


def test_the_second_call_decodes_nothing(files: list[Path], tmp_path: Path, decoded: list[str]) -> None:
    first = small_images(files, ["a", "b", "c"], tmp_path / "memory")
    decoded.clear()
    again = small_images(files[::-1], ["c", "b", "a"], tmp_path / "memory")
    assert decoded == []
    np.testing.assert_array_equal(again, first[::-1])


def test_only_new_and_changed_files_are_decoded(files: list[Path], tmp_path: Path, decoded: list[str]) -> None:
    small_images(files[:2], ["a", "b"], tmp_path / "memory")
    decoded.clear()
    write(files[1], 99)
    small = small_images(files, ["a", "changed", "c"], tmp_path / "memory")
    assert sorted(decoded) == ["20.png", "30.png"]
    assert small[:, 0, 0].tolist() == [10, 99, 30]


def test_files_of_one_content_are_decoded_once(files: list[Path], tmp_path: Path, decoded: list[str]) -> None:
    small = small_images([files[0], files[1], files[0]], ["a", "b", "a"], tmp_path / "memory")
    assert sorted(decoded) == ["10.png", "20.png"]
    assert small[:, 0, 0].tolist() == [10, 20, 10]


def test_progress_counts_what_was_decoded(files: list[Path], tmp_path: Path) -> None:
    steps: list[int] = []
    small_images(files, ["a", "b", "c"], tmp_path / "memory", steps.append)
    small_images(files, ["a", "b", "c"], tmp_path / "memory", steps.append)
    assert sum(steps) == 3


def test_what_was_decoded_before_an_unreadable_file_is_kept(
    files: list[Path], tmp_path: Path, decoded: list[str]
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(files[0].read_bytes()[:40])
    with pytest.raises(UnreadableImageError, match=r"broken\.png"):
        small_images([*files, broken], ["a", "b", "c", "d"], tmp_path / "memory")
    decoded.clear()
    small_images(files, ["a", "b", "c"], tmp_path / "memory")
    assert decoded == []


@pytest.mark.parametrize("damage", [b"", b"not an array", b"\x93NUMPY\x01\x00"])
def test_a_damaged_memory_is_made_again(files: list[Path], tmp_path: Path, damage: bytes) -> None:
    memory = tmp_path / "memory"
    expected = small_images(files, ["a", "b", "c"], memory)
    (stored,) = memory.iterdir()
    stored.write_bytes(damage)
    np.testing.assert_array_equal(small_images(files, ["a", "b", "c"], memory), expected)


def test_a_new_decoder_reads_everything_again_and_removes_the_old_memory(
    files: list[Path], tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "memory"
    small_images(files, ["a", "b", "c"], memory)
    decoded.clear()
    monkeypatch.setattr(fingerprints, "DECODER_VERSION", fingerprints.DECODER_VERSION + 1)
    small_images(files, ["a", "b", "c"], memory)
    assert len(decoded) == 3
    assert len(list(memory.iterdir())) == 1


def test_no_files_is_no_error(tmp_path: Path) -> None:
    assert small_images([], [], tmp_path / "memory").shape == (0, 32, 32)


@pytest.mark.parametrize("contents", [["a"], ["a", ""], ["a", "b" * 65]])
def test_contents_that_do_not_fit_are_refused(files: list[Path], tmp_path: Path, contents: list[str]) -> None:
    with pytest.raises(ValueError, match="hash"):
        small_images(files[:2], contents, tmp_path / "memory")

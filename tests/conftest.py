"""Tiny images and folders for all tests; nothing is downloaded and nothing is committed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from conf.cli import composed
from conf.run_settings import plain_settings
from tests.commands import ROOT, environment_of, run_file


def write_image(path: Path, seed: int, size: int = 24) -> None:
    """A small grey JPEG of random blocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, size=(6, 6), dtype=np.uint8)
    assert cv2.imwrite(str(path), cv2.resize(blocks, (size, size), interpolation=cv2.INTER_CUBIC))


def make_chest_xray(root: Path, train_patients: int = 40, test_patients: int = 8) -> Path:
    """A folder in the Kermany layout: per part as many normal as pneumonia patients, every third with two images."""
    seed = 0
    for part, patients, first in (("train", train_patients, 1), ("test", test_patients, 500)):
        for number in range(first, first + patients):
            for image in range(1, 3 if number % 3 == 0 else 2):
                kind = "bacteria" if number % 2 else "virus"
                write_image(root / part / "NORMAL" / f"IM-{number:04d}-{image:04d}.jpeg", seed := seed + 1)
                write_image(root / part / "PNEUMONIA" / f"person{number}_{kind}_{seed}.jpeg", seed := seed + 1)
    return root


def composed_settings(*overrides: str) -> dict[str, Any]:
    """The plain settings that ``python train.py OVERRIDES`` works with."""
    return plain_settings(composed(list(overrides)))


@pytest.fixture
def chest_xray(tmp_path: Path) -> Path:
    return make_chest_xray(tmp_path / "chest_xray")


@pytest.fixture(scope="module")
def no_figure_files() -> Iterator[None]:
    """Pages with their figures inside, but without the same as files beside them, which take most of a page's time.

    That the files are written is tested in tests/evaluation and through the command lines in tests/end_to_end.
    """
    with pytest.MonkeyPatch.context() as patch:
        for page in ("report", "external_page"):
            patch.setattr(f"evaluation.{page}.save_figures", lambda figures, folder: None)
        yield


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets; the test is skipped, with the reason, where there is none."""
    named = os.environ.get("FIRSTREAD_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "chest_xray" / "train").is_dir():
        pytest.skip(f"no real images: {folder / 'chest_xray'} does not exist; set FIRSTREAD_DATA to have this test run")
    return folder


def run_train(*arguments: str, home: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """``python train.py ...`` as a user types it."""
    return run_command("train.py", *arguments, home=home, **options)


def run_prepare(*arguments: str, home: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """``python prepare.py ...`` as a user types it."""
    return run_command("prepare.py", *arguments, home=home, **options)


def run_command(
    file: str, *arguments: str, home: Path, cwd: Path | None = None, timeout: float = 600, warm: bool = True
) -> subprocess.CompletedProcess[str]:
    """An entry file in a process of its own, without any data set of this machine; see :mod:`tests.commands`."""
    place = cwd or home
    return run_file(file, *arguments, cwd=place, environment=environment_of(home), timeout=timeout, warm=warm)

"""Writing of phantom data sets: all or nothing, and on all cores."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.machine import usable_cores

_JPEG_QUALITY = 92


@contextmanager
def all_or_nothing(target: Path) -> Iterator[Path]:
    """A hidden folder beside ``target`` that takes its name when the block ends well, and vanishes otherwise.

    Raises:
        FileExistsError: if the target is there already; it is left untouched.
    """
    _refuse_existing(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield scratch / target.name
        _refuse_existing(target)
        os.rename(scratch / target.name, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise FileExistsError(
            f"{target} exists already; delete it or choose another root to draw a new phantom data set"
        )


def draw_all(
    draw: Callable[..., int], arguments: Iterable[tuple[Any, ...]], on_image: Callable[[int], None] | None
) -> None:
    """Call ``draw`` with each tuple of arguments, on all cores.

    Args:
        draw: writes some images and returns how many.
        arguments: of each call.
        on_image: called with the number of images written so far, from the calling thread.
    """
    done = 0
    with ThreadPoolExecutor(max_workers=min(8, usable_cores())) as pool:
        futures = [pool.submit(draw, *each) for each in arguments]
        try:
            for future in futures:
                for _ in range(future.result()):
                    done += 1
                    if on_image is not None:
                        on_image(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def write_jpeg(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture, shape ``(height, width)`` grey or ``(height, width, 3)`` RGB, as JPEG of the path's suffix."""
    pixels = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode(path.suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not encoded:
        raise OSError(f"OpenCV could not encode {path.name} ({picture.shape[1]} x {picture.shape[0]} pixels) as JPEG")
    path.write_bytes(data.tobytes())

"""Whether an exported file says what the run says: the same probabilities, the same decisions, in every batch size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from datamodules.pixels import resized
from datamodules.progress import Progress, silent
from models.exportable import INPUT, METADATA, OUTPUTS
from workflow.export_graph import guarded
from workflow.export_images import CheckImages, drawn_images
from workflow.predictor import Predictor, Scored

Run = Callable[[NDArray[np.uint8], NDArray[np.float32] | None], Mapping[str, NDArray[Any]]]
"""From images ``(n, height, width, channels)`` and encoded metadata to the outputs by name."""

AT_ONCE: Final = 64  # as the predictor itself
BATCHES: Final = (1, 7, AT_ONCE)
# Batches of 1 and 7 are slow; beyond so many images, every so-manieth is taken, and those nearest the threshold.
_FEW: Final = 1000
_NEAREST: Final = 50
_TIMED: Final = (1, 32)
_REPEATS: Final = {1: 15, 32: 5}


def onnx_run(path: Path) -> Run:
    """An ONNX file in ONNX Runtime on the CPU, with as many threads as PyTorch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(pixels: NDArray[np.uint8], encoded: NDArray[np.float32] | None) -> Mapping[str, NDArray[Any]]:
        beside = {} if encoded is None else {METADATA: encoded}
        return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {INPUT: pixels, **beside}), strict=True))

    return run


def torch_run(path: Path) -> Run:
    """A .pt2 archive, loaded again from its file."""
    model = torch.export.load(path).module()

    @torch.inference_mode()
    def run(pixels: NDArray[np.uint8], encoded: NDArray[np.float32] | None) -> Mapping[str, NDArray[Any]]:
        beside = () if encoded is None else (torch.from_numpy(encoded),)
        found = model(torch.from_numpy(np.ascontiguousarray(pixels)), *beside)
        return {name: found[name].numpy() for name in OUTPUTS}

    return run


def all_outputs(
    run: Run, pixels: NDArray[np.uint8], encoded: NDArray[np.float32] | None, batch: int, progress: Progress = silent
) -> dict[str, NDArray[Any]]:
    """The outputs for images that are given to a file ``batch`` at a time."""
    found: list[Mapping[str, NDArray[Any]]] = []
    with progress(f"checking, {batch} at a time", len(pixels)) as advance:
        for start in range(0, len(pixels), batch):
            rows = slice(start, start + batch)
            found.append(run(np.ascontiguousarray(pixels[rows]), None if encoded is None else encoded[rows]))
            advance(len(pixels[rows]))
    return {name: np.concatenate([part[name] for part in found]) for name in OUTPUTS}


def agreement(
    run: Run, predictor: Predictor, images: CheckImages, reference: Scored, progress: Progress = silent
) -> dict[str, Any]:
    """How far a file is from the predictor.

    Args:
        run: the file. ``images``: what both see. ``reference``: what the predictor says of them.

    Returns:
        ``batches``: for each batch size ``batch``, ``n`` and the ``largest_difference`` of a probability, ``of_score``,
        ``of_calibrated``, and ``decisions_differ``. ``largest_difference`` and ``decisions_differ`` of all together.
        ``sizes``: the same for images of other heights and widths, resized inside the file, and ``largest_of_sizes``.
        ``on_threshold``: images between the locked threshold and what the file compares with, which it calls positive and the
        run does not.
    """
    batches = []
    for batch in BATCHES:
        rows = np.arange(len(images)) if batch == AT_ONCE else few_rows(images, reference, predictor.point.threshold)
        encoded = None if images.encoded is None else images.encoded[rows]
        found = all_outputs(run, images.pixels[rows], encoded, batch, progress)
        batches.append({"batch": batch, "n": len(rows), **differences(found, predictor, reference, rows)})
    sizes = _other_sizes(run, predictor, images)
    threshold = predictor.point.threshold
    between = (reference.scores >= guarded(threshold)) & (reference.scores < threshold)
    return {
        "images": images.about,
        "reason": images.reason,
        "n": len(images),
        "n_positive_decisions": int((reference.scores >= threshold).sum()),
        "batches": batches,
        "sizes": sizes,
        "largest_difference": max(item["largest_difference"] for item in batches),
        "largest_of_sizes": max(item["largest_difference"] for item in sizes),
        "decisions_differ": max(item["decisions_differ"] for item in batches),
        "on_threshold": int(between.sum()),
    }


def differences(
    found: Mapping[str, NDArray[Any]], predictor: Predictor, reference: Scored, rows: NDArray[np.int64]
) -> dict[str, Any]:
    """Largest differences of outputs from the predictor's, and how many decisions are others."""
    scores = reference.scores[rows]
    calibrated = predictor.calibrator.scores(scores)
    decisions = scores >= predictor.point.threshold
    return {
        "largest_difference": _largest(found["probabilities"], reference.probabilities[rows]),
        "of_score": _largest(found["score"], scores),
        "of_calibrated": _largest(found["calibrated"], calibrated),
        "decisions_differ": int((found["decision"].astype(bool) != decisions).sum()),
    }


def few_rows(images: CheckImages, reference: Scored, threshold: float) -> NDArray[np.int64]:
    """All validation images, or of very many some, always with those nearest the threshold."""
    rows = np.flatnonzero(images.validation)
    if len(rows) == 0:
        rows = np.arange(len(images))
    if len(rows) <= _FEW:
        return rows
    nearest = rows[np.argsort(np.abs(reference.scores[rows] - threshold), kind="stable")[:_NEAREST]]
    spread = rows[np.linspace(0, len(rows) - 1, _FEW - _NEAREST).astype(np.int64)]
    return np.unique(np.concatenate([spread, nearest]))


def _other_sizes(run: Run, predictor: Predictor, images: CheckImages) -> list[dict[str, Any]]:
    """Images that the file has to resize itself, beside the same images resized by OpenCV or Pillow."""
    decoding = predictor.decoding
    size, channels = decoding["image_size"], decoding["channels"]
    shapes = [(2 * size, 2 * size), (3 * size + 11, 4 * size + 3), (5 * size, size + 1), (max(8, size // 2), size + 7)]
    found = []
    for height, width in shapes:
        large = drawn_images(4, height, width, channels)
        flat = large[..., 0] if channels == 1 else large
        small = np.stack([resized(image, size, channels, decoding["interpolation"]) for image in flat])
        encoded = None if images.encoded is None else images.encoded[: len(large)]
        table = metadata_rows(images.table, np.arange(len(large)))
        reference = predictor.scored(small, table)
        outputs = all_outputs(run, large, encoded, len(large))
        rows = np.arange(len(large))
        found.append({"height": height, "width": width, **differences(outputs, predictor, reference, rows)})
    return found


def latencies(runs: Mapping[str, Run], predictor: Predictor, images: CheckImages) -> list[dict[str, Any]]:
    """Milliseconds a batch of files and of the predictor: medians of repeats that take turns, so that a busy machine slows all.

    Args:
        runs: files by name.

    Returns:
        For each batch size ``batch``, ``torch_ms``, and ``files``: by name ``ms`` and ``ratio``, the file's time over PyTorch's.
    """
    found = []
    for batch in _TIMED:
        rows = np.arange(batch) % len(images)
        pixels = np.ascontiguousarray(images.pixels[rows])
        encoded = None if images.encoded is None else images.encoded[rows]
        table = metadata_rows(images.table, rows)
        ours = [partial(run, pixels, encoded) for run in runs.values()]
        theirs, *times = _taking_turns([partial(predictor.scored, pixels, table), *ours], _REPEATS[batch])
        files = {name: {"ms": ms, "ratio": ms / theirs} for name, ms in zip(runs, times, strict=True)}
        found.append({"batch": batch, "torch_ms": theirs, "files": files})
    return found


def _taking_turns(calls: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Median milliseconds of each of several functions, after one round that warms up."""
    taken: list[list[float]] = [[] for _ in calls]
    for number in range(repeats + 1):
        for call, times in zip(calls, taken, strict=True):
            began = time.perf_counter()
            call()
            if number > 0:
                times.append(1000.0 * (time.perf_counter() - began))
    return [statistics.median(times) for times in taken]


def metadata_rows(table: pd.DataFrame | None, rows: NDArray[np.int64]) -> pd.DataFrame | None:
    """Rows of a table that may not be there."""
    return None if table is None else table.iloc[rows]


def _largest(found: NDArray[Any], wanted: NDArray[np.float64]) -> float:
    difference = np.abs(found.astype(np.float64) - wanted)
    # NaN is no small difference.
    return float("inf") if not np.isfinite(difference).all() else float(difference.max(initial=0.0))

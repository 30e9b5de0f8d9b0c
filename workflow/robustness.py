"""A finished run on its own test images, corrupted in steps: what blur, noise, hair and the like do at its locked threshold."""

from __future__ import annotations

import base64
import datetime
import logging
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conf.output import short, write_json
from conf.schema import RESEARCH_NOTICE
from datamodules.prepared import PreparedData
from datamodules.progress import Progress, progress_bar, silent
from evaluation.bootstrap import Resampling
from evaluation.predictions import PREFIX, Predictions, read_predictions
from evaluation.robustness import cell_of, figures_of, findings_of, kind_of, resampled_at, subset_rows
from evaluation.robustness_page import write_robustness_page
from explain.corruptions import MEANING, STRENGTHS, TITLES, corrupt, kinds_for, parameter_text
from workflow.ensembles import whole_folder
from workflow.own_data import own_data
from workflow.records import folder_for, shown
from workflow.robustness_table import print_robustness
from workflow.scoring import Scorer, load_scorer
from workflow.subjects import subject_of

__all__ = ["print_robustness", "robustness_of"]

SCHEMA = 1
CLEAN = "clean"
_SAME_SCORES = 1e-3  # GPUs round convolutions more coarsely than this run's CPU may have
_EXAMPLE_SIDE, _JPEG_QUALITY = 224, 82
_IN_MEMORY = (
    512  # images that are corrupted at once; a multiple of what a scorer takes at once, so that it rounds the same
)
log = logging.getLogger("firstread")


def robustness_of(
    run: Path,
    *,
    command: str,
    output: Path | None = None,
    images: int | None = None,
    seed: int = 0,
    bootstrap: int | None = None,
    confidence: float | None = None,
    data_root: Path | None = None,
    progress: bool = True,
) -> tuple[dict[str, Any], Path]:
    """Score the test images of a run clean and under every corruption that suits them, at its locked threshold.

    Args:
        run: folder of a finished run of a network, or of an ensemble; it is only read.
        command: as it was typed.
        output: folder that is made; None: ``evaluations/<task>/<date_time>``.
        images: about how many test images, whole groups drawn at random; None takes all.
        seed: of the draw and of the corruptions, at least 0.
        bootstrap, confidence: of the intervals; None as in the run.
        data_root: where the data set is, if it has moved.
        progress: show bars.

    Returns:
        The content of robustness.json, and the folder: robustness.json, robustness.csv.gz (a probability for each image,
        corruption and strength), report.html and figures.

    Raises:
        ValueError, DataError: with a message for the user; nothing is written then.
    """
    started = time.perf_counter()
    scorer = load_scorer(run)
    task = scorer.config["task"]
    folder = folder_for(task["name"], output)
    bar = progress_bar if progress else silent
    prepared = own_data(scorer, data_root, bar)
    stored = _test_predictions(scorer)
    rows = _rows_of(stored, prepared)[subset_rows(stored, images, seed)]
    domain = subject_of(task)
    clean, cells = _scored(scorer, prepared, rows, kinds_for(domain), seed, bar)
    settings = scorer.config["evaluation"]
    draws = scorer.config["split"]["seed"]
    how = Resampling(
        bootstrap or settings["bootstrap"],
        confidence or settings["confidence"],
        (draws, 1),
        interval=settings.get("interval", "percentile"),
    )
    content = {
        **_facts(scorer, prepared, command),
        "confidence": how.confidence,
        "bootstrap": {"resamples": how.resamples, "unit": task["group_name"], "seed": draws, "method": how.interval},
        "images": _images(clean, stored, images, seed),
        "domain": domain,
        "seed": seed,
        "largest_difference_to_run": _difference(clean, stored),
        **_judged(clean, cells, scorer, how),
        "seconds": round(time.perf_counter() - started, 1),
    }
    if content["largest_difference_to_run"] > _SAME_SCORES:
        log.warning(
            "clean images score differently than in the run, by up to %.2g", content["largest_difference_to_run"]
        )
    pictures = _examples(prepared, clean, rows, scorer.point.threshold, kinds_for(domain), seed)
    with whole_folder(folder) as beside:
        _write_scores(beside / "robustness.csv.gz", clean, cells)
        write_json(content, beside / "robustness.json")
        write_robustness_page(beside, content, pictures)
    return content, folder


def _test_predictions(scorer: Scorer) -> Predictions:
    path = scorer.run / "predictions" / "test.csv"
    if not path.is_file():
        raise ValueError(
            f"{short(scorer.run)}: there is no test part that all its networks have not seen (predictions/test.csv is missing). "
            "Take the run of one fold."
        )
    return read_predictions(path, scorer.classes, **scorer.outcome)


def _rows_of(stored: Predictions, prepared: PreparedData) -> NDArray[np.int64]:
    """Manifest rows of the test images, in the order of the run's predictions."""
    place = pd.Series(np.arange(len(prepared.manifest)), index=prepared.manifest.frame["image_id"])
    return np.asarray(place.loc[stored.frame["image_id"]], dtype=np.int64)


def _scored(
    scorer: Scorer,
    prepared: PreparedData,
    rows: NDArray[np.int64],
    kinds: tuple[str, ...],
    seed: int,
    progress: Progress,
) -> tuple[Predictions, dict[tuple[str, int], Predictions]]:
    """Predictions of the clean images, and of every kind and strength."""
    frame = prepared.manifest.frame.iloc[rows]
    described = frame[["image_id", "group_id", "label"]].reset_index(drop=True)
    held: dict[tuple[str, int], Predictions] = {}
    cells = [(CLEAN, 0), *((kind, strength) for kind in kinds for strength in STRENGTHS)]
    with progress(f"{len(kinds)} corruptions at {len(STRENGTHS)} strengths", len(cells) * len(rows)) as advance:
        for kind, strength in cells:
            found = []
            for start in range(0, len(rows), _IN_MEMORY):
                some = rows[start : start + _IN_MEMORY]
                # Numbered by the manifest, so that an image looks the same in a subset as in the whole.
                pixels = np.asarray(prepared.pixels[some])
                images = pixels if kind == CLEAN else corrupt(pixels, kind, strength, seed, numbers=some)
                table = frame.iloc[start : start + _IN_MEMORY] if scorer.takes_metadata else None
                found.append(scorer.probabilities(images, table))
                advance(len(some))
            scores = np.concatenate(found)
            columns = {PREFIX + name: scores[:, number] for number, name in enumerate(scorer.classes)}
            held[kind, strength] = Predictions(described.assign(**columns), scorer.classes, **scorer.outcome)
    return held.pop((CLEAN, 0)), held


def _judged(
    clean: Predictions, cells: dict[tuple[str, int], Predictions], scorer: Scorer, how: Resampling
) -> dict[str, Any]:
    """Figures of the clean images and of every cell, and what they say in words."""
    threshold = scorer.point.threshold
    before = resampled_at(clean, threshold, how)
    kinds: dict[str, list[dict[str, Any]]] = {}
    for (kind, strength), predictions in cells.items():
        after = resampled_at(predictions, threshold, how)
        cell = cell_of(predictions, after, clean, before, threshold, how.confidence)
        kinds.setdefault(kind, []).append({"strength": strength, "parameter": parameter_text(kind, strength), **cell})
    figures = figures_of(clean, before, threshold, how.confidence)
    found = [kind_of(kind, TITLES[kind], MEANING[kind], rows) for kind, rows in kinds.items()]
    called = {"positive": clean.positive_class, "negative": clean.negative_class}
    return {"clean": figures, "kinds": found, "findings": findings_of(figures, found, called)}


def _facts(scorer: Scorer, prepared: PreparedData, command: str) -> dict[str, Any]:
    task, record = scorer.config["task"], scorer.record
    return {
        "schema": SCHEMA,
        "title": f"Robustness of {scorer.name}: {task['title']}",
        "notice": RESEARCH_NOTICE,
        "command": command,
        "run": shown(scorer.run),
        "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "version": record.get("version"),
        "phantom": prepared.phantom,
        "task": task["name"],
        "model": scorer.name,
        "classes": list(scorer.classes),
        "positive": list(task["positive"]),
        "positive_class": scorer.point.positive_class,
        "negative_class": scorer.point.negative_class,
        "group_name": task["group_name"],
        "image_size": scorer.decoding["image_size"],
        "threshold": scorer.point.to_dict(),
        "weights_sha256": [part.description["weights_sha256"] for part in scorer.networks],
        "manifest_sha256": prepared.manifest.sha256,
        "split_sha256": prepared.splits.sha256,
    }


def _images(clean: Predictions, stored: Predictions, asked: int | None, seed: int) -> dict[str, Any]:
    drawn = (
        f"whole groups drawn at random (seed {seed}), with and without a positive image in proportion to the test part"
    )
    return {
        "asked": asked,
        "n": len(clean),
        "n_positive": int(clean.labels.sum()),
        "n_groups": len(clean.group_names),
        "of": len(stored),
        "how": "all test images" if len(clean) == len(stored) else drawn,
    }


def _difference(clean: Predictions, stored: Predictions) -> float:
    """How far the scores of the clean images are from those that the run wrote."""
    before = pd.Series(stored.scores, index=stored.frame["image_id"]).loc[clean.frame["image_id"]]
    return float(np.abs(clean.scores - before.to_numpy()).max())


def _examples(
    prepared: PreparedData,
    clean: Predictions,
    rows: NDArray[np.int64],
    threshold: float,
    kinds: tuple[str, ...],
    seed: int,
) -> dict[str, Any]:
    """One positive test image that is found, clean and under every corruption, as data URIs.

    Returns:
        ``image_id``, ``kinds``: for each kind its pictures from strength 0 to 5.
    """
    positive = np.flatnonzero(clean.labels == 1) if clean.labels.any() else np.arange(len(clean))
    found = positive[clean.scores[positive] >= threshold]
    chosen = found if len(found) else positive
    # The median of those found: neither a textbook case nor a borderline one.
    row = int(chosen[np.argsort(clean.scores[chosen], kind="stable")[len(chosen) // 2]])
    image, number = np.asarray(prepared.pixels[rows[row]])[None], [int(rows[row])]
    pictures = {
        kind: [_picture(corrupt(image, kind, strength, seed, numbers=number)[0]) for strength in (0, *STRENGTHS)]
        for kind in kinds
    }
    return {"image_id": str(clean.frame["image_id"].iloc[row]), "kinds": pictures}


def _picture(image: NDArray[np.uint8]) -> str:
    """A JPEG as data URI; large images are made smaller, because a page holds dozens."""
    if min(image.shape[:2]) > _EXAMPLE_SIDE:
        scale = _EXAMPLE_SIDE / min(image.shape[:2])
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        image = image.reshape(*image.shape[:2], -1)
    colours = np.ascontiguousarray(image[..., ::-1] if image.shape[2] == 3 else image)
    _, encoded = cv2.imencode(".jpg", colours, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def _write_scores(path: Path, clean: Predictions, cells: dict[tuple[str, int], Predictions]) -> None:
    """One row for each image, kind and strength; the same scores give the same bytes."""
    parts = []
    for (kind, strength), predictions in {(CLEAN, 0): clean, **cells}.items():
        scores = [name for name in predictions.frame.columns if name.startswith(PREFIX)]
        part = predictions.frame[["image_id", *scores]]
        part.insert(1, "kind", kind)
        part.insert(2, "strength", strength)
        parts.append(part)
    together = pd.concat(parts, ignore_index=True)
    together.to_csv(path, index=False, float_format="%.9g", compression={"method": "gzip", "mtime": 0})

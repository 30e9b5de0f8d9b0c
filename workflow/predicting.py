"""The steps of a prediction: images are decoded while others are scored, and every answer is on disk before the next ones."""

from __future__ import annotations

import datetime
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import Any, Final

import cv2
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from conf.output import short, write_json
from conf.predict_options import DEFAULT_OUTPUT, Options
from datamodules.metadata import MetadataEncoder
from datamodules.progress import Progress, progress_bar
from models.memory import keep_freed_memory
from workflow.answers import answers_of
from workflow.prediction_counts import Counts
from workflow.prediction_decoding import decoded_chunks
from workflow.prediction_files import write_answers, write_groups
from workflow.prediction_groups import GroupAnswer, Groups
from workflow.prediction_inputs import Inputs
from workflow.prediction_journal import RECORD, Journal, held, require_open
from workflow.prediction_rows import Columns
from workflow.predictor import Predictor

_PACKAGES: Final = ("torch", "timm", "numpy", "pillow", "opencv-python-headless")


class Stopped(KeyboardInterrupt):
    """The command was interrupted; what was answered so far is in the folder ``output``: ``done`` of ``total`` images."""

    def __init__(self, output: Path, done: int, total: int) -> None:
        super().__init__(f"stopped after {done:,} of {total:,} images")
        self.output, self.done, self.total = output, done, total


@dataclass(frozen=True)
class Prediction:
    """What a finished prediction left.

    Attributes:
        folder: with all files. ``files``: the tables and pages. ``record``: content of prediction.json.
        counts, groups: for the terminal; ``groups`` is empty where none are given.
    """

    folder: Path
    files: list[Path]
    record: dict[str, Any]
    counts: Counts
    groups: list[GroupAnswer]


def predict(
    predictor: Predictor, inputs: Inputs, options: Options, command: str, progress: Progress = progress_bar
) -> Prediction:
    """Answer all images, or go on with the answers that an interrupted command left.

    Args:
        command: as it was typed.

    Raises:
        ValueError, DataError: with a message for the user. Stopped: interrupted; all answers so far are on disk.
    """
    moment = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    output = options.output or DEFAULT_OUTPUT / (predictor.about.task or "model") / moment
    require_open(output)
    require_metadata(predictor, inputs)
    require_heat_maps(predictor, inputs, options)
    with held(output):
        require_open(output)  # a command that has just ended may have finished it
        journal = Journal(output, identity_of(predictor, inputs, options), inputs.ids, options.batch_size)
        before, began = journal.done, time.monotonic()
        try:
            answer_all(predictor, inputs, journal, options, progress)
            scored = time.monotonic()
            counts, groups, files = _written(predictor, inputs, options, journal, output, progress)
        except KeyboardInterrupt:
            raise Stopped(output, journal.done, len(inputs)) from None
        except OSError as error:
            raise ValueError(_unwritten(error, output, journal.done, len(inputs))) from error
        laps = {"scoring": scored - began, "writing": time.monotonic() - scored}
        record = _record(predictor, inputs, options, counts, groups, command, journal.done - before, laps)
        write_json(record, output / RECORD)
        journal.remove()
    return Prediction(output, files, record, counts, groups)


def _unwritten(error: OSError, output: Path, done: int, total: int) -> str:
    """What to do where a disk is full or a folder was taken away; the answers so far are worth keeping."""
    return (
        f"output={short(output)}: cannot be written ({error.strerror or error}). {done:,} of {total:,} images are answered and "
        f"kept there; once this is mended, the same command with output={short(output)} goes on."
    )


def identity_of(predictor: Predictor, inputs: Inputs, options: Options) -> dict[str, Any]:
    """What decides the answers, so that an unfinished folder is only gone on with by the same command."""
    return {
        "version": _version("firstread"),
        "weights": list(predictor.weights_sha256),
        "threshold": predictor.point.threshold,
        "calibration": predictor.calibrator.to_dict(),
        "borderline_from": predictor.borderline_from,
        "input_check": [None if check is None else _digest(check.to_dict()) for check in predictor.checks],
        "images": inputs.sha256(),
        "metadata": inputs.metadata_sha256(predictor.metadata_columns),
        "abstain": options.abstain,
        "batch_size": options.batch_size,
    }


def require_metadata(predictor: Predictor, inputs: Inputs) -> None:
    """Raise a ValueError where networks see columns that the inputs do not have; before anything is decoded."""
    wanted = predictor.metadata_columns
    if not wanted:
        return
    if inputs.metadata is None:
        raise ValueError(
            f"this model sees {', '.join(wanted)} beside the image, and images={inputs.named} has no such columns. Give a table "
            f"with the columns path, {', '.join(wanted)}: images=FILE.csv"
        )
    for part in predictor.networks:
        described = part.description.get("metadata")
        if not described:
            continue
        try:
            MetadataEncoder.from_description(described).encode(inputs.metadata.iloc[:1])
        except ValueError as error:
            raise ValueError(
                f"images={inputs.named}: this model sees {', '.join(wanted)} beside the image. {error}"
            ) from error


def require_heat_maps(predictor: Predictor, inputs: Inputs, options: Options) -> None:
    """Raise a ValueError where the panel's layer or target does not exist: now, and not after all images."""
    target = options.heat_maps.get("target", "positive")
    if target != "positive" and target not in predictor.classes:
        raise ValueError(
            f"heat_maps.target={target}: must be positive or one of the classes {', '.join(predictor.classes)}."
        )
    if "layer" in options.heat_maps:
        import numpy as np

        from workflow.heat_maps import maps_of

        size, channels = predictor.decoding["image_size"], predictor.decoding["channels"]
        black = np.zeros((1, size, size, channels), dtype=np.uint8)
        rows = None if inputs.metadata is None else inputs.metadata.iloc[:1]
        maps_of(predictor, black, metadata=rows, **options.heat_maps)


def answer_all(predictor: Predictor, inputs: Inputs, journal: Journal, options: Options, progress: Progress) -> None:
    """Append the answers that the journal lacks, chunk by chunk, in order."""
    keep_freed_memory()
    cv2.setNumThreads(0)  # images are decoded side by side
    starts = range(journal.done, len(inputs), options.batch_size)
    # numpy's threads would wait, at full load, for cores on which images are decoded: more than the input check takes itself.
    with threadpool_limits(1, "blas"), progress("predicting", len(inputs) - journal.done) as advance:
        for start, images in decoded_chunks(predictor, inputs, starts, options):
            rows = slice(start, start + len(images))
            answers = answers_of(
                predictor,
                images,
                inputs.ids[rows],
                inputs.paths[rows],
                None if inputs.groups is None else inputs.groups[rows],
                None if inputs.metadata is None else inputs.metadata.iloc[rows],
                abstain=options.abstain,
            )
            journal.append(answers)
            advance(len(images))


def _written(
    predictor: Predictor, inputs: Inputs, options: Options, journal: Journal, output: Path, progress: Progress
) -> tuple[Counts, list[GroupAnswer], list[Path]]:
    """The final files, from the journal; made again where an earlier command was stopped while it wrote them."""
    columns, about, point = Columns.of(predictor, grouped=inputs.groups is not None), predictor.about, predictor.point
    facts = {
        "title": about.title,
        "notice": about.notice,
        "phantom": about.phantom,
        "classes": list(predictor.classes),
        "positive": about.positive_called,
        "threshold": point.threshold,
        "borderline_from": predictor.borderline_from,
        "group_name": about.group_name,
    }
    counts, grouped = Counts(), Groups(predictor)
    for answer in write_answers(output, options.formats, columns, journal.answers(), facts):
        counts.add(answer)
        grouped.add(answer)
    files, groups = [output / f"predictions.{name}" for name in options.formats], grouped.answers()
    if inputs.groups is not None:
        write_groups(output, groups)
        files.append(output / "groups.csv")
    if options.panel:
        files += _panel(predictor, inputs, options, journal, output, progress)
    return counts, groups, files


def _panel(
    predictor: Predictor,
    inputs: Inputs,
    options: Options,
    journal: Journal,
    output: Path,
    progress: Progress,
) -> list[Path]:
    from workflow.panels import write_panel

    return write_panel(
        output,
        predictor,
        list(journal.answers()),
        lambda answer: predictor.look(Path(answer.path)),
        heat_maps=options.heat_maps,
        metadata=inputs.metadata,
        version=_version("firstread"),
        progress=progress,
    )


def _record(
    predictor: Predictor,
    inputs: Inputs,
    options: Options,
    counts: Counts,
    groups: Sequence[GroupAnswer],
    command: str,
    now: int,
    durations: Mapping[str, float],
) -> dict[str, Any]:
    """prediction.json: what was asked, of which model, and how it went."""
    about, point = predictor.about, predictor.point
    return {
        "status": "finished",
        "title": about.title,
        "notice": about.notice,
        "command": command,
        "finished": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "model": {
            "source": [short(path) for path in options.runs],
            "name": about.model,
            "task": about.task,
            "phantom": about.phantom,
            "licence": about.licence,
            "trained_with": about.version,
            "weights_sha256": list(predictor.weights_sha256),
            "classes": list(predictor.classes),
            "positive": list(predictor.positive),
            "decoding": predictor.decoding,
        },
        "threshold": {"threshold": point.threshold, "rule": point.rule, "statement": point.statement},
        "borderline_from": predictor.borderline_from,
        "calibration": predictor.calibrator.method,
        "input_check": [None if check is None else {"alpha": check.alpha} for check in predictor.checks],
        "abstain": options.abstain,
        "images": {"named": inputs.named, "left_out": inputs.left_out, "sha256": inputs.sha256()},
        "counts": counts.to_dict(predictor),
        "caution": counts.caution(predictor),
        "groups": len(groups) if inputs.groups is not None else None,
        "seconds": {name: round(value, 3) for name, value in durations.items()},
        "images_per_second": round(now / durations["scoring"], 2) if now and durations["scoring"] > 0 else None,
        "resumed_after": len(inputs) - now,
        "device": str(predictor.device),
        "version": _version("firstread"),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _version(package: str) -> str | None:
    try:
        return packages.version(package)
    except packages.PackageNotFoundError:
        return None

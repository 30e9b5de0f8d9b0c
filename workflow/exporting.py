"""The steps of an export: graph, check against the run, measurement, and only then the file."""

from __future__ import annotations

import datetime
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from conf.export_options import ONNX, SAFETENSORS, SUFFIXES, Options
from conf.output import short, write_json
from datamodules.progress import Progress, progress_bar, silent
from workflow.ensembles import require_new
from workflow.export_checks import AT_ONCE, BATCHES, Run, agreement, latencies, metadata_rows, onnx_run, torch_run
from workflow.export_facts import described, facts_of
from workflow.export_graph import traced, write_onnx, write_torch
from workflow.export_images import CheckImages, check_images
from workflow.export_quantise import judged, quantised
from workflow.predictor import Predictor, Scored, load_predictor
from workflow.records import digest_of

RECORD: Final = "export.json"
# OpenCV averages areas in float32, so that a pixel in a thousand may be one grey level off; more is a mistake of the graph.
RESIZED: Final = 0.02

Say = Callable[[str], None]
"""Tells the user which step begins."""


@dataclass(frozen=True)
class Place:
    """Where an export goes.

    Attributes:
        folder: that holds it. ``stem``: of the file names in it. ``record``: name of the record.
        whole: the folder is made for it; else it may hold other things.
    """

    folder: Path
    stem: str
    record: str
    whole: bool


def export(options: Options, command: str, *, bars: bool = True) -> tuple[dict[str, Any], Path]:
    """Export a trained model.

    Args:
        options: the checked command line. ``command``: as it was typed. ``bars``: show progress.

    Returns:
        The content of export.json (of format safetensors: ``format``, ``title`` and ``files``), and what was written: a file or
        a folder.

    Raises:
        ValueError, DataError, OSError: with a message for the user; nothing is written then.
    """
    started = time.perf_counter()
    say: Say = _say if bars else _say_nothing
    say("reading the model")
    predictor = load_predictor(options.run, trust=options.trust)
    place = _place(options, predictor)
    if options.format == SAFETENSORS:
        from workflow.hub_folder import write_hub_folder

        say("writing the folder, and reading it again")
        with _room_for(place):
            folder = write_hub_folder(predictor, place.folder)
        return {"format": SAFETENSORS, "title": predictor.about.title, "files": _listed(folder)}, folder
    suffix = SUFFIXES[options.format]
    names = [f"{place.stem}{suffix}", f"{place.stem}.int8{suffix}", place.record]
    _require_new_files(place, names)
    bar = progress_bar if bars else silent
    say("reading the images on which it is checked")
    images = check_images(predictor, options.data_root, bar)
    reference = _reference(predictor, images, bar)
    with _room_for(place), _written_whole(place, names) as beside:
        path = beside / names[0]
        content, run = _exported(options, predictor, path, images, reference, bar, say)
        runs = {path.name: run}
        if options.quantise:
            say("storing weights in 8 bits, and judging what that changes")
            small = beside / names[1]
            quantised(path, small)
            runs[small.name] = onnx_run(small)
            content["int8"] = {**_file(small), **judged(runs[small.name], predictor, images, reference, bar)}
        say("measuring how long a batch of 1 and one of 32 take")
        content["latency"] = latencies(runs, predictor, images)
        content["command"] = command
        content["seconds"] = round(time.perf_counter() - started, 1)
        write_json(content, beside / place.record)
    return content, place.folder if place.whole else place.folder / names[0]


def _exported(
    options: Options,
    predictor: Predictor,
    path: Path,
    images: CheckImages,
    reference: Scored,
    bar: Progress,
    say: Say,
) -> tuple[dict[str, Any], Run]:
    """Write the file, run it again from the file, and refuse it where it says something else than the run."""
    say(f"following the network with {'torch.onnx' if options.format == ONNX else 'torch.export'} (up to some minutes)")
    program, facts = traced(predictor), facts_of(predictor)
    run: Run
    if options.format == ONNX:
        write_onnx(program, path, predictor, facts)
        run = onnx_run(path)
    else:
        write_torch(program, path, facts)
        run = torch_run(path)
    del program
    say(f"checking {path.name} against the run, {', '.join(map(str, BATCHES))} at a time")
    check = agreement(run, predictor, images, reference, bar)
    _require_agreement(check, options.tolerance)
    content = {
        **described(predictor, options.format),
        "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "file": _file(path),
        "tolerance": options.tolerance,
        "check": check,
    }
    return content, run


def _require_agreement(check: dict[str, Any], tolerance: float) -> None:
    limits = {"largest_difference": tolerance, "largest_of_sizes": max(tolerance, RESIZED)}
    for name, limit in limits.items():
        if not check[name] <= limit:
            where = check["images"] if name == "largest_difference" else "images that it resizes itself"
            limited = f"tolerance={limit:g}" if limit == tolerance else f"{limit:g}"
            raise ValueError(
                f"the exported file differs from the run by up to {check[name]:.3g} in a probability, more than {limited}, so it "
                f"is not written ({where}). Raise tolerance= only if that is harmless for you."
            )


def _reference(predictor: Predictor, images: CheckImages, bar: Progress) -> Scored:
    """What the predictor says of all images, in its own batches."""
    found = []
    with bar("scoring with the run", len(images)) as advance:
        for start in range(0, len(images), AT_ONCE):
            rows = np.arange(start, min(start + AT_ONCE, len(images)))
            found.append(predictor.scored(images.pixels[rows], metadata_rows(images.table, rows)))
            advance(len(rows))
    return Scored(
        np.concatenate([part.probabilities for part in found]), np.concatenate([part.scores for part in found]), ()
    )


def _place(options: Options, predictor: Predictor) -> Place:
    """Where the files go; what is there is never overwritten.

    Raises:
        ValueError: something is there.
    """
    suffix = SUFFIXES.get(options.format)
    if options.output is not None and suffix is not None and options.output.suffix == suffix:
        path = options.output.absolute()
        return Place(path.parent, path.stem, f"{path.stem}.{RECORD}", whole=False)
    moment = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = (options.output or Path("exports") / (predictor.about.task or "model") / moment).absolute()
    require_new(folder)
    return Place(folder, "model", RECORD, whole=True)


@contextmanager
def _written_whole(place: Place, names: Sequence[str]) -> Iterator[Path]:
    """A folder in or beside the wanted place, whose files move there when all are written and checked; else nothing is left.

    Args:
        names: of the files that must not be there yet, looked at again before they are moved: an export takes minutes.
    """
    # Single files are written within their folder, not beside it: that may be another disk, or closed to this user.
    within = place.folder.parent if place.whole else place.folder
    beside = within / f".{place.folder.name if place.whole else place.stem}.{os.getpid()}"
    made = [folder for folder in (within, *within.parents) if not folder.exists()]
    shutil.rmtree(beside, ignore_errors=True)
    done = False
    try:
        beside.mkdir(parents=True)
        yield beside
        _require_new_files(place, names)
        if place.whole:
            os.replace(beside, place.folder)  # an empty folder of that name is replaced too
        else:
            for path in sorted(beside.iterdir()):
                os.replace(path, place.folder / path.name)
        done = True
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        for folder in [] if done else made:
            with suppress(OSError):  # not there, or somebody else uses it by now
                folder.rmdir()


@contextmanager
def _room_for(place: Place) -> Iterator[None]:
    """Around writing: what the system refuses (a full disk, a closed folder) names the place.

    Raises:
        ValueError: instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"output={short(place.folder)}: {error.strerror or error}. Nothing was written; make room there, or choose another "
            "output=."
        ) from error


def _require_new_files(place: Place, names: Sequence[str]) -> None:
    for path in [place.folder] if place.whole else [place.folder / name for name in names]:
        require_new(path)


def _say(text: str) -> None:
    print(f"{text} ...", flush=True)


def _say_nothing(text: str) -> None:
    """For callers that show nothing."""


def _file(path: Path) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest_of(path)}


def _listed(folder: Path) -> list[dict[str, Any]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [{"name": str(path.relative_to(folder)), "bytes": path.stat().st_size} for path in paths]

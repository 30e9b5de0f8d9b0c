"""Input check of a run against images that it should not answer on: made-up ones after training, folders of real ones later."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from conf.output import write_json
from conf.schema import RESEARCH_NOTICE
from datamodules.appearance import described, look
from datamodules.errors import UnreadableImageError
from datamodules.prepared import PreparedData
from datamodules.progress import Progress, silent
from evaluation.input_check import InputCheck, Verdict
from evaluation.input_check_figures import of_foreign, of_known, of_validation, sentences, threshold_of
from models.blocks import BlockNetwork
from models.bundle import extra_arrays, read_description
from workflow.foreign_sets import built_in_sets
from workflow.input_checking import INPUT_CHECK, embeddings_of
from workflow.subjects import subject_of

EXAMINED: Final = 400  # test images that stand for all: a share of 1 % is then known to about half a per cent
RECORD: Final = "input_check.json"
_AT_ONCE: Final = 128
log = logging.getLogger("firstread")


@dataclass(frozen=True)
class Checked:
    """One network with its input check.

    Attributes:
        described_as: of the network: ``mean``, ``std``, ``image_size``, ``channels``, ``interpolation``.
    """

    network: BlockNetwork
    described_as: Mapping[str, Any]
    check: InputCheck


@dataclass(frozen=True)
class Judged:
    """Verdicts on a set of images.

    Attributes:
        names: of the images that could be read, in order. ``unreadable``: how many could not.
        meaning: what they are, a sentence.
    """

    key: str
    name: str
    meaning: str
    names: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    unreadable: int = 0


def verdicts_on(
    checked: Sequence[Checked], pixels: NDArray[np.uint8], appearances: Sequence[Mapping[str, Any]]
) -> list[Verdict]:
    """Of several networks, the verdict of the one to which an image is strangest."""
    each = [
        part.check.judge(embeddings_of(part.network, part.described_as, pixels), appearances, of=len(checked))
        for part in checked
    ]
    return [min(found, key=lambda item: (item.p_value, -item.strangeness)) for found in zip(*each, strict=True)]


def judged_files(
    checked: Sequence[Checked],
    key: str,
    name: str,
    meaning: str,
    files: Mapping[str, Path | bytes],
    progress: Progress = silent,
) -> Judged:
    """Verdicts on files by name; those that cannot be read are counted."""
    names: list[str] = []
    verdicts: list[Verdict] = []
    listed, decoding = list(files.items()), _decoding(checked[0].described_as)
    with progress(f"checking {name}", len(listed)) as advance:
        for start in range(0, len(listed), _AT_ONCE):
            looked = []
            for called, source in listed[start : start + _AT_ONCE]:
                try:
                    looked.append(look(source, **decoding))
                except UnreadableImageError as error:
                    log.info("left out: %s", error)
                else:
                    names.append(called)
            if looked:
                pixels = np.stack([image.pixels for image in looked])
                verdicts += verdicts_on(checked, pixels, [image.appearance.to_dict() for image in looked])
            advance(len(listed[start : start + _AT_ONCE]))
    return Judged(key, name, meaning, tuple(names), tuple(verdicts), len(listed) - len(names))


def judged_test(
    checked: Sequence[Checked],
    prepared: PreparedData,
    seed: int,
    most: int | None = EXAMINED,
    progress: Progress = silent,
) -> Judged:
    """Verdicts on test images of the run's own data, drawn at random.

    Where a file is gone, all are judged by their pixels alone.
    """
    rows = prepared.splits.rows("test")
    drawn = np.sort(np.random.default_rng([seed, 8]).permutation(rows)[:most])
    paths = prepared.manifest.frame["path"].iloc[drawn].astype(str).tolist()
    meaning = "Test images of the run's own data."
    judged = judged_files(
        checked, "test", "test images", meaning, {path: prepared.root / path for path in paths}, progress
    )
    if judged.unreadable == 0:
        return judged
    log.warning("input check: %d test files cannot be read; all are judged by their stored pixels", judged.unreadable)
    verdicts: list[Verdict] = []
    for start in range(0, len(drawn), _AT_ONCE):
        pixels = np.asarray(prepared.pixels[drawn[start : start + _AT_ONCE]])
        looks = zip(*described(pixels), strict=True)
        verdicts += verdicts_on(checked, pixels, [{"layout": layout, "texture": texture} for layout, texture in looks])
    return Judged("test", "test images", meaning, tuple(paths), tuple(verdicts))


def judged_built_in(
    checked: Sequence[Checked], prepared: PreparedData, task: dict[str, Any], progress: Progress = silent
) -> list[Judged]:
    """Verdicts on the built-in sets of :mod:`workflow.foreign_sets`, as large as the run's own images usually are."""
    sides = prepared.manifest.frame[["height", "width"]].iloc[prepared.splits.rows("train")].median()
    shape = (max(int(sides["height"]), 32), max(int(sides["width"]), 32))
    sets = built_in_sets(subject_of(task), checked[0].described_as["channels"], shape)
    return [
        judged_files(
            checked,
            item.key,
            item.name,
            item.meaning,
            {f"{item.key} {number}": content for number, content in enumerate(item.files)},
            progress,
        )
        for item in sets
    ]


def content_of(checked: Sequence[Checked], test: Judged, foreign: Sequence[Judged]) -> dict[str, Any]:
    """The figures of input_check.json: of the test images, and of each foreign set against them."""
    check = checked[0].check
    alpha, count = check.alpha, len(checked)
    cut = threshold_of(check.calibration, alpha / count)
    smallest = min(count / (part.check.n + 1) for part in checked)
    sets = [
        {
            "key": item.key,
            "name": item.name,
            "meaning": item.meaning,
            "unreadable": item.unreadable,
            **of_foreign(item.verdicts, test.verdicts, alpha),
        }
        for item in foreign
        if item.verdicts
    ]
    known = of_known(test.verdicts, alpha)
    return {
        "alpha": alpha,
        "networks": count,
        "n_calibration": check.n,
        "can_abstain": smallest <= alpha,
        "threshold": cut,
        "limits": [limit.to_dict() for limit in check.limits],
        "val": of_validation(check.calibration, cut),
        "test": known,
        "sets": sets,
        "sentences": sentences(sets, known, alpha, smallest),
    }


def write_run_record(
    settings: dict[str, Any],
    folder: Path,
    prepared: PreparedData,
    network: BlockNetwork,
    title: str,
    progress: Progress = silent,
) -> None:
    """Write ``input_check.json`` of a run after its test; nothing where its model has no input check."""
    stored = read_description(folder / "model")
    arrays = extra_arrays(folder / "model", stored, INPUT_CHECK)
    if not stored.get("input_check") or arrays is None:
        return
    checked = [Checked(network, settings["model"], InputCheck.from_parts(stored["input_check"], arrays))]
    test = judged_test(checked, prepared, settings["seed"], progress=progress)
    foreign = judged_built_in(checked, prepared, settings["task"], progress)
    facts = {
        "title": title,
        "notice": RESEARCH_NOTICE,
        "phantom": prepared.phantom,
        "group_name": settings["task"]["group_name"],
        "of_test": len(prepared.splits.rows("test")),
    }
    content = {**facts, **content_of(checked, test, foreign)}
    write_json(content, folder / RECORD)
    log.info("input check: %s", content["sentences"][0])


def _decoding(described_as: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "size": described_as["image_size"],
        "channels": described_as["channels"],
        "interpolation": described_as.get("interpolation", "area"),
    }

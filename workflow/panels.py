"""Answers as pages to look at: from predictions and the images they were made of to contact sheets and an HTML page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from conf.heat_map_keys import METHODS
from datamodules.appearance import Looked
from datamodules.errors import UnreadableImageError
from datamodules.progress import Progress, silent
from evaluation.borderline import stricter_recall
from evaluation.figures_panel import PER_SHEET, write_sheet
from evaluation.panel import (
    ABSTAINED,
    BORDERLINE,
    NEGATIVE,
    PER_PAGE,
    POSITIVE,
    UNREADABLE,
    Card,
    GroupLine,
    PanelFrame,
    PanelImage,
    Picture,
    write_page,
)
from evaluation.report_text import place
from evaluation.wording import Worry, worry
from workflow.answers import ABSTAIN, Answer
from workflow.heat_maps import maps_of
from workflow.prediction_counts import Counts
from workflow.prediction_groups import GroupAnswer, group_answers
from workflow.predictor import Predictor

SHEETS: Final = "panel"  # folder of the contact sheets
_READERS: Final = 2  # threads that decode the next images while the network draws maps
_SHARES: Final = 3  # of more than two classes
_METHODS: Final = {"grad_cam": "Grad-CAM", "grad_cam_pp": "Grad-CAM++", "hires_cam": "HiRes-CAM"}

Read = Callable[[Answer], Looked]


def write_panel(
    folder: Path,
    predictor: Predictor,
    answers: Sequence[Answer],
    read: Read,
    *,
    heat_maps: Mapping[str, Any] | None = None,
    metadata: pd.DataFrame | None = None,
    version: str | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Write ``panel.html`` (of more than ``PER_PAGE`` images several, linked) and ``panel/page_001.png``, ...

    Images are decoded again, twelve at a time, so that a large folder is never held in memory.

    Args:
        folder: of the predictions. Files of an earlier panel in it are replaced.
        answers: in the order of the predictions file.
        read: decodes the image of an answer as ``predictor.decoding`` says; may be called from several threads. Where it
            raises :class:`UnreadableImageError`, the card has no picture.
        heat_maps: ``method``, ``layer`` and ``target`` of :func:`workflow.heat_maps.maps_of`; None for no heat maps.
        metadata: one row an answer, for networks that see metadata.
        version: of the software, for the foot of the page.

    Returns:
        The files: HTML pages first, then contact sheets.

    Raises:
        ValueError: no answer, or a method, layer or target that there is not.
    """
    if not answers:
        raise ValueError("a panel needs at least one image; the predictions have none.")
    with_maps = heat_maps is not None and _has_maps(predictor, heat_maps, metadata)
    frame = _frame(predictor, answers, heat_maps if with_maps else None, version)
    for old in [*folder.glob("panel*.html"), *(folder / SHEETS).glob("page_*.png")]:
        old.unlink()
    (folder / SHEETS).mkdir(parents=True, exist_ok=True)
    pages: list[Path] = []
    sheets: list[Path] = []
    cards: list[Card] = []
    with progress("drawing the panel", len(answers)) as advance:
        for chunk in _chunks(answers, read):
            images = _images(predictor, answers, chunk, heat_maps if with_maps else None, metadata)
            sheets.append(write_sheet(frame, images, len(sheets) + 1, folder / SHEETS))
            cards += [Card.of(image) for image in images]
            if len(cards) == PER_PAGE or images[-1].number == len(answers):
                pages.append(write_page(frame, cards, len(pages) + 1, folder))
                cards = []
            advance(len(images))
    return [*pages, *sheets]


def kind_of(answer: Answer | GroupAnswer, predictor: Predictor) -> str:
    """What an answer of an image or a group is: one of :data:`evaluation.panel.KINDS`."""
    if answer.decision is None:
        return UNREADABLE
    if answer.decision == ABSTAIN:
        return ABSTAINED
    if answer.borderline:
        return BORDERLINE
    return POSITIVE if answer.decision == predictor.about.positive_called else NEGATIVE


def _frame(
    predictor: Predictor,
    answers: Sequence[Answer],
    heat_maps: Mapping[str, Any] | None,
    version: str | None,
) -> PanelFrame:
    about, point = predictor.about, predictor.point
    return PanelFrame(
        title=about.title or "Predictions",
        positive=about.positive_called,
        negative=about.negative_called,
        threshold=point.threshold,
        statement=point.statement,
        borderline_from=predictor.borderline_from,
        stricter=None if predictor.borderline_from is None else stricter_recall(point.target_recall),
        calibrated_at=float(predictor.calibrator.scores(np.array([point.threshold]))[0])
        if _recalibrated(predictor)
        else None,
        maps="" if heat_maps is None else _in_words(predictor, heat_maps),
        target=_target(predictor, heat_maps or {}),
        kinds=tuple(kind_of(answer, predictor) for answer in answers),
        groups={line.group: line for line in _group_lines(predictor, answers)},
        group_name=about.group_name,
        group_rule="lowest" if point.group_score == "min" else "highest",
        unchecked=all(check is None for check in predictor.checks),
        worries=_worries(predictor, answers),
        phantom=about.phantom,
        version=version,
    )


def _recalibrated(predictor: Predictor) -> bool:
    """Whether scores become probabilities; of several classes those may have a temperature although the score has nothing."""
    return predictor.calibrator.method != "none"


def _group_lines(predictor: Predictor, answers: Sequence[Answer]) -> Iterator[GroupLine]:
    for said in group_answers(predictor, answers):
        judged = said.n_images - said.n_abstained - said.n_unreadable
        yield GroupLine(said.group, kind_of(said, predictor), said.score, said.n_images, judged)


def _worries(predictor: Predictor, answers: Sequence[Answer]) -> tuple[Worry, ...]:
    """Whether these images are of another kind than those of validation, by the same rule as at the end of the command."""
    counts = Counts()
    for answer in answers:
        counts.add(answer)
    found = counts.caution(predictor)
    return () if found is None else (worry("caution", "These images may be of another kind", found),)


def _in_words(predictor: Predictor, heat_maps: Mapping[str, Any]) -> str:
    """What the maps are: ``heat map (Grad-CAM) of what speaks for PNEUMONIA``."""
    method = heat_maps.get("method") or METHODS[0]
    several = f", mean of {len(predictor.networks)} networks" if len(predictor.networks) > 1 else ""
    layer = f", layer {heat_maps['layer']}" if heat_maps.get("layer") else ""
    return (
        f"heat map ({_METHODS.get(method, method)}{layer}{several}) of what speaks for {_target(predictor, heat_maps)}"
    )


def _target(predictor: Predictor, heat_maps: Mapping[str, Any]) -> str:
    """What the maps speak for: the positive classes together, or a class."""
    target = heat_maps.get("target")
    return predictor.about.positive_called if target in (None, "positive") else str(target)


def _has_maps(predictor: Predictor, heat_maps: Mapping[str, Any], metadata: pd.DataFrame | None) -> bool:
    """Whether the networks have maps; asked of a black image, so that a wrong layer is named before anything is written."""
    size, channels = predictor.decoding["image_size"], predictor.decoding["channels"]
    black = np.zeros((1, size, size, channels), dtype=np.uint8)
    return maps_of(predictor, black, metadata=None if metadata is None else metadata.iloc[:1], **heat_maps) is not None


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Rows of a contact sheet: where they begin, and each image or why there is none."""

    start: int
    looked: list[Looked | str]


def _chunks(answers: Sequence[Answer], read: Read) -> Iterator[_Chunk]:
    """Decoded images by the sheet; the next sheet is decoded while one is drawn."""

    def tried(answer: Answer) -> Looked | str:
        if answer.error is not None:
            return answer.error.removeprefix(f"{Path(answer.path or answer.image_id).name}: ")  # which the card has
        try:
            return read(answer)
        except UnreadableImageError as error:
            return f"It could be read when it was scored, but not for this picture: {error}"

    with ThreadPoolExecutor(_READERS) as pool:
        ahead: list[Future[Looked | str]] = []
        for start in range(0, len(answers), PER_SHEET):
            own = ahead or [pool.submit(tried, answer) for answer in answers[start : start + PER_SHEET]]
            after = start + PER_SHEET
            ahead = [pool.submit(tried, answer) for answer in answers[after : after + PER_SHEET]]
            yield _Chunk(start, [future.result() for future in own])


def _images(
    predictor: Predictor,
    answers: Sequence[Answer],
    chunk: _Chunk,
    heat_maps: Mapping[str, Any] | None,
    metadata: pd.DataFrame | None,
) -> list[PanelImage]:
    """The cards of one sheet with their pictures."""
    rows = [row for row, image in enumerate(chunk.looked) if isinstance(image, Looked)]
    pixels = [image.pixels for image in chunk.looked if isinstance(image, Looked)]
    pictures: dict[int, tuple[Picture, ...]] = {row: (own,) for row, own in zip(rows, pixels, strict=True)}
    empty: set[int] = set()
    if rows and heat_maps is not None:
        table = None if metadata is None else metadata.iloc[[chunk.start + row for row in rows]]
        maps = maps_of(predictor, np.stack(pixels), metadata=table, **heat_maps)
        if maps is not None:
            drawn = zip(rows, pixels, maps.overlays, maps.coloured, strict=True)
            pictures = {row: (own, overlay, alone) for row, own, overlay, alone in drawn}
            empty = {row for row, heat in zip(rows, maps.maps, strict=True) if not heat.any()}
    found = []
    for row, image in enumerate(chunk.looked):
        answer = answers[chunk.start + row]
        found.append(
            PanelImage(
                number=chunk.start + row + 1,
                name=str(place(answer.image_id)),
                kind=kind_of(answer, predictor),
                score=answer.score,
                calibrated=answer.calibrated if _recalibrated(predictor) else None,  # else it repeats the score
                p_value=answer.p_value,
                shares=_shares(predictor, answer),
                reasons=answer.reasons,
                empty_map=row in empty,
                group=answer.group or "",
                error=image if isinstance(image, str) else "",
                pictures=pictures.get(row, ()),
            )
        )
    return found


def _shares(predictor: Predictor, answer: Answer) -> tuple[tuple[str, float], ...]:
    """The most probable of more than two classes."""
    if answer.probabilities is None or len(predictor.classes) <= 2:
        return ()
    ordered = sorted(zip(predictor.classes, answer.probabilities, strict=True), key=lambda pair: -pair[1])
    return tuple(ordered[:_SHARES])

"""From pixels to answers: the one place where scores become decisions, for the command line, the pages and the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.appearance import Looked
from evaluation.input_check import Verdict
from workflow.predictor import Predictor, Scored

ABSTAIN: Final = "abstain"


@dataclass(frozen=True)
class Unread:
    """An image that could not be read.

    Attributes:
        error: why, for the user.
    """

    error: str


@dataclass(frozen=True)
class Answer:
    """What a model says of one image; of an unreadable one nothing but ``error``.

    Attributes:
        image_id: as the caller named it. ``path``: where it was read from; empty for an upload. ``group``: patient or lesion.
        probabilities: of each class, as the network gave them.
        score: of the positive classes together, in [0, 1]; compared with the threshold.
        calibrated: the recalibrated score. ``calibrated_probabilities``: of each class.
        decision: what the positive or the negative classes are called, or ``abstain``.
        most_probable: the class of the highest probability; it knows no threshold.
        borderline: called negative, but would be called positive at a threshold for a stricter recall.
        p_value: of the input check, in (0, 1]: the share of images like those of validation that look at least as strange; None
            without a check.
        reasons: why no decision is given; empty unless the decision is ``abstain``.
        error: why the image could not be read; None if it could.
    """

    image_id: str
    path: str = ""
    group: str | None = None
    probabilities: tuple[float, ...] | None = None
    score: float | None = None
    calibrated: float | None = None
    calibrated_probabilities: tuple[float, ...] | None = None
    decision: str | None = None
    most_probable: str | None = None
    borderline: bool = False
    p_value: float | None = None
    reasons: tuple[str, ...] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def answers_of(
    predictor: Predictor,
    images: Sequence[Looked | Unread],
    ids: Sequence[str],
    paths: Sequence[str] | None = None,
    groups: Sequence[str | None] | None = None,
    metadata: pd.DataFrame | None = None,
    *,
    abstain: bool = True,
) -> list[Answer]:
    """One answer an image, in their order.

    Args:
        images: as :func:`datamodules.appearance.look` gives them with ``predictor.decoding``, or why one could not be read.
        ids, paths, groups: of each image.
        metadata: one row an image (also of unreadable ones), for networks that see metadata.
        abstain: give no decision where the input check turns an image away; False only shows its p-value.

    Raises:
        ValueError: metadata missing for a network that needs them.
    """
    paths, groups = paths or [""] * len(images), groups or [None] * len(images)
    rows = [row for row, image in enumerate(images) if isinstance(image, Looked)]
    said = iter(_readable(predictor, images, rows, metadata, abstain))
    return [
        Answer(name, path, group, **({"error": image.error} if isinstance(image, Unread) else next(said)))
        for name, path, group, image in zip(ids, paths, groups, images, strict=True)
    ]


def _readable(
    predictor: Predictor,
    images: Sequence[Looked | Unread],
    rows: Sequence[int],
    metadata: pd.DataFrame | None,
    abstain: bool,
) -> list[dict[str, Any]]:
    """What is said of the images that could be read, one a row."""
    looked = [image for image in images if isinstance(image, Looked)]
    if not looked:
        return []
    scored = predictor.scored(
        np.stack([image.pixels for image in looked]), None if metadata is None else metadata.iloc[list(rows)]
    )
    verdicts = _verdicts(predictor, scored, looked)
    calibrated, each = _calibrated(predictor, scored)
    return [
        {
            "probabilities": _plain(scored.probabilities[row]),
            "score": float(scored.scores[row]),
            "calibrated": float(calibrated[row]),
            "calibrated_probabilities": _plain(each[row]),
            "most_probable": predictor.classes[int(scored.probabilities[row].argmax())],
            **_decided(predictor, float(scored.scores[row]), verdicts[row], abstain),
        }
        for row in range(len(looked))
    ]


def _decided(predictor: Predictor, score: float, verdict: Verdict | None, abstain: bool) -> dict[str, Any]:
    threshold, start = predictor.point.threshold, predictor.borderline_from
    positive = score >= threshold
    said = {
        "decision": predictor.about.positive_called if positive else predictor.about.negative_called,
        "borderline": not positive and start is not None and score >= start,
        "p_value": None if verdict is None else verdict.p_value,
    }
    if verdict is not None and verdict.reasons and abstain:
        said |= {"decision": ABSTAIN, "borderline": False, "reasons": tuple(verdict.reasons)}
    return said


def _verdicts(predictor: Predictor, scored: Scored, looked: Sequence[Looked]) -> list[Verdict | None]:
    """Of the input check; of an ensemble that of the network to which an image is strangest."""
    seen = [image.appearance.to_dict() for image in looked]
    checked = [
        check.judge(embeddings, seen, of=len(predictor.checks))
        for check, embeddings in zip(predictor.checks, scored.embeddings, strict=True)
        if check is not None
    ]
    if not checked:
        return [None] * len(looked)
    # One that turns the image away goes first, also where another finds it stranger.
    return [min(verdicts, key=lambda item: (not item.reasons, item.p_value)) for verdicts in zip(*checked, strict=True)]


def _calibrated(predictor: Predictor, scored: Scored) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recalibrated scores, and probabilities of all classes: of two classes those that belong to the score."""
    scores = predictor.calibrator.scores(scored.scores)
    if len(predictor.classes) > 2:
        return scores, predictor.calibrator.probabilities(scored.probabilities)
    second = predictor.classes[1] in predictor.positive
    return scores, np.column_stack([1.0 - scores, scores] if second else [scores, 1.0 - scores])


def _plain(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)

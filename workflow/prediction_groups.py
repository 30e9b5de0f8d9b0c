"""From images to patients or lesions: one answer a group, by the rule that the threshold was chosen with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from workflow.answers import ABSTAIN, Answer
from workflow.predictor import Predictor

COLUMNS = (
    "group_id",
    "score",
    "calibrated",
    "decision",
    "borderline",
    "n_images",
    "n_positive",
    "n_abstained",
    "n_unreadable",
)


@dataclass(frozen=True)
class GroupAnswer:
    """What a model says of one patient or lesion.

    Attributes:
        group: its id.
        score: of its images that are readable and not turned away, the highest (or lowest, as the threshold was chosen); None
            where there is none. ``calibrated``: the recalibrated score of that image.
        decision: as of an image; ``abstain`` where every readable image was turned away; None where none could be read.
        borderline: called negative, but only just.
        n_images, n_positive, n_abstained, n_unreadable: of the group; the last two are not part of its score.
    """

    group: str
    score: float | None
    calibrated: float | None
    decision: str | None
    borderline: bool
    n_images: int
    n_positive: int
    n_abstained: int
    n_unreadable: int


@dataclass
class _Tally:
    images: int = 0
    positive: int = 0
    abstained: int = 0
    unreadable: int = 0
    best: tuple[float, float | None] | None = None


@dataclass
class Groups:
    """Collects answers by group; what it holds grows with the groups, not with the images.

    Attributes:
        predictor: whose threshold decides.
    """

    predictor: Predictor
    _tallies: dict[str, _Tally] = field(default_factory=dict)

    def add(self, answer: Answer) -> None:
        """Count an image in; one without a group belongs to none."""
        if answer.group is None:
            return
        tally = self._tallies.setdefault(answer.group, _Tally())
        tally.images += 1
        if answer.score is None:
            tally.unreadable += 1
        elif answer.decision == ABSTAIN:
            tally.abstained += 1
        else:
            tally.positive += answer.decision == self.predictor.about.positive_called
            if tally.best is None or self._decides(answer.score, tally.best[0]):
                tally.best = (answer.score, answer.calibrated)

    def answers(self) -> list[GroupAnswer]:
        """One a group, in the order in which their first images came."""
        return [self._answer(name, tally) for name, tally in self._tallies.items()]

    def _decides(self, score: float, before: float) -> bool:
        """Whether a score takes the place of another: of several images the highest counts, with ``min`` the lowest."""
        return score < before if self.predictor.point.group_score == "min" else score > before

    def _answer(self, name: str, tally: _Tally) -> GroupAnswer:
        about, start = self.predictor.about, self.predictor.borderline_from
        counts = (tally.images, tally.positive, tally.abstained, tally.unreadable)
        if tally.best is None:
            return GroupAnswer(name, None, None, ABSTAIN if tally.abstained else None, False, *counts)
        score, calibrated = tally.best
        positive = score >= self.predictor.point.threshold
        borderline = not positive and start is not None and score >= start
        decision = about.positive_called if positive else about.negative_called
        return GroupAnswer(name, score, calibrated, decision, borderline, *counts)


def group_answers(predictor: Predictor, answers: Iterable[Answer]) -> list[GroupAnswer]:
    """One answer a group of these images, in the order in which their first images come; empty where none has a group."""
    groups = Groups(predictor)
    for answer in answers:
        groups.add(answer)
    return groups.answers()

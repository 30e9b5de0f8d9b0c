"""How many images were called what: for the record and for the end of the command in the terminal."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from workflow.answers import ABSTAIN, Answer
from workflow.predictor import Predictor

_SHOWN: Final = 5  # unreadable files that are named; all are in the table
_FEWEST: Final = 3  # images; one or two that are turned away are no sign that a whole folder is of another kind
_UNUSUAL: Final = 5  # times the share that would be turned away of images like those of validation
_MOST_REASONS: Final = 8


@dataclass
class Counts:
    """Of answers that pass by.

    Attributes:
        images: all of them. ``unreadable``: of these; the first few with why. ``decisions``: of the others, by decision.
        borderline: of those called negative. ``reasons``: of those that abstain, in general words; one image may have several.
        most_probable: by class. ``checked``: how many have a p-value.
    """

    images: int = 0
    unreadable: int = 0
    borderline: int = 0
    checked: int = 0
    decisions: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    most_probable: Counter[str] = field(default_factory=Counter)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        """Count an image in."""
        self.images += 1
        self.borderline += answer.borderline
        self.checked += answer.p_value is not None
        self.reasons.update(dict.fromkeys(map(in_general, answer.reasons), 1))
        if answer.error is not None:
            self.unreadable += 1
            if len(self.errors) < _SHOWN:
                self.errors.append((answer.image_id, answer.error))
        else:
            self.decisions[str(answer.decision)] += 1
            self.most_probable[str(answer.most_probable)] += 1

    def to_dict(self, predictor: Predictor) -> dict[str, Any]:
        """Plain values for prediction.json."""
        about = predictor.about
        called = {name: self.decisions[name] for name in (about.positive_called, about.negative_called, ABSTAIN)}
        several = {"most_probable": {name: self.most_probable[name] for name in predictor.classes}}
        return {
            "images": self.images,
            "decisions": called,
            "borderline": self.borderline,
            "unreadable": self.unreadable,
            **(several if len(predictor.classes) > 2 else {}),
            "abstained_because": dict(self.reasons.most_common(_MOST_REASONS)),
            "first_unreadable": [{"image_id": name, "error": error} for name, error in self.errors],
        }

    def caution(self, predictor: Predictor) -> str | None:
        """A sentence where far more images are turned away than of images like those of validation; else None."""
        alphas = [check.alpha for check in predictor.checks if check is not None]
        turned, read = self.decisions[ABSTAIN], self.images - self.unreadable
        if not alphas or turned < _FEWEST or turned <= _UNUSUAL * max(alphas) * read:
            return None
        return (
            f"{turned:,} of {read:,} images ({turned / read:.1%}) are unlike what this model was trained on; of images like "
            f"those of validation about {max(alphas):.1%} would be. So these come from another place, device or kind, and what "
            "the threshold promises may not hold for the others either."
        )


def in_general(reason: str) -> str:
    """What a reason has in common with those of other images: without its figures and what follows from them.

    >>> in_general("in colour (mean chroma 99 of 255); the training images are grey")
    'in colour'
    >>> in_general("only 17 pixels on the shorter side; the training images have at least 127")
    'only .. pixels on the shorter side'
    """
    return re.sub(r"\d[\d.,]*", "..", re.split(r" \(|[:;]", reason, maxsplit=1)[0])

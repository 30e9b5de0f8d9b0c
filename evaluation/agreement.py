"""Where two models decide alike and where they do not: counts, McNemar's exact test, and the images that divide them most."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from evaluation.decided import Decided, Flags
from evaluation.predictions import Predictions

PARTS: Final = ("overall", "positives", "negatives")
LISTED: Final = 20


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p value of McNemar's test: both models err equally often where exactly one of them errs.

    Args:
        only_first, only_second: units that only one of the models gets right.

    Returns:
        ``min(1, 2 P(X <= smaller count))`` for X binomial with probability 1/2; 1 where no unit is discordant.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"{only_first} and {only_second} discordant units; expected counts of at least 0.")
    discordant = only_first + only_second
    return min(1.0, 2.0 * float(binom.cdf(min(only_first, only_second), discordant, 0.5))) if discordant else 1.0


def agreement(first: Decided, second: Decided) -> dict[str, dict[str, int]]:
    """Images that both, only one or neither model decides rightly: overall, among positives, among negatives.

    Args:
        first, second: of the same images in the same order.

    Returns:
        By part of ``PARTS``: ``n``, ``both_right``, ``only_a``, ``only_b``, ``both_wrong``.
    """
    return _counts(first.predictions.labels == 1, first.right, second.right)


def _counts(positive: Flags, right: Flags, other: Flags) -> dict[str, dict[str, int]]:
    masks = (np.ones(len(positive), dtype=bool), positive, ~positive)
    return {
        part: {
            "n": int(mask.sum()),
            "both_right": int((mask & right & other).sum()),
            "only_a": int((mask & right & ~other).sum()),
            "only_b": int((mask & ~right & other).sum()),
            "both_wrong": int((mask & ~right & ~other).sum()),
        }
        for part, mask in zip(PARTS, masks, strict=True)
    }


def mcnemar_of(first: Decided, second: Decided, group_name: str) -> dict[str, Any]:
    """McNemar's test at the locked thresholds; of groups where a group has several images, because the test needs independence.

    A group is positive if one of its images is, and flagged if one of its images is.

    Returns:
        ``unit`` (``image`` or the group's name), then by part of ``PARTS`` the counts of :func:`agreement` and ``p``.
    """
    held = first.predictions
    positive, right, other = held.labels == 1, first.right, second.right
    unit = "image"
    if is_grouped(held):
        unit = group_name
        positive = any_in_group(positive, held)
        right, other = (any_in_group(side.flagged, held) == positive for side in (first, second))
    counts = _counts(positive, right, other)
    return {
        "unit": unit,
        **{
            part: {**row, "p": mcnemar(row["only_a"], row["only_b"]) if row["n"] else None}
            for part, row in counts.items()
        },
    }


def sign_test(first: Decided, second: Decided, mask: Flags) -> dict[str, Any]:
    """Exact sign test over groups: in how many the first model decides more images rightly, and in how many the second.

    Groups are independent where images of one group are not. Of groups of one image it is McNemar's exact test.

    Args:
        mask: shape (n,); which images count.

    Returns:
        ``only_a``, ``only_b``: groups in which that model is right on more of these images; ``p``: two-sided.
    """
    gain = (second.right.astype(np.float64) - first.right) * mask
    net = np.bincount(first.predictions.groups, weights=gain)
    ahead, behind = int((net > 0).sum()), int((net < 0).sum())
    return {"only_a": behind, "only_b": ahead, "p": mcnemar(behind, ahead)}


def is_grouped(predictions: Predictions) -> bool:
    """Whether any group has several images."""
    return len(predictions.group_names) < len(predictions)


def any_in_group(flags: Flags, predictions: Predictions) -> Flags:
    """Shape (groups,); whether a group holds an image with a flag."""
    found: Flags = np.bincount(predictions.groups, weights=flags, minlength=len(predictions.group_names)) > 0
    return found


def disagreements(first: Decided, second: Decided, most: int = LISTED) -> list[dict[str, Any]]:
    """The images on which exactly one model is right, widest apart in score first; equals in the order of their ids.

    Returns:
        At most ``most`` rows: ``image_id``, ``group_id``, ``label``, ``score_a``, ``score_b``, ``right`` (``a`` or ``b``).
    """
    frame = first.predictions.frame
    rows = np.flatnonzero(first.right != second.right)
    apart = np.abs(first.predictions.scores - second.predictions.scores)[rows]
    names: NDArray[np.str_] = frame["image_id"].to_numpy(dtype=str)[rows]
    chosen = rows[np.lexsort((names, -apart))][:most]
    return [
        {
            "image_id": str(frame["image_id"].iloc[row]),
            "group_id": str(frame["group_id"].iloc[row]),
            "label": str(frame["label"].iloc[row]),
            "score_a": float(first.predictions.scores[row]),
            "score_b": float(second.predictions.scores[row]),
            "right": "a" if first.right[row] else "b",
        }
        for row in chosen
    ]

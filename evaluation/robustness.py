"""What corrupted images do to a model at its locked threshold: metric against strength, in pairs with the clean images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import Bootstrap, Resampling, bootstrap, difference_interval
from evaluation.intervals import (
    Interval,
    auroc_interval,
    difference_of_shown,
    format_interval,
    with_width,
    without_ends,
)
from evaluation.predictions import Predictions
from evaluation.rate_intervals import groups_of, rate_intervals
from evaluation.subgroups import LOCKED
from evaluation.wording import listed, plural

METRICS: Final[dict[str, str]] = {
    "auroc": "auroc",
    "sensitivity": f"{LOCKED}/sensitivity",
    "specificity": f"{LOCKED}/specificity",
    "balanced_accuracy": f"{LOCKED}/balanced_accuracy",
    "brier": "brier",
}
"""What is reported of each cell, and what the bootstrap calls it."""
NOTABLE_DROP: Final = 0.05
"""A sensitivity or specificity lower than on clean images by more than this is called a drop."""
_COSTS: Final = ("sensitivity", "balanced_accuracy")


def resampled_at(predictions: Predictions, threshold: float, how: Resampling) -> Bootstrap:
    """Every metric of ``METRICS`` with its draws; those of the same images share their resamples, whatever the scores."""
    return bootstrap(
        predictions.labels,
        predictions.scores,
        predictions.groups,
        {LOCKED: threshold},
        how.resamples,
        how.seed,
        interval=how.interval,
    )


def figures_of(
    predictions: Predictions, resampled: Bootstrap, threshold: float, confidence: float
) -> dict[str, dict[str, Any]]:
    """An INTERVAL for each of ``METRICS``, as in the report of a run; None where it is not defined, as AUROC of one class."""
    rates = rate_intervals(predictions, resampled, LOCKED, threshold, confidence)
    enough = min(groups_of(predictions).values())
    found = {
        "auroc": auroc_interval(resampled.interval("auroc", confidence), enough, confidence),
        "brier": with_width(resampled.interval("brier", confidence), enough),
    }
    return {metric: (found | rates)[metric].to_dict() for metric in METRICS}


def cell_of(
    corrupted: Predictions, after: Bootstrap, clean: Predictions, before: Bootstrap, threshold: float, confidence: float
) -> dict[str, Any]:
    """One kind at one strength.

    Args:
        corrupted, clean: the same images in the same order. ``after``, ``before``: their resamples, of one seed.
        threshold: locked.

    Returns:
        An INTERVAL for each of ``METRICS``; ``difference`` with the same names, corrupted minus clean in pairs, or joined from
        both intervals where one side is exactly 0 or 1, which no resample moves; and
        ``changed``, ``lost``, ``raised``: images whose decision is another one, positives no longer found, new false alarms.
    """
    enough = min(groups_of(clean).values())
    now, then = corrupted.scores >= threshold, clean.scores >= threshold
    positive = clean.labels == 1
    figures = figures_of(corrupted, after, threshold, confidence)
    unharmed = figures_of(clean, before, threshold, confidence)
    differences = {
        metric: difference_of_shown(
            without_ends(difference_interval(name, after, before, confidence), enough).to_dict(),
            figures[metric],
            unharmed[metric],
        )
        if np.isfinite(before.values[name])
        else Interval(None, None, None).to_dict()
        for metric, name in METRICS.items()
    }
    return {
        **figures,
        "difference": differences,
        "changed": int((now != then).sum()),
        "lost": int((positive & then & ~now).sum()),
        "raised": int((~positive & ~then & now).sum()),
    }


def kind_of(kind: str, title: str, meaning: str, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All strengths of one corruption.

    Args:
        cells: results of :func:`cell_of` with ``strength`` and ``parameter``, weakest first.

    Returns:
        ``first_drop``: of sensitivity and of specificity, the lowest strength at which it is lower by more than
        ``NOTABLE_DROP``, or None; ``certain_drop``: the lowest at which the paired interval excludes 0 as well, or None;
        ``cost``: mean loss over the strengths of ``sensitivity`` and of ``balanced_accuracy`` (of a single class: of what is
        defined).
    """
    drops, certain = {}, {}
    for metric in ("sensitivity", "specificity"):
        fallen = [cell for cell in cells if _fell(cell["difference"][metric])]
        sure = [cell for cell in fallen if beyond_chance(cell["difference"][metric])]
        drops[metric] = int(fallen[0]["strength"]) if fallen else None
        certain[metric] = int(sure[0]["strength"]) if sure else None
    return {
        "kind": kind,
        "title": title,
        "meaning": meaning,
        "cells": [dict(cell) for cell in cells],
        "first_drop": drops,
        "certain_drop": certain,
        "cost": {name: float(np.mean([_loss(cell["difference"], name) for cell in cells])) for name in _COSTS},
    }


def _fell(difference: Mapping[str, Any]) -> bool:
    return difference["value"] is not None and difference["value"] < -NOTABLE_DROP


def beyond_chance(difference: Mapping[str, Any]) -> bool:
    """Whether the paired interval excludes 0; not where there are too few groups for one."""
    return difference["low"] is not None and (difference["low"] > 0 or difference["high"] < 0)


def _loss(difference: Mapping[str, Mapping[str, Any]], wanted: str) -> float:
    """The loss of the wanted metric, or where a class is absent of the one that is defined."""
    for metric in (wanted, "sensitivity", "specificity"):
        if difference[metric]["value"] is not None:
            return -float(difference[metric]["value"])
    return 0.0


def findings_of(
    clean: Mapping[str, Any], kinds: Sequence[Mapping[str, Any]], called: Mapping[str, str]
) -> dict[str, Any]:
    """What a reader should know first.

    Args:
        clean: figures of the clean images. ``kinds``: results of :func:`kind_of`.
        called: ``positive`` and ``negative``: what the two sides are called.

    Returns:
        ``worst``: of the kinds that lower sensitivity notably and beyond chance the one that lowers it most on average over the
        strengths, because misses are what the threshold is there to prevent; without any, the one that costs most balanced
        accuracy, of those with a drop beyond chance if there are any. ``worst_strength``: the strength that is described;
        ``sentence``: in words. Titles of the kinds: ``fragile``, with a drop beyond chance; ``uncertain``, whose drops may all
        be chance; ``steady``, without a drop.
    """
    fragile = [item for item in kinds if any(item["certain_drop"].values())]
    uncertain = [item for item in kinds if item not in fragile and any(item["first_drop"].values())]
    steady = [item for item in kinds if item not in fragile and item not in uncertain]
    missing = [item for item in fragile if item["certain_drop"]["sensitivity"] is not None]
    metric = "sensitivity" if missing else "balanced_accuracy"
    worst = max(missing or fragile or kinds, key=lambda item: item["cost"][metric])
    drops = [worst["certain_drop"]["sensitivity"]] if missing else list(worst["certain_drop"].values())
    deepest = max(worst["cells"], key=lambda cell: _loss(cell["difference"], metric))
    strength = min((place for place in drops if place is not None), default=int(deepest["strength"]))
    parts = [_costs_most(clean, worst, strength)] if fragile or _loss(deepest["difference"], metric) > 0 else []
    if fragile:
        others = [item for item in fragile if item is not worst]
        parts += [_misses(worst, strength, called), _named("Also fragile", others)]
        parts += [_named("Lower too, but it may be chance", uncertain), _named("No such drop", steady)]
    else:
        beyond = " beyond chance" if uncertain else " at any strength"
        start = f"No corruption lowers sensitivity or specificity by more than {NOTABLE_DROP:.2f}{beyond}."
        parts = [start, _named("Lower, but it may be chance", uncertain), *parts]
    return {
        "worst": worst["kind"],
        "worst_strength": strength,
        "fragile": [str(item["title"]) for item in fragile],
        "uncertain": [str(item["title"]) for item in uncertain],
        "steady": [str(item["title"]) for item in steady],
        "sentence": " ".join(part for part in parts if part),
    }


def _named(what: str, kinds: Sequence[Mapping[str, Any]]) -> str:
    """``Also fragile: blur and noise.``; empty for none."""
    return f"{what}: {listed([_inside(str(item['title'])) for item in kinds])}." if kinds else ""


def _costs_most(clean: Mapping[str, Any], worst: Mapping[str, Any], strength: int) -> str:
    cell = worst["cells"][strength - 1]
    changes = []
    for metric in ("sensitivity", "specificity"):
        before, after = clean[metric], cell[metric]
        if before["value"] is None:
            continue
        verb = "falls" if after["value"] < before["value"] else "rises" if after["value"] > before["value"] else "stays"
        start = f"from {format_interval(before)} to " if verb != "stays" else "at "
        unsure = verb != "stays" and not beyond_chance(cell["difference"][metric])
        changes.append(f"{metric} {verb} {start}{format_interval(after)}{' (may be chance)' if unsure else ''}")
    return f"{worst['title']} costs most: at strength {strength} ({cell['parameter']}) {' and '.join(changes)}."


def _inside(title: str) -> str:
    """A title inside a sentence; an abbreviation stays as it is."""
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def _misses(worst: Mapping[str, Any], strength: int, called: Mapping[str, str]) -> str:
    """How many decisions change for the worse there; empty where none does."""
    cell = worst["cells"][strength - 1]
    parts = []
    if cell["lost"]:
        parts.append(f"newly missed: {plural(cell['lost'], called['positive'] + ' image')}")
    if cell["raised"]:
        parts.append(f"newly flagged: {plural(cell['raised'], called['negative'] + ' image')}")
    return f"There, {' and '.join(parts)}." if parts else ""


def subset_rows(predictions: Predictions, images: int | None, seed: int) -> NDArray[np.int64]:
    """Rows of a random part of the images: whole groups, with and without a positive image in the proportion of the whole.

    Args:
        images: about how many, at least 2; None or more than there are takes all.
        seed: of the draw.

    Returns:
        Ascending row numbers. At least one group of each kind that there is; a group is never cut, so that the number of images
        may be a little higher than asked for.

    Raises:
        ValueError: fewer than 2 images.
    """
    n = len(predictions)
    if images is not None and images < 2:
        raise ValueError(f"images={images}: at least 2 images are needed; leave it away to take all {n:,}.")
    if images is None or images >= n:
        return np.arange(n, dtype=np.int64)
    generator, groups = np.random.default_rng([seed, 5]), predictions.groups
    sizes = np.bincount(groups)
    positive = np.bincount(groups, weights=predictions.labels) > 0
    taken: list[NDArray[np.int64]] = []
    for members in (np.flatnonzero(positive), np.flatnonzero(~positive)):
        if len(members):
            order = generator.permutation(members)
            wanted = images * sizes[members].sum() / n
            enough = int(np.searchsorted(np.cumsum(sizes[order]), wanted)) + 1
            taken.append(order[:enough])
    return np.flatnonzero(np.isin(groups, np.concatenate(taken))).astype(np.int64)

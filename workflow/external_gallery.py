"""The worst mistakes on another data set as pictures, with heat maps of the network that made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from callbacks.mistakes import save_mistakes, with_heat_maps, worst_mistakes
from conf.schema import EvaluationConfig
from datamodules.metadata import MetadataEncoder
from evaluation.predictions import Predictions
from models.bundle import Normalise
from workflow.gallery import HeatMaps, gallery_of
from workflow.other_data import OtherData
from workflow.scoring import Scorer
from workflow.seen_images import Seen


def save_gallery(scorer: Scorer, other: OtherData, seen: Seen, test: Predictions, folder: Path) -> None:
    """Write ``figures/mistakes`` of a report: as many pictures as the run shows of its own mistakes.

    Args:
        seen: what was left out. ``test``: predictions of all other rows of ``other``, in their order.
        folder: of the report.
    """
    usual, own = EvaluationConfig(), scorer.config["evaluation"]
    mistakes = worst_mistakes(test, scorer.point.threshold, int(own.get("mistakes", usual.mistakes)))
    rows = other.rows[~seen.mask][[item.row for item in mistakes] or slice(0)]
    found = None
    # The score of an ensemble is a mean over networks; the map of one of them would not explain it.
    if mistakes and len(scorer.networks) == 1 and own.get("heat_maps", usual.heat_maps):
        found = _heat_maps(scorer, other, rows)
    if found is not None:
        mistakes = with_heat_maps(mistakes, found.checks, found.covered)
    images = np.asarray(other.prepared.pixels[rows])
    save_mistakes(mistakes, images, folder / "figures" / "mistakes", None if found is None else found.overlays)


def _heat_maps(scorer: Scorer, other: OtherData, rows: NDArray[np.int64]) -> HeatMaps | None:
    """Heat maps of the plain images (not of their test-time views); None where the network has none."""
    part = scorer.networks[0]
    network, described = part.description["network"], part.description.get("metadata")
    table = None
    if described:
        table = MetadataEncoder.from_description(described).encode(other.prepared.manifest.frame.iloc[rows])
    positive = scorer.config["task"]["positive"]
    return gallery_of(
        part.network,
        Normalise(network["mean"], network["std"]).to(scorer.device),
        np.asarray(other.prepared.pixels[rows]),
        positive=None if len(scorer.classes) == 2 else [scorer.classes.index(name) for name in positive],
        metadata=table,
    )

"""The worst mistakes on another data set as pictures, with heat maps of the network that made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from callbacks.mistakes import save_mistakes, with_heat_maps, worst_mistakes
from conf.schema import EvaluationConfig
from evaluation.predictions import Predictions
from workflow.gallery import HeatMaps, checks_of, drawn_rows, gallery_of
from workflow.heat_maps import explainer_of
from workflow.other_data import OtherData
from workflow.scoring import Scorer, encoded
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
    found = drawn = None
    # The score of an ensemble is a mean over networks; the map of one of them would not explain it.
    if mistakes and len(scorer.networks) == 1 and own.get("heat_maps", usual.heat_maps):
        kept = other.rows[~seen.mask]
        found = _heat_maps(scorer, other, rows)
        drawn = None if found is None else _heat_maps(scorer, other, kept[drawn_rows(len(kept))])
    if found is not None:
        mistakes = with_heat_maps(mistakes, found.untrained, found.covered)
    images = np.asarray(other.prepared.pixels[rows])
    overlays, alone = (None, None) if found is None else (found.pictures.overlays, found.pictures.coloured)
    save_mistakes(mistakes, images, folder / "figures" / "mistakes", overlays, alone, checks_of(found, drawn))


def _heat_maps(scorer: Scorer, other: OtherData, rows: NDArray[np.int64]) -> HeatMaps | None:
    """Heat maps of the plain images (not of their test-time views); None where the network has none."""
    part, frame = scorer.networks[0], other.prepared.manifest.frame.iloc[rows]
    return gallery_of(explainer_of(part), np.asarray(other.prepared.pixels[rows]), encoded(part, frame, len(rows)))

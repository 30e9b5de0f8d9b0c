"""Heat maps for the report: overlays and maps of the worst mistakes, and the checks that say how far maps can be read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from explain.control import agreement, control, in_centre, in_centre_untrained, untrained
from explain.covering import Losses, covering
from explain.layers import NoMapsError
from workflow.heat_maps import Explainer, Maps

log = logging.getLogger("firstread")

_BY_PLACE: Final = "hires_cam"
DRAWN: Final = 64
"""Images of the test part, drawn at random, on which the maps are checked beside the mistakes."""


@dataclass(frozen=True)
class HeatMaps:
    """Heat maps of some images with their checks, each list one an image; None where a map is constant and shows no place.

    Attributes:
        pictures: the maps, overlays and maps in colour. ``method``, ``layer``: how they were made.
        untrained: of :func:`explain.control.control`: correlation with maps of untrained networks, in [-1, 1]; about 0 where
            the map depends on what was learnt.
        covered: of :func:`explain.covering.covering`: what the log-odds of the positive classes lose with the map's brightest
            quarter, its darkest quarter and a square in the middle covered.
        centre: of :func:`explain.control.in_centre`: share of the brightest quarter in that square, in [0, 1]; 0.25 by chance.
            ``centre_untrained``: the same for untrained networks.
        hires_cam: correlation with the HiRes-CAM of the same layer, in [-1, 1]; 1 where the gradient is the same at all places;
            None where the maps are HiRes-CAM themselves.
    """

    pictures: Maps
    method: str
    layer: str
    untrained: list[float | None]
    covered: list[Losses | None]
    centre: list[float | None]
    centre_untrained: list[float | None]
    hires_cam: list[float | None]

    def summary(self) -> dict[str, Any]:
        """Means over the images, as ``heat_maps.json`` holds them; None where no image has the figure."""
        losses = [item for item in self.covered if item is not None]
        learnt = [value for value in self.untrained if value is not None]
        return {
            "images": len(self.covered),
            "covered": len(losses),
            "bright": _mean([item.bright for item in losses]),
            "dark": _mean([item.dark for item in losses]),
            "centre": _mean([item.centre for item in losses]),
            "bright_above_centre": sum(item.bright > item.centre for item in losses),
            "in_centre": _mean(self.centre),
            "in_centre_untrained": _mean(self.centre_untrained),
            "untrained": _mean(self.untrained),
            "untrained_range": [min(learnt), max(learnt)] if learnt else None,
            "hires_cam": _mean(self.hires_cam),
        }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def gallery_of(
    explainer: Explainer, pixels: NDArray[np.uint8], metadata: NDArray[np.float32] | None = None
) -> HeatMaps | None:
    """What speaks for the positive classes in each image, also in one that was wrongly called negative, with all checks.

    Args:
        pixels: shape ``(n, height, width, channels)``, uint8, as the network was trained on them.
        metadata: encoded, shape ``(n, m)``, for a network that takes it.

    Returns:
        None where the network has no maps; the log says why.
    """
    inputs, further = explainer.inputs(pixels), explainer.further(metadata)
    try:
        layer = explainer.layer_for(inputs, further)
        maps = explainer.maps_of_inputs(inputs, further)
        other = explainer.method != _BY_PLACE
        hires = replace(explainer, method=_BY_PLACE).maps_of_inputs(inputs, further) if other else None
    except NoMapsError as error:
        log.warning("no heat maps: %s", error)
        return None
    network, outputs = explainer.network, explainer.outputs
    others = untrained(network, inputs, further, method=explainer.method, outputs=outputs, layer=layer)
    return HeatMaps(
        Maps(pixels, maps),
        explainer.method,
        layer or "",
        control(maps, others),
        covering(network, inputs, maps, further, outputs=outputs),
        in_centre(maps),
        in_centre_untrained(others),
        [None] * len(maps) if hires is None else agreement(maps, hires),
    )


def drawn_rows(count: int, seed: int = 0) -> NDArray[np.int64]:
    """At most 64 row numbers below ``count``, drawn without return and sorted; always the same ones."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:DRAWN])


def checks_of(shown: HeatMaps | None, drawn: HeatMaps | None) -> dict[str, Any] | None:
    """Content of ``heat_maps.json``: how the maps were made, and their checks on mistakes and on images drawn at random.

    Args:
        shown: of the mistakes. ``drawn``: of the images of :func:`drawn_rows`. None where there are none.
    """
    parts = {name: maps for name, maps in (("mistakes", shown), ("drawn", drawn)) if maps is not None}
    if not parts:
        return None
    first = next(iter(parts.values()))
    summaries = {name: maps.summary() for name, maps in parts.items()}
    return {"method": first.method, "layer": first.layer, **summaries}

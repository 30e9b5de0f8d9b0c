"""From a plain dictionary of settings to a network."""

from __future__ import annotations

from typing import Any

from models.blocks import BlockNetwork
from models.simple_cnn import simple_cnn


def architecture_of(settings: dict[str, Any]) -> str:
    """Name of the architecture: ``settings["name"]``; of the baseline on a frozen network's features, its ``backbone``."""
    name: str = settings["name"]
    return settings["backbone"] if name == "baseline_features" else name


def build_network(settings: dict[str, Any], outputs: int) -> BlockNetwork:
    """The network that ``settings["name"]`` names, with fresh weights; no file and no hub is asked.

    Args:
        settings: plain values, as in ``conf/model`` with the nulls filled in by :func:`models.pretrained.resolved_model`; also
            what ``model/model.json`` of a run holds. ``metadata_width`` (default 0) is the number of metadata columns.
        outputs: number of logits: 1 for two classes, else one a class.

    Raises:
        ValueError: if there is no such architecture (lists the nearest names), or it cannot take the image size or pooling.
    """
    name = architecture_of(settings)
    if name == "simple_cnn":
        return simple_cnn(settings, outputs)
    from models.network import timm_network  # here, so that simple_cnn does not wait seconds for timm

    return timm_network(name, settings, outputs)

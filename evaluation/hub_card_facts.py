"""What a hub card is written from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evaluation.report_files import RunFiles


@dataclass(frozen=True)
class HubFacts:
    """What the card is written from; plain values.

    Attributes:
        title: of the run. ``models``: name of each network's architecture, at least one.
        classes, positive: names in the order of the probabilities, and the positive ones.
        positive_called, negative_called: the two decisions. ``group_name``: ``patient`` or the like.
        subject: ``xray``, ``skin`` or ``any``. ``dataset``: kind of data set.
        network: settings of the (first) network: ``image_size``, ``channels``, ``interpolation``, ``mean``, ``std``, ...
        views: of each image over which the score is averaged: ``none``, ``flip`` or ``dihedral``.
        threshold: fields of threshold.json. ``calibration``: fields of calibration.json.
        borderline_from: lower edge of the borderline region; None where there is none.
        turned_away: share of images like those of training that the input check turns away; None without a check.
        by_distance: whether that check turns images away for their distance, which needs enough validation images.
        files: rows (name, bytes, SHA-256) of the other files of the folder.
        folders: of the networks of an ensemble; empty for one network.
        licence: of the training data; empty if unknown.
        base_model: on the hub; empty if none or unknown.
        timm: arguments of ``timm.create_model`` that give the trunk, ``model_name`` among them; None where timm alone cannot
            use the weights.
        run: files of the run, for its results; None where there are none.
    """

    title: str
    models: tuple[str, ...]
    classes: tuple[str, ...]
    positive: tuple[str, ...]
    positive_called: str
    negative_called: str
    group_name: str
    subject: str
    dataset: str
    phantom: bool
    network: Mapping[str, Any]
    views: str
    threshold: Mapping[str, Any]
    calibration: Mapping[str, Any]
    borderline_from: float | None = None
    turned_away: float | None = None
    by_distance: bool = True
    files: tuple[tuple[str, int, str], ...] = ()
    folders: tuple[str, ...] = ()
    licence: str = ""
    version: str = ""
    base_model: str = ""
    timm: Mapping[str, Any] | None = None
    run: RunFiles | None = field(default=None, repr=False)

    @property
    def timm_call(self) -> str:
        """The arguments as they are written in Python."""
        options = {name: value for name, value in (self.timm or {}).items() if name != "model_name"}
        written = [f"{name}={json.dumps(value)}" for name, value in options.items()]
        return ", ".join([json.dumps((self.timm or {}).get("model_name", "")), *written])

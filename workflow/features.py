"""Features of a frozen network for the baseline that is a regression on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import seed_everything

from callbacks.mixed_precision import choose_precision
from datamodules.prepared import PreparedData
from datamodules.progress import Progress
from lightning_modules import ImageClassifier
from models.pretrained import load_pretrained

_AT_ONCE = 64


def features_of_parts(
    module: ImageClassifier, prepared: PreparedData, progress: Progress
) -> dict[str, NDArray[np.float32]]:
    """Features of the plain images of ``train``, ``val`` and ``test``, each of shape (n, f)."""
    rows = {part: prepared.splits.rows(part) for part in ("train", "val", "test")}
    was_training = module.training
    module.eval()
    found: dict[str, NDArray[np.float32]] = {}
    with progress("features of the frozen network", sum(map(len, rows.values()))) as advance, torch.inference_mode():
        for part, mine in rows.items():
            pieces = []
            for start in range(0, len(mine), _AT_ONCE):
                images = torch.from_numpy(np.ascontiguousarray(prepared.pixels[mine[start : start + _AT_ONCE]]))
                pieces.append(module.trunk_features(images.permute(0, 3, 1, 2).to(module.device)).cpu().numpy())
                advance(len(images))
            found[part] = np.concatenate(pieces)
    module.train(was_training)
    return found


def pretrained_module(settings: dict[str, Any]) -> ImageClassifier:
    """The network as it is before training, with a head that is of no matter; of ``model=baseline_features``: its backbone."""
    model = dict(settings["model"])
    if model["name"].startswith("baseline_"):
        model["name"] = model["backbone"]
    seed_everything(
        settings["seed"], workers=True, verbose=False
    )  # where the weights are random, they are the same ones
    module = ImageClassifier(model, settings["task"]["classes"], settings["task"]["positive"], settings["trainer"])
    load_pretrained(module.network, model)
    precision = choose_precision("32", settings["trainer"]["accelerator"])
    return module.to("cuda" if precision.accelerator == "gpu" else "cpu")

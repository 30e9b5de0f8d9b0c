"""A finished run of a random little network on made-up films: everything that a run leaves, without any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from datamodules.card import data_card
from datamodules.index import save_csv
from datamodules.prepared import PreparedData, prepare
from evaluation.predictions import PREFIX, Predictions, write_predictions
from evaluation.recalibration import fit_calibrator
from evaluation.threshold import choose_operating_point
from lightning_modules import ImageClassifier
from models.bundle import save_bundle
from models.pretrained import description_of
from tests.conftest import composed_settings

SMALL = ["model.image_size=24", "model.filters=[4]", "model.hidden=[]", "evaluation.bootstrap=100"]


def tiny_run(folder: Path, root: Path, home: Path, *, seed: int = 0, tta: str = "none") -> Path:
    """Write a finished run on the data in ``root``, which are in the form of the chest X-rays.

    The scores are those of the LightningModule, by another way than a scorer takes.
    """
    place = [f"data.root={root}", f"data.prepared={home}"]
    settings = composed_settings("task=pneumonia", *place, f"seed={seed}", f"evaluation.tta={tta}", *SMALL)
    prepared = prepare(settings)
    task = settings["task"]
    torch.manual_seed(seed)
    module = ImageClassifier(settings["model"], task["classes"], task["positive"], settings["trainer"], tta=tta).eval()
    with torch.no_grad():  # spread the scores, which a fresh network has all near 0.5
        list(module.network.parameters())[-2].mul_(12)
    parts = {part: _predictions(module, prepared, part, task, tta) for part in ("val", "test")}
    for part, predictions in parts.items():
        write_predictions(folder / "predictions" / f"{part}.csv", predictions.frame)
    point = choose_operating_point(parts["val"], "empirical", 0.9, group_name="patient")
    description = {
        "title": "Films: simple_cnn",
        "network": {**settings["model"], "metadata_width": 0},
        **{name: task[name] for name in ("classes", "positive")},
        **{"preprocessing": description_of(settings["model"]), "metadata": None, "views": tta, "phantom": False},
        **{"threshold": point.to_dict(), "calibration": fit_calibrator(parts["val"]).to_dict()},
        **{"manifest_sha256": prepared.manifest.sha256, "split_sha256": prepared.splits.sha256},
    }
    digest = save_bundle(module.network, description, folder / "model")
    save_csv(prepared.splits.frame, folder / "splits.csv")
    card = data_card(prepared, task)
    record = {
        **{
            "status": "finished",
            "title": "Films: simple_cnn",
            "version": "1",
            "phantom": False,
            "seeds": {"seed": seed},
        },
        **{name: description[name] for name in ("manifest_sha256", "split_sha256")},
        "weights_sha256": digest,
    }
    for name, content in {"data_card": card, "run": record, "threshold": point.to_dict()}.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder


@torch.no_grad()
def _predictions(
    module: ImageClassifier, prepared: PreparedData, part: str, task: dict[str, Any], tta: str
) -> Predictions:
    rows = prepared.splits.rows(part)
    images = torch.from_numpy(np.ascontiguousarray(prepared.pixels[rows])).permute(0, 3, 1, 2)
    seen = [images, images.flip(-1)] if tta == "flip" else [images]
    scores = torch.stack([module(view).sigmoid() for view in seen]).mean(dim=0).numpy().astype(np.float64)
    frame = prepared.manifest.frame[["image_id", "group_id", "label", "subtype"]].iloc[rows].reset_index(drop=True)
    for name, column in zip(task["classes"], (1.0 - scores, scores), strict=True):
        frame[PREFIX + name] = column
    return Predictions(frame, tuple(task["classes"]), task["positive"])


def tiny_ensemble(folder: Path, runs: list[Path]) -> Path:
    """An ensemble of runs as ``ensemble.py`` leaves it, with what a scorer reads of it."""
    members = [json.loads((run / "run.json").read_text(encoding="utf-8")) for run in runs]
    listed = [
        {"run": str(run), "weights_sha256": member["weights_sha256"]} for run, member in zip(runs, members, strict=True)
    ]
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({**members[0], "members": listed}), encoding="utf-8")
    (folder / "threshold.json").write_bytes((runs[0] / "threshold.json").read_bytes())
    return folder

"""Finished runs without any training: predictions by hand, everything else as a run leaves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from evaluation.predictions import Predictions, write_predictions
from evaluation.summary import evaluate_run
from evaluation.threshold import choose_operating_point

TWO, THREE = ["benign", "malignant"], ["bcc", "mel", "nv"]
RULE = {"rule": "empirical", "recall": 0.9, "confidence": 0.95, "group_score": "max", "value": 0.5}


def scored(first: int, n: int, seed: int, classes: list[str]) -> Predictions:
    """Images ``first`` to ``first + n - 1``, two to a lesion; labels depend on the image only, scores on the seed too."""
    rng, number = np.random.default_rng([seed, first]), np.arange(first, first + n)
    targets = number // 2 % len(classes)
    logits = rng.normal(size=(n, len(classes)))
    logits[np.arange(n), targets] += 1.5
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frame = pd.DataFrame({"image_id": [f"i{k:04d}" for k in number], "group_id": [f"g{k // 2:04d}" for k in number]})
    frame["label"] = np.array(classes)[targets]
    for column, name in enumerate(classes):
        frame[f"prob_{name}"] = scores[:, column]
    return Predictions(frame, tuple(classes), classes[1])


def settings_of(classes: list[str], seed: int, **split: Any) -> dict[str, Any]:
    """The sections of config.yaml that an ensemble looks at."""
    return {
        "seed": seed,
        "task": {
            "name": "lesions",
            "title": "Lesions",
            "group_name": "lesion",
            "classes": classes,
            "positive": [classes[1]],
            "positive_name": "",
            "negative_name": "",
        },
        "split": {"kind": "random", "pool": "all", "folds": 5, "fold": 0, "grouping": "group", "file": None, "seed": 0}
        | split,
        "model": {"name": "simple_cnn", "dropout": 0.5, "metadata": []},
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "progress_bar": False},
        "evaluation": {"bootstrap": 100, "confidence": 0.95},
        "threshold": dict(RULE),
    }


def fake_run(
    folder: Path,
    *,
    seed: int = 0,
    classes: list[str] = TWO,
    test: tuple[int, int] = (200, 80),
    val: tuple[int, int] = (0, 80),
    split_sha256: str = "same",
    **split: Any,
) -> Path:
    """Write a finished run; ``test`` and ``val`` are the first image and the number of images."""
    settings = settings_of(classes, seed, **split)
    parts = {"val": scored(*val, seed, classes), "test": scored(*test, seed, classes)}
    for part, predictions in parts.items():
        write_predictions(folder / "predictions" / f"{part}.csv", predictions.frame)
    options = {"rule": "empirical", "recall": 0.9, "group_name": "lesion"}
    point = choose_operating_point(parts["val"], **options)  # type: ignore[arg-type]
    metrics = evaluate_run(
        parts["val"],
        parts["test"],
        point,
        domain_aucs=dict.fromkeys(classes),
        title="Lesions: simple_cnn",
        task="lesions",
        model="simple_cnn",
        phantom=False,
        group_name="lesion",
        bootstrap=100,
        test_kind="cut",
    )
    record = {
        "status": "finished",
        "title": "Lesions: simple_cnn",
        "overrides": [f"seed={seed}"],
        "seeds": {"seed": seed, "split": 0},
        "manifest_sha256": "manifest",
        "split_sha256": split_sha256,
        "weights_sha256": f"weights{seed}",
        "phantom": False,
    }
    write(folder / "metrics.json", metrics)
    write(folder / "threshold.json", {"title": "Lesions", **point.to_dict()})
    write(folder / "run.json", record)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder


def write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def change(path: Path, *keys: str, to: Any) -> None:
    """Set one value of a JSON or YAML file."""
    is_json = path.suffix == ".json"
    content = read(path) if is_json else yaml.safe_load(path.read_text(encoding="utf-8"))
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    path.write_text(json.dumps(content) if is_json else yaml.safe_dump(content), encoding="utf-8")

"""What a finished run leaves for people: the model folder, the pictures of its mistakes, the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from callbacks.mistakes import save_mistakes, worst_mistakes
from callbacks.tensorboard_review import log_hyperparameters, log_mistakes
from conf.schema import RESEARCH_NOTICE
from datamodules.prepared import PreparedData
from evaluation.predictions import read_predictions
from evaluation.report import write_report
from lightning_modules import ImageClassifier
from models.bundle import save_bundle
from models.pretrained import description_of
from workflow.judging import results


def hand_over(
    settings: dict[str, Any],
    folder: Path,
    prepared: PreparedData,
    module: ImageClassifier,
    metrics: dict[str, Any],
    metadata: dict[str, Any] | None,
) -> str:
    """Write ``model/``, which is all that is needed to use the model; returns the SHA-256 of its weights."""
    description = {
        "title": metrics["title"],
        "notice": RESEARCH_NOTICE,
        # Where the weights came from is in run.json; here it would be a path of another machine.
        "network": {**settings["model"], "weights": "none"},
        "classes": settings["task"]["classes"],
        "positive": settings["task"]["positive"],
        "preprocessing": description_of(settings["model"]),
        "metadata": metadata,
        "views": settings["evaluation"]["tta"],
        "threshold": metrics["threshold"],
        "manifest_sha256": prepared.manifest.sha256,
        "split_sha256": prepared.splits.sha256,
        "phantom": prepared.phantom,
    }
    return save_bundle(module.network, description, folder / "model")


def report(
    settings: dict[str, Any],
    folder: Path,
    prepared: PreparedData,
    metrics: dict[str, Any],
    logger: Any = None,
    epoch: int = 0,
) -> Path:
    """The worst mistakes as pictures, HPARAMS, and report.html.

    Args:
        logger: TensorBoard's; None for a baseline, which has no epochs.
        epoch: that it is logged at.
    """
    task = settings["task"]
    outcome = {name: task[name] for name in ("positive", "positive_name", "negative_name")}
    test = read_predictions(folder / "predictions" / "test.csv", tuple(task["classes"]), **outcome)
    mistakes = worst_mistakes(test, metrics["threshold"]["threshold"], settings["evaluation"]["mistakes"])
    rows = prepared.splits.rows("test")[[item.row for item in mistakes] or slice(0)]
    images = prepared.pixels[rows]
    save_mistakes(mistakes, images, folder / "figures" / "mistakes")
    if logger is not None:
        if mistakes:
            log_mistakes(logger, mistakes, images, prepared.phantom, epoch)
        _log_hyperparameters(settings, metrics, logger, epoch)
    return write_report(folder)


def _log_hyperparameters(settings: dict[str, Any], metrics: dict[str, Any], logger: Any, epoch: int) -> None:
    chosen = {
        "seed": settings["seed"],
        "augmentation": settings["augmentation"]["name"],
        "finetune": settings["finetune"]["name"],
        **{name: settings["model"][name] for name in ("name", "image_size", "dropout", "hidden")},
        **{
            name: settings["trainer"][name]
            for name in ("optimizer", "learning_rate", "weight_decay", "schedule", "ema", "max_epochs")
        },
        **{name: settings["data"][name] for name in ("batch_size", "per_class")},
    }
    found = results(metrics)
    # val/auroc is the curve over epochs; the figure of the kept epoch gets a name of its own.
    final = {tag: value for tag, value in found.items() if tag.startswith("test/")} | {
        "val/best_auroc": found["val/auroc"]
    }
    log_hyperparameters(logger, chosen, final, epoch)

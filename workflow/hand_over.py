"""What a finished run leaves for people: the pictures of its mistakes, figures in TensorBoard, the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from callbacks.mistakes import save_mistakes, with_heat_maps, worst_mistakes
from callbacks.tensorboard_review import log_hyperparameters, log_mistakes
from conf.run_settings import overrides
from datamodules.prepared import PreparedData
from evaluation.predictions import read_predictions
from evaluation.report import write_report
from lightning_modules import ImageClassifier
from workflow.data import metadata_encoder
from workflow.gallery import HeatMaps, checks_of, drawn_rows, gallery_of
from workflow.heat_maps import Explainer, target_of
from workflow.judging import results

_COLUMNS = {  # of HPARAMS in every run, by their keys in the configuration
    "seed": "seed",
    **{f"{section}.name": section for section in ("augmentation", "finetune")},
    **{f"model.{name}": name for name in ("name", "image_size", "dropout", "hidden")},
    **{
        f"trainer.{name}": name
        for name in ("optimizer", "learning_rate", "weight_decay", "schedule", "max_epochs", "ema")
    },
    "data.batch_size": "batch_size",
}
_GROUPS = {"model": "name", "augmentation": "augmentation", "finetune": "finetune"}
_SECTIONS = ("model", "augmentation", "loss", "imbalance", "finetune", "trainer", "split")
_NO_MATTER = ("trainer.progress_bar", "trainer.accelerator", "split.refresh")


def report(
    settings: dict[str, Any],
    folder: Path,
    prepared: PreparedData,
    metrics: dict[str, Any],
    logger: Any = None,
    epoch: int = 0,
    module: ImageClassifier | None = None,
) -> Path:
    """The worst mistakes as pictures, with heat maps beside them; HPARAMS; report.html.

    Args:
        logger: TensorBoard's; None for a baseline, which has no epochs.
        epoch: that it is logged at.
        module: the network that made the predictions, for the heat maps; None for a baseline, which has none.
    """
    task = settings["task"]
    outcome = {name: task[name] for name in ("positive", "positive_name", "negative_name")}
    test = read_predictions(folder / "predictions" / "test.csv", tuple(task["classes"]), **outcome)
    mistakes = worst_mistakes(test, metrics["threshold"]["threshold"], settings["evaluation"]["mistakes"])
    rows = prepared.splits.rows("test")
    shown = rows[[item.row for item in mistakes] or slice(0)]
    images = prepared.pixels[shown]
    found = None if module is None or not mistakes else _heat_maps(settings, prepared, module, shown)
    drawn = None
    if found is not None:
        assert module is not None
        mistakes = with_heat_maps(mistakes, found.untrained, found.covered)
        drawn = _heat_maps(settings, prepared, module, rows[drawn_rows(len(rows))])
    overlays, alone = (None, None) if found is None else (found.pictures.overlays, found.pictures.coloured)
    save_mistakes(mistakes, images, folder / "figures" / "mistakes", overlays, alone, checks_of(found, drawn))
    if logger is not None:
        if mistakes:
            log_mistakes(logger, mistakes, images, prepared.phantom, epoch, overlays, alone)
        _log_hyperparameters(settings, metrics, logger, epoch, len(prepared.splits.rows("train")))
    return write_report(folder)


def _heat_maps(
    settings: dict[str, Any], prepared: PreparedData, module: ImageClassifier, rows: NDArray[np.int64]
) -> HeatMaps | None:
    """Heat maps of the plain images (not of their test-time views); None where they are switched off or impossible."""
    if not settings["evaluation"]["heat_maps"]:
        return None
    encoder, task = metadata_encoder(settings, prepared), settings["task"]
    table = None if encoder is None else encoder.encode(prepared.manifest.frame.iloc[rows])
    explainer = Explainer(module.network, module.normalise, target_of(task["classes"], task["positive"]))
    return gallery_of(explainer, prepared.pixels[rows], table)


def _log_hyperparameters(
    settings: dict[str, Any], metrics: dict[str, Any], logger: Any, epoch: int, train_images: int
) -> None:
    typed = _typed(overrides())
    chosen = {name: _value(settings, key) for key, name in _COLUMNS.items()}
    # One type in every run, so that the parallel axes can be drawn: a number where the key may also be null.
    chosen |= {"ema": chosen["ema"] or 0.0, "train_images": train_images, **changed_settings(settings, typed)}
    found = results(metrics)
    # val/auroc is the curve over epochs; the figure of the kept epoch gets a name of its own.
    final = {tag: value for tag, value in found.items() if tag.startswith("test/")} | {
        "val/best_auroc": found["val/auroc"]
    }
    first = {_COLUMNS.get(key) or _GROUPS.get(key) or key for key in typed}
    log_hyperparameters(logger, chosen, final, epoch, first=first)


def changed_settings(settings: dict[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """Settings of the command line that change the training, so that what a multirun varies has a column.

    Args:
        settings: the whole configuration as plain values.
        typed: keys of the command line. Chosen groups (``model=resnet50``), paths, lists and what is null are left out, and so
            is what has a column of its own anyway.
    """
    found: dict[str, Any] = {}
    for key in typed:
        section, _, name = key.partition(".")
        if section not in _SECTIONS or name not in settings[section] or key in _COLUMNS or key in _NO_MATTER:
            continue
        value = settings[section][name]
        if isinstance(value, bool | int | float) or (isinstance(value, str) and "/" not in value):
            found[key] = value
    return found


def _typed(words: Sequence[str]) -> list[str]:
    """The keys of ``trainer.learning_rate=0.01`` and the like."""
    return [word.lstrip("+~").partition("=")[0] for word in words]


def _value(settings: dict[str, Any], key: str) -> Any:
    section, _, name = key.partition(".")
    return settings[section][name] if name else settings[section]

"""From settings and data to a trained module: network, weights, stages, cached features, fit, scores."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any, cast

import torch
from pytorch_lightning import Trainer, seed_everything

from callbacks.checkpoints import epochs_done
from callbacks.feature_cache import build_feature_store
from callbacks.mixed_precision import PrecisionChoice, choose_precision, tune_machine
from callbacks.run_snapshot import RunSnapshot
from callbacks.trainer import RunCallbacks, build_trainer, quiet_libraries
from conf.run_settings import overrides, save_settings
from conf.schema import RESEARCH_NOTICE
from datamodules.datamodule import ImageDataModule
from datamodules.prepared import PreparedData
from lightning_modules import ImageClassifier
from models.pretrained import load_pretrained
from workflow.data import class_counts, progress_of, title_of

log = logging.getLogger("firstread")


def build_module(
    settings: dict[str, Any], prepared: PreparedData, datamodule: ImageDataModule, *, fresh: bool
) -> tuple[ImageClassifier, list[str]]:
    """The seeded module, and sentences on where its weights come from.

    Args:
        fresh: False for a resumed run, whose weights come from its checkpoint.
    """
    seed_everything(settings["seed"], workers=True, verbose=False)
    module = ImageClassifier(
        settings["model"],
        settings["task"]["classes"],
        settings["task"]["positive"],
        settings["trainer"],
        finetune=settings["finetune"],
        loss=settings["loss"],
        imbalance=settings["imbalance"],
        mixing={name: settings["augmentation"][name] for name in ("mixup", "cutmix")},
        class_counts=class_counts(prepared),
        tta=settings["evaluation"]["tta"],
        batches_per_epoch=datamodule.batches_per_epoch,
    )
    notes = load_pretrained(module.network, settings["model"]) if fresh else []
    for line in notes:
        log.info(line)
    return module, notes


def prepare_run(
    settings: dict[str, Any], folder: Path, prepared: PreparedData, datamodule: ImageDataModule, *, resumed: bool
) -> tuple[ImageClassifier, Trainer, RunCallbacks]:
    """The seeded module and its Trainer; writes config.yaml and the start of run.json."""
    tune_machine()
    datamodule.machine.apply()
    quiet_libraries()
    precision = choose_precision(settings["trainer"]["precision"], settings["trainer"]["accelerator"])
    module, notes = build_module(settings, prepared, datamodule, fresh=not resumed)
    # The width follows from the data, so it is no key of the configuration.
    model = {name: value for name, value in settings["model"].items() if name != "metadata_width"}
    save_settings({**settings, "model": model}, folder / "config.yaml")
    notes += scoring_notes(settings, module)
    snapshot = snapshot_of(settings, folder, prepared, precision, model_notes=notes)
    first_epoch = epochs_done(_last(folder)) if resumed else 0
    datamodule.first_epoch = first_epoch
    trainer, kept = build_trainer(
        settings,
        folder,
        snapshot,
        precision,
        stages=module.stages,
        first_epoch=first_epoch,
        phantom=prepared.phantom,
    )
    return module, trainer, kept


def snapshot_of(
    settings: dict[str, Any],
    folder: Path,
    prepared: PreparedData,
    precision: PrecisionChoice | None,
    **more: Any,
) -> RunSnapshot:
    """The record run.json, with what is known before training."""
    facts = {
        "title": title_of(settings, prepared),
        "command": "python train.py " + " ".join(shlex.quote(item) for item in overrides()),
        "overrides": overrides(),
        "seeds": {"seed": settings["seed"], "split": settings["split"]["seed"]},
        "manifest_sha256": prepared.manifest.sha256,
        "split_sha256": prepared.splits.sha256,
        "phantom": prepared.phantom,
        "precision": None if precision is None else {"value": precision.value, "reason": precision.reason},
        "notice": RESEARCH_NOTICE,
        **more,
    }
    return RunSnapshot(folder / "run.json", facts)


def scoring_notes(settings: dict[str, Any], module: ImageClassifier) -> list[str]:
    """Which blocks train when, which weights are scored, and on which views."""
    total = sum(parameter.numel() for parameter in module.network.parameters())
    notes = [f"{settings['model']['name']}: {total:,} parameters"]
    sizes = dict(module.network.named_parameters())
    for number, stage in enumerate(module.stages, 1):
        trained = sum(
            sizes[name].numel()
            for block in module.network.blocks()
            if block.name in stage.blocks
            for name in block.parameters
        )
        epochs = f"epoch {stage.first_epoch + 1}" + (
            f" to {stage.first_epoch + stage.epochs}" if stage.epochs > 1 else ""
        )
        if len(module.stages) > 1 or trained < total:
            notes.append(f"stage {number}, {epochs}: {stage.name}, {trained:,} parameters train")
    decay = settings["trainer"]["ema"]
    if decay is not None:
        notes.append(f"validated, kept and tested: the moving average of the weights with decay {decay:g}")
    tta = settings["evaluation"]["tta"]
    if tta != "none":
        count = {"flip": 2, "dihedral": 8}[tta]
        notes.append(f"scores of validation and test: mean probability over {count} views of an image ({tta})")
    return notes


def fit(
    settings: dict[str, Any],
    folder: Path,
    prepared: PreparedData,
    module: ImageClassifier,
    datamodule: ImageDataModule,
    trainer: Trainer,
    *,
    resumed: bool,
) -> None:
    """Train, from cached features while the trunk rests and that is asked for."""
    last = _last(folder) if resumed else None
    _cache_features(settings, prepared, module, datamodule, trainer, last)
    trainer.fit(module, datamodule=datamodule, ckpt_path=last, weights_only=True)


def _cache_features(
    settings: dict[str, Any],
    prepared: PreparedData,
    module: ImageClassifier,
    datamodule: ImageDataModule,
    trainer: Trainer,
    last: Path | None,
) -> None:
    views = settings["finetune"]["views"]
    if views is None:  # what changes from epoch to epoch cannot be stored
        views = 0 if datamodule.augmentation.active or any(module.mixing.values()) else 1
    first = module.stages[0]
    if not first.frozen_trunk or views == 0 or datamodule.first_epoch >= first.epochs:
        return
    if last is not None:  # the frozen trunk's weights are in the checkpoint
        module.load_state_dict(torch.load(last, map_location="cpu", weights_only=True)["state_dict"])
    store = build_feature_store(
        module,
        datamodule,
        views=views,
        folder=prepared.task_folder / "features",
        progress=progress_of(settings),
        device=trainer.strategy.root_device,
    )
    datamodule.use_features(store, first.epochs)


def validate(trainer: Trainer, module: ImageClassifier, datamodule: ImageDataModule, folder: Path) -> None:
    """Score validation once with the best weights: the operating point and the calibration that stay."""
    cast(Any, trainer.logger).fitting = False
    best = folder / "checkpoints" / "best.ckpt"
    trainer.validate(module, datamodule=datamodule, ckpt_path=best, verbose=False, weights_only=True)


def test(trainer: Trainer, module: ImageClassifier, datamodule: ImageDataModule) -> None:
    """Score the test part once. The module already holds the best weights and the threshold; nothing here can change them."""
    trainer.test(module, datamodule=datamodule, verbose=False)


def _last(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"

"""The Trainer of a run, with its callbacks in the order that they rely on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as lightning

from callbacks.auroc_tracking import AUROCTracker
from callbacks.averaging import WeightAveraging
from callbacks.calibration import CalibrationFit
from callbacks.checkpoints import AtomicCheckpointIO, best_and_last
from callbacks.epoch_line import EpochLine
from callbacks.finite import FiniteLoss
from callbacks.mixed_precision import MixedPrecision, PrecisionChoice
from callbacks.predictions import PredictionWriter
from callbacks.reproducibility import SeedEachStep
from callbacks.run_snapshot import RunSnapshot
from callbacks.stopping import StagedEarlyStopping
from callbacks.tensorboard_review import EpochLogger, TensorBoardReview
from callbacks.threshold import ThresholdTuning
from callbacks.unfreezing import StagedUnfreezing
from models.stages import Stage


@dataclass(frozen=True)
class RunCallbacks:
    """The callbacks that a run asks again when training is over."""

    line: EpochLine
    tracker: AUROCTracker
    tuning: ThresholdTuning
    calibration: CalibrationFit
    snapshot: RunSnapshot


def build_trainer(
    settings: dict[str, Any],
    folder: Path,
    snapshot: RunSnapshot,
    precision: PrecisionChoice,
    *,
    stages: Sequence[Stage],
    first_epoch: int = 0,
    phantom: bool,
) -> tuple[lightning.Trainer, RunCallbacks]:
    """A Trainer that leaves in ``folder`` what a run leaves.

    Args:
        settings: the whole configuration as plain values.
        folder: of the run.
        snapshot: the record of the run.
        precision: number format of training.
        stages: which blocks train when.
        first_epoch: number (from 0) of the epoch that a resumed run starts with.
        phantom: True for generated data; titles say so.
    """
    options, task = settings["trainer"], settings["task"]
    outcome = {name: task[name] for name in ("positive", "positive_name", "negative_name")}
    kept = RunCallbacks(
        line=EpochLine(options["progress_bar"], options["monitor"]),
        tracker=AUROCTracker(folder / "history.csv", options["monitor"]),
        tuning=ThresholdTuning(**settings["threshold"], outcome=outcome, group_name=task["group_name"]),
        calibration=CalibrationFit(outcome),
        snapshot=snapshot,
    )
    callbacks: list[lightning.Callback] = [
        MixedPrecision(precision),
        SeedEachStep(settings["seed"]),
        StagedUnfreezing(stages, first_epoch),
        FiniteLoss(),
        *([] if options["ema"] is None else [WeightAveraging(options["ema"])]),
        kept.tuning,  # before everything that reads the threshold, and before the checkpoints, which Lightning moves last
        kept.calibration,
        PredictionWriter(folder / "predictions", outcome),
        TensorBoardReview(outcome, phantom),
        kept.line,  # logs the speed that the tracker writes down
        kept.tracker,
        snapshot,
        *best_and_last(folder / "checkpoints", options["monitor"]),
    ]
    if options["patience"] is not None:
        callbacks.append(StagedEarlyStopping(options["monitor"], options["patience"], stages))
    trainer = lightning.Trainer(
        accelerator=precision.accelerator,
        devices=1,
        precision=cast(Any, precision.value),
        max_epochs=options["max_epochs"],
        accumulate_grad_batches=options["accumulate"],
        gradient_clip_val=options["gradient_clip"],
        # Some CUDA operations (the cumulative sum of the AUROC, for one) have no deterministic form; there it is a warning.
        deterministic="warn"
        if options["deterministic"] and precision.accelerator == "gpu"
        else options["deterministic"],
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=EpochLogger(folder, name="", version="tensorboard", default_hp_metric=False),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # our sampler shares the images of a batch out itself
        log_every_n_steps=1_000_000,  # epochs are logged; steps are not
        enable_progress_bar=False,  # EpochLine has its own
        enable_model_summary=False,
    )
    return trainer, kept


def quiet_libraries() -> None:
    """Switch off messages of libraries that say nothing to a person who runs a training."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    # Our loaders plan whole batches and choose their workers; Lightning's advice is about other loaders.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Epochs are logged, not steps, so the logging interval is larger than any epoch.
    warnings.filterwarnings("ignore", message=".*The number of training batches.*")
    # Lightning 2.6 calls torch's pytree in the old way.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    # A frozen trunk is in eval mode on purpose.
    warnings.filterwarnings("ignore", message=".*module.s. in eval mode.*")
    # Resuming reuses the folder on purpose.
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")

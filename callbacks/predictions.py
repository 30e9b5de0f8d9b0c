"""Predictions on disk: each image once, by its id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from evaluation.predictions import Predictions, write_predictions

Outcome = dict[str, Any]
"""What is to be found: ``positive`` (class names), ``positive_name`` and ``negative_name`` (for reports)."""


def predictions_of(
    datamodule: Any, rows: NDArray[np.int64], probabilities: NDArray[np.float64], outcome: Outcome
) -> Predictions:
    """Join probabilities with the manifest.

    Args:
        datamodule: has ``manifest``.
        rows: manifest rows, shape (n,).
        probabilities: of each class, shape (n, K), in [0, 1].
        outcome: what is to be found.
    """
    manifest = datamodule.manifest
    columns = ["image_id", "group_id", "label", *manifest.subgroup_columns]
    frame: pd.DataFrame = manifest.frame[columns].iloc[rows].reset_index(drop=True)
    for number, name in enumerate(manifest.classes):
        frame[f"prob_{name}"] = probabilities[:, number]
    return Predictions(frame, tuple(manifest.classes), **outcome)


def just_scored(trainer: Any, module: Any, outcome: Outcome) -> Predictions:
    """Predictions of the evaluation epoch that has just ended, joined with the manifest."""
    rows, probabilities = module.collected()
    return predictions_of(trainer.datamodule, rows, probabilities, outcome)


class PredictionWriter(Callback):
    """Writes ``val.csv`` when the finished model is validated and ``test.csv`` when it is tested.

    Args:
        folder: where the files go.
        outcome: what is to be found.
    """

    def __init__(self, folder: Path, outcome: Outcome) -> None:
        self.folder, self.outcome = folder, outcome

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Only after training: during training the scores belong to an unfinished model."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._write("val", trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the test predictions."""
        self._write("test", trainer, pl_module)

    def _write(self, part: str, trainer: Any, pl_module: Any) -> None:
        rows, probabilities = pl_module.collected()
        expected = trainer.datamodule.splits.rows(part)
        if not np.array_equal(rows, expected):
            raise RuntimeError(
                f"{part}: {len(rows)} rows were predicted, the split has {len(expected)}; nothing is written"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        frame = predictions_of(trainer.datamodule, rows, probabilities, self.outcome).frame
        write_predictions(self.folder / f"{part}.csv", frame)

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


def predictions_of(datamodule: Any, rows: NDArray[np.int64], scores: NDArray[np.float64], positive: str) -> Predictions:
    """Join scores with the manifest.

    Args:
        datamodule: has ``manifest``.
        rows: manifest rows, shape (n,).
        scores: probability of ``positive``, shape (n,), in [0, 1].
        positive: name of the positive class.
    """
    manifest = datamodule.manifest
    columns = ["image_id", "group_id", "label", *manifest.subgroup_columns]
    frame: pd.DataFrame = manifest.frame[columns].iloc[rows].reset_index(drop=True)
    for name in manifest.classes:
        frame[f"prob_{name}"] = scores if name == positive else 1.0 - scores
    return Predictions(frame, tuple(manifest.classes), positive)


class PredictionWriter(Callback):
    """Writes ``val.csv`` when the finished model is validated and ``test.csv`` when it is tested.

    Args:
        folder: where the files go.
        positive: name of the positive class.
    """

    def __init__(self, folder: Path, positive: str) -> None:
        self.folder, self.positive = folder, positive

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Only after training: during training the scores belong to an unfinished model."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._write("val", trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the test predictions."""
        self._write("test", trainer, pl_module)

    def _write(self, part: str, trainer: Any, pl_module: Any) -> None:
        rows, scores = pl_module.collected()
        expected = trainer.datamodule.splits.rows(part)
        if not np.array_equal(rows, expected):
            raise RuntimeError(
                f"{part}: {len(rows)} rows were predicted, the split has {len(expected)}; nothing is written"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        frame = predictions_of(trainer.datamodule, rows, scores, self.positive).frame
        write_predictions(self.folder / f"{part}.csv", frame)

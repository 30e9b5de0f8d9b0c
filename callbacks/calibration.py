"""Recalibration of the scores: fitted on validation, and kept with the weights like the threshold."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from callbacks.predictions import Outcome, just_scored
from evaluation.recalibration import Calibrator, fit_calibrator


class CalibrationFit(Callback):
    """After every validation epoch, fit the calibrator and store it in the module's ``calibration`` buffer.

    Lightning runs checkpoint callbacks last, so every checkpoint holds the calibration of its own weights. Scores on disk stay
    as the network gives them; the calibrator keeps their order, so that the threshold means the same before and after.

    Args:
        outcome: what is to be found.
    """

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.calibrator: Calibrator | None = None

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit on the validation scores just collected."""
        if trainer.sanity_checking:
            return
        module: Any = pl_module
        self.calibrator = fit_calibrator(just_scored(trainer, module, self.outcome))
        values = [self.calibrator.slope, self.calibrator.intercept, self.calibrator.temperature]
        module.calibration.copy_(torch.tensor([float("nan") if v is None else v for v in values], dtype=torch.float64))

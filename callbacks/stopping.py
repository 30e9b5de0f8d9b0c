"""Early stopping that knows the stages of a training."""

from __future__ import annotations

from collections.abc import Sequence

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping

from callbacks.checkpoints import mode_of
from models.stages import Stage


class StagedEarlyStopping(EarlyStopping):
    """Stops after ``patience`` epochs of the last stage without a better monitored value.

    Earlier stages are never cut short: a head on a frozen trunk soon learns no more, and the blocks that would go on have not
    begun to train.

    Args:
        monitor: name of the value.
        patience: epochs.
        stages: of the whole training, in their order.
    """

    def __init__(self, monitor: str, patience: int, stages: Sequence[Stage]) -> None:
        super().__init__(monitor, mode=mode_of(monitor), patience=patience, check_on_train_epoch_end=True)
        self._first_epoch = stages[-1].first_epoch

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that had stopped, and was resumed to be scored, trains no further epoch."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count, in the last stage."""
        if trainer.current_epoch >= self._first_epoch:
            super().on_train_epoch_end(trainer, pl_module)

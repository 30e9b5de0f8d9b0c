"""Every epoch starts from a random state that depends on (seed, epoch) alone."""

from __future__ import annotations

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class SeedEachEpoch(Callback):
    """Makes a resumed run equal to an uninterrupted one: dropout draws the same numbers in epoch k either way.

    Args:
        seed: of the run; 0 is a seed like any other.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reseed torch on every device."""
        state = np.random.SeedSequence([self.seed, trainer.current_epoch]).generate_state(1, dtype=np.uint64)
        torch.manual_seed(int(state[0] >> np.uint64(1)))

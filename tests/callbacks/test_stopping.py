"""Early stopping counts in the last stage only, and a run that had stopped does not start again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.trainer.states import TrainerFn

from callbacks.stopping import StagedEarlyStopping
from models.stages import plan_stages

STAGES = plan_stages({"name": "lp_ft", "head_epochs": 3}, {"max_epochs": 10, "learning_rate": 0.1}, ["stem", "head"])


def epochs_until_stop(values: list[float], stopping: StagedEarlyStopping) -> int:
    """After how many epochs with these monitored values the training ends."""
    trainer: Any = SimpleNamespace(
        should_stop=False,
        fast_dev_run=False,
        sanity_checking=False,
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision),
        world_size=1,
        global_rank=0,
    )
    for epoch, value in enumerate(values):
        trainer.current_epoch, trainer.callback_metrics = epoch, {"val/auroc": torch.tensor(value)}
        stopping.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
        if trainer.should_stop:
            return epoch + 1
    return len(values)


def test_a_head_that_learns_no_more_does_not_end_the_training() -> None:
    stopping = StagedEarlyStopping("val/auroc", 2, STAGES)
    assert epochs_until_stop([0.8, 0.7, 0.7, 0.6, 0.7, 0.9, 0.8, 0.8, 0.9, 0.9], stopping) == 8


@pytest.mark.parametrize(("waited", "stops"), [(2, True), (1, False)])
def test_a_run_that_had_stopped_trains_no_further(waited: int, stops: bool) -> None:
    stopping = StagedEarlyStopping("val/auroc", 2, STAGES)
    stopping.load_state_dict({**stopping.state_dict(), "wait_count": waited})
    trainer: Any = SimpleNamespace(should_stop=False)
    stopping.on_fit_start(trainer, None)  # type: ignore[arg-type]
    assert trainer.should_stop is stops

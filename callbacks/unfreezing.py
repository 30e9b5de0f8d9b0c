"""Staged unfreezing: at the first epoch of a stage its blocks start to train, with an optimiser and a schedule of their own."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from models.optimisation import block_rates, carry_over
from models.stages import Stage, stage_of

log = logging.getLogger("firstread")


class StagedUnfreezing(Callback):
    """Takes the module from stage to stage, and logs the step size of every block.

    The module has a method ``enter_stage(stage)``, which lets the blocks of the stage train and keeps it as ``stage``; its
    ``configure_optimizers()`` builds optimiser and schedule for that stage; its ``network`` is a BlockNetwork.

    A new stage begins with a new optimiser, because a schedule counts the steps of its stage. What the one before had
    averaged for parameters that go on training is carried over.

    A checkpoint names the stage that its optimiser belongs to. A resumed run enters that stage before the optimiser is made,
    so that the stored state fits; where the next epoch belongs to another stage, the change is made at its start, as in a run
    that was never interrupted.

    Args:
        stages: of the whole training, in their order, from :func:`models.stages.plan_stages`.
        first_epoch: number (from 0) of the epoch that training starts with; a checkpoint knows better.
    """

    def __init__(self, stages: Sequence[Stage], first_epoch: int = 0) -> None:
        self.stages = list(stages)
        self._stage = stage_of(self.stages, first_epoch)
        self._announced: Stage | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Enter the first stage, before Lightning asks for optimisers."""
        if stage == "fit":
            self._enter(pl_module, self._stage)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Enter the stage of the checkpoint's optimiser; Lightning calls this before it asks for optimisers.

        Raises:
            ValueError: if the checkpoint was written with other stages.
        """
        if trainer.state.fn != TrainerFn.FITTING:
            return
        state = checkpoint["callbacks"].get(self.state_key)
        if state is None:
            raise ValueError("the checkpoint to resume from names no stage of its optimiser. Start a new run.")
        fitting = [stage for stage in self.stages[state["stage"] :][:1] if list(stage.blocks) == state["blocks"]]
        if not fitting:
            raise ValueError(
                f"the checkpoint to resume from was written in stage {state['stage'] + 1}, in which these blocks trained: "
                f"{', '.join(state['blocks'])}. The stages are now: {'; '.join(stage.name for stage in self.stages)}. "
                "Resume with the finetune settings and the network that the run started with, or start a new run."
            )
        self._enter(pl_module, fitting[0])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Change to the stage of this epoch where it is another one, and log stage and step sizes."""
        stage = stage_of(self.stages, trainer.current_epoch)
        if stage != self._stage:
            before = trainer.optimizers[0]
            self._enter(pl_module, stage)
            # As at the start of a fit. Loss scaling, progress and step counts belong to the Trainer and go on.
            trainer.strategy.setup_optimizers(trainer)
            carry_over(before, trainer.optimizers[0])
        self._step_plateau_in_time(trainer)
        if stage != self._announced:
            self._announce(trainer, pl_module)
        rates = block_rates(trainer.optimizers[0])
        scalars = {f"rate/{block.name}": rates.get(block.name, 0.0) for block in _network(pl_module).blocks()}
        scalars["train/stage"] = float(self.stages.index(stage) + 1)
        for logger in trainer.loggers:
            logger.log_metrics({**scalars, "epoch": trainer.current_epoch}, step=trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: the stage that its optimiser belongs to."""
        return {"stage": self.stages.index(self._stage), "blocks": list(self._stage.blocks)}

    def _enter(self, pl_module: Any, stage: Stage) -> None:
        pl_module.enter_stage(stage)
        self._stage = stage

    def _step_plateau_in_time(self, trainer: Trainer) -> None:
        """Have plateau schedules stepped after the epoch's last batch instead of at the epoch's end.

        The monitored value is there after the last batch, because validation comes before this step. Lightning's step at the
        end of an epoch comes after the checkpoints of that epoch: they would miss it, and a resumed run would be one behind.
        """
        for config in trainer.lr_scheduler_configs:
            if config.reduce_on_plateau:
                config.interval, config.frequency = "step", int(trainer.num_training_batches)

    def _announce(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what trains now; a training of one stage in which everything trains at one rate needs no words."""
        self._announced = stage = self._stage
        network, rates = _network(pl_module), block_rates(trainer.optimizers[0], peak=True)
        names = [block.name for block in network.blocks()]
        if len(self.stages) == 1 and list(stage.blocks) == names and len(set(rates.values())) == 1:
            return
        parameters = dict(network.named_parameters())
        sizes = {block.name: sum(parameters[name].numel() for name in block.parameters) for block in network.blocks()}
        log.info(
            "epoch %d: stage %d of %d (%s), %s of %s parameters train, %s",
            trainer.current_epoch + 1,
            self.stages.index(stage) + 1,
            len(self.stages),
            stage.name,
            _count(sizes[name] for name in stage.blocks),
            _count(sizes.values()),
            _in_words(rates),
        )


def _network(pl_module: Any) -> Any:
    return pl_module.network


def _in_words(rates: dict[str, float]) -> str:
    """``rates head 0.001 ... stem 6.9e-06``; one number where all are equal."""
    (last, peak), (first, lowest) = list(rates.items())[-1], next(iter(rates.items()))
    return f"rate {peak:.2g}" if lowest == peak else f"rates {last} {peak:.2g} ... {first} {lowest:.2g}"


def _count(numbers: Iterable[int]) -> str:
    """``2.2 M``, ``1.3 k`` or the number itself."""
    total = sum(numbers)
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if total >= unit:
            return f"{total / unit:.1f} {letter}"
    return str(total)

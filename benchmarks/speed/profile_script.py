"""Train as train.py does, and look at where the time of an epoch goes: stacks in the second epoch, operators in the third."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed.peer import task
from benchmarks.speed.sampling import Sampler, shares, short_stack
from conf.cli import composed
from conf.run_settings import plain_settings
from models.pretrained import resolved_model
from workflow.data import datamodule_of, load_data
from workflow.training import fit, prepare_run

_SAMPLED, _OPERATORS = 1, 2  # epochs, from 0
_KEPT = 400  # stacks


class Watch(lightning.Callback):
    """Samples the training part of one epoch, and records the operators of the next."""

    def __init__(self) -> None:
        self.sampler, self.operators = Sampler(), profile(activities=[ProfilerActivity.CPU])
        self.recording = False

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin."""
        if trainer.current_epoch == _SAMPLED:
            self.sampler.start()
        if trainer.current_epoch == _OPERATORS:
            self.operators.start()
            self.recording = True

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The training part is over."""
        self.sampler.stop()
        if self.recording:
            self.operators.stop()
            self.recording = False


def found_by(watch: Watch) -> dict[str, Any]:
    """Plain values: shares by category, folded stacks, milliseconds by operator."""
    stacks: dict[str, int] = {}
    for stack, count in watch.sampler.main.items():
        name = ";".join(short_stack(stack))
        stacks[name] = stacks.get(name, 0) + count
    kept = sorted(stacks.items(), key=lambda pair: -pair[1])[:_KEPT]
    table = sorted(watch.operators.key_averages(), key=lambda row: -row.self_cpu_time_total)
    samples = sum(watch.sampler.main.values())
    return {
        "seconds": watch.sampler.seconds,
        "samples": samples,
        "main": shares(watch.sampler.main),
        "others": {
            name: share * sum(watch.sampler.others.values()) / max(1, samples)
            for name, share in shares(watch.sampler.others).items()
        },
        "stacks": dict(kept),
        "operators": [
            {"name": row.key, "calls": row.count, "milliseconds": row.self_cpu_time_total / 1000} for row in table[:25]
        ],
    }


def prepared_training(asked: dict[str, Any]) -> tuple[lightning.Trainer, Callable[[], None]]:
    """The Trainer of train.py for a task, and a function that fits."""
    settings = plain_settings(composed(asked["overrides"]))
    settings["model"] = resolved_model(settings["model"])
    folder = Path(sys.argv[2]).with_name("run")
    folder.mkdir()
    prepared = load_data(settings, folder)
    settings["model"]["metadata_width"] = 0
    datamodule = datamodule_of(settings, prepared)
    module, trainer, _ = prepare_run(settings, folder, prepared, datamodule, resumed=False)
    return trainer, lambda: fit(settings, folder, prepared, module, datamodule, trainer, resumed=False)


def main() -> None:
    """Three epochs."""
    trainer, fitted = prepared_training(task())
    watch = Watch()
    trainer.callbacks.insert(0, watch)  # type: ignore[attr-defined]  # before all others, whose work counts too
    fitted()
    Path(sys.argv[2]).write_text(json.dumps(found_by(watch)), encoding="utf-8")


if __name__ == "__main__":
    main()

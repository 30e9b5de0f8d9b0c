"""The ceiling: the step of firstread on a batch that is already in memory. No loader, no Lightning loop, no metrics.

Loss, network, optimiser, memory layout, precision and allocator are those of train.py; the answer is what is left of them
when nothing else happens.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.speed.peer import answer, task
from callbacks.mixed_precision import choose_precision, tune_machine
from conf.cli import composed
from conf.run_settings import plain_settings
from lightning_modules import ImageClassifier
from models.pretrained import load_pretrained, resolved_model


def module_of(asked: dict[str, Any]) -> tuple[ImageClassifier, dict[str, Any]]:
    """The module that train.py builds for these overrides, and the section ``trainer``."""
    settings = plain_settings(composed(asked["overrides"]))
    model = resolved_model(settings["model"])
    steps = max(1, asked["images"] // asked["batch"])
    module = ImageClassifier(
        model,
        settings["task"]["classes"],
        settings["task"]["positive"],
        settings["trainer"],
        finetune=settings["finetune"],
        loss=settings["loss"],
        imbalance=settings["imbalance"],
        class_counts=[1, 1],
        batches_per_epoch=steps,
    )
    load_pretrained(module.network, model)
    return module, settings["trainer"]


class Steps:
    """Training steps on one batch.

    Args:
        asked: the task.
    """

    def __init__(self, asked: dict[str, Any]) -> None:
        tune_machine()
        self.module, options = module_of(asked)
        choice = choose_precision(options["precision"], options["accelerator"])
        self.device = torch.device("cuda" if choice.accelerator == "gpu" else "cpu")
        self.module.to(self.device).train()
        if asked["choice"].get("compile"):
            self.module.network.compile()
        self.optimizer = self.module.configure_optimizers()["optimizer"]
        self.precision, self.clip = choice.value, options["gradient_clip"]
        self.dtype = torch.float16 if choice.value == "16-mixed" else torch.bfloat16
        if self.device.type == "cuda" and choice.value != "32-true":
            torch.set_float32_matmul_precision("high")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=choice.value == "16-mixed")
        shape = (asked["batch"], asked["size"], asked["size"], asked["channels"])
        self.images = torch.randint(0, 256, shape, dtype=torch.uint8, device=self.device).permute(0, 3, 1, 2)
        self.targets = torch.arange(asked["batch"], device=self.device) % 2

    def __call__(self) -> None:
        """One step."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.precision != "32-true"):
            loss = self.module.loss(self.module(self.images), self.targets)
        self.scaler.scale(loss).backward()
        if self.clip is not None:
            self.scaler.unscale_(self.optimizer)
            trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
            torch.nn.utils.clip_grad_norm_(trained, self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def wait(self) -> None:
        """Until a GPU has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    """Time some epochs."""
    asked = task()
    step = Steps(asked)
    count = max(1, asked["images"] // asked["batch"])
    epochs = []
    for _ in range(asked["epochs"]):
        started = time.perf_counter()
        for _ in range(count):
            step()
        step.wait()
        epochs.append((count * asked["batch"], time.perf_counter() - started))
    answer(epochs, precision=step.precision)


if __name__ == "__main__":
    main()

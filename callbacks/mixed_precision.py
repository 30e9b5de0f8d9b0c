"""Number format of training, and settings of the machine that change speed but not results."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from models.memory import keep_freed_memory

log = logging.getLogger("firstread")


@dataclass(frozen=True)
class PrecisionChoice:
    """What Lightning's Trainer is given, and why.

    Attributes:
        value: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
        reason: for the log.
        accelerator: ``gpu`` (CUDA) or ``cpu``. Apple's GPUs are left out: they have no float64, in which the threshold is kept.
    """

    value: str
    reason: str
    accelerator: str = "cpu"


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 natively (AVX512-BF16 or AMX); emulated bfloat16 is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return " avx512_bf16" in flags or " amx_bf16" in flags


def choose_precision(requested: str, accelerator: str) -> PrecisionChoice:
    """Resolve ``trainer.precision`` for this machine.

    Args:
        requested: ``auto``, ``32``, ``bf16`` or ``fp16``.
        accelerator: ``auto``, ``cpu`` or ``gpu``.

    Raises:
        ValueError: if float16 is requested on a CPU, or a GPU is requested where there is none.
    """
    cuda = torch.cuda.is_available() and accelerator != "cpu"
    if accelerator == "gpu" and not cuda:
        raise ValueError("trainer.accelerator=gpu: no CUDA device is available here. Use trainer.accelerator=auto.")
    device = "gpu" if cuda else "cpu"
    if requested in ("32", "bf16"):
        return PrecisionChoice(
            {"32": "32-true", "bf16": "bf16-mixed"}[requested], f"trainer.precision={requested}", device
        )
    if requested == "fp16":
        if not cuda:
            raise ValueError("trainer.precision=fp16 needs a CUDA device. Use bf16, 32 or auto on a CPU.")
        return PrecisionChoice("16-mixed", "trainer.precision=fp16", device)
    if cuda:
        name = torch.cuda.get_device_name()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return PrecisionChoice("bf16-mixed", f"{name} computes bfloat16 natively", device)
        return PrecisionChoice("16-mixed", f"{name} has no native bfloat16; float16 with loss scaling", device)
    if cpu_has_bf16():
        return PrecisionChoice("bf16-mixed", "this CPU computes bfloat16 natively")
    return PrecisionChoice("32-true", "this CPU has no native bfloat16")


def tune_machine() -> None:
    """Settings for speed that leave results alone."""
    keep_freed_memory()
    # Deterministic mode would otherwise fill every new tensor with NaN first, which costs time and changes nothing here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


class MixedPrecision(Callback):
    """Prints the precision, allows TF32 where mixed precision was chosen anyway, and logs the loss scale of float16.

    Args:
        choice: what the Trainer was given.
    """

    def __init__(self, choice: PrecisionChoice) -> None:
        self.choice = choice

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what is used, before the first step."""
        if pl_module.device.type == "cuda" and self.choice.value != "32-true":
            torch.set_float32_matmul_precision("high")
        log.info("precision %s: %s; validation and test always in float32", self.choice.value, self.choice.reason)
        machine = getattr(trainer.datamodule, "machine", None)  # type: ignore[attr-defined]
        if machine is not None:
            log.info(machine.line)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A falling loss scale shows overflowing gradients long before the loss does."""
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None:
            pl_module.log("train/loss_scale", float(scaler.get_scale()))

"""Looking into a network without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def undisturbed(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Eval mode, float32 and gradients inside; everything as it was afterwards.

    Gradients, inference mode and autocast are settings of the thread. What is set on the network itself are the modes of its
    modules, which does nothing to a network that is in eval mode already, and, only of a compiled one, that it runs uncompiled.
    So a plain network in eval mode may be used by other threads meanwhile.
    """
    modules = list(network.modules())
    modes = [module.training for module in modules]
    compiled = [(module, module._compiled_call_impl) for module in modules if module._compiled_call_impl is not None]
    devices = [device.index or 0] if device.type == "cuda" else []
    network.eval()
    for module, _ in compiled:
        module._compiled_call_impl = None  # compiled code does not see hooks that are added later
    try:
        with (
            torch.random.fork_rng(devices=devices),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
        ):
            yield
    finally:
        # One by one: a network may hold some of its modules in eval mode while it trains.
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for module, call in compiled:
            module._compiled_call_impl = call

"""What the contenders in PyTorch have in common: the task that they are given, the plain network, and their answer.

Nothing of firstread is imported here, as nobody who writes such a script would have it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def task() -> dict[str, Any]:
    """The task of this process: the JSON file that the command line names."""
    found: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.manual_seed(found["seed"])
    return found


def answer(epochs: list[tuple[int, float]], scores: tuple[list[float], list[int]] | None = None, **more: Any) -> None:
    """Write images and seconds of each epoch, and scores and targets of the test images, where the task says."""
    result = {"epochs": epochs, **more}
    if scores is not None:
        result |= {"scores": scores[0], "targets": scores[1]}
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


class PlainNetwork(nn.Module):
    """A trunk and one dense layer, as a script would have it; float images in, one logit out, shape ``(n,)``."""

    def __init__(self, asked: dict[str, Any]) -> None:
        super().__init__()
        self.frozen = bool(asked["frozen"])
        if asked["network"] == "simple_cnn":
            self.trunk: nn.Module = simple_trunk(asked["channels"])
            width = 64 * (((asked["size"] - 2) // 2 - 2) // 2) ** 2
            self.head: nn.Module = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 1))
        else:
            import timm

            self.trunk = timm.create_model(asked["network"], num_classes=0, in_chans=asked["channels"])
            if asked["weights"]:
                self._load(asked)
            width = int(getattr(self.trunk, "num_features"))  # noqa: B009  # timm's, which mypy cannot know
            self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(width, 1))
        self.trunk.requires_grad_(not self.frozen)

    def _load(self, asked: dict[str, Any]) -> None:
        from safetensors.torch import load_file

        tensors = load_file(asked["weights"])
        if asked["channels"] == 1:
            tensors["conv_stem.weight"] = tensors["conv_stem.weight"].sum(dim=1, keepdim=True)
        self.trunk.load_state_dict(tensors)

    def train(self, mode: bool = True) -> PlainNetwork:
        """A frozen trunk keeps its statistics."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        found: Tensor = self.head(self.trunk(images)).squeeze(1)
        return found


def simple_trunk(channels: int) -> nn.Sequential:
    """The convolutions of the source documents in their order: convolution, ReLU, pooling."""
    return nn.Sequential(
        *(nn.Conv2d(channels, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
    )


def optimiser(network: nn.Module, asked: dict[str, Any]) -> torch.optim.Optimizer:
    """Adam or AdamW over what trains, with the default implementation of torch."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if asked["network"] == "simple_cnn":
        return torch.optim.Adam(trained, lr=asked["learning_rate"])
    return torch.optim.AdamW(trained, lr=asked["learning_rate"], weight_decay=asked["weight_decay"])


def scores_of(network: nn.Module, batches: Any, device: str = "cpu") -> tuple[list[float], list[int]]:
    """Probabilities and targets of the batches ``(images, targets)``."""
    network.eval()
    scores: list[float] = []
    targets: list[int] = []
    with torch.inference_mode():
        for images, labels in batches:
            scores += network(images.to(device)).sigmoid().tolist()
            targets += labels.tolist()
    return scores, targets

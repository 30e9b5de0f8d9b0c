"""Networks and images that the tests of heat maps share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.build import build_network

SETTINGS: dict[str, Any] = {"image_size": 64, "channels": 3, "filters": [4, 8], "hidden": [8], "dropout": 0.5}


class Seeker(nn.Module):
    """Built by hand: channel 0 sees bright pixels, channel 1 dark ones; the answer is the mean of the first less the second."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 2, kernel_size=8, stride=8, bias=False)
        self.head = nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            self.maps.weight[0], self.maps.weight[1] = 1 / 64, -1 / 64
            self.head.weight.copy_(torch.tensor([[1.0, -1.0]]))

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.head(functional.relu(self.maps(images), inplace=True).mean(dim=(2, 3)))
        return answer


def network_of(name: str, outputs: int = 1, **settings: Any) -> nn.Module:
    """With fresh weights, always the same ones."""
    torch.manual_seed(0)
    return build_network({**SETTINGS, "name": name, **settings}, outputs)


def images_of(count: int = 2, channels: int = 3, side: int = 64) -> Tensor:
    """Noise, always the same."""
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1))

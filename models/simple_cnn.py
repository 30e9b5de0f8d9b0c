"""The small convolutional network of the source documents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SimpleCNN(nn.Module):
    """[3x3 convolution - ReLU - 2x2 max-pooling] for each entry of ``filters``, flatten, dense - ReLU - dropout, output.

    Convolutions are unpadded, so 128 x 128 grey with filters (32, 64) and 64 hidden units has 3,705,345 parameters.

    Args:
        image_size: height and width of the input in pixels.
        channels: of the input, 1 or 3.
        outputs: number of logits; 1 for two classes.
        filters: of each convolution.
        hidden: units of the dense layer.
        dropout: share of the dense layer's units dropped in training, in [0, 1).

    Raises:
        ValueError: if the image is too small for the number of poolings.
    """

    def __init__(
        self,
        image_size: int = 128,
        channels: int = 1,
        outputs: int = 1,
        filters: Sequence[int] = (32, 64),
        hidden: int = 64,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        side, width = image_size, channels
        for count in filters:
            layers += [nn.Conv2d(width, count, kernel_size=3), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            side, width = (side - 2) // 2, count
        if side < 1:
            raise ValueError(f"image_size={image_size} is too small for {len(filters)} convolutions with pooling")
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(side * side * width, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout)
        )
        self.output = nn.Linear(hidden, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape ``(n, outputs)`` for images of shape ``(n, channels, image_size, image_size)``."""
        logits: Tensor = self.output(self.head(self.features(images)))
        return logits


def initialise_like_keras(model: nn.Module) -> None:
    """Glorot-uniform weights and zero biases, the initialisation the source documents trained with."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def simple_cnn(settings: dict[str, object], outputs: int) -> SimpleCNN:
    """A freshly initialised :class:`SimpleCNN` from a plain dictionary of settings.

    Args:
        settings: ``image_size, channels, filters, hidden, dropout``.
        outputs: number of logits.
    """
    names = ("image_size", "channels", "filters", "hidden", "dropout")
    model = SimpleCNN(outputs=outputs, **{name: settings[name] for name in names})  # type: ignore[arg-type]
    with torch.no_grad():
        initialise_like_keras(model)
    return model

"""The small convolutional network of the source documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.blocks import HEAD, Block, BlockNetwork
from models.heads import Head

# Bundles and checkpoints of version 0.1 name the layers so; (old, new), the first that fits counts.
_OLD_NAMES = (("features.", "trunk."), ("head.1.", "head.hidden.0."), ("output.", "head.output."))


class SimpleCNN(BlockNetwork):
    """[3x3 convolution - 2x2 max-pooling - ReLU] for each entry of ``filters``, flatten, dense - ReLU - dropout, output.

    ReLU comes after the pooling, where it has a quarter of the values to go through: both are monotone, so maps and gradients
    are those of ReLU before the pooling, as the source documents write it, to the bit.

    Convolutions are unpadded, so 128 x 128 grey with filters (32, 64) and 64 hidden units has 3,705,345 parameters. Its blocks
    are ``conv1``, ``conv2``, ..., ``head``; its features are the flattened maps of the last pooling.

    Args:
        image_size: height and width of the input in pixels.
        channels: of the input, 1 or 3.
        outputs: number of logits; 1 for two classes.
        filters: of each convolution.
        hidden: units of the dense layers.
        dropout: share of the last dense layer's units dropped in training, in [0, 1).
        metadata_width: number of metadata columns that the head takes beside the image.

    Raises:
        ValueError: if the image is too small for the number of poolings.
    """

    def __init__(
        self,
        image_size: int = 128,
        channels: int = 1,
        outputs: int = 1,
        filters: Sequence[int] = (32, 64),
        hidden: Sequence[int] = (64,),
        dropout: float = 0.5,
        metadata_width: int = 0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        side, width = image_size, channels
        for count in filters:
            layers += [nn.Conv2d(width, count, kernel_size=3), nn.MaxPool2d(2), nn.ReLU(inplace=True)]
            side, width = (side - 2) // 2, count
        if side < 1:
            raise ValueError(
                f"model.image_size={image_size} is too small for {len(filters)} convolutions with pooling (model.filters)"
            )
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        self.head = Head(side * side * width, outputs, hidden, dropout, metadata_width)
        self._blocks = [
            Block(f"conv{number + 1}", (f"trunk.{3 * number}.weight", f"trunk.{3 * number}.bias"))
            for number in range(len(filters))
        ]
        self._blocks.append(Block(HEAD, tuple(f"head.{name}" for name, _ in self.head.named_parameters())))
        self.register_load_state_dict_pre_hook(_rename_old)  # type: ignore[no-untyped-call]

    def blocks(self) -> list[Block]:
        """One block a convolution, then the head."""
        return self._blocks

    def trunk_modules(self) -> list[nn.Module]:
        """The convolutions with their poolings."""
        return [self.trunk]

    def features(self, images: Tensor) -> Tensor:
        """The flattened maps, shape ``(n, f)``, for images of shape ``(n, channels, image_size, image_size)``."""
        maps: Tensor = self.trunk(images)
        return maps

    def classify(self, features: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Logits ``(n, outputs)``; metadata ``(n, m)`` enter beside the output of the last dense layer."""
        logits: Tensor = self.head(features, metadata)
        return logits

    def embed(self, features: Tensor) -> Tensor:
        """The output of the last dense layer, shape ``(n, e)``; the features themselves where there is none."""
        found: Tensor = self.head.hidden(features)
        return found

    def classify_and_embed(self, features: Tensor, metadata: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What :meth:`classify` and :meth:`embed` give."""
        return self.head.with_embedding(features, metadata)


def _rename_old(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for key in [key for key in state_dict if key.startswith(prefix)]:
        for old, new in _OLD_NAMES:
            if key.startswith(prefix + old):
                state_dict[prefix + new + key.removeprefix(prefix + old)] = state_dict.pop(key)
                break


def initialise_like_keras(model: nn.Module) -> None:
    """Glorot-uniform weights and zero biases, the initialisation the source documents trained with."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def simple_cnn(settings: dict[str, Any], outputs: int) -> SimpleCNN:
    """A freshly initialised :class:`SimpleCNN` from a plain dictionary of settings.

    Args:
        settings: ``image_size, channels, filters, hidden, dropout, metadata_width``; ``hidden`` is one number in bundles of
            version 0.1.
        outputs: number of logits.
    """
    hidden = settings["hidden"]
    model = SimpleCNN(
        image_size=settings["image_size"],
        channels=settings["channels"],
        outputs=outputs,
        filters=settings["filters"],
        hidden=[hidden] if isinstance(hidden, int) else hidden,
        dropout=settings["dropout"],
        metadata_width=settings.get("metadata_width", 0),
    )
    with torch.no_grad():
        initialise_like_keras(model)
    return model

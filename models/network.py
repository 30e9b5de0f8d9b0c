"""A trunk of timm with a head of ours."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from models.backbones import build_trunk, feature_width, trunk_blocks
from models.blocks import HEAD, Block, BlockNetwork
from models.heads import Head


class TimmNetwork(BlockNetwork):
    """Any architecture of timm without its classifier, then :class:`models.heads.Head`.

    Args:
        trunk: gives features ``(n, f)`` for images ``(n, channels, height, width)``.
        head: gives logits for them.
        repeat: the trunk takes colour and the images are grey: each is repeated in all three channels.
    """

    def __init__(self, trunk: nn.Module, head: Head, *, repeat: bool = False) -> None:
        super().__init__()
        self.trunk, self.head, self.repeat = trunk, head, repeat
        self._blocks = [
            Block(block.name, tuple(f"trunk.{name}" for name in block.parameters)) for block in trunk_blocks(trunk)
        ]
        self._blocks.append(Block(HEAD, tuple(f"head.{name}" for name, _ in head.named_parameters())))

    def blocks(self) -> list[Block]:
        """The stages of the architecture from ``stem`` on, then ``head``."""
        return self._blocks

    def trunk_modules(self) -> list[nn.Module]:
        """The trunk."""
        return [self.trunk]

    def features(self, images: Tensor) -> Tensor:
        """Pooled features ``(n, f)`` for normalised images ``(n, channels, height, width)``."""
        found: Tensor = self.trunk(images.repeat(1, 3, 1, 1) if self.repeat else images)
        return found

    def classify(self, features: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Logits ``(n, outputs)``."""
        logits: Tensor = self.head(features, metadata)
        return logits

    def embed(self, features: Tensor) -> Tensor:
        """The output of the last dense layer, shape ``(n, e)``; the features themselves where there is none."""
        found: Tensor = self.head.hidden(features)
        return found

    def classify_and_embed(self, features: Tensor, metadata: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What :meth:`classify` and :meth:`embed` give."""
        return self.head.with_embedding(features, metadata)


def timm_network(name: str, settings: dict[str, Any], outputs: int) -> TimmNetwork:
    """A :class:`TimmNetwork` with fresh weights from a plain dictionary of settings.

    Args:
        name: of the architecture in timm.
        settings: ``image_size, channels, grey_input, pooling, hidden, dropout, metadata_width``; all but the first two may
            be left out.
        outputs: number of logits.

    Raises:
        ValueError: if there is no such architecture, or it cannot take this image size or pooling.
    """
    repeat = settings["channels"] == 1 and settings.get("grey_input", "stem") == "repeat"
    channels = 3 if repeat else settings["channels"]
    size = settings["image_size"]
    trunk = build_trunk(name, channels, size, settings.get("pooling", "auto"))
    width = feature_width(trunk, name, channels, size)
    head = Head(
        width, outputs, settings.get("hidden", []), settings.get("dropout", 0.0), settings.get("metadata_width", 0)
    )
    return TimmNetwork(trunk, head, repeat=repeat)

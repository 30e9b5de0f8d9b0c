"""The head of a network: from features, and what is known beside the image, to logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

METADATA_UNITS = 16  # of the layer that the metadata pass before they meet the image


class Head(nn.Module):
    """[Linear - ReLU] for each entry of ``hidden``, dropout, Linear.

    Metadata pass a Linear layer of 16 units with ReLU of their own and join the output of the last hidden layer (of the trunk
    where there is none), so that a few columns are not lost beside a thousand features, and age or site can shift the logits.
    The weights start as torch's layers do: uniform within 1 / sqrt(inputs).

    Args:
        width: number of features.
        outputs: number of logits.
        hidden: units of the hidden layers; empty for none.
        dropout: share of the last layer's inputs dropped in training, in [0, 1).
        metadata_width: number of metadata columns; 0 for a head that takes none.
    """

    def __init__(
        self, width: int, outputs: int, hidden: Sequence[int] = (), dropout: float = 0.0, metadata_width: int = 0
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU(inplace=True)]
            width = units
        self.width, self.metadata_width = width, metadata_width
        self.hidden = nn.Sequential(*layers)
        self.metadata: nn.Module | None = None
        if metadata_width > 0:
            self.metadata = nn.Sequential(nn.Linear(metadata_width, METADATA_UNITS), nn.ReLU(inplace=True))
            width += METADATA_UNITS
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, outputs)

    def forward(self, features: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Logits ``(n, outputs)``; the arguments as in :meth:`with_embedding`."""
        return self.with_embedding(features, metadata)[0]

    def with_embedding(self, features: Tensor, metadata: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits ``(n, outputs)`` and what the last dense layer makes of the features, ``(n, e)``; the features without one.

        Args:
            features: shape ``(n, width)``.
            metadata: shape ``(n, metadata_width)``; None for a head that takes none.

        Raises:
            ValueError: if metadata are missing, of another width, or given to a head that takes none.
        """
        given = 0 if metadata is None else metadata.shape[1]
        if given != self.metadata_width:
            raise ValueError(f"the head takes {self.metadata_width} metadata columns, got {given}; see model.metadata")
        embedding: Tensor = self.hidden(features)
        last = embedding if self.metadata is None else torch.cat([embedding, self.metadata(metadata)], dim=1)
        logits: Tensor = self.output(self.dropout(last))
        return logits, embedding

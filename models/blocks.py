"""A network as a row of blocks from the stem to the head, each of which can be frozen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

HEAD = "head"


@dataclass(frozen=True)
class Block:
    """Some of a network's parameters that train or rest together.

    Attributes:
        name: as the log and TensorBoard show it: ``stem``, ``blocks.3``, ``layer4``, ``head``.
        parameters: their full names in the network.
    """

    name: str
    parameters: tuple[str, ...]


class BlockNetwork(nn.Module):
    """A trunk that turns images into features, and a head that turns features into logits.

    A frozen block is frozen altogether: its parameters take no gradient, and its normalisation layers stay in eval mode, also
    after ``train()``, so that their running statistics do not move by a bit. Where the whole trunk is frozen, it stays in eval
    mode as a whole (dropout and stochastic depth included): its features are then a function of the image alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self._frozen: frozenset[str] = frozenset()

    def blocks(self) -> list[Block]:
        """All parameters, in blocks from the stem to the head; the last one is called ``head``."""
        raise NotImplementedError

    def trunk_modules(self) -> list[nn.Module]:
        """The modules that :meth:`features` runs."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Tensor:
        """Features of shape ``(n, f)`` for normalised images ``(n, channels, height, width)``."""
        raise NotImplementedError

    def classify(self, features: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Logits ``(n, outputs)`` from features ``(n, f)`` and, where the head takes them, metadata ``(n, m)``."""
        raise NotImplementedError

    def embed(self, features: Tensor) -> Tensor:
        """What the output layer sees of the images alone, shape ``(n, e)``, from features ``(n, f)``; metadata are left out."""
        raise NotImplementedError

    def classify_and_embed(self, features: Tensor, metadata: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What :meth:`classify` and :meth:`embed` give; together they run the dense layers once."""
        return self.classify(features, metadata), self.embed(features)

    def forward(self, images: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Logits ``(n, outputs)``."""
        return self.classify(self.features(images), metadata)

    @property
    def frozen(self) -> frozenset[str]:
        """Names of the blocks that rest."""
        return self._frozen

    @property
    def trunk_is_frozen(self) -> bool:
        """Whether nothing but the head trains."""
        return all(block.name in self._frozen for block in self.blocks()[:-1])

    def set_trainable(self, names: Iterable[str]) -> None:
        """Let exactly these blocks train.

        Raises:
            ValueError: if there is no such block.
        """
        chosen, known = set(names), [block.name for block in self.blocks()]
        if chosen - set(known):
            raise ValueError(f"there is no block {sorted(chosen - set(known))[0]!r}; there are: {', '.join(known)}")
        self._frozen = frozenset(known) - chosen
        parameters = dict(self.named_parameters())
        for block in self.blocks():
            for name in block.parameters:
                parameters[name].requires_grad_(block.name in chosen)
                if block.name not in chosen:
                    parameters[name].grad = None
        self.train(self.training)

    def train(self, mode: bool = True) -> BlockNetwork:
        """As for any module, but frozen blocks stay in eval mode."""
        super().train(mode)
        if mode and self._frozen:
            if self.trunk_is_frozen:
                for module in self.trunk_modules():
                    module.eval()
            resting = {name for block in self.blocks() if block.name in self._frozen for name in block.parameters}
            for name, module in self.named_modules():
                own = [f"{name}.{key}" if name else key for key, _ in module.named_parameters(recurse=False)]
                if isinstance(module, _BatchNorm) and own and all(key in resting for key in own):
                    module.eval()
        return self

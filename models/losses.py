"""Losses of classifiers, with corrections for rare classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class ClassificationLoss(nn.Module):
    """Cross-entropy of one logit (two classes) or of one logit a class.

    Class weights are ``n / (K n_c)``, so that a batch drawn at random has weight one an image on average. Logit adjustment adds
    ``tau log(n_c / n)`` to the logits in training only; at test time the plain logits then favour no class for being frequent
    (Menon et al. 2021, "Long-tail learning via logit adjustment", eq. 10).

    Args:
        counts: training images of each class, shape (K,), all at least 1.
        positive: number of the class whose logit a two-class network gives; ignored for more classes.
        class_weights: weigh each image by its class.
        logit_adjustment: tau, at least 0; 0 switches it off.
    """

    weights: Tensor
    shift: Tensor

    def __init__(
        self, counts: Sequence[int], positive: int = 1, *, class_weights: bool = False, logit_adjustment: float = 0.0
    ) -> None:
        super().__init__()
        if min(counts) < 1:
            raise ValueError(f"every class needs a training image, got {list(counts)} images a class")
        number = torch.tensor(counts, dtype=torch.float64)
        self.binary, self.positive = len(counts) == 2, positive
        self.class_weights, self.logit_adjustment = class_weights, logit_adjustment
        prior = (number / number.sum()).log() * logit_adjustment
        shift = (prior[positive] - prior[1 - positive]).reshape(1) if self.binary else prior
        # Not persistent: both follow from the counts, and a checkpoint should hold what was learnt.
        self.register_buffer("weights", (number.sum() / (len(counts) * number)).float(), persistent=False)
        self.register_buffer("shift", shift.float(), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a training batch.

        Args:
            logits: shape (n,) for two classes, else (n, K).
            targets: class numbers, shape (n,), int64.
        """
        if self.logit_adjustment > 0:
            logits = logits + self.shift
        if not self.class_weights:
            return self.plain(logits, targets)
        if not self.binary:
            return functional.cross_entropy(logits, targets, weight=self.weights, reduction="none").mean()
        hits = (targets == self.positive).float()
        return functional.binary_cross_entropy_with_logits(logits, hits, weight=self.weights[targets])

    def plain(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy without correction: what validation and test report."""
        if self.binary:
            return functional.binary_cross_entropy_with_logits(logits, (targets == self.positive).float())
        return functional.cross_entropy(logits, targets)

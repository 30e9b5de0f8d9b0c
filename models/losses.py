"""Losses of classifiers: cross-entropy and focal loss, soft targets, and corrections for rare classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

LOSSES = ("cross_entropy", "focal")


class ClassificationLoss(nn.Module):
    """Loss of one logit (two classes) or of one logit a class.

    With target shares ``q_k`` and probabilities ``p_k``, the loss of an image is ``-sum_k q_k log p_k`` (cross-entropy) or
    ``-sum_k q_k (1 - p_k)^gamma log p_k`` (focal: Lin et al. 2017, "Focal loss for dense object detection", eq. 4; with class
    weights in the place of alpha, eq. 5). Both are linear in the target, so that the loss of a blend of two labels is the blend
    of their losses. gamma = 0 is cross-entropy to the bit.

    Label smoothing s makes the target ``(1 - s) q_k + s / K`` (Szegedy et al. 2016, "Rethinking the Inception architecture",
    section 7); with one logit it is s/2 or 1 - s/2. Class weights are ``n / (K n_c)``, so that a batch drawn at random has weight
    one an image on average; an image weighs ``sum_k t_k w_k`` by its label ``t`` before smoothing. Logit adjustment adds
    ``tau log(n_c / n)`` to the logits in training only; at test time the plain logits then favour no class for being frequent
    (Menon et al. 2021, "Long-tail learning via logit adjustment", eq. 10).

    Args:
        counts: training images of each class, shape (K,), all at least 1.
        positive: number of the class whose logit a two-class network gives; ignored for more classes.
        class_weights: weigh each image by its class.
        logit_adjustment: tau, at least 0; 0 switches it off.
        name: ``cross_entropy`` or ``focal``.
        label_smoothing: s, in [0, 1).
        focal_gamma: gamma, at least 0; ignored by cross-entropy.

    Raises:
        ValueError: for a class without images, or a value out of its range.
    """

    weights: Tensor
    shift: Tensor

    def __init__(
        self,
        counts: Sequence[int],
        positive: int = 1,
        *,
        class_weights: bool = False,
        logit_adjustment: float = 0.0,
        name: str = "cross_entropy",
        label_smoothing: float = 0.0,
        focal_gamma: float = 2.0,
    ) -> None:
        super().__init__()
        if min(counts) < 1:
            raise ValueError(f"every class needs a training image, got {list(counts)} images a class")
        if name not in LOSSES:
            raise ValueError(f"loss.name={name} is not known. Use one of: {', '.join(LOSSES)}.")
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"loss.label_smoothing={label_smoothing} must be at least 0 and below 1. 0 switches it off."
            )
        if focal_gamma < 0:
            raise ValueError(f"loss.focal_gamma={focal_gamma} must be at least 0. The usual value is 2.")
        number = torch.tensor(counts, dtype=torch.float64)
        self.classes, self.binary, self.positive = len(counts), len(counts) == 2, positive
        self.class_weights, self.logit_adjustment = class_weights, logit_adjustment
        self.label_smoothing = label_smoothing
        self.gamma = focal_gamma if name == "focal" else 0.0
        prior = (number / number.sum()).log() * logit_adjustment
        shift = (prior[positive] - prior[1 - positive]).reshape(1) if self.binary else prior
        # Not persistent: both follow from the counts, and a checkpoint should hold what was learnt.
        self.register_buffer("weights", (number.sum() / (len(counts) * number)).float(), persistent=False)
        self.register_buffer("shift", shift.float(), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a training batch.

        Args:
            logits: shape (n,) for two classes, else (n, K).
            targets: class numbers, shape (n,), int64; or shares of the classes, shape (n, K), float32, each row adding up to 1.
        """
        if self.logit_adjustment > 0:
            logits = logits + self.shift
        hard = not targets.is_floating_point()
        if hard and not self.class_weights and not self.label_smoothing and not self.gamma:
            return self.plain(logits, targets)
        shares = functional.one_hot(targets, self.classes).to(logits.dtype) if hard else targets.to(logits.dtype)
        smooth = (1 - self.label_smoothing) * shares + self.label_smoothing / self.classes
        losses = self._of_one_logit(logits, smooth) if self.binary else self._of_all_logits(logits, smooth)
        return (losses * (shares @ self.weights.to(shares.dtype))).mean() if self.class_weights else losses.mean()

    def plain(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy without correction: what validation and test report."""
        if self.binary:
            return functional.binary_cross_entropy_with_logits(logits, (targets == self.positive).float())
        return functional.cross_entropy(logits, targets)

    def _of_one_logit(self, logits: Tensor, shares: Tensor) -> Tensor:
        """Losses, shape (n,), of logits (n,) and shares (n, 2)."""
        hits = shares[:, self.positive]
        if not self.gamma:
            return functional.binary_cross_entropy_with_logits(logits, hits, reduction="none")
        log_p, log_rest = functional.logsigmoid(logits), functional.logsigmoid(-logits)
        # (1 - p)^gamma as exp(gamma log(1 - p)): for gamma below 1 the power itself has an infinite slope at 0.
        found, missed = (self.gamma * log_rest).exp() * log_p, (self.gamma * log_p).exp() * log_rest
        return -(hits * found + shares[:, 1 - self.positive] * missed)

    def _of_all_logits(self, logits: Tensor, shares: Tensor) -> Tensor:
        """Losses, shape (n,), of logits (n, K) and shares (n, K)."""
        if not self.gamma:
            return functional.cross_entropy(logits, shares, reduction="none")
        log_p = functional.log_softmax(logits, dim=1)
        # Where p rounds to 1 the loss is 0 either way; the lower bound keeps the slope of the power finite there.
        rest = (1 - log_p.exp()).clamp_min(torch.finfo(logits.dtype).eps)
        return -(shares * rest**self.gamma * log_p).sum(dim=1)

"""Corrections for rare classes do what their formulas say."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from models.losses import ClassificationLoss


def test_weights_have_mean_one_over_the_data_and_weigh_each_class_alike() -> None:
    counts = [90, 10]
    loss = ClassificationLoss(counts, positive=1, class_weights=True)
    targets = torch.tensor([0] * 90 + [1] * 10)
    assert loss.weights[targets].mean().item() == pytest.approx(1.0)
    logits = torch.randn(100)
    each = functional.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")
    expected = 0.5 * (each[:90].mean() + each[90:].mean())
    assert loss(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)


def test_two_classes_and_one_logit_equal_two_logits() -> None:
    logits, targets = torch.randn(50), torch.randint(0, 2, (50,))
    pair = torch.stack([torch.zeros(50), logits], dim=1)
    for tau in (0.0, 1.0, 1.7):
        one = ClassificationLoss([30, 20], positive=1, logit_adjustment=tau)(logits, targets)
        prior = torch.tensor([0.6, 0.4]).log() * tau
        assert one.item() == pytest.approx(functional.cross_entropy(pair + prior, targets).item(), rel=1e-5)


@pytest.mark.parametrize("positive", [0, 1])
def test_either_class_can_be_the_positive_one(positive: int) -> None:
    loss = ClassificationLoss([80, 20], positive=positive, class_weights=True)
    good = torch.tensor([9.0, -9.0]) if positive == 0 else torch.tensor([-9.0, 9.0])
    assert loss(good, torch.tensor([0, 1])).item() < 1e-3


def test_many_classes() -> None:
    logits, targets = torch.randn(60, 3), torch.arange(60) % 3
    adjusted = ClassificationLoss([50, 8, 2], logit_adjustment=1.0)(logits, targets)
    expected = functional.cross_entropy(logits + torch.tensor([50, 8, 2]).div(60).log(), targets)
    assert adjusted.item() == pytest.approx(expected.item(), rel=1e-5)
    weighted = ClassificationLoss([20, 20, 20], class_weights=True)(logits, targets)
    assert weighted.item() == pytest.approx(functional.cross_entropy(logits, targets).item(), rel=1e-5)
    plain = ClassificationLoss([50, 8, 2], logit_adjustment=1.0).plain(logits, targets)
    assert plain.item() == pytest.approx(functional.cross_entropy(logits, targets).item(), rel=1e-6)


def test_a_class_without_images_is_refused_and_nothing_is_stored() -> None:
    with pytest.raises(ValueError, match="every class"):
        ClassificationLoss([5, 0])
    assert ClassificationLoss([5, 5], class_weights=True).state_dict() == {}
    assert math.isfinite(ClassificationLoss([1, 10**6], logit_adjustment=1.0).shift.item())

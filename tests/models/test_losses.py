"""Losses and corrections for rare classes do what their formulas say."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from models.losses import ClassificationLoss


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    torch.manual_seed(0)


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


def soft_targets(images: int, classes: int) -> torch.Tensor:
    """Shares as mixup makes them: two classes an image."""
    generator = torch.Generator().manual_seed(1)
    share = torch.rand(images, 1, generator=generator)
    first, second = torch.randint(0, classes, (2, images), generator=generator)
    pair = functional.one_hot(first, classes) * share + functional.one_hot(second, classes) * (1 - share)
    return pair.float()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothing_and_soft_targets_equal_torch(smoothing: float) -> None:
    logits, targets = torch.randn(40, 4), torch.arange(40) % 4
    loss = ClassificationLoss([10] * 4, label_smoothing=smoothing)
    for given in (targets, soft_targets(40, 4)):
        expected = functional.cross_entropy(logits, given, label_smoothing=smoothing)
        assert loss(logits, given).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("positive", [0, 1])
def test_smoothing_of_one_logit_moves_the_target_to_half_of_s(positive: int) -> None:
    loss = ClassificationLoss([5, 5], positive, label_smoothing=0.2)
    logit, hit = torch.tensor([0.7]), torch.tensor([positive])
    for target, share in ((hit, 0.9), (1 - hit, 0.1)):
        expected = functional.binary_cross_entropy_with_logits(logit, torch.tensor([share]))
        assert loss(logit, target).item() == pytest.approx(expected.item(), rel=1e-6)
    # The smallest loss lies where the probability is 1 - s/2, not at an infinite logit.
    assert loss(torch.tensor([math.log(9.0)]), hit) < loss(torch.tensor([20.0]), hit)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_equals_torchvision_and_is_the_same_for_one_logit_and_two(gamma: float) -> None:
    logits, targets = torch.randn(50) * 3, torch.randint(0, 2, (50,))
    loss = ClassificationLoss([30, 20], name="focal", focal_gamma=gamma)
    expected = sigmoid_focal_loss(logits, targets.float(), alpha=-1, gamma=gamma, reduction="mean")
    assert loss(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)
    # The softmax form needs at least three classes here; the third one gets a probability of 0.
    triple = torch.stack([torch.zeros(50), logits, torch.full((50,), -1e4)], dim=1)
    softmax = ClassificationLoss([30, 20, 1], name="focal", focal_gamma=gamma)(triple, targets)
    assert softmax.item() == pytest.approx(expected.item(), rel=1e-4)


def test_focal_loss_with_class_weights_is_the_alpha_balanced_one() -> None:
    logits, targets = torch.randn(60), torch.randint(0, 2, (60,))
    loss = ClassificationLoss([75, 25], name="focal", class_weights=True)
    # alpha weighs positives, 1 - alpha the others; class weights are that up to a factor.
    weights = torch.tensor([100 / 150, 100 / 50])
    alpha = (weights[1] / weights.sum()).item()
    expected = sigmoid_focal_loss(logits, targets.float(), alpha=alpha, gamma=2.0, reduction="mean") * weights.sum()
    assert loss(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("counts", [[30, 20], [30, 20, 10]])
def test_gamma_zero_is_cross_entropy_to_the_bit(counts: list[int]) -> None:
    logits = torch.randn(50) if len(counts) == 2 else torch.randn(50, 3)
    for targets in (torch.arange(50) % len(counts), soft_targets(50, len(counts))):
        for smoothing in (0.0, 0.1):
            both = [
                ClassificationLoss(counts, name=name, focal_gamma=0.0, label_smoothing=smoothing)(logits, targets)
                for name in ("focal", "cross_entropy")
            ]
            assert torch.equal(*both)


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
@pytest.mark.parametrize("counts", [[80, 20], [60, 30, 10]])
@pytest.mark.parametrize("class_weights", [False, True])
def test_a_blend_of_labels_costs_the_blend_of_their_losses(name: str, counts: list[int], class_weights: bool) -> None:
    classes = len(counts)
    loss = ClassificationLoss(counts, name=name, class_weights=class_weights, logit_adjustment=0.0)
    logits = torch.randn(1) if classes == 2 else torch.randn(1, classes)
    hard = [loss(logits, torch.tensor([number])).item() for number in range(classes)]
    shares = torch.tensor([[0.3, 0.7, 0.0][:classes]])
    weights = loss.weights.tolist() if class_weights else [1.0] * classes
    # An image weighs the mean of its classes' weights, not each class for itself.
    weight = 0.3 * weights[0] + 0.7 * weights[1]
    expected = weight * (0.3 * hard[0] / weights[0] + 0.7 * hard[1] / weights[1])
    assert loss(logits, shares).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("class_weights", [False, True])
@pytest.mark.parametrize("counts", [[80, 20], [60, 30, 10]])
def test_hard_labels_and_their_one_hot_shares_cost_the_same(counts: list[int], class_weights: bool) -> None:
    loss = ClassificationLoss(counts, positive=0, class_weights=class_weights, logit_adjustment=1.0)
    targets = torch.arange(30) % len(counts)
    logits = torch.randn(30) if len(counts) == 2 else torch.randn(30, 3)
    shares = functional.one_hot(targets, len(counts)).float()
    assert loss(logits, targets).item() == pytest.approx(loss(logits, shares).item(), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("counts", [[8, 2], [6, 3, 1]])
def test_focal_gradients_are_finite_for_certain_predictions(gamma: float, counts: list[int]) -> None:
    base = torch.tensor([-200.0, -20.0, 0.0, 20.0, 200.0])
    logits = base if len(counts) == 2 else torch.stack([base, -base, torch.zeros(5)], dim=1)
    for target in range(len(counts)):
        leaf = logits.clone().requires_grad_()
        loss = ClassificationLoss(counts, name="focal", focal_gamma=gamma)(leaf, torch.full((5,), target))
        loss.backward()
        assert torch.isfinite(loss)
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()


def test_focal_gradient_is_the_numerical_one() -> None:
    for counts, shape in (([8, 2], (7,)), ([6, 3, 1], (7, 3))):
        logits = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        loss = ClassificationLoss(counts, name="focal", focal_gamma=1.5, label_smoothing=0.1)
        targets = torch.arange(7) % len(counts)
        assert torch.autograd.gradcheck(lambda given, loss=loss, targets=targets: loss(given, targets), (logits,))


@pytest.mark.parametrize(
    ("options", "key"),
    [({"name": "hinge"}, "loss.name"), ({"label_smoothing": 1.0}, "label_smoothing"), ({"focal_gamma": -1.0}, "gamma")],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=key):
        ClassificationLoss([5, 5], **options)


def test_validation_reports_plain_cross_entropy_whatever_is_trained() -> None:
    logits, targets = torch.randn(30), torch.arange(30) % 2
    loss = ClassificationLoss([20, 10], name="focal", label_smoothing=0.3, class_weights=True, logit_adjustment=1.0)
    expected = functional.binary_cross_entropy_with_logits(logits, targets.float())
    assert torch.equal(loss.plain(logits, targets), expected)


def test_smoothing_leaves_the_weight_of_an_image_alone() -> None:
    logits, targets = torch.randn(30, 3), torch.arange(30) % 3
    loss = ClassificationLoss([60, 30, 10], class_weights=True, label_smoothing=0.3)
    each = functional.cross_entropy(logits, targets, label_smoothing=0.3, reduction="none")
    assert loss(logits, targets).item() == pytest.approx((loss.weights[targets] * each).mean().item(), rel=1e-5)

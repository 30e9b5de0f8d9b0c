"""Mixup and cutmix: the shares of the labels are the shares of the pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.mixing import mix


def batch(n: int = 6, channels: int = 3, side: int = 16, classes: int | None = None) -> tuple[Tensor, Tensor]:
    """Image i has the value 40 i everywhere and is of class i (or i modulo ``classes``)."""
    values = torch.arange(n, dtype=torch.uint8) * 40
    images = values.reshape(n, 1, 1, 1).repeat(1, side, side, channels).permute(0, 3, 1, 2)
    return images, torch.arange(n) % (classes or n)


def test_off_is_no_change() -> None:
    images, targets = batch()
    state = torch.get_rng_state()
    mixed, soft = mix(images, targets, 6, mixup=0.0, cutmix=0.0)
    assert mixed is images
    assert torch.equal(soft, torch.eye(6))
    assert torch.equal(state, torch.get_rng_state()), "nothing is drawn"


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_labels_have_the_shares_of_the_pixels(mixup: float, cutmix: float, seed: int) -> None:
    torch.manual_seed(seed)
    images, targets = batch()
    before = images.clone()
    mixed, soft = mix(images, targets, 6, mixup=mixup, cutmix=cutmix)
    assert torch.equal(images, before), "the batch that was given is left as it is"
    assert mixed.shape == images.shape
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert soft.dtype == torch.float32
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(6))
    # Images are flat, so the mean of a mixed one is the mean of both values with the shares of the labels.
    torch.testing.assert_close(mixed.float().mean(dim=(1, 2, 3)), soft @ (40.0 * torch.arange(6)), atol=1e-3, rtol=1e-5)


def test_mixup_blends_every_pixel_alike() -> None:
    torch.manual_seed(1)
    images, targets = batch()
    mixed, soft = mix(images, targets, 6, mixup=1.0, cutmix=0.0)
    assert mixed.dtype == torch.float32
    assert (mixed.amax(dim=(1, 2, 3)) - mixed.amin(dim=(1, 2, 3))).max() < 1e-4
    assert ((soft > 0) & (soft < 1)).any()


def test_cutmix_puts_one_rectangle_in() -> None:
    torch.manual_seed(2)
    images, targets = batch(side=40)
    boxes = set()
    for _ in range(20):
        mixed, soft = mix(images, targets, 6, mixup=0.0, cutmix=1.0)
        assert mixed.dtype == torch.uint8
        for number in range(6):
            foreign = (mixed[number] != images[number]).any(dim=0)
            rows, columns = torch.where(foreign)
            if len(rows):
                height, width = int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1
                assert int(foreign.sum()) == height * width, "a rectangle"
                assert 1 - float(soft[number, number]) == pytest.approx(height * width / 1600, abs=1e-6)
                boxes.add((int(rows.min()), int(columns.min()), height, width))
    assert len(boxes) > 10, "drawn anew for every batch"


def test_shares_follow_the_beta_distribution() -> None:
    torch.manual_seed(3)
    images, targets = batch(2, 1, 1)
    shares = []
    for _ in range(600):
        _, soft = mix(images, targets, 2, mixup=0.5, cutmix=0.0)
        shares.append(float(soft[0, 0]))
    crossed = torch.tensor([share for share in shares if share != 1.0])  # half of the batches keep their own partners
    assert 230 < len(crossed) < 370
    assert abs(float(crossed.mean()) - 0.5) < 0.08
    assert abs(float(crossed.var()) - 1 / 8) < 0.03  # of Beta(a, a): 1 / (4 (2a + 1))


def test_the_mean_share_cut_out_by_cutmix_is_that_of_its_rectangles() -> None:
    torch.manual_seed(4)
    images, targets = batch(2, 1, 32)
    cut = []
    for _ in range(400):
        mixed, soft = mix(images, targets, 2, mixup=0.0, cutmix=1.0)
        cut.append(float(soft[0, 1]))
        assert float((mixed[0] != images[0]).float().mean()) == pytest.approx(cut[-1], abs=1e-6)
    # Half of the partners are others; an uncut rectangle has half the area on average, the edges take some of it.
    assert 0.12 < sum(cut) / len(cut) < 0.25


def test_both_are_drawn_where_both_are_on() -> None:
    torch.manual_seed(5)
    images, targets = batch()
    kinds = [mix(images, targets, 6, mixup=1.0, cutmix=1.0)[0].dtype for _ in range(60)]
    assert 15 < kinds.count(torch.uint8) < 45


def test_the_seed_decides_and_nothing_else() -> None:
    images, targets = batch()
    results = []
    for _ in range(2):
        torch.manual_seed(6)
        results.append([mix(images, targets, 6, mixup=0.3, cutmix=0.7) for _ in range(5)])
    for (one, soft_one), (other, soft_other) in zip(*results, strict=True):
        assert torch.equal(one, other) and torch.equal(soft_one, soft_other)


def test_one_image_meets_itself() -> None:
    images, targets = batch(1)
    for alphas in ({"mixup": 1.0, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 1.0}):
        mixed, soft = mix(images, targets, 2, **alphas)
        assert torch.equal(mixed.to(torch.uint8), images)
        assert soft.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_layout_is_kept(memory: torch.memory_format) -> None:
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8).contiguous(memory_format=memory)
    for alphas in ({"mixup": 1.0, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 1.0}):
        mixed, _ = mix(images, torch.zeros(4, dtype=torch.int64), 2, **alphas)
        assert mixed.is_contiguous(memory_format=memory)


@pytest.mark.parametrize(("mixup", "cutmix", "name"), [(-0.1, 0.0, "mixup"), (0.0, float("nan"), "cutmix")])
def test_impossible_alphas(mixup: float, cutmix: float, name: str) -> None:
    images, targets = batch()
    with pytest.raises(ValueError, match=rf"augmentation\.{name}="):
        mix(images, targets, 6, mixup=mixup, cutmix=cutmix)

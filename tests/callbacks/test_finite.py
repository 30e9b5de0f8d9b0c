"""A run that has gone wrong ends at once, says where, and leaves no spoilt checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor

from callbacks.averaging import WeightAveraging
from callbacks.finite import FiniteLoss, NotFiniteError
from tests.callbacks.tiny_training import TinyData, TinyModule, assert_same, copied, tiny_trainer


class Spoilt(TinyModule):
    """A loss of NaN, or a gradient of NaN behind a finite loss, in one batch."""

    def __init__(self, epoch: int, batch: int, what: str = "loss") -> None:
        super().__init__()
        self.at, self.what = (epoch, batch), what

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if (self.current_epoch, batch_idx) != self.at:
            return loss
        if self.what == "loss":
            return loss * float("nan")
        weight = self.network[3].weight
        return loss + (weight - weight.detach()).abs().sqrt().sum()  # adds 0, whose slope is infinite times 0


def message_of(
    module: TinyModule, folder: Path, finite: FiniteLoss, *others: lightning.Callback, **options: Any
) -> str:
    trainer = tiny_trainer(folder, [finite, *others], **options)
    with pytest.raises(NotFiniteError) as caught:
        trainer.fit(module, datamodule=TinyData())
    return str(caught.value)


def test_a_loss_that_is_no_number_ends_the_run_before_it_does_harm(tmp_path: Path) -> None:
    module = Spoilt(1, 2)
    text = message_of(module, tmp_path, FiniteLoss())
    assert "epoch 2, batch 3, after 7 optimiser steps." in text
    assert "Images (4): image-8, image-9, image-10, image-11." in text
    assert "Inputs: finite. Weights: finite." in text
    for key in ("trainer.learning_rate", "trainer.gradient_clip", "trainer.precision=32"):
        assert key in text
    assert all(tensor.isfinite().all() for tensor in module.network.parameters())
    for name in ("best.ckpt", "last.ckpt"):
        content = torch.load(tmp_path / name, weights_only=True)
        assert content["epoch"] == 0
        assert all(tensor.isfinite().all() for key, tensor in content["state_dict"].items() if "network" in key)


@pytest.mark.parametrize(("every", "later"), [(20, 2), (2, 1), (3, 0)])
def test_where_looks_are_rare_the_first_bad_step_is_still_named(tmp_path: Path, every: int, later: int) -> None:
    # 5 steps an epoch, the third of the second epoch is bad; an epoch ends with a look, also of fewer steps.
    text = message_of(Spoilt(1, 2), tmp_path, FiniteLoss(every))
    assert "epoch 2, batch 3," in text
    assert ("steps later" in text) == (later > 0)
    if later:
        assert f"({later} steps later)" in text
    assert "image-8, image-9" in text
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0


def test_without_validation_the_end_of_the_epoch_is_early_enough(tmp_path: Path) -> None:
    text = message_of(Spoilt(1, 4), tmp_path, FiniteLoss(20), limit_val_batches=0)
    assert "epoch 2, batch 5," in text
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0


def test_weights_spoilt_by_a_gradient_are_named(tmp_path: Path) -> None:
    text = message_of(Spoilt(0, 1, "gradient"), tmp_path, FiniteLoss())
    assert "epoch 1, batch 3," in text
    assert "Inputs: finite. Weights: NOT FINITE in 1 of 6 tensors, first 3.weight." in text


def test_weights_spoilt_in_the_last_step_show_in_the_validation_scores(tmp_path: Path) -> None:
    text = message_of(Spoilt(0, 4, "gradient"), tmp_path, FiniteLoss(), WeightAveraging(0.9))
    assert text.startswith("validation scores after epoch 1 are not finite for 20 of 20 images. Images (20): image-0, ")
    assert "image-9, and 10 more." in text
    assert "Weights: NOT FINITE" in text
    assert not list(tmp_path.glob("*.ckpt"))


def test_bad_inputs_are_told_from_bad_training(tmp_path: Path) -> None:
    data = TinyData()
    data.rows.features[6, 1] = float("inf")
    trainer = tiny_trainer(tmp_path, [FiniteLoss()])
    with pytest.raises(NotFiniteError, match=r"batch 2, .*image-6.* Inputs: NOT FINITE\. Weights: finite\."):
        trainer.fit(TinyModule(), datamodule=data)


def test_a_step_size_that_is_far_too_large_is_caught(tmp_path: Path) -> None:
    class Wild(TinyModule):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.network.parameters(), lr=1e30)

    assert "Try a lower trainer.learning_rate" in message_of(Wild(), tmp_path, FiniteLoss())


@pytest.mark.parametrize("part", ["validation", "test"])
def test_scores_of_a_finished_model_are_checked_too(part: str) -> None:
    class OneBad(TinyModule):
        def collected(self) -> tuple[Any, Any]:
            rows, scores = super().collected()
            scores[7] = float("nan")
            return rows, scores

    trainer = tiny_trainer(None, [FiniteLoss()])
    run = trainer.validate if part == "validation" else trainer.test
    with pytest.raises(
        ValueError, match=rf"^{part} scores are not finite for 1 of 20 images\. Images \(1\): image-7\."
    ):
        run(OneBad(), datamodule=TinyData(), verbose=False)


def test_a_good_run_is_left_alone() -> None:
    module, plain = TinyModule(), TinyModule()
    trainer = tiny_trainer(None, [FiniteLoss()])
    trainer.fit(module, datamodule=TinyData())
    trainer.test(module, datamodule=TinyData(), verbose=False)
    tiny_trainer(None, []).fit(plain, datamodule=TinyData())
    assert_same(copied(module.network), copied(plain.network))


def test_overflow_under_loss_scaling_is_no_reason_to_stop() -> None:
    module = TinyModule()
    before = copied(module.network[3])
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    trainer = tiny_trainer(None, [FiniteLoss()], plugins=[plugin], max_epochs=1)
    trainer.fit(module, datamodule=TinyData())
    assert scaler.get_scale() < 2.0**30, "every step overflowed or none: the test has to meet overflowing gradients"
    assert scaler.get_scale() == 2.0**25
    assert_same(copied(module.network[3]), before)

"""Number formats agree within the noise of training; loss scaling survives a resume; compiling renames nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as lightning
import timm
import torch
from pytorch_lightning.plugins.precision import MixedPrecision as MixedPrecisionPlugin
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from callbacks.averaging import WeightAveraging
from callbacks.finite import FiniteLoss, NotFiniteError
from callbacks.mixed_precision import MixedPrecision, PrecisionChoice
from tests.callbacks.tiny_training import TinyData, TinyModule, assert_same, copied, tiny_trainer

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
SEEDS = (0, 1, 2)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose time by sharing their work out."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stripes(seed: int, count: int, size: int) -> DataLoader[Any]:
    """Batches of noisy stripes, 8 x 8 pixels: lying in class 1, upright in class 0."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 2
    wave = torch.where(torch.arange(8) % 2 == 0, 0.35, -0.35)
    lying, upright = wave.view(8, 1).expand(8, 8), wave.view(1, 8).expand(8, 8)
    images = torch.where(targets.view(-1, 1, 1) == 1, lying, upright) + torch.randn(count, 8, 8, generator=generator)
    batches: Any = list(zip(images.unsqueeze(1).split(size), targets.float().split(size), strict=True))
    return DataLoader(batches, batch_size=None)


class TinyCNN(lightning.LightningModule):
    """Trains in the Trainer's precision and validates in float32, as ImageClassifier does."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.network = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1)
        )
        self.formats: set[torch.dtype] = set()
        self.losses: list[Tensor] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        logits = self.network(batch[0]).squeeze(1)
        self.formats.add(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits.float(), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        with torch.autocast(self.device.type, enabled=False):
            logits = self.network(batch[0]).squeeze(1)
        assert logits.dtype == torch.float32
        self.losses.append(functional.binary_cross_entropy_with_logits(logits, batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=0.02)


def final_losses(precision: Any, accelerator: str, dtype: torch.dtype) -> np.ndarray[Any, Any]:
    """Validation loss of each seed after 60 steps."""
    found = []
    for seed in SEEDS:
        module = TinyCNN(seed)
        options = {"max_epochs": 10, "check_val_every_n_epoch": 10, "precision": precision, "accelerator": accelerator}
        tiny_trainer(None, [], **options).fit(module, stripes(seed, 96, 16), stripes(seed + 100, 200, 200))
        assert module.formats == {dtype}, "training must have run in the format that was asked for"
        assert {parameter.dtype for parameter in module.network.parameters()} == {torch.float32}
        found.append(float(module.losses[-1]))
    return np.array(found)


def assert_formats_agree(accelerator: str, tested: tuple[tuple[str, torch.dtype], ...]) -> None:
    """Means over seeds differ by less than what the choice of the seed changes."""
    full = final_losses("32-true", accelerator, torch.float32)
    assert (full < 0.45).all(), "the network has to have learnt: chance is 0.69"
    for precision, dtype in tested:
        mixed = final_losses(precision, accelerator, dtype)
        standard_error = full.std(ddof=1) / np.sqrt(len(SEEDS))
        assert abs(mixed.mean() - full.mean()) < standard_error, (full, mixed)
        # The same seed has the same initial weights and batches, so that only rounding is left. Measured: below 0.001.
        assert np.abs(mixed - full).max() < 0.01, (full, mixed)
        assert (mixed != full).any()


def test_bfloat16_and_float32_agree_within_the_noise_of_seeds() -> None:
    assert_formats_agree("cpu", (("bf16-mixed", torch.bfloat16),))


@pytest.mark.gpu
@needs_cuda
def test_all_formats_agree_on_a_gpu() -> None:
    assert_formats_agree("gpu", (("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)))


def scaled_trainer(folder: Path, accelerator: str, epochs: int) -> lightning.Trainer:
    """float16 with a loss scale so large that the first steps overflow and halve it."""
    device = "cuda" if accelerator == "gpu" else "cpu"
    scaler = torch.amp.GradScaler(device, init_scale=2.0**22, growth_interval=4)
    plugins = [MixedPrecisionPlugin("16-mixed", device, scaler)]
    callbacks: list[lightning.Callback] = [WeightAveraging(0.9), MixedPrecision(PrecisionChoice("16-mixed", "test"))]
    return tiny_trainer(folder, callbacks, accelerator=accelerator, plugins=plugins, max_epochs=epochs)


def assert_loss_scale_survives_a_resume(folder: Path, accelerator: str) -> None:
    """The scale and its counter are in the checkpoint, and a resumed run ends where an uninterrupted one does."""
    whole, parts = TinyModule(), TinyModule()
    trainer = scaled_trainer(folder / "whole", accelerator, 4)
    trainer.fit(whole, datamodule=TinyData())
    scaled_trainer(folder / "parts", accelerator, 2).fit(TinyModule(), datamodule=TinyData())
    middle = torch.load(folder / "parts" / "last.ckpt", weights_only=True)["MixedPrecision"]
    assert 1 < middle["scale"] < 2.0**22, "the scale has to have moved by then, or restoring it shows nothing"
    resumed = scaled_trainer(folder / "parts", accelerator, 4)
    resumed.fit(parts, datamodule=TinyData(), ckpt_path=folder / "parts" / "last.ckpt", weights_only=True)
    ends = [torch.load(folder / name / "last.ckpt", weights_only=True) for name in ("whole", "parts")]
    assert ends[0]["MixedPrecision"] == ends[1]["MixedPrecision"]
    assert "train/loss_scale" in trainer.callback_metrics
    assert_same(copied(whole.network), copied(parts.network))


def test_loss_scale_survives_a_resume(tmp_path: Path) -> None:
    assert_loss_scale_survives_a_resume(tmp_path, "cpu")


@pytest.mark.gpu
@needs_cuda
def test_loss_scale_survives_a_resume_on_a_gpu(tmp_path: Path) -> None:
    assert_loss_scale_survives_a_resume(tmp_path, "gpu")


def test_compiling_in_place_renames_nothing() -> None:
    network = timm.create_model("test_resnet", num_classes=1)
    before = copied(network)
    network.compile()  # nothing is compiled before the first forward pass
    assert_same(copied(network), before)
    assert not [name for name in network.state_dict() if "_orig_mod" in name]
    network.load_state_dict(timm.create_model("test_resnet", num_classes=1).state_dict())


@pytest.mark.gpu
@needs_cuda
def test_a_compiled_run_leaves_the_checkpoint_of_a_plain_one(tmp_path: Path) -> None:
    contents = []
    for name in ("plain", "compiled"):
        module = TinyModule()
        if name == "compiled":
            module.network.compile()
        trainer = tiny_trainer(tmp_path / name, [WeightAveraging(0.9), FiniteLoss()], accelerator="gpu")
        trainer.fit(module, datamodule=TinyData())
        contents.append(torch.load(tmp_path / name / "last.ckpt", weights_only=True, map_location="cpu"))
    plain, compiled = contents
    assert plain["state_dict"].keys() == compiled["state_dict"].keys()
    for key, tensor in plain["state_dict"].items():
        torch.testing.assert_close(compiled["state_dict"][key], tensor, rtol=0.01, atol=0.01, equal_nan=True)
    TinyModule().load_state_dict(compiled["state_dict"])


@pytest.mark.gpu
@needs_cuda
def test_a_bad_loss_on_a_gpu_is_found_before_validation(tmp_path: Path) -> None:
    class Spoilt(TinyModule):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss * float("nan") if (self.current_epoch, batch_idx) == (1, 2) else loss

    trainer = tiny_trainer(tmp_path, [FiniteLoss()], accelerator="gpu")
    with pytest.raises(NotFiniteError, match=r"epoch 2, batch 3, .*\(2 steps later\)\. Images \(4\): image-8"):
        trainer.fit(Spoilt(), datamodule=TinyData())
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0

"""The LightningModule: plain hyperparameters, probabilities in float32, a threshold that travels with the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as lightning
import torch
from pytorch_lightning.trainer.states import TrainerFn
from sklearn.metrics import roc_auc_score

from lightning_modules import ImageClassifier

MODEL = {
    "name": "simple_cnn",
    "image_size": 16,
    "channels": 1,
    "filters": [4],
    "hidden": [8],
    "dropout": 0.5,
    "mean": [0.0],
    "std": [1.0],
}
TRAINER = {
    "max_epochs": 2,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "momentum": 0.9,
    "schedule": "constant",
    "warmup": 0.0,
    "final_rate": 0.01,
    "plateau_patience": 2,
    "monitor": "val/auroc",
    "accumulate": 1,
}


def classifier(positive: str = "B") -> ImageClassifier:
    torch.manual_seed(0)
    return ImageClassifier(MODEL, ["A", "B"], [positive], TRAINER)


def batch(count: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 16, 16), dtype=torch.uint8, generator=generator)
    return {"image": images, "target": torch.arange(count) % 2, "row": torch.arange(count).flip(0)}


def test_hyperparameters_are_plain_and_checkpoints_load_safely(tmp_path: Path) -> None:
    module = classifier()
    module.threshold.fill_(0.123456789012345)
    trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert content["hyper_parameters"]["model"] == MODEL
    loaded = ImageClassifier.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True, map_location="cpu")
    assert float(loaded.threshold) == 0.123456789012345
    images = batch()["image"]
    assert torch.equal(loaded.eval()(images), module.eval()(images))


def test_threshold_is_unset_until_it_is_fixed() -> None:
    assert np.isnan(float(classifier().threshold))


def test_positive_must_be_a_class() -> None:
    with pytest.raises(ValueError, match="'C'"):
        ImageClassifier(MODEL, ["A", "B"], ["C"], TRAINER)


@pytest.mark.parametrize("positive", ["A", "B"])
def test_evaluation_collects_float32_probabilities_in_row_order(positive: str) -> None:
    module = classifier(positive).eval()
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    module.on_validation_epoch_start()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        module.validation_step(batch(), 0)
    rows, probabilities = module.collected()
    assert rows.tolist() == list(range(6))
    scores = probabilities[:, ["A", "B"].index(positive)]
    assert (probabilities.sum(axis=1) == 1.0).all()
    with torch.no_grad():
        exact = torch.sigmoid(module(batch()["image"])).flip(0).double().numpy()
    assert (scores == exact).all(), "evaluation must not run in the training step's bfloat16"
    assert (scores.astype(np.float32).astype(np.float64) == scores).all()
    targets = (batch()["target"].flip(0).numpy() == ["A", "B"].index(positive)).astype(int)
    assert float(module.val_auroc.compute()) == pytest.approx(roc_auc_score(targets, scores), abs=1e-6)


def test_training_step_lowers_the_loss() -> None:
    module = classifier()
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    optimiser = module.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(250):
        loss = module.training_step(batch(), 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_the_loss_of_an_epoch_is_the_mean_over_its_images_and_logged_once(tmp_path: Path) -> None:
    losses, logged = [], []

    class Noting(ImageClassifier):
        def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
            loss = super().training_step(batch, batch_idx)
            losses.append((loss.item(), len(batch["target"])))
            return loss

        def log(self, name: str, value: object, **options: object) -> None:  # type: ignore[override]
            logged.append(name)
            super().log(name, value, **options)  # type: ignore[arg-type]

    torch.manual_seed(0)
    module = Noting(MODEL, ["A", "B"], ["B"], TRAINER)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    loader = torch.utils.data.DataLoader([batch(6), batch(6), batch(3)], batch_size=None)  # type: ignore[arg-type,var-annotated]
    trainer.fit(module, loader)
    expected = sum(loss * images for loss, images in losses[3:]) / sum(images for _, images in losses[3:])
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(expected, rel=1e-6)
    assert logged == ["train/loss", "train/auroc"] * 2


def test_views_are_averaged_after_training_only() -> None:
    class State:
        fn = TrainerFn.FITTING

    class FakeTrainer:
        state = State()

    torch.manual_seed(0)
    module = ImageClassifier(MODEL, ["A", "B"], ["B"], TRAINER, tta="dihedral").eval()
    module._trainer = FakeTrainer()  # type: ignore[assignment]
    with torch.no_grad():
        images = batch()["image"]
        assert torch.equal(module._evaluation_logits(batch()), module(images))
        State.fn = TrainerFn.TESTING
        scores = module._evaluation_logits(batch()).sigmoid()
        expected = torch.stack(
            [
                module(view.rot90(turns, (2, 3)).contiguous()).sigmoid()
                for view in (images, images.flip(3))
                for turns in range(4)
            ]
        ).mean(0)
    assert torch.allclose(scores, expected, atol=1e-6)
    assert not torch.allclose(scores, module(images).sigmoid(), atol=1e-6), "this network sees no turns"


def test_cached_features_give_the_loss_of_the_images() -> None:
    module = classifier().eval()
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    from_images = module.training_step(batch(), 0)
    with torch.no_grad():
        features = module.trunk_features(batch()["image"])
    given = {name: value for name, value in batch().items() if name != "image"} | {"features": features}
    assert module.training_step(given, 0).item() == pytest.approx(from_images.item(), abs=1e-6)


def test_mixing_changes_the_loss_and_not_the_labels_of_the_metric() -> None:
    torch.manual_seed(0)
    module = ImageClassifier(MODEL, ["A", "B"], ["B"], TRAINER, mixing={"mixup": 1.0, "cutmix": 0.0}).train()
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    module.training_step(batch(), 0)
    assert torch.cat(list(module.train_auroc.target)).tolist() == batch()["target"].tolist()


def test_a_frozen_trunk_takes_no_gradient() -> None:
    stages = {"name": "frozen", "head_epochs": 0, "blocks": None, "block_epochs": 1, "frozen_blocks": 0}
    module = ImageClassifier(
        MODEL, ["A", "B"], ["B"], TRAINER, finetune={**stages, "head_learning_rate": None, "layer_decay": 1.0}
    )
    assert not module.trunk_features(batch()["image"]).requires_grad
    optimiser = module.configure_optimizers()["optimizer"]
    held = {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in module.network.parameters() if parameter.requires_grad}
    assert len(held) < len(list(module.network.parameters()))

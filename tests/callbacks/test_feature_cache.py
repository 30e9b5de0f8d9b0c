"""Cached features change nothing but the time: same losses, same predictions, and the trunk runs once."""

from __future__ import annotations

import logging
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.nn import functional

from callbacks.feature_cache import build_feature_store, trunk_key
from datamodules import features as features_file
from datamodules.datamodule import ImageDataModule
from datamodules.features import FeatureStore
from datamodules.manifest import Manifest
from datamodules.splits import Splits
from models.blocks import Block, BlockNetwork

AUGMENT = {"name": "some", "rotate": 20.0, "brightness": 0.3}
IMAGES, SIZE = 70, 12


class TinyNetwork(BlockNetwork):
    """A trunk with BatchNorm and dropout, which only eval mode makes a function of the image."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(2)
        )
        self.head = nn.Sequential(nn.Linear(16, hidden), nn.ReLU(), nn.Linear(hidden, 2))

    def blocks(self) -> list[Block]:
        parts = (("stem", self.trunk, "trunk"), ("head", self.head, "head"))
        return [
            Block(name, tuple(f"{prefix}.{key}" for key, _ in part.named_parameters())) for name, part, prefix in parts
        ]

    def trunk_modules(self) -> list[nn.Module]:
        return [self.trunk]

    def features(self, images: Tensor) -> Tensor:
        return self.trunk(images).flatten(1)

    def classify(self, features: Tensor, metadata: Tensor | None = None) -> Tensor:
        return self.head(features)


class TinyModule(lightning.LightningModule):
    """Trains the head of a frozen trunk, and writes down what every batch brought."""

    def __init__(self, model: dict[str, Any], thaw_at: int = 100) -> None:
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(model["seed"])
        self.network = TinyNetwork(model["hidden"])
        statistics = self.network.trunk[1]
        assert isinstance(statistics, nn.BatchNorm2d)
        statistics.running_mean = torch.tensor([0.1, -0.2, 0.0, 0.3])
        self.network.set_trainable(["head"])
        self.thaw_at = thaw_at
        self.trunk_calls = 0
        self.losses: list[float] = []
        self.seen: list[tuple[str, int, str]] = []
        self.batches: list[dict[str, Tensor]] = []
        self.scores: list[Tensor] = []

    def trunk_features(self, images: Tensor) -> Tensor:
        self.trunk_calls += 1
        return self.network.features(images.float() / 255)

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == self.thaw_at:
            self.network.set_trainable(["stem", "head"])

    def logits(self, batch: dict[str, Tensor], part: str) -> Tensor:
        self.seen.append((part, self.current_epoch, "features" if "features" in batch else "image"))
        self.batches.append(batch)
        return self.network.classify(
            batch["features"] if "features" in batch else self.network.features(batch["image"].float() / 255)
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = functional.cross_entropy(self.logits(batch, "train"), batch["target"])
        self.losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.scores.append(self.logits(batch, "val").softmax(dim=1))

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.logits(batch, "test")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.network.parameters(), lr=0.1)


def module_of(seed: int = 0, hidden: int = 6, thaw_at: int = 100) -> TinyModule:
    return TinyModule({"name": "tiny", "seed": seed, "hidden": hidden}, thaw_at)


def data(
    augmentation: dict[str, Any] | None = None, *, seed: int = 0, workers: int = 0, held: int = 0, **more: Any
) -> ImageDataModule:
    """Seventy images, of which 50 train and 10 validate; ``held`` of them move from training to nowhere."""
    parts = ["train"] * (50 - held) + ["unused"] * held + ["val"] * 10 + ["test"] * 10
    order = np.random.default_rng(1).permutation(IMAGES)
    ids = [f"i{number}" for number in range(IMAGES)]
    labels = ["a" if number % 2 else "b" for number in range(IMAGES)]
    frame = pd.DataFrame({"image_id": ids, "path": ids, "label": labels, "group_id": ids, "split": "", "sha256": ids})
    frame["split"] = ""
    manifest = Manifest(frame, ("a", "b"))
    split = frame.drop(columns="path").assign(split=np.array(parts)[order])
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, SIZE, SIZE, 1), dtype=np.uint8)
    return ImageDataModule(
        manifest,
        Splits(split, manifest.sha256, {}),
        pixels,
        augmentation=augmentation or {},
        batch_size=16,
        num_workers=workers,
        seed=seed,
        **more,
    )


def trainer_of(epochs: int, folder: Path, **more: Any) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **more,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_the_head_trains_on_cached_features_as_on_images(tmp_path: Path, workers: int) -> None:
    plain, cached = module_of(), module_of()
    trainer_of(3, tmp_path).fit(plain, datamodule=data())
    source = data(workers=workers)
    store = build_feature_store(cached, source, views=1, folder=tmp_path / "features")
    source.use_features(store, 3)
    trainer = trainer_of(3, tmp_path)
    trainer.fit(cached, datamodule=source)
    assert {kind for _, _, kind in plain.seen} == {"image"}
    assert {kind for _, _, kind in cached.seen} == {"features"}
    assert len(plain.losses) == 3 * source.batches_per_epoch == 12
    np.testing.assert_allclose(cached.losses, plain.losses, rtol=0, atol=2e-6)
    np.testing.assert_allclose(torch.cat(cached.scores), torch.cat(plain.scores), rtol=0, atol=2e-6)
    for name, tensor in plain.network.trunk.state_dict().items():
        assert torch.equal(tensor, cached.network.trunk.state_dict()[name]), name
    during = torch.cat(cached.scores[-1:])
    trainer.validate(cached, datamodule=source, verbose=False)
    trainer.test(cached, datamodule=source, verbose=False)
    after = [(part, kind) for part, _, kind in cached.seen if part != "train"][-2:]
    assert after == [("val", "image"), ("test", "image")], "the final scores always come from images"
    np.testing.assert_allclose(during, cached.scores[-1], rtol=0, atol=2e-6)


def test_validate_uses_images_also_when_training_stopped_within_the_frozen_epochs(tmp_path: Path) -> None:
    module, source = module_of(), data()
    source.use_features(build_feature_store(module, source, views=1, folder=tmp_path), 50)
    trainer = trainer_of(1, tmp_path)
    trainer.fit(module, datamodule=source)
    assert next(iter(source.val_dataloader())).keys() == {"image", "target", "row"}, "nobody fits any more"
    trainer.validate(module, datamodule=source, verbose=False)
    assert module.seen[-1] == ("val", 1, "image")


@pytest.mark.parametrize("workers", [0, 1])
def test_images_come_back_when_the_trunk_thaws_and_views_take_turns(tmp_path: Path, workers: int) -> None:
    module, source = module_of(thaw_at=3), data(AUGMENT, workers=workers)
    store = build_feature_store(module, source, views=2, folder=tmp_path)
    source.use_features(store, 3)
    trainer_of(5, tmp_path).fit(module, datamodule=source)
    kinds = {(part, epoch): kind for part, epoch, kind in module.seen}
    assert kinds == {
        (part, epoch): "features" if epoch < 3 else "image" for part in ("train", "val") for epoch in range(5)
    }
    assert store.train.array.shape == (2, 50, 16)
    for (part, epoch, kind), batch in zip(module.seen, module.batches, strict=True):
        if kind == "features":
            rows, view = (store.train_rows, epoch % 2) if part == "train" else (store.val_rows, 0)
            kept = (store.train if part == "train" else store.val).array[view]
            np.testing.assert_array_equal(batch["features"], kept[np.searchsorted(rows, batch["row"])])
    np.testing.assert_array_equal(store.val.array[0], plain_features(module_of(), source, store.val_rows))
    assert (store.train.array[0] != store.train.array[1]).any(axis=1).all()


def plain_features(module: TinyModule, source: ImageDataModule, rows: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        images = torch.from_numpy(source.pixels[rows]).permute(0, 3, 1, 2)
        return module.eval().trunk_features(images).numpy()


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole, source = module_of(thaw_at=3), data(AUGMENT, workers=1)
    source.use_features(build_feature_store(whole, source, views=2, folder=tmp_path), 3)
    trainer_of(4, tmp_path).fit(whole, datamodule=source)

    first, source = module_of(thaw_at=3), data(AUGMENT, workers=1)
    source.use_features(build_feature_store(first, source, views=2, folder=tmp_path), 3)
    trainer = trainer_of(2, tmp_path)
    trainer.fit(first, datamodule=source)
    trainer.save_checkpoint(tmp_path / "last.ckpt")

    second, source = module_of(thaw_at=3), data(AUGMENT, workers=1)
    source.use_features(build_feature_store(second, source, views=2, folder=tmp_path), 3)
    assert second.trunk_calls == 0
    source.first_epoch = 2
    trainer_of(4, tmp_path).fit(second, datamodule=source, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert first.losses + second.losses == whole.losses
    assert second.seen[0] == ("train", 2, "features")


def test_the_trunk_runs_once_for_all_heads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "firstread")
    module, counted = module_of(), Counter[str]()
    store = build_feature_store(module, data(), views=5, folder=tmp_path, batch_size=8, progress=counting(counted))
    assert store.views == 1, "without augmentation all views are one"
    assert module.trunk_calls == 7 + 2
    assert counted == {"features of the frozen trunk": 60}
    assert "computed for 60 images" in caplog.text
    before = store.path.stat()
    for other in (module_of(), module_of(hidden=9)):
        if other.network.head[0].out_features == 9:
            other.network.trunk.load_state_dict(module.network.trunk.state_dict())
        again = build_feature_store(other, data(seed=4), views=1, folder=tmp_path)
        assert again.path == store.path
        assert other.trunk_calls == 0
    assert store.path.stat() == before
    assert "from an earlier run" in caplog.text


def counting(counts: Counter[str]) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def progress(title: str, total: int) -> Any:
        def advance(number: int) -> None:
            counts[title] += number

        yield advance
        assert counts[title] == total

    return progress


def test_whatever_decides_the_features_is_another_file(tmp_path: Path) -> None:
    module = module_of()
    weights, statistics = module_of(), module_of()
    with torch.no_grad():
        weights.network.trunk[0].weight[0, 0, 0, 0] += 1e-6
        statistics.network.trunk[1].running_var[0] += 1e-6
    other_pixels = data()
    other_pixels.pixels = other_pixels.pixels.copy()
    other_pixels.pixels[0, 0, 0, 0] ^= 1
    stores = [
        build_feature_store(trunk, source, views=views, folder=tmp_path, batch_size=size)
        for trunk, source, views, size in (
            (module, data(), 1, 64),
            (weights, data(), 1, 64),
            (statistics, data(), 1, 64),
            (module, data(held=1), 1, 64),
            (module, other_pixels, 1, 64),
            (module, data(AUGMENT), 1, 64),
            (module, data(AUGMENT), 2, 64),
            (module, data(AUGMENT), 1, 32),
            (module, data(AUGMENT, seed=1), 1, 64),
            (module, data({**AUGMENT, "rotate": 21.0}), 1, 64),
        )
    ]
    assert len({store.path for store in stores}) == len(stores)
    named = build_feature_store(module, data({**AUGMENT, "name": "else", "mixup": 0.2}), views=2, folder=tmp_path)
    assert named.path == stores[6].path, "what a preset is called decides nothing"
    model = {"name": "tiny", "seed": 0, "hidden": 6}
    keys = {trunk_key(TinyModule({**model, name: 1})) for name in ("mean", "dropout", "metadata")}
    assert len(keys) == 2, "the head's settings leave the trunk alone, the normalisation does not"


@pytest.mark.parametrize("workers", [0, 1])
def test_the_module_and_the_random_states_come_back_as_they_were(tmp_path: Path, workers: int) -> None:
    module = module_of()
    module.train()
    module.network.head.eval()  # an odd mixture, to be found again
    flags = [part.training for part in module.modules()]
    tensors = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    torch.manual_seed(3)
    np.random.seed(4)  # noqa: NPY002 - the global state is what is tested
    random.seed(5)
    expected = (torch.rand(1), np.random.random(), random.random())  # noqa: NPY002
    torch.manual_seed(3)
    np.random.seed(4)  # noqa: NPY002
    random.seed(5)
    build_feature_store(module, data(AUGMENT, workers=workers), views=2, folder=tmp_path, device="cpu")
    assert (torch.rand(1), np.random.random(), random.random()) == expected  # noqa: NPY002
    assert [part.training for part in module.modules()] == flags
    assert not module.network.trunk[1].training, "the frozen trunk rests"
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name
    assert all(not part.is_inference() for part in module.parameters())


def test_the_features_are_those_of_eval_mode_even_before_the_trunk_is_frozen(tmp_path: Path) -> None:
    module, source = module_of(), data()
    module.network.set_trainable(["stem", "head"])
    module.train()
    store = build_feature_store(module, source, views=1, folder=tmp_path)
    assert module.network.trunk.training
    np.testing.assert_array_equal(store.val.array[0], plain_features(module_of(), source, store.val_rows))


def test_metadata_travels_beside_features_and_images(tmp_path: Path) -> None:
    metadata = np.arange(2 * IMAGES, dtype=np.float32).reshape(IMAGES, 2)
    module, source = module_of(thaw_at=1), data(metadata=metadata)
    source.use_features(build_feature_store(module, source, views=1, folder=tmp_path), 1)
    trainer = trainer_of(2, tmp_path)
    trainer.fit(module, datamodule=source)
    trainer.test(module, datamodule=source, verbose=False)
    assert {kind for _, _, kind in module.seen} == {"image", "features"}
    for batch in module.batches:
        assert batch["metadata"].dtype == torch.float32
        np.testing.assert_array_equal(batch["metadata"].numpy(), metadata[batch["row"].numpy()])
    with pytest.raises(ValueError, match=r"shape \(3, 2\), but there are 70 images"):
        data(metadata=metadata[:3])


def test_workers_make_the_same_views(tmp_path: Path) -> None:
    stores = [
        build_feature_store(module_of(), data(AUGMENT, workers=workers), views=2, folder=tmp_path / str(workers))
        for workers in (0, 2)
    ]
    assert stores[0].path.read_bytes() == stores[1].path.read_bytes()


def test_a_killed_build_leaves_nothing_and_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, source = module_of(), data()

    def killed(images: Tensor) -> Tensor:
        if module.trunk_calls == 2:
            raise KeyboardInterrupt
        return TinyModule.trunk_features(module, images)

    monkeypatch.setattr(module, "trunk_features", killed)
    module.train()
    with pytest.raises(KeyboardInterrupt):
        build_feature_store(module, source, views=1, folder=tmp_path, batch_size=8)
    assert not list(tmp_path.glob("*.npy")) + list(tmp_path.glob(".*.npy")) + list(tmp_path.glob("*.json"))
    assert module.training and module.network.head.training
    monkeypatch.undo()
    left_by_a_kill = tmp_path / f".{expected_path(module, source, tmp_path).stem}.999999.npy"
    left_by_a_kill.write_bytes(b"half")
    store = build_feature_store(module, source, views=1, folder=tmp_path)
    assert store.complete
    assert not left_by_a_kill.exists()
    store.path.write_bytes(store.path.read_bytes()[:-4])
    assert not store.complete
    calls = module.trunk_calls
    assert build_feature_store(module, source, views=1, folder=tmp_path).complete
    assert module.trunk_calls > calls, "a damaged file is made again"


def expected_path(module: TinyModule, source: ImageDataModule, folder: Path) -> Path:
    return source.feature_store(folder, trunk=trunk_key(module), views=1, batch_size=64).path


def test_features_that_do_not_fit_the_disk_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    module, source = module_of(), data(AUGMENT)
    of_a_view = 4 * 16 * 50
    monkeypatch.setattr(features_file.shutil, "disk_usage", lambda folder: SimpleNamespace(free=3 * of_a_view))
    with pytest.raises(
        ValueError, match=r"finetune\.views=9: 16 features of 460 images take 0\.00 GB.*Set finetune\.views=2"
    ):
        build_feature_store(module, source, views=9, folder=tmp_path)
    assert not list(tmp_path.glob("*.npy")) + list(tmp_path.glob(".*.npy"))
    monkeypatch.setattr(features_file.shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
    with pytest.raises(ValueError, match=r"finetune\.views=1.*Set finetune\.views=0"):
        build_feature_store(module, source, views=1, folder=tmp_path)
    with pytest.raises(ValueError, match=r"finetune\.views=0: .* at least 1 view"):
        build_feature_store(module, data(), views=0, folder=tmp_path)


def test_features_of_another_split_or_half_made_ones_are_refused(tmp_path: Path) -> None:
    module, source = module_of(), data()
    store: FeatureStore = source.feature_store(tmp_path, trunk=trunk_key(module), views=1, batch_size=64)
    with pytest.raises(ValueError, match="not complete"):
        source.use_features(store, 1)
    store = build_feature_store(module, source, views=1, folder=tmp_path)
    with pytest.raises(ValueError, match="another split"):
        data(held=2).use_features(store, 1)

"""Staged unfreezing through real, small fits: what rests does not move by a bit, and a resumed run is the same run."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from callbacks.tensorboard_review import EpochLogger
from callbacks.unfreezing import StagedUnfreezing
from models.blocks import HEAD, Block, BlockNetwork
from models.optimisation import block_rates, build_optimizer, build_schedule
from models.stages import Stage, plan_stages

BATCHES = 3
AUROC = (0.5, 0.7, 0.6, 0.6, 0.65, 0.6, 0.6, 0.6)  # of the epochs: what a plateau schedule is shown


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are slower on several threads, many times so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class TinyNetwork(BlockNetwork):
    """Three blocks with BatchNorm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
        self.layer1 = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.output = nn.Linear(4, 1)

    def blocks(self) -> list[Block]:
        named = [*((name, name) for name in ("stem", "layer1", "layer2")), (HEAD, "output")]
        return [
            Block(name, tuple(f"{own}.{key}" for key, _ in getattr(self, own).named_parameters()))
            for name, own in named
        ]

    def trunk_modules(self) -> list[nn.Module]:
        return [self.stem, self.layer1, self.layer2]

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.layer2(self.layer1(self.stem(images))).mean(dim=(2, 3))
        return features

    def classify(self, features: Tensor, metadata: Tensor | None = None) -> Tensor:
        logits: Tensor = self.output(features)
        return logits


class TinyModule(lightning.LightningModule):
    """What the callback relies on, and notes on what happened."""

    def __init__(self, options: dict[str, Any], stages: list[Stage], layer_decay: float) -> None:
        super().__init__()
        self.network = TinyNetwork()
        self.options, self.stage, self.layer_decay = options, stages[0], layer_decay
        self.steps: list[tuple[int, bool]] = []  # epoch, and whether the features had an autograd graph
        self.rates: list[dict[str, float]] = []  # before every batch

    def enter_stage(self, stage: Stage) -> None:
        self.stage = stage
        self.network.set_trainable(stage.blocks)

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.network, self.stage, self.options, self.layer_decay)
        steps = math.ceil(BATCHES / self.options["accumulate"]) * self.stage.epochs
        schedule = build_schedule(optimizer, self.options, steps, self.stage.epochs)
        return {"optimizer": optimizer, **({"lr_scheduler": schedule} if schedule else {})}

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images, targets = batch
        features = self.network.features(images)
        self.steps.append((self.current_epoch, features.requires_grad))
        self.rates.append(block_rates(self.trainer.optimizers[0]))
        logits = self.network.classify(features).squeeze(1)
        return nn.functional.binary_cross_entropy_with_logits(logits, targets)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.network(batch[0])
        self.log("val/auroc", AUROC[self.current_epoch])


class Witness(lightning.Callback):
    """Copies of the network's state before each epoch and after its last step."""

    def __init__(self) -> None:
        self.before: dict[int, dict[str, Tensor]] = {}
        self.after: dict[int, dict[str, Tensor]] = {}
        self.held: dict[int, bool] = {}  # whether the optimiser held exactly what trains

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.before[trainer.current_epoch] = state(pl_module)
        held = [id(parameter) for group in trainer.optimizers[0].param_groups for parameter in group["params"]]
        training = [id(parameter) for parameter in pl_module.parameters() if parameter.requires_grad]
        self.held[trainer.current_epoch] = sorted(held) == sorted(training)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.after[trainer.current_epoch] = state(pl_module)

    def moved(self, epoch: int) -> set[str]:
        """Names of the parameters and buffers that an epoch changed in any bit."""
        before, after = self.before[epoch], self.after[epoch]
        return {name for name in before if not torch.equal(before[name], after[name])}


def state(module: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.network.state_dict().items()}


class Fit:
    """One training of a few steps on random images."""

    def __init__(
        self,
        folder: Path,
        finetune: dict[str, Any],
        *,
        resume: Path | None = None,
        logger: Any = False,
        precision: Any = "32-true",
        accelerator: str = "cpu",
        **options: Any,
    ) -> None:
        options = {"max_epochs": 5, "learning_rate": 1e-2, "accumulate": 1, **options}
        torch.manual_seed(0)
        names = [block.name for block in TinyNetwork().blocks()]
        self.stages = plan_stages(finetune, options, names)
        torch.manual_seed(0)
        self.module = TinyModule(options, self.stages, finetune.get("layer_decay", 1.0))
        self.witness, self.folder = Witness(), folder
        saver = ModelCheckpoint(folder, "{epoch}", save_top_k=-1, every_n_epochs=1, save_on_train_epoch_end=True)
        self.trainer = lightning.Trainer(
            accelerator=accelerator,
            max_epochs=options["max_epochs"],
            accumulate_grad_batches=options["accumulate"],
            gradient_clip_val=options.get("gradient_clip"),
            precision=precision,
            callbacks=[StagedUnfreezing(self.stages), self.witness, saver],
            logger=logger,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1_000_000,
        )
        images = torch.randn(8 * BATCHES, 1, 8, 8, generator=torch.Generator().manual_seed(3)) + 5
        targets = (images.mean(dim=(1, 2, 3)) > 5).float()
        loader = DataLoader(TensorDataset(images, targets), batch_size=8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Lightning, about loaders, folders and frozen layers
            self.trainer.fit(self.module, loader, loader, ckpt_path=resume, weights_only=True)

    def checkpoint(self, epoch: int) -> Path:
        return self.folder / f"epoch={epoch}.ckpt"

    def everything(self) -> dict[str, Any]:
        """Weights, buffers, and the state of optimiser and schedule, at the end."""
        return {
            "network": state(self.module),
            "optimizer": self.trainer.optimizers[0].state_dict(),
            "schedules": [config.scheduler.state_dict() for config in self.trainer.lr_scheduler_configs],
            "steps": self.trainer.global_step,
        }


def assert_same(one: Any, other: Any, place: str = "") -> None:
    """Equal to the bit, in all depths."""
    assert type(one) is type(other), place
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{place}[{number}]")
    elif isinstance(one, Tensor):
        assert torch.equal(one, other), place
    else:
        assert one == other, place


TWO = {"name": "lp_ft", "head_epochs": 2, "head_learning_rate": 0.05, "layer_decay": 0.5}
GRADUAL = {"name": "gradual", "head_epochs": 1, "block_epochs": 1}


def test_running_statistics_of_frozen_blocks_do_not_move_and_those_of_freed_blocks_do(tmp_path: Path) -> None:
    """BatchNorm is the trap of freezing (Lightning-AI/pytorch-lightning#15062, #21531); weight decay is another."""
    done = Fit(tmp_path, TWO, weight_decay=0.1, optimizer="adamw")
    for epoch in (0, 1):
        assert done.witness.moved(epoch) == {"output.weight", "output.bias"}
    for epoch in (2, 3, 4):
        moved = done.witness.moved(epoch)
        assert {name for name in moved if "running_mean" in name} == {
            f"{b}.1.running_mean" for b in ("stem", "layer1", "layer2")
        }
        assert "stem.0.weight" in moved and "stem.1.weight" in moved and "stem.1.num_batches_tracked" in moved
    # The images have mean 5, so that a layer which was left in training mode would have moved far.
    assert float(done.witness.after[1]["stem.1.running_mean"].abs().max()) == 0.0
    assert float(done.witness.after[4]["stem.1.running_mean"].abs().max()) > 0.1


def test_gradual_unfreezing_goes_from_the_head_downwards(tmp_path: Path) -> None:
    done = Fit(tmp_path, GRADUAL, weight_decay=0.1)
    order = ["output", "layer2", "layer1", "stem"]
    for epoch in range(5):
        moved = {name.split(".")[0] for name in done.witness.moved(epoch)}
        assert moved == set(order[: epoch + 1])
    assert done.witness.held == dict.fromkeys(range(5), True)


def test_blocks_that_are_never_to_train_stay_as_they_came(tmp_path: Path) -> None:
    done = Fit(tmp_path, {"name": "two_stage", "head_epochs": 1, "frozen_blocks": 1}, max_epochs=3, weight_decay=0.1)
    assert {name.split(".")[0] for name in done.witness.moved(2)} == {"layer1", "layer2", "output"}
    assert done.witness.held == dict.fromkeys(range(3), True)


def test_a_frozen_trunk_has_no_autograd_graph(tmp_path: Path) -> None:
    done = Fit(tmp_path, TWO, max_epochs=3)
    assert done.module.steps == [(epoch, epoch == 2) for epoch in range(3) for _ in range(BATCHES)]


def test_rates_of_the_steps_are_those_of_stage_block_and_schedule(tmp_path: Path) -> None:
    """Torch's schedulers know nothing of timm's lr_scale (huggingface/pytorch-image-models#2532): rates must be real."""
    done = Fit(tmp_path, TWO, schedule="cosine", warmup=0.25, final_rate=0.1)
    head = [rates["head"] for rates in done.module.rates]
    assert [set(rates) for rates in done.module.rates] == [{"head"}] * 6 + [{"stem", "layer1", "layer2", "head"}] * 9
    # 6 steps: two to rise in, and half a cosine from the peak to a tenth of it.
    first = [1 / 3, 2 / 3] + [0.1 + 0.9 * (1 + math.cos(math.pi * step / 3)) / 2 for step in range(4)]
    second = [1 / 4, 2 / 4, 3 / 4] + [0.1 + 0.9 * (1 + math.cos(math.pi * step / 5)) / 2 for step in range(6)]
    assert head == pytest.approx([0.05 * share for share in first] + [0.01 * share for share in second])
    for rates in done.module.rates[6:]:
        assert [rates[name] / rates["head"] for name in ("layer2", "layer1", "stem")] == pytest.approx(
            [0.5, 0.25, 0.125]
        )


def test_accumulated_batches_count_as_one_step_of_the_schedule(tmp_path: Path) -> None:
    done = Fit(tmp_path, TWO, schedule="cosine", final_rate=0.1, accumulate=2)
    assert done.trainer.global_step == 2 * 5  # of three batches, two make a step, and the last one makes another
    assert done.module.rates[6]["head"] == pytest.approx(0.01)
    assert done.trainer.lr_scheduler_configs[0].scheduler.last_epoch == 2 * 3
    assert done.module.rates[-1]["head"] == pytest.approx(0.01 * 0.1)


def test_averages_go_on_for_what_goes_on_training_and_begin_anew_for_what_joins(tmp_path: Path) -> None:
    done = Fit(tmp_path, TWO)
    kept, network = done.trainer.optimizers[0].state, done.module.network
    assert float(kept[network.output.weight]["step"]) == 5 * BATCHES
    assert float(kept[network.stem[0].weight]["step"]) == 3 * BATCHES


@pytest.mark.parametrize(
    ("finetune", "options"),
    [
        (TWO, {"weight_decay": 0.01}),
        (TWO, {"schedule": "cosine", "warmup": 0.2, "optimizer": "adamw", "weight_decay": 0.1}),
        (TWO, {"schedule": "one_cycle", "optimizer": "sgd", "accumulate": 2, "gradient_clip": 1.0}),
        (GRADUAL, {"schedule": "cosine"}),
    ],
    ids=["adam", "adamw cosine", "sgd one_cycle", "gradual"],
)
def test_a_resumed_run_is_the_uninterrupted_run_to_the_bit(
    tmp_path: Path, finetune: dict[str, Any], options: dict[str, Any]
) -> None:
    """Epoch 1 of the first recipe is the last of its stage, epochs 0, 2 and 3 lie inside one; nothing freezes again."""
    whole = Fit(tmp_path / "whole", finetune, **options)
    for epoch in range(4):
        again = Fit(tmp_path / str(epoch), finetune, resume=whole.checkpoint(epoch), **options)
        assert [number for number in again.witness.before] == list(range(epoch + 1, 5))
        assert_same(again.everything(), whole.everything())
        assert again.module.rates == whole.module.rates[(epoch + 1) * BATCHES :]


def test_a_plateau_schedule_survives_a_resume_at_every_epoch(tmp_path: Path) -> None:
    """Lightning steps such a schedule after the checkpoint of the epoch is written; the checkpoint must have the step."""
    options = {"schedule": "plateau", "plateau_patience": 1, "max_epochs": 8}
    finetune = {**TWO, "head_epochs": 4}
    whole = Fit(tmp_path / "whole", finetune, **options)
    head = [rates["head"] for rates in whole.module.rates[::BATCHES]]
    # Best in epoch 2, nothing better in 3 and 4: the rate falls as the stage ends. The second counts from its own start.
    assert head == pytest.approx([0.05] * 4 + [0.01] * 3 + [0.01 / 3])
    for epoch in range(7):
        again = Fit(tmp_path / str(epoch), finetune, resume=whole.checkpoint(epoch), **options)
        assert_same(again.everything(), whole.everything())
        assert again.module.rates == whole.module.rates[(epoch + 1) * BATCHES :]
    ended = torch.load(whole.checkpoint(3), weights_only=True)
    assert ended["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.05 / 3)


def test_checkpoints_hold_plain_values_only(tmp_path: Path) -> None:
    """Anything else makes a resume fail with UnpicklingError (Lightning-AI/pytorch-lightning#20643, #21459)."""
    done = Fit(tmp_path, TWO, schedule="cosine", max_epochs=3)
    found = [torch.load(done.checkpoint(epoch), weights_only=True) for epoch in range(3)]
    stages = [checkpoint["callbacks"]["StagedUnfreezing"] for checkpoint in found]
    assert stages[0] == stages[1] == {"stage": 0, "blocks": ["head"]}
    assert stages[2] == {"stage": 1, "blocks": ["stem", "layer1", "layer2", "head"]}
    assert [group["name"] for group in found[0]["optimizer_states"][0]["param_groups"]] == ["head", "head no decay"]


def test_a_checkpoint_of_other_stages_is_refused(tmp_path: Path) -> None:
    whole = Fit(tmp_path / "whole", GRADUAL, max_epochs=4)
    with pytest.raises(ValueError, match="written in stage 2, in which these blocks trained: layer2, head"):
        Fit(tmp_path / "other", {**TWO, "head_epochs": 1}, resume=whole.checkpoint(1), max_epochs=4)
    with pytest.raises(ValueError, match="Resume with the finetune settings"):
        Fit(tmp_path / "fewer", {"name": "frozen"}, resume=whole.checkpoint(1), max_epochs=4)
    checkpoint = torch.load(whole.checkpoint(1), weights_only=True)
    del checkpoint["callbacks"]["StagedUnfreezing"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    with pytest.raises(ValueError, match="names no stage"):
        Fit(tmp_path / "old", GRADUAL, resume=tmp_path / "old.ckpt", max_epochs=4)


def test_training_in_bfloat16_with_clipped_gradients_changes_stage_as_well(tmp_path: Path) -> None:
    done = Fit(tmp_path, TWO, max_epochs=3, precision="bf16-mixed", gradient_clip=1.0)
    assert {name.split(".")[0] for name in done.witness.moved(2)} == {"stem", "layer1", "layer2", "output"}


def test_the_log_has_a_line_a_stage_and_tensorboard_every_rate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = EpochLogger(tmp_path, name="", version="tensorboard")
    with caplog.at_level(logging.INFO, logger="firstread"):
        whole = Fit(tmp_path / "runs", TWO, schedule="cosine", warmup=0.5, final_rate=0.0, logger=logger)
    assert [record.getMessage() for record in caplog.records if "stage" in record.getMessage()] == [
        "epoch 1: stage 1 of 2 (head), 5 of 189 parameters train, rate 0.05",
        "epoch 3: stage 2 of 2 (all), 189 of 189 parameters train, rates head 0.01 ... stem 0.0013",
    ]
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    stages = [(event.step, event.value) for event in events.Scalars("train/stage")]
    assert stages == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0)]
    first_steps = [whole.module.rates[epoch * BATCHES] for epoch in range(5)]
    for name in ("stem", "layer1", "layer2", "head"):
        shown = [event.value for event in events.Scalars(f"rate/{name}")]
        assert shown == pytest.approx([rates.get(name, 0.0) for rates in first_steps])
        assert (shown[0] == 0.0) == (name != "head")


def test_a_training_of_one_stage_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="firstread"):
        Fit(tmp_path, {"name": "none"}, max_epochs=1)
        assert not [record for record in caplog.records if "stage" in record.getMessage()]
        Fit(tmp_path / "frozen", {"name": "frozen"}, max_epochs=1)
    assert [r.getMessage() for r in caplog.records if "stage" in r.getMessage()] == [
        "epoch 1: stage 1 of 1 (head), 5 of 189 parameters train, rate 0.01"
    ]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("clip", [None, 1.0])
def test_float16_with_loss_scaling_changes_stage_and_resumes(tmp_path: Path, clip: float | None) -> None:
    options = {"precision": "16-mixed", "accelerator": "gpu", "gradient_clip": clip, "max_epochs": 4}
    whole = Fit(tmp_path / "whole", TWO, **options)
    assert {name.split(".")[0] for name in whole.witness.moved(3)} == {"stem", "layer1", "layer2", "output"}
    again = Fit(tmp_path / "again", TWO, resume=whole.checkpoint(1), **options)
    assert again.module.rates == whole.module.rates[2 * BATCHES :]
    assert all(bool(torch.isfinite(value).all()) for value in state(again.module).values())

"""Every named experiment: at most ten, each composes, builds its network, and leaves checkpoints that load safely."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as lightning
import torch

from conf.cli import options_of
from lightning_modules import ImageClassifier
from models.pretrained import resolved_model
from tests.conftest import composed_settings

EXPERIMENTS = options_of("experiment")
README = Path(__file__).resolve().parents[2] / "README.md"


def module_of(name: str) -> ImageClassifier:
    settings = composed_settings(f"experiment={name}")
    # The weights themselves are the business of models.pretrained; here they would have to be fetched.
    model = resolved_model({**settings["model"], "weights": "none"})
    return ImageClassifier(
        model,
        settings["task"]["classes"],
        settings["task"]["positive"],
        settings["trainer"],
        finetune=settings["finetune"],
        loss=settings["loss"],
        imbalance=settings["imbalance"],
        mixing={key: settings["augmentation"][key] for key in ("mixup", "cutmix")},
        tta=settings["evaluation"]["tta"],
        batches_per_epoch=3,
    )


@pytest.fixture(scope="module", params=EXPERIMENTS)
def module(request: pytest.FixtureRequest) -> ImageClassifier:
    """Each experiment's module, built once and held while its tests run; they change nothing in it."""
    return module_of(request.param)


def test_ten_at_most_and_each_in_the_table_of_the_readme() -> None:
    assert len(EXPERIMENTS) <= 10
    text = README.read_text(encoding="utf-8")
    assert [name for name in EXPERIMENTS if f"`{name}`" not in text] == []


def test_a_checkpoint_loads_with_weights_only(module: ImageClassifier, tmp_path: Path) -> None:
    trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    loaded = ImageClassifier.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True, map_location="cpu")
    assert content["hyper_parameters"]["classes"] == module.classes
    for key, tensor in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[key].nan_to_num(-1), tensor.nan_to_num(-1)), key


def test_the_first_stage_trains_what_it_says(module: ImageClassifier) -> None:
    optimizer = module.configure_optimizers()["optimizer"]
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    parameters = dict(module.network.named_parameters())
    blocks = [block for block in module.network.blocks() if block.name in module.stages[0].blocks]
    assert held == {id(parameters[key]) for block in blocks for key in block.parameters}
    if module.finetune["name"] != "none":
        assert [block.name for block in blocks] == ["head"]
    assert sum(stage.epochs for stage in module.stages) == module.options["max_epochs"]

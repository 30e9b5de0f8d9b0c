"""The average of the weights: its formula, which weights are where, and an exact resume."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn

from callbacks.averaging import WeightAveraging
from tests.callbacks.tiny_training import TinyData, TinyModule, assert_same, copied, tiny_trainer

DECAY = 0.9


class Recorder(lightning.Callback):
    """The network's tensors after each optimiser step, in each validation and at the end of each epoch."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []
        self.ended: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.global_step > len(self.steps):
            self.steps.append(copied(pl_module.network))

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.threshold.fill_(0.1 * (trainer.current_epoch + 1))  # as ThresholdTuning does
        self.validated.append(copied(pl_module.network))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.ended.append(copied(pl_module.network))


def trained(
    folder: Path | None, decay: float | None = DECAY, extra: list[lightning.Callback] | None = None, **options: Any
) -> tuple[TinyModule, Recorder]:
    """Train, with ``ckpt_path`` among the options go on from there."""
    module, recorder, start = TinyModule(), Recorder(), options.pop("ckpt_path", None)
    averaging = [WeightAveraging(decay)] if decay is not None else []
    trainer = tiny_trainer(folder, [*averaging, *(extra or []), recorder], **options)
    trainer.fit(module, datamodule=TinyData(), ckpt_path=start, weights_only=True)
    return module, recorder


def by_hand(initial: dict[str, Tensor], steps: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The averages after each step, in float64."""
    average = {name: tensor.double() for name, tensor in initial.items()}
    found = []
    for number, step in enumerate(steps, start=1):
        decay = min(DECAY, (1 + number) / (10 + number))
        average = {name: decay * average[name] + (1 - decay) * step[name].double() for name in average}
        found.append(average)
    return found


def test_the_average_is_the_one_computed_by_hand_and_training_never_notices(tmp_path: Path) -> None:
    module, recorder = trained(tmp_path, max_epochs=20, check_val_every_n_epoch=2)
    _, plain = trained(None, decay=None, max_epochs=20, check_val_every_n_epoch=2)
    assert len(recorder.steps) == 100
    for with_average, without in zip(recorder.steps, plain.steps, strict=True):
        assert_same(with_average, without)
    averages = by_hand(copied(TinyModule().network), recorder.steps)
    for epoch, seen in enumerate(recorder.ended):  # 100 steps: the warm start ends at step 80
        for name, tensor in seen.items():
            if tensor.is_floating_point():
                torch.testing.assert_close(tensor.double(), averages[5 * epoch + 4][name], rtol=1e-5, atol=1e-6)
            else:
                assert torch.equal(tensor, recorder.steps[5 * epoch + 4][name]), "counters are copied"
    for validated, ended in zip(recorder.validated, recorder.ended[1::2], strict=True):
        assert_same(validated, ended)
    assert_same(copied(module.network), recorder.ended[-1])
    assert not torch.equal(recorder.ended[-1]["0.weight"], recorder.steps[-1]["0.weight"])
    assert not torch.equal(recorder.ended[-1]["1.running_mean"], recorder.steps[-1]["1.running_mean"])


def test_accumulated_batches_make_one_step() -> None:
    module, recorder = trained(None, max_epochs=2, accumulate_grad_batches=2)  # 5 batches: steps after 2, 4 and 5
    assert len(recorder.steps) == 6
    last = by_hand(copied(TinyModule().network), recorder.steps)[-1]
    for name, tensor in module.network.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), last[name], rtol=1e-5, atol=1e-6)


def test_checkpoints_hold_the_average_and_load_safely(tmp_path: Path) -> None:
    _, recorder = trained(tmp_path)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    network = {name.removeprefix("network."): value for name, value in last["state_dict"].items() if "network" in name}
    assert_same(network, recorder.ended[-1])
    assert float(last["state_dict"]["threshold"]) == pytest.approx(0.3)
    state = last["callbacks"]["WeightAveraging"]
    assert_same(state["raw"], recorder.steps[-1])
    assert state["steps"] == 15
    assert state["average"] == {}, "of a float32 network the average is in state_dict already"
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert torch.equal(best["state_dict"]["network.0.weight"], recorder.ended[best["epoch"]]["0.weight"])


def test_the_best_checkpoint_scores_as_it_did_in_training(tmp_path: Path) -> None:
    module, recorder = TinyModule(), Recorder()
    trainer = tiny_trainer(tmp_path, [WeightAveraging(DECAY), recorder], max_epochs=6)
    trainer.fit(module, datamodule=TinyData())
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    trainer.validate(module, datamodule=TinyData(), ckpt_path=tmp_path / "best.ckpt", verbose=False, weights_only=True)
    expected = min(float(score) for score in best["callbacks"][_best_key(best)]["best_k_models"].values())
    assert float(trainer.callback_metrics["val/auroc"]) == pytest.approx(expected, abs=0)
    trainer.test(module, datamodule=TinyData(), verbose=False)
    assert_same(copied(module.network), recorder.ended[best["epoch"]])


def _best_key(checkpoint: dict[str, Any]) -> str:
    return next(key for key in checkpoint["callbacks"] if "val/auroc" in key)


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}], ids=["plain", "accumulated"])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path: Path, options: dict[str, int]) -> None:
    whole, _ = trained(tmp_path / "whole", max_epochs=4, **options)
    trained(tmp_path / "parts", max_epochs=2, **options)
    parts, _ = trained(tmp_path / "parts", max_epochs=4, ckpt_path=tmp_path / "parts" / "last.ckpt", **options)
    assert_same(copied(whole), copied(parts))
    one, other = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "parts"))
    assert_same(one["state_dict"], other["state_dict"])
    assert_same(one["callbacks"]["WeightAveraging"]["raw"], other["callbacks"]["WeightAveraging"]["raw"])
    assert one["callbacks"]["WeightAveraging"]["steps"] == other["callbacks"]["WeightAveraging"]["steps"]
    for key, state in one["optimizer_states"][0]["state"].items():
        assert_same(state, other["optimizer_states"][0]["state"][key])


class Freeze(lightning.Callback):
    """Freezes the first layer after two epochs and makes a new optimiser of the rest, as staged training does."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 2:
            pl_module.network[0].requires_grad_(False)
            rest = [parameter for parameter in pl_module.network.parameters() if parameter.requires_grad]
            trainer.optimizers = [torch.optim.SGD(rest, lr=0.05)]


@pytest.mark.parametrize("always", [True, False])
def test_the_average_of_a_frozen_parameter_is_that_parameter(always: bool) -> None:
    module, recorder = TinyModule(), Recorder()
    if always:
        module.network[0].requires_grad_(False)
    before = copied(module.network[0])
    callbacks = [WeightAveraging(DECAY), *([] if always else [Freeze()]), recorder]
    tiny_trainer(None, callbacks, max_epochs=4).fit(module, datamodule=TinyData())
    for name, tensor in copied(module.network[0]).items():
        assert torch.equal(tensor, recorder.steps[-1][f"0.{name}"])
        assert torch.equal(tensor, before[name]) == always
    assert not torch.equal(module.network[3].weight, recorder.steps[-1]["3.weight"])


def test_tensors_are_changed_in_place_only() -> None:
    module = TinyModule()
    before = [(id(tensor), tensor.data_ptr()) for tensor in module.network.state_dict(keep_vars=True).values()]
    tiny_trainer(None, [WeightAveraging(DECAY)]).fit(module, datamodule=TinyData())
    assert before == [(id(tensor), tensor.data_ptr()) for tensor in module.network.state_dict(keep_vars=True).values()]


def test_a_checkpoint_in_the_middle_of_an_epoch_holds_the_average_too(tmp_path: Path) -> None:
    class Save(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            if trainer.global_step == 3:
                trainer.save_checkpoint(tmp_path / "middle.ckpt")

    _, recorder = trained(None, extra=[Save()], max_epochs=1)
    content = torch.load(tmp_path / "middle.ckpt", weights_only=True)
    expected = by_hand(copied(TinyModule().network), recorder.steps)[2]["0.weight"]
    torch.testing.assert_close(content["state_dict"]["network.0.weight"].double(), expected, rtol=1e-5, atol=1e-6)
    assert_same(content["callbacks"]["WeightAveraging"]["raw"], recorder.steps[2])


def test_validation_in_the_middle_of_an_epoch_does_not_disturb_training() -> None:
    _, often = trained(None, val_check_interval=2, max_epochs=2)
    _, plain = trained(None, decay=None, max_epochs=2)
    assert len(often.validated) == 4
    assert_same(often.steps[-1], plain.steps[-1])


def test_the_average_of_half_precision_weights_keeps_float32() -> None:
    module: Any = SimpleNamespace(network=nn.Linear(2, 1, bias=False).bfloat16())
    trainer: Any = SimpleNamespace(global_step=0)
    nn.init.ones_(module.network.weight)
    averaging = WeightAveraging(0.999)
    averaging.load_state_dict(
        {"steps": 100_000, "raw": copied(module.network), "average": {"weight": torch.ones(1, 2)}}
    )
    averaging.on_train_start(trainer, module)
    module.network.weight.data.fill_(1.5)
    for step in (1, 2):
        trainer.global_step = step
        averaging.on_train_batch_end(trainer, module, None, None, 0)
    # In bfloat16 both steps of 0.0005 would be lost: its neighbours of 1 lie 0.004 to 0.008 away.
    expected = 1 + 0.5 * (1 - 0.999**2)
    again = WeightAveraging(0.999)
    again.load_state_dict(averaging.state_dict())
    again.on_train_start(trainer, module)
    for kept in (averaging, again):
        found = kept.state_dict()["average"]["weight"]
        assert found.dtype == torch.float32
        assert found[0, 0].item() == pytest.approx(expected, abs=1e-6)
    assert module.network.weight.dtype == torch.bfloat16
    assert module.network.weight[0, 0].item() == 1.5


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=r"trainer\.ema"):
        WeightAveraging(decay)

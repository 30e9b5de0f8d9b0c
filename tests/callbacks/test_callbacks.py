"""Callbacks on their own: precision, checkpoints, AUROC tracking, mistakes, machine settings."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from callbacks import mixed_precision
from callbacks.auroc_tracking import AUROCTracker
from callbacks.checkpoints import AtomicCheckpointIO, store_fixed
from callbacks.mistakes import contact_sheet, save_mistakes, worst_mistakes
from callbacks.mixed_precision import choose_precision, tune_machine
from callbacks.predictions import predictions_of
from callbacks.reproducibility import SeedEachStep
from callbacks.run_snapshot import RunSnapshot, git_state
from callbacks.threshold import ThresholdTuning
from conf.schema import TrainerConfig
from evaluation.predictions import Predictions

CLASSES = ("NORMAL", "PNEUMONIA")


def test_precision_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for native, value in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(mixed_precision, "cpu_has_bf16", lambda native=native: native)
        choice = choose_precision("auto", "auto")
        assert choice.value == value
        assert "CPU" in choice.reason
    assert choose_precision("32", "cpu").value == "32-true"
    assert choose_precision("bf16", "cpu").value == "bf16-mixed"
    with pytest.raises(ValueError, match="fp16 needs a CUDA device"):
        choose_precision("fp16", "cpu")
    with pytest.raises(ValueError, match="no CUDA device"):
        choose_precision("auto", "gpu")


def test_precision_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    for native, value in ((True, "bf16-mixed"), (False, "16-mixed")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native)
        assert choose_precision("auto", "auto").value == value
        assert choose_precision("auto", "auto").accelerator == "gpu"
    assert choose_precision("fp16", "gpu").value == "16-mixed"
    assert choose_precision("32", "cpu").accelerator == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("requested", ["fp16", "bf16", "32"])
def test_training_step_on_a_gpu(requested: str) -> None:
    from lightning_modules import ImageClassifier

    settings = {
        "name": "simple_cnn",
        "image_size": 16,
        "channels": 1,
        "filters": [4],
        "hidden": [8],
        "dropout": 0.0,
        "mean": [0.0],
        "std": [1.0],
    }
    module = ImageClassifier(settings, ["A", "B"], ["B"], dataclasses.asdict(TrainerConfig())).cuda()
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "32": torch.float32}[requested]
    batch = {
        "image": torch.randint(0, 256, (8, 1, 16, 16), dtype=torch.uint8).cuda(),
        "target": torch.arange(8).cuda() % 2,
        "row": torch.arange(8).cuda(),
    }
    with torch.autocast("cuda", dtype, enabled=requested != "32"):
        loss = module.training_step(batch, 0)
    assert loss.dtype == torch.float32
    loss.backward()
    module.configure_optimizers()["optimizer"].step()
    assert torch.isfinite(loss)


def test_machine_settings_do_no_harm() -> None:
    tune_machine()
    assert torch.ones(10).sum() == 10


def test_a_save_that_fails_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    writer.save_checkpoint({"epoch": 1}, path)

    def interrupted(content: Any, stream: Any, *args: Any, **kwargs: Any) -> None:
        stream.write(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}


def test_checkpoint_and_what_was_fixed_are_made_to_agree(tmp_path: Path) -> None:
    path, module = tmp_path / "best.ckpt", nn.Module()
    module.register_buffer("threshold", torch.tensor(0.25, dtype=torch.float64))
    module.register_buffer("calibration", torch.tensor([0.8, -0.1, 1.25], dtype=torch.float64))
    torch.save({"state_dict": {**module.state_dict(), "w": torch.ones(2)}}, path)
    before = path.stat().st_mtime_ns
    store_fixed(path, module)
    assert path.stat().st_mtime_ns == before
    for name, value in (("threshold", torch.tensor(0.3)), ("calibration", torch.tensor([0.9, 0.0, 1.1]))):
        getattr(module, name).copy_(value)
        store_fixed(path, module)
        held = torch.load(path, weights_only=True)["state_dict"]
        assert torch.equal(held[name], getattr(module, name)) and torch.equal(held["w"], torch.ones(2))


def test_tracker_keeps_the_first_of_equal_epochs_and_survives_a_resume(tmp_path: Path) -> None:
    tracker = AUROCTracker(tmp_path / "history.csv")
    for epoch, value in enumerate((0.7, 0.9, 0.9, math.nan)):
        metrics = {"val/auroc": torch.tensor(value), "epoch": torch.tensor(9.0)}
        trainer: Any = SimpleNamespace(current_epoch=epoch, callback_metrics=metrics)
        tracker.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
    assert tracker.best_epoch == 2
    again = AUROCTracker(tmp_path / "history.csv")
    assert again.best_epoch is None
    again.load_state_dict(tracker.state_dict())
    assert again.best_epoch == 2
    frame = pd.read_csv(tmp_path / "history.csv")
    assert frame["epoch"].tolist() == [1, 2, 3, 4]
    assert list(frame.columns) == ["epoch", "val/auroc"]


def test_each_step_has_its_own_random_state() -> None:
    def drawn(seed: int, epoch: int, batch: int = 0) -> list[float]:
        trainer: Any = SimpleNamespace(current_epoch=epoch)
        SeedEachStep(seed).on_train_batch_start(trainer, None, None, batch)  # type: ignore[arg-type]
        return torch.rand(3).tolist()

    assert drawn(0, 1) == drawn(0, 1)
    assert len({tuple(drawn(seed, epoch, batch)) for seed in (0, 1) for epoch in (0, 1, 2) for batch in (0, 1)}) == 12


def datamodule(count: int = 12) -> Any:
    frame = pd.DataFrame(
        {
            "image_id": [f"i{row}" for row in range(count)],
            "group_id": [f"g{row // 2}" for row in range(count)],
            "label": [CLASSES[row % 2] for row in range(count)],
            "subtype": "x",
        }
    )
    return SimpleNamespace(manifest=SimpleNamespace(frame=frame, classes=CLASSES, subgroup_columns=["subtype"]))


def test_predictions_are_joined_by_row() -> None:
    rows, scores = np.array([1, 4]), np.array([0.25, 0.75])
    frame = predictions_of(
        datamodule(), rows, np.stack([1 - scores, scores], axis=1), {"positive": ["PNEUMONIA"]}
    ).frame
    assert frame["image_id"].tolist() == ["i1", "i4"]
    assert frame["prob_PNEUMONIA"].tolist() == [0.25, 0.75]
    assert frame["prob_NORMAL"].tolist() == [0.75, 0.25]


def test_threshold_is_not_touched_by_the_sanity_check() -> None:
    tuning = ThresholdTuning(
        rule="empirical",
        recall=0.9,
        confidence=0.9,
        group_score="max",
        value=0.5,
        outcome={"positive": ["PNEUMONIA"]},
        group_name="patient",
    )
    module: Any = SimpleNamespace(
        threshold=torch.tensor(float("nan"), dtype=torch.float64),
        collected=lambda: (np.arange(12), np.stack([1 - np.linspace(0.1, 0.9, 12), np.linspace(0.1, 0.9, 12)], axis=1)),
    )
    trainer: Any = SimpleNamespace(sanity_checking=True, datamodule=datamodule())
    tuning.on_validation_epoch_end(trainer, module)
    assert math.isnan(float(module.threshold))
    trainer.sanity_checking = False
    tuning.on_validation_epoch_end(trainer, module)
    assert tuning.operating_point is not None
    assert float(module.threshold) == tuning.operating_point.threshold
    assert float(module.threshold) in np.linspace(0.1, 0.9, 12)


def test_worst_mistakes_are_sorted_and_saved(tmp_path: Path) -> None:
    scores = np.array([0.9, 0.1, 0.8, 0.2, 0.1, 0.9])
    frame = pd.DataFrame(
        {
            "image_id": [f"i{row}" for row in range(6)],
            "group_id": [f"g{row}" for row in range(6)],
            "label": ["NORMAL", "PNEUMONIA", "NORMAL", "PNEUMONIA", "NORMAL", "PNEUMONIA"],
            "prob_NORMAL": 1 - scores,
            "prob_PNEUMONIA": scores,
        }
    )
    mistakes = worst_mistakes(Predictions(frame, CLASSES, "PNEUMONIA"), 0.5, 3)
    assert [(item.image_id, item.kind) for item in mistakes] == [
        ("i1", "false negative"),
        ("i3", "false negative"),
        ("i0", "false positive"),
    ]
    images = np.zeros((3, 8, 8, 1), dtype=np.uint8)
    save_mistakes(mistakes, images, tmp_path)
    assert [record["file"] for record in json.loads((tmp_path / "mistakes.json").read_text())] == [
        "00.png",
        "01.png",
        "02.png",
    ]
    assert len(list(tmp_path.glob("*.png"))) == 3
    assert worst_mistakes(Predictions(frame, CLASSES, "PNEUMONIA"), 0.05, 0) == []
    assert contact_sheet(images, ["a", "b", "c"], "title", columns=2).get_axes()


def test_snapshot_is_written_before_the_first_step_and_remembers_resumes(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    snapshot = RunSnapshot(path, {"seeds": {"seed": 0, "split": 0}, "overrides": ["a=1"]})
    snapshot.on_fit_start(SimpleNamespace(datamodule=None), torch.nn.Linear(2, 1))  # type: ignore[arg-type]
    first = json.loads(path.read_text())
    assert first["status"] == "running"
    assert first["parameters"] == 3
    again = RunSnapshot(path, {"seeds": {"seed": 0, "split": 0}, "overrides": ["resume=x"]})
    again.update(best_epoch=1)
    assert json.loads(path.read_text())["status"] == "running"
    again.finish()
    last = json.loads(path.read_text())
    assert last["status"] == "finished"
    assert last["started"] == first["started"]
    assert len(last["resumed"]) == 1
    assert last["overrides"] == ["a=1"]


def test_outside_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None

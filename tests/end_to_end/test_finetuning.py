"""A pretrained network through the real command line: weights from a file, stages, cached features, averaged weights, resume."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import save_file

from models.bundle import load_bundle
from tests.conftest import run_train
from tests.end_to_end.conftest import PLAIN
from tests.end_to_end.test_interruption_and_sweep import start, wait_until

EPOCHS, STOPPED_AFTER = 8, 4
TINY_DATA = [item for item in PLAIN if not item.startswith(("model.", "trainer.max_epochs"))]
STAGED = [
    *TINY_DATA,
    "model=timm",
    "model.name=test_resnet",
    "model.image_size=32",
    "augmentation=none",
    "finetune.head_epochs=2",
    f"trainer.max_epochs={EPOCHS}",
    "trainer.ema=0.9",
    "evaluation.baselines=[majority,thumbnail,features]",
]


@pytest.fixture(scope="module")
def weights(home: Path) -> Path:
    torch.manual_seed(0)
    path = home / "trunk.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def staged(home: Path, weights: Path) -> tuple[Path, str]:
    done = run_train(*STAGED, f"model.weights={weights}", "hydra.run.dir=runs/staged", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "runs" / "staged", done.stdout + done.stderr


def scores(run: Path, part: str = "test") -> np.ndarray:
    return pd.read_csv(run / "predictions" / f"{part}.csv")["prob_PNEUMONIA"].to_numpy()


def test_the_log_says_what_was_loaded_what_trains_and_what_is_scored(staged: tuple[Path, str]) -> None:
    run, text = staged
    for words in ("every one of the trunk", "summed over the colours", "features of the frozen trunk", "stage 2 of 2"):
        assert words in text, words
    notes = " ".join(json.loads((run / "run.json").read_text())["model_notes"])
    assert "moving average of the weights" in notes
    assert "stage 1, epoch 1 to 2: head" in notes
    assert "moving average of the weights" in (run / "report.html").read_text()


def test_history_knows_the_stages_and_the_baselines_are_in_the_metrics(staged: tuple[Path, str]) -> None:
    run, _ = staged
    assert pd.read_csv(run / "history.csv")["stage"].tolist() == [1, 1, *[2] * (EPOCHS - 2)]
    metrics = json.loads((run / "metrics.json").read_text())
    assert [entry["name"] for entry in metrics["baselines"]] == ["majority", "thumbnail", "features"]


def test_the_hand_over_needs_nothing_else_and_reproduces_the_predictions(staged: tuple[Path, str], home: Path) -> None:
    run, _ = staged
    network, about = load_bundle(run / "model")
    assert about["network"]["weights"] == "none", "a path of this machine has no place in a model that is passed on"
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    for key, tensor in network.state_dict().items():
        assert torch.equal(checkpoint[f"network.{key}"], tensor), key


def test_resumed_inside_the_second_stage_equals_uninterrupted(
    staged: tuple[Path, str], home: Path, weights: Path
) -> None:
    whole, _ = staged
    folder = home / "runs" / "stopped"
    process = start(folder, home, *STAGED[len(TINY_DATA) :], f"model.weights={weights}", base=TINY_DATA)
    history = folder / "history.csv"
    wait_until(lambda: history.is_file() and len(pd.read_csv(history)) >= STOPPED_AFTER, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130, output
    done = run_train("resume=runs/stopped", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("val", "test"):
        assert scores(folder, part).tolist() == scores(whole, part).tolist()
    ours, theirs = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (folder, whole))
    for key, tensor in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][key].nan_to_num(-1), tensor.nan_to_num(-1)), key


def test_a_missing_hub_names_the_file_to_fetch(home: Path) -> None:
    done = run_train(*STAGED, "model.weights=imagenet", "hydra.run.dir=runs/no_hub", home=home)
    assert done.returncode == 2
    assert "model.weights=imagenet" in done.stderr and "Fetch that file by hand" in done.stderr
    assert not (home / "runs" / "no_hub" / "run.json").exists()


def test_a_frozen_random_trunk_is_refused(home: Path) -> None:
    done = run_train(*STAGED, "model.weights=none", home=home)
    assert done.returncode == 2
    assert "finetune=none" in done.stderr

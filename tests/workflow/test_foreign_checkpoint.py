"""A checkpoint gives back its network and its locked numbers; a file that wants to run code runs none."""

from __future__ import annotations

import argparse
import json
import logging
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from evaluation.recalibration import Calibrator
from evaluation.threshold import OperatingPoint
from lightning_modules import ImageClassifier
from tests.conftest import composed_settings
from workflow.foreign_checkpoint import load_checkpoint
from workflow.predictor import load_predictor

SMALL = ["model.image_size=24", "model.filters=[4]", "model.hidden=[]"]


def checkpoint(path: Path, *overrides: str, change: Callable[[dict[str, Any]], Any] | None = None) -> ImageClassifier:
    """Write a checkpoint with the parts of Lightning's that matter; ``change`` edits them before."""
    settings = composed_settings("task=pneumonia", *SMALL, *overrides)
    task = settings["task"]
    torch.manual_seed(3)
    model = {**settings["model"], "mean": settings["model"]["mean"] or [0.0], "std": settings["model"]["std"] or [1.0]}
    module = ImageClassifier(model, task["classes"], task["positive"], settings["trainer"], tta="flip")
    module.threshold.fill_(0.375)
    module.calibration.copy_(torch.tensor([2.0, 0.5, 0.7], dtype=torch.float64))
    content = {
        "epoch": 1,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": module.state_dict(),
        "hyper_parameters": json.loads(json.dumps(dict(module.hparams))),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save((change(content) or content) if change else content, path)
    return module.eval()


class WritesAFile:
    """What a malicious pickle does: call something while it is read."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.target, "w")


def test_a_checkpoint_scores_as_the_module_that_wrote_it(tmp_path: Path) -> None:
    module = checkpoint(tmp_path / "best.ckpt")
    network, description = load_checkpoint(tmp_path / "best.ckpt")
    assert not network.training
    point = OperatingPoint.from_dict(description["threshold"])
    assert (point.threshold, point.rule, point.positive_class) == (0.375, "fixed", "PNEUMONIA")
    assert "promises nothing" in point.statement
    calibrator = Calibrator.from_dict(description["calibration"])
    assert (calibrator.method, calibrator.slope, calibrator.intercept, calibrator.temperature) == (
        "platt",
        2.0,
        0.5,
        0.7,
    )
    predictor = load_predictor(tmp_path / "best.ckpt")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 24, 24, 1), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = torch.stack([module(view).sigmoid() for view in (images, images.flip(-1))]).mean(dim=0)
    assert np.abs(predictor.scored(pixels).scores - expected.numpy()).max() < 1e-6
    assert predictor.about.title == "simple_cnn, checkpoint best.ckpt"


def test_inside_its_run_it_knows_title_names_and_phantom(tmp_path: Path) -> None:
    checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    settings = composed_settings("task=pneumonia", *SMALL)
    settings["task"]["positive_name"] = "sick"
    record = {"title": "Phantom data - Films", "phantom": True}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(settings))
    _, description = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert (description["title"], description["phantom"]) == ("Phantom data - Films", True)
    assert description["threshold"]["positive_class"] == "sick"
    (tmp_path / "run" / "run.json").write_text("{")
    _, description = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert description["title"] == "simple_cnn, checkpoint best.ckpt"


@pytest.mark.parametrize("way", ["torch", "pickle"])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, way: str) -> None:
    pwned, path = tmp_path / "pwned", tmp_path / "evil.ckpt"
    if way == "torch":
        checkpoint(path, change=lambda content: content["hyper_parameters"].update(extra=WritesAFile(pwned)))
    else:
        path.write_bytes(pickle.dumps({"state_dict": {}, "hyper_parameters": WritesAFile(pwned)}, protocol=2))
    with pytest.raises(ValueError, match=r"evil\.ckpt: this file holds more than tensors.*trust=true.*folder of a run"):
        load_predictor(path)
    assert not pwned.exists()


def test_trust_is_said_aloud_and_is_no_free_pass(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pwned = tmp_path / "pwned"
    path = tmp_path / "foreign.ckpt"
    checkpoint(path, change=lambda content: content["hyper_parameters"].update(extra=WritesAFile(pwned)))
    with caplog.at_level(logging.WARNING, logger="firstread"):
        _, description = load_checkpoint(path, trust=True)
    assert pwned.exists(), "with trust the file is read as its maker wished"
    assert "because of trust=true: code in it can run" in caplog.text
    assert description["threshold"]["threshold"] == 0.375
    torch.save({"model": torch.nn.Linear(2, 1)}, path)
    with pytest.raises(ValueError, match="lacks state_dict and hyper_parameters"):
        load_checkpoint(path, trust=True)


def test_trusted_hyperparameters_may_be_a_namespace(tmp_path: Path) -> None:
    def as_namespace(content: dict[str, Any]) -> None:
        content["hyper_parameters"] = argparse.Namespace(**content["hyper_parameters"])

    checkpoint(tmp_path / "a.ckpt", change=as_namespace)
    with pytest.raises(ValueError, match=r"asks for argparse\.Namespace"):
        load_checkpoint(tmp_path / "a.ckpt")
    assert load_checkpoint(tmp_path / "a.ckpt", trust=True)[1]["classes"] == ["NORMAL", "PNEUMONIA"]


def test_a_safe_checkpoint_needs_no_trust_and_gets_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint(tmp_path / "a.ckpt")
    load_checkpoint(tmp_path / "a.ckpt", trust=True)
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.pkl", "pickle, which can run code"),
        ("model.joblib", "trusted or not"),
        ("model.h5", "Keras and TensorFlow are not read"),
        ("model.keras", "model=simple_cnn"),
        ("model.onnx", "onnxruntime"),
        ("model.safetensors", "folder around them"),
        ("model.txt", "no run folder and no checkpoint"),
    ],
)
@pytest.mark.parametrize("trust", [False, True])
def test_other_kinds_are_refused_with_what_to_do_instead(tmp_path: Path, name: str, said: str, trust: bool) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(WritesAFile(tmp_path / "pwned")))
    with pytest.raises(ValueError, match=said):
        load_predictor(tmp_path / name, trust=trust)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("trust", [False, True])
def test_damaged_files(tmp_path: Path, trust: bool, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint(tmp_path / "whole.ckpt")
    content = (tmp_path / "whole.ckpt").read_bytes()
    for name, damaged, said in (
        ("empty", b"", "begins with b''"),
        ("text", b"not a checkpoint", "is no checkpoint"),
        ("half", content[: len(content) // 2], "cannot be read as a checkpoint"),
        ("start", content[:4], "cannot be read as a checkpoint"),
    ):
        path = tmp_path / f"{name}.ckpt"
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=said):
            load_checkpoint(path, trust)
    assert not caplog.records, "a damaged file is no reason to read it in an unsafe way"
    with pytest.raises(ValueError, match="no such"):
        load_checkpoint(tmp_path / "missing.ckpt")


def test_a_compressed_archive_is_not_unpacked(tmp_path: Path) -> None:
    checkpoint(tmp_path / "a.ckpt")
    packing = zipfile.ZipFile(tmp_path / "b.ckpt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "a.ckpt") as whole, packing as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(ValueError, match="compressed, which no checkpoint is"):
        load_checkpoint(tmp_path / "b.ckpt")


def _without(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        place = content
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return change


def _with(value: Any, *keys: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        place = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without("hyper_parameters"), "lacks hyper_parameters, so it is weights alone"),
        (_without("hyper_parameters", "classes"), "lack classes, so it was not made by this program"),
        (_without("state_dict", "threshold"), "has no threshold of 1 value"),
        (_with(torch.tensor(float("nan")), "state_dict", "threshold"), "threshold is nan, so it was saved before"),
        (_with(torch.tensor(7.0), "state_dict", "threshold"), "threshold is 7.0"),
        (_with(torch.tensor([1.0, 2.0]), "state_dict", "calibration"), "has no calibration of 3 values"),
        (_with(torch.tensor([-1.0, 0.0, 1.0]), "state_dict", "calibration"), "slope is -1.0"),
        (_with(["NORMAL"], "hyper_parameters", "classes"), "at least two different classes"),
        (_with("NORMAL", "hyper_parameters", "positive"), "expected a list of names"),
        (_with(["NORMAL", "PNEUMONIA"], "hyper_parameters", "positive"), "some, but not all"),
        (_with(["A", "B", "C"], "hyper_parameters", "classes"), "some, but not all"),
        (_with("sideways", "hyper_parameters", "tta"), "tta is 'sideways'"),
        (_with(3, "hyper_parameters", "model"), "lack name, image_size, channels"),
        (_with("no_such_net", "hyper_parameters", "model", "name"), "there is no such architecture"),
        (_with(10**9, "hyper_parameters", "model", "image_size"), "image_size is 1000000000"),
        (_with([10**6], "hyper_parameters", "model", "filters"), "filters is"),
        (_with([5], "hyper_parameters", "model", "filters"), "not of one network"),
        (_with(4, "hyper_parameters", "model", "metadata_width"), "not of one network"),
        (_without("state_dict", "network.head.output.weight"), "not of one network"),
    ],
)
def test_what_is_missing_or_wrong_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    checkpoint(tmp_path / "a.ckpt", change=change)
    with pytest.raises(ValueError, match=said) as caught:
        load_checkpoint(tmp_path / "a.ckpt")
    assert "a.ckpt" in str(caught.value) or "model.name" in str(caught.value)


def test_from_before_there_was_a_calibration(tmp_path: Path) -> None:
    checkpoint(tmp_path / "a.ckpt", change=_without("state_dict", "calibration"))
    calibrator = Calibrator.from_dict(load_checkpoint(tmp_path / "a.ckpt")[1]["calibration"])
    assert not calibrator.acts


def test_weights_alone_are_sent_to_training(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"weights alone.*train.py model.weights=.*w\.pth"):
        load_checkpoint(tmp_path / "w.pth")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds a list, expected a checkpoint"):
        load_checkpoint(tmp_path / "list.pt")

"""What `python train.py` leaves, and that its parts agree with each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from evaluation.predictions import read_predictions
from lightning_modules import ImageClassifier
from models.bundle import load_bundle
from tests.conftest import run_train
from tests.end_to_end.conftest import PLAIN, TINY

LEFT = (
    "config.yaml",
    "run.json",
    "splits.csv",
    "data_card.json",
    "history.csv",
    "threshold.json",
    "calibration.json",
    "metrics.json",
    "report.html",
    "train.log",
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    "model/model.safetensors",
    "model/model.json",
    "predictions/val.csv",
    "predictions/test.csv",
    "predictions/thumbnail_val.csv",
    "predictions/thumbnail_test.csv",
)


def load(path: Path) -> dict[str, object]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def predictions_of(folder: Path, part: str) -> pd.DataFrame:
    return read_predictions(folder / "predictions" / f"{part}.csv", ("NORMAL", "PNEUMONIA"), "PNEUMONIA").frame


def test_everything_is_there_and_nothing_half_written(finished: tuple[Path, str]) -> None:
    folder, output = finished
    for name in LEFT:
        assert (folder / name).is_file(), name
    assert not [path for path in folder.rglob("*") if path.name.startswith(".") or path.suffix == ".part"]
    assert "report: runs/finished/report.html" in output
    assert "Traceback" not in output
    assert "Warning" not in output, output
    assert "site-packages" not in output, "a library's message that says nothing to the user"


def test_phantom_data_say_so_everywhere(finished: tuple[Path, str]) -> None:
    folder, output = finished
    assert "Phantom data" in output
    report = (folder / "report.html").read_text(encoding="utf-8")
    title = report.split("<title>")[1].split("</title>")[0]
    assert "phantom data" in title.lower()
    assert load(folder / "metrics.json")["phantom"] is True
    assert str(load(folder / "model" / "model.json")["title"]).startswith("Phantom data")
    for name in ("run.json", "model/model.json"):
        assert load(folder / name)["notice"] == "Research and education only; not a medical device."


def test_one_threshold(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    threshold = load(folder / "threshold.json")["threshold"]
    assert load(folder / "metrics.json")["threshold"]["threshold"] == threshold  # type: ignore[index]
    assert load(folder / "model" / "model.json")["threshold"]["threshold"] == threshold  # type: ignore[index]
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert float(best["state_dict"]["threshold"]) == threshold
    assert load(folder / "threshold.json")["weights_sha256"] == load(folder / "model" / "model.json")["weights_sha256"]
    scores = predictions_of(folder, "val")["prob_PNEUMONIA"]
    assert threshold in set(scores), "the threshold is one of the validation scores, to the last bit"


def test_one_calibration(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    stored, inside = load(folder / "calibration.json"), load(folder / "model" / "model.json")["calibration"]
    assert (
        {name: stored[name] for name in inside} == inside == load(folder / "metrics.json")["calibration"]["calibrator"]
    )  # type: ignore[attr-defined,index]
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["state_dict"]["calibration"][:2].tolist() == [stored["slope"], stored["intercept"]]


def test_predictions_and_metrics_agree(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    splits = pd.read_csv(folder / "splits.csv", dtype=str)
    assert (splits.groupby("group_id")["split"].nunique() == 1).all()
    metrics = load(folder / "metrics.json")
    threshold = load(folder / "threshold.json")["threshold"]
    for part in ("val", "test"):
        predictions = predictions_of(folder, part)
        assert set(predictions["image_id"]) == set(splits[splits["split"] == part]["image_id"])
        assert predictions["image_id"].is_unique
        truth, scores = predictions["label"] == "PNEUMONIA", predictions["prob_PNEUMONIA"]
        figures = metrics["splits"][part]  # type: ignore[index]
        assert figures["auroc"]["value"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-9)
        at = figures["at_threshold"]
        assert at["tp"] == int((truth & (scores >= threshold)).sum())
        assert at["fp"] == int((~truth & (scores >= threshold)).sum())


def test_hand_over_and_checkpoint_reproduce_the_test_predictions(finished: tuple[Path, str], home: Path) -> None:
    folder, _ = finished
    network, description = load_bundle(folder / "model")
    module = ImageClassifier.load_from_checkpoint(
        folder / "checkpoints" / "best.ckpt", weights_only=True, map_location="cpu"
    ).eval()
    weights = load_file(folder / "model" / "model.safetensors")
    assert all(torch.equal(value, module.network.state_dict()[name]) for name, value in weights.items())
    predictions = predictions_of(folder, "test")
    prepared = next((home / "prepared").glob("chest_xray-phantom-*"))
    manifest = pd.read_csv(next((prepared / "tasks").glob("*/manifest.csv")), dtype={"image_id": str})
    pixels = np.load(next((prepared / "cache").glob("*.npy")))
    rows = manifest.reset_index().set_index("image_id").loc[predictions["image_id"], "index"].to_numpy()
    images = torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2)
    with torch.no_grad():
        scores = module(images).sigmoid().numpy()
        again = network(images.float() / 255).squeeze(1).sigmoid().numpy()
    assert np.abs(scores - predictions["prob_PNEUMONIA"]).max() < 1e-6
    assert np.abs(again - scores).max() < 1e-6
    assert description["classes"] == ["NORMAL", "PNEUMONIA"]


def test_tensorboard(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "tensors": 0}).Reload()
    tags = events.Tags()
    scalars = set(tags["scalars"])
    assert all(tag.split("/")[0] in ("train", "val", "test", "rate") for tag in scalars), scalars
    assert {tag for tag in scalars if tag.startswith("rate/")} == {"rate/conv1", "rate/conv2", "rate/head"}
    assert [event.value for event in events.Scalars("rate/head")] == pytest.approx([1e-3] * 3)
    assert {"train/loss", "val/loss", "val/auroc", "test/auroc", "test/sensitivity", "test/specificity"} <= scalars
    assert [event.step for event in events.Scalars("val/auroc")][:3] == [1, 2, 3]
    images = set(tags["images"])
    assert {"train/augmented_images", "val/roc", "val/confusion_matrix", "test/roc", "test/confusion_matrix"} <= images
    assert {f"{part}/{name}" for part in ("val", "test") for name in ("threshold_sweep", "reliability")} <= images
    assert any("precision_recall" in tag for tag in tags["tensors"])
    assert any(
        "hparams" in str(path) or "_hparams_" in tag for path, tag in [(folder, tag) for tag in events.summary_metadata]
    )
    log = pd.read_csv(folder / "history.csv")
    assert log["epoch"].tolist() == [1, 2, 3]


def test_run_record(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    record = load(folder / "run.json")
    assert record["status"] == "finished"
    assert record["seeds"] == {"seed": 0, "split": 0}
    assert set(record["durations"]) == {"data", "fit", "score", "input_check", "judge"}  # type: ignore[call-overload]
    assert record["packages"]["torch"] == torch.__version__.split("+")[0]  # type: ignore[index]
    assert record["split_sha256"] == load(folder / "data_card.json")["split_sha256"]
    assert record["best_epoch"] in (1, 2, 3)


def test_same_seed_same_predictions_to_the_bit_whatever_the_workers(finished: tuple[Path, str], home: Path) -> None:
    folder, _ = finished
    done = run_train(*PLAIN, "hydra.run.dir=runs/again", "data.num_workers=1", home=home)
    assert done.returncode == 0, done.stderr
    for part in ("val", "test"):
        name = f"predictions/{part}.csv"
        assert (home / "runs" / "again" / name).read_bytes() == (folder / name).read_bytes()
    curves = ["train/loss", "val/loss", "val/auroc"]
    first, again = (pd.read_csv(run / "history.csv")[curves] for run in (folder, home / "runs" / "again"))
    assert first.equals(again)


def test_a_finished_run_is_never_overwritten(finished: tuple[Path, str], home: Path) -> None:
    folder, _ = finished
    before = (folder / "metrics.json").read_bytes()
    for arguments, words in (
        ([f"resume={folder}"], "finished"),
        ([*TINY, "hydra.run.dir=runs/finished"], "never overwritten"),
    ):
        done = run_train(*arguments, home=home)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert (folder / "metrics.json").read_bytes() == before

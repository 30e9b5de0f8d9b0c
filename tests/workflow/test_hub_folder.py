"""A hand-over folder is the model again on another machine, says what a hub reads, and is written whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from numpy.typing import NDArray

from evaluation.input_check import PARTS, InputCheck
from evaluation.input_check_fit import fit_input_check
from evaluation.predictions import read_predictions
from evaluation.recalibration import Calibrator
from evaluation.summary import evaluate_run
from evaluation.threshold import OperatingPoint, fixed_point
from models.build import build_network
from models.bundle import description_sha256, save_bundle
from models.pretrained import description_of
from tests.conftest import make_chest_xray, write_image
from tests.workflow.test_foreign_checkpoint import checkpoint
from tests.workflow.tiny_run import tiny_ensemble, tiny_run
from workflow.hub_folder import write_hub_folder
from workflow.predictor import Predictor, load_predictor

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 24, 24, 1), dtype=np.uint8)
CLASSES = ("NORMAL", "PNEUMONIA")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two judged runs on the same films."""
    root = tmp_path_factory.mktemp("hub")
    films = make_chest_xray(root / "films")
    found = [tiny_run(root / f"run{seed}", films, root / "home", seed=seed) for seed in (0, 1)]
    for run in found:
        judge(run)
    return found


def judge(run: Path) -> None:
    """Write the metrics.json of a tiny run."""
    parts = {
        name: read_predictions(run / "predictions" / f"{name}.csv", CLASSES, "PNEUMONIA") for name in ("val", "test")
    }
    point = OperatingPoint.from_dict(json.loads((run / "threshold.json").read_text()))
    metrics = evaluate_run(
        parts["val"],
        parts["test"],
        point,
        domain_aucs=dict.fromkeys(CLASSES),
        title="Films: simple_cnn",
        task="pneumonia",
        model="simple_cnn",
        phantom=False,
        group_name="patient",
        bootstrap=100,
        subgroup_columns=["subtype"],
        test_kind="official",
    )
    (run / "metrics.json").write_text(json.dumps(metrics))
    record = json.loads((run / "run.json").read_text())
    record["command"] = f"python train.py model.weights={run}/private/w.pth task=pneumonia"
    (run / "run.json").write_text(json.dumps(record))


def moved(folder: Path, place: Path) -> Path:
    """The folder at another place, as on another machine."""
    shutil.copytree(folder, place)
    shutil.rmtree(folder)
    return place


def scores(predictor: Predictor, pixels: NDArray[np.uint8] = PIXELS) -> NDArray[np.float64]:
    return predictor.scored(pixels).probabilities


def code_of(card: str, number: int) -> str:
    """The Python of the README, by its number."""
    return str(re.findall(r"```python\n(.*?)```", card, re.DOTALL)[number])


def test_a_run_becomes_a_folder_that_is_the_same_model_elsewhere(runs: list[Path], tmp_path: Path) -> None:
    ours = load_predictor(runs[0])
    folder = write_hub_folder(ours, tmp_path / "hub")
    assert folder == tmp_path / "hub"
    names = {".gitattributes", "README.md", "config.json", "metrics.json", "model.json", "model.safetensors"}
    assert {path.name for path in folder.iterdir()} == names
    theirs = load_predictor(moved(folder, tmp_path / "elsewhere"))
    assert np.array_equal(scores(ours), scores(theirs))
    for name in ("classes", "positive", "point", "calibrator", "borderline_from", "decoding", "weights_sha256"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert (theirs.about.group_name, theirs.about.subject, theirs.about.title) == ("patient", "xray", ours.about.title)
    assert theirs.about.licence == "CC BY 4.0"
    assert theirs.about.positive_called == ours.about.positive_called
    weights = [place / "model.safetensors" for place in (runs[0] / "model", tmp_path / "elsewhere")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_hub_can_read_the_card_and_the_configuration(runs: list[Path], tmp_path: Path) -> None:
    folder = write_hub_folder(load_predictor(runs[0]), tmp_path / "hub")
    data = ModelCard.load(folder / "README.md").data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-4.0", "firstread", "image-classification")
    assert {"radiology", "not-a-medical-device", "simple_cnn"} <= set(data.tags) and "timm" not in data.tags
    metrics = json.loads((folder / "metrics.json").read_text())
    test = metrics["splits"]["test"]
    found = {result.metric_name: result.metric_value for result in data.eval_results}
    assert found == {
        "AUROC": round(test["auroc"]["value"], 4),
        "sensitivity at the locked threshold": round(test["at_threshold"]["sensitivity"]["value"], 4),
        "specificity at the locked threshold": round(test["at_threshold"]["specificity"]["value"], 4),
    }
    assert "price" not in metrics["threshold"] and metrics["threshold"]["statement"]
    config = json.loads((folder / "config.json").read_text())
    assert (config["architecture"], config["num_classes"], config["num_logits"]) == ("simple_cnn", 2, 1)
    assert config["label_names"] == list(CLASSES) and config["pretrained_cfg"]["input_size"] == [1, 24, 24]
    assert "filter=lfs" in (folder / ".gitattributes").read_text()


def test_the_card_says_what_counts_and_nothing_of_the_machine(runs: list[Path], tmp_path: Path) -> None:
    folder = write_hub_folder(load_predictor(runs[0]), tmp_path / "hub")
    card = (folder / "README.md").read_text()
    statement = json.loads((runs[0] / "threshold.json").read_text())["statement"]
    for text in (
        "**Research and education only; not a medical device.**",
        "| 1 | PNEUMONIA | PNEUMONIA |",
        "Resize to 24 x 24 pixels by averaging over areas",
        statement,
        "### Test images by subtype",
        "There is no check of the input",
        "python predict.py run=FOLDER images=PATH",
        "model.weights=.../w.pth task=pneumonia",
    ):
        assert text in card, text
    for path in folder.iterdir():
        assert str(tmp_path.parent) not in path.read_text(encoding="utf-8", errors="ignore"), path.name
    for name, size, digest in re.findall(r"\| `(\S+)` \| ([\d,]+) \| `([0-9a-f]{64})` \|", card):
        assert (folder / name).stat().st_size == int(size.replace(",", "")), name
        assert len(digest) == 64
    listed = re.findall(r"(?m)^\| `(\S+)` \|", card)
    assert listed == ["config.json", "metrics.json", "model.json", "model.safetensors"]


def test_the_lines_of_the_card_run(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictor = load_predictor(runs[0])
    folder = write_hub_folder(predictor, tmp_path / "hub")
    write_image(tmp_path / "film.jpg", seed=5, size=60)
    code = code_of((folder / "README.md").read_text(), 0)
    held: dict[str, Any] = {}
    exec(code.replace("FOLDER", str(folder)).replace("IMAGE", str(tmp_path / "film.jpg")), held)
    expected = predictor.scored(held["pixels"][None])
    assert np.array_equal(held["scored"].probabilities, expected.probabilities)
    called = "positive" if expected.scores[0] >= predictor.point.threshold else "negative"
    assert capsys.readouterr().out.splitlines()[-1] == called


def bundle(
    folder: Path, classes: list[str], *, check: InputCheck | None = None, current: bool = False, **network: Any
) -> Path:
    """A model folder without a run; ``current``: with all that a run of today stores."""
    settings = {
        **{"name": "test_resnet", "weights": "none", "image_size": 32, "channels": 3, "pooling": "auto", "hidden": []},
        **{
            "dropout": 0.0,
            "metadata": [],
            "mean": [0.4, 0.5, 0.6],
            "std": [0.2, 0.25, 0.3],
            "interpolation": "bicubic",
        },
        **network,
    }
    torch.manual_seed(0)
    made = build_network(settings, 1 if len(classes) == 2 else len(classes))
    made.train()(torch.rand(4, settings["channels"], 32, 32))
    description = {
        **{"title": "Moles", "notice": "n", "network": settings, "classes": classes, "positive": classes[-1:]},
        **{"preprocessing": description_of(settings), "metadata": None, "views": "none", "phantom": True},
        **{"threshold": fixed_point(0.5, classes[-1], "rest").to_dict(), "calibration": Calibrator().to_dict()},
    }
    if current:
        task = {
            "name": "t",
            "title": "T",
            "dataset": "custom",
            "group_name": "g",
            "positive_name": "",
            "negative_name": "",
        }
        description |= {"task": {**task, "subject": "any"}, "licence": "CC BY 4.0", "citation": "", "version": "1"}
        description["borderline_from"] = None
    if check is not None:
        description["input_check"] = check.to_dict()
    save_bundle(made.eval(), description, folder, {} if check is None else {"input_check.safetensors": check.arrays})
    return folder


@pytest.mark.parametrize("classes", [["benign", "malignant"], ["a", "b", "c"]])
@pytest.mark.parametrize("pooling", ["auto", "max"])
def test_timm_alone_can_use_the_weights(tmp_path: Path, classes: list[str], pooling: str) -> None:
    predictor = load_predictor(bundle(tmp_path / "model", classes, pooling=pooling))
    folder = write_hub_folder(predictor, tmp_path / "hub")
    card = (folder / "README.md").read_text()
    pixels = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.25, 0.3])
    images = torch.from_numpy(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)).float()
    held: dict[str, Any] = {"images": images}
    exec(code_of(card, 1).replace("FOLDER", str(folder)), held)
    expected = predictor.scored(pixels).probabilities
    found = held["probabilities"].numpy()
    assert np.abs(found - (expected[:, 1] if len(classes) == 2 else expected)).max() < 1e-5
    assert json.loads((folder / "config.json").read_text())["timm_trunk"]["model_name"] == "test_resnet"
    data = ModelCard.load(folder / "README.md").data
    assert "timm" in data.tags and "phantom-data" in data.tags and data.eval_results is None
    assert "**Phantom data.**" in card and "No results are in the folder" in card


@pytest.mark.parametrize(
    "network", [{"hidden": [5]}, {"channels": 1, "grey_input": "repeat", "mean": [0.5], "std": [0.5]}]
)
def test_no_line_for_timm_where_timm_alone_is_not_enough(tmp_path: Path, network: dict[str, Any]) -> None:
    folder = write_hub_folder(load_predictor(bundle(tmp_path / "model", ["a", "b"], **network)), tmp_path / "hub")
    assert "timm.create_model" not in (folder / "README.md").read_text()
    assert json.loads((folder / "config.json").read_text())["timm_trunk"] is None


def test_an_ensemble_takes_its_networks_along(runs: list[Path], tmp_path: Path) -> None:
    ours = load_predictor(tiny_ensemble(tmp_path / "ensemble", runs))
    folder = moved(write_hub_folder(ours, tmp_path / "hub"), tmp_path / "elsewhere")
    theirs = load_predictor(folder)
    assert len(theirs.networks) == 2
    assert np.array_equal(scores(ours), scores(theirs))
    assert theirs.point == ours.point and theirs.calibrator == ours.calibrator
    assert "mean of the probabilities of 2 networks" in (folder / "README.md").read_text()
    assert (folder / "network_2" / "model.safetensors").is_file() and not (folder / "model.json").exists()


def test_a_checkpoint_becomes_a_folder_too(tmp_path: Path) -> None:
    checkpoint(tmp_path / "best.ckpt")
    ours = load_predictor(tmp_path / "best.ckpt")
    theirs = load_predictor(write_hub_folder(ours, tmp_path / "hub"))
    assert np.array_equal(scores(ours), scores(theirs)) and theirs.point == ours.point


def test_the_input_check_comes_along(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    train, val = ({key: rng.normal(size=(n, 6)).astype(np.float32) for key in PARTS} for n in (60, 80))
    check = fit_input_check(train, val, 0.05)
    model = bundle(tmp_path / "model", ["a", "b"], check=check)
    ours = load_predictor(model)
    folder = moved(write_hub_folder(ours, tmp_path / "hub"), tmp_path / "elsewhere")
    (theirs,) = load_predictor(folder).checks
    assert theirs is not None and theirs.to_dict() == check.to_dict()
    assert all(np.array_equal(array, theirs.arrays[name]) for name, array in check.arrays.items())
    assert "so are 5 % of the images like those of validation" in (folder / "README.md").read_text()
    description = (folder / "model.json").read_bytes()
    assert (model / "input_check.safetensors").read_bytes() == (folder / "input_check.safetensors").read_bytes()
    (folder / "input_check.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"input_check\.safetensors: SHA-256 is \w{64}, but model\.json names \w{64}"):
        load_predictor(folder)
    (folder / "input_check.safetensors").unlink()
    with pytest.raises(ValueError, match=r"input_check\.safetensors is missing"):
        load_predictor(folder)
    assert description == (folder / "model.json").read_bytes()


def test_a_description_of_today_is_copied_byte_for_byte(tmp_path: Path) -> None:
    model = bundle(tmp_path / "model", ["a", "b"], current=True)
    folder = write_hub_folder(load_predictor(model), tmp_path / "hub")
    assert (folder / "model.json").read_bytes() == (model / "model.json").read_bytes()


def test_the_model_folder_of_a_run_finds_its_results(runs: list[Path], tmp_path: Path) -> None:
    folder = write_hub_folder(load_predictor(runs[0] / "model"), tmp_path / "hub")
    assert (folder / "metrics.json").is_file()
    assert ModelCard.load(folder / "README.md").data.license == "cc-by-4.0"


def test_nothing_is_overwritten_and_nothing_half_written(runs: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    predictor = load_predictor(run)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="never overwritten"):
        write_hub_folder(predictor, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    weights = bytearray((run / "model" / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (run / "model" / "model.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match="SHA-256"):
        write_hub_folder(predictor, tmp_path / "hub")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "run"]


def test_a_folder_is_not_made_of_a_folder(runs: list[Path], tmp_path: Path) -> None:
    folder = write_hub_folder(load_predictor(runs[0]), tmp_path / "hub")
    with pytest.raises(ValueError, match="already is a hand-over folder"):
        write_hub_folder(load_predictor(folder), tmp_path / "again")


def test_no_file_outside_is_copied(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    folder = bundle(tmp_path / "model", ["a", "b"])
    description = json.loads((folder / "model.json").read_text())
    description["files"] = {"../secret.txt": "0" * 64}
    description["description_sha256"] = description_sha256(description)
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match="secret"):
        write_hub_folder(load_predictor(folder), tmp_path / "hub")
    assert not (tmp_path / "hub").exists()


def test_class_names_cannot_break_the_card(tmp_path: Path) -> None:
    name = "x|<b>*_\n---\nimport os"
    folder = write_hub_folder(load_predictor(bundle(tmp_path / "model", ["a", name])), tmp_path / "hub")
    card = (folder / "README.md").read_text()
    assert "<b>" not in card.split("```")[0].replace("\\<b\\>", "")
    assert "\nimport os" not in card
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "other"

"""A predictor is the run again, wherever it lies; what was changed since training is refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from datamodules.images import read_image
from evaluation.predictions import read_predictions
from evaluation.threshold import choose_operating_point, empirical_threshold, positive_group_scores
from models.bundle import description_sha256
from tests.conftest import make_chest_xray
from tests.workflow.fake_runs import change, read, write
from tests.workflow.tiny_run import tiny_ensemble, tiny_run
from workflow.hub_folder import write_hub_folder
from workflow.predictor import load_predictor

CLASSES = ("NORMAL", "PNEUMONIA")
PIXELS = np.random.default_rng(0).integers(0, 256, (130, 24, 24, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the films, a run on them (``run``), and another one (``other``)."""
    root = tmp_path_factory.mktemp("predictor")
    films = make_chest_xray(root / "films")
    for name, seed in (("run", 0), ("other", 1)):
        tiny_run(root / name, films, root / "home", seed=seed)
    return root


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    return Path(shutil.copytree(place / "run", tmp_path / "run"))


def test_it_gives_the_predictions_of_the_run(place: Path) -> None:
    predictor = load_predictor(place / "run")
    stored = read_predictions(place / "run" / "predictions" / "test.csv", CLASSES, "PNEUMONIA")
    files = {path.name: path for path in (place / "films" / "test").rglob("*.jpeg")}
    names = [str(name) for name in stored.frame["image_id"]]
    size, channels, interpolation = (predictor.decoding[key] for key in ("image_size", "channels", "interpolation"))
    pixels = [read_image(files[Path(name).name], size, channels, interpolation) for name in names]
    found = predictor.scored(np.stack(pixels))
    assert np.abs(found.probabilities - stored.probabilities).max() < 1e-6
    assert np.array_equal(found.scores >= predictor.point.threshold, stored.scores >= predictor.point.threshold)


def test_the_model_folder_alone_is_enough(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_predictor(place / "run")
    alone = tmp_path / "elsewhere" / "model"
    shutil.copytree(place / "run" / "model", alone)
    monkeypatch.setenv("FIRSTREAD_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("FIRSTREAD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    found = load_predictor(alone)
    assert np.array_equal(found.scored(PIXELS).probabilities, whole.scored(PIXELS).probabilities)
    for name in ("classes", "positive", "point", "calibrator", "decoding", "weights_sha256"):
        assert getattr(found, name) == getattr(whole, name), name
    assert sorted(path.name for path in alone.iterdir()) == ["model.json", "model.safetensors"]
    assert not (tmp_path / "home").exists()


def test_the_number_of_images_does_not_matter(place: Path) -> None:
    predictor = load_predictor(place / "run")
    whole = predictor.scored(PIXELS)
    for n in (1, 2, 7, 63, 64, 65):
        part = predictor.scored(PIXELS[:n])
        assert np.abs(part.probabilities - whole.probabilities[:n]).max() < 1e-6, n
        assert part.embeddings[0].shape == (n, whole.embeddings[0].shape[1])
    assert predictor.scored(PIXELS[:0]).probabilities.shape == (0, 2)


def test_threads_do_not_disturb_each_other(place: Path) -> None:
    predictor = load_predictor(place / "run")
    expected = [predictor.scored(PIXELS[n : n + 3]).probabilities for n in range(20)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: predictor.scored(PIXELS[n : n + 3]).probabilities, range(20)))
    assert all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True))


def test_an_old_run_gets_its_borderline_from_validation(run: Path) -> None:
    val = read_predictions(run / "predictions" / "val.csv", CLASSES, "PNEUMONIA")
    point = choose_operating_point(val, "empirical", 0.5, group_name="patient")
    write(run / "threshold.json", point.to_dict())
    _described(run, "threshold", to=point.to_dict())
    predictor = load_predictor(run)
    start, _ = empirical_threshold(positive_group_scores(val, point.group_score), 0.9)
    assert start < point.threshold, "the films must have a region to test"
    assert predictor.borderline_from == start
    assert predictor.checks == (None,)


def test_the_mean_of_several_runs(place: Path, tmp_path: Path) -> None:
    ensemble = tiny_ensemble(tmp_path / "ensemble", [place / "run", place / "other"])
    parts = [load_predictor(place / name).scored(PIXELS).probabilities for name in ("run", "other")]
    assert np.array_equal(load_predictor(ensemble).scored(PIXELS).probabilities, np.stack(parts).mean(axis=0))


Damage = Callable[[Path], object]


def _cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _described(run: Path, *keys: str, to: Any) -> None:
    """Change model.json and give it a hash that fits again, as somebody who knows how would."""
    path = run / "model" / "model.json"
    change(path, *keys, to=to)
    content = read(path)
    write(path, {**content, "description_sha256": description_sha256(content)})


def _drop_hash(run: Path) -> None:
    path = run / "model" / "model.json"
    content = read(path)
    del content["description_sha256"]
    content["threshold"]["threshold"] = 0.01
    write(path, content)
    change(run / "threshold.json", "threshold", to=0.01)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda run: _flip(run / "model" / "model.safetensors"),
            r"model\.safetensors: SHA-256 is \w{64}.* names \w{64}",
        ),
        (lambda run: _cut(run / "model" / "model.safetensors", 0.5), r"model\.safetensors: SHA-256 is"),
        (lambda run: (run / "model" / "model.safetensors").unlink(), r"model\.safetensors is missing"),
        (lambda run: (run / "model" / "model.json").unlink(), r"model\.json is missing"),
        (lambda run: _cut(run / "model" / "model.json", 0.7), r"model\.json is damaged"),
        (lambda run: (run / "model" / "model.json").write_text("[" * 100_000), r"model\.json is damaged"),
        (lambda run: (run / "model" / "model.json").write_text("[1]"), r"model\.json"),
        (lambda run: (run / "model" / "model.json").write_bytes(b"\xff\xfe{"), r"model\.json is damaged"),
        (
            lambda run: change(run / "model" / "model.json", "views", to="flip"),
            r"model\.json: .*SHA-256 \w{64}.*\w{64}",
        ),
        (
            lambda run: change(run / "model" / "model.json", "classes", to=list(CLASSES[::-1])),
            r"model\.json: .*SHA-256",
        ),
        (_drop_hash, r"model\.json.*description_sha256"),
        (lambda run: change(run / "threshold.json", "threshold", to=0.01), r"threshold\.json says threshold 0\.01"),
        (
            lambda run: change(run / "threshold.json", "statement", to="All are found."),
            r"threshold\.json says statement",
        ),
        (lambda run: change(run / "threshold.json", "target_recall", to=0.99), r"threshold\.json says target_recall"),
        (lambda run: _cut(run / "threshold.json", 0.5), r"threshold\.json cannot be read"),
        (lambda run: (run / "threshold.json").unlink(), r"threshold\.json is missing"),
        (
            lambda run: change(run / "run.json", "weights_sha256", to="0" * 64),
            r"run\.json names weights .*0{64}.*\w{64}",
        ),
        (lambda run: change(run / "run.json", "split_sha256", to="0" * 64), r"run\.json says split_sha256 '0{64}'"),
        (lambda run: change(run / "run.json", "phantom", to=True), r"run\.json says phantom True"),
        (lambda run: change(run / "run.json", "status", to="failed"), r"not finished"),
        (lambda run: _cut(run / "run.json", 0.5), r"run\.json cannot be read"),
        (
            lambda run: change(run / "config.yaml", "task", "classes", to=list(CLASSES[::-1])),
            r"config\.yaml says classes",
        ),
        (lambda run: change(run / "config.yaml", "task", "positive", to=["NORMAL"]), r"config\.yaml says positive"),
        (lambda run: (run / "config.yaml").write_text("task: ["), r"damaged"),
        (lambda run: write(run / "calibration.json", {"method": "none"}), r"stored calibration lacks"),
        (lambda run: _swapped_calibration(run), r"calibration\.json says intercept"),
        (lambda run: _described(run, "network", "filters", to=[5]), r"weights and the settings are not of one network"),
        (lambda run: _described(run, "network", "image_size", to=10**9), r"image_size is 1000000000"),
        (lambda run: _described(run, "network", "hidden", to=[10**9]), r"hidden is"),
        (lambda run: _described(run, "network", to="simple_cnn"), r"settings of the network"),
        (lambda run: _described(run, "classes", to="ab"), r"classes"),
        (lambda run: _described(run, "classes", to=["NORMAL", "NORMAL"]), r"classes"),
        (lambda run: _described(run, "positive", to=[]), r"positive"),
        (lambda run: _described(run, "files", to=["a"]), r"files"),
        (lambda run: _described(run, "views", to="sideways"), r"views"),
        (lambda run: _described(run, "views", to=["none"]), r"views"),
        (lambda run: _described(run, "metadata", to=["age"]), r"metadata"),
        (lambda run: _described(run, "network", "mean", to="0.5"), r"mean is '0\.5'"),
        (lambda run: _described(run, "network", "interpolation", to="none"), r"interpolation is 'none'"),
        (lambda run: _described(run, "borderline_from", to="0.1"), r"borderline_from is '0\.1'"),
        (lambda run: _described(run, "borderline_from", to=1.0), r"borderline_from is '1\.0'"),
        (lambda run: _described(run, "input_check", to={"alpha": 0.05}), r"input_check|input check"),
    ],
)
def test_what_was_changed_is_refused(run: Path, damage: Damage, said: str) -> None:
    load_predictor(run)
    damage(run)
    with pytest.raises(ValueError, match=said) as caught:
        load_predictor(run)
    assert len(str(caught.value)) < 700, "a message, not the file"


def _swapped_calibration(run: Path) -> None:
    held = read(run / "model" / "model.json")["calibration"]
    write(run / "calibration.json", {**held, "intercept": held["intercept"] + 1})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nothing", "no such folder or file"),
        ("~nobody_of_this_name/run", "no such folder or file"),
        ("x" * 5000, "no such folder or file"),
        ("films", "neither a run nor a model"),
    ],
)
def test_what_is_no_model_is_said(place: Path, source: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_predictor(Path(source) if source.startswith("~") else place / source)


@pytest.fixture
def handed(place: Path, tmp_path: Path) -> Path:
    """A hand-over folder of two networks."""
    ensemble = tiny_ensemble(tmp_path / "ensemble", [place / "run", place / "other"])
    return write_hub_folder(load_predictor(ensemble), tmp_path / "hub")


def _ensemble(folder: Path, **changes: Any) -> None:
    content = {**read(folder / "ensemble.json"), **changes}
    write(folder / "ensemble.json", {**content, "description_sha256": description_sha256(content)})


def _members(folder: Path, *names: str) -> list[dict[str, Any]]:
    digest = read(folder / "network_1" / "model.json")["weights_sha256"]
    return [{"folder": name, "weights_sha256": digest} for name in names]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda folder: change(folder / "ensemble.json", "threshold", "threshold", to=0.1),
            r"ensemble\.json: .*SHA-256",
        ),
        (lambda folder: _cut(folder / "ensemble.json", 0.5), r"ensemble\.json is damaged"),
        (lambda folder: shutil.rmtree(folder / "network_2"), r"network_2.*is missing"),
        (lambda folder: _flip(folder / "network_2" / "model.safetensors"), r"network_2.*SHA-256"),
        (lambda folder: _swap(folder), r"network_\d.*not those that ensemble\.json names"),
        (lambda folder: _ensemble(folder, members=[]), r"members"),
        (lambda folder: _ensemble(folder, members=_members(folder, "../hub/network_1")), r"not a folder beside it"),
        (lambda folder: _ensemble(folder, members=_members(folder, "..")), r"not a folder beside it"),
        (lambda folder: _ensemble(folder, members=_members(folder, "/etc")), r"not a folder beside it"),
        (lambda folder: _ensemble(folder, members=[{"folder": "network_1"}]), r"weights_sha256"),
        (lambda folder: _ensemble(folder, members="network_1"), r"members"),
        (lambda folder: _ensemble(folder, classes=["A", "B"]), r"classes"),
        (lambda folder: _ensemble(folder, threshold={"threshold": 0.5}), r"lacks"),
        (lambda folder: _ensemble(folder, threshold=0.5), r"no threshold"),
        (lambda folder: _reversed(folder / "network_2"), r"classes"),
    ],
)
def test_a_handed_over_ensemble_is_checked_as_well(handed: Path, damage: Damage, said: str) -> None:
    load_predictor(handed)
    damage(handed)
    with pytest.raises(ValueError, match=said):
        load_predictor(handed)


def _swap(folder: Path) -> None:
    (folder / "network_1").rename(folder / "aside")
    (folder / "network_2").rename(folder / "network_1")
    (folder / "aside").rename(folder / "network_2")


def _reversed(member: Path) -> None:
    """The same weights with the classes in another order, and a hash that fits."""
    content = {**read(member / "model.json"), "classes": list(CLASSES[::-1])}
    write(member / "model.json", {**content, "description_sha256": description_sha256(content)})


def test_a_model_of_version_0_1_has_no_hash_of_its_description(run: Path) -> None:
    path = run / "model" / "model.json"
    content = read(path)
    del content["description_sha256"], content["files"]
    write(path, content)
    assert load_predictor(run).point.threshold == content["threshold"]["threshold"]


def test_config_yaml_is_not_run(run: Path) -> None:
    settings = (run / "config.yaml").read_text()
    pwned = run / "pwned"
    (run / "config.yaml").write_text(f"{settings}\nevil: !!python/object/apply:builtins.open ['{pwned}', 'w']\n")
    with pytest.raises(ValueError, match="damaged"):
        load_predictor(run)
    assert not pwned.exists()
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load((run / "config.yaml").read_text())

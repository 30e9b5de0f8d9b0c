"""A scorer gives a run's own predictions, and refuses what is not the run any more."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.predictions import read_predictions
from tests.conftest import make_chest_xray
from tests.workflow.fake_runs import change
from tests.workflow.tiny_run import tiny_ensemble, tiny_run
from workflow.own_data import own_data
from workflow.scoring import load_scorer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scoring")


@pytest.fixture(scope="module")
def root(place: Path) -> Path:
    return make_chest_xray(place / "chest_xray")


@pytest.fixture(scope="module")
def run(place: Path, root: Path) -> Path:
    return tiny_run(place / "runs" / "one", root, place / "home")


def own_scores(run: Path, part: str = "test") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a scorer makes of the pixels of a part, and what the run wrote."""
    scorer = load_scorer(run)
    prepared = own_data(scorer)
    rows = prepared.splits.rows(part)
    written = read_predictions(run / "predictions" / f"{part}.csv", scorer.classes, **scorer.outcome)
    return scorer.probabilities(prepared.pixels[rows]), written.probabilities


@pytest.mark.parametrize("part", ["val", "test"])
def test_the_scores_are_those_of_the_run(run: Path, part: str) -> None:
    ours, written = own_scores(run, part)
    # The module took all images at once, a scorer takes 64: float32 convolutions may round otherwise.
    assert ours == pytest.approx(written, abs=1e-6) and written[:, 1].std() > 0.01
    assert ours.sum(axis=1) == pytest.approx(1)


def test_views_are_averaged_as_in_the_run(place: Path, root: Path, run: Path) -> None:
    flipped = tiny_run(place / "runs" / "flip", root, place / "home", tta="flip")
    ours, written = own_scores(flipped)
    assert ours == pytest.approx(written, abs=1e-6)
    assert np.abs(ours - own_scores(run)[0]).max() > 1e-4  # the same weights, seen in one way only


def test_an_ensemble_averages_its_runs(place: Path, root: Path, run: Path) -> None:
    second = tiny_run(place / "runs" / "two", root, place / "home", seed=1)
    ensemble = load_scorer(tiny_ensemble(place / "ensembles" / "pair", [run, second]))
    prepared = own_data(ensemble)
    pixels = prepared.pixels[prepared.splits.rows("test")]
    apart = [load_scorer(folder).probabilities(pixels) for folder in (run, second)]
    assert np.array_equal(ensemble.probabilities(pixels), np.mean(apart, axis=0))
    assert np.abs(apart[0] - apart[1]).max() > 1e-3 and ensemble.name == "simple_cnn (mean of 2)"


def test_pixels_of_another_size_are_refused(run: Path) -> None:
    with pytest.raises(ValueError, match=r"takes \(n, 24, 24, 1\)"):
        load_scorer(run).probabilities(np.zeros((2, 32, 32, 1), dtype=np.uint8))


def test_other_data_than_those_of_the_run_are_refused(run: Path, tmp_path: Path) -> None:
    other = make_chest_xray(tmp_path / "chest_xray", train_patients=39)
    with pytest.raises(ValueError, match=r"are not those of .* manifest_sha256 is"):
        own_data(load_scorer(run), other)


def test_data_that_have_moved_are_found_again(run: Path, root: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved)
    assert own_data(load_scorer(run), moved).manifest.sha256 == own_data(load_scorer(run)).manifest.sha256


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_changed_weights_are_refused(copied: Path) -> None:
    weights = copied / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="changed after training"):
        load_scorer(copied)


def test_a_baseline_has_no_network(copied: Path) -> None:
    change(copied / "config.yaml", "model", "name", to="baseline_thumbnail")
    with pytest.raises(ValueError, match="is the baseline thumbnail, which leaves predictions and no network"):
        load_scorer(copied)


def test_an_unfinished_run_is_refused(copied: Path) -> None:
    change(copied / "run.json", "status", to="interrupted")
    with pytest.raises(ValueError, match=r"not finished \(status interrupted\)"):
        load_scorer(copied)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such folder"):
        load_scorer(tmp_path / "none")
    with pytest.raises(ValueError, match=r"run.json is missing, so it is no run folder"):
        load_scorer(tmp_path)


def test_an_ensemble_needs_its_runs_unchanged(copied: Path, tmp_path: Path) -> None:
    ensemble = tiny_ensemble(tmp_path / "ensemble", [copied])
    change(ensemble / "run.json", "members", to=[{"run": str(copied), "weights_sha256": "0" * 64}])
    with pytest.raises(ValueError, match=r"are not those that .* was made with"):
        load_scorer(ensemble)
    change(ensemble / "run.json", "members", to=[{"run": str(tmp_path / "gone"), "weights_sha256": None}])
    with pytest.raises(ValueError, match="which is not there any more"):
        load_scorer(ensemble)

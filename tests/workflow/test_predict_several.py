"""Several runs named at once are the ensemble of them, or are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conf.predict_options import parsed
from datamodules.progress import silent
from evaluation.predictions import read_predictions
from tests.conftest import make_chest_xray
from tests.workflow.tiny_run import tiny_run
from workflow.predict_several import predictor_of
from workflow.predicting import predict
from workflow.prediction_inputs import find_inputs
from workflow.predictor import Predictor, load_predictor


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("several")


@pytest.fixture(scope="module")
def root(place: Path) -> Path:
    return make_chest_xray(place / "chest_xray", train_patients=24)


@pytest.fixture(scope="module")
def run(place: Path, root: Path) -> Path:
    return tiny_run(place / "run", root, place / "home")


def scores_of(predictor: Predictor, images: Path, output: Path) -> list[float]:
    options = parsed([f"run={predictor.source}", f"images={images}", f"output={output}", "format=json"])
    predict(predictor, find_inputs(options.images), options, "typed", silent)
    return [image["score"] for image in json.loads((output / "predictions.json").read_text(encoding="utf-8"))["images"]]


def test_several_runs_answer_as_the_ensemble_of_them(run: Path, root: Path, place: Path, tmp_path: Path) -> None:
    runs = [run, tiny_run(place / "second", root, place / "home", seed=1)]
    for folder in runs:
        locked = json.loads((folder / "threshold.json").read_text(encoding="utf-8"))
        (folder / "metrics.json").write_text(json.dumps({"threshold": locked}), encoding="utf-8")
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        (folder / "run.json").write_text(json.dumps(record | {"title": "Films"}), encoding="utf-8")
    together = predictor_of(runs)
    mean = np.mean(
        [read_predictions(path / "predictions" / "val.csv", together.classes, "PNEUMONIA").scores for path in runs],
        axis=0,
    )
    assert together.point.threshold in mean and len(together.networks) == len(together.checks) == 2
    scores = [
        scores_of(predictor, root / "test", tmp_path / str(number))
        for number, predictor in enumerate([*map(load_predictor, runs), together])
    ]
    assert scores[2] == pytest.approx(np.mean(scores[:2], axis=0).tolist(), abs=1e-12)
    assert "mean of 2" in together.about.model


def test_what_does_not_belong_together_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"this is no run folder of train\.py\. Name run folders, or one ensemble"):
        predictor_of([run, run / "model"])
    with pytest.raises(ValueError, match="is given twice"):
        predictor_of([run, run.parent / "." / "run"])

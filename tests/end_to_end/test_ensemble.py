"""ensemble.py through the real command line: two folds of a tiny network, and their mean on the official test part."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from datamodules.prepared import prepare
from evaluation.predictions import read_predictions
from tests.conftest import run_command, run_train
from tests.end_to_end.conftest import PLAIN
from workflow.members import read_members
from workflow.official_test import score_images

FOLDS = ["sweep=folds", "split.folds=2", "trainer.max_epochs=1", "evaluation.baselines=[thumbnail]"]


def assert_mean_of_folds_on_official_test(folder: Path, runs: list[Path]) -> None:
    """The test scores are the mean of both networks over the views they were validated with, and no image was trained on."""
    members = read_members(runs)
    prepared = prepare(members[0].config)
    frame = prepared.manifest.frame
    test = pd.read_csv(folder / "predictions" / "test.csv")
    assert set(test["image_id"]) == set(frame.loc[frame["split"] == "test", "image_id"])
    rows = np.flatnonzero(frame["image_id"].isin(test["image_id"]))
    means = np.mean([score_images(member, prepared, rows)[:, 1] for member in members], axis=0)
    assert np.allclose(test["prob_PNEUMONIA"], means, rtol=1e-12)
    for member in members:
        own, fold = member.predictions("test"), prepare(member.config)
        again = score_images(member, fold, fold.splits.rows("test"))
        # The same network, views and preprocessing as in the run; batches of another size move the last bits.
        assert np.allclose(again, own.probabilities, atol=1e-6)


def test_folds_become_one_model_on_the_official_test_part(home: Path) -> None:
    done = run_train(*PLAIN, *FOLDS, "evaluation.tta=flip", "hydra.sweep.dir=multirun/folds", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "python ensemble.py runs=multirun/folds" in done.stdout
    assert "mean (sd over folds)" in done.stdout
    made = run_command("ensemble.py", "runs=multirun/folds", "output=ensembles/folds", home=home, warm=False)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "ensemble, official test" in made.stdout and "all folds pooled" in made.stdout
    folder, runs = home / "ensembles" / "folds", [home / "multirun" / "folds" / name for name in "01"]
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test_kind"] == "official" and metrics["baseline"] is not None
    joined = read_predictions(folder / "predictions" / "val.csv", metrics["classes"], "PNEUMONIA")
    own = [pd.read_csv(run / "predictions" / "test.csv") for run in runs]
    assert len(joined) == sum(map(len, own)) == metrics["pooled"]["n"]
    assert metrics["threshold"]["threshold"] in joined.scores
    assert "approximate" in metrics["threshold"]["statement"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Mean of 2 folds" in page and "Traceback" not in made.stderr
    assert (folder / "figures" / "roc.png").is_file() and (folder / "figures" / "roc.svg").is_file()
    assert_mean_of_folds_on_official_test(folder, runs)

    again = run_command("ensemble.py", "runs=multirun/folds", "output=ensembles/folds", home=home)
    assert again.returncode == 2 and "never overwritten" in again.stderr
    assert "Traceback" not in again.stderr

"""A finished run under corruptions: everything written or nothing, clean scores those of the run, the run left alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from explain.corruptions import kinds_for
from tests.conftest import make_chest_xray
from tests.workflow.tiny_run import tiny_run
from workflow.robustness import print_robustness, robustness_of
from workflow.subjects import subject_of

Made = tuple[Path, dict[str, Any], Path]


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The run, the content of robustness.json, and its folder."""
    place = tmp_path_factory.mktemp("robustness")
    run = tiny_run(place / "run", make_chest_xray(place / "chest_xray"), place / "home")
    before = stamps(run)
    content, folder = robustness_of(run, command="typed", output=place / "out", progress=False)
    assert stamps(run) == before, "a finished run must not be changed"
    return run, content, folder


def test_every_kind_and_strength_is_judged(made: Made) -> None:
    _, content, folder = made
    assert [item["kind"] for item in content["kinds"]] == list(kinds_for("xray"))
    assert all([cell["strength"] for cell in item["cells"]] == [1, 2, 3, 4, 5] for item in content["kinds"])
    assert json.loads((folder / "robustness.json").read_text(encoding="utf-8")) == content
    assert content["notice"] in (folder / "report.html").read_text(encoding="utf-8")
    assert {path.name for path in folder.iterdir()} == {
        "robustness.json",
        "robustness.csv.gz",
        "report.html",
        "figures",
    }


def test_clean_images_score_as_in_the_run_and_the_threshold_is_its_own(made: Made) -> None:
    run, content, folder = made
    scores = pd.read_csv(folder / "robustness.csv.gz")
    clean = scores[scores["kind"] == "clean"].set_index("image_id")["prob_PNEUMONIA"]
    written = pd.read_csv(run / "predictions" / "test.csv").set_index("image_id")["prob_PNEUMONIA"]
    assert clean.loc[written.index].to_numpy() == pytest.approx(written.to_numpy(), abs=1e-6)
    assert content["largest_difference_to_run"] < 1e-6
    point = json.loads((run / "threshold.json").read_text(encoding="utf-8"))
    assert content["threshold"]["threshold"] == point["threshold"]


def test_the_figures_are_those_of_the_scores_on_disk(made: Made) -> None:
    run, content, folder = made
    labels = pd.read_csv(run / "predictions" / "test.csv").set_index("image_id")["label"] == "PNEUMONIA"
    scores = pd.read_csv(folder / "robustness.csv.gz")
    assert len(scores) == len(labels) * (1 + 5 * len(content["kinds"]))
    for kind in content["kinds"]:
        cell = kind["cells"][4]
        rows = scores[(scores["kind"] == kind["kind"]) & (scores["strength"] == 5)].set_index("image_id")
        flagged = rows["prob_PNEUMONIA"].loc[labels.index].to_numpy() >= content["threshold"]["threshold"]
        assert cell["sensitivity"]["value"] == pytest.approx(flagged[labels].mean())
        assert cell["specificity"]["value"] == pytest.approx(1 - flagged[~labels].mean())
    assert len({tuple(part["prob_PNEUMONIA"]) for _, part in scores.groupby(["kind", "strength"])}) > 30


def test_a_subset_scores_as_the_whole_does(made: Made, tmp_path: Path) -> None:
    _, content, folder = made
    run = Path(shutil.copytree(made[0], tmp_path / "run"))
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    config["evaluation"]["interval"] = "bca"
    (run / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    fewer, there = robustness_of(run, command="typed", output=tmp_path / "out", images=8, bootstrap=50, progress=False)
    assert 8 <= fewer["images"]["n"] < content["images"]["n"] and "drawn at random (seed 0)" in fewer["images"]["how"]
    assert fewer["bootstrap"]["method"] == "bca" and "BCa" in fewer["clean"]["brier"]["method"]
    keys = ["image_id", "kind", "strength"]
    both = pd.read_csv(there / "robustness.csv.gz").merge(pd.read_csv(folder / "robustness.csv.gz"), on=keys)
    assert len(both) == fewer["images"]["n"] * 41
    assert np.abs(both["prob_PNEUMONIA_x"] - both["prob_PNEUMONIA_y"]).max() < 1e-6


def test_it_is_printed_with_the_worst_kind(made: Made) -> None:
    console = Console(record=True, width=200, highlight=False)
    print_robustness(made[1], console)
    text = console.export_text()
    assert made[1]["findings"]["sentence"] in " ".join(text.split())


def test_nothing_is_overwritten_and_nothing_half_written(made: Made, tmp_path: Path) -> None:
    run, _, folder = made
    with pytest.raises(ValueError, match="never overwritten"):
        robustness_of(run, command="typed", output=folder, progress=False)
    with pytest.raises(ValueError, match="images=1"):
        robustness_of(run, command="typed", output=tmp_path / "out", images=1, progress=False)
    assert not (tmp_path / "out").exists()


def test_a_cross_validation_has_no_images_that_all_networks_have_not_seen(made: Made) -> None:
    stored = made[0] / "predictions" / "test.csv"
    kept = stored.read_bytes()
    stored.unlink()
    try:
        with pytest.raises(ValueError, match="Take the run of one fold"):
            robustness_of(made[0], command="typed", output=made[2].parent / "none", progress=False)
    finally:
        stored.write_bytes(kept)


def test_the_kind_of_image_follows_from_the_data_set() -> None:
    assert [subject_of({"dataset": name}) for name in ("chest_xray", "isic9", "my_images")] == ["xray", "skin", "any"]

"""Foreign images against a finished run: built-in sets, folders, the record and its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from rich.console import Console

from datamodules.images import read_image
from datamodules.prepared import PreparedData
from evaluation.input_check import InputCheck
from tests.conftest import make_chest_xray
from tests.workflow.tiny_run import tiny_run
from workflow import input_checking
from workflow.foreign_folders import foreign_of, print_foreign
from workflow.foreign_inputs import Checked, judged_test, verdicts_on
from workflow.foreign_sets import built_in_sets
from workflow.input_checking import embeddings_of, fitted
from workflow.own_data import own_data
from workflow.scoring import Scorer, load_scorer, mean_scored

Made = tuple[Path, dict[str, Any], Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The run, the content of foreign.json, and its folder."""
    place = tmp_path_factory.mktemp("foreign")
    run = tiny_run(place / "run", make_chest_xray(place / "chest_xray", 80), place / "home")
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        (place / "skin" / "below").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / "skin" / "below" / f"{number}.png")
    (place / "skin" / "broken.jpg").write_text("no image")
    content, folder = foreign_of(run, [place / "skin"], command="typed", output=place / "out", progress=False)
    return run, content, folder


@pytest.fixture(scope="module")
def own(made: Made) -> tuple[Scorer, PreparedData]:
    scorer = load_scorer(made[0])
    return scorer, own_data(scorer)


def check_of(own: tuple[Scorer, PreparedData], alpha: float = 0.3) -> InputCheck:
    scorer, prepared = own
    part = scorer.networks[0]
    check = fitted(part.network, part.description["network"], prepared, alpha, 0)
    assert check is not None
    return check


def test_the_record_is_whole_and_its_page_shows_it(made: Made) -> None:
    _, content, folder = made
    assert {path.name for path in folder.iterdir()} == {"foreign.json", "distances.csv", "report.html", "figures"}
    assert json.loads((folder / "foreign.json").read_text(encoding="utf-8")) == content
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert content["notice"] in page and "because the run was made before runs had one" in page
    for item in content["sets"]:
        assert item["name"] in page
    rows = pd.read_csv(folder / "distances.csv")
    assert rows["set"].value_counts()["test"] == content["test"]["n"]
    assert rows["set"].value_counts()["folder_0"] == 5


def test_a_folder_of_colour_pictures_is_turned_away_by_a_model_of_grey_ones(made: Made) -> None:
    _, content, folder = made
    skin = content["sets"][0]
    assert (skin["name"], skin["n"], skin["unreadable"], skin["abstain"]) == ("skin", 5, 1, 1.0)
    assert skin["checks"] == {"auroc": 1.0, "fpr95": 0.0}
    reasons = pd.read_csv(folder / "distances.csv").query("set == 'folder_0'")["reasons"]
    assert reasons.str.startswith("in colour (mean chroma").all()
    assert content["test"]["by_file"] == 0.0


def test_the_figures_follow_from_the_distances_on_disk(made: Made) -> None:
    _, content, folder = made
    rows = pd.read_csv(folder / "distances.csv")
    own_distances = rows.loc[rows["set"] == "test", "strangeness"].to_numpy()
    for item in content["sets"]:
        theirs = rows.loc[rows["set"] == item["key"], "strangeness"].to_numpy()
        above = (theirs[:, None] > own_distances).mean() + 0.5 * (theirs[:, None] == own_distances).mean()
        assert item["distance"]["auroc"] == pytest.approx(above, abs=1e-9)


def test_the_terminal_shows_every_set(made: Made) -> None:
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_foreign(made[1], console)
    text = console.export_text()
    assert all(item["name"] in text for item in made[1]["sets"])


def test_nothing_is_written_for_a_folder_without_images(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no image in this folder"):
        foreign_of(made[0], [tmp_path], command="", output=tmp_path / "out", progress=False)
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(ValueError, match="none of its 1 images can be read"):
        foreign_of(made[0], [tmp_path], command="", output=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_embeddings_are_those_of_the_scorer_and_the_network_stays_as_it_was(own: tuple[Scorer, PreparedData]) -> None:
    scorer, prepared = own
    part, pixels = scorer.networks[0], np.asarray(prepared.pixels[:70])
    part.network.train()
    try:
        found = embeddings_of(part.network, part.description["network"], pixels)
        assert part.network.training
    finally:
        part.network.eval()
    expected = mean_scored(scorer.networks, pixels, None, torch.device("cpu"))[1][0]
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_test_images_are_judged_by_their_pixels_where_a_file_is_gone(own: tuple[Scorer, PreparedData]) -> None:
    scorer, prepared = own
    part = scorer.networks[0]
    checked = [Checked(part.network, part.description["network"], check_of(own))]
    before = judged_test(checked, prepared, 0)
    path = prepared.root / before.names[0]
    content = path.read_bytes()
    path.unlink()
    try:
        after = judged_test(checked, prepared, 0)
    finally:
        path.write_bytes(content)
    assert after.names == before.names and after.unreadable == 0
    assert [item.p_value for item in after.verdicts] == [item.p_value for item in before.verdicts]


def test_a_training_file_that_is_gone_costs_the_limits_of_the_file_alone(
    own: tuple[Scorer, PreparedData], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datamodules.errors import UnreadableImageError

    def gone(*arguments: Any, **more: Any) -> None:
        raise UnreadableImageError("a.png: cannot be read")

    assert {limit.name for limit in check_of(own).limits} == {"contrast", "side", "aspect", "chroma"}
    monkeypatch.setattr("workflow.input_checking.decoded", gone)
    assert {limit.name for limit in check_of(own).limits} == {"contrast"}
    assert "because one cannot be read (a.png" in caplog.text


def test_calibration_is_one_image_a_patient_of_validation_and_never_in_the_reference(
    own: tuple[Scorer, PreparedData], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, prepared = own
    part, seen = scorer.networks[0], []

    def noted(network: Any, described_as: Any, prepared: PreparedData, rows: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(rows)
        return original(network, described_as, prepared, rows)

    original = input_checking._seen
    monkeypatch.setattr(input_checking, "_seen", noted)
    check = check_of(own)
    train, val = seen
    assert set(train) <= set(prepared.splits.rows("train")) and set(val) <= set(prepared.splits.rows("val"))
    groups = prepared.manifest.frame["group_id"]
    assert sorted(groups.iloc[val]) == sorted(set(groups.iloc[prepared.splits.rows("val")]))
    assert check.n == len(val)
    monkeypatch.setattr(input_checking, "CALIBRATION", 3)
    capped = fitted(part.network, part.description["network"], prepared, 0.3, 0)
    assert capped is not None and capped.n == 3


def test_the_same_run_gives_the_same_check(own: tuple[Scorer, PreparedData]) -> None:
    first, second = check_of(own), check_of(own)
    assert first.to_dict() == second.to_dict()
    assert all((first.arrays[name] == second.arrays[name]).all() for name in first.arrays)


def test_of_two_networks_the_stranger_verdict_counts(own: tuple[Scorer, PreparedData]) -> None:
    scorer, prepared = own
    part, check = scorer.networks[0], check_of(own)
    one = Checked(part.network, part.description["network"], check)
    pixels = np.asarray(prepared.pixels[:4])
    from datamodules.appearance import described

    facts = [{"layout": a, "texture": b} for a, b in zip(*described(pixels), strict=True)]
    single, double = verdicts_on([one], pixels, facts), verdicts_on([one, one], pixels, facts)
    assert [item.p_value for item in double] == pytest.approx([min(2 * item.p_value, 1.0) for item in single])


@pytest.mark.parametrize(("subject", "channels", "drawn"), [("xray", 1, 1), ("skin", 3, 1), ("any", 1, 0)])
def test_built_in_sets_are_readable_and_of_the_wanted_shape(subject: str, channels: int, drawn: int) -> None:
    sets = {item.key: item for item in built_in_sets(subject, channels, (48, 64), n=10)}
    assert ("drawings" in sets) == bool(drawn)
    assert ("grey_photographs" in sets) == (channels == 1)
    for item in sets.values():
        assert len(item.files) == (1 if item.key == "black" else 10)
        pixels = np.stack([read_image_of(content, channels) for content in item.files])
        assert (pixels.max() == 0) == (item.key == "black")
    again = {item.key: item.files for item in built_in_sets(subject, channels, (48, 64), n=10)}
    assert again == {key: item.files for key, item in sets.items()}


def read_image_of(content: bytes, channels: int) -> np.ndarray:
    return read_image(content, 24, channels)

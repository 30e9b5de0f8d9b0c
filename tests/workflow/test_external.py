"""Another data set: classes mapped, seen images left out, thresholds unchanged, a matrix and whole reports."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from evaluation.predictions import Predictions
from tests.conftest import make_chest_xray, write_image
from tests.workflow.tiny_run import tiny_ensemble, tiny_run
from workflow.aggregating import aggregate_runs, print_aggregate
from workflow.external import _apart, external_of, print_external
from workflow.other_data import classes_in_terms

OURS = ("NORMAL", "PNEUMONIA")
pytestmark = pytest.mark.usefixtures("no_figure_files")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("external")


@pytest.fixture(scope="module")
def root(place: Path) -> Path:
    return make_chest_xray(place / "chest_xray")


@pytest.fixture(scope="module")
def run(place: Path, root: Path) -> Path:
    return tiny_run(place / "run", root, place / "home")


def used(run: Path, part: str) -> list[str]:
    splits = pd.read_csv(run / "splits.csv", dtype=str)
    return list(splits.loc[splits["split"] == part, "image_id"])


@pytest.fixture(scope="module")
def elsewhere(place: Path, root: Path, run: Path) -> Path:
    """Folders healthy, sick and odd; among them one training film, one validation film, and a training film saved again."""
    folder = place / "elsewhere"
    for number in range(12):
        for offset, name in enumerate(("healthy", "sick", "odd")):
            write_image(folder / name / f"{number}.jpg", 5000 + 100 * offset + number)
    train = [name for name in used(run, "train") if "NORMAL" in name]
    shutil.copy(root / train[0], folder / "healthy" / "copy.jpg")
    shutil.copy(root / used(run, "val")[0], folder / "sick" / "copy.jpg")
    film = cv2.imread(str(root / train[1]), cv2.IMREAD_GRAYSCALE)
    assert film is not None
    again = cv2.resize(film, (40, 40), interpolation=cv2.INTER_CUBIC)
    assert cv2.imwrite(str(folder / "healthy" / "again.jpg"), again, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return folder


def overrides(place: Path, folder: Path, *more: str) -> list[str]:
    return ["task=folder", f"data.root={folder}", f"data.prepared={place / 'home'}", *more]


MAPPING = {"healthy": "NORMAL", "sick": "PNEUMONIA", "odd": "drop"}


@pytest.fixture(scope="module")
def made(place: Path, run: Path, elsewhere: Path) -> tuple[dict[str, Any], Path]:
    return external_of(
        [run],
        overrides(place, elsewhere),
        mapping=MAPPING,
        command="typed",
        output=place / "out",
        progress=False,
        bootstrap=50,
    )


def test_what_the_run_has_seen_is_left_out(made: tuple[dict[str, Any], Path]) -> None:
    content, folder = made
    seen = content["rows"][0]["seen"]
    assert (seen["by_content"], seen["by_picture"], seen["unchecked"]) == (2, 1, "")
    test = pd.read_csv(folder / content["rows"][0]["folder"] / "predictions" / "test.csv")
    assert not test["image_id"].str.contains("copy|again").any() and len(test) == 24
    assert content["rows"][0]["external"]["n"] == 24 and content["tested_on"]["dropped"] == {"odd": 12}


def test_threshold_and_scores_are_those_of_the_run(made: tuple[dict[str, Any], Path], run: Path) -> None:
    content, folder = made
    own = json.loads((run / "threshold.json").read_text(encoding="utf-8"))
    inside = folder / content["rows"][0]["folder"]
    for name in ("threshold.json", "metrics.json"):
        found = json.loads((inside / name).read_text(encoding="utf-8"))
        assert found.get("threshold", found) in (own["threshold"], found["threshold"])
    metrics = json.loads((inside / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["threshold"]["threshold"] == content["rows"][0]["threshold"] == own["threshold"]
    assert metrics["test_kind"] == "external" and metrics["calibration"] is not None
    test = pd.read_csv(inside / "predictions" / "test.csv")
    sick = test["label"] == "PNEUMONIA"
    flagged = test["prob_PNEUMONIA"] >= own["threshold"]
    assert content["rows"][0]["external"]["sensitivity"]["value"] == pytest.approx(flagged[sick].mean())
    assert metrics["splits"]["test"]["at_threshold"]["sensitivity"]["value"] == pytest.approx(flagged[sick].mean())


def test_the_own_test_part_stands_beside_it(made: tuple[dict[str, Any], Path], run: Path) -> None:
    row = made[0]["rows"][0]
    own = pd.read_csv(run / "predictions" / "test.csv")
    sick = own["label"] == "PNEUMONIA"
    assert row["own"]["n"] == len(own)
    assert row["own"]["sensitivity"]["value"] == pytest.approx((own["prob_PNEUMONIA"][sick] >= row["threshold"]).mean())
    assert row["difference"]["sensitivity"]["value"] == pytest.approx(
        row["external"]["sensitivity"]["value"] - row["own"]["sensitivity"]["value"]
    )


def test_reports_data_card_and_classes_there_are_written(made: tuple[dict[str, Any], Path]) -> None:
    content, folder = made
    inside = folder / content["rows"][0]["folder"]
    assert {"external.json", "report.html"} <= {path.name for path in folder.iterdir()}
    page = (inside / "report.html").read_text(encoding="utf-8")
    assert "External data" in page and "Classes were mapped: healthy as NORMAL; sick as PNEUMONIA." in page
    card = json.loads((inside / "data_card.json").read_text(encoding="utf-8"))
    assert card["parts"]["test"]["images"] == 24 and card["parts"]["train"]["images"] == 0
    assert set(pd.read_csv(inside / "predictions" / "test.csv")["class_there"]) == {"healthy", "sick"}
    console = Console(record=True, width=250, highlight=False)
    print_external(content, console)
    assert "3 images left out, which this run has seen" in console.export_text()


def test_groups_have_names_of_their_own_in_the_report(made: tuple[dict[str, Any], Path]) -> None:
    """Two data sets may both have a patient 1; image names stay where they tell images apart."""
    content, folder = made
    inside = folder / content["rows"][0]["folder"]
    test = pd.read_csv(inside / "predictions" / "test.csv", dtype=str)
    assert test["group_id"].str.startswith("external/").all()
    assert not test["image_id"].str.startswith("external/").any()


def test_equal_group_names_are_no_alarm() -> None:
    frame = pd.DataFrame({"image_id": ["a", "b"], "group_id": ["1", "2"], "label": ["NORMAL", "PNEUMONIA"]})
    frame["prob_NORMAL"], frame["prob_PNEUMONIA"] = [0.9, 0.1], [0.1, 0.9]
    external, val = (Predictions(frame.assign(image_id=names), OURS, "PNEUMONIA") for names in (["a", "b"], ["c", "d"]))
    assert not set(_apart(external, val).group_names) & set(val.group_names)
    assert list(_apart(external, val).frame["image_id"]) == ["a", "b"]
    assert list(_apart(val, val).frame["image_id"]) == ["external/c", "external/d"]
    assert list(_apart(external, None).frame["group_id"]) == ["external/1", "external/2"]


def test_intervals_and_prevalences_are_those_of_the_run(
    place: Path, run: Path, elsewhere: Path, tmp_path: Path
) -> None:
    """And a promise about patients that is checked on images is said to be a hint only."""
    other = Path(shutil.copytree(run, tmp_path / "run"))
    config = yaml.safe_load((other / "config.yaml").read_text(encoding="utf-8"))
    config["evaluation"] |= {"interval": "bca", "prevalences": [0.07]}
    (other / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    out: dict[str, Any] = {"command": "typed", "output": tmp_path / "out", "progress": False, "bootstrap": 50}
    images = overrides(place, elsewhere, "task.group_name=image")
    content, folder = external_of([other], images, mapping=MAPPING, **out)
    row = content["rows"][0]
    metrics = json.loads((folder / row["folder"] / "metrics.json").read_text(encoding="utf-8"))
    test = metrics["splits"]["test"]
    assert "BCa" in row["external"]["auroc"]["method"] and "BCa" in test["auroc"]["method"]
    assert [item["prevalence"] for item in test["at_threshold"]["prevalence"]] == [0.07]
    assert "The promise was made for patients" in [item["title"] for item in metrics["worries"]]


def test_what_would_not_be_used_is_refused(place: Path, run: Path, elsewhere: Path, tmp_path: Path) -> None:
    for text in ("split.seed=3", "split.kind=random", "data.fraction=0.5"):
        with pytest.raises(ValueError, match=rf"{text}: another data set is neither split nor thinned"):
            external_of([run], overrides(place, elsewhere, text), command="typed", output=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def grey(path: Path) -> Any:
    found = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert found is not None
    return found.astype(np.float32)


def assert_pictures_are_of(shown: list[dict[str, Any]], pictures: Path, root: Path, names: list[str]) -> None:
    """Each picture is most like the file that it is named after."""
    for item in shown:
        picture = grey(pictures / item["file"])
        size = (picture.shape[1], picture.shape[0])
        small = {name: cv2.resize(grey(root / name), size, interpolation=cv2.INTER_AREA) for name in names}
        apart = {name: float(np.abs(there - picture).mean()) for name, there in small.items()}
        nearest = min(names, key=apart.__getitem__)
        assert nearest == item["image_id"]


def test_the_mistakes_are_shown_with_heat_maps(made: tuple[dict[str, Any], Path], place: Path) -> None:
    content, folder = made
    inside = folder / content["rows"][0]["folder"]
    shown = json.loads((inside / "figures" / "mistakes" / "mistakes.json").read_text(encoding="utf-8"))
    test = pd.read_csv(inside / "predictions" / "test.csv").set_index("image_id")
    sick, flagged = test["label"] == "PNEUMONIA", test["prob_PNEUMONIA"] >= content["rows"][0]["threshold"]
    wrong = {name for name in test.index if sick[name] != flagged[name]}
    assert shown and len(shown) == min(12, len(wrong)) and {item["image_id"] for item in shown} <= wrong
    prepared = {path.name for path in (inside / "figures" / "mistakes").iterdir()}
    assert {item[key] for item in shown for key in ("file", "heat_map")} < prepared
    assert_pictures_are_of(shown, inside / "figures" / "mistakes", place / "elsewhere", list(test.index))
    page = (inside / "report.html").read_text(encoding="utf-8")
    assert "Heat map of the image to its left" in page and f'<span class="id">{shown[0]["image_id"]}' in page


def test_an_ensemble_shows_pictures_without_the_map_of_one_network(
    place: Path, root: Path, run: Path, elsewhere: Path, tmp_path: Path
) -> None:
    second = tiny_run(tmp_path / "second", root, place / "home", seed=1)
    pair = tiny_ensemble(tmp_path / "pair", [run, second])
    out = {"command": "typed", "output": tmp_path / "out", "progress": False, "bootstrap": 50}
    content, folder = external_of([pair], overrides(place, elsewhere), mapping=MAPPING, **out)  # type: ignore[arg-type]
    inside = folder / content["rows"][0]["folder"]
    shown = json.loads((inside / "figures" / "mistakes" / "mistakes.json").read_text(encoding="utf-8"))
    assert shown and all(item["heat_map"] == "" for item in shown)


def test_the_own_data_set_leaves_the_test_images_alone(place: Path, root: Path, run: Path, tmp_path: Path) -> None:
    same = ["task=pneumonia", f"data.root={root}", f"data.prepared={place / 'home'}"]
    content, folder = external_of([run], same, command="typed", output=tmp_path / "out", progress=False, bootstrap=50)
    test = pd.read_csv(folder / content["rows"][0]["folder"] / "predictions" / "test.csv")
    names = {name.removeprefix("external/") for name in test["image_id"]}
    assert names == set(used(run, "test")), "train and val images, and others of their patients, must be left out"


def test_pictures_are_not_compared_where_the_runs_data_are_gone(
    place: Path, run: Path, elsewhere: Path, tmp_path: Path
) -> None:
    alone = Path(shutil.copytree(run, tmp_path / "run"))
    config = (alone / "config.yaml").read_text(encoding="utf-8")
    (alone / "config.yaml").write_text(
        config.replace(str(place / "chest_xray"), str(tmp_path / "gone")), encoding="utf-8"
    )
    out = {"command": "typed", "output": tmp_path / "out", "progress": False, "bootstrap": 50}
    content, folder = external_of([alone], overrides(place, elsewhere), mapping=MAPPING, **out)  # type: ignore[arg-type]
    seen = content["rows"][0]["seen"]
    assert seen["by_picture"] is None and "gone" in seen["unchecked"] and seen["by_content"] == 2
    page = (folder / content["rows"][0]["folder"] / "report.html").read_text(encoding="utf-8")
    assert "Copies of training images are not excluded" in page


def test_two_runs_get_two_rows(place: Path, root: Path, run: Path, elsewhere: Path, tmp_path: Path) -> None:
    second = tiny_run(tmp_path / "second", root, place / "home", seed=1)
    out = {"command": "typed", "output": tmp_path / "out", "progress": False, "bootstrap": 50}
    content, folder = external_of([run, second], overrides(place, elsewhere), mapping=MAPPING, **out)  # type: ignore[arg-type]
    assert [row["name"] for row in content["rows"]] == ["simple_cnn, run", "simple_cnn, second"]
    assert all((folder / row["folder"] / "report.html").is_file() for row in content["rows"])
    assert content["rows"][0]["external"]["auroc"] != content["rows"][1]["external"]["auroc"]


def with_changed(record: Path, folder: Path, **changes: Any) -> Path:
    """A copy of an external test in which some of what it says of its data is another."""
    copied = Path(shutil.copytree(record, folder))
    content = json.loads((copied / "external.json").read_text(encoding="utf-8"))
    content["confidence"] = changes.pop("confidence", content["confidence"])
    content["tested_on"] |= changes
    (copied / "external.json").write_text(json.dumps(content), encoding="utf-8")
    return copied


def test_external_tests_become_one_matrix(made: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    record, folder = made
    second = with_changed(folder, tmp_path / "second", name="Another place", manifest_sha256="m")
    content, there = aggregate_runs([folder, second], command="typed", output=tmp_path / "out")
    assert content["tested"] == [record["tested_on"]["name"], "Another place"] and len(content["rows"]) == 1
    (row,), (held,) = content["rows"], record["rows"]
    assert row["own"] == held["own"] and list(row["cells"]) == content["tested"]
    assert row["cells"]["Another place"]["auroc"] == held["external"]["auroc"]
    table = pd.read_csv(there / "aggregate.csv")
    assert table["tested_on"].tolist() == ["own test part", *content["tested"]]
    assert table["sensitivity"].tolist()[1] == pytest.approx(held["external"]["sensitivity"]["value"])
    page = (there / "report.html").read_text(encoding="utf-8")
    assert "Another place" in page and page.count("Own test part</th>") == 3 and "not a medical device" in page
    out = io.StringIO()
    print_aggregate(content, Console(file=out, width=100, highlight=False))
    assert "Another place" in out.getvalue() and content["headline"][:40] in out.getvalue()


def test_what_cannot_be_one_matrix_is_refused(made: tuple[dict[str, Any], Path], run: Path, tmp_path: Path) -> None:
    folder = made[1]
    out: dict[str, Any] = {"command": "typed", "output": tmp_path / "out"}
    with pytest.raises(ValueError, match=r"is an external test and .* is not"):
        aggregate_runs([folder, run], **out)
    with pytest.raises(ValueError, match=r"was tested on .* twice"):
        aggregate_runs([folder, with_changed(folder, tmp_path / "same")], **out)
    with pytest.raises(ValueError, match=r"different confidence: 0\.95 in .* and 0\.9 in"):
        aggregate_runs([folder, with_changed(folder, tmp_path / "wide", confidence=0.9)], **out)
    with pytest.raises(ValueError, match="leave bootstrap"):
        aggregate_runs([folder], bootstrap=50, **out)
    assert not (tmp_path / "out").exists()


def test_classes_without_counterpart_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"also has odd, sick\..*mapping=\{odd:NORMAL,sick:drop\}"):
        classes_in_terms(["NORMAL", "odd", "sick"], OURS, {})
    with pytest.raises(ValueError, match=r"no class 'sik'. Did you mean 'sick'"):
        classes_in_terms(["NORMAL", "sick"], OURS, {"sik": "PNEUMONIA"})
    with pytest.raises(ValueError, match=r"the run has no class 'PNEUMONI'. Did you mean 'PNEUMONIA'"):
        classes_in_terms(["NORMAL", "sick"], OURS, {"sick": "PNEUMONI"})
    assert classes_in_terms(["PNEUMONIA", "odd"], OURS, {"odd": "drop"}) == {"PNEUMONIA": "PNEUMONIA", "odd": None}


def test_what_cannot_be_tested_is_refused(place: Path, run: Path, elsewhere: Path, tmp_path: Path) -> None:
    out = {"command": "typed", "output": tmp_path / "out", "progress": False}
    with pytest.raises(ValueError, match=r"has no official test part. Use part=all"):
        external_of([run], overrides(place, elsewhere), mapping=MAPPING, part="test", **out)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"every image of .* is left out"):
        external_of([run], overrides(place, elsewhere), mapping=dict.fromkeys(MAPPING, "drop"), **out)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="which data set"):
        external_of([run], [f"data.root={elsewhere}"], **out)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists() and not list(tmp_path.iterdir())

"""From named images to tables: a run's own predictions, whatever is in the folder, in one go or in several."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conf.predict_options import Options, parsed
from datamodules.progress import silent
from evaluation.input_check import Verdict
from evaluation.predictions import read_predictions
from tests.conftest import make_chest_xray, write_image
from tests.workflow.tiny_run import tiny_run
from workflow.answers import ABSTAIN
from workflow.predicting import Prediction, Stopped, predict
from workflow.prediction_inputs import find_inputs
from workflow.prediction_journal import JOURNAL, RECORD
from workflow.prediction_rows import Columns
from workflow.prediction_table import print_prediction
from workflow.predictor import Predictor, load_predictor


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predicting")


@pytest.fixture(scope="module")
def root(place: Path) -> Path:
    return make_chest_xray(place / "chest_xray")


@pytest.fixture(scope="module")
def run(place: Path, root: Path) -> Path:
    return tiny_run(place / "run", root, place / "home")


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return load_predictor(run)


def predicted(predictor: Predictor, output: Path, *given: str, progress: Any = silent) -> Prediction:
    """What ``python predict.py run=RUN output=OUTPUT ...`` does."""
    options = parsed([f"run={predictor.source}", f"output={output}", *given])
    return predict(predictor, find_inputs(options.images, options.columns, options.root), options, "typed", progress)


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Strict:
    """An input check that turns away what is brighter than a limit."""

    alpha = 0.01

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def judge(self, embeddings: np.ndarray, appearances: list[dict[str, float]], **more: Any) -> list[Verdict]:
        strange = [facts["brightness"] > self.limit for facts in appearances]
        # The figure in the reason differs from image to image, as in the real check.
        reasons = [(f"too bright ({facts['brightness']:.3f} of 255); others are not", "odd") for facts in appearances]
        return [
            Verdict(0.001 if odd else 0.5, reason if odd else ()) for odd, reason in zip(strange, reasons, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        return {"limit": self.limit}


def test_a_run_predicts_its_own_test_images_again(predictor: Predictor, root: Path, tmp_path: Path) -> None:
    done = predicted(predictor, tmp_path / "out", f"images={root}")
    own = read_predictions(predictor.source / "predictions" / "test.csv", predictor.classes, predictor.positive)
    found = {row["image_id"]: row for row in rows(tmp_path / "out")}
    assert set(own.frame["image_id"]) < set(found)  # the same names, and the training images too
    for name in predictor.classes:
        ours = [float(found[image][f"prob_{name}"]) for image in own.frame["image_id"]]
        assert ours == pytest.approx(own.frame[f"prob_{name}"].tolist(), abs=1e-6)
    called = [found[image]["decision"] == "PNEUMONIA" for image in own.frame["image_id"]]
    assert called == (own.scores >= predictor.point.threshold).tolist() and len(set(called)) == 2
    assert done.record["counts"]["images"] == len(found) and done.files == [tmp_path / "out" / "predictions.csv"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [RECORD, "predictions.csv"]


def test_the_formats_say_the_same_to_the_last_bit(predictor: Predictor, root: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    write_image(root.parent / "formats" / 'a, "b".png', 3)
    (root.parent / "formats" / "c.png").write_bytes(b"")
    done = predicted(predictor, tmp_path / "out", f"images={root.parent / 'formats'}", "format=[csv,json,parquet]")
    columns = Columns.of(predictor).names
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    held = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    text = rows(tmp_path / "out")
    assert list(table.columns) == columns == list(text[0]) and len(table) == len(held["images"]) == 2
    first, second = held["images"]
    assert first["image_id"] == table["image_id"][0] == text[0]["image_id"] == 'a, "b".png'
    assert [first["score"]] == [table["score"][0]] == [float(text[0]["score"])]
    assert first["probabilities"] == [table["prob_NORMAL"][0], table["prob_PNEUMONIA"][0]]
    assert second["error"] == table["error"][1] == text[1]["error"] == "c.png: the file is empty"
    assert text[1]["score"] == text[1]["decision"] == "" and pd.isna(table["score"][1])
    assert held["notice"] == done.record["notice"] and held["threshold"] == predictor.point.threshold


def test_groups_get_one_answer(predictor: Predictor, root: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    for number in range(6):
        write_image(scans / f"{number}.png", number)
    (scans / "5.png").write_bytes(b"")
    listed = ["path,patient", "0.png,p2", "1.png,p1", "2.png,p2", "3.png,", "4.png,p1", "5.png,p3", "gone.png,p1"]
    (scans / "list.csv").write_text("\n".join(listed), encoding="utf-8")
    done = predicted(predictor, tmp_path / "out", f"images={scans / 'list.csv'}")
    scores = {row["image_id"]: row["score"] for row in rows(tmp_path / "out")}
    frame = pd.read_csv(tmp_path / "out" / "groups.csv", dtype=str, keep_default_na=False).set_index("group_id")
    assert list(frame.index) == ["p2", "p1", "p3"] and [group.group for group in done.groups] == list(frame.index)
    highest = max(float(scores["1.png"]), float(scores["4.png"]))
    assert float(frame.loc["p1", "score"]) == highest
    assert (frame.loc["p1", "decision"] == "PNEUMONIA") == (highest >= predictor.point.threshold)
    assert frame.loc["p1", ["n_images", "n_unreadable", "n_abstained"]].tolist() == ["3", "1", "0"]
    assert frame.loc["p3", ["score", "decision", "n_unreadable"]].tolist() == ["", "", "1"]
    assert {row["image_id"]: row["group_id"] for row in rows(tmp_path / "out")}["3.png"] == ""
    assert done.counts.unreadable == 2


def test_a_table_of_nothing_but_missing_files_is_answered_too(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path\ngone.png\n", encoding="utf-8")
    done = predicted(predictor, tmp_path / "out", f"images={tmp_path / 'list.csv'}")
    assert [row["error"] for row in rows(tmp_path / "out")] == ["gone.png: cannot be read (No such file or directory)"]
    assert done.counts.unreadable == done.counts.images == 1


def test_the_lowest_score_of_a_group_where_the_threshold_was_chosen_so(
    predictor: Predictor, root: Path, tmp_path: Path
) -> None:
    lowest = dataclasses.replace(predictor, point=dataclasses.replace(predictor.point, group_score="min"))
    for number in range(3):
        write_image(tmp_path / f"{number}.png", number)
    (tmp_path / "list.csv").write_text("path,patient\n0.png,p\n1.png,p\n2.png,p\n", encoding="utf-8")
    done = predicted(lowest, tmp_path / "out", f"images={tmp_path / 'list.csv'}")
    assert done.groups[0].score == min(float(row["score"]) for row in rows(tmp_path / "out"))


def test_images_that_are_turned_away(predictor: Predictor, root: Path, tmp_path: Path) -> None:
    bright = sorted((root / "test").rglob("*.jpeg"))
    strict = dataclasses.replace(predictor, checks=(Strict(128.0),))
    done = predicted(strict, tmp_path / "out", f"images={root / 'test'}")
    turned = [row for row in rows(tmp_path / "out") if row["decision"] == ABSTAIN]
    assert 0 < len(turned) < len(bright) and all(
        row["abstained_because"].endswith("others are not; odd") for row in turned
    )
    assert all(float(row["p_value"]) == 0.001 and row["score"] and row["borderline"] == "false" for row in turned)
    assert done.counts.decisions[ABSTAIN] == len(turned) and done.counts.reasons == {
        "too bright": len(turned),
        "odd": len(turned),
    }
    caution = done.record["caution"]
    assert f"{len(turned)} of {len(bright)} images" in caution and "about 1.0% would be" in caution
    lenient = predicted(strict, tmp_path / "all", f"images={root / 'test'}", "abstain=false")
    assert lenient.counts.decisions[ABSTAIN] == 0 and lenient.record["caution"] is None
    assert [row["p_value"] for row in rows(tmp_path / "all")] == [row["p_value"] for row in rows(tmp_path / "out")]


def test_a_group_is_judged_by_the_images_that_are_not_turned_away(predictor: Predictor, tmp_path: Path) -> None:
    write_image(tmp_path / "dark.png", 1)
    import cv2

    assert cv2.imwrite(str(tmp_path / "bright.png"), np.full((24, 24), 250, dtype=np.uint8))
    (tmp_path / "list.csv").write_text("path,patient\ndark.png,p\nbright.png,p\nbright.png,q\n", encoding="utf-8")
    (tmp_path / "list.csv").write_text(
        "image_id,path,patient\n1,dark.png,p\n2,bright.png,p\n3,bright.png,q\n", encoding="utf-8"
    )
    strict = dataclasses.replace(predictor, checks=(Strict(200.0),))
    p, q = predicted(strict, tmp_path / "out", f"images={tmp_path / 'list.csv'}").groups
    assert p.score == float(rows(tmp_path / "out")[0]["score"]) and (p.n_images, p.n_abstained) == (2, 1)
    assert (q.decision, q.score, q.n_abstained) == (ABSTAIN, None, 1)


def stopping_after(images: int) -> Callable[..., Any]:
    """A progress bar that is interrupted, as by Ctrl-C, once so many images were answered."""
    seen = 0

    @contextmanager
    def bar(title: str, total: int) -> Any:
        def advance(count: int) -> None:
            nonlocal seen
            seen += count
            if seen >= images:
                raise KeyboardInterrupt

        yield advance

    return bar


def test_an_interrupted_prediction_goes_on_to_the_same_bytes(predictor: Predictor, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "test", tmp_path / "scans")
    (tmp_path / "scans" / "NORMAL" / "bad.png").write_bytes(b"no image at all, but some text")
    given = (f"images={tmp_path / 'scans'}", "batch_size=4", "format=[csv,json]")
    predicted(predictor, tmp_path / "whole", *given)
    out = tmp_path / "out"
    for number in (1, 2):
        with pytest.raises(Stopped, match="stopped after") as caught:
            predicted(predictor, out, *given, progress=stopping_after(5))
        assert (caught.value.done, caught.value.output) == (8 * number, out)
        assert [path.name for path in out.iterdir()] == [JOURNAL]
    with (out / JOURNAL).open("ab") as file:
        file.write(b'{"image_id": "torn')
    done = predicted(predictor, out, *given)
    assert done.record["resumed_after"] == 16 and not (out / JOURNAL).exists()
    for name in ("predictions.csv", "predictions.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(ValueError, match="holds finished predictions and is never overwritten"):
        predicted(predictor, out, *given)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("image", "the list of images changed since"),
        ("abstain=false", "abstain changed"),
        ("batch_size=5", "batch_size changed"),
    ],
)
def test_going_on_with_something_else_is_refused(
    predictor: Predictor, root: Path, tmp_path: Path, change: str, words: str
) -> None:
    shutil.copytree(root / "test", tmp_path / "scans")
    given = [f"images={tmp_path / 'scans'}", "batch_size=4"]
    with pytest.raises(Stopped):
        predicted(predictor, tmp_path / "out", *given, progress=stopping_after(1))
    if change == "image":
        write_image(tmp_path / "scans" / "NORMAL" / "new.png", 1)
    else:
        given = [text for text in given if text.partition("=")[0] != change.partition("=")[0]] + [change]
    with pytest.raises(ValueError, match=words):
        predicted(predictor, tmp_path / "out", *given)


def test_memory_is_bounded_by_chunks_and_not_by_the_folder(
    predictor: Predictor, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between decoding and scoring, no more than a few chunks wait."""
    import workflow.predicting as module
    from workflow import prediction_decoding

    decoded, answered, most = 0, 0, 0
    look, answers_of = Predictor.look, module.answers_of

    def counted(self: Predictor, path: Path) -> Any:
        nonlocal decoded
        decoded += 1
        return look(self, path)

    def slow(predictor: Predictor, images: Any, *args: Any, **named: Any) -> Any:
        nonlocal answered, most
        import time

        time.sleep(0.05)
        most = max(most, decoded - answered)
        answered += len(images)
        return answers_of(predictor, images, *args, **named)

    monkeypatch.setattr(Predictor, "look", counted)
    monkeypatch.setattr(module, "answers_of", slow)
    done = predicted(predictor, tmp_path / "out", f"images={root}", "batch_size=2")
    assert decoded == done.counts.images > 40 and 2 < most <= 2 * (prediction_decoding._AHEAD + 1)


def test_the_terminal_says_what_was_found(
    predictor: Predictor, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(root / "test", tmp_path / "scans")
    for number in range(7):
        (tmp_path / "scans" / f"bad{number}.png").write_bytes(b"")
    strict = dataclasses.replace(predictor, checks=(Strict(128.0),))
    print_prediction(predicted(strict, tmp_path / "out", f"images={tmp_path / 'scans'}"), strict)
    text = " ".join(capsys.readouterr().out.split())
    for words in (
        "PNEUMONIA ",
        "NORMAL ",
        "abstain ",
        "too bright",
        "unreadable 7",
        "7 could not be read: bad0.png: the file is empty",
    ):
        assert words in text
    assert "and 2 more, see the column error" in text and predictor.point.statement[:60] in text
    assert "caution: " in text and text.endswith("Research and education only; not a medical device.")


def test_a_panel_shows_what_was_answered_also_after_an_interruption(
    predictor: Predictor, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "scans").mkdir()
    for number in range(3):
        write_image(tmp_path / "scans" / f"{number}.png", number)
    (tmp_path / "scans" / "bad.png").write_bytes(b"")
    given = (f"images={tmp_path / 'scans'}", "panel=true", "batch_size=2")
    with pytest.raises(Stopped, match="stopped after 4 of 4 images"):
        predicted(predictor, tmp_path / "out", *given, progress=stopping_after(5))  # while the panel is drawn
    assert (tmp_path / "out" / JOURNAL).is_file() and not (tmp_path / "out" / RECORD).exists()
    done = predicted(predictor, tmp_path / "out", *given)
    out = tmp_path / "out"
    assert done.files == [out / "predictions.csv", out / "panel.html", out / "panel" / "page_001.png"]
    page = (out / "panel.html").read_text(encoding="utf-8")
    for name in ("0.png", "bad.png", "he file is empty", "PNEUMONIA"):
        assert name in page, name


def test_a_layer_or_class_that_there_is_not_is_named_before_anything_is_read(
    predictor: Predictor, root: Path, tmp_path: Path
) -> None:
    given = (f"images={root}", "panel=true")
    with pytest.raises(
        ValueError, match=r"heat_maps\.target=COVID: must be positive or one of the classes NORMAL, PNEUMONIA"
    ):
        predicted(predictor, tmp_path / "out", *given, "heat_maps.target=COVID")
    with pytest.raises(ValueError, match="nowhere"):
        predicted(predictor, tmp_path / "out", *given, "heat_maps.layer=nowhere")
    assert not (tmp_path / "out").exists()


def test_options_of_this_file_are_those_of_the_command() -> None:
    """The identity of an unfinished folder knows every option that decides an answer."""
    decides_nothing = {
        "runs",
        "several",
        "images",
        "columns",
        "root",
        "output",
        "formats",
        "panel",
        "heat_maps",
        "workers",
        "trust",
    }
    assert {item.name for item in dataclasses.fields(Options)} - decides_nothing == {"batch_size", "abstain"}


def test_metadata_come_from_the_columns_of_a_table(predictor: Predictor, tmp_path: Path) -> None:
    import torch

    from datamodules.metadata import MetadataEncoder
    from models.build import build_network

    known = pd.DataFrame({"age": ["20", "40", "60"], "sex": ["female", "male", "female"]})
    encoder = MetadataEncoder.fit(known, ["age", "sex"])
    part = predictor.networks[0]
    settings = part.description["network"] | {"metadata": ["age", "sex"], "metadata_width": encoder.width}
    torch.manual_seed(0)
    sees = dataclasses.replace(
        part,
        network=build_network(settings, 1).eval(),
        description=part.description | {"network": settings, "metadata": encoder.describe()},
    )
    seeing = dataclasses.replace(predictor, networks=(sees,))
    write_image(tmp_path / "a.png", 1)
    listed = "image_id,path,age,gender\n1,a.png,20,female\n2,gone.png,20,male\n3,a.png,60,male\n4,a.png,20,female\n"
    (tmp_path / "list.csv").write_text(listed.replace("gender", "sex"), encoding="utf-8")
    predicted(seeing, tmp_path / "out", f"images={tmp_path / 'list.csv'}")
    one, two, three, four = [row["score"] for row in rows(tmp_path / "out")]
    assert two == "" and one == four != three  # one picture, two patients
    with pytest.raises(ValueError, match=r"this model sees age, sex beside the image, and .* has no such columns"):
        predicted(seeing, tmp_path / "none", f"images={tmp_path / 'a.png'}")
    (tmp_path / "list.csv").write_text(listed, encoding="utf-8")
    with pytest.raises(ValueError, match="sex is no column of this data set"):
        predicted(seeing, tmp_path / "none", f"images={tmp_path / 'list.csv'}")
    assert not (tmp_path / "none").exists()

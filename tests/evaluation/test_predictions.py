from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.predictions import Predictions, PredictionsError, read_predictions, write_predictions

CLASSES = ("NORMAL", "PNEUMONIA")


def frame(scores: list[float], labels: list[int] | None = None) -> pd.DataFrame:
    values = np.asarray(scores, dtype=np.float64)
    labels = labels or [0, 1] * (len(scores) // 2) + [0] * (len(scores) % 2)
    return pd.DataFrame(
        {
            "image_id": [f"image-{i}" for i in range(len(scores))],
            "group_id": [f"patient-{i // 2}" for i in range(len(scores))],
            "label": [CLASSES[label] for label in labels],
            "subtype": ["NA", "virus"] * (len(scores) // 2) + ["NA"] * (len(scores) % 2),
            "prob_NORMAL": 1.0 - values,
            "prob_PNEUMONIA": values,
        }
    )


def test_labels_scores_and_groups() -> None:
    predictions = Predictions(frame([0.25, 0.75, 0.5]), CLASSES, "PNEUMONIA")
    assert predictions.labels.dtype == np.uint8
    assert predictions.labels.tolist() == [0, 1, 0]
    assert predictions.scores.tolist() == [0.25, 0.75, 0.5]
    assert predictions.groups.tolist() == [0, 0, 1]
    assert predictions.group_names == ("patient-0", "patient-1")
    assert predictions.negative_class == "NORMAL"
    assert len(predictions) == 3


def test_group_codes_do_not_depend_on_the_order_of_rows() -> None:
    table = frame([0.1, 0.2, 0.3, 0.4])
    straight = Predictions(table, CLASSES, "PNEUMONIA")
    turned = Predictions(table.iloc[::-1].reset_index(drop=True), CLASSES, "PNEUMONIA")
    assert turned.group_names == straight.group_names
    assert turned.groups.tolist() == straight.groups.tolist()[::-1]


def test_several_negative_classes() -> None:
    table = frame([0.2, 0.5]).assign(label=["OTHER", "PNEUMONIA"], prob_NORMAL=[0.3, 0.25], prob_OTHER=[0.5, 0.25])
    predictions = Predictions(table, (*CLASSES, "OTHER"), "PNEUMONIA")
    assert predictions.labels.tolist() == [0, 1]
    assert predictions.negative_class == "not PNEUMONIA"


def three(scores: list[list[float]], labels: list[str]) -> pd.DataFrame:
    table = pd.DataFrame({"image_id": [str(i) for i in range(len(labels))], "label": labels})
    table["group_id"] = table["image_id"]
    for number, name in enumerate("abc"):
        table[f"prob_{name}"] = [row[number] for row in scores]
    return table


def test_a_set_of_positive_classes() -> None:
    scores = [[0.5, 0.25, 0.25], [0.25, 0.375, 0.375], [0.0, 0.0, 1.0], [0.60005, 0.0, 0.4]]
    held = Predictions(three(scores, ["a", "b", "c", "c"]), ("a", "b", "c"), ["c", "a", "c"])
    assert held.positive == ("a", "c")
    assert (held.positive_class, held.negative_class) == ("a + c", "not a + c")
    assert held.labels.tolist() == [1, 0, 1, 1]
    assert held.scores.tolist() == [0.75, 0.625, 1.0, 1.0]
    assert held.targets.tolist() == [0, 1, 2, 2] and held.targets.dtype == np.int64
    assert held.decisions.tolist() == [0, 1, 2, 0]
    assert held.probabilities.shape == (4, 3) and held.probabilities[1].tolist() == scores[1]
    again = held.with_frame(held.frame.iloc[:2])
    assert (again.positive, again.labels.tolist()) == (("a", "c"), [1, 0])


def test_names_of_both_sides(tmp_path: Path) -> None:
    write_predictions(tmp_path / "val.csv", three([[0.5, 0.25, 0.25]], ["b"]))
    held = read_predictions(tmp_path / "val.csv", ("a", "b", "c"), ("b", "a"), "malignant", "benign")
    assert (held.positive_class, held.negative_class, held.positive_name) == ("malignant", "benign", "malignant")
    held = read_predictions(tmp_path / "val.csv", ("a", "b", "c"), "a")
    assert (held.positive, held.positive_class, held.negative_class) == (("a",), "a", "not a")
    two = Predictions(frame([0.5, 0.5]), CLASSES, ["PNEUMONIA"], negative_name="healthy")
    assert (two.positive_class, two.negative_class) == ("PNEUMONIA", "NORMAL")


@pytest.mark.parametrize("positive", [(), ("a", "b", "c"), ("a", "x"), "", "ab"])
def test_sets_that_leave_nothing_on_one_side_are_refused(positive: str | tuple[str, ...]) -> None:
    with pytest.raises(PredictionsError, match="positive"):
        Predictions(three([[0.5, 0.25, 0.25]], ["b"]), ("a", "b", "c"), positive)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20), st.floats(0, 1, width=32))
def test_round_trip_is_exact_in_both_precisions(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float], threshold: float
) -> None:
    path = tmp_path_factory.mktemp("predictions") / "val.csv"
    write_predictions(path, frame(scores).astype({"prob_PNEUMONIA": np.float32}))
    read = read_predictions(path, CLASSES, "PNEUMONIA").scores
    before = np.asarray(scores, dtype=np.float32)
    assert np.array_equal(read, before.astype(np.float64))
    assert np.array_equal(read >= threshold, before >= np.float32(threshold))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_round_trip_of_doubles_is_exact(tmp_path_factory: pytest.TempPathFactory, scores: list[float]) -> None:
    path = tmp_path_factory.mktemp("predictions") / "val.csv"
    write_predictions(path, frame(scores))
    assert read_predictions(path, CLASSES, "PNEUMONIA").scores.tolist() == scores


def test_text_stays_text(tmp_path: Path) -> None:
    table = frame([0.5, 0.5]).assign(group_id=["007", "NA"], label=["NORMAL", "NORMAL"], age=[31.0, np.nan])
    write_predictions(tmp_path / "a" / "val.csv", table)
    read = read_predictions(tmp_path / "a" / "val.csv", CLASSES, "PNEUMONIA").frame
    assert read["group_id"].tolist() == ["007", "NA"]
    assert read["subtype"].tolist() == ["NA", "virus"]
    assert read["age"].iloc[0] == 31.0 and np.isnan(read["age"].iloc[1])


def test_nothing_but_the_file_is_left_and_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "val.csv"
    write_predictions(path, frame([0.5, 0.5]))
    write_predictions(path, frame([0.25, 0.5]))
    assert [item.name for item in tmp_path.iterdir()] == ["val.csv"]
    assert read_predictions(path, CLASSES, "PNEUMONIA").scores.tolist() == [0.25, 0.5]


def test_a_bad_frame_does_not_replace_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "val.csv"
    write_predictions(path, frame([0.5, 0.5]))
    with pytest.raises(PredictionsError, match=r"val\.csv was not written.*nan"):
        write_predictions(path, frame([0.5, float("nan")]))
    assert read_predictions(path, CLASSES, "PNEUMONIA").scores.tolist() == [0.5, 0.5]


BROKEN: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "missing column": (lambda t: t.drop(columns="group_id"), "group_id"),
    "missing probabilities": (lambda t: t.drop(columns="prob_NORMAL"), "prob_NORMAL"),
    "unknown class": (lambda t: t.assign(prob_OTHER=0.0), "prob_OTHER"),
    "too large": (lambda t: t.assign(prob_PNEUMONIA=[0.5, 1.5]), r"1\.5.*image-1"),
    "negative": (lambda t: t.assign(prob_PNEUMONIA=[-0.1, 0.5]), r"-0\.1.*image-0"),
    "sentinel": (lambda t: t.assign(prob_PNEUMONIA=[1e6, 0.5]), "1000000"),
    "NaN": (lambda t: t.assign(prob_PNEUMONIA=[0.5, np.nan]), "nan"),
    "infinite": (lambda t: t.assign(prob_PNEUMONIA=[0.5, np.inf]), "inf"),
    "no number": (lambda t: t.assign(prob_PNEUMONIA=["0.5", "high"]), "prob_PNEUMONIA"),
    "sum": (lambda t: t.assign(prob_NORMAL=[0.5, 0.501]), r"sum to 1\.001"),
    "twice": (lambda t: t.assign(image_id="same"), "'same' occurs more than once"),
    "label": (lambda t: t.assign(label=["NORMAL", "COVID"]), "'COVID'.*image-1"),
    "no label": (lambda t: t.assign(label=["NORMAL", ""]), "label is empty"),
    "no group": (lambda t: t.assign(group_id=["", "a"]), "group_id is empty"),
    "no row": (lambda t: t.iloc[:0], "no row"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_predictions_are_refused_in_memory_and_from_a_file(name: str, tmp_path: Path) -> None:
    change, message = BROKEN[name]
    broken = change(frame([0.5, 0.5]))
    with pytest.raises(PredictionsError, match=message):
        Predictions(broken, CLASSES, "PNEUMONIA")
    path = tmp_path / "test.csv"
    broken.to_csv(path, index=False, na_rep="nan" if name == "NaN" else "")
    with pytest.raises(PredictionsError, match=r"test\.csv"):
        read_predictions(path, CLASSES, "PNEUMONIA")


def test_sum_tolerance() -> None:
    rounded = Predictions(frame([0.5, 0.5]).assign(prob_NORMAL=[0.5, 0.50009]), CLASSES, "PNEUMONIA")
    assert rounded.scores.tolist() == [0.5, 0.5]


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match="is missing"):
        read_predictions(tmp_path / "val.csv", CLASSES, "PNEUMONIA")
    (tmp_path / "val.csv").write_text("")
    with pytest.raises(PredictionsError, match="is empty"):
        read_predictions(tmp_path / "val.csv", CLASSES, "PNEUMONIA")
    (tmp_path / "val.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(PredictionsError, match="UTF-8"):
        read_predictions(tmp_path / "val.csv", CLASSES, "PNEUMONIA")


@pytest.mark.parametrize(("classes", "positive"), [(("A",), "A"), (("A", "A"), "A"), (CLASSES, "COVID")])
def test_classes_are_checked(classes: tuple[str, ...], positive: str) -> None:
    with pytest.raises(PredictionsError):
        Predictions(frame([0.5]), classes, positive)

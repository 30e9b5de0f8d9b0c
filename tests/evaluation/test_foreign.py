"""Files of other tools: read as they are meant, or refused with the line and the remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.foreign import ForeignPredictions, read_foreign
from evaluation.predictions import PredictionsError

BINARY = "filename,y_true,y_score,patient\na.png,1,0.9,p1\nb.png,0,0.2,p2\nc.png,1,0.65,p1\nd.png,0,0.4,p3\n"
SEVERAL = (
    "image,dx,prob_bcc,prob_mel,prob_nv\na,mel,0.1,0.7,0.2\nb,nv,0.05,0.05,0.9\nc,bcc,0.8,0.1,0.1\nd,nv,0.2,0.2,0.6\n"
)


def given(tmp_path: Path, text: str | bytes, name: str = "scores.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(tmp_path: Path, text: str | bytes, **options: Any) -> ForeignPredictions:
    return read_foreign(given(tmp_path, text), **options)


def assert_refused(tmp_path: Path, text: str | bytes, *words: str, **options: Any) -> None:
    with pytest.raises(PredictionsError) as caught:
        read(tmp_path, text, **options)
    for word in ("scores.csv", *words):
        assert word in str(caught.value)


def titles(found: ForeignPredictions) -> list[str]:
    return [note["title"] for note in found.notes]


def test_one_score_column_with_patients(tmp_path: Path) -> None:
    found = read(tmp_path, BINARY)
    held = found.predictions
    assert held.classes == ("negative", "positive") and held.positive == ("positive",)
    assert held.scores.tolist() == [0.9, 0.2, 0.65, 0.4]  # to the bit
    assert held.labels.tolist() == [1, 0, 1, 0]
    assert held.frame["group_id"].tolist() == ["p1", "p2", "p1", "p3"]
    assert found.grouped and found.validation is None and found.subgroups == []
    assert "Label 1 is positive" in found.notes[-1]["text"] and "y_score" in found.notes[-1]["text"]


@pytest.mark.parametrize(
    ("separator", "encode"),
    [(";", str.encode), ("\t", str.encode), (",", lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())],
)
def test_separators_marks_and_line_ends(tmp_path: Path, separator: str, encode: Any) -> None:
    held = read(tmp_path, encode(BINARY.replace(",", separator))).predictions
    assert held.scores.tolist() == [0.9, 0.2, 0.65, 0.4] and held.frame["image_id"][0] == "a.png"


def test_spreadsheet_with_decimal_commas(tmp_path: Path) -> None:
    text = "sep=;\n" + BINARY.replace(",", ";").replace("0.", "0,")
    assert read(tmp_path, text).predictions.scores.tolist() == [0.9, 0.2, 0.65, 0.4]


@pytest.mark.parametrize(
    "labels", [("1", "0"), ("1.0", "0.0"), ("yes", "no"), ("Malignant", "benign"), ("TRUE", "FALSE")]
)
def test_labels_that_say_which_is_positive(tmp_path: Path, labels: tuple[str, str]) -> None:
    text = f"id,label,score\na,{labels[0]},0.9\nb,{labels[1]},0.1\n"
    held = read(tmp_path, text).predictions
    assert held.labels.tolist() == [1, 0] and held.scores.tolist() == [0.9, 0.1]


def test_named_classes(tmp_path: Path) -> None:
    text = "id,label,score\na,melanoma,0.9\nb,nevus,0.1\nc,bcc,0.3\n"
    assert_refused(tmp_path, text.replace("melanoma", "x"), "positive=", "whose recall matters")
    one = read(tmp_path, text, positive=["melanoma"]).predictions
    assert one.classes == ("not melanoma", "melanoma") and one.labels.tolist() == [1, 0, 0]
    two = read(tmp_path, text, positive=["melanoma", "bcc"]).predictions
    assert two.labels.tolist() == [1, 0, 1] and two.positive_class == "melanoma + bcc" and two.negative_class == "nevus"
    numbers = read(tmp_path, BINARY, classes=["benign", "malignant"]).predictions
    assert numbers.classes == ("benign", "malignant") and numbers.labels.tolist() == [1, 0, 1, 0]
    turned = read(tmp_path, BINARY, classes=["sick", "well"], positive=["sick"]).predictions
    assert turned.labels.tolist() == [0, 1, 0, 1] and turned.scores[0] == 0.9
    called = read(tmp_path, BINARY, positive=["pneumonia"]).predictions
    assert called.positive_class == "pneumonia" and called.negative_class == "not pneumonia"


def test_probabilities_of_each_class(tmp_path: Path) -> None:
    assert_refused(tmp_path, SEVERAL, "whose recall matters", "positive=nv")
    held = read(tmp_path, SEVERAL, positive=["mel", "bcc"]).predictions
    assert held.classes == ("bcc", "mel", "nv") and held.positive == ("bcc", "mel")
    assert held.labels.tolist() == [1, 0, 1, 0] and np.allclose(held.scores, [0.8, 0.1, 0.9, 0.4])
    names = {"positive_name": "malignant", "negative_name": "benign"}
    called = read(tmp_path, SEVERAL, positive=["mel", "bcc"], **names).predictions
    assert (called.positive_class, called.negative_class) == ("malignant", "benign")
    assert_refused(tmp_path, BINARY, "more than two classes", "classes=", positive_name="malignant")
    plain = read(tmp_path, SEVERAL.replace("prob_", "").replace("mel,", "MEL,", 1), positive=["mel"]).predictions
    assert plain.scores.tolist() == [0.7, 0.05, 0.1, 0.2]
    numbered = SEVERAL.replace("mel,0", "1,0").replace("nv,0", "2,0").replace("bcc,0", "0,0")
    assert read(tmp_path, numbered, positive=["mel"]).predictions.frame["label"].tolist() == ["mel", "nv", "bcc", "nv"]
    order = read(tmp_path, SEVERAL, classes=["nv", "mel", "bcc"], positive=["mel"]).predictions
    assert order.classes == ("nv", "mel", "bcc") and order.probabilities[0].tolist() == [0.2, 0.7, 0.1]
    single = read(tmp_path, SEVERAL, columns={"score": "prob_mel"}, positive=["mel"]).predictions
    assert single.scores.tolist() == [0.7, 0.05, 0.1, 0.2] and single.negative_class == "not mel"


def test_one_column_named_after_its_class(tmp_path: Path) -> None:
    text = "id,label,prob_sick\na,sick,0.8\nb,well,0.3\n"
    held = read(tmp_path, text).predictions
    assert held.classes == ("well", "sick") and held.scores.tolist() == [0.8, 0.3]


@pytest.mark.parametrize("spoilt", ["NaN", "", "inf", "high"])
@pytest.mark.parametrize("header", ["prob_sick", "prob_sick,prob_well", "score,y_pred", "sick,well"])
def test_a_spoilt_cell_is_named_and_no_other_column_is_taken_instead(tmp_path: Path, header: str, spoilt: str) -> None:
    rest = [",0.2,0", ",0.7,1", ",0.6,1"] if header == "score,y_pred" else [",0.2,0.8", ",0.7,0.3", ",0.6,0.4"]
    cells = [line if "," in header else line.rpartition(",")[0] for line in rest]
    cells[1] = cells[1].replace("0.7", spoilt)
    lines = [f"{name}{more}" for name, more in zip(("a,well", "b,sick", "c,sick"), cells, strict=True)]
    first = header.partition(",")[0]
    place = f"{first} is {repr(spoilt) if spoilt else 'empty'} in line 3"
    text = "\n".join([f"id,label,{header}", *lines])
    assert_refused(tmp_path, text, place, classes=["well", "sick"], positive=["sick"])
    assert_refused(tmp_path, text, place, positive=["sick"])


def test_a_column_of_texts_is_no_class(tmp_path: Path) -> None:
    text = "id,label,pred_sick,pred_class,score\na,sick,yes,sick,0.8\nb,well,no,well,0.3\n"
    assert read(tmp_path, text, positive=["sick"]).predictions.scores.tolist() == [0.8, 0.3]


def test_rounded_probabilities_are_divided_by_their_sum_and_said(tmp_path: Path) -> None:
    found = read(tmp_path, SEVERAL.replace("0.1,0.7,0.2", "0.1,0.7,0.21"), positive=["mel"])
    assert "Rounded probabilities in scores.csv" in titles(found)
    assert np.allclose(found.predictions.probabilities.sum(axis=1), 1.0)
    assert_refused(
        tmp_path,
        SEVERAL.replace("0.1,0.7,0.2", "0.1,0.7,0.4"),
        "line 2",
        "1.2",
        "in 1 line in all",
        "sigmoid",
        positive=["mel"],
    )


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("0.65", "2.31", ("y_score", "2.31", "line 4", "in 1 line in all", "sigmoid")),
        ("0.65", "-0.1", ("y_score", "line 4", "outside 0 to 1")),
        ("0.65", "65", ("line 4", "Divide them by 100")),
        ("0.65", "nan", ("y_score", "'nan'", "line 4", "in 1 line in all")),
        ("0.65", "", ("y_score is empty in line 4",)),
        ("0.65", "high", ("y_score", "'high'", "line 4")),
        ("c.png", "a.png", ("'a.png'", "line 2", "line 4", "repeats in all: 1", "remove the repeats")),
        ("c.png", "", ("filename is empty in line 4",)),
        ("c.png,1", "c.png,", ("y_true is empty in line 4",)),
        ("0.65,p1", "0.65,", ("patient is empty in line 4", "columns.group=none")),
        ("0.65,p1", "0.65,Unknown", ("patient is 'Unknown' in line 4", "in 1 line in all", "columns.group=none")),
        ("0.65,p1", "0.65", ("line 4 has 3 fields, the header has 4",)),
        ("0.65,p1", "0,65,p1", ("line 4 has 5 fields", "point")),
        ("y_score", "certainty", ("no column holds scores", "columns.score=NAME", "certainty")),
        ("y_true", "outcome", ("true label", "columns.label=NAME")),
        ("filename", "scan", ("columns.id=NAME", "columns.id=none")),
        ("patient", "y_true", ("two columns are called 'y_true'",)),
        ("c.png,1", "c.png,2", ("whose recall matters", "positive=2")),
    ],
)
def test_bad_input_is_refused_with_its_place(tmp_path: Path, before: str, after: str, words: tuple[str, ...]) -> None:
    assert_refused(tmp_path, BINARY.replace(before, after), *words)


def test_files_of_another_kind(tmp_path: Path) -> None:
    assert_refused(tmp_path, b"PK\x03\x04rest", "spreadsheet")
    assert_refused(tmp_path, "filename,y_true\n".encode("utf-16"), "UTF-8")
    assert_refused(tmp_path, "größe,b\n".encode("latin-1"), "UTF-8")
    assert_refused(tmp_path, "only\n1\n", "at least two columns")
    assert_refused(tmp_path, "a,b\n", "no line below the header")
    assert_refused(tmp_path, "", "at least two columns")


def test_without_groups_every_image_stands_alone_and_that_is_said(tmp_path: Path) -> None:
    for found in (read(tmp_path, BINARY, columns={"group": None}), read(tmp_path, BINARY.replace("patient", "ward"))):
        assert not found.grouped and "No groups are known" in titles(found)
        assert len(found.predictions.group_names) == 4


@pytest.mark.parametrize(
    ("column", "name"), [("patient", "patient"), ("Patient ID", "patient"), ("lesion_id", "lesion"), ("group", "group")]
)
def test_groups_are_called_as_their_column(tmp_path: Path, column: str, name: str) -> None:
    text = BINARY.replace("patient", column)
    assert read(tmp_path, text).group_name == name
    assert read(tmp_path, text, group_name="woman").group_name == "woman"
    assert_refused(tmp_path, text.replace("0.65,p1", "0.65,?"), f"Images of unknown {name}s")
    assert read(tmp_path, text, columns={"group": None}).group_name == "group"


def test_lines_are_numbered_on_request(tmp_path: Path) -> None:
    found = read(tmp_path, BINARY.replace("filename", "scan"), columns={"id": None})
    assert found.predictions.frame["image_id"].tolist() == [f"scores.csv:{line}" for line in (2, 3, 4, 5)]
    assert "No column of image names" in titles(found)


def test_columns_can_be_named_and_must_exist(tmp_path: Path) -> None:
    text = BINARY.replace("y_true", "outcome").replace("y_score", "certainty")
    held = read(tmp_path, text, columns={"label": "outcome", "score": "certainty"}).predictions
    assert held.scores.tolist() == [0.9, 0.2, 0.65, 0.4]
    assert_refused(tmp_path, text, "columns.label=y_true", "no such column", columns={"label": "y_true"})


def test_a_split_column_gives_validation(tmp_path: Path) -> None:
    rows = [f"i{k},{k % 2},0.{k + 1},p{k},{part}" for k, part in enumerate(["val", "Test", "test", "valid", "train"])]
    found = read(tmp_path, "\n".join(["image,label,score,patient,split", *rows]))
    assert found.validation is not None and found.validation.frame["image_id"].tolist() == ["i0", "i3"]
    assert found.predictions.frame["image_id"].tolist() == ["i1", "i2"]
    assert "Training images left out" in titles(found)
    everything = read(tmp_path, "\n".join(["image,label,score,patient,split", *rows]), columns={"split": None})
    assert len(everything.predictions) == 5 and everything.validation is None
    boats = [
        re.sub(r"val$|valid|test$|Test|train", "boat" if number % 2 else "car", row) for number, row in enumerate(rows)
    ]
    other_use = read(tmp_path, "\n".join(["image,label,score,patient,set", *boats]))
    assert len(other_use.predictions) == 5 and other_use.subgroups == ["set"]
    assert_refused(
        tmp_path,
        "\n".join(["image,label,score,patient,split", *rows]).replace("train", "boat"),
        "'boat' in line 6",
        columns={"split": "split"},
    )


def test_further_columns_become_subgroups_and_ages_bands(tmp_path: Path) -> None:
    lines = ["id,label,score,sex,age,site,y_pred,comment"]
    for k in range(30):
        lines.append(
            f"i{k},{k % 2},0.{k + 10},{'f' if k % 3 else 'unknown'},{20 + 2 * k if k else ''},{'ab'[k % 2]},{k % 2},c{k}"
        )
    found = read(tmp_path, "\n".join(lines))
    assert found.subgroups == ["age_band", "site"]  # one known sex is no subgroup, a decision is none either
    bands = found.predictions.frame["age_band"].tolist()
    assert (
        bands[:1] == [""] and bands[4] == "<30" and bands[5] == "30-60" and bands[20] == "30-60" and bands[21] == ">60"
    )
    assert "comment" in next(note["text"] for note in found.notes if note["title"] == "Columns not used")


def test_decisions_instead_of_probabilities_are_a_caution(tmp_path: Path) -> None:
    text = "id,label,y_pred\na,1,1\nb,0,0\nc,1,0\n"
    assert "The scores are decisions" in titles(read(tmp_path, text))


def test_one_class_only_needs_both_names(tmp_path: Path) -> None:
    assert read(tmp_path, "id,label,score\na,1,0.9\nb,1,0.4\n").predictions.labels.tolist() == [1, 1]
    well = "id,label,prob_sick\na,well,0.9\nb,well,0.4\n"
    held = read(tmp_path, well, positive=["sick"]).predictions
    assert held.labels.tolist() == [0, 0] and held.scores.tolist() == [0.9, 0.4]
    assert (held.positive_class, held.negative_class) == ("sick", "well")
    assert_refused(tmp_path, well, "'prob_sick'", "classes=[NEGATIVE,POSITIVE]", "columns.score=NAME")
    text = "id,label,score\na,sick,0.9\nb,sick,0.4\n"
    assert_refused(tmp_path, text, "everywhere", "classes=[NEGATIVE,POSITIVE]")
    assert read(tmp_path, text, classes=["well", "sick"], positive=["sick"]).predictions.labels.tolist() == [1, 1]


SPLIT = "image,label,score,split\na,1,0.9,{one}\nb,0,0.1,{one}\nc,1,0.8,{other}\nd,0,0.2,{other}\n"


def test_an_unknown_word_beside_known_ones_is_no_test_image(tmp_path: Path) -> None:
    for word in ("calibration", "Calib", "cal"):
        found = read(tmp_path, SPLIT.format(one=word, other="test"))
        assert found.validation is not None and len(found.validation) == len(found.predictions) == 2
    words = ("split is 'fold1' in line 2", "expected val or test", "columns.split=none")
    assert_refused(tmp_path, SPLIT.format(one="fold1", other="test"), *words)
    found = read(tmp_path, SPLIT.format(one="left", other="right"))
    assert found.validation is None and found.subgroups == ["split"], "another use of the word"


def test_lines_of_one_part_only_are_named_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError) as caught:
        read(tmp_path, SPLIT.format(one="val", other="val"))
    assert "names no test line, only val." in str(caught.value) and "np." not in str(caught.value)


def test_one_is_a_positive_label_only_beside_nought_or_minus_one(tmp_path: Path) -> None:
    text = "image,label,score\na,{b},0.9\nb,{a},0.2\nc,{b},0.7\n"
    assert_refused(tmp_path, text.format(a=1, b=2), "['1', '2']", "positive=2")
    assert read(tmp_path, text.format(a=1, b=2), positive=["2"]).predictions.labels.tolist() == [1, 0, 1]
    assert read(tmp_path, text.format(a=-1, b=1)).predictions.labels.tolist() == [1, 0, 1]
    each = "image,label,prob_1,prob_2\na,2,0.1,0.9\nb,1,0.8,0.2\n"
    assert_refused(tmp_path, each, "nothing says whose recall matters")
    named = read(tmp_path, each, classes=["benign", "malignant"]).predictions
    assert named.labels.tolist() == [1, 0] and named.scores.tolist() == [0.9, 0.2]


def test_one_class_in_two_spellings(tmp_path: Path) -> None:
    text = "image,label,score\na,Malignant,0.9\nb,benign,0.2\nc,malignant,0.7\n"
    found = read(tmp_path, text, positive=["malignant"])
    assert found.predictions.labels.tolist() == [1, 0, 1]
    assert "Malignant is positive, and the score is its probability. benign is negative." in found.notes[-1]["text"]


def test_what_the_numbers_were_taken_for_is_said(tmp_path: Path) -> None:
    called = read(tmp_path, BINARY, positive=["foo"])
    assert "Label 1 is positive: foo, as positive= calls it, label 0 negative." in called.notes[-1]["text"]
    both = "image,label,prob_1,prob_0\na,1,0.9,0.1\nb,0,0.2,0.8\n"
    found = read(tmp_path, both)
    assert "Label 1 is positive, label 0 negative." in found.notes[-1]["text"]
    assert "assumed from its name" not in found.notes[-1]["text"]
    named = read(tmp_path, both, classes=["benign", "malignant"], positive=["malignant"]).predictions
    assert named.scores.tolist() == [0.9, 0.2] and named.labels.tolist() == [1, 0], "by number, not in the file's order"
    assert read(tmp_path, both, positive=["1"]).predictions.scores.tolist() == [0.9, 0.2]


def test_a_column_that_another_role_took(tmp_path: Path) -> None:
    options: dict[str, Any] = {"columns": {"score": "y_true"}}
    assert_refused(tmp_path, BINARY, "columns.score=y_true took 'y_true'", "columns.label=NAME", **options)

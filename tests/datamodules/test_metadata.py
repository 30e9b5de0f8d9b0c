"""Metadata as numbers: fitted on training rows alone, missing values marked, columns that tell the label refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from datamodules.metadata import LEAKING, OTHER, MetadataEncoder, usable_columns

AGES = ["30", "50.0", "", "70", "unknown", "50"]


def frame_of(rows: int = 6) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            **{name: [f"{name}{number}" for number in range(6)] for name in ("image_id", "path", "group_id", "sha256")},
            **{"label": ["mel", "nv"] * 3, "split": "", "size": 3, "width": 600, "height": 450, "mode": "RGB"},
            **{"age": AGES, "age_band": "40-59", "sex": ["Male", "female", "unknown", "male", "female", None]},
            **{"site": ["back", "face", "back", "unknown", "face", "face"]},
            **{"dx_type": ["histo", "follow_up"] * 3, "subtype": ["mel", "nv"] * 3},
        }
    )
    return pd.concat([frame] * (rows // 6), ignore_index=True)


def test_numbers_are_standardised_and_missing_ones_marked() -> None:
    encoder = MetadataEncoder.fit(frame_of(), ["age"])
    encoded = encoder.encode(frame_of())
    ages = np.array([30, 50, 70, 50], dtype=np.float64)
    expected = (ages - 50) / ages.std()
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(encoded[[0, 1, 3, 5], 0], expected, rtol=1e-6)
    assert encoded[[2, 4]].tolist() == [[0, 1], [0, 1]]
    assert encoded[[0, 1, 3, 5], 1].tolist() == [0, 0, 0, 0]
    assert encoder.outputs == ["age", "age missing"]


def test_words_are_one_of_the_values_of_training() -> None:
    encoder = MetadataEncoder.fit(frame_of().iloc[:2], ["sex", "site"])
    assert encoder.outputs == ["sex female", "sex male", f"sex {OTHER}", "site back", "site face", f"site {OTHER}"]
    encoded = encoder.encode(frame_of().assign(site=["BACK ", "scalp", "face", "unknown", "", None]))
    assert encoded[:, :3].argmax(axis=1).tolist() == [1, 0, 2, 1, 0, 2]
    assert encoded[:, 3:].argmax(axis=1).tolist() == [0, 2, 1, 2, 2, 2]
    assert (encoded[:, :3].sum(axis=1) == 1).all()
    assert (encoded[:, 3:].sum(axis=1) == 1).all()


def test_only_training_rows_are_learned_from() -> None:
    frame = frame_of()
    encoder = MetadataEncoder.fit(frame.iloc[:3], ["age", "sex"])
    changed = frame.assign(age=[*AGES[:3], "9000", "1", "2"], sex=[*frame["sex"][:3], "x", "y", "z"])
    assert MetadataEncoder.fit(changed.iloc[:3], ["age", "sex"]) == encoder
    assert encoder.width == encoder.encode(frame).shape[1] == 5


def test_the_description_is_the_encoder() -> None:
    encoder = MetadataEncoder.fit(frame_of(), ["site", "age", "sex"])
    again = MetadataEncoder.from_description(json.loads(json.dumps(encoder.describe(), allow_nan=False)))
    assert again == encoder
    np.testing.assert_array_equal(again.encode(frame_of()), encoder.encode(frame_of()))
    with pytest.raises(ValueError, match=r"damaged.*model\.json"):
        MetadataEncoder.from_description({"columns": [{"name": "age", "kind": "number"}]})
    with pytest.raises(ValueError, match=r"damaged"):
        MetadataEncoder.from_description({})


def test_names_of_the_publishers_are_understood() -> None:
    frame = frame_of()
    encoder = MetadataEncoder.fit(frame, ["localization"])
    assert encoder.outputs == ["localization back", "localization face", f"localization {OTHER}"]
    own = frame.rename(columns={"site": "localization"})
    np.testing.assert_array_equal(encoder.encode(frame), encoder.encode(own))


def test_constant_and_odd_numbers_stay_finite() -> None:
    frame = frame_of().assign(age=["50", "50", "inf", "nan", "50", "-"])
    encoded = MetadataEncoder.fit(frame, ["age"]).encode(frame)
    assert encoded.tolist() == [[0, 0], [0, 0], [0, 1], [0, 1], [0, 0], [0, 1]]
    numeric = frame.assign(age=[50.0, 60.0, np.nan, np.inf, 50.0, 60.0])
    assert np.isfinite(MetadataEncoder.fit(numeric, ["age"]).encode(numeric)).all()
    rounding = MetadataEncoder.fit(frame.assign(age="0.1"), ["age"])
    assert abs(rounding.encode(frame)[0, 0] - 49.9) < 1e-3, "a constant is not divided by its rounding error"
    with pytest.raises(ValueError, match="age is empty"):
        MetadataEncoder.fit(frame.assign(age="inf"), ["age"])
    words = MetadataEncoder.fit(frame.assign(age=["50", "old", "", "", "", ""]), ["age"])
    assert words.outputs == ["age 50", "age old", f"age {OTHER}"], "a word among numbers makes a column of words"


def test_a_word_where_training_had_numbers_is_missing() -> None:
    encoder = MetadataEncoder.fit(frame_of(), ["age"])
    assert encoder.encode(frame_of().assign(age="old")).tolist() == [[0, 1]] * 6


def test_no_columns_is_no_numbers() -> None:
    assert MetadataEncoder.fit(frame_of(), []).encode(frame_of()).shape == (6, 0)


@pytest.mark.parametrize("name", sorted(LEAKING))
def test_columns_that_tell_the_label_are_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"model\.metadata: {name} tells the label.*there are: age, age_band, sex, site\."
    ):
        MetadataEncoder.fit(frame_of().assign(**{name: "x"}), ["age", name])


@pytest.mark.parametrize("values", [("malignant", "benign"), ("1", "0")])
def test_a_column_under_another_name_that_tells_the_label_is_refused(values: tuple[str, str]) -> None:
    frame = frame_of(60).assign(histology=list(values) * 30)
    with pytest.raises(ValueError, match=r"histology tells the label of every training image"):
        MetadataEncoder.fit(frame, ["histology"])
    almost = frame.assign(histology=[values[1], *frame["histology"][1:]])
    assert MetadataEncoder.fit(almost, ["histology"]).width in (2, 3)
    assert MetadataEncoder.fit(frame_of(60).assign(place="here"), ["place"]).width == 2, "one value tells nothing"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            ["weight"],
            r"weight is no column of this data set. Choose others; there are: age, age_band, sex, site, empty\.",
        ),
        (["label"], "label describes the file and not the patient"),
        (["width"], "width describes the file"),
        (["group_id"], "group_id describes the file"),
        (["sex", "sex"], "sex is named twice"),
        (["empty"], "empty is empty in all 6 training images"),
    ],
)
def test_other_columns_are_refused(columns: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=rf"model\.metadata.*{message}"):
        MetadataEncoder.fit(frame_of().assign(empty="unknown"), columns)


def test_identifiers_are_refused() -> None:
    frame = frame_of(120).assign(ward=[f"ward {number}" for number in range(120)])
    with pytest.raises(ValueError, match=r"ward has 120 different values"):
        MetadataEncoder.fit(frame, ["ward"])


def test_a_data_set_without_metadata_says_so() -> None:
    frame = frame_of()[["image_id", "path", "label", "group_id", "split", "sha256", "subtype"]]
    assert usable_columns(frame) == []
    with pytest.raises(ValueError, match=r"age is no column of this data set.*has none: set model\.metadata=\[\]"):
        MetadataEncoder.fit(frame, ["age"])
    with pytest.raises(ValueError, match=r"age is no column"):
        MetadataEncoder.fit(frame_of(), ["age"]).encode(frame)

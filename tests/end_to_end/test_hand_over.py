"""Handing a model over as a user does it: a folder is copied, predicts the same, and whatever was tampered with is refused."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import make_chest_xray, run_command
from tests.workflow.test_foreign_checkpoint import WritesAFile
from tests.workflow.tiny_run import tiny_run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with films, a run on them, and what the run predicts for the test films."""
    root = tmp_path_factory.mktemp("hand_over")
    tiny_run(root / "run", make_chest_xray(root / "films"), root / "home")
    predicted = predict(root, root / "run", root / "expected")
    assert len(predicted) == len(list((root / "films" / "test").rglob("*.jpeg")))
    return root


def predict(place: Path, run: Path, output: Path) -> pd.DataFrame:
    """The table of ``python predict.py``, typed in an empty folder without any data set."""
    empty = output.with_name(f"{output.name}_typed_here")
    empty.mkdir()
    films = place / "films" / "test"
    done = run_command("predict.py", f"run={run}", f"images={films}", f"output={output}", home=empty)
    assert done.returncode == 0, done.stdout + done.stderr
    return pd.read_csv(output / "predictions.csv")


def assert_same_predictions(place: Path, found: pd.DataFrame) -> None:
    expected = pd.read_csv(place / "expected" / "predictions.csv")
    assert list(found.columns) == list(expected.columns)
    for name in expected:
        if expected[name].dtype.kind == "f":
            assert np.allclose(found[name], expected[name], atol=1e-6, rtol=0, equal_nan=True), name
        else:
            assert found[name].astype(str).tolist() == expected[name].astype(str).tolist(), name


def test_a_hand_over_folder_predicts_as_the_run(place: Path, tmp_path: Path) -> None:
    done = run_command(
        "export.py", f"run={place / 'run'}", "format=safetensors", f"output={tmp_path / 'hub'}", home=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.move(tmp_path / "hub", tmp_path / "elsewhere")
    assert_same_predictions(place, predict(place, tmp_path / "elsewhere", tmp_path / "found"))


def test_the_model_folder_alone_predicts_as_the_run(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run" / "model", tmp_path / "alone")
    found = predict(place, tmp_path / "alone", tmp_path / "found")
    expected = pd.read_csv(place / "expected" / "predictions.csv")
    names = [name for name in expected.columns if str(name).startswith("prob_")]
    assert names, list(expected.columns)
    assert np.allclose(found[names], expected[names], atol=1e-6, rtol=0)
    assert found["decision"].tolist() == expected["decision"].tolist()


@pytest.mark.parametrize("command", ["predict.py", "export.py"])
def test_what_is_not_to_be_trusted_ends_in_one_message(place: Path, tmp_path: Path, command: str) -> None:
    pwned = tmp_path / "pwned"
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps({"state_dict": WritesAFile(pwned)}, protocol=2))
    rest = [f"images={place / 'films' / 'test'}"] if command == "predict.py" else ["format=onnx"]
    done = run_command(command, f"run={tmp_path / 'evil.ckpt'}", *rest, f"output={tmp_path / 'out'}", home=tmp_path)
    assert done.returncode not in (0, None) and "Traceback" not in done.stderr
    assert "holds more than tensors and plain values" in " ".join(done.stderr.split())
    assert not pwned.exists() and not (tmp_path / "out" / "predictions.csv").exists()

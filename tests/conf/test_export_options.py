"""The command line of export.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.export_options import KEYS, TOLERANCE, Options, UsageError, help_text, parsed


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}", encoding="utf-8")
    return tmp_path / "run"


def test_what_is_not_given_is_usual(run: Path) -> None:
    assert parsed([f"run={run}", "format=onnx"]) == Options(run, "onnx", None, False, TOLERANCE, None, False)


def test_every_key_is_read(run: Path, tmp_path: Path) -> None:
    given = [f"output={tmp_path / 'x.onnx'}", "quantise=true", "tolerance=1e-3", f"data.root={tmp_path}", "trust=true"]
    found = parsed([f"run={run}", "format=onnx", *given])
    assert found == Options(run, "onnx", tmp_path / "x.onnx", True, 1e-3, tmp_path, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["format=onnx"], "run is missing"),
        (["run={run}"], r"format is missing: format=onnx\|torch\|safetensors"),
        (["run={run}/nothing", "format=onnx"], "there is no such folder or file"),
        (["run={run}", "format=onxn"], "must be one of onnx, torch, safetensors. Did you mean 'onnx'?"),
        (["run={run}", "format=onnx", "quantize=true"], "there is no key 'quantize'. Did you mean 'quantise'?"),
        (["run={run}", "format=onnx", "format=torch"], "format is given twice"),
        (["run={run}", "format=onnx", "output="], "output has no value"),
        (["run={run}", "onnx"], "'onnx' is not of the form key=value"),
        (["run={run}", "format=torch", "quantise=true"], "only an ONNX file is quantised"),
        (["run={run}", "format=onnx", "quantise=perhaps"], "quantise=perhaps: must be true or false"),
        (["run={run}", "format=safetensors", "tolerance=0.1"], "so nothing is re-scored"),
        (["run={run}", "format=safetensors", "output=model.onnx"], "what format=safetensors writes is a folder"),
        (["run={run}", "format=torch", "output=model.onnx"], "what format=torch writes ends in .pt2"),
        (["run={run}", "format=onnx", "output={run}/model.onnx"], "a run, which is not changed"),
        (["run={run}", "format=onnx", "output={run}"], "already there and is never overwritten"),
        (["run={run}", "format=onnx", "output={run}/run.json"], "already there and is never overwritten"),
        (["run={run}", "format=onnx", "tolerance=0"], "tolerance=0: must be above 0 and below 1"),
        (["run={run}", "format=onnx", "tolerance=nan"], "tolerance=nan: must be above 0"),
        (["run={run}", "format=onnx", "tolerance=little"], "'little' is not a number"),
        (["run={run}", "format=onnx", "data.root={run}/none"], "there is no such folder"),
    ],
)
def test_mistakes_are_named(run: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?").replace("|", "|")):
        parsed([text.format(run=run) for text in arguments])


def test_help_names_every_key() -> None:
    text = help_text("what it does", "the notice")
    assert all(f"\n  {key}" in text for key in KEYS) and text.endswith("the notice")

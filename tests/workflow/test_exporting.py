"""Exports of a finished run: what the files say is what the run says, and nothing is written where it is not."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from rich.console import Console
from torch.export import ExportedProgram

from conf.export_options import Options
from conf.schema import RESEARCH_NOTICE
from evaluation.predictions import read_predictions
from tests.conftest import make_chest_xray
from tests.workflow.tiny_run import tiny_run
from workflow import exporting
from workflow.export_graph import guarded, traced
from workflow.export_images import check_images, drawn_images
from workflow.export_table import print_export
from workflow.exporting import export
from workflow.predictor import load_predictor

Made = tuple[Path, dict[str, Any], Path]


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("export")
    return tiny_run(place / "run", make_chest_xray(place / "chest_xray"), place / "home", tta="flip")


@pytest.fixture(scope="module")
def made(run: Path) -> Made:
    """The run, the content of export.json, and the folder with model.onnx and model.int8.onnx."""
    before = stamps(run)
    options = Options(run, "onnx", output=run.parent / "out", quantise=True)
    content, folder = export(options, "typed", bars=False)
    assert stamps(run) == before, "a finished run must not be changed"
    return run, content, folder


@pytest.fixture(scope="module")
def program(run: Path) -> ExportedProgram:
    return traced(load_predictor(run))


@pytest.fixture
def followed(program: ExportedProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is followed once for all tests of what happens to the file; following it takes most of an export."""
    monkeypatch.setattr(exporting, "traced", lambda predictor: program)


def session_of(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_the_graph_gives_the_predictions_of_the_run(made: Made) -> None:
    run, content, folder = made
    predictor = load_predictor(run)
    images = check_images(predictor, None)
    stored = [
        read_predictions(run / "predictions" / f"{part}.csv", predictor.classes, ["PNEUMONIA"])
        for part in ("val", "test")
    ]
    wanted = np.concatenate([part.scores for part in stored])
    session = session_of(folder / "model.onnx")
    for batch in (1, 7, len(images)):
        parts = [
            session.run(None, {"images": images.pixels[start : start + batch]})
            for start in range(0, len(images), batch)
        ]
        probabilities, score, calibrated, decision = (np.concatenate(found) for found in zip(*parts, strict=True))
        np.testing.assert_allclose(score, wanted, atol=1e-6)
        np.testing.assert_allclose(probabilities, np.stack([1 - wanted, wanted], axis=1), atol=1e-6)
        np.testing.assert_allclose(calibrated, predictor.calibrator.scores(wanted), atol=1e-5)
        assert decision.tolist() == (wanted >= predictor.point.threshold).tolist()
    assert content["check"]["decisions_differ"] == 0
    assert content["check"]["largest_difference"] < 1e-6
    assert [row["batch"] for row in content["check"]["batches"]] == [1, 7, 64]


def test_every_axis_but_the_channels_is_free(made: Made) -> None:
    session = session_of(made[2] / "model.onnx")
    assert session.get_inputs()[0].shape == ["n", "height", "width", 1]
    assert [item.name for item in session.get_outputs()] == ["probabilities", "score", "calibrated", "decision"]
    for n, height, width in ((1, 24, 24), (2, 60, 31), (5, 9, 100), (3, 48, 48)):
        assert session.run(["score"], {"images": drawn_images(n, height, width, 1)})[0].shape == (n,)
    assert all(row["largest_difference"] < 0.02 for row in made[1]["check"]["sizes"])


def test_the_file_tells_what_it_is(made: Made) -> None:
    run, _, folder = made
    facts = session_of(folder / "model.onnx").get_modelmeta().custom_metadata_map
    point = json.loads((run / "threshold.json").read_text(encoding="utf-8"))
    assert json.loads(facts["classes"]) == ["NORMAL", "PNEUMONIA"] and json.loads(facts["positive"]) == ["PNEUMONIA"]
    lowered = guarded(point["threshold"])
    assert float(facts["threshold_in_graph"]) == lowered < point["threshold"]
    assert repr(lowered) in facts["threshold_note"] and repr(point["threshold"]) in facts["threshold_note"]
    assert float(facts["threshold"]) == point["threshold"] and facts["threshold_rule"] == point["rule"]
    assert (
        facts["notice"] == RESEARCH_NOTICE
        and "24 x 24" in facts["preprocessing"]
        and "2 views" in facts["preprocessing"]
    )
    assert json.loads(facts["weights_sha256"]) == [json.loads((run / "run.json").read_text())["weights_sha256"]]
    proto = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert proto.opset_import[0].version == 18 and not proto.graph.initializer[0].external_data
    assert b"models/" not in (folder / "model.onnx").read_bytes(), "no path of this machine in the graph"


def test_eight_bits_are_judged_and_promise_nothing(made: Made) -> None:
    _, content, folder = made
    small = content["int8"]
    assert small["bytes"] == (folder / "model.int8.onnx").stat().st_size
    assert set(small["validation"]["auroc"]) == {"run", "int8", "change"}
    facts = session_of(folder / "model.int8.onnx").get_modelmeta().custom_metadata_map
    assert "choose its threshold anew" in facts["threshold_statement"] and facts["notice"] == RESEARCH_NOTICE


def test_the_record_and_the_terminal_say_the_same(made: Made) -> None:
    _, content, folder = made
    assert json.loads((folder / "export.json").read_text(encoding="utf-8")) == content
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "model.int8.onnx", "export.json"}
    written = StringIO()
    print_export(content, Console(width=400, file=written, highlight=False))
    text = written.getvalue()
    assert "model.int8.onnx" in text and "0 of 33" in text
    assert f"locked at {content['threshold']['threshold']:.7g}; the file compares with" in text
    assert "largest difference of a probability" in text and "8-bit weights at the locked threshold" in text


@pytest.mark.usefixtures("followed")
def test_pytorch_runs_the_program_without_this_code(made: Made, tmp_path: Path) -> None:
    run, _, folder = made
    content, path = export(Options(run, "torch", output=tmp_path / "films.pt2"), "typed", bars=False)
    assert path == tmp_path / "films.pt2" and (tmp_path / "films.export.json").is_file()
    assert content["check"]["decisions_differ"] == 0 and content["check"]["largest_difference"] < 1e-6
    pixels = drawn_images(3, 31, 40, 1)
    np.save(tmp_path / "pixels.npy", pixels)
    lines = [
        "import json, numpy, sys, torch",
        "extra = {'firstread.json': ''}",
        "model = torch.export.load('films.pt2', extra_files=extra).module()",
        "found = model(torch.from_numpy(numpy.load('pixels.npy')))",
        "ours = [name for name in sys.modules if name.split('.')[0] in ('models', 'workflow', 'evaluation', 'timm')]",
        "print(json.dumps([found['score'].tolist(), json.loads(extra['firstread.json'])['notice'], ours]))",
    ]
    elsewhere = subprocess.run(
        [sys.executable, "-I", "-c", "\n".join(lines)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    scores, notice, ours = json.loads(elsewhere.stdout)
    assert notice == RESEARCH_NOTICE and ours == []
    graph = session_of(folder / "model.onnx")
    np.testing.assert_allclose(scores, graph.run(["score"], {"images": pixels})[0], atol=1e-6)


@pytest.mark.usefixtures("followed")
def test_above_the_tolerance_nothing_is_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than tolerance=1e-12, so it is not written"):
        export(Options(run, "torch", output=tmp_path / "out", tolerance=1e-12), "typed", bars=False)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match="never overwritten"):
        export(Options(run, "onnx", output=tmp_path / "model.onnx"), "typed", bars=False)
    with pytest.raises(ValueError, match="never overwritten"):
        export(Options(run, "onnx", output=tmp_path), "typed", bars=False)
    assert (tmp_path / "model.onnx").read_text(encoding="utf-8") == "mine"


@pytest.mark.usefixtures("followed")
def test_a_broken_off_export_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "agreement", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(Options(run, "torch", output=tmp_path / "out" / "model.pt2"), "typed", bars=False)
    assert not list(tmp_path.iterdir()), "not even the folder that was made for it"


@pytest.mark.usefixtures("followed")
def test_a_file_is_made_within_its_folder_alone(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder above may be closed to the user, or on another disk."""
    seen: list[Path] = []

    def looked(*_: Any) -> list[Any]:
        seen.extend(tmp_path.rglob("*.pt2"))
        return []

    monkeypatch.setattr(exporting, "latencies", looked)
    (tmp_path / "open").mkdir()
    export(Options(run, "torch", output=tmp_path / "open" / "model.pt2"), "typed", bars=False)
    assert [path.parent.parent for path in seen] == [tmp_path / "open"]
    assert {path.name for path in (tmp_path / "open").iterdir()} == {"model.pt2", "model.export.json"}


@pytest.mark.usefixtures("followed")
def test_what_appears_meanwhile_is_not_overwritten(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "model.pt2"
    monkeypatch.setattr(exporting, "latencies", lambda *_: [place.write_text("mine", encoding="utf-8")])
    with pytest.raises(ValueError, match="never overwritten"):
        export(Options(run, "torch", output=place), "typed", bars=False)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"] and place.read_text(encoding="utf-8") == "mine"


@pytest.mark.usefixtures("followed")
def test_a_full_disk_names_the_place(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ValueError, match=r"out: No space left on device\. Nothing was written; make room there"):
        export(Options(run, "torch", output=tmp_path / "out"), "typed")
    assert not list(tmp_path.iterdir())
    told = capfd.readouterr().out
    assert "reading the model ..." in told and "following the network with torch.export" in told


@pytest.mark.usefixtures("followed")
def test_a_model_without_its_data_is_checked_on_drawn_images(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "model")
    content, _ = export(Options(tmp_path / "model", "torch", output=tmp_path / "out"), "typed", bars=False)
    assert "drawn images" in content["check"]["images"] and "without its run" in content["check"]["reason"]
    assert content["check"]["largest_difference"] < 1e-6
    with pytest.raises(ValueError, match="the model came without its run"):
        export(Options(tmp_path / "model", "onnx", output=tmp_path / "more", data_root=tmp_path), "typed", bars=False)


def test_the_guard_is_a_rounding_and_no_more() -> None:
    for threshold in (1e-6, 0.002, 0.5, 0.9999):
        assert 0.0 <= threshold - guarded(threshold) <= 2.6e-5
        assert guarded(threshold) > threshold * (1 - 1.1e-4)
    assert guarded(0.0) == 0.0 and guarded(1.0) == 1.0


def test_drawn_images_are_of_all_kinds_and_always_the_same() -> None:
    first, again = drawn_images(8, 20, 30, 3), drawn_images(8, 20, 30, 3)
    np.testing.assert_array_equal(first, again)
    spread = first.reshape(8, -1).std(axis=1)
    assert (spread == 0).any() and (spread > 60).any() and first.shape == (8, 20, 30, 3)

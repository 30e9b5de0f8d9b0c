"""Ctrl-C, resume and multirun through the real command line."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from tests.commands import ROOT, WarmCommand, environment_of
from tests.conftest import run_train
from tests.end_to_end.conftest import PLAIN

Started = subprocess.Popen[str] | WarmCommand


def start(folder: Path, home: Path, *arguments: str, base: Sequence[str] = PLAIN, warm: bool = True) -> Started:
    """Start a run that Ctrl-C reaches, also where the test suite itself was started in the background with it ignored."""
    given = (*base, *arguments, f"hydra.run.dir={folder}")
    if warm:
        return WarmCommand("train.py", given, home, environment_of(home))
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *given],
        cwd=home,
        env=environment_of(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    )


def wait_until(happened: Callable[[], bool], process: Started, seconds: float = 300.0) -> None:
    """Until something happened in a run or the run ended; long, for a busy machine."""
    deadline = time.monotonic() + seconds
    while not happened() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def interrupt_after_first_epoch(folder: Path, home: Path, *, warm: bool = True) -> Started:
    """Start the run of the fixture and press Ctrl-C in its second epoch."""
    process = start(folder, home, warm=warm)
    wait_until((folder / "checkpoints" / "last.ckpt").is_file, process)
    process.send_signal(signal.SIGINT)
    return process


def assert_same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Equal to the bit; what could not be fitted, such as a temperature, is NaN in both."""
    assert first.keys() == second.keys()
    for name, tensor in second.items():
        torch.testing.assert_close(first[name], tensor, rtol=0, atol=0, equal_nan=True, msg=name)


def test_interrupted_and_resumed_equals_uninterrupted(finished: tuple[Path, str], home: Path) -> None:
    whole, _ = finished
    folder = home / "runs" / "interrupted"
    process = interrupt_after_first_epoch(folder, home, warm=False)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130, output
    assert "python train.py resume=runs/interrupted" in output
    assert "Traceback" not in output
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert 1 <= checkpoint["epoch"] + 1 < 3, "the run was interrupted before its last epoch"
    assert not (folder / "metrics.json").exists()

    refused = run_train("resume=runs/interrupted", "model.dropout=0.1", home=home)
    assert refused.returncode == 2
    assert "model.dropout=0.1" in refused.stderr

    done = run_train("resume=runs/interrupted", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("val", "test"):
        name = f"predictions/{part}.csv"
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    # The kept epoch may lie before the interruption, so every epoch and the last weights are compared as well.
    curves = ["epoch", "train/loss", "train/auroc", "val/loss", "val/auroc"]
    assert pd.read_csv(folder / "history.csv")[curves].equals(pd.read_csv(whole / "history.csv")[curves])
    last, same = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (folder, whole)
    )
    assert_same_weights(last, same)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert len(record["resumed"]) == 1
    assert "resume=" not in record["command"], "the command of the first start is the one that reproduces the run"
    assert json.loads((folder / "threshold.json").read_text()) == json.loads((whole / "threshold.json").read_text())


def test_a_moved_run_resumes_with_its_best_epoch_and_workers_change_nothing(
    finished: tuple[Path, str], home: Path
) -> None:
    whole, _ = finished
    process = interrupt_after_first_epoch(home / "runs" / "to move", home)
    process.communicate(timeout=300)
    moved = home / "runs" / "moved, a=b"
    (home / "runs" / "to move").rename(moved)
    config = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(config.replace("num_workers: null", "num_workers: 2"))
    shorter = run_train(f"resume={moved}", "trainer.max_epochs=1", home=home)
    assert shorter.returncode == 2
    assert "only be made longer" in shorter.stderr
    done = run_train(f"resume={moved}", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dirpath" not in done.stdout + done.stderr
    for name in ("predictions/val.csv", "predictions/test.csv"):
        assert (moved / name).read_bytes() == (whole / name).read_bytes()
    last = torch.load(moved / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 2, "last.ckpt is written after every epoch, also when the best one was earlier"
    same = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert_same_weights(last["state_dict"], same)


def stopped_before_its_report(whole: Path, folder: Path) -> Path:
    """A copy of a finished run that looks as if it had been interrupted after its test."""
    shutil.copytree(whole, folder)
    (folder / "report.html").unlink()
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    return folder


def test_a_run_stopped_before_its_report_can_be_finished(finished: tuple[Path, str], home: Path) -> None:
    whole, _ = finished
    folder = stopped_before_its_report(whole, home / "runs" / "no_report")
    done = run_train(f"resume={folder}", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "report.html").is_file()
    assert (folder / "predictions" / "test.csv").read_bytes() == (whole / "predictions" / "test.csv").read_bytes()


def test_resume_refuses_other_data(finished: tuple[Path, str], home: Path) -> None:
    folder = stopped_before_its_report(finished[0], home / "runs" / "other_data")
    card = folder / "data_card.json"
    card.write_text(card.read_text().replace('"split_sha256": "', '"split_sha256": "0'))
    done = run_train(f"resume={folder}", home=home)
    assert done.returncode == 2
    assert "split_sha256" in done.stderr
    assert "Traceback" not in done.stderr


def test_multirun_gives_three_seeds_and_one_table(home: Path) -> None:
    done = run_train("-m", *PLAIN, "trainer.max_epochs=1", "seed=0,1,2", "hydra.sweep.dir=multirun/seeds", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    folders = sorted(path for path in (home / "multirun" / "seeds").iterdir() if path.is_dir())
    assert [folder.name for folder in folders] == ["0", "1", "2"]
    seeds = [json.loads((folder / "run.json").read_text())["seeds"]["seed"] for folder in folders]
    assert seeds == [0, 1, 2]
    tests = {(folder / "predictions" / "test.csv").read_bytes() for folder in folders}
    assert len(tests) == 3, "three seeds give three models"
    splits = {(folder / "splits.csv").read_bytes() for folder in folders}
    assert len(splits) == 1, "seeds are compared on one split"
    table = pd.read_csv(home / "multirun" / "seeds" / "sweep.csv")
    assert table["seed"].tolist() == [0, 1, 2]
    assert (table["test/auroc low"] <= table["test/auroc"]).all()
    assert "mean (sd over seeds)" in done.stdout
    assert done.stdout.count("3 runs") == 1
    assert "Traceback" not in done.stdout + done.stderr


def test_a_sweep_goes_on_when_one_run_fails_and_says_so(home: Path) -> None:
    sweep = "hydra.sweep.dir=multirun/failing"
    done = run_train("-m", *PLAIN, "trainer.max_epochs=1", "data.per_class=99999,20", sweep, home=home)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "data.per_class=99999: class" in done.stdout
    assert "1 of 2 runs failed" in done.stdout
    table = pd.read_csv(home / "multirun" / "failing" / "sweep.csv", dtype=str)
    assert table["status"].tolist() == ["failed", "finished"]
    assert (home / "multirun" / "failing" / "1" / "report.html").is_file()


def test_a_run_that_is_still_going_cannot_be_resumed(home: Path) -> None:
    folder = home / "runs" / "busy"
    process = start(folder, home, "trainer.max_epochs=20000")
    try:
        wait_until((folder / "checkpoints" / "last.ckpt").is_file, process)
        assert process.poll() is None
        refused = run_train(f"resume={folder}", home=home)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "still going in another process" in refused.stderr
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=300)
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"

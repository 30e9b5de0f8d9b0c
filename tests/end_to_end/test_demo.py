"""The demo shows what it is there to show: a network that sees structure where thumbnails do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import run_train


@pytest.mark.slow
def test_the_demo_clears_its_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # a training of real size, on all cores
    done = run_train(
        "task=pneumonia",
        "model=simple_cnn",
        "data.source=phantom",
        "evaluation.bootstrap=200",
        "hydra.run.dir=demo",
        home=tmp_path,
        timeout=900,
        warm=False,  # the number of threads is read when torch is loaded
    )
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "demo" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["splits"]["test"]["auroc"]["value"] > 0.93
    assert metrics["baseline"]["test"]["auroc"]["value"] < 0.85
    assert metrics["baseline"]["clears"] is True
    assert metrics["title"].startswith("Phantom data")
    assert json.loads((tmp_path / "demo" / "threshold.json").read_text())["title"].startswith("Phantom data")

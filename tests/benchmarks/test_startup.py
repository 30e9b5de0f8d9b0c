"""What a command loads before it has checked its command line: nothing heavy. Times are measured by benchmarks/startup.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.startup import COMMANDS, STAGES, table

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "torch",
    "pytorch_lightning",
    "torchvision",
    "torchmetrics",
    "timm",
    "albumentations",
    "sklearn",
    "scipy",
    "matplotlib",
)
DATA = ("pandas", "numpy", "cv2", "PIL")
LOADED = """
import json, runpy, sys
sys.argv, wanted = json.loads(sys.argv[1]), json.loads(sys.argv[2])
sys.path.insert(0, "")
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit:
    pass
print(json.dumps([name for name in wanted if name in sys.modules]))
"""


def loaded_by(command: str, wanted: tuple[str, ...]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps(command.split()), json.dumps(wanted)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_refusals_load_no_data_modules(command: str) -> None:
    assert loaded_by(command, (*HEAVY, *DATA)) == []


def test_an_empty_folder_is_reported_without_torch_or_scipy(tmp_path: Path) -> None:
    found = loaded_by(f"train.py data.root={tmp_path} hydra.run.dir={tmp_path / 'run'}", (*HEAVY, *DATA))
    assert not set(found) & set(HEAVY)
    assert "pandas" in found  # it did reach the data modules


def test_one_model_loads_no_report_modules() -> None:
    code = "import sys, workflow.predict_several; print('matplotlib' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_stages_follow_each_other_in_the_table() -> None:
    stages = [
        {"stage": name, "seconds": number + 1.0, "cpu": number + 0.5} for number, name in enumerate(STAGES.values())
    ]
    stages.append({"stage": "done", "seconds": 9.0, "cpu": 8.0})
    lines = table(
        [{"command": "train.py --help", "wall": 1.0, "cpu": 0.5, "exit": 0}],
        {"wall": 9.0, "cpu": 8.0, "stages": stages},
    )
    assert "| the interpreter | 1.00 | 0.50 |" in lines
    assert "| torch | 1.00 | 1.00 |" in lines
    assert "| done |" not in lines

"""``export.py`` as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conf.schema import RESEARCH_NOTICE
from tests.conftest import ROOT, run_command


def test_a_finished_run_as_an_onnx_file(finished: tuple[Path, str], home: Path) -> None:
    run, output = finished[0], home / "handed" / "films.onnx"
    done = run_command("export.py", f"run={run}", "format=onnx", f"output={output}", home=home, warm=False)
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((home / "handed" / "films.export.json").read_text(encoding="utf-8"))
    assert content["phantom"] is True and content["file"]["name"] == "films.onnx" and output.is_file()
    assert content["check"]["decisions_differ"] == 0 and content["check"]["reason"] == ""
    assert "the run's own" in done.stdout and RESEARCH_NOTICE in done.stdout
    assert done.stderr == "", "torch's and onnx's remarks stay away from the terminal"
    again = run_command("export.py", f"run={run}", "format=onnx", f"output={output}", home=home)
    assert again.returncode == 2 and "never overwritten" in again.stderr


def test_a_finished_run_as_a_hub_folder(finished: tuple[Path, str], home: Path) -> None:
    done = run_command("export.py", f"run={finished[0]}", "format=safetensors", f"output={home / 'hub'}", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "model.safetensors" in done.stdout and (home / "hub" / "README.md").is_file()


def test_mistakes_and_help_cost_no_torch(tmp_path: Path) -> None:
    lines = [
        "import sys, export",
        "export.main(['--help'])",
        "try:",
        "    export.main(['run=nowhere', 'format=onnx'])",
        "except SystemExit as stopped:",
        "    print(stopped.code, 'torch' in sys.modules, 'numpy' in sys.modules)",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.endswith("2 False False\n") and "there is no such folder or file" in done.stderr

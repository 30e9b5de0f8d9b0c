"""``evaluate.py run=RUN robustness=true`` and ``evaluate.py run=RUN task=... data.root=...`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from tests.conftest import run_command, write_image


def test_a_finished_run_under_corruptions(finished: tuple[Path, str], home: Path) -> None:
    run = finished[0]
    output = home / "robust"
    done = run_command(
        "evaluate.py", f"run={run}", "robustness=true", "images=12", "bootstrap=100", f"output={output}", home=home
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((output / "robustness.json").read_text(encoding="utf-8"))
    assert content["findings"]["sentence"][:20] in done.stdout and "report:" in done.stdout
    # To the bit in batches of the run's own size; here it took 16 images at once, a scorer takes 64.
    assert content["largest_difference_to_run"] < 1e-6
    assert content["images"]["n"] >= 12 and content["phantom"] is True
    assert "Phantom data" in (output / "report.html").read_text(encoding="utf-8")
    scores = pd.read_csv(output / "robustness.csv.gz")
    assert len(scores) == content["images"]["n"] * 41 and scores["strength"].max() == 5


def test_a_finished_run_on_another_data_set(finished: tuple[Path, str], home: Path) -> None:
    run = finished[0]
    for number in range(12):
        write_image(home / "clinic" / "well" / f"{number}.jpg", 9000 + number)
        write_image(home / "clinic" / "ill" / f"{number}.jpg", 9100 + number)
    asked = [f"run={run}", "task=folder", f"data.root={home / 'clinic'}", "bootstrap=100"]
    refused = run_command("evaluate.py", *asked, f"output={home / 'outside'}", home=home)
    assert refused.returncode == 2 and "also has ill, well" in refused.stderr and not (home / "outside").exists()
    mapped = "mapping={well:NORMAL,ill:PNEUMONIA}"
    done = run_command("evaluate.py", *asked, mapped, f"output={home / 'outside'}", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((home / "outside" / "external.json").read_text(encoding="utf-8"))
    row = content["rows"][0]
    assert row["external"]["n"] == 24 and row["own"]["n"] > 0 and row["seen"]["images"] == 0
    assert row["sentence"] in done.stdout.replace("\n", " ")
    assert (home / "outside" / row["folder"] / "report.html").is_file()
    for folder in (home / "outside", home / "outside" / row["folder"]):
        assert list((folder / "figures").glob("*.png")) and list((folder / "figures").glob("*.svg"))

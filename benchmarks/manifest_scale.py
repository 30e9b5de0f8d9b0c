"""Time and memory of loading, checking and splitting a manifest, by its number of rows.

python benchmarks/manifest_scale.py            # 1,000 to 1,000,000 rows, each in a process of its own
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROWS = (1_000, 10_000, 100_000, 1_000_000)
CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
SHARES = (0.033, 0.051, 0.110, 0.02, 0.111, 0.655, 0.02)
PER_GROUP = 1.34  # images a lesion, as in HAM10000


def generate(rows: int, path: Path) -> None:
    """A manifest as ``prepared/`` holds it: ids, classes, groups of one class, and subgroup columns."""
    generator = np.random.default_rng(rows)
    groups = int(rows / PER_GROUP)
    group = np.sort(np.concatenate([np.arange(groups), generator.integers(0, groups, rows - groups)]))
    label = generator.choice(CLASSES, size=groups, p=SHARES)[group]
    names = np.char.add("ISIC_", np.arange(rows).astype(str))
    digests = np.char.add("sha256-of-image-", np.arange(rows).astype(str))
    pd.DataFrame(
        {
            **{"image_id": names, "path": np.char.add(names, ".jpg"), "label": label},
            **{"group_id": np.char.add("HAM_", group.astype(str)), "split": "", "sha256": digests},
            **{"age_band": "40-59", "sex": "female", "site": "back"},
        }
    ).to_csv(path, index=False)


def measure(path: Path) -> dict[str, float]:
    """Seconds of each step, and the peak of the whole process in MB."""
    from datamodules.manifest import Manifest, joined_groups
    from datamodules.split_files import read_splits, write_splits
    from datamodules.splits import SplitPlan, make_splits

    laps: dict[str, float] = {}
    started = last = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        laps[name], last = now - last, now

    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    lap("load")
    frame["group_id"] = joined_groups(frame, [])
    lap("join groups")
    manifest = Manifest(frame, CLASSES)
    _ = manifest.sha256
    lap("validate and hash")
    splits = make_splits(manifest, SplitPlan(kind="random"))
    lap("split")
    write_splits(splits, path.with_name("split.csv"))
    lap("write split")
    assert read_splits(path.with_name("split.csv"), manifest).sha256 == splits.sha256
    lap("read and check split")
    laps["all"] = time.perf_counter() - started
    laps["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return laps


def main() -> None:
    """Measure each size in a fresh process and print one row each."""
    if len(sys.argv) == 2:
        print(json.dumps(measure(Path(sys.argv[1]))))
        return
    print("| rows | load | join groups | validate, hash | split | write | read, check | all, s | peak, MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for rows in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "manifest.csv"
            generate(rows, path)
            done = subprocess.run([sys.executable, __file__, str(path)], capture_output=True, text=True, check=True)
            laps = json.loads(done.stdout)
        values = [f"{value:.2f}" for name, value in laps.items() if name != "peak MB"]
        print(f"| {rows:,} | {' | '.join(values)} | {laps['peak MB']:,.0f} |")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()

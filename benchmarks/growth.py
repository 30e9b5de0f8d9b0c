"""What grows with the number of images, and what does not: index, split, cache, batches and memory for 1,000 to a million.

python benchmarks/growth.py                                     # all sizes; 100,000 take a minute, a million some ten
python benchmarks/growth.py sizes=1000,10000 folder=/big/disk output=growth.json plot=growth.png
python benchmarks/growth.py show=growth.json plot=growth.png    # the table and the plot of an earlier measurement

Each size runs in a fresh process. The files are hard links of a few tiny ones, whose facts are generated; the decoded cache is
a file with a hole (a million images of 128 x 128 are 16 GB that take no room), so its bytes come from the page cache and not
from a disk. Memory is anonymous memory: pages of the mapped array, which the system takes back when it needs them, do not count.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIZES = (1_000, 10_000, 100_000, 1_000_000)
SEARCHED = (2_500, 10_000)  # images that the search for near-duplicates is measured on; it compares all pairs
BATCHES = 100  # of 32 images, for the loader and the step
STEPS = (
    *("index", "manifest", "split, first run", "split, later runs", "cache"),
    *("loader, first read", "loader", "loader and model"),
)
ONCE = STEPS[:5]  # paid once a run, for every image; the others are paid for the images of the measured batches
USAGE_ERROR = 2


def settings() -> tuple[dict[str, Any], dict[str, Any]]:
    """Augmentation and model of ``task=pneumonia model=simple_cnn``, as plain values."""
    from conf.cli import composed
    from conf.run_settings import plain_settings

    whole = plain_settings(composed(["task=pneumonia", "model=simple_cnn"]))
    return whole["augmentation"], whole["model"]


def measured(count: int, folder: Path, batches: int) -> dict[str, Any]:
    """One size, generated in one process and measured in another."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        _fresh("generate", str(count), name)
        return _fresh("measure", str(count), name, str(batches))


def _fresh(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def microseconds(row: dict[str, Any], step: str) -> float:
    """Per image: of all images for what is done once a run, of those in the measured batches for the others."""
    images = row["count"] if step in ONCE else row["trained" if step == "loader and model" else "loaded"]
    return float(row["steps"][step]["seconds"] / images * 1e6)


def table(results: dict[str, Any]) -> str:
    """Microseconds an image of every step, and memory, one row a size."""
    lines = [
        "| images | " + " | ".join(f"{step}, µs" for step in STEPS) + " | first batch, s | RAM of an epoch, MB |",
        "|---" * (len(STEPS) + 3) + "|",
    ]
    for row in results["sizes"]:
        values = [f"{microseconds(row, step):,.1f}" for step in STEPS]
        first, epoch = row["steps"]["first batch"]["seconds"], row["steps"]["loader"]["peak_mb"]
        lines.append(f"| {row['count']:,} | {' | '.join(values)} | {first:.2f} | {epoch:,.0f} |")
    lines += ["", "| pictures compared | seconds | ns a pair | RAM, MB |", "|---|---|---|---|"]
    for row in results["near_duplicates"]:
        each = row["seconds"] / row["count"] ** 2 * 2e9
        lines.append(f"| {row['count']:,} | {row['seconds']:.1f} | {each:.1f} | {row['peak_mb']:,.0f} |")
    return "\n".join(lines)


def plot(results: dict[str, Any], path: Path) -> None:
    """Microseconds an image against the number of images, one line a step; flat lines do not grow."""
    from evaluation.figures_style import BLUE, INK, LINE, MUTED, ORANGE, VERMILLION, add_axes, axis_names, new_figure

    figure = new_figure(
        "Cost of an image, by the size of the data set", "Microseconds; flat lines do not grow", 3.6, phantom=False
    )
    axes = add_axes(figure, 0.62, 0.5, 2.35, 2.4)
    counts = [row["count"] for row in results["sizes"]]
    looks = zip(STEPS, (BLUE, ORANGE, INK, MUTED, VERMILLION, MUTED, BLUE, INK), "osv^Dssx", strict=True)
    ends = []
    for step, color, marker in looks:
        values = [microseconds(row, step) for row in results["sizes"]]
        dash = "-" if step in ONCE else (0, (4, 1.6))
        axes.plot(counts, values, color=color, marker=marker, markersize=4, linewidth=LINE, linestyle=dash)
        ends.append((values[-1], step, color))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axis_names(axes, "images in the data set", "microseconds an image")
    _names_at_ends(axes, ends, counts[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.png")
    figure.savefig(beside, dpi=160, facecolor="white")
    os.replace(beside, path)


def _names_at_ends(axes: Any, ends: list[tuple[float, str, str]], last: int) -> None:
    """The steps' names to the right of their lines, moved apart where they would overlap."""
    import math

    from evaluation.figures_style import SMALL_SIZE, spread

    low, high = (math.log10(limit) for limit in axes.get_ylim())
    ends = sorted(ends)
    places = spread([(math.log10(value) - low) / (high - low) for value, _, _ in ends], 0.055)
    for (_, step, color), place in zip(ends, places, strict=True):
        axes.text(1.03, place, step, transform=axes.transAxes, color=color, fontsize=SMALL_SIZE, va="center")


def main(argv: list[str]) -> None:
    """Measure or show; the words ``generate``, ``measure`` and ``search`` are what the fresh processes are called with."""
    if argv and argv[0] in ("generate", "measure", "search"):
        _in_fresh_process(argv)
        return
    given = dict(item.split("=", 1) for item in argv)
    shown = given.get("show")
    results = json.loads(Path(shown).read_text(encoding="utf-8")) if shown else _all_sizes(given)
    print(table(results))
    if "output" in given:
        target = Path(given["output"])
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        beside.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        os.replace(beside, target)
    if "plot" in given:
        plot(results, Path(given["plot"]))


def _all_sizes(given: dict[str, str]) -> dict[str, Any]:
    sizes = [int(size) for size in given["sizes"].split(",")] if "sizes" in given else list(SIZES)
    searched = [int(size) for size in given["searched"].split(",")] if "searched" in given else list(SEARCHED)
    folder, batches = Path(given.get("folder", tempfile.gettempdir())), int(given.get("batches", BATCHES))
    results: dict[str, Any] = {"machine": {"processor": platform.machine(), "cores": os.cpu_count()}, "sizes": []}
    for size in sizes:
        results["sizes"].append(measured(size, folder, batches))
        print(f"{size:,} images: done", file=sys.stderr, flush=True)
    results["near_duplicates"] = [_fresh("search", str(size)) for size in searched]
    return results


def _in_fresh_process(argv: list[str]) -> None:
    from benchmarks import growth_steps

    count = int(argv[1])
    if argv[0] == "search":
        print(json.dumps(growth_steps.search(count)))
    elif argv[0] == "generate":
        growth_steps.generate(Path(argv[2]), count)
        print("{}")
    else:
        augmentation, model = settings()
        print(json.dumps(growth_steps.measure(Path(argv[2]), count, int(argv[3]), augmentation, model)))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)

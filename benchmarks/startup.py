"""How long a person waits: for help, for a refused command, and from the command to the first training step.

python benchmarks/startup.py                      # 5 runs of each; the first training step on generated phantoms
python benchmarks/startup.py runs=3 first_step=false
python benchmarks/startup.py task=ham10000        # the first step of another task, from FIRSTREAD_DATA

Medians of wall-clock and CPU seconds (user and system) of whole processes. The data set is prepared before the first step is
timed, so its cache is there. Where these seconds go is said stage by stage, each until the next begins.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
USAGE_ERROR = 2
COMMANDS = (
    *(
        f"{name}.py --help"
        for name in ("train", "prepare", "preview", "evaluate", "predict", "ensemble", "export", "serve")
    ),
    "train.py --cfg job",
    "train.py trainer.max_epoch=3",
    "train.py data.batch_size=many",
    "train.py data.batch_size=0",
    "train.py experiment=none_such",
    "train.py resume=none_such",
    "train.py data.root=none_such",
    "prepare.py task=none_such",
    "evaluate.py run=none_such",
    "predict.py run=none_such images=none_such",
    "ensemble.py runs=none_such",
    "export.py run=none_such format=onnx",
    "serve.py run=none_such",
)
# The first import of a module begins a stage.
STAGES = {
    "conf.cli": "Hydra, the check of the command line, pandas",
    "datamodules.prepared": "index, split, audit and cache",
    "torch": "torch",
    "pytorch_lightning": "Lightning and what it loads",
    "callbacks.trainer": "callbacks, evaluation, network",
}
LAST_IMPORT = "callbacks.trainer"  # Lightning can be told to stop from here on


def timed(command: Sequence[str], environment: dict[str, str] | None = None) -> tuple[float, float, int]:
    """Wall-clock seconds, CPU seconds and exit code of ``python command``, run from the project's folder."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        check=False,
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.returncode


def measured(commands: Sequence[str], runs: int) -> list[dict[str, Any]]:
    """Medians of each command, in interleaved rounds."""
    found: dict[str, list[tuple[float, float, int]]] = {command: [] for command in commands}
    for _ in range(runs):
        for command in commands:
            found[command].append(timed(command.split()))
    return [
        {
            "command": command,
            "wall": statistics.median(wall for wall, _, _ in results),
            "cpu": statistics.median(cpu for _, cpu, _ in results),
            "exit": results[0][2],
        }
        for command, results in found.items()
    ]


def first_steps(overrides: Sequence[str], runs: int, folder: Path) -> dict[str, Any]:
    """Seconds from the command to the end of the first training step, and the stages of the median run.

    Args:
        overrides: of train.py. ``folder``: for runs; the prepared data go there too, unless FIRSTREAD_HOME is set.
    """
    environment = {"FIRSTREAD_HOME": str(folder / "home"), **os.environ}
    prepared = timed(["prepare.py", *overrides], environment)
    if prepared[2]:
        raise ValueError(f"python prepare.py {' '.join(overrides)} ends with {prepared[2]}. Run it to see why.")
    results = []
    for number in range(runs):
        target = folder / f"marks{number}.json"
        command = [__file__, "trace", str(target), *overrides, f"hydra.run.dir={folder / f'run{number}'}"]
        done = timed(command, {**environment, "STARTUP_BEGAN": str(time.monotonic())})
        if not target.is_file():
            raise ValueError(
                f"the first step was not reached: train.py ended with {done[2]}. Run the command to see why."
            )
        results.append(json.loads(target.read_text(encoding="utf-8")))
    results.sort(key=lambda marks: float(marks[-1]["seconds"]))
    return {
        "wall": statistics.median(marks[-1]["seconds"] for marks in results),
        "cpu": statistics.median(marks[-1]["cpu"] for marks in results),
        "stages": results[len(results) // 2],
    }


def trace(target: Path, overrides: Sequence[str]) -> None:
    """Run train.py in this process until its first training step is done, and write down when each stage began."""
    began, marks = float(os.environ["STARTUP_BEGAN"]), []
    waiting = dict(STAGES)

    def mark(name: str) -> None:
        marks.append({"stage": name, "seconds": time.monotonic() - began, "cpu": time.process_time()})

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "import" and arguments[0] in waiting:
            mark(waiting.pop(arguments[0]))
            if arguments[0] == LAST_IMPORT:
                _stop_after_first_step(mark, target, marks)

    mark("Python")
    sys.addaudithook(heard)
    sys.argv = ["train.py", *overrides]
    sys.path[0] = str(ROOT)
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")


def _stop_after_first_step(mark: Any, target: Path, marks: list[dict[str, Any]]) -> None:
    """Let the first optimiser step of the classifier write the marks and end the process."""
    from pytorch_lightning import LightningModule, Trainer

    own_step, own_fit = LightningModule.optimizer_step, Trainer.fit

    def fitting(self: Any, *arguments: Any, **named: Any) -> None:
        mark("first batch and first step")
        own_fit(self, *arguments, **named)

    def stepping(self: Any, *arguments: Any, **named: Any) -> None:
        own_step(self, *arguments, **named)
        mark("done")
        target.write_text(json.dumps(marks), encoding="utf-8")
        os._exit(0)

    Trainer.fit = fitting  # type: ignore[method-assign]
    LightningModule.optimizer_step = stepping  # type: ignore[method-assign]


def table(commands: Sequence[dict[str, Any]], first: dict[str, Any] | None) -> str:
    """Both measurements as Markdown."""
    lines = ["| command | wall, s | CPU, s | exit |", "|---|---|---|---|"]
    lines += [f"| `{row['command']}` | {row['wall']:.2f} | {row['cpu']:.2f} | {row['exit']} |" for row in commands]
    if first is not None:
        lines.append(f"| from the command to the first training step | {first['wall']:.2f} | {first['cpu']:.2f} | |")
        lines += ["", "| stage until the first step | wall, s | CPU, s |", "|---|---|---|"]
        stages = [{"seconds": 0.0, "cpu": 0.0, "stage": "the interpreter"}, *first["stages"]]
        for now, after in itertools.pairwise(stages):
            wall, cpu = after["seconds"] - now["seconds"], after["cpu"] - now["cpu"]
            lines.append(f"| {now['stage']} | {wall:.2f} | {cpu:.2f} |")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Measure, print the tables, and write all numbers where ``output=`` says."""
    if argv and argv[0] == "trace":
        trace(Path(argv[1]), argv[2:])
        return
    own = ("runs", "first_step", "output")
    given = {key: value for key, _, value in (item.partition("=") for item in argv) if key in own}
    overrides = [item for item in argv if item.partition("=")[0] not in own]
    runs = int(given.get("runs", 5))
    commands, first = measured(COMMANDS, runs), None
    if given.get("first_step", "true") == "true":
        with tempfile.TemporaryDirectory() as name:
            first = first_steps(overrides or ["task=pneumonia", "data.source=phantom"], runs, Path(name))
    print(table(commands, first))
    if "output" in given:
        text = json.dumps({"commands": commands, "first_step": first}, indent=1)
        Path(given["output"]).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)

"""Training speed side by side on this machine: the network alone, firstread, and what a user would write without it.

python -m benchmarks.speed                                       # all cases; writes benchmarks/results/<machine>.json
python -m benchmarks.speed --cases xray224/simple_cnn --rounds 1 --images 64
python -m benchmarks.speed --show benchmarks/results/FILE.json   # the tables again
python -m benchmarks.speed --experiment                          # a whole experiment against the Keras script
python -m benchmarks.speed --alternate                           # epochs and steps of the network alone, in turns
python -m benchmarks.speed --profile                             # where the time of an epoch goes

Data are those under FIRSTREAD_DATA; without it, generated films are used.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.speed.cases import FILES, NETWORKS, Case, choose_cases, choose_contenders

RESULTS = Path(__file__).resolve().parents[1] / "results"


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cases", nargs="+", default=[], help=f"{'|'.join(FILES)}/{'|'.join(NETWORKS)}; patterns such as 'original/*'")
    add("--contenders", nargs="+", default=[], help="who takes part; default: all")
    add("--rounds", type=int, default=3, help="every contender runs so often")
    add("--epochs", type=int, default=3, help="of each run; the first is left out")
    add("--images", type=int, help="training images of an epoch; default: by network")
    add("--size", type=int, help="of the network's input; default 128, on a GPU 224")
    add("--batch", type=int, default=32)
    add("--auroc", action="store_true", help="score the whole test part too")
    add("--weights", type=Path, help="file with weights of MobileNetV2, under timm's names; default: random ones")
    add("--keras-python", type=Path, help="the python of an environment with TensorFlow")
    add("--accelerator", choices=("cpu", "gpu"), default="cpu")
    add("--phantom-images", type=int, default=1200, help="generated films, where FIRSTREAD_DATA is not set")
    add("--work", type=Path, help="folder for caches and runs; default: FIRSTREAD_HOME/prepared/speed")
    add("--out", type=Path, help="the result file; default: benchmarks/results/<machine>.json")
    add("--resume", action="store_true", help="go on with the result file")
    add("--timeout", type=float, default=1800, help="seconds for one process")
    add("--show", type=Path, metavar="FILE", help="print the tables of a result file, and draw --figure")
    add("--figure", type=Path, help="file of the figure; default: beside the result file")
    add("--experiment", action="store_true", help="experiment=pneumonia_cnn_kaggle against the Keras script")
    add("--experiment-epochs", type=int, default=10, help="of --experiment")
    add("--override", nargs="+", default=[], help="keys for train.py in --experiment, such as evaluation.bootstrap=100")
    add("--profile", action="store_true", help="where the time of one epoch of the first case goes")
    add(
        "--alternate",
        action="store_true",
        help="the first case in turns with steps of its network alone, in one process",
    )
    found = parser.parse_args(arguments)
    for name in ("rounds", "epochs", "images", "size", "batch", "experiment_epochs"):
        value = getattr(found, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} {value}: must be at least 1")
    for name in ("weights", "keras_python", "show"):
        path = getattr(found, name)
        if path is not None and not path.is_file():
            parser.error(f"--{name.replace('_', '-')} {path}: no such file")
    return found


def work_folder(given: Path | None) -> Path:
    """Where caches and runs of the benchmark are kept."""
    return (given or Path(os.environ.get("FIRSTREAD_HOME", "."), "prepared", "speed")).resolve()


def show(target: Path, figure: Path | None) -> None:
    """Print the tables of a result file and draw its figure."""
    result = json.loads(target.read_text(encoding="utf-8"))
    if result["kind"] == "profile":
        from benchmarks.speed.profile_tables import as_markdown, draw

        print(as_markdown(result))
        draw(result, figure or target.with_suffix(".png"))
    elif result["kind"] == "alternate":
        shares = sorted(result["shares"])
        print(f"{result['case']['title']}: train.py reaches {result['share']:.3f} of the network alone")
        print(f"({len(shares)} pairs of epochs of {result['images']:,} images, {shares[0]:.3f} to {shares[-1]:.3f})")
        return
    elif result["kind"] == "experiment":
        from benchmarks.speed.experiment import as_markdown as experiment_table

        print(experiment_table(result))
        return
    else:
        from benchmarks.speed.machine import in_words
        from benchmarks.speed.picture import draw as draw_speeds
        from benchmarks.speed.results import as_markdown as speed_table

        table = speed_table(result)
        target.with_suffix(".md").write_text(table, encoding="utf-8")
        print(table)
        draw_speeds(result, figure or target.with_suffix(".png"), in_words(result["machine"]))
    print(f"figure: {figure or target.with_suffix('.png')}")


def started(asked: argparse.Namespace, kind: str, machine: dict[str, Any], target: Path) -> dict[str, Any]:
    """A new result, or the one that is to be gone on with.

    Raises:
        ValueError: if that one was measured with other settings.
    """
    settings = {name: getattr(asked, name) for name in ("rounds", "epochs", "batch", "accelerator", "auroc")}
    if asked.resume and target.is_file():
        result: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
        for name in ("epochs", "batch", "accelerator", "auroc"):
            if result[name] != settings[name]:
                raise ValueError(f"--resume: {target} was measured with {name}={result[name]}, not {settings[name]}.")
        return result | {"rounds": settings["rounds"]}
    return {"kind": kind, "machine": machine, **settings, "missing": {}, "cases": {}, "measurements": []}


def compare(asked: argparse.Namespace) -> Path:
    """Run the rounds; returns the result file."""
    from benchmarks.speed import machine as machines
    from benchmarks.speed.data import CaseData, case_data, random_weights
    from benchmarks.speed.processes import Asked, measure
    from benchmarks.speed.rounds import Rounds, plan

    gpu = asked.accelerator == "gpu"
    cases = choose_cases(asked.cases, gpu=gpu, size=asked.size, images=asked.images)
    contenders = choose_contenders(asked.contenders, gpu=gpu)
    machine = machines.facts(asked.keras_python)
    target = asked.out or RESULTS / f"{machines.file_name(machine, asked.accelerator)}.json"
    result = started(asked, "speed", machine, target)
    if "keras" in contenders and asked.keras_python is None:
        contenders.remove("keras")
        result["missing"]["keras"] = "no environment with TensorFlow was named by --keras-python"
    work = work_folder(asked.work)
    if asked.weights is None and any(case.architecture == "mobilenetv2_100" for case in cases):
        asked.weights = random_weights(work)
    options = {name: getattr(asked, name) for name in ("epochs", "batch", "weights", "accelerator", "phantom_images")}
    fixed = Asked(
        *(work, asked.epochs, asked.batch, asked.auroc, asked.keras_python, asked.weights),
        *(asked.accelerator, asked.timeout),
    )
    made: dict[Case, CaseData] = {}

    def data_of(case: Case) -> CaseData:
        if case not in made:
            print(f"    preparing the images of {case.name}")
            made[case] = case_data(case, work, options, whole_test=asked.auroc)
        return made[case]

    steps = list(plan(cases, contenders, asked.rounds, machine["cores"], bf16=machine["bfloat16"] or gpu))
    Rounds(result, target, fixed, measure, say).run(steps, data_of)
    return target


def say(line: str) -> None:
    """Print a line at once, also into a file."""
    print(line, flush=True)


def main(arguments: list[str]) -> int:
    """Measure, print, draw."""
    asked = parsed(arguments)
    from datamodules.errors import DataError

    try:
        if asked.show is not None:
            target = asked.show
        elif asked.experiment:
            from benchmarks.speed.experiment import run as run_experiment

            target = run_experiment(asked, work_folder(asked.work))
        elif asked.profile or asked.alternate:
            from benchmarks.speed.profile_epoch import run as run_one

            target = run_one(asked, work_folder(asked.work), "profile" if asked.profile else "alternate")
        else:
            target = compare(asked)
        show(target, asked.figure)
    except (ValueError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; go on with the same command and --resume", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

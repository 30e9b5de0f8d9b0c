"""predict.py over a folder beside the fastest loop that gives the same scores: decoding threads and the network, nothing else.

python benchmarks/inference.py                                  # generated films; trains a small network on phantoms first
python benchmarks/inference.py run=RUN images=FOLDER rounds=5   # a run and images of your own

Each round runs every contender once, each in a process of its own: ``ideal`` decodes ahead in one thread a core while the
network scores batches; ``predict.py`` is the command itself, from its first image to its last row, with all that it does
beside: input check, answers kept on disk, tables. Neither counts the start-up, which is reported apart; both count their first
batch. ``decode`` and ``forward`` are the two halves of the ideal alone.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
FILMS = ((1400, 1024), (224, 224))  # width and height of generated films
BATCH, AHEAD = 32, 4  # of the ideal loop: images of a step, batches that are decoded ahead
CONTENDERS = ("decode", "forward", "ideal", "predict.py")
USAGE_ERROR = 2


def films(folder: Path, size: tuple[int, int], count: int) -> Path:
    """``count`` generated chest films of a width and height as JPEG files below ``folder``.

    A few phantoms are drawn, and enlarged with noise of their own each: what a decoder has to do depends on the size and the
    noise, not on what is shown.
    """
    from PIL import Image

    from datamodules.phantom import write_phantom
    from datamodules.phantom_files import write_jpeg

    drawn = folder / "drawn"
    if not drawn.is_dir():
        write_phantom(drawn, images=40, seed=0)
    sources = sorted(path for path in drawn.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    made = folder / f"{size[0]}x{size[1]}"
    made.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        with Image.open(sources[number % len(sources)]) as source:
            picture = np.asarray(source.convert("L").resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = picture + rng.normal(scale=3.0, size=picture.shape)
        write_jpeg(made / f"film{number:05d}.jpg", np.clip(noisy, 0, 255).astype(np.uint8))
    return made


def trained(folder: Path) -> Path:
    """A small network, trained on phantoms for one epoch."""
    run = folder / "run"
    command = [sys.executable, "train.py", "task=pneumonia", "model=simple_cnn", "data.source=phantom"]
    settings = ["data.phantom_images=120", "trainer.max_epochs=1", "evaluation.resamples=100", f"hydra.run.dir={run}"]
    homes = {"FIRSTREAD_HOME": str(folder / "home"), "FIRSTREAD_DATA": str(folder / "data")}
    done = subprocess.run(
        [*command, *settings], cwd=ROOT, env={**os.environ, **homes}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(f"training the small network failed:\n{done.stderr[-2000:]}")
    return run


def image_files(folder: Path) -> list[Path]:
    """Every image below a folder, in the order of :mod:`predict`."""
    from datamodules.images import looks_like_image

    found = sorted(path for path in folder.rglob("*") if path.is_file() and looks_like_image(path))
    if not found:
        raise ValueError(f"images={folder}: no image is there. Name a folder of images.")
    return found


def plain(run: Path, files: list[Path], contender: str) -> dict[str, float]:
    """Seconds of the minimal loop, or of one half of it.

    Args:
        run: of the network. ``files``: images.
        contender: ``decode``, ``forward`` or ``ideal``.
    """
    import torch

    from callbacks.mixed_precision import tune_machine
    from datamodules.images import read_image
    from workflow.predictor import load_predictor

    tune_machine()
    predictor = load_predictor(run)
    decoding, part = predictor.decoding, predictor.networks[0]
    arguments = (decoding["image_size"], decoding["channels"], decoding["interpolation"])

    def read(path: Path) -> NDArray[np.uint8]:
        return read_image(path, *arguments)

    def score(pixels: NDArray[np.uint8]) -> None:
        part.scored(torch.from_numpy(pixels).permute(0, 3, 1, 2), None)

    known = np.repeat(read(files[0])[None], BATCH, axis=0)
    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    started, busy = time.perf_counter(), time.process_time()
    if contender == "forward":
        for batch in batches:
            score(known[: len(batch)])
    else:
        for pixels in _decoded(batches, read):
            if contender == "ideal":
                score(pixels)
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - busy, "images": len(files)}


def _decoded(batches: list[list[Path]], read: Any) -> Iterator[NDArray[np.uint8]]:
    """Decoded batches in order; ``AHEAD`` of them are decoded, or waiting, while one is scored."""
    ahead: deque[list[Future[NDArray[np.uint8]]]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in batches:
            ahead.append([pool.submit(read, path) for path in batch])
            if len(ahead) > AHEAD:
                yield np.stack([future.result() for future in ahead.popleft()])
        while ahead:
            yield np.stack([future.result() for future in ahead.popleft()])


def predicted(run: Path, images: Path, output: Path) -> dict[str, float]:
    """Seconds of ``predict.py`` from its first image to its last row, and of its start-up."""
    started = time.perf_counter()
    command = [sys.executable, "predict.py", f"run={run}", f"images={images}", f"output={output}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    whole = time.perf_counter() - started
    if done.returncode:
        raise ValueError(f"predict.py failed:\n{done.stderr[-2000:]}")
    record = json.loads((output / "prediction.json").read_text(encoding="utf-8"))
    seconds = sum(record["seconds"].values())
    return {"seconds": seconds, "startup": whole - seconds, "images": record["counts"]["images"]}


def measured(run: Path, images: Path, contender: str, folder: Path) -> dict[str, float]:
    """One measurement, in a fresh process."""
    if contender == "predict.py":
        return predicted(run, images, Path(tempfile.mkdtemp(dir=folder)) / "output")
    command = [sys.executable, __file__, contender, str(run), str(images)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{contender} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compared(run: Path, images: Path, rounds: int, folder: Path) -> dict[str, Any]:
    """Interleaved rounds over all contenders.

    Returns:
        ``images_per_second``: of each contender, the median; ``all``: of each round; ``ratio``: median over the rounds of
        predict.py over ideal, ``ratios``: of each round; ``startup``: median seconds of predict.py before its first image.
    """
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    startup = []
    for _ in range(rounds):
        for name in CONTENDERS:
            result = measured(run, images, name, folder)
            found[name].append(result["images"] / result["seconds"])
            startup += [result["startup"]] if "startup" in result else []
    ratios = [ours / ideal for ours, ideal in zip(found["predict.py"], found["ideal"], strict=True)]
    return {
        "images_per_second": {name: statistics.median(values) for name, values in found.items()},
        "all": found,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "startup": statistics.median(startup),
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown: images per second of each contender, and predict.py over the ideal loop."""
    lines = ["| images | " + " | ".join(CONTENDERS) + " | predict.py / ideal | start-up, s |", "|---" * 7 + "|"]
    for name, result in results.items():
        speeds = [f"{result['images_per_second'][contender]:.1f}" for contender in CONTENDERS]
        spread = f"{result['ratio']:.2f} ({min(result['ratios']):.2f} to {max(result['ratios']):.2f})"
        lines.append(f"| {name} | {' | '.join(speeds)} | {spread} | {result['startup']:.1f} |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measure, print a table, and write all numbers where ``output=`` says."""
    if len(argv) == 3 and argv[0] in CONTENDERS:
        print(json.dumps(plain(Path(argv[1]), image_files(Path(argv[2])), argv[0])))
        return
    given = dict(item.split("=", 1) for item in argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = Path(given["run"]).resolve() if "run" in given else trained(folder)
        if "images" in given:
            sets = {Path(given["images"]).name: Path(given["images"]).resolve()}
        else:
            count = int(given.get("count", 256))
            sets = {f"{width} x {height}": films(folder, (width, height), count) for width, height in FILMS}
        results = {}
        for called, images in sets.items():
            results[called] = compared(run, images, int(given.get("rounds", 3)), folder)
            print(table({called: results[called]}), flush=True)
    if "output" in given:
        Path(given["output"]).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    try:
        main(sys.argv[1:])
    except (ValueError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)

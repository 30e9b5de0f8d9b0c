"""A statistical profiler of a few lines: where every thread of this process is, some hundred times a second."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from types import FrameType

INTERVAL = 0.002  # seconds between samples
Stack = tuple[str, ...]

# The innermost frame that fits decides what a sample counts for. Paths are matched by their ends.
_PLACES = (
    ("datamodules/augmentation", "augmentation"),
    ("albumentations/", "augmentation"),
    ("datamodules/", "batch from the cache"),
    ("torch/utils/data/", "waiting for a batch"),
    ("torch/autograd/graph.py:_engine_run_backward", "backward"),
    ("torch/optim/", "optimiser"),
    ("clip_grad", "optimiser"),
    ("torch/nn/modules/conv.py", "forward: convolution"),
    ("torch/nn/modules/pooling.py", "forward: pooling"),
    ("torch/nn/modules/linear.py", "forward: dense"),
    ("torch/nn/modules/batchnorm.py", "forward: normalisation"),
    ("timm/layers/norm", "forward: normalisation"),
    ("torch/nn/modules/activation.py", "forward: activation"),
    ("models/losses.py", "loss"),
    ("models/bundle.py", "pixels to numbers"),
    ("models/", "forward: other"),
    ("timm/", "forward: other"),
    ("torchmetrics/", "metrics"),
    ("callbacks/", "callbacks"),
    ("lightning_modules/", "module"),
    ("pytorch_lightning/", "Lightning"),
    ("lightning_fabric/", "Lightning"),
    ("queue.py:get", "waiting for a batch"),
)
OTHER = "other"
_WAITING = ("/threading.py", "/queue.py", "/selectors.py", "/socket.py", "/connection.py")


class Sampler:
    """Counts stacks of the main thread and of the others between ``start`` and ``stop``.

    Attributes:
        main, others: how often each stack was seen, outermost frame first, as ``path:function``.
        seconds: that were sampled.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self.interval = interval
        self.main: Counter[Stack] = Counter()
        self.others: Counter[Stack] = Counter()
        self.seconds = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = 0.0

    def start(self) -> None:
        """Begin."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._started = time.perf_counter()
        self._thread.start()

    def stop(self) -> None:
        """End; may be called twice."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._thread = None
        self.seconds += time.perf_counter() - self._started

    def _run(self) -> None:
        main, own = threading.main_thread().ident, threading.get_ident()
        while not self._stop.wait(self.interval):
            for thread, frame in sys._current_frames().items():
                if thread == main:
                    self.main[stack_of(frame)] += 1
                elif thread != own and not _idle(frame):
                    self.others[stack_of(frame)] += 1


def _idle(frame: FrameType) -> bool:
    """A thread that waits for work does nothing; torch's operators, which release the interpreter, are not such a wait."""
    return frame.f_code.co_filename.endswith(_WAITING)


def stack_of(frame: FrameType | None) -> Stack:
    """The frames from the outermost in, as ``path:function``."""
    found = []
    while frame is not None:
        found.append(f"{frame.f_code.co_filename}:{frame.f_code.co_name}")
        frame = frame.f_back
    return tuple(reversed(found))


def category_of(stack: Stack) -> str:
    """What a stack counts for: the innermost frame with a name in the table decides."""
    for place in reversed(stack):
        for part, name in _PLACES:
            if part in place:
                return name
    return OTHER


def shares(stacks: Counter[Stack]) -> dict[str, float]:
    """Share of the samples in each category, largest first; they add up to 1."""
    total = sum(stacks.values())
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        found[category_of(stack)] += count
    return {name: count / total for name, count in found.most_common()}


def short_stack(stack: Stack) -> Stack:
    """The stack as a person wants to read it: own functions by name, libraries by theirs, repetitions once."""
    found: list[str] = []
    for place in stack:
        name = _short(place)
        if name and (not found or found[-1] != name):
            found.append(name)
    return tuple(found)


def _short(place: str) -> str:
    path, _, function = place.rpartition(":")
    file = path.rpartition("/")[2].removesuffix(".py")
    if "pytorch_lightning/" in path or "lightning_fabric/" in path:
        return "Lightning"
    for part, name in (
        ("torch/optim/", "optimiser"),
        ("torch/autograd/", "backward"),
        ("torchmetrics/", "torchmetrics"),
    ):
        if part in path:
            return name
    if "torch/nn/modules/" in path:
        return {"module": "", "container": ""}.get(file, file)
    if any(f"/{part}/" in path for part in ("datamodules", "models", "lightning_modules", "callbacks", "workflow")):
        return f"{file}.{function}" if not function.startswith(("<", "__")) else file
    return "timm" if "/timm/" in path else ""

"""How training and loading share the cores of this machine."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_CGROUPS = Path("/sys/fs/cgroup")  # where Linux shows the limits of a container or job
_MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and less where a container or job is limited (``docker --cpus``)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(_quota())))


def _quota() -> float:
    """Cores worth of time that the process's control group and those above it allow; infinite without a limit."""
    try:
        lines = _MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return 1e9
    own = next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")
    folders = [_CGROUPS / own, *(_CGROUPS / own).parents]
    limits = [_limit(folder / "cpu.max") for folder in folders if folder.is_relative_to(_CGROUPS)]
    # Version 1 of control groups keeps the two numbers in two files.
    pair = [_words(_CGROUPS / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    return min([*limits, _cores_of([*pair[0], *pair[1]])])


def _limit(file: Path) -> float:
    return _cores_of(_words(file))


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except OSError:  # this group has no limit of its own
        return []


def _cores_of(words: list[str]) -> float:
    """Microseconds of processor time a period, over the period; ``max`` and -1 mean that there is no limit."""
    if len(words) != 2 or words[0] in ("max", "-1"):
        return 1e9
    return int(words[0]) / int(words[1])


def workers_for(cores: int) -> int:
    """0 on small machines, where a loader process would take a core from the training step; else one core in four, at most 8."""
    return 0 if cores <= 4 else min(8, cores // 4)


@dataclass(frozen=True)
class MachinePlan:
    """Who uses which of the cores.

    Attributes:
        cores: usable by this process.
        torch_threads: of the model's step on the CPU.
        threads_from: why that many: ``cores``, or the environment variable that sets them.
        workers: loader processes, each with one thread of torch and none of OpenCV.
        ahead: whether a thread of the training process makes the next batch during a step.
    """

    cores: int
    torch_threads: int
    threads_from: str
    workers: int
    ahead: bool

    @property
    def line(self) -> str:
        """For the log: ``2 cores: 2 torch threads, batches made one step ahead in this process``."""
        threads = _count(self.torch_threads, "torch thread")
        reason = "" if self.threads_from == "cores" else f" ({self.threads_from})"
        if self.workers:
            how = f"batches from {_count(self.workers, 'loader process', 'loader processes')}"
        else:
            how = "batches made one step ahead in this process" if self.ahead else "batches made between steps"
        return f"{_count(self.cores, 'core')}: {threads}{reason}, {how}"

    @property
    def facts(self) -> dict[str, Any]:
        """For run.json."""
        return asdict(self)

    def apply(self) -> None:
        """Give torch its threads, unless the environment does."""
        import torch  # not above: decoding asks for the cores where torch is not loaded

        if self.threads_from == "cores" and torch.get_num_threads() != self.torch_threads:
            torch.set_num_threads(self.torch_threads)


def plan_machine(workers: int | None) -> MachinePlan:
    """Share the cores out between the model's step and the loader.

    Args:
        workers: ``data.num_workers``; None chooses, and takes the cores of the loader processes from torch, so that never more
            threads are busy than there are cores. Processes that a person asks for take none: on few cores, where they help with
            slow files, they would leave too little for the step, and they rest while enough batches are ready.
    """
    import torch

    cores = usable_cores()
    chosen = workers_for(cores)
    # Torch reads these once, when it is loaded; what a person sets there is meant.
    given = next((name for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if os.environ.get(name)), "")
    threads = torch.get_num_threads() if given else cores - chosen if workers is None else cores
    count = chosen if workers is None else workers
    return MachinePlan(cores, threads, given or "cores", count, ahead=count == 0 and cores > 1)


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"

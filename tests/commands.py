"""The entry files as commands of their own: in a new Python, or in a process in which the libraries are loaded already.

Most of a small command's time is the import of torch, Lightning, timm and the like. A *warm* command is forked from a
process that has imported these libraries and nothing of ours: it has its own arguments, environment, folder, output and
exit code, runs the entry file as ``__main__`` and imports all of our modules itself. What a new Python alone shows (what
is imported when, what libraries print while they are imported, the number of threads) is tested with ``warm=False``.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = (
    "albumentations",
    "hydra",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "pandas",
    "pytest",  # multiprocessing loads the main module of its parent, without running it
    "pytorch_lightning",
    "rich.progress",
    "safetensors.torch",
    "scipy.stats",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "tensorboard",
    "timm",
    "torch.utils.tensorboard",
    "torchmetrics.classification",
)
# The process with the libraries starts with the first warm command and ends with the test suite. Elsewhere than on Linux
# forking a process with such libraries is not safe, so that there they are imported for every command.
if sys.platform == "linux":
    _FORKED = multiprocessing.get_context("forkserver")
else:
    _FORKED = multiprocessing.get_context("spawn")
_FORKED.set_forkserver_preload(list(LIBRARIES))


def environment_of(home: Path) -> dict[str, str]:
    """The environment of a command: its own ``FIRSTREAD_HOME``, and without any data set of this machine."""
    return {**os.environ, "FIRSTREAD_HOME": str(home), "FIRSTREAD_DATA": str(home / "no_data"), "COLUMNS": "120"}


class WarmCommand:
    """``python FILE ARGUMENTS`` in a forked process; the part of :class:`subprocess.Popen` that tests use."""

    def __init__(self, file: str, arguments: tuple[str, ...], cwd: Path, environment: dict[str, str]) -> None:
        self.args = [file, *arguments]
        self._files: tuple[IO[str], IO[str]] = (_output(), _output())
        names = [file.name for file in self._files]
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # before the libraries are imported
        self._process = _FORKED.Process(target=_as_main, args=(self.args, str(cwd), environment, *names))
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """As of :class:`subprocess.Popen`: minus the signal's number for a process that was killed."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for the end: standard output and standard error.

        Raises:
            subprocess.TimeoutExpired: it was killed, after so many seconds.
        """
        self._process.join(timeout)
        if self.poll() is None:
            self._process.kill()
            self._process.join()
            raise subprocess.TimeoutExpired(self.args, timeout)
        said = []
        for file in self._files:
            file.seek(0)
            said.append(file.read())
            file.close()
        return said[0], said[1]


def run_file(
    file: str, *arguments: str, cwd: Path, environment: dict[str, str], timeout: float, warm: bool
) -> subprocess.CompletedProcess[str]:
    """An entry file in a process of its own, to its end."""
    if warm:
        command = WarmCommand(file, arguments, cwd, environment)
        output, errors = command.communicate(timeout)
        assert command.returncode is not None
        return subprocess.CompletedProcess(command.args, command.returncode, output, errors)
    return subprocess.run(
        [sys.executable, str(ROOT / file), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def _output() -> IO[str]:
    return tempfile.NamedTemporaryFile("w+", encoding="utf-8", prefix="command-", suffix=".txt")


def _as_main(command: list[str], cwd: str, environment: dict[str, str], output: str, errors: str) -> None:
    """In the forked process: what a new Python does with ``python FILE ARGUMENTS > OUTPUT 2> ERRORS``."""
    for name, number in ((output, 1), (errors, 2)):
        opened = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the suite runs in the background
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = [str(ROOT / command[0]), *command[1:]]
    sys.path.insert(0, str(ROOT))
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out

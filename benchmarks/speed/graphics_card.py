"""How busy a GPU was while a contender ran, asked of nvidia-smi."""

from __future__ import annotations

import shutil
import subprocess
import threading
from types import TracebackType

_QUERY = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]
_INTERVAL = 0.5  # seconds


class Utilisation:
    """Samples the utilisation of the first GPU in a thread, where there is an nvidia-smi.

    Args:
        wanted: False: nothing is asked.
    """

    def __init__(self, wanted: bool) -> None:
        self.command = shutil.which("nvidia-smi") if wanted else None
        self.samples: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Utilisation:
        if self.command is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self.command is not None:
            self._thread.join()

    def found(self) -> dict[str, float]:
        """``utilisation``, 0 to 1: the 75th percentile of the samples, since a process starts up before it trains."""
        if not self.samples:
            return {}
        ordered = sorted(self.samples)
        return {"utilisation": ordered[(3 * len(ordered)) // 4] / 100}

    def _sample(self) -> None:
        assert self.command is not None
        while not self._stop.wait(_INTERVAL):
            told = subprocess.run([self.command, *_QUERY], capture_output=True, text=True, check=False)
            word = told.stdout.strip()
            if told.returncode == 0 and word.isdigit():
                self.samples.append(float(word))

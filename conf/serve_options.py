"""The command line of ``serve.py``: its keys, and which values they may take.

Only the standard library is imported here, so a mistake costs a fraction of a second.
"""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from conf.arguments import given_by, keys_text
from conf.evaluate_keys import HELP_WIDTH, UsageError, truth
from conf.heat_map_keys import METHODS, heat_maps_of

__all__ = ["KEYS", "Options", "UsageError", "help_text", "parsed"]

MOST_PIXELS: Final = 80_000_000  # what datamodules.images decodes at all
KEYS: Final[dict[str, str]] = {
    "run": "what answers: a run, its model/ folder, a hand-over folder, an ensemble, or a checkpoint of ours",
    "port": "port of the page; 0 takes a free one (default 7860)",
    "host": "address on which is listened (default 127.0.0.1: only this machine; there is no password)",
    "open": "true: open the page in the browser",
    "max_bytes": "bytes of one request, all files together (default 100000000)",
    "max_files": "files of one request (default 64)",
    "max_pixels": "pixels of one image, width x height (default 50000000, at most 80000000)",
    "abstain": "false: the input check only shows its p-value and turns no image away",
    "workers": "threads that decode images (default: as many as there are cores, at most 4)",
    "trust": "true: read a checkpoint even though code may be hidden in it",
    "heat_maps.method": f"{', '.join(METHODS)} (default: {METHODS[0]})",
    "heat_maps.layer": "layer of the network whose maps are shown (default: the last one with maps)",
    "heat_maps.target": "class whose evidence is shown (default: positive, the decision)",
}
_RANGES: Final = {
    "port": (0, 65_535),
    "max_bytes": (1_000, 2_000_000_000),
    "max_files": (1, 1_000),
    "max_pixels": (64, MOST_PIXELS),
    "workers": (1, 64),
}


@dataclass(frozen=True)
class Options:
    """A checked command line.

    Attributes:
        limits: given of ``max_bytes``, ``max_files``, ``max_pixels``.
        heat_maps: given of ``method``, ``layer``, ``target``.
    """

    run: Path
    port: int = 7860
    host: str = "127.0.0.1"
    open: bool = False
    abstain: bool = True
    trust: bool = False
    workers: int = 2
    limits: dict[str, int] = field(default_factory=dict)
    heat_maps: dict[str, Any] = field(default_factory=dict)


def parsed(argv: list[str]) -> Options:
    """Check a command line.

    Args:
        argv: the arguments without the program's name.

    Raises:
        UsageError: naming the argument and what to do.
    """
    values = {key: text.strip() for key, text in given_by(argv, KEYS, "serve.py").items()}
    if "run" not in values:
        raise UsageError("run is missing: run=RUN, the folder of a finished run. See: python serve.py --help")
    numbers = {key: _number(key, values[key]) for key in _RANGES if key in values}
    truths = {key: truth(key, values[key]) for key in ("open", "abstain", "trust") if key in values}
    return Options(
        run=_run(values["run"]),
        port=numbers.get("port", 7860),
        host=values.get("host", "127.0.0.1").strip("[]"),
        workers=numbers.get("workers", min(4, os.cpu_count() or 1)),
        limits={key: number for key, number in numbers.items() if key.startswith("max_")},
        heat_maps=heat_maps_of(values),
        **truths,
    )


def _run(text: str) -> Path:
    if text.startswith("[") or text.endswith("]"):
        raise UsageError(
            f"run={text}: one model is served. Several runs are averaged by: python ensemble.py 'runs={text}', then run=ENSEMBLE."
        )
    path = Path(text).expanduser()
    if not path.exists():
        raise UsageError(f"run={text}: there is no such folder or file. Name the folder of a finished run.")
    return path


def _number(key: str, text: str) -> int:
    low, high = _RANGES[key]
    try:
        value = int(text.replace("_", ""))
    except ValueError:
        raise UsageError(f"{key}={text}: '{text}' is not a whole number.") from None
    if not low <= value <= high:
        raise UsageError(f"{key}={text}: must be from {low} to {high}.")
    return value


def help_text(intro: str, notice: str) -> str:
    """What ``--help`` prints.

    Args:
        intro: examples. ``notice``: last line.
    """
    width = max(map(len, KEYS)) + 2
    lines: list[str] = []
    for key, text in KEYS.items():
        lines += textwrap.wrap(
            text, HELP_WIDTH, initial_indent=f"  {key:<{width}}", subsequent_indent=" " * (width + 2)
        )
    after = "Uploads stay in memory: nothing is written to disk, and nothing but counts is printed."
    return "\n".join([intro.strip(), "", *keys_text(KEYS), "", after, notice])

"""The command line of ``export.py``: which keys there are, and which values they may take.

Only the standard library and the declarations of the configuration are imported here, so a mistake costs a fraction of a second.
"""

from __future__ import annotations

import difflib
import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conf.arguments import given_by, keys_text
from conf.evaluate_keys import UsageError, truth
from conf.output import short

__all__ = ["FORMATS", "SUFFIXES", "TOLERANCE", "Options", "UsageError", "help_text", "parsed"]

ONNX, TORCH, SAFETENSORS = "onnx", "torch", "safetensors"
FORMATS: Final = (ONNX, TORCH, SAFETENSORS)
SUFFIXES: Final = {ONNX: ".onnx", TORCH: ".pt2"}
TOLERANCE: Final = 1e-4
KEYS: Final = {
    "run": "a finished run, an ensemble, the model folder of a run, or a checkpoint of train.py",
    "format": "onnx: a graph for ONNX Runtime; torch: a program for PyTorch without this code; safetensors: a hand-over folder",
    "output": "folder that is made, or a file that ends in .onnx or .pt2 (default: exports/<task>/<date_time>)",
    "quantise": "true: a second ONNX file with weights of 8 bits, and what that does to AUROC and recall (format=onnx)",
    "tolerance": f"no file is written where a probability differs by more from the run's (default: {TOLERANCE:g})",
    "data.root": "where the run's data set lies now, if it was moved; the file is checked on its images",
    "trust": "true: load a checkpoint that can run code when it is read; only for files whose origin you know",
}
_OF_GRAPHS: Final = ("tolerance", "data.root")
_PACKAGES: Final = {ONNX: ("onnx", "onnxscript", "onnxruntime")}


@dataclass(frozen=True)
class Options:
    """A checked command line.

    Attributes:
        run: what is exported, there. ``format``: one of ``FORMATS``.
        output: None for the usual place. ``quantise``: only of onnx.
        tolerance: above 0, below 1. ``data_root``: a folder, or None for where the run found its data.
        trust: read a checkpoint that may run code.
    """

    run: Path
    format: str
    output: Path | None = None
    quantise: bool = False
    tolerance: float = TOLERANCE
    data_root: Path | None = None
    trust: bool = False


def parsed(argv: list[str]) -> Options:
    """Check a command line.

    Args:
        argv: the arguments without the program's name.

    Raises:
        UsageError: naming the argument and what to do.
    """
    given = given_by(argv, KEYS, "export.py", other_spellings={"quantize": "quantise"})
    for key in ("run", "format"):
        if key not in given:
            example = "run=RUN" if key == "run" else f"format={'|'.join(FORMATS)}"
            raise UsageError(f"{key} is missing: {example}. See: python export.py --help")
    run, kind = Path(given["run"]).expanduser(), _format(given["format"])
    if not run.exists():
        raise UsageError(f"run={given['run']}: there is no such folder or file.")
    _require_used(given, kind)
    return Options(
        run,
        kind,
        output=_output(given["output"], kind) if "output" in given else None,
        quantise=truth("quantise", given.get("quantise", "false")),
        tolerance=_tolerance(given["tolerance"]) if "tolerance" in given else TOLERANCE,
        data_root=_folder(given["data.root"]) if "data.root" in given else None,
        trust=truth("trust", given.get("trust", "false")),
    )


def help_text(intro: str, notice: str) -> str:
    """What ``--help`` prints.

    Args:
        intro: what the command does, with examples. ``notice``: last line.
    """
    return "\n".join([intro.strip(), "", *keys_text(KEYS), "", notice])


def _format(text: str) -> str:
    if text not in FORMATS:
        close = difflib.get_close_matches(text.lower(), FORMATS, n=1)
        meant = f" Did you mean '{close[0]}'?" if close else ""
        raise UsageError(f"format={text}: must be one of {', '.join(FORMATS)}.{meant}")
    lacking = [name for name in _PACKAGES.get(text, ()) if importlib.util.find_spec(name) is None]
    if lacking:
        raise UsageError(
            f"format={text}: this needs {' and '.join(lacking)}, which {'is' if len(lacking) == 1 else 'are'} not installed. "
            "Install what requirements.lock lists, or take format=torch or format=safetensors."
        )
    return text


def _require_used(given: Mapping[str, str], kind: str) -> None:
    """Refuse what would be ignored without a word."""
    if kind != ONNX and truth("quantise", given.get("quantise", "false")):
        raise UsageError(f"quantise={given['quantise']}: only an ONNX file is quantised; add format=onnx.")
    for key in _OF_GRAPHS:
        if key in given and kind == SAFETENSORS:
            raise UsageError(
                f"{key}={given[key]}: format=safetensors hands over the weights as they are, so nothing is re-scored. Leave it "
                "away, or take format=onnx or format=torch."
            )


def _output(text: str, kind: str) -> Path:
    """A place outside of every run; a file only with the ending of its format."""
    path = Path(text).expanduser()
    if path.suffix in SUFFIXES.values() and path.suffix != SUFFIXES.get(kind):
        wanted = f"ends in {SUFFIXES[kind]}" if kind in SUFFIXES else "is a folder"
        raise UsageError(f"output={text}: what format={kind} writes {wanted}.")
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise UsageError(f"output={text}: this is already there and is never overwritten. Choose another output=.")
    for folder in path.resolve().parents:
        if (folder / "run.json").is_file():
            raise UsageError(
                f"output={text}: this is inside {short(folder)}, a run, which is not changed. Choose another place."
            )
    return path


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"tolerance={text}: '{text}' is not a number.") from None
    if not (math.isfinite(value) and 0.0 < value < 1.0):
        raise UsageError(f"tolerance={text}: must be above 0 and below 1, a difference of probabilities.")
    return value


def _folder(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_dir():
        raise UsageError(f"data.root={text}: there is no such folder.")
    return path

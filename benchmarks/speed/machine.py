"""What a result was measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from callbacks.mixed_precision import cpu_has_bf16

_PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "timm",
    "numpy",
    "opencv-python-headless",
    "albumentations",
    "pillow",
)


def facts(keras: Path | None) -> dict[str, Any]:
    """Processor, cores, memory, graphics card and versions.

    Args:
        keras: the interpreter of a TensorFlow environment, which is asked for its versions.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": cores,
        "bfloat16": cpu_has_bf16(),
        "memory_gb": round(_memory() / 1e9, 1),
        "gpu": _gpu(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", "chosen by the libraries"),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    found["versions"] |= _keras_versions(keras)
    return found


def file_name(machine: dict[str, Any], accelerator: str) -> str:
    """Such as ``amd-epyc-2-cores``: the name of the result file."""
    words = machine["gpu"] if accelerator == "gpu" and machine["gpu"] else f"{machine['cpu']} {machine['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def in_words(machine: dict[str, Any]) -> str:
    """One line for tables and figures."""
    bf16 = "with" if machine["bfloat16"] else "without"
    words = f"{machine['cpu']}, {machine['cores']} cores, {bf16} bfloat16, {machine['memory_gb']:.0f} GB"
    return f"{machine['gpu']}; {words}" if machine["gpu"] else words


def _cpu() -> str:
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    match = re.search(r"^model name\s*:\s*(.+)$", told, flags=re.MULTILINE)
    name = match[1] if match else platform.machine()
    instructions = "AVX-512" if " avx512f" in told else "AVX2" if " avx2" in told else ""
    return f"{name} ({instructions})" if instructions else name


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _gpu() -> str | None:
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    told = subprocess.run(
        [command, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return told.stdout.strip().splitlines()[0] if told.returncode == 0 and told.stdout.strip() else None


def _keras_versions(keras: Path | None) -> dict[str, str]:
    if keras is None:
        return {}
    ask = "import importlib.metadata as m; print(m.version('keras'), m.version('tensorflow'))"
    try:
        told = subprocess.run([str(keras), "-c", ask], capture_output=True, text=True, check=False)
    except OSError:
        return {}
    words = told.stdout.split()
    return dict(zip(("keras", "tensorflow"), words, strict=True)) if len(words) == 2 else {}

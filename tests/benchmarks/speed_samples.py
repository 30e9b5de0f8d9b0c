"""Tiny tasks and results for the tests of ``make bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.conftest import write_image

AUGMENTATION = {"rotate": 8.0, "translate": 0.04, "scale": 0.08, "brightness": 0.15, "contrast": 0.15}
MACHINE = {"cpu": "A CPU", "cores": 2, "bfloat16": False, "memory_gb": 8.0, "gpu": None}


def images(folder: Path, count: int = 4, size: int = 40) -> Path:
    """Folders ``{train,test}/{0_a,1_b}`` with ``count`` images each."""
    for place, part in enumerate(("train", "test")):
        for number, name in enumerate(("0_a", "1_b")):
            for image in range(count):
                write_image(folder / part / name / f"{image}.jpeg", 100 * place + 10 * image + number, size)
    return folder


def script_task(folder: Path, **more: Any) -> dict[str, Any]:
    """What a script is told: two epochs of eight images."""
    found = {
        **{"network": "simple_cnn", "frozen": False, "size": 32, "channels": 1, "images": 8, "folder": str(folder)},
        **{"batch": 4, "epochs": 2, "learning_rate": 1e-3, "weight_decay": 0.0, "augmentation": AUGMENTATION},
        **{"weights": None, "mean": [0.0], "std": [1.0], "auroc": True, "accelerator": "cpu", "seed": 0},
        "choice": {"workers": 0, "channels_last": True},
    }
    return found | more


def measurement(
    contender: str, number: int, speed: float, case: str = "xray224/simple_cnn", **more: Any
) -> dict[str, Any]:
    """An entry of a result: three epochs, of which the first is slow."""
    epochs = [[100, 10.0], [100, 100 / speed], [100, 100 / speed]]
    return {"case": case, "contender": contender, "round": number, "choice": {}, "epochs": epochs, "wall": 5.0} | more


def result(*measurements: dict[str, Any]) -> dict[str, Any]:
    """A result of these measurements."""
    case = {"title": "simple_cnn, 128 px; films", "images": 100, "test": 64, "phantom": True}
    return {
        **{"kind": "speed", "machine": MACHINE, "rounds": 2, "epochs": 3, "batch": 32, "accelerator": "cpu"},
        **{"auroc": False, "missing": {}, "cases": {"xray224/simple_cnn": case}, "measurements": list(measurements)},
    }

"""Who may import whom; and no file of the house grows beyond what can be read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "conf",
    "datamodules",
    "models",
    "lightning_modules",
    "callbacks",
    "evaluation",
    "explain",
    "workflow",
    "serving",
)
ENTRY_FILES = tuple(path.stem for path in ROOT.glob("*.py"))
ALLOWED = {
    "evaluation": set(),
    "explain": set(),
    "models": set(),
    "datamodules": set(),
    "conf": set(),
    "lightning_modules": {"models"},
    "callbacks": {"evaluation", "explain", "models"},
    # The steps of a run, shared by the entry files.
    "workflow": {"conf", "datamodules", "models", "lightning_modules", "callbacks", "evaluation", "explain"},
    # The web server of serve.py.
    "serving": {"conf", "datamodules", "models", "evaluation", "explain", "workflow"},
}
TORCH_LIKE = {"torch", "torchvision", "pytorch_lightning", "lightning_fabric", "timm", "torchmetrics", "albumentations"}
HYDRA = {"hydra", "omegaconf"}


def imports_of(path: Path) -> set[str]:
    """Top-level names of everything a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_only_permitted_arrows(package: str) -> None:
    ours = set(PACKAGES) | set(ENTRY_FILES)
    for path in files_of(package):
        arrows = imports_of(path) & ours - {package}
        assert arrows <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {sorted(arrows - ALLOWED[package])}"


def test_every_package_is_known_to_this_test() -> None:
    present = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert present == {*PACKAGES, "tests"}


def test_evaluation_needs_no_torch() -> None:
    for path in files_of("evaluation"):
        assert not imports_of(path) & TORCH_LIKE, path


def test_hydra_stays_in_conf_and_the_entry_files() -> None:
    for package in set(PACKAGES) - {"conf"}:
        for path in files_of(package):
            assert not imports_of(path) & HYDRA, path


def test_conf_imports_nothing_heavy() -> None:
    for path in files_of("conf"):
        assert not imports_of(path) & (TORCH_LIKE | {"numpy", "pandas", "sklearn", "scipy", "matplotlib"}), path


def test_albumentations_is_used_in_one_file() -> None:
    users = [path for package in PACKAGES for path in files_of(package) if "albumentations" in imports_of(path)]
    assert [path.name for path in users] == ["augmentation.py"]


def test_no_file_is_too_long() -> None:
    for package in PACKAGES:
        for path in files_of(package):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 330, path

"""Mistakes on the command line: one message, exit code 2, no traceback, and torch is never imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from conf.checks import problems, side_after_pooling
from conf.cli import CONF_FOLDER, GROUPS, composed, options_of
from conf.help_page import reference_page
from conf.schema import Config, declared_options

ROOT = CONF_FOLDER.parent
# Runs the checks as train.py does and reports whether torch was loaded.
CHECK = "import sys; from conf.cli import checked_arguments; checked_arguments(sys.argv[1:]); assert 'torch' not in sys.modules"


def check(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHECK, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trainer.max_epoch=3"], ["trainer.max_epoch=3", "'trainer.max_epochs'"]),
        (["trainer.max_epochs=-1"], ["trainer.max_epochs=-1", "at least 1"]),
        (["trainer.max_epochs=ten"], ["trainer.max_epochs", "'ten'", "whole number"]),
        (["task=pnuemonia"], ["task=pnuemonia", "'pneumonia'"]),
        (["max_epochs=3"], ["max_epochs", "'trainer.max_epochs'"]),
        (["model.dropout=1.0"], ["model.dropout=1.0", "below 1"]),
        (["trainer.learning_rate=nan"], ["trainer.learning_rate=nan", "finite"]),
        (["threshold.rule=certifed"], ["threshold.rule=certifed", "'certified'"]),
        (["threshold.value=0.3"], ["threshold.value=0.3", "rule=fixed"]),
        (["evaluation.prevalences=[0.1,1.0]"], ["evaluation.prevalences=1.0", "below 1"]),
        (["seed=0,1"], ["seed=0,1", "-m"]),
        (["-m", "seed=0,1,x"], ["seed=x", "whole number"]),
        (["-m", "seed=0,-1"], ["seed=-1", "at least 0"]),
        (["+made.up=1"], ["made.up"]),
        (["pneumonia"], ["'pneumonia'", "key=value"]),
        (["resume=does_not_exist"], ["does_not_exist", "no run folder"]),
        (["model.image_size=16", "model.filters=[8,8,8,8]"], ["model.image_size=16", "4 layers"]),
        (["task=folder", "task.classes=[A,B]", "task.positive=[C]"], ["task.positive", "A, B"]),
        (["hydra.run.dir=/dev/null/run"], ["/dev/null/run", "cannot"]),
        (["-m", "seed=range(0,0)"], ["seed=range(0,0)", "no values"]),
        (["model=null"], ["model=null", "no model 'null'"]),
        (["--config-name", "other"], ["--config-name", "--config-dir"]),
        (["--config-dir", "nowhere"], ["nowhere", "no such folder"]),
        (["--made-up"], ["--made-up", "--help"]),
        (["data.root="], ["data.root", "folder of the data set"]),
        (["split.val_fraction=0.01"], ["split.val_fraction=0.01", "at least 0.05"]),
        (["split.seed=4294967296"], ["split.seed=4294967296"]),
        (["model.mean=[nan]"], ["model.mean=[nan]", "finite"]),
        (["model=mobilenetv2", "model.weights=/nope"], ["model.weights=/nope", "no such file or folder"]),
        (["model=timm", "model.name=resnet_50"], ["model.name=resnet_50", "nearest: ", "resnet50"]),
    ],
)
def test_mistakes_are_explained(arguments: list[str], words: list[str]) -> None:
    done = check(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("name", ["with space", "a=b", "b,1", "r\u00f6ntgen", "it's"])
def test_paths_of_all_kinds_reach_the_run(tmp_path: Path, name: str) -> None:
    code = (
        "import sys; from conf.cli import checked_arguments, composed; "
        "print(composed(checked_arguments(sys.argv[1:])).data.root)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"data.root={tmp_path / name}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == str(tmp_path / name), done.stderr


def test_the_entry_file_checks_before_importing_torch() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['train.py', 'trainer.max_epochs=-1']\n"
        "try:\n    runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit as stop:\n    assert stop.code == 2, stop.code\n"
        "else:\n    raise AssertionError('did not stop')\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_help_is_for_people() -> None:
    done = check("--help")
    assert done.returncode == 0
    for word in (
        "pneumonia",
        "simple_cnn",
        "trainer.max_epochs",
        "python train.py -m",
        "not a medical device",
        "resume=",
    ):
        assert word in done.stdout
    assert done.stdout.count("python train.py ") >= 5


def test_cfg_job_fits_on_one_screen_and_is_yaml() -> None:
    done = check("--cfg", "job", "trainer.max_epochs=3")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) <= 40
    assert yaml.safe_load(done.stdout)["trainer"]["max_epochs"] == 3


@pytest.mark.parametrize("choice", [(group, name) for group in GROUPS for name in options_of(group)])
def test_every_yaml_composes(choice: tuple[str, str]) -> None:
    group, name = choice
    # A frozen trunk needs weights that are worth keeping.
    config = composed([f"{group}={name}", *(["model=mobilenetv2"] if group == "finetune" else [])])
    text = OmegaConf.to_yaml(config, resolve=True)
    assert "{" not in text.replace("{}", ""), "an interpolation was left unresolved"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("trainer:\n  max_epoch: 3\n", ["trainer.max_epoch'", "Did you mean 'trainer.max_epochs'"]),
        ("trainer:\n  max_epochs: many\n", ["trainer.max_epochs", "'many' is not a whole number"]),
        ("trainer:\n  max_epochs: 0\n", ["trainer.max_epochs=0", "at least 1"]),
    ],
)
def test_a_mistake_in_a_yaml_file_of_the_user_is_named(tmp_path: Path, lines: str, words: list[str]) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\n" + lines)
    done = check("--config-dir", str(tmp_path), "experiment=mine")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_declared_options_are_complete_and_valid() -> None:
    keys = declared_options()
    assert "seed" in keys
    assert "threshold.recall" in keys
    assert all(item.metadata["help"] for item in keys.values())
    assert problems(Config()) == []


def test_pooled_side() -> None:
    assert side_after_pooling(128, 2) == 30


def test_the_reference_page_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRSTREAD_DATA", "FIRSTREAD_HOME"):
        monkeypatch.delenv(name, raising=False)
    stored = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert stored == reference_page(composed([])), "run: python -m conf.help_page > docs/configuration.md"

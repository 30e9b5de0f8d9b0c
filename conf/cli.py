"""What happens to a command line before anything heavy is imported: help, checks, one clear message.

Only the standard library, Hydra and OmegaConf are imported here, so a mistake costs less than two seconds.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
import typing
from pathlib import Path
from typing import Any, NoReturn

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf.checks import classes_of, problems
from conf.help_page import help_page
from conf.schema import Config, declared_options

CONF_FOLDER = Path(__file__).resolve().parent
GROUPS = ("task", "model", "augmentation", "finetune", "trainer", "experiment", "sweep")
RESUMABLE = ("resume", "trainer.max_epochs", "trainer.progress_bar", "data.root", "data.prepared")
PATHS = (
    "model.weights",
    "resume",
    "data.root",
    "data.prepared",
    "split.file",
    "task.group_table",
    "task.group_pattern",
    "table.file",
    "hydra.run.dir",
    "hydra.sweep.dir",
)
USAGE_ERROR = 2

ConfigStore.instance().store(name="schema", node=Config)


class ConfigError(Exception):
    """The command line or a yaml file cannot be used; the text is meant for the user."""


def stop(error: Exception | str) -> NoReturn:
    """Print one message to the error stream and leave with exit code 2."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(USAGE_ERROR)


def checked_arguments(argv: list[str]) -> list[str]:
    """Check a command line completely and return the arguments for Hydra.

    Prints the help page or the configuration and exits with 0 where that was asked for; exits with 2 and one message
    where something is wrong.

    Args:
        argv: the arguments without the program's name.
    """
    try:
        return _checked([path_quoted(text) for text in argv])
    except (ConfigError, HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        stop(str(error).splitlines()[0] if str(error) else type(error).__name__)


def _checked(argv: list[str], program: str = "train.py") -> list[str]:
    if {"--help", "-h"} & set(argv):
        print(help_page(composed([]), CONF_FOLDER, GROUPS, program))
        sys.exit(0)
    parser = get_args_parser()
    parser.error = lambda message: stop(f"{message}. See: python train.py --help")  # type: ignore[method-assign]
    arguments = parser.parse_args(argv)
    if arguments.config_dir and not Path(arguments.config_dir).is_dir():
        raise ConfigError(f"--config-dir {arguments.config_dir}: there is no such folder.")
    if arguments.config_name or arguments.config_path:
        raise ConfigError(
            "--config-name and --config-path are not supported; use --config-dir FOLDER for your own yaml files."
        )
    if arguments.hydra_help or arguments.info or arguments.shell_completion:
        return argv
    extra = [f"hydra.searchpath=[file://{Path(arguments.config_dir).resolve()}]"] if arguments.config_dir else []
    overrides = _parsed(arguments.overrides)
    for override in overrides:
        _check_name(override, arguments.config_dir)
    if any(override.key_or_group == "resume" and override.value() for override in overrides):
        return argv + _resume_arguments(overrides, arguments.multirun)
    config = _check_values(overrides, extra, arguments.multirun)
    if arguments.cfg == "job" and not arguments.package:
        print(as_one_screen(config))
        sys.exit(0)
    return argv


def checked_config(argv: list[str], program: str) -> DictConfig:
    """Check the command line of a tool that starts no run, and compose its configuration.

    Takes the same groups and keys as ``train.py``; ``--help`` and ``--cfg job`` print and exit.

    Args:
        argv: the arguments without the program's name.
        program: its name, for the help page.
    """
    try:
        quoted = [path_quoted(text) for text in argv]
        arguments = get_args_parser().parse_args(quoted)
        if arguments.multirun or any(item.is_sweep_override() for item in _parsed(arguments.overrides)):
            raise ConfigError(f"{program} takes one configuration at a time; leave -m and lists of values away.")
        arguments = get_args_parser().parse_args(_checked(quoted, program))
        extra = [f"hydra.searchpath=[file://{Path(arguments.config_dir).resolve()}]"] if arguments.config_dir else []
        return composed([*arguments.overrides, *extra])
    except (ConfigError, HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        stop(str(error).splitlines()[0] if str(error) else type(error).__name__)


def path_quoted(text: str) -> str:
    """Put a path or pattern in the quotes that Hydra's grammar needs for ``=``, ``,``, spaces and letters beyond ASCII."""
    key, equals, value = text.partition("=")
    plain = re.fullmatch(r"[A-Za-z0-9_./:+-]*", value) is not None
    if not equals or key.lstrip("+") not in PATHS or plain or value[:1] in ("'", '"') or "${" in value:
        return text
    # In Hydra's quotes a backslash is itself, unless a quote follows.
    escaped = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + (r"\'" if match[2] else ""), value)
    return f"{key}='{escaped}'"


def composed(overrides: list[str]) -> DictConfig:
    """The configuration that these overrides give, typed by the schema.

    Raises:
        ConfigError: if a yaml file or an override does not fit the schema or a value is out of range.
    """
    try:
        with initialize_config_dir(str(CONF_FOLDER), version_base="1.3"):
            config = compose("config", overrides)
            typed = OmegaConf.to_object(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_in_words(error)) from error
    for key, value, rule in problems(typing.cast(Config, typed)):
        choices = declared_options()[key].metadata.get("choices", ()) if key in declared_options() else ()
        guess = "" if value in choices else _nearest(str(value), list(choices))
        raise ConfigError(f"{key}={value}: must be {rule}.{guess}")
    return config


def as_one_screen(config: DictConfig) -> str:
    """The whole configuration as YAML, each section on as few lines as it needs."""
    plain = typing.cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    plain["task"]["classes"], plain["task"]["positive"] = classes_of(OmegaConf.to_object(config).task)  # type: ignore[union-attr]
    for name in ("policies", "download"):  # long, the same for every run, and written in the task's yaml file
        del plain["task"][name]
    lines = []
    for name, value in plain.items():
        if isinstance(value, dict):
            flow = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=100).strip()
            lines.append(f"{name}: {flow}" if "\n" not in flow else f"{name}:\n  " + flow.replace("\n", "\n  "))
        else:
            lines.append(yaml.safe_dump({name: value}, sort_keys=False).strip())
    return "\n".join(lines)


def _parsed(overrides: list[str]) -> list[Override]:
    try:
        return list(OverridesParser.create().parse_overrides(overrides))
    except HydraException as error:
        culprit = next((text for text in overrides if "=" not in text), None)
        if culprit is not None:
            raise ConfigError(f"'{culprit}' is not of the form key=value. See: python train.py --help") from error
        raise ConfigError(f"cannot read the command line: {str(error).splitlines()[0]}") from error


def options_of(group: str, extra_folder: str | None = None) -> list[str]:
    """Names of the yaml files of a group, sorted."""
    folders = [CONF_FOLDER / group] + ([Path(extra_folder) / group] if extra_folder else [])
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})


def _check_name(override: Override, extra_folder: str | None) -> None:
    key = override.key_or_group
    if key.split(".")[0].split("/")[0] == "hydra":
        return
    if key in GROUPS:
        names = options_of(key, extra_folder)
        for value in _values(override):
            if value not in names and not (value == "null" and key in ("experiment", "sweep")):
                raise ConfigError(
                    f"{key}={value}: there is no {key} '{value}'.{_nearest(value, names)} Available: {', '.join(names)}."
                )
        return
    if key not in declared_options() and not key.startswith(("task.download.", "task.policies.")):
        raise ConfigError(
            f"{override.input_line}: there is no key '{key}'.{_nearest(key, [*declared_options(), *GROUPS])}"
        )


def _values(override: Override) -> list[str]:
    """Every value that an override takes, as text: one, or several in a sweep."""
    if override.is_sweep_override():
        values = [str(value) for value in override.sweep_string_iterator()]
        if not values:
            raise ConfigError(f"{override.input_line}: this sweep has no values.")
        return values
    return [str(override.get_value_element_as_str())]


def _check_values(overrides: list[Override], extra: list[str], multirun: bool) -> DictConfig:
    """Compose once with the first value of every sweep, then once for every further value."""
    swept = [override for override in overrides if override.is_sweep_override()]
    base = [_single(override, _values(override)[0]) if override in swept else _line(override) for override in overrides]
    with initialize_config_dir(str(CONF_FOLDER), version_base="1.3"):
        try:
            full = compose("config", [*base, *extra], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_in_words(error)) from error
    several = multirun or str(full.hydra.mode).endswith("MULTIRUN")
    if swept and not several:
        raise ConfigError(f"{swept[0].input_line} has several values: add -m to run them all.")
    _check_writable(
        "hydra.sweep.dir" if several else "hydra.run.dir", str((full.hydra.sweep if several else full.hydra.run).dir)
    )
    config = composed([*base, *extra])
    for override in swept:
        others = [line for line, other in zip(base, overrides, strict=True) if other is not override]
        for value in _values(override)[1:]:
            composed([*others, _single(override, value), *extra])
    for key, values in (full.hydra.sweeper.get("params") or {}).items():
        for override in _parsed([f"{key}={values}"]):
            for value in _values(override):
                composed([*base, _single(override, value), *extra])
    return config


def _check_writable(key: str, folder: str) -> None:
    """Hydra makes the run folder itself; where it cannot, say so before it fails."""
    nearest = Path(folder).absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise ConfigError(
            f"{key}={folder}: the run folder cannot be made, because {nearest} cannot be written to. "
            f"Choose another folder with {key}=PATH."
        )


def _single(override: Override, value: str) -> str:
    return f"{_line(override).split('=', 1)[0]}={value}"


def _line(override: Override) -> str:
    return str(override.input_line)


def _resume_arguments(overrides: list[Override], multirun: bool) -> list[str]:
    """Extra arguments that make Hydra work in the run folder that is resumed."""
    folder = next(Path(str(item.value())) for item in overrides if item.key_or_group == "resume").resolve()
    other = [str(item.input_line) for item in overrides if item.key_or_group not in RESUMABLE]
    if multirun:
        raise ConfigError("resume goes on with one run; it cannot be combined with -m.")
    if other:
        raise ConfigError(
            f"a resumed run keeps its configuration; remove {', '.join(other)}. "
            "Only trainer.max_epochs (to train longer) and data.root (if the data have moved) may be given."
        )
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"resume={folder}: no config.yaml there, so this is no run folder.")
    record = folder / "run.json"
    if record.is_file() and json.loads(record.read_text(encoding="utf-8")).get("status") == "finished":
        raise ConfigError(f"resume={folder}: this run is finished and is never overwritten. Start a new run instead.")
    if not (folder / "checkpoints" / "last.ckpt").is_file():
        raise ConfigError(
            f"resume={folder}: no checkpoints/last.ckpt there; the run was stopped before its first epoch ended. "
            "Start it again."
        )
    given = composed([_line(item) for item in overrides])
    before = OmegaConf.load(folder / "config.yaml").trainer.max_epochs
    if any(item.key_or_group == "trainer.max_epochs" for item in overrides) and given.trainer.max_epochs < before:
        raise ConfigError(
            f"trainer.max_epochs={given.trainer.max_epochs}: the run was started with {before} and can only be made longer."
        )
    _check_writable("resume", str(folder))
    return [path_quoted(f"hydra.run.dir={folder}")]


def _nearest(name: str, names: list[str]) -> str:
    """`` Did you mean 'x'?`` for the closest valid name, by whole key or by its last part; empty if none is close."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not close:
        last = name.rpartition(".")[2]
        close = [key for key in names if difflib.get_close_matches(last, [key.rpartition(".")[2]], cutoff=0.75)][:1]
    return f" Did you mean '{close[0]}'?" if close else ""


_KIND = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}


def _in_words(error: Exception) -> str:
    """The cause of a failed composition as one sentence with the full key and the value."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = str(cause)
    key_match = re.search(r"full_key: (\S+)", text)
    key = key_match.group(1) if key_match else ""
    file_match = re.search(r"In '(\S+)':", text)
    where = f" (in {file_match.group(1)}.yaml)" if file_match else ""
    value = re.search(r"Value '(.*?)' of type '.*?' could not be converted to (\w+)", text)
    if value:
        return f"{key}={value.group(1)}: '{value.group(1)}' is not {_KIND.get(value.group(2), value.group(2))}{where}."
    if "is not a ListConfig" in text:
        return f"{key}: a list is needed. Write it in brackets and quotes:  '{key}=[VALUE,VALUE]'{where}"
    if key in GROUPS and file_match:
        return f"{file_match.group(1)}.yaml: the file lacks its first line  # @package _global_"
    if key and re.search(r"Key '.*?' not in ", text):
        return f"there is no key '{key}'{where}.{_nearest(key, list(declared_options()))}"
    first = next((line for line in text.splitlines() if line.strip()), type(cause).__name__)
    return f"{key}: {first}{where}" if key and key not in first else f"{first}{where}"

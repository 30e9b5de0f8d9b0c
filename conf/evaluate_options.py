"""The command line of ``evaluate.py``: which form it has, which keys belong to it, and which values they may take.

Only the standard library and the declarations of the configuration are imported here, so a mistake costs a fraction of a second.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from conf.evaluate_keys import (
    AGGREGATE,
    CALLED,
    COMPARE,
    EXTERNAL,
    FOREIGN,
    KEYS,
    PREDICTIONS,
    REJUDGE,
    ROBUSTNESS,
    ROLES,
    SOURCES,
    THRESHOLD,
    UsageError,
    list_of,
    truth,
    value_of,
)
from conf.output import short
from conf.schema import declared_options

__all__ = [
    "AGGREGATE",
    "COMPARE",
    "EXTERNAL",
    "FOREIGN",
    "PREDICTIONS",
    "REJUDGE",
    "ROBUSTNESS",
    "Options",
    "UsageError",
    "parsed",
]

# What may be said about the other data set of an external test; the model is the run's own.
OVERRIDDEN: Final = ("task", "data", "table")
_TRAINING: Final = ("model", "split", "trainer", "loss", "augmentation", "finetune", "imbalance", "experiment", "sweep")
# One of these lies in every folder that train.py, ensemble.py or this command made.
_FINISHED: Final = (
    *("run.json", "metrics.json", "comparison.json", "aggregate.json"),
    *("robustness.json", "external.json", "foreign.json"),
)
_RULE_OF: Final = {"value": "fixed", "miss_cost": "cost"}


@dataclass(frozen=True)
class Options:
    """A checked command line; what was not given is absent or None.

    Attributes:
        form: one of the constants of this file. ``paths``: the runs, or the file of predictions.
        threshold: given keys of ``threshold.*`` without the prefix; ``rule`` among them if ``value`` was given alone.
        judging: given of ``bootstrap``, ``confidence``, ``interval``, ``prevalences``, ``seed``.
        given: of the form ``predictions``: ``validation``, ``calibration_share``, ``positive``, ``classes``, ``positive_name``,
            ``negative_name``, ``group_name``, ``title`` and ``columns`` (by role; None for a column that is not to be used).
        images: of robustness and foreign. ``foreign``: folders. ``data_root``: where the run's own data lie now.
        overrides, mapping, part: of an external test; the overrides as they were typed.
    """

    form: str
    paths: tuple[Path, ...]
    several: bool = False
    output: Path | None = None
    threshold: dict[str, Any] = field(default_factory=dict)
    judging: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    images: int | None = None
    foreign: list[Path] = field(default_factory=list)
    data_root: Path | None = None
    overrides: list[str] = field(default_factory=list)
    mapping: dict[str, str] = field(default_factory=dict)
    part: str = "all"


def parsed(argv: list[str]) -> Options:
    """Check a command line.

    Args:
        argv: the arguments without the program's name.

    Raises:
        UsageError: naming the argument and what to do.
    """
    values, overrides = _split(argv)
    source = _source(values)
    form = _form(source, values, overrides)
    _require_own_keys(form, values, overrides)
    paths, several = _paths(source, values[source])
    read = {key: value_of(key, text) for key, text in values.items() if key not in (*SOURCES, "robustness")}
    _require_outside(read.get("output"))
    if form == PREDICTIONS and (several or paths[0].is_dir()):
        raise UsageError(f"predictions={values[source]}: one CSV file is needed. For a finished run: run=RUN.")
    return Options(
        form=form,
        paths=paths,
        several=several,
        output=read.get("output"),
        threshold=_threshold(values, read),
        judging={
            name: read[name] for name in ("bootstrap", "confidence", "interval", "prevalences", "seed") if name in read
        },
        given=_given(values, read),
        images=read.get("images"),
        foreign=read.get("foreign", []),
        data_root=_data_root(overrides) if form in (ROBUSTNESS, FOREIGN) else None,
        overrides=list(overrides.values()) if form == EXTERNAL else [],
        mapping=read.get("mapping", {}),
        part=read.get("part", "all"),
    )


def _split(argv: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Our keys, and those that describe another data set as train.py takes them (whole arguments by key)."""
    values: dict[str, str] = {}
    overrides: dict[str, str] = {}
    for text in argv:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"'{text}' is not of the form key=value. See: python evaluate.py --help")
        if key in values or key in overrides:
            more = f"; several runs are listed in brackets: {key}=[RUN,RUN]" if key in SOURCES else ""
            raise UsageError(f"{text}: {key} is given twice{more}.")
        if key.partition(".")[0] in OVERRIDDEN and (key == "task" or key in declared_options()):
            overrides[key] = text
        elif key not in KEYS:
            raise UsageError(f"{text}: there is no key '{key}'.{_nearest(key)} See: python evaluate.py --help")
        else:
            values[key] = value
        if not value.strip():
            raise UsageError(f"{text}: {key} has no value{f': {KEYS[key].text}' if key in KEYS else ''}.")
    return values, overrides


def _nearest(key: str) -> str:
    if key.partition(".")[0] in _TRAINING:
        return " A run is judged with the model it has; this key belongs to train.py."
    names = [*KEYS, *(name for name in declared_options() if name.partition(".")[0] in OVERRIDDEN), "task"]
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    if not close:
        last = key.rpartition(".")[2]
        close = [name for name in KEYS if difflib.get_close_matches(last, [name.rpartition(".")[2]], cutoff=0.75)][:1]
    return f" Did you mean '{close[0]}'?" if close else ""


def _source(values: Mapping[str, str]) -> str:
    named = [name for name in SOURCES if name in values]
    if not named:
        raise UsageError(
            "what is to be judged is missing: give one of "
            + ", ".join(CALLED.values())
            + ". See: python evaluate.py --help"
        )
    if len(named) > 1:
        raise UsageError(f"{named[0]}= and {named[1]}= are given; one command does one of them.")
    return named[0]


def _form(source: str, values: Mapping[str, str], overrides: Mapping[str, str]) -> str:
    if source != REJUDGE:
        return source
    if "robustness" in values and truth("robustness", values["robustness"]):
        return ROBUSTNESS
    if "foreign" in values:
        return FOREIGN
    return EXTERNAL if overrides or "mapping" in values or "part" in values else REJUDGE


def _require_own_keys(form: str, values: Mapping[str, str], overrides: Mapping[str, str]) -> None:
    """Refuse what the form would not use, because it would be ignored without a word."""
    called = CALLED[form]
    for key, text in values.items():
        if form in KEYS[key].forms or (key == "robustness" and form in (REJUDGE, EXTERNAL, FOREIGN)):
            continue
        if form == EXTERNAL and key.startswith("threshold"):
            raise UsageError(f"{key}={text}: another data set is judged at the run's own threshold; leave {key} away.")
        fit = " or ".join(CALLED[name] for name in KEYS[key].forms)
        raise UsageError(f"{key}={text}: {key} is not used with {called}; it belongs to {fit}.")
    for key, text in overrides.items():
        own = form in (ROBUSTNESS, FOREIGN)
        if form == EXTERNAL or (own and key == "data.root"):
            continue
        remedy = "the run's own data are used; only data.root may say where they lie now" if own else ""
        raise UsageError(f"{text}: {remedy or f'{key} is not used with {called}; it belongs to {CALLED[EXTERNAL]}'}.")
    if form == EXTERNAL and "task" not in overrides:
        given = next(iter(overrides), None) or next(key for key in ("mapping", "part") if key in values)
        raise UsageError(f"{given} describes another data set; say which task it is: task=NAME data.root=FOLDER.")


def _paths(source: str, value: str) -> tuple[tuple[Path, ...], bool]:
    """The paths, each of which exists, and whether they were listed in brackets."""
    several = value.startswith("[") or value.endswith("]")
    texts = list_of(source, value) if several else [value]
    paths = tuple(Path(text).expanduser() for text in texts)
    for path in paths:
        if not path.exists():
            raise UsageError(f"{source}={path}: there is no such {'file' if source == PREDICTIONS else 'folder'}.")
        if source != PREDICTIONS and not path.is_dir():
            hint = f" For a file of predictions: predictions={path}" if path.suffix.lower() == ".csv" else ""
            raise UsageError(f"{source}={path}: this is a file; the folder of a run is needed.{hint}")
    if source == COMPARE and len(paths) < 2:
        raise UsageError(f"compare={value}: two or more are compared. Write  'compare=[RUN,RUN]'")
    return paths, several


def _require_outside(output: Path | None) -> None:
    """A finished run or record stays as it is, so no record is made inside one."""
    if output is None:
        return
    for folder in output.resolve().parents:  # what is at the place itself is never overwritten anyway
        if any((folder / name).is_file() for name in _FINISHED):
            raise UsageError(
                f"output={output}: this is inside {short(folder)}, a finished run or record, which is not changed. Choose "
                "another folder."
            )


def _threshold(values: Mapping[str, str], read: Mapping[str, Any]) -> dict[str, Any]:
    """The given keys of the operating point, which do not contradict each other."""
    if "threshold" in values and "threshold.rule" in values:
        raise UsageError(
            f"threshold={values['threshold']} and threshold.rule={values['threshold.rule']}: give one of them."
        )
    found = {key.partition(".")[2]: value for key, value in read.items() if key in THRESHOLD}
    if "threshold" in read:
        found["rule"] = read["threshold"]
    if "value" in found:
        found.setdefault("rule", "fixed")
    for name, rule in _RULE_OF.items():
        if name in found and found.get("rule") != rule:
            now = f", not of threshold={found['rule']}" if "rule" in found else f"; add threshold={rule}"
            raise UsageError(f"threshold.{name}={values[f'threshold.{name}']}: this belongs to threshold={rule}{now}.")
    if found.get("rule") == "fixed" and "value" not in found:
        raise UsageError("threshold=fixed: say which, for example threshold.value=0.3.")
    return found


def _given(values: Mapping[str, str], read: Mapping[str, Any]) -> dict[str, Any]:
    if "validation" in read and "calibration_share" in read:
        raise UsageError(
            f"validation={values['validation']} and calibration_share={values['calibration_share']}: the threshold is chosen "
            "on one of them; leave the other away."
        )
    plain = (
        "validation",
        "calibration_share",
        "positive",
        "classes",
        "positive_name",
        "negative_name",
        "group_name",
        "title",
    )
    found = {name: read[name] for name in plain if name in read}
    columns = {role: read[f"columns.{role}"] for role in ROLES if f"columns.{role}" in read}
    for role in ("label", "score"):
        if role in columns and columns[role] is None:
            raise UsageError(f"columns.{role}=none: without the {role} nothing can be judged.")
    return {**found, "columns": columns} if columns else found


def _data_root(overrides: Mapping[str, str]) -> Path | None:
    return Path(overrides["data.root"].partition("=")[2]).expanduser() if "data.root" in overrides else None

"""The keys of ``evaluate.py``: what each does, which form of the command it belongs to, and how its value is read.

Only the standard library and the declarations of the configuration are imported here.
"""

from __future__ import annotations

import difflib
import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from conf.checks import allowed, breaks_rule
from conf.schema import declared_options

REJUDGE, PREDICTIONS, COMPARE, AGGREGATE = "run", "predictions", "compare", "aggregate"
ROBUSTNESS, EXTERNAL, FOREIGN = "robustness", "external", "foreign"
SOURCES: Final = (REJUDGE, PREDICTIONS, COMPARE, AGGREGATE)
SCORED: Final = (REJUDGE, PREDICTIONS)
EVERY: Final = (REJUDGE, ROBUSTNESS, EXTERNAL, PREDICTIONS, COMPARE, AGGREGATE)
CALLED: Final = {
    REJUDGE: "run=RUN",
    ROBUSTNESS: "run=RUN robustness=true",
    EXTERNAL: "run=RUN task=TASK data.root=FOLDER",
    FOREIGN: "run=RUN foreign=FOLDER",
    PREDICTIONS: "predictions=FILE.csv",
    COMPARE: "compare=[RUN,RUN]",
    AGGREGATE: "aggregate=FOLDER",
}
ROLES: Final = ("id", "group", "label", "score", "split")
HELP_WIDTH: Final = 130
PARTS: Final = ("all", "test")


class UsageError(ValueError):
    """The command line cannot be used; the text is meant for the user."""


@dataclass(frozen=True)
class Key:
    """One key: what it does, and the forms of the command it belongs to."""

    text: str
    forms: tuple[str, ...]


KEYS: Final[dict[str, Key]] = {
    "run": Key(
        "a finished run, an ensemble, or an earlier record of this command", (REJUDGE, ROBUSTNESS, EXTERNAL, FOREIGN)
    ),
    "predictions": Key("a CSV file of any tool: one row an image, with its label and score", (PREDICTIONS,)),
    "compare": Key("two or more judged folders on the same test images: compare=[RUN,RUN]", (COMPARE,)),
    "aggregate": Key("folder of a multirun, or a list of runs: one table over seeds, folds and settings", (AGGREGATE,)),
    "output": Key("folder that is made (default: evaluations/<task>/<date_time>)", (*EVERY, FOREIGN)),
    "threshold": Key("short for threshold.rule", SCORED),
    "bootstrap": Key("resamples of groups for each interval", EVERY),
    "confidence": Key("confidence of the intervals", EVERY),
    "interval": Key("percentile or bca", (*SCORED, EXTERNAL, COMPARE, AGGREGATE)),
    "prevalences": Key("prevalences at which PPV and NPV are also stated: prevalences=[0.01,0.2]", (*SCORED, EXTERNAL)),
    "seed": Key(
        "seed of resamples, of calibration_share, of corruptions and draws", (*SCORED, ROBUSTNESS, EXTERNAL, FOREIGN)
    ),
    "validation": Key("a second CSV file, on which the threshold is chosen", (PREDICTIONS,)),
    "calibration_share": Key("without validation: cut this share of the groups off for the threshold", (PREDICTIONS,)),
    "positive": Key("the class, or classes in brackets, whose recall matters", (PREDICTIONS,)),
    "classes": Key("class names in the order of the labels 0, 1, ...: classes=[benign,malignant]", (PREDICTIONS,)),
    "positive_name": Key("of several classes: what the positive ones are called together", (PREDICTIONS,)),
    "negative_name": Key("of several classes: what the others are called together", (PREDICTIONS,)),
    "group_name": Key("what a group is called: patient, lesion (default: as its column is)", (PREDICTIONS,)),
    "title": Key("title of the report", (PREDICTIONS,)),
    **{f"columns.{role}": Key(f"column of the {role}", (PREDICTIONS,)) for role in ROLES},
    "robustness": Key("true: score the test images again under blur, noise and other corruptions", (ROBUSTNESS,)),
    "foreign": Key(
        "folder, or folders in brackets, of images that the run should turn away: foreign=[A,B]", (FOREIGN,)
    ),
    "images": Key(
        "how many test images (and of each foreign folder) are used (default: all; with foreign: 400)",
        (ROBUSTNESS, FOREIGN),
    ),
    "mapping": Key("classes of the other data set in terms of the run's: mapping={nevus:benign}", (EXTERNAL,)),
    "part": Key("of the other data set: all (default) or its official test part", (EXTERNAL,)),
}
KEYS["columns.id"] = Key("column of the image name; none numbers the rows", (PREDICTIONS,))
KEYS["columns.group"] = Key("column of the patient or lesion; none makes every image its own group", (PREDICTIONS,))
KEYS["columns.score"] = Key("column of the positive class's probability, where there is one", (PREDICTIONS,))
KEYS["columns.split"] = Key("column that says val or test; none ignores it", (PREDICTIONS,))
THRESHOLD: Final = {key: item for key, item in declared_options().items() if key.startswith("threshold.")}
KEYS.update({key: Key(str(item.metadata["help"]), SCORED) for key, item in THRESHOLD.items()})
# Nothing is trained here that would be lost, so what was asked for by name is not replaced by something else unasked.
INFEASIBLE: Final = "threshold.infeasible"
KEYS[INFEASIBLE] = Key(
    "where validation cannot certify the threshold.* that was given: refuse (default) = stop; empirical = that rule, and say so",
    SCORED,
)
_DECLARED: Final = {
    **THRESHOLD,
    "seed": declared_options()["seed"],
    **{name: declared_options()[f"evaluation.{name}"] for name in ("bootstrap", "confidence", "interval")},
}


def help_text(intro: str, notice: str) -> str:
    """What ``--help`` prints.

    Args:
        intro: the forms with examples. ``notice``: last line.
    """
    width = max(map(len, KEYS)) + 2
    lines = []
    for key, entry in KEYS.items():
        words = [entry.text]
        item = _DECLARED.get(key)
        if item is not None and "choices" not in item.metadata and allowed(item):
            words.append(allowed(item))
        if key in THRESHOLD and key != INFEASIBLE and item is not None and item.default is not None:
            words.append(f"default {item.default}")
        lines += textwrap.wrap(
            "; ".join(words), HELP_WIDTH, initial_indent=f"  {key:<{width}}", subsequent_indent=" " * (width + 2)
        )
    after = "With run= whatever is not given stays as the run has it."
    return "\n".join([intro.strip(), "", *lines, "", after, notice])


def value_of(key: str, text: str) -> Any:
    """The value of a key, checked; None for a column that is not to be used.

    Raises:
        UsageError: naming the key, the value and what is allowed.
    """
    declared = "threshold.rule" if key == "threshold" else key
    if declared in _DECLARED:
        return _declared_value(key, text, declared)
    if key in _READERS:
        return _READERS[key](key, text)
    if key.startswith("columns."):
        return None if text == "none" else text
    return text


def _declared_value(key: str, text: str, declared: str) -> Any:
    item = _DECLARED[declared]
    value: Any = text
    if item.default is None and text in ("null", "none"):
        return None
    if not isinstance(item.default, str):
        value = _number(key, text, whole=isinstance(item.default, int))
    if breaks_rule(item, value):
        close = difflib.get_close_matches(text, item.metadata.get("choices", ()), n=1)
        meant = f" Did you mean '{close[0]}'?" if close else ""
        raise UsageError(f"{key}={text}: must be {allowed(item)}.{meant}")
    return value


def _number(key: str, text: str, *, whole: bool = False) -> float | int:
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        raise UsageError(f"{key}={text}: '{text}' is not a {'whole ' if whole else ''}number.") from None
    if not math.isfinite(value):
        raise UsageError(f"{key}={text}: must be a finite number.")
    return value


def list_of(key: str, text: str) -> list[str]:
    """The entries of ``[A,B]``, or the one value without brackets.

    Raises:
        UsageError: a bracket is missing, or an entry is empty or there twice.
    """
    if not text.startswith("["):
        if text.endswith("]"):
            raise UsageError(f"{key}={text}: the list has only one bracket. Write it in quotes:  '{key}=[A,B]'")
        return [text.strip("'\"")]
    if not text.endswith("]"):
        raise UsageError(f"{key}={text}: the list has only one bracket. Write it in quotes:  '{key}=[A,B]'")
    items = [item.strip().strip("'\"") for item in text[1:-1].split(",")]
    if not all(items):
        raise UsageError(f"{key}={text}: the list is empty, or has an empty entry.")
    if len(set(items)) < len(items):
        raise UsageError(f"{key}={text}: an entry is given twice.")
    return items


def _share(key: str, text: str) -> float:
    value = _number(key, text)
    if not 0.0 < value < 1.0:
        raise UsageError(f"{key}={text}: must be above 0 and below 1.")
    return float(value)


def _shares(key: str, text: str) -> list[float]:
    return [_share(key, item) for item in list_of(key, text)]


def _count(key: str, text: str) -> int:
    value = _number(key, text, whole=True)
    if value < 1:
        raise UsageError(f"{key}={text}: must be at least 1.")
    return int(value)


def truth(key: str, text: str) -> bool:
    """``true`` or ``false``.

    Raises:
        UsageError: anything else.
    """
    if text.lower() not in ("true", "false"):
        raise UsageError(f"{key}={text}: must be true or false.")
    return text.lower() == "true"


def _file(key: str, text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        raise UsageError(f"{key}={text}: there is no such file.")
    return path


def _mapping(key: str, text: str) -> dict[str, str]:
    pairs = [item.partition(":") for item in text.removeprefix("{").removesuffix("}").split(",")]
    found = {name.strip().strip("'\""): ours.strip().strip("'\"") for name, _, ours in pairs}
    braces = text.startswith("{") and text.endswith("}")
    if (
        not braces
        or len(found) < len(pairs)
        or not all(colon for _, colon, _ in pairs)
        or "" in {*found, *found.values()}
    ):
        raise UsageError(
            f"{key}={text}: each of their classes is named once, in quotes:  '{key}={{THEIRS:OURS,THEIRS:OURS}}'"
        )
    return found


def _part(key: str, text: str) -> str:
    if text not in PARTS:
        raise UsageError(f"{key}={text}: must be one of {', '.join(PARTS)}.")
    return text


def _folder(key: str, text: str) -> Path:
    return Path(text).expanduser()


def _folders(key: str, text: str) -> list[Path]:
    found = [Path(item).expanduser() for item in list_of(key, text)]
    for path in found:
        if not path.is_dir():
            raise UsageError(f"{key}={text}: there is no folder {path}. Name a folder of images.")
    return found


_READERS: Final[dict[str, Callable[[str, str], Any]]] = {
    "output": _folder,
    "validation": _file,
    "calibration_share": _share,
    "positive": list_of,
    "classes": list_of,
    "prevalences": _shares,
    "images": _count,
    "mapping": _mapping,
    "foreign": _folders,
    "part": _part,
}

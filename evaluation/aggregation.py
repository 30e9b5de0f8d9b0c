"""Many runs as a few configurations: what was varied, mean and sd of each, an interval for the whole, and which is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from evaluation.bootstrap import Bootstrap, Resampling, difference_interval
from evaluation.decided import Decided, decide, mean_of, resample
from evaluation.ensembles import FOLD, join_folds
from evaluation.paired import require_same_images, signed
from evaluation.predictions import Predictions, PredictionsError
from evaluation.wording import figure, plural

# What repeats a configuration, or says nothing about it: where files are, how fast, how it is shown and judged.
REPEATS: Final = frozenset({"seed", "split.fold"})
SILENT: Final = frozenset(
    {
        *("resume", "audit", "split.refresh", "data.root", "data.prepared", "data.download", "data.num_workers"),
        *("trainer.progress_bar", "trainer.accelerator", "task.title"),
    }
)
SILENT_SECTIONS: Final = ("task.download.", "task.policies.", "evaluation.")
_HEARD: Final = frozenset({"evaluation.tta"})
_NAMED_FIRST: Final = ("task.labels", "model.name", "loss.name", "augmentation.name", "finetune.name")


@dataclass(frozen=True)
class Configuration:
    """Runs that repeat each other but for seed and fold.

    Attributes:
        members: numbers of the runs. ``settings``: the varied keys with this configuration's values. ``name``: short.
    """

    members: tuple[int, ...]
    settings: dict[str, Any]
    name: str


@dataclass(frozen=True)
class Repetition:
    """One finished run as the pooling needs it: predictions of one part, its threshold, and which fold it is."""

    predictions: Predictions
    threshold: float
    seed: int
    fold: int = 0


@dataclass(frozen=True)
class Pooled:
    """All repetitions of a configuration on one part.

    Attributes:
        drawn: figures and their resamples, averaged over repetitions; None where they cannot be put together.
        whole: the first repetition, whose images, labels and groups are those of all.
        note: what the interval is of, or why there is none.
        joined: the out-of-fold predictions of each repetition; empty where there are no folds.
    """

    drawn: Bootstrap | None
    note: str
    whole: Decided | None = None
    joined: tuple[Decided, ...] = field(default=())


def configurations(configs: Sequence[Mapping[str, Any]]) -> list[Configuration]:
    """Group runs by their settings, in the order in which configurations first appear.

    Seed and fold repeat a configuration; paths, worker numbers and how a run is judged say nothing about it. A key that some
    config.yaml does not have (another version wrote it) is not compared.

    Args:
        configs: config.yaml of each run, as nested dictionaries.
    """
    flat = [_flat(config) for config in configs]
    shared = set.intersection(*(set(one) for one in flat)) if flat else set()
    compared = sorted(key for key in shared if _tells(key))
    grouped: dict[str, list[int]] = {}
    for number, one in enumerate(flat):
        grouped.setdefault(repr([one[key] for key in compared]), []).append(number)
    firsts = [flat[members[0]] for members in grouped.values()]
    varied = [key for key in compared if len({repr(one[key]) for one in firsts}) > 1]
    varied.sort(key=lambda key: (_NAMED_FIRST.index(key) if key in _NAMED_FIRST else len(_NAMED_FIRST), key))
    names = _names(firsts, varied)
    return [
        Configuration(tuple(members), {key: first[key] for key in varied}, name)
        for members, first, name in zip(grouped.values(), firsts, names, strict=True)
    ]


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _tells(key: str) -> bool:
    if key in _HEARD:
        return True
    return key not in REPEATS and key not in SILENT and not key.startswith(SILENT_SECTIONS)


def _names(firsts: Sequence[Mapping[str, Any]], varied: Sequence[str]) -> list[str]:
    """``model.name=resnet18, loss.name=focal``: a few of the varied keys, enough to tell the configurations apart."""
    if not varied:
        return [str(_value(first.get("model.name", "one configuration"))) for first in firsts]
    chosen: list[str] = []
    apart = 1
    for key in varied:  # the most telling keys come first; one that tells nothing new apart is left out
        split = len({repr([first[name] for name in (*chosen, key)]) for first in firsts})
        if split > apart:
            chosen.append(key)
            apart = split
    return [", ".join(f"{key}={_value(first[key])}" for key in chosen) for first in firsts]


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_value, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    text = str(value)
    return text.rsplit("/", 1)[-1] if text.startswith(("/", "~")) else text  # of a path the last part tells


def pool(runs: Sequence[Repetition], how: Resampling, *, grouped: bool = True, folds: bool = True) -> Pooled:
    """All repetitions on one part as one estimate: folds joined, repetitions averaged on the same resamples of groups.

    Args:
        runs: at least one. The first run of each fold is one repetition of the whole, the second another, and so on.
        how: resamples, confidence, seed.
        grouped: whether whole groups were cut into folds. ``folds``: whether parts of different folds may be joined; those of
            validation may not, because they overlap.
    """
    by_fold: dict[int, list[Repetition]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        by_fold.setdefault(run.fold, []).append(run)
    if len(by_fold) > 1 and not folds:
        return Pooled(None, "no interval: the validation parts of different folds overlap")
    repeated = min(len(own) for own in by_fold.values())
    left = len(runs) - repeated * len(by_fold)
    try:
        held = [_whole([own[place] for _, own in sorted(by_fold.items())], grouped) for place in range(repeated)]
        for other in held[1:]:
            require_same_images(held[0].predictions, other.predictions, ("the first run", "another"))
    except PredictionsError as error:
        return Pooled(None, f"no interval: {error}")
    held = [held[0], *(other.like(held[0].predictions) for other in held[1:])]
    drawn = mean_of([resample(one, how, full=False) for one in held])
    parts = []
    if len(by_fold) > 1:
        parts.append(f"out-of-fold predictions of {plural(len(by_fold), 'fold')} joined")
    if repeated > 1:
        parts.append(f"mean over {plural(repeated, 'repetition')} on the same resamples")
    if left:
        parts.append(f"{plural(left, 'run')} left out, whose fold is repeated more often than the others")
    return Pooled(drawn, "; ".join(parts) or "one run", held[0], tuple(held) if len(by_fold) > 1 else ())


def _whole(runs: Sequence[Repetition], grouped: bool) -> Decided:
    """One repetition: a run as it is, or the test parts of its folds, each decided at its own threshold."""
    if len(runs) == 1:
        return decide(runs[0].predictions, runs[0].threshold)
    joined = join_folds([run.predictions for run in runs], grouped=grouped)
    cut = np.array([run.threshold for run in runs])[joined.frame[FOLD].to_numpy(dtype=np.int64)]
    numbers = np.array([run.fold for run in runs])[joined.frame[FOLD].to_numpy(dtype=np.int64)]
    named = joined.with_frame(joined.frame.assign(**{FOLD: numbers}))
    return decide(named, joined.scores >= cut)


def best_of(
    names: Sequence[str],
    spreads: Sequence[Mapping[str, Any]],
    pooled: Sequence[Bootstrap | None],
    by: str,
    key: str,
    confidence: float,
) -> dict[str, Any]:
    """Which configuration is best on validation, and whether its lead is more than chance.

    Args:
        names: of the configurations. ``spreads``: mean, sd and n of the figure on validation. ``pooled``: its resamples there.
        by: what the figure is called. ``key``: its name among the resamples.

    Returns:
        ``configuration`` (number; the first of equals), ``by``, ``value``, ``second`` (number or None), ``lead``,
        ``difference`` (INTERVAL of best minus second on the same validation images, or None), ``clear`` and ``sentence``.
    """
    means = [-np.inf if spread["mean"] is None else float(spread["mean"]) for spread in spreads]
    order = sorted(range(len(means)), key=lambda number: (-means[number], number))
    best = order[0]
    found: dict[str, Any] = {"configuration": best, "by": by, "value": spreads[best]["mean"], "second": None}
    found |= {"lead": None, "difference": None, "clear": False}
    if len(order) == 1:
        return found | {
            "sentence": f"There is one configuration, {names[0]}; its mean {by} on validation is {_mean(spreads[best])}."
        }
    second = order[1]
    start = f"Best on validation: {names[best]}, with a mean {by} of {_mean(spreads[best])}"
    if spreads[second]["mean"] is None or spreads[best]["mean"] is None:
        return found | {"sentence": f"{start}; no other has one."}
    lead = means[best] - means[second]
    found |= {"second": second, "lead": lead}
    difference = _paired(pooled[best], pooled[second], key, confidence)
    sds = [float(spreads[number]["sd"]) for number in (best, second) if spreads[number]["sd"] is not None]
    reasons = []
    if sds and lead <= max(sds):
        reasons.append(f"is within the spread of its runs (sd {max(sds):.3f})")
    if not sds:
        reasons.append("rests on one run each, so that the spread over seeds is not known")
    if difference is not None and difference["low"] is not None and difference["low"] <= 0.0:
        reasons.append(f"has an interval on the validation images that holds 0, {signed(difference)}")
    text = f"{start}, {lead:.3f} above {names[second]}"
    if reasons:
        text += f". The lead {' and '.join(reasons)}, so there is no evidence that it is the better one"
    return found | {
        "difference": difference,
        "clear": not reasons,
        "sentence": f"{text}. Test figures played no part in this.",
    }


def _mean(spread: Mapping[str, Any]) -> str:
    if spread["sd"] is None:
        return figure(spread["mean"])
    return f"{spread['mean']:.3f} (sd {spread['sd']:.3f} over {spread['n']} runs)"


def _paired(best: Bootstrap | None, second: Bootstrap | None, key: str, confidence: float) -> dict[str, Any] | None:
    """Best minus second where both rest on the same resamples of the same images."""
    if best is None or second is None or best.pairing != second.pairing:
        return None
    return difference_interval(key, best, second, confidence).to_dict()

"""metrics.json: every figure of a run with its interval, and what they mean in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import Statistics, Weights, bootstrap, interval, proportion_interval
from evaluation.metrics import Scores
from evaluation.predictions import Predictions
from evaluation.threshold import OperatingPoint, promise
from evaluation.worries import baseline_sentence, collect_worries, shift_sentence

POINT_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "f1",
    "mcc",
    "group_recall",
)
_PROPORTIONS = frozenset({"accuracy", "sensitivity", "specificity", "ppv", "npv", "group_recall"})
_SMALLEST_SUBGROUP = 10  # groups; below that a figure says more about the few than about the subgroup
Draws = dict[str, Statistics]


def evaluate_run(
    val: Predictions,
    test: Predictions,
    point: OperatingPoint,
    *,
    baseline_val: Predictions,
    baseline_test: Predictions,
    domain_aucs: dict[str, float | None],
    title: str,
    task: str,
    model: str,
    phantom: bool,
    group_name: str = "patient",
    bootstrap_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    subgroup_columns: Sequence[str] = (),
) -> dict[str, Any]:
    """All metrics of a run, as plain values for JSON (a figure that cannot be computed is null, never NaN).

    Args:
        val, test: predictions of the model. The operating point was fixed on ``val``; ``test`` cannot change it.
        point: the locked operating point.
        baseline_val, baseline_test: predictions of the thumbnail baseline on the very same images.
        domain_aucs: by class, how well thumbnails tell training from test images; None where there are too few.
        title, task, model: names for the report. ``phantom``: True for generated data.
        group_name: what a group is called, for example ``patient``.
        bootstrap_resamples, confidence, seed: of the intervals.
        subgroup_columns: metadata columns to break the test results down by.

    Raises:
        ValueError: if the baseline's images are not the model's.
    """
    for ours, theirs, part in ((val, baseline_val, "val"), (test, baseline_test, "test")):
        if not np.array_equal(ours.frame["image_id"].to_numpy(str), theirs.frame["image_id"].to_numpy(str)):
            raise ValueError(f"the baseline's {part} predictions are not for the same images in the same order")
    options = _Options(point, bootstrap_resamples, confidence, seed, group_name)
    splits: dict[str, Any] = {}
    draws: Draws = {}
    splits["val"], draws["val"] = _split(val, options, ())
    splits["test"], draws["test"] = _split(test, options, subgroup_columns)
    baseline_splits: dict[str, Any] = {}
    baseline_draws: Draws = {}
    baseline_splits["val"], baseline_draws["val"] = _split(baseline_val, options, ())
    baseline_splits["test"], baseline_draws["test"] = _split(baseline_test, options, ())
    shift = _shift(splits, draws, domain_aucs, confidence)
    baseline = _baseline(splits, draws, baseline_splits, baseline_draws, confidence)
    promised = promise(point, test)
    return {
        "schema": 1,
        "title": title,
        "phantom": phantom,
        "task": task,
        "model": model,
        "classes": list(test.classes),
        "positive_class": test.positive_class,
        "negative_class": test.negative_class,
        "group_name": group_name,
        "confidence": confidence,
        "bootstrap": {"resamples": bootstrap_resamples, "unit": group_name, "method": "percentile", "seed": seed},
        "threshold": point.to_dict(),
        "splits": splits,
        "shift": shift,
        "baseline": baseline,
        "promise": asdict(promised) if promised else None,
        "worries": collect_worries(
            splits,
            shift,
            baseline,
            point,
            asdict(promised) if promised else None,
            phantom=phantom,
            group_name=group_name,
        ),
    }


class _Options:
    """What is the same for every part."""

    def __init__(self, point: OperatingPoint, resamples: int, confidence: float, seed: int, group_name: str) -> None:
        self.point, self.resamples, self.confidence = point, resamples, confidence
        self.seed, self.group_name = seed, group_name
        self.thresholds = {"at_0.5": 0.5, "at_threshold": point.threshold}


def _statistics(scores: Scores, options: _Options, weights: Weights) -> Statistics:
    found = {**scores.ranking(weights), **scores.probability_losses(weights)}
    for name, threshold in options.thresholds.items():
        at = scores.at_threshold(weights, threshold, options.point.group_score)
        found |= {f"{name}/{metric}": at[metric] for metric in POINT_METRICS}
    return found


def _split(part: Predictions, options: _Options, columns: Sequence[str]) -> tuple[dict[str, Any], Statistics]:
    """One part's figures, and their bootstrap draws for comparisons."""
    scores = Scores(part.labels, part.scores, part.groups)
    values = {name: float(value[0]) for name, value in _statistics(scores, options, scores.ones()).items()}
    draws = bootstrap(
        lambda weights: _statistics(scores, options, weights),
        part.labels,
        part.groups,
        resamples=options.resamples,
        seed=options.seed,
    )
    positive_groups = len(set(part.groups[part.labels == 1].tolist()))
    found: dict[str, Any] = {
        "n": len(part),
        "n_positive": int(part.labels.sum()),
        "n_groups": part.n_groups,
        "n_positive_groups": positive_groups,
        "prevalence": float(part.labels.mean()),
    }
    for name in ("auroc", "average_precision", "brier", "log_loss"):
        found[name] = interval(values[name], draws[name], options.confidence)
    groups_behind = {"sensitivity": positive_groups, "group_recall": positive_groups,
                     "specificity": len(set(part.groups[part.labels == 0].tolist()))}  # fmt: skip
    for name, threshold in options.thresholds.items():
        entry: dict[str, Any] = {"threshold": threshold, **scores.counts(threshold)}
        for metric in POINT_METRICS:
            key = f"{name}/{metric}"
            if metric in _PROPORTIONS:
                behind = groups_behind.get(metric, part.n_groups)
                entry[metric] = proportion_interval(values[key], draws[key], behind, options.confidence)
            else:
                entry[metric] = interval(values[key], draws[key], options.confidence)
        found[name] = entry
    found["by"] = {column: _subgroups(part, column, options) for column in columns}
    return found, draws


def _subgroups(part: Predictions, column: str, options: _Options) -> list[dict[str, Any]]:
    """Recall of positives and specificity of negatives in every subgroup, at the one locked threshold."""
    rows = []
    for value in sorted(part.frame[column].astype(str).unique()):
        mask = (part.frame[column].astype(str) == value).to_numpy()
        inside = Predictions(part.frame[mask].reset_index(drop=True), part.classes, part.positive_class)
        row: dict[str, Any] = {"value": value, "n": len(inside), "n_groups": inside.n_groups}
        if inside.n_groups < _SMALLEST_SUBGROUP:
            rows.append({**row, "suppressed": True})
            continue
        scores = Scores(inside.labels, inside.scores, inside.groups)

        def at(weights: Weights, scores: Scores = scores) -> Statistics:
            return scores.at_threshold(weights, options.point.threshold, options.point.group_score)

        point = at(scores.ones())
        draws = bootstrap(at, inside.labels, inside.groups, resamples=options.resamples, seed=options.seed)
        for metric, mine in (("sensitivity", inside.labels == 1), ("specificity", inside.labels == 0)):
            if mine.any():
                behind = len(set(inside.groups[mine].tolist()))
                row[metric] = proportion_interval(float(point[metric][0]), draws[metric], behind, options.confidence)
        rows.append(row)
    return rows


def _difference(value: float, draws: NDArray[np.float64], confidence: float) -> dict[str, Any]:
    return interval(value, draws, confidence)


def _value(figure: dict[str, Any]) -> float:
    return float("nan") if figure["value"] is None else float(figure["value"])


def _shift(
    splits: dict[str, Any], draws: Draws, domain_aucs: dict[str, float | None], confidence: float
) -> dict[str, Any]:
    """Validation beside test. The parts share no group, so their draws are independent and may be subtracted."""
    shuffled = np.random.default_rng(1).permutation(len(draws["test"]["auroc"]))
    table: list[dict[str, Any]] = []
    for name, key in (
        ("AUROC", "auroc"),
        ("Sensitivity at the threshold", "at_threshold/sensitivity"),
        ("Specificity at the threshold", "at_threshold/specificity"),
    ):
        sides = {part: _find(splits[part], key) for part in ("val", "test")}
        # Both parts were drawn with the same seed; permuting one side removes any coupling between the draws.
        difference = draws["test"][key][shuffled] - draws["val"][key]
        value = _value(sides["test"]) - _value(sides["val"])
        table.append({"metric": name, **sides, "difference": _difference(value, difference, confidence)})
    found: dict[str, Any] = {"table": table, "domain_auc": domain_aucs}
    found["detected"] = any(_fell(row["difference"]) for row in table)
    found["sentence"] = shift_sentence(found)
    return found


def _fell(difference: dict[str, Any], least: float = 0.05) -> bool:
    """A drop that is larger than ``least`` and than chance."""
    return difference["high"] is not None and difference["high"] < 0 and difference["value"] < -least


def _baseline(
    splits: dict[str, Any], draws: Draws, theirs: dict[str, Any], their_draws: Draws, confidence: float
) -> dict[str, Any]:
    """Model minus baseline on the test part, with the same draws for both."""
    value = _value(splits["test"]["auroc"]) - _value(theirs["test"]["auroc"])
    paired = draws["test"]["auroc"] - their_draws["test"]["auroc"]
    difference = _difference(value, paired, confidence)
    found: dict[str, Any] = {
        "name": "logistic regression on 16x16 thumbnails",
        "val": {name: item for name, item in theirs["val"].items() if name not in ("at_threshold", "by")},
        "test": {name: item for name, item in theirs["test"].items() if name not in ("at_threshold", "by")},
        "difference": {"auroc": difference},
        "clears": difference["low"] is not None and difference["low"] > 0,
    }
    found["sentence"] = baseline_sentence(found, splits)
    return found


def _find(split: dict[str, Any], key: str) -> dict[str, Any]:
    found: Any = split
    for name in key.split("/"):
        found = found[name]
    return dict(found)


def format_interval(figure: dict[str, Any], digits: int = 3) -> str:
    """``0.953 (0.936-0.968)``; a dash where there is no value, the value alone where there is no interval."""
    if figure["value"] is None:
        return "-"
    if figure["low"] is None or figure["high"] is None:
        return f"{figure['value']:.{digits}f}"
    return f"{figure['value']:.{digits}f} ({figure['low']:.{digits}f}-{figure['high']:.{digits}f})"

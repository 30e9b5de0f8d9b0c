"""Runs as configurations: what makes one, what its repetitions say together, and which is best on validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evaluation.aggregation import Repetition, best_of, configurations, pool
from evaluation.bootstrap import Bootstrap, Resampling, bootstrap
from evaluation.ensembles import join_folds, pooled_summary, spread
from evaluation.figures_aggregate import configuration_dots
from evaluation.metrics import auroc
from evaluation.threshold import choose_operating_point
from tests.workflow.fake_runs import TWO, scored

HOW = Resampling(200, 0.95, (0, 1))


def config(**changes: Any) -> dict[str, Any]:
    """A small config.yaml; ``loss__name`` sets loss.name."""
    made: dict[str, Any] = {
        "seed": 0,
        "model": {"name": "resnet18", "weights": "/a/b/first.safetensors", "hidden": [64]},
        "loss": {"name": "cross_entropy", "focal_gamma": 2.0},
        "split": {"fold": 0, "seed": 0},
        "data": {"root": "/x", "num_workers": 2, "fraction": None},
        "evaluation": {"bootstrap": 100, "tta": "none"},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        made[section] = {**made[section], name: value} if name else value
    return made


def test_seed_fold_paths_and_judging_make_no_configuration() -> None:
    elsewhere = config(data__root="/y", data__num_workers=0)
    found = configurations(
        [config(), config(seed=1), config(split__fold=2), elsewhere, config(evaluation__bootstrap=5)]
    )
    assert [one.members for one in found] == [(0, 1, 2, 3, 4)]
    assert found[0].name == "resnet18"
    assert found[0].settings == {}


def test_configurations_are_named_by_the_keys_that_tell_them_apart() -> None:
    runs = [config(), config(loss__name="focal", loss__focal_gamma=3.0), config(seed=3), config(evaluation__tta="flip")]
    found = configurations(runs)
    assert [one.members for one in found] == [(0, 2), (1,), (3,)]
    assert [one.name for one in found] == [
        "loss.name=cross_entropy, evaluation.tta=none",
        "loss.name=focal, evaluation.tta=none",
        "loss.name=cross_entropy, evaluation.tta=flip",
    ]
    assert set(found[0].settings) == {"loss.name", "loss.focal_gamma", "evaluation.tta"}


def test_values_in_names_are_short() -> None:
    found = configurations([config(), config(model__weights="/c/second.safetensors"), config(model__hidden=[])])
    assert found[1].name == "model.hidden=[64], model.weights=second.safetensors"
    assert found[2].name == "model.hidden=[], model.weights=first.safetensors"
    assert configurations([config(data__fraction=0.5), config()])[1].name == "data.fraction=null"


def test_a_key_that_another_version_did_not_write_is_not_compared() -> None:
    older = config()
    del older["loss"]["focal_gamma"]
    assert len(configurations([config(loss__focal_gamma=1.0), older])) == 1


def test_seeds_are_averaged_on_the_same_resamples() -> None:
    runs = [Repetition(scored(0, 80, seed, TWO), 0.4 + seed / 10, seed) for seed in range(3)]
    found = pool(runs, HOW)
    singles = [run.predictions for run in runs]
    values = [auroc(one.labels, one.scores) for one in singles]
    draws = [bootstrap(one.labels, one.scores, one.groups, {}, 200, (0, 1)).draws["auroc"] for one in singles]
    assert found.drawn is not None and found.whole is not None
    assert found.drawn.values["auroc"] == pytest.approx(np.mean(values))
    np.testing.assert_allclose(found.drawn.draws["auroc"], np.mean(draws, axis=0))
    recalls = [(one.scores[one.labels == 1] >= run.threshold).mean() for one, run in zip(singles, runs, strict=True)]
    assert found.drawn.values["sensitivity"] == pytest.approx(np.mean(recalls))
    assert found.note == "mean over 3 repetitions on the same resamples"
    assert found.joined == ()


def folds(seeds: tuple[int, ...] = (0,), count: int = 3) -> list[Repetition]:
    return [
        Repetition(scored(60 * fold, 60, seed, TWO), 0.4 + fold / 10, seed, fold)
        for seed in seeds
        for fold in range(count)
    ]


def test_folds_are_joined_as_the_ensemble_of_folds_joins_them() -> None:
    runs = folds()
    found = pool(list(reversed(runs)), HOW)
    joined = join_folds([run.predictions for run in runs])
    point = choose_operating_point(joined, rule="empirical", recall=0.9)
    expected = pooled_summary(joined, [run.threshold for run in runs], HOW, point)
    assert found.drawn is not None
    assert found.drawn.interval("auroc").to_dict() == expected["auroc"]
    for name in ("sensitivity", "specificity", "balanced_accuracy"):
        assert found.drawn.values[name] == pytest.approx(expected["at_threshold"][name]["value"])
    (held,) = found.joined
    assert len(held.predictions) == 180
    assert held.predictions.frame.groupby("fold").size().to_dict() == {0: 60, 1: 60, 2: 60}


def test_seeds_of_folds_are_joined_first_and_averaged_then() -> None:
    found = pool(folds((0, 1)), HOW)
    each = [pool(folds((seed,)), HOW) for seed in (0, 1)]
    assert found.drawn is not None and all(one.drawn is not None for one in each)
    expected = [one.drawn.values["auroc"] for one in each if one.drawn is not None]
    assert found.drawn.values["auroc"] == pytest.approx(np.mean(expected))
    assert len(found.joined) == 2


def test_a_fold_that_is_there_more_often_is_counted_once() -> None:
    found = pool([*folds(), Repetition(scored(0, 60, 7, TWO), 0.5, 7, 0)], HOW)
    assert "1 run left out" in found.note
    assert len(found.joined) == 1


def test_what_cannot_be_pooled_says_why() -> None:
    assert "overlap" in pool(folds(), HOW, folds=False).note
    others = pool([Repetition(scored(0, 60, 0, TWO), 0.5, 0), Repetition(scored(20, 60, 1, TWO), 0.5, 1)], HOW)
    assert others.drawn is None and "not tested on the same images" in others.note
    twice = pool([Repetition(scored(0, 60, 0, TWO), 0.5, 0, 0), Repetition(scored(0, 60, 1, TWO), 0.5, 0, 1)], HOW)
    assert twice.drawn is None and "is in the test part of folds" in twice.note


def drawn(value: float, noise: float, pairing: str = "one") -> Bootstrap:
    rng = np.random.default_rng(0)
    draws = value + noise * rng.normal(size=400)
    return Bootstrap({"auroc": value}, {"auroc": draws}, {}, pairing=pairing)


def test_the_best_on_validation_is_clear_or_not() -> None:
    def best(spreads: list[dict[str, Any]], pooled: list[Bootstrap | None]) -> dict[str, Any]:
        return best_of(["first", "second"], spreads, pooled, "AUROC", "auroc", 0.95)

    clear = best([spread([0.80, 0.81]), spread([0.90, 0.91])], [drawn(0.805, 0.01), drawn(0.905, 0.012)])
    assert (clear["configuration"], clear["second"], clear["clear"]) == (1, 0, True)
    assert clear["lead"] == pytest.approx(0.1)
    assert "no evidence" not in clear["sentence"]
    spreading = best([spread([0.85, 0.95]), spread([0.88, 0.91])], [None, None])
    assert not spreading["clear"] and "within the spread of its runs (sd 0.071)" in spreading["sentence"]
    single = best([spread([0.80]), spread([0.90])], [drawn(0.80, 0.01), drawn(0.90, 0.012)])
    assert not single["clear"] and "one run each" in single["sentence"]
    noisy = best([spread([0.80, 0.801]), spread([0.82, 0.821])], [drawn(0.80, 0.01), drawn(0.82, 0.05)])
    assert not noisy["clear"] and "holds 0" in noisy["sentence"]
    apart = best([spread([0.80, 0.801]), spread([0.82, 0.821])], [drawn(0.80, 0.01), drawn(0.82, 0.05, "two")])
    assert apart["clear"] and apart["difference"] is None  # other images: no pairs


def test_one_configuration_is_best_without_a_second() -> None:
    found = best_of(["only"], [spread([0.9])], [None], "AUROC", "auroc", 0.95)
    assert (found["configuration"], found["second"]) == (0, None)
    undefined = best_of(["a", "b"], [spread([None]), spread([0.6])], [None, None], "AUROC", "auroc", 0.95)
    assert undefined["configuration"] == 1 and undefined["lead"] is None


def test_dots_show_every_run_and_refuse_nothing_to_draw() -> None:
    runs = [{"configuration": k // 2, "test": {"AUROC": {"value": 0.8 + k / 50}}} for k in range(4)]
    rows = [
        {
            "number": k,
            "name": f"model {k}",
            "test": {"AUROC": spread([0.8, 0.82])},
            "pooled": {"test": {"figures": {"AUROC": {"value": 0.81, "low": 0.7, "high": 0.9}} if k else None}},
        }
        for k in range(2)
    ]
    figure = configuration_dots(rows, runs, "AUROC", best=1, phantom=True)
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [np.size(line.get_xdata()) for line in dots] == [2, 2]
    assert str(figure.get_label()).startswith("Phantom data - AUROC on test")
    low, high = figure.axes[0].get_xlim()
    assert low < 0.7 and high > 0.9
    with pytest.raises(ValueError, match="null in every run"):
        configuration_dots(rows, [{"configuration": 0, "test": {"AUROC": {"value": None}}}], "AUROC")

"""Multiruns brought into one table: mixtures of settings, seeds and folds; what is left out, what is refused, what is next."""

from __future__ import annotations

import io
import shutil
import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from conf.predict_options import parsed as predict_options
from ensemble import request_of
from evaluation.predictions import read_predictions
from tests.workflow.fake_runs import THREE, TWO, change, fake_run, read
from tests.workflow.test_comparing import assert_good_page
from workflow import aggregate_sources
from workflow.aggregating import aggregate_runs, print_aggregate
from workflow.ensembles import Request, build_ensemble

COMMAND = "python evaluate.py aggregate=multirun"


@pytest.fixture(autouse=True)
def _no_figure_files(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Figures as files take most of the time; they are written where a test looks at them."""
    if request.node.name != "test_folds_are_joined_and_written":
        monkeypatch.setattr("evaluation.aggregate_page.save_figures", lambda figures, folder: None)
        monkeypatch.setattr("evaluation.report.save_figures", lambda figures, folder: None)


def aggregated(source: Path | list[Path], output: Path, **options: Any) -> dict[str, Any]:
    content, folder = aggregate_runs(source, command=COMMAND, output=output, **options)
    assert folder == output
    assert read(output / "aggregate.json") == content
    assert_good_page(output / "report.html")
    return content


def printed(content: dict[str, Any], width: int = 220) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_aggregate(content, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def folds(folder: Path, count: int = 3, classes: list[str] = TWO, seed: int = 0) -> list[Path]:
    return [
        fake_run(
            folder / str(fold),
            seed=seed,
            classes=classes,
            test=(fold * 60, 60),
            val=((fold + 1) % count * 60, 60),
            split_sha256=f"split{fold}",
            kind="kfold",
            folds=count,
            fold=fold,
        )
        for fold in range(count)
    ]


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_seeds_of_one_configuration(classes: list[str], tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / "m" / str(seed), seed=seed, classes=classes) for seed in range(3)]
    content = aggregated(tmp_path / "m", tmp_path / "out", bootstrap=200)
    (row,) = content["configurations"]
    values = [read(run / "metrics.json")["splits"]["test"]["auroc"]["value"] for run in runs]
    assert row["test"]["AUROC"] == pytest.approx(
        {"mean": statistics.mean(values), "sd": statistics.stdev(values), "n": 3}
    )
    pooled = row["pooled"]["test"]
    assert pooled["figures"]["AUROC"]["value"] == pytest.approx(statistics.mean(values))
    assert pooled["figures"]["AUROC"]["low"] < statistics.mean(values) < pooled["figures"]["AUROC"]["high"]
    assert pooled["n"] == 80
    balanced = row["test"]["balanced accuracy"]["mean"]
    assert pooled["figures"]["balanced accuracy"]["value"] == pytest.approx(balanced)
    assert content["best"]["by"] == ("macro AUROC" if classes == THREE else "AUROC")
    assert "simple_cnn, 3 seeds" in content["headline"]
    assert len(pd.read_csv(tmp_path / "out" / "aggregate.csv")) == 3
    assert "3 seeds" in printed(content)


def test_folds_are_joined_and_written(tmp_path: Path) -> None:
    runs = folds(tmp_path / "m")
    content = aggregated(tmp_path / "m", tmp_path / "out")
    (row,) = content["configurations"]
    assert (row["folds"], row["folds_planned"]) == ([0, 1, 2], 3)
    assert row["out_of_fold"] == ["predictions/out_of_fold.csv"]
    assert (tmp_path / "out" / "figures" / "test_auroc.png").is_file()
    joined = read_predictions(tmp_path / "out" / "predictions" / "out_of_fold.csv", TWO, "malignant")
    assert len(joined) == 180 and joined.frame["image_id"].is_unique
    for fold, run in enumerate(runs):
        own = pd.read_csv(run / "predictions" / "test.csv").sort_values("image_id")
        ours = joined.frame[joined.frame["fold"] == fold].sort_values("image_id")
        assert ours["prob_malignant"].tolist() == own["prob_malignant"].tolist()
    assert row["pooled"]["val"]["figures"] is None
    ensemble, _ = build_ensemble(Request(runs, "c", tmp_path / "ensemble"))
    for name, interval in ensemble["ensemble"]["figures"].items():
        assert row["pooled"]["test"]["figures"][name]["value"] == pytest.approx(interval["value"])
    assert any(item["title"] == "Folds are not independent" for item in content["worries"])


def test_a_mixture_of_settings_seeds_and_failures(tmp_path: Path) -> None:
    for number, (dropout, seed) in enumerate([(0.5, 0), (0.5, 1), (0.1, 0), (0.1, 1)]):
        change(fake_run(tmp_path / "m" / str(number), seed=seed) / "config.yaml", "model", "dropout", to=dropout)
    change(fake_run(tmp_path / "m" / "4") / "run.json", "status", to="interrupted")
    (tmp_path / "m" / "5").mkdir()
    (tmp_path / "m" / "5" / "run.json").write_text("{")
    content = aggregated(tmp_path / "m", tmp_path / "out")
    assert [row["name"] for row in content["configurations"]] == ["model.dropout=0.5", "model.dropout=0.1"]
    assert [row["n_runs"] for row in content["configurations"]] == [2, 2]
    assert [item["name"] for item in content["left_out"]] == ["4", "5"]
    assert "status interrupted" in content["left_out"][0]["reason"]
    # The same seeds give the same scores here, so that neither configuration leads.
    assert content["best"]["lead"] == 0.0 and not content["best"]["clear"]
    assert any(item["title"] == "The best is not clearly best" for item in content["worries"])
    table = pd.read_csv(tmp_path / "out" / "aggregate.csv")
    assert table["status"].tolist()[:4] == ["finished"] * 4 and len(table) == 6
    assert table["model.dropout"].tolist()[:4] == [0.5, 0.5, 0.1, 0.1]
    text = printed(content)
    assert "best on validation" in text and "2 runs left out" in text and "left out: 4: not finished" in text


def test_a_promise_that_a_run_broke_is_an_alarm_everywhere(tmp_path: Path) -> None:
    promises = ({"kept": True, "sentence": "It holds."}, {"kept": False, "sentence": "It missed 9 of 20."}, None)
    for seed, promise in enumerate(promises):
        change(fake_run(tmp_path / "m" / str(seed), seed=seed) / "metrics.json", "promise", to=promise)
    content = aggregated(tmp_path / "m", tmp_path / "out", bootstrap=200)
    assert [run["promise"] for run in content["runs"]] == list(promises)
    table = pd.read_csv(tmp_path / "out" / "aggregate.csv", keep_default_na=False)
    assert table["promise"].tolist() == ["kept", "broken", ""]
    (alarm,) = (item for item in content["worries"] if item["level"] == "alarm")
    assert alarm["title"] == "What the threshold promised is not kept: 1" and "It missed 9 of 20." in alarm["text"]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert (
        page.count('<span class="badge bad">broken</span>') == page.count('<span class="badge good">kept</span>') == 1
    )
    assert alarm["title"] in page
    text = printed(content)
    assert f"alarm: {alarm['title']}" in text and "promise kept 1 of 2" in text


def test_the_terminal_fits_a_narrow_window(tmp_path: Path) -> None:
    for number, (dropout, seed) in enumerate([(0.5, 0), (0.5, 1), (0.1, 0), (0.1, 1)]):
        change(fake_run(tmp_path / "m" / str(number), seed=seed) / "config.yaml", "model", "dropout", to=dropout)
    content = aggregated(tmp_path / "m", tmp_path / "out", bootstrap=200)
    lines = [line.rstrip() for line in printed(content, 100).splitlines()]
    copied = {f"  {item['command']}" for item in content["commands"]}
    assert copied <= set(lines), "commands stay on one line"
    assert max(len(line) for line in lines if line not in copied) <= 100


def test_validation_chooses_and_test_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflow.aggregate_sources.require_unchanged", lambda *judged: None)  # figures by hand
    for number, dropout in enumerate((0.5, 0.1)):
        run = fake_run(tmp_path / "m" / str(number))
        change(run / "config.yaml", "model", "dropout", to=dropout)
        for part, value in (("val", 0.6 + number / 10), ("test", 0.9 - number / 10)):
            change(run / "metrics.json", "splits", part, "auroc", "value", to=value)
    content = aggregated(tmp_path / "m", tmp_path / "out")
    assert content["configurations"][content["best"]["configuration"]]["name"] == "model.dropout=0.1"


def test_the_commands_are_ones_that_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("workflow.aggregate_sources.require_unchanged", lambda *judged: None)  # figures by hand
    for number, (dropout, seed) in enumerate([(0.5, 0), (0.5, 1), (0.1, 0)]):
        change(fake_run(tmp_path / "m" / str(number), seed=seed) / "config.yaml", "model", "dropout", to=dropout)
    change(tmp_path / "m" / "2" / "metrics.json", "splits", "val", "auroc", "value", to=0.1)
    content = aggregated(tmp_path / "m", tmp_path / "out")
    average, use, external, pair = (item["command"] for item in content["commands"])
    assert average == "python ensemble.py 'runs=[m/0,m/1]'"
    assert len(request_of(["runs=[m/0,m/1]"]).runs) == 2
    assert use.startswith("python predict.py run=m/") and use.endswith(" images=FOLDER")
    assert predict_options([*use.split()[2:-1], "images=m"]).runs[0].is_dir()
    assert external.startswith("python evaluate.py run=m/") and "task=lesions data.root=" in external
    assert pair == "python evaluate.py 'compare=[m/0,m/2]'"


def test_a_whole_multirun_is_averaged_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folds(tmp_path / "m")
    content = aggregated(Path("m"), tmp_path / "out")
    assert content["commands"][0]["command"] == "python ensemble.py runs=m"
    change(tmp_path / "m" / "2" / "run.json", "status", to="running")
    content = aggregated(Path("m"), tmp_path / "second")
    assert all("ensemble.py" not in item["command"] for item in content["commands"])
    assert any("fold 2 of 3 is missing" in item["text"] for item in content["worries"])


def test_baselines_are_not_sent_to_other_data(tmp_path: Path) -> None:
    change(fake_run(tmp_path / "m" / "0") / "config.yaml", "model", "name", to="baseline_hog_svm")
    content = aggregated(tmp_path / "m", tmp_path / "out")
    assert content["commands"] == []


def test_runs_are_found_deep_and_in_lists_each_once(tmp_path: Path) -> None:
    first = fake_run(tmp_path / "runs" / "a" / "date" / "0")
    fake_run(tmp_path / "runs" / "b" / "1", seed=1)
    content = aggregated([tmp_path / "runs", first], tmp_path / "out")
    assert [run["name"] for run in content["runs"]] == ["a/date/0", "b/1"]


def test_an_ensemble_is_left_out_with_a_hint(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / "m" / str(seed), seed=seed) for seed in range(2)]
    build_ensemble(Request(runs, "c", tmp_path / "m" / "ensemble"))
    content = aggregated(tmp_path / "m", tmp_path / "out")
    assert "compare=[A,B]" in content["left_out"][0]["reason"]


def test_what_cannot_be_aggregated_is_refused(tmp_path: Path) -> None:
    def refused(source: Path | list[Path], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            aggregate_runs(source, command=COMMAND, output=tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused(tmp_path / "nowhere", "there is no such folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no folder in it holds a run")
    change(fake_run(tmp_path / "m" / "0") / "run.json", "status", to="interrupted")
    refused(tmp_path / "m", "the only run is not finished")
    change(fake_run(tmp_path / "two" / "0") / "config.yaml", "task", "name", to="other")
    fake_run(tmp_path / "two" / "1")
    refused(tmp_path / "two", "different questions: task.name is other")
    with pytest.raises(ValueError, match="never overwritten"):
        aggregate_runs(tmp_path / "two" / "1", command=COMMAND, output=tmp_path / "two")


@pytest.mark.parametrize("name", ["metrics.json", "run.json", "config.yaml", "predictions/val.csv"])
@pytest.mark.parametrize("text", ["[]", "null", '{"splits": {}}', "a: [b"])
def test_one_damaged_run_does_not_end_the_whole(name: str, text: str, tmp_path: Path) -> None:
    for number in range(2):
        fake_run(tmp_path / "m" / str(number), seed=number)
    (tmp_path / "m" / "1" / name).write_text(text, encoding="utf-8")
    members, left_out = aggregate_sources.read(aggregate_sources.find([tmp_path / "m"]))
    assert [member.folder.name for member in members] == ["0"]
    assert [item["name"] for item in left_out] == ["1"] and left_out[0]["reason"]


def test_changed_scores_are_left_out(tmp_path: Path) -> None:
    for number in range(2):
        fake_run(tmp_path / "m" / str(number), seed=number)
    shutil.copy(tmp_path / "m" / "0" / "predictions" / "test.csv", tmp_path / "m" / "1" / "predictions")
    members, left_out = aggregate_sources.read(aggregate_sources.find([tmp_path / "m"]))
    assert len(members) == 1 and "is not what was judged" in left_out[0]["reason"]
    fake_run(tmp_path / "m" / "1", seed=1)
    change(tmp_path / "m" / "1" / "threshold.json", "threshold", to=0.5)
    members, left_out = aggregate_sources.read(aggregate_sources.find([tmp_path / "m"]))
    assert len(members) == 1 and "threshold is 0.5 in threshold.json" in left_out[0]["reason"]

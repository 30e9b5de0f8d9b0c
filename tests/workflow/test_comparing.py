"""Runs, ensembles and records compared: what is written, what is printed, what is refused."""

from __future__ import annotations

import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from tests.workflow.fake_runs import THREE, TWO, change, fake_run, read
from workflow.comparing import compare_runs, print_comparison
from workflow.ensembles import Request, build_ensemble
from workflow.judged_folder import read_judged
from workflow.reevaluation import rejudge

COMMAND = "python evaluate.py compare=[A,B]"


@pytest.fixture(autouse=True)
def _no_figure_files(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Figures as files take most of the time; they are written where a test looks at them."""
    if request.node.name != "test_the_page_stands_alone_and_says_what_the_file_says":
        monkeypatch.setattr("evaluation.comparison_page.save_figures", lambda figures, folder: None)
        monkeypatch.setattr("evaluation.report.save_figures", lambda figures, folder: None)


def compared(folders: list[Path], output: Path, **options: Any) -> dict[str, Any]:
    content, folder = compare_runs(folders, command=COMMAND, output=output, **options)
    assert folder == output
    return content


def printed(content: dict[str, Any], width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_comparison(content, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [fake_run(folder / str(seed), seed=seed) for seed in range(3)]


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_two_runs(classes: list[str], tmp_path: Path) -> None:
    pair = [fake_run(tmp_path / str(seed), seed=seed, classes=classes) for seed in (0, 1)]
    content = compared(pair, tmp_path / "out", bootstrap=200)
    assert read(tmp_path / "out" / "comparison.json") == content
    assert content["bootstrap"]["resamples"] == 200
    assert [run["letter"] for run in content["runs"]] == ["A", "B"]
    (found,) = content["pairs"]
    for number, run in enumerate(pair):
        own = read(run / "metrics.json")
        assert content["runs"][number]["threshold"] == own["threshold"]["threshold"]
        figures = content["runs"][number]["figures"]
        assert figures["auroc"]["value"] == pytest.approx(own["splits"]["test"]["auroc"]["value"])
        at = own["splits"]["test"]["at_threshold"]
        assert figures["sensitivity"]["value"] == pytest.approx(at["sensitivity"]["value"])
    assert found["mcnemar"]["unit"] == "lesion"
    assert ("macro_auroc" in content["runs"][0]["figures"]) == (classes == THREE)
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert len(scores) == 80
    right = (scores["called_positive_B"] == 1) == (scores["label"] == classes[1])
    assert right.sum() == found["agreement"]["overall"]["only_b"] + found["agreement"]["overall"]["both_right"]
    assert content["headline"] in printed(content)


class Headings(HTMLParser):
    """Levels of the headings of a page, and every address that it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if re.fullmatch(r"h[1-6]", tag):
            self.levels.append(int(tag[1]))
        self.loaded += [
            str(value) for name, value in attrs if name in ("src", "srcset") or (tag == "link" and name == "href")
        ]


def assert_good_page(path: Path) -> str:
    """One h1, no heading level left out, nothing loaded; returns the text."""
    text = path.read_text(encoding="utf-8")
    parser = Headings()
    parser.feed(text)
    assert parser.levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in zip(parser.levels, parser.levels[1:], strict=False))
    assert parser.loaded == []
    assert "not a medical device" in text
    assert len(text) < 5_000_000
    return text


def test_the_page_stands_alone_and_says_what_the_file_says(runs: list[Path], tmp_path: Path) -> None:
    content = compared(runs[:2], tmp_path / "out")
    text = assert_good_page(tmp_path / "out" / "report.html")
    assert content["headline"] in text
    for figure in ("differences_AB", "roc_AB", "scores_AB"):
        assert (tmp_path / "out" / "figures" / f"{figure}.svg").is_file()
    assert text.count('role="img"') == 3
    assert COMMAND in text


def test_more_than_two_are_set_against_the_first_with_adjusted_p(runs: list[Path], tmp_path: Path) -> None:
    content = compared(runs, tmp_path / "out")
    assert [(pair["first"], pair["second"]) for pair in content["pairs"]] == [(0, 1), (0, 2)]
    p = sorted(pair["p"] for pair in content["pairs"])
    adjusted = sorted(pair["p_adjusted"] for pair in content["pairs"])
    assert adjusted == pytest.approx([min(1.0, 2 * p[0]), max(min(1.0, 2 * p[0]), p[1])])
    assert "p values of AUROC adjusted by Holm's method" in content["headline"]
    assert "sensitivity and specificity are not adjusted" in content["headline"]
    assert_good_page(tmp_path / "out" / "report.html")
    text = printed(content)
    assert "B - A" in text and "C - A" in text


def test_a_broken_promise_is_an_alarm(runs: list[Path], tmp_path: Path) -> None:
    pair = [Path(shutil.copytree(run, tmp_path / run.name)) for run in runs[:2]]
    kept, flags = {"kept": True, "sentence": "It holds."}, {"kept": False, "sentence": "It flags too many."}
    change(pair[0] / "metrics.json", "promise", to=kept)
    change(pair[1] / "metrics.json", "promise", to={**kept, "specificity": flags})
    content = compared(pair, tmp_path / "out")
    assert content["runs"][0]["promise"] == {"kept": True, "sentence": "It holds."}
    assert content["runs"][1]["promise"] == {"kept": False, "sentence": "It flags too many."}
    alarm = content["worries"][0]
    assert (alarm["level"], alarm["title"]) == ("alarm", "What the threshold promised is not kept: B")
    page = assert_good_page(tmp_path / "out" / "report.html")
    assert (
        page.count('<span class="badge bad">broken</span>') == page.count('<span class="badge good">kept</span>') == 1
    )
    assert alarm["title"] in page and f"alarm: {alarm['title']}" in printed(content)


def test_the_terminal_fits_a_narrow_window(runs: list[Path], tmp_path: Path) -> None:
    text = printed(compared(runs, tmp_path / "out"), 80)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert not re.search(r"[+-]0\.000\b", text)


def test_an_ensemble_against_its_run(runs: list[Path], tmp_path: Path) -> None:
    _, ensemble = build_ensemble(Request(runs, "python ensemble.py", tmp_path / "ensemble"))
    content = compared([runs[0], ensemble], tmp_path / "out")
    assert content["runs"][1]["name"] == "simple_cnn, 3 runs as one"
    own = read(ensemble / "metrics.json")["ensemble"]["differences"]["auroc"]["value"]
    best = read(ensemble / "metrics.json")["ensemble"]["best"]
    if best == 0:
        row = next(row for row in content["pairs"][0]["differences"] if row["name"] == "auroc")
        assert row["difference"]["value"] == pytest.approx(own)


def test_two_cross_validations_are_compared_out_of_fold(tmp_path: Path) -> None:
    ensembles = []
    for seed in (0, 1):
        members = [
            fake_run(
                tmp_path / f"{seed}{fold}",
                seed=seed,
                test=(fold * 60, 60),
                val=((fold + 1) % 3 * 60, 60),
                split_sha256=f"split{fold}",
                kind="kfold",
                folds=3,
                fold=fold,
            )
            for fold in range(3)
        ]
        ensembles.append(build_ensemble(Request(members, "c", tmp_path / f"e{seed}"))[1])
    content = compared(ensembles, tmp_path / "out")
    assert content["pairs"][0]["n"] == 180
    assert content["runs"][0]["threshold"] is None
    pooled = read(ensembles[0] / "metrics.json")["pooled"]["at_threshold"]
    assert content["runs"][0]["figures"]["specificity"]["value"] == pytest.approx(pooled["specificity"]["value"])
    assert "of each fold" in assert_good_page(tmp_path / "out" / "report.html")


def test_a_record_without_a_run_or_validation_is_compared(runs: list[Path], tmp_path: Path) -> None:
    record = tmp_path / "record"
    shutil.copytree(runs[1], record)
    for name in ("run.json", "config.yaml", "threshold.json", "predictions/val.csv"):
        (record / name).unlink()
    change(record / "metrics.json", "test_kind", to="given")
    change(record / "metrics.json", "task", to="somebody else's file")
    content = compared([runs[0], record], tmp_path / "out")
    assert content["runs"][1]["name"] == "simple_cnn"


def test_one_run_at_two_thresholds_is_told_apart(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow.records.write_report", lambda folder: folder)
    by_hand = {"rule": "fixed", "value": 0.99}
    _, again = rejudge(runs[0], command="x", output=tmp_path / "again", threshold=by_hand, judging={"bootstrap": 100})
    content = compared([runs[0], again], tmp_path / "out")
    assert content["runs"][1]["name"] == "simple_cnn, seed 0, threshold 0.99"
    assert content["pairs"][0]["same_scores"] and not content["pairs"][0]["identical"]
    assert content["headline"].startswith("Both give every image the same score")


def test_what_the_runs_were_trained_on_is_compared_too(runs: list[Path], tmp_path: Path) -> None:
    other = fake_run(tmp_path / "other", seed=1, split_sha256="another")
    content = compared([runs[0], other], tmp_path / "out")
    assert any(item["title"] == "Trained on different data" for item in content["worries"])


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (lambda run: change(run / "run.json", "status", to="interrupted"), r"not finished \(status interrupted\)"),
        (lambda run: (run / "metrics.json").unlink(), "metrics.json is missing"),
        (lambda run: (run / "metrics.json").write_text("{"), "cannot be read"),
        (lambda run: (run / "metrics.json").write_text("{}"), "is no judged run"),
        (lambda run: (run / "predictions" / "test.csv").unlink(), r"predictions/test.csv is missing"),
        (lambda run: shorten(run / "predictions" / "test.csv"), "it holds 79 images; metrics.json counted 80"),
        (lambda run: change(run / "metrics.json", "threshold", "threshold", to=0.99), "0.99 in metrics.json"),
        (lambda run: change(run / "metrics.json", "classes", to=5), "other is damaged"),
        (lambda run: change(run / "metrics.json", "splits", to={}), "other is damaged"),
        (lambda run: change(run / "metrics.json", "bootstrap", to={}), "other is damaged"),
        (lambda run: (run / "metrics.json").write_text("[]"), "metrics.json is damaged"),
        (lambda run: (run / "run.json").write_text("null"), "run.json is damaged"),
        (lambda run: turned(run / "predictions" / "test.csv"), "test.csv is not what was judged: its AUROC is"),
        (lambda run: change(run / "metrics.json", "task", to="pneumonia"), "task is lesions in .* and pneumonia in"),
        (lambda run: change(run / "metrics.json", "positive", to=["benign"]), "positive is .*malignant.* and .*benign"),
        (lambda run: shutil.rmtree(run), "there is no such folder"),
    ],
)
def test_bad_folders_are_refused(breaking: Any, message: str, runs: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    breaking(other)
    with pytest.raises(ValueError, match=message):
        compare_runs([runs[0], other], command=COMMAND, output=tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) in (["other"], [])


def turned(path: Path) -> None:
    """The scores of the two classes, one for the other: of the same images, and as many."""
    frame = pd.read_csv(path)
    frame[["prob_benign", "prob_malignant"]] = frame[["prob_malignant", "prob_benign"]].to_numpy()
    frame.to_csv(path, index=False)


def shorten(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def test_other_test_images_are_refused_with_an_example(runs: list[Path], tmp_path: Path) -> None:
    other = fake_run(tmp_path / "other", seed=1, test=(220, 80))
    with pytest.raises(ValueError, match=r"compare: .*20 only in .* and 20 only in .*'i0200'"):
        compare_runs([runs[0], other], command=COMMAND, output=tmp_path / "out")


def test_too_few_twice_and_an_old_output_are_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least two"):
        compare_runs(runs[:1], command=COMMAND, output=tmp_path / "out")
    with pytest.raises(ValueError, match="given twice"):
        compare_runs([runs[0], runs[0]], command=COMMAND, output=tmp_path / "out")
    with pytest.raises(ValueError, match="never overwritten"):
        compare_runs(runs[:2], command=COMMAND, output=runs[2])


def test_reading_changes_nothing_in_a_run(runs: list[Path], tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for run in runs for path in run.rglob("*")}
    compared(runs[:2], tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for run in runs for path in run.rglob("*")} == before
    assert read_judged(runs[0]).name == "simple_cnn, seed 0"

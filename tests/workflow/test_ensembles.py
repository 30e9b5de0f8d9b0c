"""Ensembles of runs written by hand: what is made of them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from ensemble import UsageError, find_runs, parsed
from evaluation.ensembles import join_folds
from evaluation.metrics import auroc
from evaluation.predictions import read_predictions
from evaluation.threshold import choose_operating_point
from tests.workflow.fake_runs import THREE, TWO, change, fake_run, read, write
from workflow import official_test
from workflow.ensemble_table import print_ensemble
from workflow.ensembles import Request, build_ensemble, whole_folder
from workflow.members import kind_of, read_member, read_members

pytestmark = pytest.mark.usefixtures("no_figure_files")


def seeds(folder: Path, count: int = 3, **options: Any) -> list[Path]:
    return [fake_run(folder / str(seed), seed=seed, **options) for seed in range(count)]


def folds(folder: Path, count: int = 3, classes: list[str] = TWO, size: int = 60, pool: str = "all") -> list[Path]:
    """Fold k tests images k * size and up, and validates on others."""
    return [
        fake_run(
            folder / str(fold),
            classes=classes,
            test=(fold * size, size),
            val=((fold + 1) % count * size, size),
            split_sha256=f"split{fold}",
            kind="kfold",
            folds=count,
            fold=fold,
            pool=pool,
        )
        for fold in range(count)
    ]


def made(runs: list[Path], output: Path, **options: Any) -> dict[str, Any]:
    metrics, folder = build_ensemble(Request(runs, "python ensemble.py runs=...", output, **options))
    assert folder == output
    return metrics


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_seeds_are_averaged_with_a_threshold_of_their_own(classes: list[str], tmp_path: Path) -> None:
    runs, output = seeds(tmp_path / "runs", classes=classes), tmp_path / "out" / "mean"
    metrics = made(runs, output)
    frames = [pd.read_csv(run / "predictions" / "val.csv") for run in runs]
    column = f"prob_{classes[1]}"
    val = read_predictions(output / "predictions" / "val.csv", classes, classes[1])
    assert np.allclose(val.frame[column], np.mean([frame[column] for frame in frames], axis=0), rtol=1e-15)
    expected = choose_operating_point(val, rule="empirical", recall=0.9, group_name="lesion")
    assert metrics["threshold"] == expected.to_dict()
    assert read(output / "threshold.json")["threshold"] == expected.threshold
    assert expected.threshold not in [read(run / "threshold.json")["threshold"] for run in runs]
    held = metrics["ensemble"]
    singles = [member["figures"]["AUROC"]["value"] for member in held["members"]]
    assert held["spread"]["AUROC"]["mean"] == pytest.approx(np.mean(singles))
    assert held["best"] == int(
        np.argmax([member["val"]["macro AUROC" if classes == THREE else "AUROC"] for member in held["members"]])
    )
    assert held["differences"]["auroc"]["value"] == pytest.approx(
        metrics["splits"]["test"]["auroc"]["value"] - singles[held["best"]]
    )
    assert held["sentence"] in [item["text"] for item in metrics["worries"]]
    assert f"Mean of {len(runs)} runs" in (output / "report.html").read_text(encoding="utf-8")


def test_the_record_names_every_member_and_nothing_is_left_beside(tmp_path: Path) -> None:
    output = tmp_path / "out" / "mean"
    made(seeds(tmp_path / "runs"), output)
    record = read(output / "run.json")
    assert record["status"] == "finished" and record["command"] == "python ensemble.py runs=..."
    assert [member["weights_sha256"] for member in record["members"]] == ["weights0", "weights1", "weights2"]
    assert (record["manifest_sha256"], record["split_sha256"]) == ("manifest", "same")
    assert "not a medical device" in record["notice"]
    assert [path.name for path in output.parent.iterdir()] == ["mean"]
    assert {"metrics.json", "threshold.json", "report.html"} <= {path.name for path in output.iterdir()}


def test_baselines_data_card_and_leak_are_those_of_the_runs(tmp_path: Path) -> None:
    runs = seeds(tmp_path / "runs", 2)
    leak = {
        "grouping": "none",
        "unit": "lesion",
        "test_images": 80,
        "test_images_with_group_in_train": 40,
        "share": 0.5,
    }
    for run in runs:
        change(run / "metrics.json", "leak", to=leak)
        for part in ("val", "test"):
            frame = pd.read_csv(run / "predictions" / f"{part}.csv", dtype={"image_id": str})
            frame[["prob_benign", "prob_malignant"]] = 0.5
            frame.to_csv(run / "predictions" / f"majority_{part}.csv", index=False)
    metrics = made(runs, tmp_path / "mean")
    assert [row["name"] for row in metrics["baselines"]] == ["majority"]
    assert metrics["worries"][0]["title"] == "LEAKY split" and metrics["leak"] == leak
    assert (tmp_path / "mean" / "predictions" / "majority_test.csv").is_file()


def test_another_rule_can_be_asked_for_and_disagreement_has_to_be_settled(tmp_path: Path) -> None:
    runs = seeds(tmp_path / "runs")
    assert made(runs, tmp_path / "a", recall=0.5)["threshold"]["target_recall"] == 0.5
    change(runs[1] / "config.yaml", "threshold", "recall", to=0.8)
    with pytest.raises(ValueError, match=r"threshold\.recall is 0\.9 in .*0 and 0\.8 in .*1\. Say which: recall=0\.9"):
        made(runs, tmp_path / "b")
    assert made(runs, tmp_path / "c", recall=0.9)["threshold"]["target_recall"] == 0.9
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_folds_are_pooled_each_image_once_at_its_folds_threshold(classes: list[str], tmp_path: Path) -> None:
    runs, output = folds(tmp_path / "runs", classes=classes), tmp_path / "cv"
    metrics = made(runs[::-1], output)
    joined = read_predictions(output / "predictions" / "out_of_fold.csv", classes, classes[1])
    assert joined.frame["image_id"].tolist() == [f"i{k:04d}" for k in range(180)]
    assert [member["fold"] for member in metrics["ensemble"]["members"]] == [0, 1, 2]
    assert metrics["pooled"]["auroc"]["value"] == pytest.approx(auroc(joined.labels, joined.scores))
    singles = [read(run / "metrics.json")["splits"]["test"] for run in runs]
    assert metrics["pooled"]["at_threshold"]["tp"] == sum(single["at_threshold"]["tp"] for single in singles)
    assert metrics["threshold"]["threshold"] == choose_operating_point(joined, rule="empirical", recall=0.9).threshold
    assert "approximate, not certified" in metrics["threshold"]["statement"]
    page = (output / "report.html").read_text(encoding="utf-8")
    assert metrics["threshold"]["statement"] in page
    assert str(tmp_path) not in page and f".../{'/'.join(runs[0].parts[-2:])}<" in page
    assert page.count("<tr>") >= 4 and "All classes" in page if classes == THREE else "All classes" not in page
    assert f"{metrics['ensemble']['spread']['AUROC']['mean']:.3f}" in page
    assert not (output / "predictions" / "test.csv").exists(), "no image was kept for an end test"


@pytest.mark.parametrize("kind", [seeds, folds])
def test_the_table_shows_every_member_their_spread_and_the_whole(kind: Any, tmp_path: Path) -> None:
    metrics = made(kind(tmp_path / "runs"), tmp_path / "out")
    console = Console(width=80, record=True, highlight=False, file=(tmp_path / "shown.txt").open("w"))
    print_ensemble(metrics, console)
    console.file.close()
    shown = (tmp_path / "shown.txt").read_text(encoding="utf-8")
    for member in metrics["ensemble"]["members"]:
        assert f"{member['figures']['AUROC']['value']:.3f}" in shown
    spread = metrics["ensemble"]["spread"]["AUROC"]
    assert f"{spread['mean']:.3f} ({spread['sd']:.3f})" in shown
    assert ("all folds pooled" if kind is folds else "ensemble - best single") in shown
    assert metrics["ensemble"]["sentence"].split()[0] in shown


def test_runs_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    runs = seeds(tmp_path / "runs")
    with pytest.raises(ValueError, match="an ensemble needs at least two"):
        read_members(runs[:1])
    with pytest.raises(ValueError, match="is given twice"):
        read_members([runs[0], runs[1], runs[0]])
    with pytest.raises(ValueError, match="there is no such folder"):
        read_members([runs[0], tmp_path / "nowhere"])
    for name, keys, value, message in (
        ("run.json", ["status"], "interrupted", r"not finished \(status interrupted\).*resume="),
        ("run.json", ["manifest_sha256"], "other", "different images, labels or groups: manifest_sha256"),
        ("config.yaml", ["task", "classes"], ["benign", "cancer"], r"task\.classes is .* Take runs of one task"),
    ):
        run = fake_run(tmp_path / name / keys[-1], seed=9)
        change(run / name, *keys, to=value)
        with pytest.raises(ValueError, match=message):
            read_members([runs[0], run])
    (runs[2] / "predictions" / "test.csv").unlink()
    with pytest.raises(ValueError, match=r"predictions/test\.csv is missing"):
        read_members(runs)


def test_other_splits_and_incomplete_folds_are_refused(tmp_path: Path) -> None:
    other = [fake_run(tmp_path / "a"), fake_run(tmp_path / "b", split_sha256="other")]
    with pytest.raises(ValueError, match=r"different splits: split_sha256 is same in .* and other in"):
        kind_of(read_members(other))
    runs = folds(tmp_path / "runs", 4)
    assert kind_of(read_members(runs)) == "folds"
    with pytest.raises(ValueError, match=r"folds 1, 3 of 4 are missing.*split\.fold=1,3 and -m"):
        kind_of(read_members([runs[0], runs[2]]))
    change(runs[3] / "config.yaml", "split", "fold", to=2)
    with pytest.raises(ValueError, match=r"fold 2 is there 2 times: .*2 and .*3"):
        kind_of(read_members(runs))
    change(runs[3] / "config.yaml", "model", "dropout", to=0.1)
    with pytest.raises(ValueError, match=r"model\.dropout is 0\.5 in .*0 and 0\.1 in .*3"):
        kind_of(read_members(runs))


def test_runs_are_found_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10", "9", "extra"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    (tmp_path / "no run").mkdir()
    assert [path.name for path in find_runs(tmp_path)] == ["9", "10", "extra"]
    with pytest.raises(ValueError, match="this is a single run"):
        find_runs(tmp_path / "9")
    with pytest.raises(ValueError, match="no folder in it holds a run"):
        find_runs(tmp_path / "no run")
    with pytest.raises(ValueError, match="there is no such folder"):
        find_runs(tmp_path / "nowhere")


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "new") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with whole_folder(tmp_path / "empty") as folder:
        (folder / "whole").write_text("x")
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["whole"]
    with pytest.raises(ValueError, match="never overwritten"), whole_folder(tmp_path / "empty"):
        pass


def test_the_command_line_is_read() -> None:
    assert parsed(["runs=multirun/x"]) == {"runs": Path("multirun/x")}
    options = parsed(["runs=[a/0, 'b c/1']", "output=out", "rule=empirical", "recall=0.9"])
    expected = {"runs": [Path("a/0"), Path("b c/1")], "output": Path("out"), "rule": "empirical", "recall": 0.9}
    assert options == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "runs is missing"),
        (["multirun/x"], "'multirun/x' is not of the form key=value"),
        (["run=x"], r"there is no key 'run'\. Did you mean 'runs'\? See: python ensemble.py --help"),
        (["runs=a", "runs=b"], r"runs is given twice.*runs=\[A,B\]"),
        (["runs="], "runs has no value"),
        (["runs=[a,b"], "only one bracket"),
        (["runs=a", "rule=best"], "rule=best: must be one of certified, crc, empirical, youden, fbeta, cost, fixed"),
        (["runs=a", "recall=much"], "recall=much: 'much' is not a number"),
        (["runs=a", "recall=1"], "recall=1: must be above 0 and below 1"),
    ],
)
def test_mistakes_on_the_command_line_are_named(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parsed(argv)


def test_official_test_images_of_a_group_that_was_trained_on_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = read_members(folds(tmp_path / "runs", pool="train"))
    joined = join_folds([member.predictions("test") for member in members])
    frame = joined.frame[["image_id", "group_id", "label"]].assign(split="train")
    locked = pd.DataFrame({"image_id": ["t0", "t1", "t2"], "group_id": ["g0003", "new", "new"], "label": "benign"})
    frame = pd.concat([locked.assign(split="test"), frame], ignore_index=True)
    asked: list[dict[str, Any]] = []

    def prepared(settings: dict[str, Any], progress: Any) -> Any:
        asked.append(settings)
        return SimpleNamespace(manifest=SimpleNamespace(frame=frame, sha256="manifest"), root=tmp_path)

    monkeypatch.setattr(official_test, "prepare", prepared)
    found = official_test.find_official_test(members, joined)
    assert found is not None
    assert (found.rows.tolist(), found.left_out) == ([1, 2], 1)
    assert asked[0]["split"]["refresh"] is False
    frame["split"] = "train"
    assert official_test.find_official_test(members, joined) is None, "there is no official test part"
    change(members[0].folder / "run.json", "manifest_sha256", to="other")
    with pytest.raises(ValueError, match="are not those of the runs: manifest_sha256 is manifest"):
        official_test.find_official_test([read_member(members[0].folder), *members[1:]], joined)
    write(members[0].folder / "data_card.json", {"unused": 0})
    assert official_test.find_official_test(members, joined) is None, "every image is in a fold: nothing was read"
    assert len(asked) == 3

"""The page of a run: complete, self-contained, honest about what it lacks."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation.report import NOTICE, ReportError, write_report

CUT = 0.25
HOSTILE = "test/PNEUMONIA/<script>alert(1)</script>.jpeg"


def interval(value: float | None, half: float = 0.03) -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - half, value + half)
    return {"value": value, "low": low, "high": high, "method": "group bootstrap", "dropped": 0}


def predictions(split: str, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    positive = np.arange(60) < 36
    scores = (1 / (1 + np.exp(-rng.normal(np.where(positive, 1.5, -1.5), 1.2)))).astype(np.float32).astype(float)
    return pd.DataFrame(
        {
            "image_id": [f"{split}/{i}.jpeg" for i in range(60)],
            "group_id": [f"{split}-{i // 2}" for i in range(60)],
            "label": np.where(positive, "PNEUMONIA", "NORMAL"),
            "subtype": np.where(positive, "virus", "normal"),
            "prob_NORMAL": 1 - scores,
            "prob_PNEUMONIA": scores,
        }
    )


def point(frame: pd.DataFrame, threshold: float) -> dict[str, Any]:
    positive, alarm = frame["label"] == "PNEUMONIA", frame["prob_PNEUMONIA"] >= threshold
    tp, fn = int((positive & alarm).sum()), int((positive & ~alarm).sum())
    fp, tn = int((~positive & alarm).sum()), int((~positive & ~alarm).sum())
    rates = {"sensitivity": tp / (tp + fn), "specificity": tn / (tn + fp), "ppv": tp / (tp + fp), "npv": tn / (tn + fn)}
    others = dict.fromkeys(("accuracy", "balanced_accuracy", "f1", "mcc", "group_recall"), 0.8)
    counts = {"threshold": threshold, "tp": tp, "fn": fn, "fp": fp, "tn": tn}
    return counts | {name: interval(value) for name, value in (rates | others).items()}


def split(frame: pd.DataFrame) -> dict[str, Any]:
    subgroups = [
        {"value": "virus", "n": 36, "n_groups": 18, "sensitivity": interval(0.93)},
        {"value": "fungus", "n": 3, "n_groups": 3, "suppressed": True, "sensitivity": interval(None)},
    ]
    return {
        "n": 60,
        "n_positive": 36,
        "n_groups": 30,
        "n_positive_groups": 18,
        "prevalence": 0.6,
        "auroc": interval(0.912),
        "average_precision": interval(0.934),
        "brier": interval(0.1),
        "log_loss": interval(0.3),
        "at_0.5": point(frame, 0.5),
        "at_threshold": point(frame, CUT),
        "by": {"subtype": subgroups},
    }


def threshold_json() -> dict[str, Any]:
    row = {"sensitivity": 0.9, "specificity": 0.8, "group_recall": 0.95, "note": "as it is"}
    return {
        "threshold": CUT,
        "rule": "certified",
        "requested_rule": "certified",
        "fallback_reason": None,
        "target_recall": 0.95,
        "confidence": 0.95,
        "group_score": "max",
        "n_groups": 18,
        "misses_allowed": 0,
        "recall_lower_bound": 0.951,
        "expected_recall": 0.98,
        "selection_optimistic": True,
        "positive_class": "PNEUMONIA",
        "negative_class": "NORMAL",
        "price": [{"rule": "0.5", "threshold": 0.5} | row, {"rule": "certified", "threshold": CUT} | row],
        "statement": "A statement about the threshold.",
    }


def metrics_json(frames: dict[str, pd.DataFrame], *, phantom: bool) -> dict[str, Any]:
    row = {"metric": "AUROC", "val": interval(0.95), "test": interval(0.912), "difference": interval(-0.038)}
    return {
        "schema": 1,
        "title": "Pneumonia on chest X-rays: simple_cnn",
        "phantom": phantom,
        "task": "pneumonia",
        "model": "simple_cnn",
        "classes": ["NORMAL", "PNEUMONIA"],
        "positive_class": "PNEUMONIA",
        "negative_class": "NORMAL",
        "group_name": "patient",
        "confidence": 0.95,
        "bootstrap": {"resamples": 2000, "unit": "patient", "method": "percentile", "seed": 0},
        "threshold": threshold_json(),
        "splits": {name: split(frames[name]) for name in ("val", "test")},
        "shift": {
            "table": [row, row | {"metric": "Specificity at the threshold"}],
            "domain_auc": {"NORMAL": 0.9, "PNEUMONIA": None},
            "detected": True,
            "sentence": "The sets differ.",
        },
        "baseline": {
            "name": "logistic regression on 16x16 thumbnails",
            "val": {"auroc": interval(0.8)},
            "test": {"auroc": interval(0.7)},
            "difference": {"auroc": interval(0.212)},
            "clears": True,
            "sentence": "The model clears it.",
        },
        "promise": {
            "test_positive_groups": 18,
            "test_misses": 1,
            "expected_misses": 0.4,
            "misses_99": 3,
            "probability_test_meets_target": 0.9,
            "kept": True,
            "sentence": "One of 18 was missed.",
        },
        "worries": [
            {"level": "note", "title": "A note", "text": "Small."},
            {"level": "alarm", "title": "An alarm", "text": "Loud."},
        ],
    }


DATA_CARD = {
    "dataset": "chest_xray",
    "title": "Chest X-Ray Images",
    "licence": "CC BY 4.0",
    "citation": "Kermany et al. https://doi.org/10.17632/rscbjbr9sj.2",
    "source": "files",
    "group_name": "patient",
    "group_rule": "number",
    "counts": [{"split": "test", "class": "NORMAL", "images": 24, "groups": 12, "subtypes": {"normal": 24}}],
    "left_out": [{"path": "a.jpeg", "reason": "truncated"}],
    "left_out_total": 3,
    "unused": 0,
    "duplicates": {"groups": 1, "files": 2},
    "split": {"method": "official test", "val_fraction": 0.1, "seed": 0, "per_class": None},
    "manifest_sha256": "ab" * 32,
    "split_sha256": "cd" * 32,
    "cache": {},
}
RUN = {
    "version": "0.1.0",
    "command": "python train.py",
    "git": None,
    "started": "2026-11-21T08:12:04+00:00",
    "finished": "2026-11-21T08:15:41+00:00",
    "durations": {"fit": 112.7},
    "seeds": {"seed": 0, "split": 0},
    "packages": {"torch": "2.15.0"},
    "hardware": {"cpu": "a processor", "cores": 2, "gpu": None, "ram_gb": 15.6},
    "precision": {"value": "bf16-mixed", "reason": "the processor is able to"},
    "parameters": 3705793,
    "epochs_run": 2,
    "best_epoch": 1,
    "images_per_second": None,
    "manifest_sha256": "ab" * 32,
    "split_sha256": "cd" * 32,
}
HISTORY = "epoch,train/loss,val/loss,val/auroc\n0,0.6,0.5,0.8\n1,0.4,0.45,\n2,0.3,0.4,0.9\n"


def make_run(folder: Path, *, phantom: bool = False, picture_side: int = 24) -> Path:
    """A run folder with every file that the report knows."""
    gallery = folder / "figures" / "mistakes"
    gallery.mkdir(parents=True)
    (folder / "predictions").mkdir()
    frames = {n: predictions(n, i) for i, n in enumerate(("val", "test", "thumbnail_val", "thumbnail_test"))}
    for name, frame in frames.items():
        frame.to_csv(folder / "predictions" / f"{name}.csv", index=False)
    for name, content in (
        ("metrics.json", metrics_json(frames, phantom=phantom)),
        ("threshold.json", threshold_json()),
        ("data_card.json", DATA_CARD),
        ("run.json", RUN),
    ):
        (folder / name).write_text(json.dumps(content))
    (folder / "history.csv").write_text(HISTORY)
    (folder / "config.yaml").write_text("task: <pneumonia>\n")
    noise = np.random.default_rng(0).integers(0, 256, (picture_side, picture_side), dtype=np.uint8)
    entries = []
    for index, kind in enumerate(["false positive", "false negative"] * 3):
        Image.fromarray(noise).save(gallery / f"{index}.png")
        entry = {"image_id": HOSTILE, "group_id": "g", "label": "PNEUMONIA", "score": 0.0123, "subtype": "virus"}
        entries.append(entry | {"file": f"{index}.png", "kind": kind})
    (gallery / "mistakes.json").write_text(json.dumps(entries))
    return folder


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class Page(HTMLParser):
    """Collects what a page refers to and how it is built."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def values(self, attribute: str) -> list[tuple[str, str]]:
        return [(tag, attrs[attribute] or "") for tag, attrs in self.tags if attribute in attrs]


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time of a report goes into its PNG files."""
    monkeypatch.setattr("evaluation.pages._PNG_DPI", 20)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def page_of(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def test_writes_page_and_figures_and_nothing_else(run_dir: Path) -> None:
    page = write_report(run_dir)
    assert page == run_dir / "report.html"
    names = {path.name for path in (run_dir / "figures").iterdir() if path.is_file()}
    kinds = "auroc_forest confusion learning_curves precision_recall roc scores_test scores_val shift"
    assert names == {f"{kind}.{ending}" for kind in kinds.split() for ending in ("png", "svg")}
    first = page.read_bytes()
    assert write_report(run_dir).read_bytes() == first


def test_page_needs_no_other_file(run_dir: Path) -> None:
    text = page_of(run_dir)
    page = Page(text)
    assert all(value.startswith("data:image/png;base64,") for _, value in page.values("src"))
    assert {tag for tag, value in page.values("href") if not value.startswith("#")} == {"a"}
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert not re.search(r"@import|url\((?!#)", text)
    assert set(re.findall(r'https?://[^"<]*', text)) == {"https://doi.org/10.17632/rscbjbr9sj.2"}


def test_page_is_accessible(run_dir: Path) -> None:
    page = Page(page_of(run_dir))
    headings = [tag for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1" and headings.count("h1") == 1 and set(headings) == {"h1", "h2", "h3"}
    ids = [value for _, value in page.values("id")]
    assert len(ids) == len(set(ids))
    assert {value[1:] for tag, value in page.values("href") if tag == "a" and value.startswith("#")} <= set(ids)
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    assert all(attrs.get("aria-label") for tag, attrs in page.tags if tag == "svg")
    assert ("html", "en") in page.values("lang")


def test_first_screen_answers_in_plain_words(run_dir: Path) -> None:
    text = page_of(run_dir)
    summary = text[: text.index('<section id="results"')]
    for expected in ("60 test images", "30 patients", "0.912", "0.882\u20130.942", "Threshold", "at least 95"):
        assert expected in re.sub(r"\s+", " ", summary)
    assert "The model clears it." in summary and summary.index("An alarm") < summary.index("A note")
    assert text.count(NOTICE) == 2 and NOTICE in summary
    assert "A statement about the threshold." in text[text.index('<section id="operating-point"') :]


def test_phantom_runs_say_so(tmp_path: Path) -> None:
    phantom, real = page_of(make_run(tmp_path / "a", phantom=True)), page_of(make_run(tmp_path / "b"))
    assert "<title>Phantom data - Pneumonia" in phantom and "Phantom data - ROC curve" in phantom
    assert '<p class="phantom"' in phantom
    assert "phantom data -" not in real.lower() and '<p class="phantom"' not in real
    assert '<span class="check-name">Phantom data</span> <span class="state">no</span>' in real


def test_hostile_names_are_escaped(run_dir: Path) -> None:
    text = page_of(run_dir)
    assert "<script" not in text and "&lt;script&gt;alert(1)" in text and "task: &lt;pneumonia&gt;" in text


def test_misses_come_before_false_alarms(run_dir: Path) -> None:
    gallery = page_of(run_dir).split('<section id="mistakes"')[1]
    assert gallery.index("Missed PNEUMONIA") < gallery.index("<h3>False alarms</h3>")


def test_page_is_small_whatever_the_pictures(tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path / "run", picture_side=1200))
    assert page.stat().st_size < 5_000_000
    assert "further pictures left out" in page.read_text()


def test_page_has_no_emoji_and_no_temporary_file(run_dir: Path) -> None:
    text = page_of(run_dir)
    assert not re.search("[\u2600-\u27bf\ufe0f\U0001f000-\U0001faff]", text)
    assert not [path for path in run_dir.rglob(".*")]


@pytest.mark.parametrize(
    "name",
    [
        "history.csv",
        "data_card.json",
        "run.json",
        "config.yaml",
        "predictions/thumbnail_test.csv",
        "figures/mistakes/mistakes.json",
    ],
)
def test_missing_optional_file_is_named(run_dir: Path, name: str) -> None:
    (run_dir / name).unlink()
    text = page_of(run_dir)
    assert f"left out: <code>{name}</code>" in text


def test_page_of_a_minimal_run(run_dir: Path) -> None:
    needed = {"metrics.json", "threshold.json", "val.csv", "test.csv"}
    for path in [path for path in run_dir.rglob("*") if path.is_file() and path.name not in needed]:
        path.unlink()
    edit(run_dir / "metrics.json", baseline=None, promise=None, worries=[])
    text = page_of(run_dir)
    assert "No automatic check raised a worry" in text and "is not in metrics.json" in text and "No baseline" in text


@pytest.mark.parametrize("name", ["metrics.json", "threshold.json", "predictions/val.csv", "predictions/test.csv"])
def test_missing_required_file_is_an_error(run_dir: Path, name: str) -> None:
    (run_dir / name).unlink()
    with pytest.raises(ReportError, match=re.escape(str(run_dir / name))):
        write_report(run_dir)
    assert not (run_dir / "report.html").exists()


def test_files_that_contradict_each_other_are_an_error(run_dir: Path) -> None:
    edit(run_dir / "threshold.json", threshold=0.3)
    with pytest.raises(ReportError, match=r"says 0\.3 .* at 0\.25"):
        write_report(run_dir)
    edit(run_dir / "threshold.json", threshold=CUT)
    predictions("test", 1).head(50).to_csv(run_dir / "predictions" / "test.csv", index=False)
    with pytest.raises(ReportError, match=r"50 images, 36 of them PNEUMONIA; metrics.json counted 60"):
        write_report(run_dir)


def test_broken_files_are_an_error(run_dir: Path) -> None:
    (run_dir / "history.csv").write_text("epoch,loss\n0,1\n")
    with pytest.raises(ReportError, match=r"lacks the columns .*'val/auroc'"):
        write_report(run_dir)
    (run_dir / "history.csv").unlink()
    edit(run_dir / "metrics.json", schema=3)
    with pytest.raises(ReportError, match="schema is 3"):
        write_report(run_dir)
    edit(run_dir / "metrics.json", schema=1, bootstrap={})
    with pytest.raises(ReportError, match=r"lacks a field .*resamples"):
        write_report(run_dir)
    (run_dir / "metrics.json").write_text("{")
    with pytest.raises(ReportError, match="no valid JSON"):
        write_report(run_dir)


def test_broken_predictions_are_an_error(run_dir: Path) -> None:
    predictions("test", 1).assign(prob_PNEUMONIA=2.0).to_csv(run_dir / "predictions" / "test.csv", index=False)
    with pytest.raises(ReportError, match=r"test\.csv.*2\.0.*Predict the split again"):
        write_report(run_dir)


def test_values_that_do_not_exist_are_dashes(run_dir: Path) -> None:
    metrics = json.loads((run_dir / "metrics.json").read_text())
    for part in ("at_0.5", "at_threshold"):
        for name in ("group_recall", "ppv", "mcc"):
            metrics["splits"]["test"][part][name] = interval(None)
    (run_dir / "metrics.json").write_text(json.dumps(metrics))
    text = page_of(run_dir)
    assert '<span class="value">\u2013</span>' in text and "None" not in text and "nan" not in text

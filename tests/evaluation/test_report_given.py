"""The page of predictions that come without a validation part, of another data set, and of one class only."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.predictions import Predictions, write_predictions
from evaluation.report import write_report
from evaluation.summary import evaluate_run
from evaluation.threshold import choose_operating_point, fixed_point

CLASSES = ("negative", "positive")
LIGHT_RUN = {"version": "0.1.0", "command": "python evaluate.py", "source": {"predictions": "scores.csv"}}


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.pages._PNG_DPI", 20)


def draw(part: str, images: int = 160, share: float = 0.4) -> Predictions:
    rng = np.random.default_rng(sum(part.encode()))
    positive = np.arange(images) // 2 < share * images / 2
    scores = 1 / (1 + np.exp(-rng.normal(np.where(positive, 1.2, -1.2), 1.2)))
    frame = pd.DataFrame({"image_id": [f"{part}{i}" for i in range(images)]})
    frame["group_id"] = [f"{part}-{i // 2}" for i in range(images)]
    frame["label"] = np.array(CLASSES)[positive.astype(int)]
    frame = frame.assign(prob_negative=1 - scores, prob_positive=scores)
    return Predictions(frame, CLASSES, CLASSES[1:], "positive", "negative")


def page_of(folder: Path, test: Predictions, kind: str, val: Predictions | None = None, **changes: Any) -> str:
    """The page of a record as evaluate.py writes it, with white space and tags as they are."""
    point = fixed_point(0.5, "positive", "negative")
    if val is not None:
        point = choose_operating_point(val, recall=0.9, group_name="patient")
    named: dict[str, Any] = {
        "title": "Scores",
        "task": "given",
        "model": "a tool",
        "phantom": False,
        "group_name": "patient",
    }
    metrics = evaluate_run(val, test, point, baselines={}, domain_aucs={}, bootstrap=50, test_kind=kind, **named)
    metrics |= changes
    for name, content in (("metrics", metrics), ("threshold", metrics["threshold"]), ("run", LIGHT_RUN)):
        (folder / f"{name}.json").write_text(json.dumps(content, allow_nan=False))
    for name, part in (("val", val), ("test", test)):
        if part is not None:
            write_predictions(folder / "predictions" / f"{name}.csv", part.frame)
    return write_report(folder).read_text(encoding="utf-8")


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def assert_links_lead_somewhere(page: str) -> None:
    ids = set(re.findall(r' id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= ids


def test_predictions_without_validation_read_naturally(tmp_path: Path) -> None:
    page = page_of(tmp_path, draw("t"), "given")
    text = text_of(page)
    assert json.loads((tmp_path / "metrics.json").read_text())["threshold"]["statement"] in text
    assert text.count("at 0.5") and "False negatives before and after" not in text
    assert "A simpler method has to see the images, and predictions in a file come without them" in text
    assert "so no simpler method" not in text and "locked" not in text_of(page.split('<section id="curves"')[0])
    assert "<dt>Balanced accuracy</dt>" in page and "<dt>Accuracy</dt>" not in page
    assert 'id="shift"' not in page and "Validation" not in text_of(page.split('<section id="results"')[1])[:3000]
    for gone in ("training", "mistakes", "audit", "data"):
        assert f'<section id="{gone}"' not in page
    assert "scores.csv" in text and "locked threshold it" not in text
    assert_links_lead_somewhere(page)
    assert "None" not in text and not re.search(r"\bnan\b", text)


def test_a_record_shows_the_patient_level_and_other_prevalences(tmp_path: Path) -> None:
    page = page_of(tmp_path, draw("t"), "given")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    groups = metrics["splits"]["test"]["groups"]
    text = text_of(page)
    assert f"by patient {groups['auroc']['value']:.3f}" in text
    assert "By patient" in text and f"{groups['n']} patients, {groups['n_positive']} of them positive" in text
    assert "oracle, read off the test set" in text and "Partial AUC" in text and "F2" in text
    row = metrics["splits"]["test"]["at_threshold"]["prevalence"][0]
    assert re.search(rf"1 % {row['ppv']['value']:.3f}", text)


def test_another_data_set_keeps_the_threshold_of_the_run(tmp_path: Path) -> None:
    text = text_of(page_of(tmp_path, draw("t"), "external"))
    assert "another data set than the one of training" in text and "the run's own, unchanged" in text
    assert "These figures are of another data set than the one of training." in text


def test_validation_brings_the_whole_page_back(tmp_path: Path) -> None:
    page = page_of(tmp_path, draw("t"), "given", draw("v", 400))
    text = text_of(page)
    assert 'id="shift"' in page and "What the rule leads to expect:" in text and "What the test showed:" in text
    assert "Said before the test" not in text and "only then taken to the test" not in text
    assert '<section id="calibration"' in page and '<section id="benefit"' in page


def test_one_class_only_has_a_page_that_says_so(tmp_path: Path) -> None:
    page = page_of(tmp_path, draw("t", share=1.0), "given")
    text = text_of(page)
    assert "all of one class, nothing can be said of how the model ranks them" in text
    assert "Curves left out: the test set holds one class only" in text
    assert "None" not in text and not re.search(r"\bnan\b", text)
    assert_links_lead_somewhere(page)


def test_a_broken_promise_is_loud_on_the_first_screen(tmp_path: Path) -> None:
    page = page_of(tmp_path, draw("t"), "given", draw("v", 400))
    promise = json.loads((tmp_path / "metrics.json").read_text())["promise"] | {"kept": False, "test_misses": 30}
    page = page_of(tmp_path, draw("t"), "given", draw("v", 400), promise=promise)
    summary = text_of(page.split('<section id="results"')[0])
    assert "promise broken on test" in summary and "30 of 32 positive patients missed" in summary
    assert '<li class="check alarm"><a href="#operating-point"><span class="check-name">Shift</span>' in page

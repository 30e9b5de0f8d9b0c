"""The page of a run with several classes, of a leaky split, with an audit and with a fuller data card."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation.figures_style import new_figure
from evaluation.predictions import Predictions, write_predictions
from evaluation.report import ReportError, write_report
from evaluation.report_parts import worries_of_page
from evaluation.summary import evaluate_run
from evaluation.threshold import choose_operating_point
from evaluation.wording import worry

CLASSES = ("bcc", "<b>mel</b>", "nv")
LEAK = {"grouping": "none", "test_images": 200, "test_images_with_group_in_train": 80, "share": 0.4, "unit": "lesion"}
FIGURES = (
    "auroc_forest", "baselines", "confusion", "roc", "precision_recall", "scores_val", "scores_test", "shift", "confusion_matrix",
    "classes",
)  # fmt: skip
FINDINGS = [
    {"id": "c", "level": "alarm", "title": "Contradicting labels", "text": "75 images have two labels.", "count": 75},
    {"id": "n", "level": "caution", "title": "Near <i>copies</i>", "text": "12 pairs.", "count": 12},
    {"id": "f", "level": "fine", "title": "No group in two parts", "text": "", "count": 0},
]


def draw(part: str, separation: float) -> Predictions:
    rng = np.random.default_rng(sum(part.encode()))
    targets = np.arange(200) // 2 % 3
    logits = rng.normal(size=(200, 3))
    logits[np.arange(200), targets] += separation
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frame = pd.DataFrame(
        {"image_id": [f"{part}-{i}" for i in range(200)], "group_id": [f"{part}-{i // 2}" for i in range(200)]}
    )
    frame["label"] = np.array(CLASSES)[targets]
    frame["age_band"] = np.where(targets == 0, "40-59", np.array(["<20", "80+", "", "rare"])[np.arange(200) // 2 % 4])
    frame.loc[frame["age_band"] == "rare", "age_band"] = ["100+"] * 4 + ["80+"] * (
        int((frame["age_band"] == "rare").sum()) - 4
    )
    for number, name in enumerate(CLASSES):
        frame[f"prob_{name}"] = scores[:, number]
    return Predictions(frame, CLASSES, CLASSES[:2], "malignant", "benign")


@pytest.fixture(scope="module")
def metrics_of() -> Callable[..., dict[str, Any]]:
    held: dict[str, dict[str, Any]] = {}

    def make(**options: Any) -> dict[str, Any]:
        key = json.dumps(options, sort_keys=True)
        if key not in held:
            val, test = draw("val", 2.5), draw("test", 2.5)
            held[key] = evaluate_run(
                val,
                test,
                choose_operating_point(val, recall=0.9, group_name="lesion"),
                baselines={"thumbnail": (draw("val", 1.0), draw("test", 1.0))},
                **{"domain_aucs": {}, "title": "Skin", "task": "t", "model": "m", "phantom": False},
                **{
                    "group_name": "lesion",
                    "bootstrap": 60,
                    "subgroup_columns": ["age_band"],
                    "test_kind": "cut",
                    **options,
                },
            )
        return json.loads(json.dumps(held[key]))

    return make


@pytest.fixture
def page_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metrics_of: Callable[..., dict[str, Any]]
) -> Callable[..., str]:
    """Writes a run folder and its page; ``files`` are further JSON files by name. Figures are blank unless ``drawn``."""
    monkeypatch.setattr("evaluation.pages._PNG_DPI", 20)

    def page(files: dict[str, Any] | None = None, *, drawn: bool = False, **options: Any) -> str:
        if not drawn:
            monkeypatch.setattr(
                "evaluation.report.build_figures",
                lambda run: {name: new_figure("", "", 1, phantom=False) for name in FIGURES},
            )
        metrics = metrics_of(**options)
        for name, content in {"metrics": metrics, "threshold": metrics["threshold"], **(files or {})}.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        for part in ("val", "test"):
            write_predictions(tmp_path / "predictions" / f"{part}.csv", draw(part, 2.5).frame)
        return re.sub(r"\s+", " ", write_report(tmp_path).read_text(encoding="utf-8"))

    return page


def card(**changes: Any) -> dict[str, Any]:
    content = {
        "title": "HAM10000",
        "licence": "CC BY-NC 4.0",
        "source": "files",
        "group_name": "lesion",
        "counts": [{"split": "test", "class": "nv", "images": 66, "groups": 33}],
        "left_out": [],
        "left_out_total": 0,
        "duplicates": {"groups": 0, "files": 0},
        "split": {"method": "random", "seed": 0},
        "manifest_sha256": "ab",
        "split_sha256": "cd",
    }
    return content | changes


def test_every_class_is_shown_with_its_figures(page_of: Callable[..., str], tmp_path: Path) -> None:
    page = page_of(drawn=True)
    summary = page[: page.index('<section id="results"')]
    assert "test part cut by lesion, locked" in summary and "official" not in summary
    for tile in ("Balanced accuracy", "AUROC, malignant", "Sensitivity", "Specificity"):
        assert f"<dt>{tile}</dt>" in summary
    assert "Macro AUROC" not in summary and "macro AUROC" in summary
    assert '<a href="#classes">All classes</a>' in page
    section = page[page.index('<section id="classes"') : page.index('<section id="operating-point"')]
    assert section.count("<svg") == 2 and "&lt;b&gt;mel&lt;/b&gt;" in section and "<b>mel" not in page
    assert "from the summed probability of bcc, &lt;b&gt;mel&lt;/b&gt;" in section and "it flags" in section
    assert section.count('<span class="badge">malignant</span>') == 2
    assert {"confusion_matrix.png", "classes.svg"} <= {path.name for path in (tmp_path / "figures").iterdir()}
    assert "None" not in section and not re.search(r"\bnan\b", section)


def test_a_leaky_split_is_stamped_everywhere(page_of: Callable[..., str], tmp_path: Path) -> None:
    page = page_of(drawn=True, leak=LEAK)
    assert "<title>LEAKY - Skin</title>" in page and "<h1>LEAKY - Skin</h1>" in page
    assert page.index('<p class="leaky"') < page.index("<h1>")
    assert "40.0 % of the test images show a lesion that is also in training" in page
    assert page.index('<span class="level">Alarm</span> LEAKY split') < page.index('<section id="results"')
    assert all("LEAKY - " in path.read_text() for path in (tmp_path / "figures").glob("*.svg"))
    assert "LEAKY" not in re.sub(r"<style>.*?</style>", "", page_of())


def test_findings_of_the_audit_and_its_alarms_on_the_first_screen(page_of: Callable[..., str]) -> None:
    assert "Audit left out: <code>audit.json</code>" in page_of()
    page = page_of({"audit": {"schema": 1, "findings": FINDINGS, "images": 5856, "groups": 3000}, "data_card": card()})
    summary, audit = page[: page.index('<section id="results"')], page[page.index('<section id="audit"') :]
    assert "75 images have two labels." in summary and "copies" not in summary
    assert "Licence CC BY-NC 4.0: not for commercial use" in summary
    assert "5,856 images of 3,000 lesions" in audit and "Near &lt;i&gt;copies" in audit
    assert audit.index("Contradicting") < audit.index("Near") < audit.index("No group in two parts")
    assert "nothing to report" in page_of({"audit": {"schema": 1, "findings": []}})


def test_an_alarm_that_the_metrics_hold_is_not_repeated(page_of: Callable[..., str], tmp_path: Path) -> None:
    audit = {"findings": [FINDINGS[0]]}
    metrics = page_of({"audit": audit}) and json.loads((tmp_path / "metrics.json").read_text())
    metrics["worries"].append({"level": "alarm", "title": FINDINGS[0]["title"], "text": "Said before."})
    page = page_of({"audit": audit, "metrics": metrics})
    summary = page[: page.index('<section id="results"')]
    assert "Said before." in summary and "75 images have two labels." not in summary


def test_a_finding_of_unknown_level_is_an_error(page_of: Callable[..., str]) -> None:
    with pytest.raises(ReportError, match="expected a title and one of"):
        page_of({"audit": {"findings": [{"level": "bad", "title": "x"}]}})


@pytest.mark.parametrize(
    ("licence", "named"),
    [
        ("CC BY-NC 4.0", True),
        ("CC-BY-NC-SA", True),
        ("non-commercial use", True),
        ("CC BY 4.0", False),
        ("NCI terms", False),
    ],
)
def test_a_licence_that_forbids_commercial_use_is_a_note_of_the_page(licence: str, named: bool) -> None:
    run: Any = SimpleNamespace(metrics={"worries": []}, audit=None, data_card={"licence": licence})
    expected = [worry("note", "Licence of the data", f"Licence {licence}: not for commercial use.")] if named else []
    assert worries_of_page(run) == expected


def test_label_policy_notes_and_imbalance_are_shown(page_of: Callable[..., str]) -> None:
    full = card(
        label_policy={"name": "triage", "classes": {"malignant": ["mel", "bcc"], "benign": "nv"}},
        notes=["57 images have no age."],
        imbalance={"class_weights": True, "logit_adjustment": 0.5},
        group_rule="lesion_id of the table",
        citation="Tschandl 2018",
    )
    data = page_of({"data_card": full}).split('<section id="data"')[1]
    for expected in (
        "triage", "<b>malignant</b> from mel, bcc", "<b>benign</b> from nv", "57 images have no age.",
        "class weights <b>yes</b>", "logit adjustment <b>0.5</b>", "lesion_id of the table", "Tschandl 2018",
    ):  # fmt: skip
        assert expected in data, expected
    bare = page_of({"data_card": card()}).split('<section id="data"')[1]
    assert "Label policy" not in bare and "Imbalance" not in bare and "Notes" not in bare


def test_subgroups_are_in_order_with_the_lowest_recall_named(page_of: Callable[..., str]) -> None:
    section = page_of().split('<section id="subgroups"')[1].split("</section>")[0]
    places = [section.index(f'<th scope="row">{name}') for name in ("&lt;20", "40-59", "80+", "100+", "unknown")]
    assert places == sorted(places)
    assert "<h3>By age band</h3>" in section and "Lowest sensitivity" not in section
    assert section.count("too few lesions to report") == 3
    assert "malignant only" in section and '<th scope="col">AUROC</th>' in section


def test_the_lowest_recall_and_the_gap_are_named(
    page_of: Callable[..., str], metrics_of: Callable[..., dict[str, Any]]
) -> None:
    metrics = metrics_of()
    rows = metrics["splits"]["test"]["by"]["age_band"]
    for row, value in zip(rows[:3], (0.95, 0.7, 0.9), strict=True):
        interval = {"value": value, "low": value - 0.05, "high": value + 0.05, "method": "wilson", "dropped": 0}
        row |= {"n_positive_groups": 30, "suppressed": False, "sensitivity": interval, "prevalence": 0.25}
    section = page_of({"metrics": metrics}).split('<section id="subgroups"')[1].split("</section>")[0]
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", section))
    assert f"Lowest sensitivity: {rows[1]['value']}, 0.700" in text.replace("&lt;", "<")
    assert f"highest: {rows[0]['value']}, 0.950" in text.replace("&lt;", "<") and "gap 0.250" in text
    assert "25.0 %" in text and "Prevalence" in text


def test_mistakes_in_colour_name_the_most_probable_class(page_of: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "figures" / "mistakes"
    folder.mkdir(parents=True)
    Image.fromarray(np.full((8, 8, 3), [200, 120, 90], dtype=np.uint8)).save(folder / "0.jpg")
    entry = {"image_id": "i", "group_id": "g", "label": "bcc", "score": 0.1, "kind": "false negative", "file": "0.jpg"}
    for extra, expected in (({}, "bcc<br>"), ({"predicted": "nv", "subtype": "x"}, "bcc (x)<br>most probable: nv")):
        (folder / "mistakes.json").write_text(json.dumps([entry | extra]))
        page = page_of()
        assert expected in page and 'src="data:image/jpeg;base64,' in page


def test_a_run_without_groups_does_not_speak_of_images_of_images(page_of: Callable[..., str]) -> None:
    page = page_of(group_name="image")
    summary = page[: page.index('<section id="results"')]
    assert "On 200 test images (test part cut by image, locked)" in summary
    assert "several images of one image" not in page and "they may be too narrow" in re.sub(r"\s+", " ", summary)

"""Numbers of corrupted and of external images: paired, at the locked threshold, and said in words."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from evaluation.bootstrap import Resampling
from evaluation.external_page import write_external_page
from evaluation.figures_robustness import robustness_panels, transfer_dots
from evaluation.intervals import wilson
from evaluation.predictions import Predictions
from evaluation.robustness import cell_of, figures_of, findings_of, kind_of, resampled_at, subset_rows
from evaluation.robustness_page import write_robustness_page
from evaluation.transfer import seen_in_words, transfer_of
from workflow.robustness_table import print_robustness

HOW = Resampling(200, 0.95, (0, 1))
OTHER = Resampling(200, 0.95, (0, 2))
CALLED = {"positive": "ill", "negative": "well"}


def predictions(scores: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], per_group: int = 2) -> Predictions:
    """Images of groups of neighbours."""
    numbers = np.arange(len(scores))
    frame = pd.DataFrame({"image_id": [f"i{n}" for n in numbers], "group_id": [f"g{n // per_group}" for n in numbers]})
    frame["label"] = np.where(labels == 1, "ill", "well")
    frame["prob_well"], frame["prob_ill"] = 1 - scores, scores
    return Predictions(frame, ("well", "ill"), "ill")


def clean(n: int = 200, seed: int = 0) -> Predictions:
    labels = np.arange(n) // 2 % 2
    scores = np.clip(0.5 + 0.25 * (labels - 0.5) + 0.15 * np.random.default_rng(seed).normal(size=n), 0, 1)
    return predictions(scores, labels)


def lowered(base: Predictions, by: float) -> Predictions:
    return predictions(np.clip(base.scores - by, 0, 1), base.labels)


def cells(base: Predictions, steps: tuple[float, ...]) -> list[dict[str, Any]]:
    before = resampled_at(base, 0.5, HOW)
    found = []
    for strength, step in enumerate(steps, 1):
        changed = lowered(base, step)
        cell = cell_of(changed, resampled_at(changed, 0.5, HOW), base, before, 0.5, 0.95)
        found.append({"strength": strength, "parameter": f"{step} lower", **cell})
    return found


def test_a_cell_is_counted_and_its_difference_is_paired() -> None:
    base = clean()
    cell = cells(base, (0.1,))[0]
    now, then, ill = lowered(base, 0.1).scores >= 0.5, base.scores >= 0.5, base.labels == 1
    assert cell["sensitivity"]["value"] == pytest.approx(now[ill].mean())
    assert cell["difference"]["sensitivity"]["value"] == pytest.approx(now[ill].mean() - then[ill].mean())
    assert (cell["lost"], cell["raised"], cell["changed"]) == (
        int((ill & then & ~now).sum()),
        0,
        int((now != then).sum()),
    )
    # Scores that are all lower by one step rank as before: in pairs nothing is left of the spread of AUROC.
    moved = cell["difference"]["auroc"]
    assert moved["value"] == pytest.approx(0, abs=0.01) and moved["high"] - moved["low"] < 0.02
    assert cell["auroc"]["high"] - cell["auroc"]["low"] > 0.05


def test_unchanged_images_change_nothing() -> None:
    cell = cells(clean(), (0.0,))[0]
    for difference in cell["difference"].values():
        assert (difference["value"], difference["low"], difference["high"]) == (0, 0, 0)
    assert (cell["lost"], cell["raised"], cell["changed"]) == (0, 0, 0)


def test_a_model_without_an_error_is_not_certain() -> None:
    """A side that is exactly 0 or 1 does not move in any resample; its own interval says how far it may be wrong."""
    labels = np.repeat([1, 0], 12)
    perfect = predictions(np.where(labels == 1, 0.9, 0.1), labels, per_group=1)
    one_missed = perfect.scores.copy()
    one_missed[0] = 0.05
    base, worse = resampled_at(perfect, 0.5, HOW), predictions(one_missed, labels, per_group=1)
    figures = figures_of(perfect, base, 0.5, 0.95)
    assert (figures["auroc"]["low"], figures["auroc"]["high"]) == pytest.approx(wilson(12, 12))
    same = cell_of(perfect, base, perfect, base, 0.5, 0.95)["difference"]
    assert same["auroc"]["low"] < 0 < same["auroc"]["high"] and same["specificity"]["low"] < 0
    moved = cell_of(worse, resampled_at(worse, 0.5, HOW), perfect, base, 0.5, 0.95)["difference"]["sensitivity"]
    assert moved["value"] == pytest.approx(-1 / 12) and moved["high"] > 0.05
    row = transfer_of(perfect, worse, 0.5, (HOW, OTHER), "cnn", "Elsewhere")
    for name, change in row["difference"].items():
        assert change["low"] < 0 < change["high"] and change["method"] == "newcombe", name
    none_left = predictions(np.full(24, 0.05), labels, per_group=1)
    lost = cell_of(none_left, resampled_at(none_left, 0.5, HOW), perfect, base, 0.5, 0.95)["difference"]["sensitivity"]
    assert lost["value"] == -1 and -1 < lost["high"] < -0.5, "from all found to none found is beyond chance"


def test_intervals_are_made_as_asked_for() -> None:
    base, bca = clean(), Resampling(200, 0.95, (0, 1), "bca")
    before, changed = resampled_at(base, 0.5, bca), lowered(base, 0.1)
    cell = cell_of(changed, resampled_at(changed, 0.5, bca), base, before, 0.5, 0.95)
    assert "BCa" in cell["auroc"]["method"] and "BCa" in cell["difference"]["brier"]["method"]


def test_the_first_notable_drop_is_named_and_whether_it_is_certain() -> None:
    base = clean()
    kind = kind_of("fog", "Fog", "in the way", cells(base, (0.001, 0.05, 0.1, 0.2, 0.4)))
    values = [cell["difference"]["sensitivity"]["value"] for cell in kind["cells"]]
    first = next(number for number, value in enumerate(values, 1) if value < -0.05)
    assert kind["first_drop"] == {"sensitivity": first, "specificity": None}
    highs = [cell["difference"]["sensitivity"]["high"] for cell in kind["cells"]]
    sure = next(number for number in range(first, 6) if highs[number - 1] is not None and highs[number - 1] < 0)
    assert kind["certain_drop"] == {"sensitivity": sure, "specificity": None}
    losses = [-cell["difference"]["balanced_accuracy"]["value"] for cell in kind["cells"]]
    assert kind["cost"]["balanced_accuracy"] == pytest.approx(np.mean(losses))
    assert kind["cost"]["sensitivity"] > kind["cost"]["balanced_accuracy"] > 0.05


def test_findings_name_the_worst_kind_in_words() -> None:
    base = clean()
    figures = figures_of(base, resampled_at(base, 0.5, HOW), 0.5, 0.95)
    harsh = kind_of("fog", "Fog", "", cells(base, (0.05, 0.1, 0.2, 0.3, 0.4)))
    mild = kind_of("jpeg", "JPEG", "", cells(base, (0.0,) * 5))
    found = findings_of(figures, [mild, harsh], CALLED)
    assert (found["worst"], found["fragile"], found["steady"]) == ("fog", ["Fog"], ["JPEG"])
    strength = harsh["certain_drop"]["sensitivity"]
    assert found["worst_strength"] == strength
    assert (
        f"Fog costs most: at strength {strength}" in found["sentence"] and "sensitivity falls from" in found["sentence"]
    )
    assert "newly missed:" in found["sentence"] and found["sentence"].endswith("No such drop: JPEG.")
    calm = findings_of(figures, [mild], CALLED)
    assert calm["sentence"].startswith("No corruption lowers sensitivity or specificity by more than 0.05")


def drop_of(value: float, high: float | None) -> dict[str, Any]:
    return {"value": value, "low": None if high is None else value - 0.2, "high": high}


def with_drops(title: str, drops: list[dict[str, Any]]) -> dict[str, Any]:
    """A kind whose sensitivity changes by these differences, and nothing else."""
    zero, cells_ = {"value": 0.0, "low": None, "high": None}, []
    for strength, drop in enumerate(drops, 1):
        after = {"value": 0.9 + drop["value"], "low": 0.0, "high": 1.0}
        change = {"sensitivity": drop, "specificity": zero, "balanced_accuracy": drop}
        cell = {"strength": strength, "parameter": "p", "sensitivity": after, "specificity": {**after, "value": 0.9}}
        cells_.append({**cell, "difference": change, "lost": 2, "raised": 0})
    return kind_of(title.lower(), title, "", cells_)


def test_a_drop_that_may_be_chance_is_not_called_fragile() -> None:
    whole = {"value": 0.9, "low": 0.8, "high": 0.95}
    figures = {name: whole for name in ("sensitivity", "specificity")}
    chance = with_drops("Fog", [drop_of(-0.01, 0.1), drop_of(-0.3, 0.02), drop_of(-0.4, None)])
    sure = with_drops("Ink", [drop_of(-0.02, -0.01), drop_of(-0.06, 0.01), drop_of(-0.1, -0.05)])
    calm = with_drops("Sun", [drop_of(-0.01, -0.005)] * 3)
    found = findings_of(figures, [chance, sure, calm], CALLED)
    assert (found["fragile"], found["uncertain"], found["steady"]) == (["Ink"], ["Fog"], ["Sun"])
    # Fog costs more on average, but nothing says that this is not chance.
    assert (found["worst"], found["worst_strength"]) == ("ink", 3)
    assert "Lower too, but it may be chance: fog. No such drop: sun." in found["sentence"]
    assert "(may be chance)" not in found["sentence"]
    alone = findings_of(figures, [chance, calm], CALLED)
    assert alone["fragile"] == [] and alone["sentence"].startswith(
        "No corruption lowers sensitivity or specificity by more than 0.05 beyond chance. Lower, but it may be chance: fog."
    )
    assert "to 0.500 (0.000-1.000) (may be chance)" in alone["sentence"]
    assert "costs most" not in findings_of(figures, [with_drops("Sun", [drop_of(0.01, 0.02)] * 3)], CALLED)["sentence"]
    content = {**robustness_content(), "kinds": [chance, sure, calm], "findings": found}
    clean_auroc = {"clean": {**figures, "auroc": whole}}
    for kind in content["kinds"]:
        kind["cells"] = [{**kind["cells"][min(place, 2)], "strength": place + 1, "auroc": whole} for place in range(5)]
    out = io.StringIO()
    print_robustness({**content, **clean_auroc}, Console(file=out, width=80, highlight=False))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    fog = next(number for number, line in enumerate(lines) if line.startswith("Fog"))
    assert lines[fog].endswith("strength 2") and lines[fog + 1].strip() == "(may be chance)"
    assert lines[fog + 2].startswith("Ink") and lines[fog + 2].endswith("strength 3")
    assert max(map(len, lines)) <= 100


def test_misses_count_more_than_false_alarms() -> None:
    base = clean()
    figures = figures_of(base, resampled_at(base, 0.5, HOW), 0.5, 0.95)
    missing = kind_of("fog", "Fog", "", cells(base, (0.0, 0.0, 0.0, 0.03, 0.06)))
    alarming = kind_of("sun", "Sun", "", cells(base, (-0.1, -0.2, -0.3, -0.4, -0.5)))
    assert alarming["cost"]["balanced_accuracy"] > missing["cost"]["balanced_accuracy"]
    assert findings_of(figures, [alarming, missing], CALLED)["worst"] == "fog"
    only = findings_of(figures, [alarming], CALLED)
    assert only["worst"] == "sun" and "newly flagged:" in only["sentence"] and "sensitivity rises" in only["sentence"]


def test_one_class_alone_has_no_auroc_and_still_a_result() -> None:
    base = predictions(np.linspace(0.3, 0.9, 40), np.ones(40))
    kind = kind_of("fog", "Fog", "", cells(base, (0.1, 0.2, 0.3, 0.4, 0.5)))
    figures = figures_of(base, resampled_at(base, 0.5, HOW), 0.5, 0.95)
    assert figures["auroc"]["value"] is None and figures["specificity"]["value"] is None
    assert kind["cells"][0]["difference"]["auroc"]["value"] is None and kind["first_drop"]["sensitivity"] == 1
    found = findings_of(figures, [kind], CALLED)
    assert "specificity" not in found["sentence"].split("Fog costs most")[1]
    assert robustness_panels(figures, [kind]).axes


@pytest.mark.parametrize("asked", [2, 30, 101, 199])
def test_a_subset_takes_whole_groups_of_both_kinds(asked: int) -> None:
    base = predictions(np.full(200, 0.5), np.arange(200) // 2 % 4 == 0)
    rows = subset_rows(base, asked, seed=3)
    assert np.array_equal(rows, np.unique(rows)) and asked <= len(rows) <= asked + 4
    assert not set(base.groups[rows]) & set(np.delete(base.groups, rows))
    assert base.labels[rows].sum() == pytest.approx(len(rows) / 4, abs=2) and base.labels[rows].any()
    assert np.array_equal(rows, subset_rows(base, asked, seed=3))


def test_a_subset_of_all_is_all_and_of_one_is_refused() -> None:
    base = clean(20)
    assert np.array_equal(subset_rows(base, None, 0), np.arange(20)) and len(subset_rows(base, 500, 0)) == 20
    with pytest.raises(ValueError, match="images=1: at least 2"):
        subset_rows(base, 1, 0)


def test_transfer_says_what_fell_and_what_the_scores_do() -> None:
    own, external = clean(), lowered(clean(240, seed=5), 0.12)
    row = transfer_of(own, external, 0.5, (HOW, OTHER), "cnn", "Elsewhere")
    change = row["external"]["sensitivity"]["value"] - row["own"]["sensitivity"]["value"]
    assert row["difference"]["sensitivity"]["value"] == pytest.approx(change)
    assert row["sentence"].startswith("cnn, from its own test part to Elsewhere at the same threshold: ")
    assert "sensitivity falls from" in row["sentence"] and "specificity rises from" in row["sentence"]
    assert "no certain change of AUROC" in row["sentence"] and "too low on average" in row["sentence"]
    assert row["external"]["in_the_large"]["low"] > 0


def test_the_same_images_under_other_names_have_not_changed() -> None:
    row = transfer_of(clean(), clean(), 0.5, (HOW, OTHER), "cnn", "Elsewhere")
    assert all(row["difference"][name]["value"] == 0 for name in row["difference"])
    assert "no certain change of AUROC, sensitivity and specificity" in row["sentence"]
    # Two sets are independent of each other, even if these are not: their interval is wider than a paired one, which is 0.
    assert row["difference"]["auroc"]["low"] < 0 < row["difference"]["auroc"]["high"]


def test_without_an_own_test_part_the_external_figures_stand_alone() -> None:
    row = transfer_of(None, clean(), 0.5, (HOW, OTHER), "cnn", "Elsewhere")
    assert row["own"] is None and row["difference"] is None
    assert row["sentence"].startswith("cnn on Elsewhere (200 images): AUROC")


def test_seen_images_in_words() -> None:
    seen = {"by_content": 1, "by_name": 0, "by_picture": None, "by_group": 12}
    assert seen_in_words(seen, "lesion") == "1 identical file and 12 more images of the same lesions"
    assert seen_in_words({**seen, "by_content": 0, "by_group": 0}, "lesion") == "none"


def robustness_content() -> dict[str, Any]:
    base = clean()
    figures = figures_of(base, resampled_at(base, 0.5, HOW), 0.5, 0.95)
    kinds = [kind_of("fog", "<Fog>", "in the way", cells(base, (0.05, 0.1, 0.2, 0.3, 0.4)))]
    return {
        **{
            "title": "Robustness of cnn",
            "task": "lesions",
            "phantom": True,
            "version": "1",
            "command": "x",
            "run": "r",
        },
        **{"made": "2026-11-21T10:00:00+00:00", "seconds": 3.0, "seed": 0, "domain": "any", "image_size": 32},
        **{"group_name": "lesion", "positive_class": "ill", "negative_class": "well", "confidence": 0.95},
        "bootstrap": {"resamples": 200, "unit": "lesion", "seed": 0},
        "threshold": {"threshold": 0.5},
        "images": {"asked": None, "n": 200, "n_positive": 100, "n_groups": 100, "of": 200, "how": "all test images"},
        "largest_difference_to_run": 0.0,
        **{"split_sha256": "s", "weights_sha256": ["w"]},
        **{"clean": figures, "kinds": kinds, "findings": findings_of(figures, kinds, CALLED)},
    }


def assert_self_contained(page: str) -> None:
    assert 'src="http' not in page and "<link" not in page and "<script" not in page and "@import" not in page
    assert "not a medical device" in page


def test_the_robustness_page_holds_figure_tables_and_pictures(tmp_path: Path) -> None:
    examples = {"image_id": "i<1>", "kinds": {"fog": ["data:image/jpeg;base64,AAAA"] * 6}}
    page = write_robustness_page(tmp_path, robustness_content(), examples).read_text(encoding="utf-8")
    assert_self_contained(page)
    assert page.count("<img ") == 6 and page.count('alt="') == 6 and "&lt;Fog&gt;" in page and "<Fog>" not in page
    assert "in sensitivity or specificity, beyond chance</span>" in page
    assert "Phantom data - Robustness of cnn" in page and 'role="img"' in page
    assert (tmp_path / "figures" / "robustness.svg").is_file()


def test_the_external_page_puts_own_and_external_side_by_side(tmp_path: Path) -> None:
    rows = []
    for name, own in (("cnn", clean()), ("vgg", None)):
        row = transfer_of(own, lowered(clean(100, seed=2), 0.2), 0.5, (HOW, OTHER), name, "Elsewhere")
        seen = {"images": 2, "by_content": 2, "by_name": 0, "by_picture": None, "by_group": 0, "unchecked": "no <data>"}
        promise = {"kept": False, "sentence": "It missed 9 of 20."}
        more = {
            "name": name,
            "run": "r",
            "folder": f"1-{name}",
            "trained_on": "Here",
            "threshold": 0.5,
            "rule": "certified",
        }
        rows.append({**row, **more, "seen": seen, "promise": promise})
    content = {
        **{"title": "External validation on Elsewhere", "phantom": False, "group_name": "lesion", "confidence": 0.95},
        **{"bootstrap": 200, "made": "2026-11-21T10:00:00+00:00", "command": "x", "rows": rows},
        "tested_on": {
            **{"name": "Elsewhere", "title": "Elsewhere, 2020", "licence": "CC0", "part": "all", "images": 102},
            **{"mapping": {"bad": "ill", "odd": None}, "dropped": {"odd": 4}, "left_out": 1, "manifest_sha256": "m"},
        },
    }
    page = write_external_page(tmp_path, content).read_text(encoding="utf-8")
    assert_self_contained(page)
    assert "What the threshold promised is not kept: cnn" in page and "no &lt;data&gt;" in page
    assert "bad as ill; odd left out (4)" in page and 'href="1-vgg/report.html"' in page
    assert transfer_dots([rows[0]], external="Elsewhere").axes

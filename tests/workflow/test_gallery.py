"""Heat maps from stored pixels, and the settings that HPARAMS compares."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from explain.control import agreement, control, untrained
from explain.covering import Losses, covering
from explain.grad_cam import Target, heat_maps
from models.build import build_network
from models.bundle import Normalise
from tests.conftest import composed_settings
from workflow import hand_over
from workflow.gallery import HeatMaps, checks_of, drawn_rows, gallery_of
from workflow.hand_over import changed_settings
from workflow.heat_maps import Explainer, Maps

HEAD: dict[str, Any] = {"hidden": [8], "dropout": 0.5}
PIXELS = np.random.default_rng(0).integers(0, 256, size=(3, 48, 48, 3), dtype=np.uint8)


def network_of(name: str, outputs: int, **settings: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network({"name": name, "image_size": 48, "channels": 3, "filters": [4], **HEAD, **settings}, outputs)


@pytest.mark.parametrize(("outputs", "target"), [(1, 0), (4, [1, 3])])
def test_the_maps_are_those_of_the_images_as_the_network_sees_them(outputs: int, target: Target) -> None:
    network, normalise = network_of("test_resnet", outputs), Normalise([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    before = PIXELS.copy()
    found = gallery_of(Explainer(network, normalise, target, method="grad_cam"), PIXELS)
    assert found is not None and (found.method, found.layer) == ("grad_cam", "trunk.layer4")
    pictures = found.pictures
    assert pictures.overlays.shape == pictures.coloured.shape == (3, 48, 48, 3)
    assert pictures.overlays.dtype == pictures.coloured.dtype == np.uint8
    by_hand = (torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255 - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / (
        torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    )
    expected = heat_maps(network, by_hand, outputs=target)
    np.testing.assert_allclose(pictures.maps, expected, atol=1e-4)
    np.testing.assert_array_equal(PIXELS, before)
    assert found.covered == [
        None if value is None else pytest.approx(value, abs=1e-4)
        for value in covering(network, by_hand, expected, outputs=target)
    ]
    others = untrained(network, by_hand, outputs=target)
    assert found.untrained == pytest.approx(control(expected, others), abs=1e-3)
    assert len(found.centre) == len(found.centre_untrained) == 3
    hires = heat_maps(network, by_hand, method="hires_cam", outputs=target)
    assert found.hires_cam == pytest.approx(agreement(pictures.maps, hires), abs=1e-4)


def test_maps_are_compared_with_hires_cam_which_is_the_same_only_behind_a_pooling() -> None:
    normalise = Normalise(0.0, 1.0)
    pooled = gallery_of(Explainer(network_of("test_resnet", 1, hidden=[]), normalise, 0, method="grad_cam"), PIXELS)
    flattened = gallery_of(Explainer(network_of("simple_cnn", 1), normalise, 0, method="grad_cam"), PIXELS)
    assert pooled is not None and flattened is not None
    assert all(value is None or value > 0.999 for value in pooled.hires_cam)
    assert any(value is not None and value < 0.9 for value in flattened.hires_cam)
    usual = gallery_of(Explainer(network_of("simple_cnn", 1), normalise, 0), PIXELS)
    assert usual is not None and usual.method == "hires_cam"
    assert usual.hires_cam == [None] * len(PIXELS) and usual.summary()["hires_cam"] is None


def test_metadata_go_in_with_the_images() -> None:
    network = network_of("test_resnet", 1, metadata_width=2)
    table = np.array([[0.0, 1.0], [5.0, -5.0], [1.0, 0.0]], dtype=np.float32)
    found = gallery_of(Explainer(network, Normalise(0.0, 1.0), 0), PIXELS, table)
    assert found is not None and np.isfinite(found.pictures.maps).all()


def test_a_network_without_maps_goes_without_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48 * 48 * 3, 1))
    with caplog.at_level(logging.WARNING, logger="firstread"):
        assert gallery_of(Explainer(network, Normalise(0.0, 1.0), 0), PIXELS) is None
    assert "no heat maps: Sequential has no layer whose result lies over the image" in caplog.text


def test_a_summary_is_of_the_images_that_have_a_map() -> None:
    maps = Maps(PIXELS, np.zeros((3, 48, 48), dtype=np.float32))
    losses = [Losses(1.0, -1.0, 0.5), None, Losses(2.0, 0.0, 2.5)]
    found = HeatMaps(
        maps,
        "grad_cam",
        "trunk.layer4",
        [0.5, None, -0.1],
        losses,
        [0.5, None, 0.25],
        [0.25, 0.5, None],
        [0.4, None, 0.8],
    )
    none: list[Any] = [None] * 3
    drawn = HeatMaps(maps, "grad_cam", "trunk.layer4", none, none, none, none, none)
    checks = checks_of(found, drawn)
    assert checks is not None and (checks["method"], checks["layer"]) == ("grad_cam", "trunk.layer4")
    assert checks["mistakes"] == {
        "images": 3,
        "covered": 2,
        "bright": 1.5,
        "dark": -0.5,
        "centre": 1.5,
        "bright_above_centre": 1,
        "in_centre": 0.375,
        "in_centre_untrained": 0.375,
        "untrained": pytest.approx(0.2),
        "untrained_range": [-0.1, 0.5],
        "hires_cam": pytest.approx(0.6),
    }
    assert checks["drawn"]["images"] == 3 and checks["drawn"]["covered"] == 0 and checks["drawn"]["bright"] is None
    assert checks_of(None, None) is None


def test_the_images_to_check_on_are_always_the_same() -> None:
    rows = drawn_rows(1000)
    assert len(rows) == len(set(rows.tolist())) == 64 and (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, drawn_rows(1000))
    assert rows.min() < 100 and rows.max() >= 900
    np.testing.assert_array_equal(drawn_rows(5), np.arange(5))


def test_what_a_multirun_varies_has_a_column() -> None:
    words = [
        *("model=simple_cnn", "trainer.learning_rate=0.01", "loss.label_smoothing=0.1", "imbalance.class_weights=true"),
        *("model.filters=[4]", "trainer.patience=null", "trainer.progress_bar=false", "seed=3"),
    ]
    typed = [*(word.partition("=")[0] for word in words), "data.root", "split.seed", "hydra.sweep.dir"]
    found = changed_settings(composed_settings(*words), typed)
    assert found == {"loss.label_smoothing": 0.1, "imbalance.class_weights": True, "split.seed": 0}


def test_the_columns_of_hparams(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["model=simple_cnn", "trainer.learning_rate=0.01", "loss.label_smoothing=0.1", "seed=3"]
    logged: dict[str, Any] = {}
    monkeypatch.setattr(hand_over, "overrides", lambda: ["task=pneumonia", *words])
    monkeypatch.setattr(
        hand_over, "log_hyperparameters", lambda logger, *given, first: logged.update(given=given, first=first)
    )
    monkeypatch.setattr(hand_over, "results", lambda metrics: {"val/auroc": 0.8, "test/auroc": float("nan")})
    hand_over._log_hyperparameters(composed_settings(*words), {}, None, 7, 500)
    settings, final, epoch = logged["given"]
    assert logged["first"] == {"task", "name", "learning_rate", "loss.label_smoothing", "seed"}
    assert {name: settings[name] for name in ("name", "learning_rate", "ema", "train_images", "seed")} == {
        "name": "simple_cnn",
        "learning_rate": 0.01,
        "ema": 0.0,  # null: a number, so that runs with and without averaging share an axis
        "train_images": 500,
        "seed": 3,
    }
    assert settings["loss.label_smoothing"] == 0.1
    assert set(final) == {"val/best_auroc", "test/auroc"}
    assert epoch == 7

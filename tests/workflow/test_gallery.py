"""Heat maps from stored pixels, and the settings that HPARAMS compares."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from explain.grad_cam import grad_cam
from models.build import build_network
from models.bundle import Normalise
from tests.conftest import composed_settings
from workflow import hand_over
from workflow.gallery import gallery_of
from workflow.hand_over import changed_settings

HEAD: dict[str, Any] = {"hidden": [8], "dropout": 0.5}
PIXELS = np.random.default_rng(0).integers(0, 256, size=(3, 48, 48, 3), dtype=np.uint8)


def network_of(name: str, outputs: int, **settings: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network({"name": name, "image_size": 48, "channels": 3, "filters": [4], **HEAD, **settings}, outputs)


@pytest.mark.parametrize(("outputs", "positive"), [(1, None), (4, [1, 3])])
def test_the_maps_are_those_of_the_images_as_the_network_sees_them(outputs: int, positive: list[int] | None) -> None:
    network, normalise = network_of("test_resnet", outputs), Normalise([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    before = PIXELS.copy()
    found = gallery_of(network, normalise, PIXELS, positive=positive)
    assert found is not None
    assert found.overlays.shape == (3, 48, 48, 3) and found.overlays.dtype == np.uint8
    assert len(found.checks) == len(found.covered) == 3
    by_hand = (torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255 - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / (
        torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    )
    expected = grad_cam(network, by_hand, outputs=0 if positive is None else positive)
    np.testing.assert_allclose(found.maps, expected, atol=1e-4)
    np.testing.assert_array_equal(PIXELS, before)


def test_metadata_go_in_with_the_images() -> None:
    network = network_of("test_resnet", 1, metadata_width=2)
    table = np.array([[0.0, 1.0], [5.0, -5.0], [1.0, 0.0]], dtype=np.float32)
    found = gallery_of(network, Normalise(0.0, 1.0), PIXELS, metadata=table)
    assert found is not None and np.isfinite(found.maps).all()


def test_a_transformer_goes_without_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    network = network_of("test_vit", 1, image_size=160)
    pixels = PIXELS.repeat(4, axis=1).repeat(4, axis=2)[:, :160, :160]
    with caplog.at_level(logging.WARNING, logger="firstread"):
        assert gallery_of(network, Normalise(0.0, 1.0), pixels) is None
    assert "no heat maps: TimmNetwork has no convolutional map" in caplog.text


def test_no_image_gives_no_heat_map() -> None:
    found = gallery_of(network_of("simple_cnn", 1), Normalise(0.0, 1.0), PIXELS[:0])
    assert found is not None and found.overlays.shape == (0, 48, 48, 3) and found.checks == []


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

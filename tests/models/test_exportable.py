"""The module that is exported: views, mean, classes, recalibration and threshold as in a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluation.metrics import SMALLEST
from evaluation.recalibration import Calibrator
from models.blocks import BlockNetwork
from models.build import build_network
from models.bundle import to_input
from models.exportable import OUTPUTS, Decision, ExportableModel, Part

SIZE = 16
PLAIN = {"positive": [1], "threshold": 0.5, "slope": None, "intercept": 0.0, "off_rim": SMALLEST}


def network(outputs: int, seed: int = 0, metadata_width: int = 0) -> BlockNetwork:
    torch.manual_seed(seed)
    settings = {
        **{"name": "simple_cnn", "image_size": SIZE, "channels": 3, "filters": [4], "hidden": [5], "dropout": 0.5},
        "metadata_width": metadata_width,
    }
    built = build_network(settings, outputs).eval()
    with torch.no_grad():
        built.head.output.weight.mul_(8.0)  # type: ignore[union-attr, operator]
    return built


def pixels(n: int = 6) -> Tensor:
    random = np.random.default_rng(1)
    return torch.from_numpy(random.integers(0, 256, size=(n, SIZE, SIZE, 3), dtype=np.uint8))


def logits(of: BlockNetwork, images: Tensor) -> Tensor:
    found: Tensor = of(to_input(images.permute(0, 3, 1, 2), [0.5], [0.5]))
    return found


@torch.no_grad()
def outputs_of(parts: list[Part], images: Tensor, *more: Tensor, **decision: Any) -> dict[str, np.ndarray[Any, Any]]:
    model = ExportableModel(parts, Decision(**{**PLAIN, **decision}), SIZE, "area").eval()
    return {name: value.numpy() for name, value in model(images, *more).items()}


@pytest.mark.parametrize("positive", [0, 1])
def test_one_logit_is_the_positive_class_whichever_comes_first(positive: int) -> None:
    one = network(1)
    found = outputs_of([Part(one, [0.5], [0.5])], pixels(), positive=[positive])
    with torch.no_grad():
        score = logits(one, pixels()).sigmoid()[:, 0].numpy()
    np.testing.assert_allclose(found["score"], score, atol=1e-7)
    np.testing.assert_allclose(found["probabilities"][:, positive], score, atol=1e-7)
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1.0, atol=1e-6)
    assert list(found) == list(OUTPUTS)
    assert found["decision"].dtype == np.int64 and 0 < found["decision"].sum() < len(score)


def test_positive_classes_are_added_up() -> None:
    found = outputs_of([Part(network(4), [0.5], [0.5])], pixels(), positive=[0, 2])
    np.testing.assert_allclose(found["score"], found["probabilities"][:, [0, 2]].sum(axis=1), atol=1e-6)


def test_probabilities_of_views_and_networks_are_averaged() -> None:
    first, second = network(1, 0), network(1, 1)
    images = pixels()
    found = outputs_of([Part(first, [0.5], [0.5], "flip"), Part(second, [0.5], [0.5])], images)
    with torch.no_grad():
        turned = (logits(first, images).sigmoid() + logits(first, images.flip(2)).sigmoid()) / 2
        mean = (turned + logits(second, images).sigmoid()) / 2
    np.testing.assert_allclose(found["score"], mean[:, 0].numpy(), atol=1e-6)


def test_recalibration_is_the_runs() -> None:
    found = outputs_of([Part(network(1), [0.5], [0.5])], pixels(), slope=1.7, intercept=-0.4)
    wanted = Calibrator("platt", 1.7, -0.4).scores(found["score"])
    np.testing.assert_allclose(found["calibrated"], wanted, atol=1e-6)
    assert np.abs(found["calibrated"] - found["score"]).max() > 0.01


def test_an_image_on_the_threshold_is_positive() -> None:
    part = Part(network(1), [0.5], [0.5])
    scores = outputs_of([part], pixels())["score"].astype(np.float64)
    threshold = float(np.sort(scores)[3])
    assert outputs_of([part], pixels(), threshold=threshold)["decision"].tolist() == (scores >= threshold).tolist()
    just_above = outputs_of([part], pixels(), threshold=float(np.nextafter(threshold, 1.0)))["decision"]
    assert just_above.sum() == (scores >= threshold).sum() - 1


def test_metadata_reach_the_networks_that_take_them() -> None:
    sees, blind = network(1, 0, metadata_width=2), network(1, 1)
    parts = [Part(sees, [0.5], [0.5], metadata=True), Part(blind, [0.5], [0.5])]
    tables = [torch.zeros((6, 2)), torch.full((6, 2), 3.0)]
    found = [outputs_of(parts, pixels(), table)["score"] for table in tables]
    assert np.abs(found[0] - found[1]).max() > 1e-4

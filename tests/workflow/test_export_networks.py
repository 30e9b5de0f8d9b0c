"""Networks of other kinds as ONNX graphs: several classes, metadata, ensembles, transformers; what cannot be exported is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from datamodules.metadata import MetadataEncoder
from evaluation.recalibration import Calibrator
from evaluation.threshold import fixed_point
from models.build import build_network
from workflow.export_checks import agreement, few_rows, onnx_run
from workflow.export_facts import facts_of
from workflow.export_graph import exportable, traced, write_onnx
from workflow.export_images import check_images
from workflow.predictor import About, Predictor, Scored
from workflow.scoring import ScoredBy, placed

TABLE = pd.DataFrame(
    {"label": ["a", "b"] * 4, "age": [50, 60, 20, None, 40, 50, 60, 70], "sex": ["f", "m", "m", "f", "f", "m", "", "f"]}
)
THREE = ("bcc", "mel", "nv")
CPU = torch.device("cpu")


def part_of(name: str, classes: tuple[str, ...], seed: int, **settings: Any) -> ScoredBy:
    """A network with random weights and running statistics, and its description."""
    metadata = MetadataEncoder.fit(TABLE, ["age", "sex"]) if settings.pop("metadata", False) else None
    views, outputs = settings.pop("views", "none"), 1 if len(classes) == 2 else len(classes)
    network: dict[str, Any] = {
        **{"name": name, "image_size": 32, "channels": 3, "filters": [4], "hidden": [], "dropout": 0.1, "mean": [0.5]},
        **{"std": [0.25], "interpolation": "bicubic", "metadata": ["age", "sex"] if metadata else []},
        **{"metadata_width": metadata.width if metadata else 0, **settings},
    }
    torch.manual_seed(seed)
    built = build_network(network, outputs)
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    description = {
        **{"network": network, "classes": list(classes), "positive": [classes[1]], "views": views},
        **{"metadata": metadata.describe() if metadata else None, "weights_sha256": f"{seed}"},
    }
    return placed(built, description, Path(f"run{seed}"), {"model": {"name": name}}, CPU)


def predictor_of(*parts: ScoredBy, threshold: float = 0.5) -> Predictor:
    classes = tuple(parts[0].description["classes"])
    return Predictor(
        source=Path("run"),
        networks=parts,
        device=CPU,
        about=About("Lesions", "lesions", "table", "a network", "skin", "lesion", classes[1], "others", False),
        classes=classes,
        positive=(classes[1],),
        point=fixed_point(threshold, classes[1], "others"),
        calibrator=Calibrator("platt", 1.4, 0.3),
        borderline_from=None,
        checks=tuple(None for _ in parts),
    )


def assert_same_as_graph(predictor: Predictor, path: Path) -> None:
    images = check_images(predictor, None)
    reference = predictor.scored(images.pixels, images.table)
    middle = float(np.sort(reference.scores)[len(images) // 2])
    called = images.positive is None and np.ptp(reference.scores) > 1e-6
    assert called, "the images must be told apart, or nothing is compared"
    predictor = replace(predictor, point=fixed_point(middle, predictor.classes[1], "others"))
    write_onnx(traced(predictor), path, predictor, facts_of(predictor))
    found = agreement(onnx_run(path), predictor, images, reference)
    assert found["largest_difference"] < 1e-5
    # One image lies on the threshold itself, and is called positive like in the run.
    assert found["decisions_differ"] <= found["on_threshold"]
    assert [row["n"] for row in found["batches"]] == [64, 64, 64]


def test_an_ensemble_of_networks_that_see_metadata(tmp_path: Path) -> None:
    parts = [part_of("simple_cnn", THREE, seed, metadata=True) for seed in (0, 1)]
    blind = part_of("simple_cnn", THREE, 2, views="dihedral")
    assert_same_as_graph(predictor_of(*parts, blind), tmp_path / "model.onnx")


def test_networks_that_encode_metadata_differently_are_refused() -> None:
    first, second = (part_of("simple_cnn", THREE, seed, metadata=True) for seed in (0, 1))
    described = dict(second.description["metadata"])
    described["columns"] = [{**described["columns"][0], "mean": 1.0}, *described["columns"][1:]]
    other = replace(second, description={**second.description, "metadata": described})
    with pytest.raises(ValueError, match="encode their metadata differently"):
        exportable(predictor_of(first, other))


# timm's small ones of each family have the blocks and operators of the large ones: the time goes with the number of layers.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mobilenetv2_050", {}),  # one as it is used
        ("test_vit", {"image_size": 48}),
        ("test_convnext", {"interpolation": "bilinear"}),
        ("test_resnet", {"channels": 1, "grey_input": "stem", "interpolation": "area"}),
    ],
)
def test_architectures_of_timm(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    assert_same_as_graph(predictor_of(part_of(name, ("benign", "malignant"), 0, **settings)), tmp_path / "model.onnx")


def test_what_torch_cannot_follow_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    part = part_of("simple_cnn", THREE, 0)

    def branching(images: torch.Tensor, metadata: torch.Tensor | None = None) -> torch.Tensor:
        return torch.zeros(len(images), 3) if float(images.sum()) > 0.0 else torch.ones(len(images), 3)

    monkeypatch.setattr(type(part.network), "forward", lambda self, *given: branching(*given))
    with pytest.raises(ValueError, match=r"a network cannot be exported: torch\.export does not follow it") as caught:
        traced(predictor_of(part))
    assert "format=safetensors" in str(caught.value) and len(str(caught.value)) < 600


def test_of_very_many_images_those_at_the_threshold_are_kept(tmp_path: Path) -> None:
    predictor = predictor_of(part_of("simple_cnn", THREE, 0))
    images = check_images(predictor, None)
    many = replace(images, pixels=np.zeros((5000, 1, 1, 1), dtype=np.uint8), validation=np.arange(5000) < 4000)
    scores = np.random.default_rng(0).uniform(size=5000)
    rows = few_rows(many, Scored(np.zeros((5000, 3)), scores, ()), 0.3)
    nearest = np.argsort(np.abs(scores[:4000] - 0.3))[:50]
    assert len(rows) <= 1000 and rows.max() < 4000 and set(nearest) <= set(rows.tolist())

"""What tools read in a hand-over folder: the configuration in timm's words, and the figures of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch

from evaluation.hub_card_metadata import LIBRARY
from evaluation.report_files import RunFiles
from models.blocks import BlockNetwork
from workflow.predictor import Predictor
from workflow.scoring import ScoredBy

_KEPT: Final = (
    *("schema", "title", "phantom", "task", "model", "classes", "positive", "positive_class", "negative_class"),
    *("group_name", "test_kind", "confidence", "bootstrap"),
)
_KEPT_OF_PART: Final = (
    *("n", "n_positive", "n_groups", "n_positive_groups", "prevalence", "auroc", "average_precision", "brier"),
    *("at_threshold", "groups", "by", "multiclass"),
)


def timm_arguments(part: ScoredBy) -> dict[str, Any] | None:
    """Arguments of ``timm.create_model`` that give this network's trunk, found by doing it; None where they do not.

    Then the weights and one linear layer are all of the network, and nobody needs this program for its logits.
    """
    network, settings = part.network, part.description["network"]
    plain_head = not settings.get("hidden") and not settings.get("metadata_width") and not settings.get("metadata")
    if settings["name"] == "simple_cnn" or not plain_head or getattr(network, "repeat", False):
        return None
    import timm

    from models.backbones import POOLINGS

    options: dict[str, Any] = {"num_classes": 0, "in_chans": settings["channels"]}
    if settings.get("pooling", "auto") != "auto":
        options["global_pool"] = POOLINGS[settings["pooling"]]
    try:
        trunk = timm.create_model(settings["name"], pretrained=False, **options).eval()
        trunk.load_state_dict(_trunk_weights(network))
        size = settings["image_size"]
        images = torch.linspace(-1, 1, size * size * settings["channels"]).reshape(1, settings["channels"], size, size)
        with torch.inference_mode():
            same = torch.allclose(trunk(images), _on_cpu(network, images), atol=1e-5)
    except (AssertionError, RuntimeError, TypeError, ValueError):
        return None  # of another size, or with layers that we leave out
    return {"model_name": settings["name"], **options} if same else None


def _trunk_weights(network: BlockNetwork) -> dict[str, torch.Tensor]:
    state = network.state_dict()
    return {name[6:]: tensor.cpu() for name, tensor in state.items() if name.startswith("trunk.")}


def _on_cpu(network: BlockNetwork, images: torch.Tensor) -> torch.Tensor:
    device = next(network.parameters()).device
    return network.features(images.to(device)).float().cpu()


def hub_config(predictor: Predictor, timm: Mapping[str, Any] | None) -> dict[str, Any]:
    """``config.json``: what hub tools read, in timm's words."""
    part = predictor.networks[0]
    settings, classes = part.description["network"], predictor.classes
    mean, std = (
        _each(settings.get(name, default), settings["channels"]) for name, default in (("mean", 0.0), ("std", 1.0))
    )
    size = settings["image_size"]
    return {
        "architecture": settings["name"],
        "architectures": [each.description["network"]["name"] for each in predictor.networks],
        "library_name": LIBRARY,
        "library_version": predictor.about.version,
        "problem_type": "single_label_classification",
        "num_classes": len(classes),
        "num_logits": 1 if len(classes) == 2 else len(classes),
        "num_features": int(part.network.state_dict()["head.output.weight"].shape[1]),
        "label_names": list(classes),
        "id2label": {str(number): name for number, name in enumerate(classes)},
        "label2id": {name: number for number, name in enumerate(classes)},
        "positive_labels": list(predictor.positive),
        "threshold": predictor.point.threshold,
        "timm_trunk": dict(timm) if timm else None,
        "pretrained_cfg": {
            "architecture": settings["name"],
            "input_size": [settings["channels"], size, size],
            "fixed_input_size": True,
            "interpolation": settings.get("interpolation", "area"),
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": mean,
            "std": std,
        },
        "notice": predictor.about.notice,
    }


def _each(values: Any, channels: int) -> list[float]:
    """One value a channel."""
    listed = [float(value) for value in (values if isinstance(values, list) else [values])]
    return listed * channels if len(listed) == 1 else listed


def light_results(files: RunFiles) -> dict[str, Any]:
    """metrics.json without what only figures need."""
    metrics = files.metrics
    kept: dict[str, Any] = {name: metrics[name] for name in _KEPT if name in metrics}
    kept["threshold"] = {name: value for name, value in metrics["threshold"].items() if name != "price"}
    kept["splits"] = {
        part: {name: held[name] for name in _KEPT_OF_PART if name in held} for part, held in metrics["splits"].items()
    }
    promise = metrics.get("promise") or {}
    return {**kept, "promise": promise.get("sentence"), "worries": metrics.get("worries", [])}

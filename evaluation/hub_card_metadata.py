"""The metadata of a hub card: what model hubs index, in the form that https://huggingface.co/docs/hub/model-cards describes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from evaluation.hub_card_facts import HubFacts
from evaluation.report_files import RunFiles

LIBRARY: Final = "firstread"
_SUBJECTS: Final = {"xray": ("radiology", "x-ray"), "skin": ("dermatology", "dermoscopy"), "any": ()}
_CREATIVE = re.compile(r"\bCC[ -](BY(?:-NC)?(?:-SA|-ND)?)[ -](\d\.\d)\b", re.IGNORECASE)
_ZERO = re.compile(r"\bCC0\b(?:[ -]1\.0)?", re.IGNORECASE)
# Name of a metric on the hub, ours, and where it stands in a part of metrics.json.
_METRICS: Final = (
    ("roc_auc", "AUROC", ("auroc",)),
    ("recall", "sensitivity at the locked threshold", ("at_threshold", "sensitivity")),
    ("specificity", "specificity at the locked threshold", ("at_threshold", "specificity")),
)
_CLASSWISE: Final = (
    ("balanced_accuracy", "balanced accuracy", ("multiclass", "balanced_accuracy")),
    ("roc_auc", "macro AUROC", ("multiclass", "macro_auroc")),
)


def hub_metadata(facts: HubFacts) -> dict[str, Any]:
    """The front matter of README.md as plain values; what is not known is left out."""
    found: dict[str, Any] = {"license": licence_id(facts.licence)}
    if found["license"] == "other":
        found["license_name"] = _slug(facts.licence) if facts.licence and not facts.phantom else "see-readme"
    found |= {
        "library_name": LIBRARY,
        "pipeline_tag": "image-classification",
        "tags": _tags(facts),
        # No hub can run it: the pixels are prepared by this program.
        "inference": False,
    }
    if facts.base_model:
        found["base_model"] = facts.base_model
    results = [] if facts.run is None else _results(facts.run)
    if results:
        assert facts.run is not None
        found["metrics"] = list(dict.fromkeys(row["type"] for row in results))
        found["model-index"] = [
            {
                "name": facts.title,
                "results": [
                    {
                        "task": {"type": "image-classification", "name": "Image classification"},
                        "dataset": {
                            "type": "phantom" if facts.phantom else facts.dataset or "images",
                            "name": _data_name(facts.run),
                            "split": "test",
                        },
                        "metrics": results,
                    }
                ],
            }
        ]
    return found


def licence_id(licence: str) -> str:
    """The hub's name of a licence: ``cc-by-nc-4.0`` for ``CC BY-NC 4.0``; ``other`` for what it has no name for."""
    if found := _CREATIVE.search(licence):
        return f"cc-{found[1].lower()}-{found[2]}"
    return "cc0-1.0" if _ZERO.search(licence) else "other"


def _tags(facts: HubFacts) -> list[str]:
    architectures = ["timm"] if any(name != "simple_cnn" for name in facts.models) else []
    named = [*dict.fromkeys(facts.models)]
    return [
        "medical-imaging",
        *_SUBJECTS.get(facts.subject, ()),
        "pytorch",
        *architectures,
        *named,
        *(["ensemble"] if len(facts.models) > 1 else []),
        "research-only",
        "not-a-medical-device",
        *(["phantom-data"] if facts.phantom else []),
    ]


def _results(run: RunFiles) -> list[dict[str, Any]]:
    test = run.metrics["splits"]["test"]
    rows = []
    for kind, name, path in (*_METRICS, *_CLASSWISE):
        held = _at(test, path)
        if isinstance(held, Mapping) and held.get("value") is not None:
            rows.append({"type": kind, "name": name, "value": round(float(held["value"]), 4)})
    return rows


def _at(held: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        held = held.get(name) if isinstance(held, Mapping) else None
    return held


def _data_name(run: RunFiles) -> str:
    return str((run.data_card or {}).get("title") or run.metrics["task"])


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")[:60] or "see-readme"

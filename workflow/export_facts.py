"""What an exported file says of itself: classes, threshold, preprocessing, and what is not inside."""

from __future__ import annotations

import json
from typing import Any, Final

from models.exportable import INPUT, METADATA, OUTPUTS
from models.views import VIEWS
from workflow.export_graph import LOGIT_GUARD, OPSET, guarded, metadata_names
from workflow.intact import object_in
from workflow.predictor import Predictor
from workflow.records import shown

SCHEMA: Final = 1
_RESIZED: Final = {
    "area": "area averaging as cv2.INTER_AREA (bilinear as cv2.INTER_LINEAR where a side is smaller than that)",
    "bilinear": "Pillow's bilinear with antialiasing",
    "bicubic": "Pillow's bicubic with antialiasing",
}
MISSING: Final = (
    "Not inside: decoding of files, the check whether an image is of a kind the model knows, the borderline region, and heat "
    "maps. predict.py and serve.py have them."
)


def preprocessing(predictor: Predictor) -> str:
    """What the graph does to its input, in words."""
    decoding = predictor.decoding
    size, kinds = decoding["image_size"], {str(part.description.get("views", "none")) for part in predictor.networks}
    mean, std = (
        sorted({str(part.description["network"][name]) for part in predictor.networks}) for name in ("mean", "std")
    )
    text = (
        f"inside the graph: resized to {size} x {size} without keeping the aspect ratio, {_RESIZED[decoding['interpolation']]}, "
        f"rounded to whole grey levels (images of {size} x {size} stay as they are); divided by 255; minus mean "
        f"{' or '.join(mean)}; divided by std {' or '.join(std)}"
    )
    if kinds != {"none"}:
        text += f"; probabilities averaged over {max(VIEWS[kind] for kind in kinds)} views ({', '.join(sorted(kinds))})"
    if len(predictor.networks) > 1:
        text += f"; probabilities averaged over {len(predictor.networks)} networks"
    return text


def expected_input(predictor: Predictor) -> str:
    """What the graph takes, in words."""
    colour = "1 channel, grey (a colour image: Pillow's convert('L'))"
    if predictor.decoding["channels"] == 3:
        colour = "3 channels, RGB (a grey image: the same value three times)"
    text = (
        f"uint8, (n, height, width, channels), any n, height and width, all of one size in a batch; {colour}; upright"
    )
    names = metadata_names(predictor)
    return text if not names else f"{text}; {METADATA}: float32 (n, {len(names)}), encoded as metadata_encoding says"


def threshold_note(threshold: float) -> str:
    """Why the graph compares with another number than the locked threshold, in words."""
    return (
        f"decision is 1 where the score is at least {guarded(threshold)!r} (threshold_in_graph): the locked threshold "
        f"{threshold!r} less {LOGIT_GUARD:g} in its logit. The locked threshold is itself the score of an image, which another "
        "runtime rounds up or down; so it stays positive. For the locked threshold to the last digit, compare score with it."
    )


def licence_of(predictor: Predictor) -> str:
    """Of the training data, which binds the weights too: as the model says, else as its run's data card does; may be empty."""
    card = predictor.source / "data_card.json"
    if predictor.about.licence or not card.is_file():
        return predictor.about.licence
    return str(object_in(card, ". Restore it.").get("licence") or "")


def facts_of(predictor: Predictor) -> dict[str, str]:
    """The metadata of the file: text by name."""
    about, point = predictor.about, predictor.point
    found = {
        "title": about.title,
        "notice": about.notice,
        "model": about.model,
        "task": about.task,
        "version": about.version,
        "classes": json.dumps(list(predictor.classes)),
        "positive": json.dumps(list(predictor.positive)),
        "positive_called": about.positive_called,
        "negative_called": about.negative_called,
        "threshold": repr(point.threshold),
        "threshold_in_graph": repr(guarded(point.threshold)),
        "threshold_note": threshold_note(point.threshold),
        "threshold_rule": point.rule,
        "threshold_statement": point.statement,
        "calibration": json.dumps(predictor.calibrator.to_dict()),
        "input": expected_input(predictor),
        "preprocessing": preprocessing(predictor),
        "outputs": "probabilities (n, classes); score (n,) of the positive classes together; calibrated (n,); decision (n,), "
        "1 = positive_called",
        "missing": MISSING,
        "weights_sha256": json.dumps(list(predictor.weights_sha256)),
        "licence": licence_of(predictor) or "not known; see the page of the training data",
        "phantom": "Phantom data" if about.phantom else "no",
    }
    if names := metadata_names(predictor):
        described = next(
            part.description["metadata"] for part in predictor.networks if part.description.get("metadata")
        )
        found["metadata_names"], found["metadata_encoding"] = json.dumps(names), json.dumps(described)
    return found


def described(predictor: Predictor, kind: str) -> dict[str, Any]:
    """The beginning of export.json."""
    about, point, decoding = predictor.about, predictor.point, predictor.decoding
    return {
        "schema": SCHEMA,
        "title": about.title,
        "notice": about.notice,
        "format": kind,
        **({"opset": OPSET} if kind == "onnx" else {}),
        "run": shown(predictor.source),
        "task": about.task,
        "model": about.model,
        "networks": len(predictor.networks),
        "phantom": about.phantom,
        "licence": licence_of(predictor),
        "classes": list(predictor.classes),
        "positive": list(predictor.positive),
        "positive_called": about.positive_called,
        "negative_called": about.negative_called,
        "threshold": {
            "threshold": point.threshold,
            "in_graph": guarded(point.threshold),
            "note": threshold_note(point.threshold),
            "rule": point.rule,
            "statement": point.statement,
        },
        "calibration": predictor.calibrator.to_dict(),
        "inputs": {
            INPUT: ["n", "height", "width", decoding["channels"]],
            **({METADATA: metadata_names(predictor)} if metadata_names(predictor) else {}),
        },
        "outputs": list(OUTPUTS),
        "input": expected_input(predictor),
        "preprocessing": preprocessing(predictor),
        "missing": MISSING,
        "weights_sha256": list(predictor.weights_sha256),
        "weights_bytes": sum(
            tensor.numel() * tensor.element_size()
            for part in predictor.networks
            for tensor in part.network.state_dict().values()
        ),
    }

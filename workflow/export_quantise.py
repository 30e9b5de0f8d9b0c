"""An ONNX file with weights of 8 bits, and what that costs on validation."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from datamodules.progress import Progress, silent
from evaluation.metrics import auroc
from workflow.export_checks import AT_ONCE, Run, all_outputs, differences
from workflow.export_graph import quiet
from workflow.export_images import CheckImages
from workflow.predictor import Predictor, Scored

# Dynamic: weights are stored in 8 bits, inputs of a layer are brought to 8 bits when it runs; nothing is calibrated. ONNX
# Runtime's integer convolution on CPUs takes unsigned weights with one scale a layer only. Depthwise convolutions, whose
# channels differ in scale by orders of magnitude, stay float32: with them a MobileNetV2 fell from an AUROC of 0.9996 to 0.51,
# and they hold few weights.
_LAYERS: Final = ("Conv", "MatMul", "Gemm")
WARNING: Final = (
    "The 8-bit file is another model: the threshold was locked, and its recall certified, for the run's own scores and not for "
    "these. Before it decides anything, choose its threshold anew on validation."
)


def quantised(source: Path, target: Path) -> None:
    """Write an ONNX file with 8-bit weights beside one with float32 weights.

    Raises:
        ValueError: ONNX Runtime cannot quantise it. OSError: it cannot be written.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    proto = onnx.load(source)
    grouped = [node.name for node in proto.graph.node if node.op_type == "Conv" and _number(node, "group", 1) > 1]
    _turn_weights(proto.graph)
    logging.disable(logging.WARNING)  # its advice goes to the root logger
    try:
        with quiet():
            quantize_dynamic(
                proto,
                target,
                op_types_to_quantize=list(_LAYERS),
                weight_type=QuantType.QUInt8,
                nodes_to_exclude=grouped,
            )
            _say_so(target)
    except OSError:  # a full disk says nothing about the network
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise ValueError(
            f"quantise=true: ONNX Runtime cannot quantise this network ({words}). Leave it away."
        ) from error
    finally:
        logging.disable(logging.NOTSET)


def _number(node: Any, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


def _turn_weights(graph: Any) -> None:
    """Store the weights of dense layers as they are multiplied with.

    ONNX Runtime turns them itself, but once for every layer that uses them; a network that sees several views of an image uses
    them several times, and an even number of turns is none.
    """
    from onnx import numpy_helper

    turned = {node.input[1] for node in graph.node if node.op_type == "Gemm" and _number(node, "transB", 0) == 1}
    for weights in graph.initializer:
        users = [node for node in graph.node if weights.name in node.input]
        if weights.name not in turned or not all(_number(node, "transB", 0) == 1 for node in users):
            continue
        values = numpy_helper.to_array(weights).T
        weights.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), weights.name))
        for node in users:
            kept = [attribute for attribute in node.attribute if attribute.name != "transB"]
            del node.attribute[:]
            node.attribute.extend(kept)


def _say_so(path: Path) -> None:
    """What the file says of itself promises no more than it keeps."""
    import onnx

    proto = onnx.load(path)
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    del proto.metadata_props[:]
    for key, value in {**facts, "threshold_statement": WARNING, "weights": "8 bits, dynamic quantisation"}.items():
        proto.metadata_props.add(key=key, value=value)
    onnx.save_model(proto, path)


def judged(
    run: Run, predictor: Predictor, images: CheckImages, reference: Scored, progress: Progress = silent
) -> dict[str, Any]:
    """What 8 bits change.

    Returns:
        ``largest_difference``, ``decisions_differ``, ``n``, ``warning``, and of the run's own images ``validation``: ``n``,
        ``n_positive``, and of ``auroc``, ``recall`` and ``specificity`` at the locked threshold ``run``, ``int8`` and ``change``;
        None of drawn images.

    Raises:
        ValueError: an output is not finite.
    """
    rows = np.arange(len(images))
    found = all_outputs(run, images.pixels, images.encoded, AT_ONCE, progress)
    if not all(np.isfinite(values).all() for values in found.values()):
        raise ValueError("quantise=true: with weights of 8 bits the network gives no numbers any more. Leave it away.")
    content: dict[str, Any] = {
        **differences(found, predictor, reference, rows),
        "n": len(images),
        "validation": None,
        "warning": WARNING,
    }
    if images.positive is not None and images.validation.any():
        held = images.validation
        before = reference.scores[held], reference.scores[held] >= predictor.point.threshold
        after = found["score"][held].astype(np.float64), found["decision"][held].astype(bool)
        content["validation"] = _change(images.positive[held], before, after)
    return content


def _change(
    positive: NDArray[np.bool_],
    before: tuple[NDArray[np.float64], NDArray[np.bool_]],
    after: tuple[NDArray[np.float64], NDArray[np.bool_]],
) -> dict[str, Any]:
    rows: dict[str, Any] = {"n": len(positive), "n_positive": int(positive.sum())}
    run, int8 = (_figures(positive, *found) for found in (before, after))
    for name, value in run.items():
        other = int8[name]
        change = None if value is None or other is None else other - value
        rows[name] = {"run": value, "int8": other, "change": change}
    return rows


def _figures(
    positive: NDArray[np.bool_], scores: NDArray[np.float64], called: NDArray[np.bool_]
) -> dict[str, float | None]:
    """AUROC, recall and specificity; None where a class is missing."""
    both = bool(positive.any() and not positive.all())
    return {
        "auroc": float(auroc(positive.astype(np.uint8), scores)) if both else None,
        "recall": float(called[positive].mean()) if positive.any() else None,
        "specificity": float((~called[~positive]).mean()) if not positive.all() else None,
    }
